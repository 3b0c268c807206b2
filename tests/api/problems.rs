//! Every refusal is a problem document.

use axum::body::Body;
use axum::http::Request;
use metrics_engine::control::api::operations::operations;
use serde_json::{Value, json};

use crate::caller::{Answer, Caller, KEY, ratio, with_key};

fn check(answer: &Answer, status: u16, problem: &str) {
    assert_eq!((answer.status, answer.problem().as_str()), (status, problem), "{}", answer.text);
}

#[tokio::test]
async fn paths_and_methods_that_are_not_served_are_problems() {
    let caller = Caller::new().await;
    check(&caller.get("/nowhere").await, 404, "no-such-path");
    check(&caller.get("/metrics/").await, 404, "no-such-path");
    let answer = caller.send(Request::delete("/metrics/m").body(Body::empty()).unwrap()).await;
    check(&answer, 405, "method-not-allowed");
    let mut allowed: Vec<&str> = answer.header("allow").split(',').collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["GET", "HEAD", "PUT"]);
}

#[tokio::test]
async fn bodies_that_cannot_be_read_are_problems() {
    let caller = Caller::new().await;
    let put = async |body: &str| {
        caller.send(with_key(Request::put("/metrics/m")).body(Body::from(body.to_owned())).unwrap()).await
    };
    check(&put("{").await, 400, "malformed-body");
    check(&put("").await, 400, "malformed-body");
    check(&put("[]").await, 422, "invalid-body");
    check(&put("{}").await, 422, "invalid-body");
    check(&put(&"[".repeat(10_000)).await, 400, "malformed-body");
    check(&put(&" ".repeat(65 << 10)).await, 413, "body-too-large");
    let text = Request::put("/metrics/m").header("x-api-key", KEY).header("content-type", "text/plain");
    check(&caller.send(text.body(Body::from("{}")).unwrap()).await, 415, "not-json");
}

#[tokio::test]
async fn what_the_worker_would_refuse_is_refused() {
    let caller = Caller::new().await;
    caller.register(&[]).await;
    let changed = |change: fn(&mut Value)| {
        let mut spec = ratio();
        change(&mut spec);
        spec
    };
    let cases = [
        (changed(|spec| spec["expression_json"]["op"] = json!("power")), "invalid-expression"),
        (changed(|spec| spec["expression_json"]["left"] = json!({ "series_code": "a/b" })), "invalid-expression"),
        (changed(|spec| spec["expression_type"] = json!("window_op")), "invalid-expression"),
        (changed(|spec| spec["expression_type"] = json!("formula")), "invalid-expression"),
        (changed(|spec| spec["expression_json"]["left"] = json!({ "series_code": "C" })), "unknown-series"),
        (changed(|spec| spec["required_days"] = json!(0)), "invalid-body"),
        (changed(|spec| spec["required_days"] = json!("7")), "invalid-body"),
        (changed(|spec| spec["unit"] = json!("a\0b")), "invalid-body"),
    ];
    for (spec, problem) in cases {
        check(&caller.put("/metrics/m", &spec).await, 422, problem);
    }
    check(&caller.get("/metrics/m").await, 404, "unknown-metric");
    check(&caller.put("/datasets/other", &json!({ "series": ["A"] })).await, 409, "series-of-other-dataset");
    check(&caller.put("/datasets/other", &json!({ "series": ["C"] })).await, 422, "unknown-series");
}

/// A path that is served beside those of all metrics hides the metric of that name.
#[tokio::test]
async fn no_metric_has_a_code_that_another_path_hides() {
    let caller = Caller::new().await;
    caller.register(&[]).await;
    let paths: Vec<&str> = operations().iter().map(|operation| operation.path).collect();
    let mut hidden = Vec::new();
    for folder in paths.iter().filter_map(|path| path.strip_suffix("{code}")) {
        let beside = paths.iter().filter_map(|path| path.strip_prefix(folder));
        hidden.extend(beside.filter(|rest| !rest.contains(['/', '{'])));
    }
    assert_eq!(hidden, ["summary"]);
    for code in hidden {
        check(&caller.put(&format!("/metrics/{code}"), &ratio()).await, 422, "reserved-code");
    }
    assert_eq!(caller.put("/metrics/summary.of.all", &ratio()).await.status, 201);
}

#[tokio::test]
async fn parameters_that_cannot_be_are_problems() {
    let caller = Caller::new().await;
    let paths = [
        "/metrics/a%2Fb",
        "/metrics/%FF",
        "/metrics/a%00b",
        "/metrics?limit=0",
        "/metrics?limit=201",
        "/metrics?limit=ten",
        "/metrics?cursor=zz",
        "/runs?status=lost",
        "/runs?metric=a%20b",
        "/runs?cursor=5b5d",
        "/runs?limit=1&limit=2",
        "/api/v1/metrics/m?from=yesterday",
        "/api/v1/metrics/m?limit=50001",
        "/api/v1/metrics/summary",
        "/api/v1/metrics/summary?ids=",
        "/api/v1/metrics/summary?ids=a%2Fb",
    ];
    for path in paths {
        check(&caller.get(path).await, 400, "invalid-parameter");
    }
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_of_its_own() {
    let caller = Caller::new().await;
    check(&caller.get("/metrics/m").await, 404, "unknown-metric");
    check(&caller.get("/metrics/m/runs").await, 404, "unknown-metric");
    check(&caller.get("/runs/r").await, 404, "unknown-run");
    check(&caller.get("/datasets/d").await, 404, "unknown-dataset");
    check(&caller.get("/api/v1/metrics/m").await, 404, "unknown-version");
    check(&caller.post("/metrics/m/runs").await, 404, "unknown-metric");
    check(&caller.post("/runs/r/cancel").await, 404, "unknown-run");
}

#[tokio::test]
async fn a_database_that_is_away_is_no_fault_of_the_caller() {
    let caller = Caller::new().await;
    caller.database.pool.close().await;
    for path in ["/health", "/metrics", "/runs/r"] {
        let answer = caller.get(path).await;
        check(&answer, 503, "unavailable");
        assert_eq!(answer.header("retry-after"), "1");
    }
}
