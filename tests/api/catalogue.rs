//! What is registered and read back, and the way of a run through the API.

use metrics_engine::control::api::openapi;
use serde_json::json;

use crate::caller::{Caller, ratio};

#[tokio::test]
async fn what_is_put_is_there_and_put_twice_is_put_once() {
    let caller = Caller::new().await;
    caller.register(&["ratio.a_b"]).await;
    let again = caller.put("/metrics/ratio.a_b", &ratio()).await;
    assert_eq!(again.status, 200);
    let metric = caller.get("/metrics/ratio.a_b").await.json();
    assert_eq!((&metric["series"], &metric["datasets"]), (&json!(["A", "B"]), &json!(["rates"])));
    assert_eq!((&metric["required_days"], &metric["latest_version"]), (&json!(7), &json!(null)));
    assert_eq!(metric["code"], "ratio.a_b");
    assert_eq!(caller.get("/metrics").await.json()["items"].as_array().unwrap().len(), 1);

    let dataset = caller.get("/datasets/rates").await.json();
    assert_eq!((&dataset["name"], &dataset["series"]), (&json!("Rates"), &json!(["A", "B"])));
    assert_eq!(caller.put("/datasets/rates", &json!({ "series": ["B"] })).await.json()["name"], json!(null));
    assert_eq!(caller.put("/series/B", &json!({ "unit": "USD" })).await.json()["dataset_id"], "rates");
}

#[tokio::test]
async fn a_run_is_asked_for_watched_and_canceled() {
    let caller = Caller::new().await;
    caller.register(&["m"]).await;
    let answer = caller.post("/metrics/m/runs").await;
    assert_eq!((answer.status, answer.problem().as_str()), (409, "no-update"));
    caller.update().await;

    let answer = caller.post("/metrics/m/runs").await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let run_id = answer.json()["run_id"].as_str().unwrap().to_owned();
    assert_eq!(answer.header("location"), format!("/runs/{run_id}"));
    let run = caller.get(&format!("/runs/{run_id}")).await.json();
    assert_eq!((&run["status"], &run["metric_code"]), (&json!("queued"), &json!("m")));
    assert_eq!(run["updates"][0]["version_manifest_path"], "datasets/rates/versions/v1/manifest.json");
    assert_eq!(caller.get("/metrics/m").await.json()["latest_run"]["run_id"], run_id);

    for _ in 0..2 {
        let canceled = caller.post(&format!("/runs/{run_id}/cancel")).await;
        assert_eq!((canceled.status, &canceled.json()["status"]), (200, &json!("canceled")));
    }
    let end = "UPDATE metric_runs SET status = 'succeeded' WHERE id = $1";
    let again = caller.post("/metrics/m/runs").await.json()["run_id"].as_str().unwrap().to_owned();
    for status in ["dispatched", "succeeded"] {
        let sql = end.replace("succeeded", status);
        sqlx::query(sqlx::AssertSqlSafe(sql)).bind(&again).execute(&caller.database.pool).await.unwrap();
    }
    let answer = caller.post(&format!("/runs/{again}/cancel")).await;
    assert_eq!((answer.status, answer.problem().as_str()), (409, "run-is-over"));
    assert_eq!(caller.get("/metrics/m").await.json()["latest_version"]["run_id"], again);
}

#[tokio::test]
async fn the_document_and_the_pages_are_served() {
    let caller = Caller::new().await;
    assert_eq!(caller.get("/openapi.json").await.json(), openapi::document());
    for path in ["/", "/docs", "/assets/page.css", "/assets/status.js", "/assets/docs.js", "/assets/icon.svg"] {
        let answer = caller.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.header("content-security-policy").starts_with("default-src 'none'"), "{path}");
        let foreign: Vec<&str> = answer.text.split("http").skip(1).filter(|rest| rest.starts_with("s://")).collect();
        assert!(foreign.is_empty(), "{path} names another host: {foreign:?}");
    }
    let health = caller.get("/health").await;
    assert_eq!((health.status, &health.json()["status"]), (200, &json!("ok")));
    assert_eq!(health.header("x-content-type-options"), "nosniff");
}
