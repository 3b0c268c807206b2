//! Values come out of the bucket, as the worker leaves them there.

use metrics_engine::keys::Key;
use metrics_engine::storage::{ObjectStorage, PutCondition};
use serde_json::{Value, json};

use crate::caller::Caller;

async fn put(caller: &Caller, key: &str, body: String) {
    let key = Key::parse(key).unwrap();
    caller.storage.put(&key, body.into(), "text/plain", PutCondition::Always).await.unwrap();
}

fn manifest(code: &str, files: &[&str]) -> Value {
    json!({
        "run_id": "r", "metric_code": code, "version_ts": "2026-01-04T00-00-00", "created_at": "2026-01-04T00:00:00Z",
        "row_count": 3, "inputs": [],
        "outputs": { "data_prefix": format!("metrics/{code}/2026-01-04T00-00-00/data"), "files": files, "sha256": {} },
    })
}

async fn put_metric(caller: &Caller, code: &str) {
    let rows = [("2026-01-01T00:00:00", "1.5"), ("2026-01-02T00:00:00", "2.5"), ("2026-01-03T06:30:00.25", "null")];
    let lines = rows.map(|(time, value)| format!("{{\"obs_time\":\"{time}\",\"value\":{value}}}\n")).concat();
    put(caller, &format!("metrics/{code}/2026-01-04T00-00-00/data/metrics.jsonl"), lines).await;
    let manifest = manifest(code, &["metrics.jsonl", "metrics.parquet"]);
    put(caller, &format!("metrics/{code}/current/manifest.json"), manifest.to_string()).await;
}

#[tokio::test]
async fn the_current_version_is_served_in_the_shape_that_dashboards_read() {
    let caller = Caller::new().await;
    put_metric(&caller, "ratio.a_b").await;
    let values = caller.get("/api/v1/metrics/ratio.a_b").await.json();
    let expected = json!({
        "metric_id": "ratio.a_b", "version_ts": "2026-01-04T00-00-00", "count": 3, "is_truncated": false,
        "points": [
            { "ts": "2026-01-01T00:00:00Z", "value": 1.5 }, { "ts": "2026-01-02T00:00:00Z", "value": 2.5 },
            { "ts": "2026-01-03T06:30:00.25Z", "value": null },
        ],
    });
    assert_eq!(values, expected);
    for (query, times) in [
        ("from=2026-01-02", vec!["2026-01-02", "2026-01-03"]),
        ("to=2026-01-02", vec!["2026-01-01", "2026-01-02"]),
        ("from=2026-01-01T00:00:01Z&to=2026-01-03T00:00:00", vec!["2026-01-02"]),
        ("limit=1", vec!["2026-01-03"]),
        ("to=2026-01-02&limit=1", vec!["2026-01-02"]),
        ("from=2027-01-01", vec![]),
    ] {
        let values = caller.get(&format!("/api/v1/metrics/ratio.a_b?{query}")).await.json();
        let points = values["points"].as_array().unwrap();
        let found: Vec<&str> = points.iter().map(|point| &point["ts"].as_str().unwrap()[..10]).collect();
        assert_eq!(found, times, "{query}");
        assert_eq!(values["count"], times.len(), "{query}");
    }
}

#[tokio::test]
async fn a_summary_has_the_newest_values_and_says_what_is_missing() {
    let caller = Caller::new().await;
    put_metric(&caller, "a").await;
    put_metric(&caller, "b").await;
    let summary = caller.get("/api/v1/metrics/summary?ids=b,none,a").await.json();
    let item = |code| json!({ "metric_id": code, "ts": "2026-01-02T00:00:00Z", "value": 2.5 });
    assert_eq!(summary, json!({ "items": [item("b"), item("a")], "missing": ["none"] }));
}

#[tokio::test]
async fn a_manifest_leads_nowhere_else() {
    let caller = Caller::new().await;
    put_metric(&caller, "a").await;
    let mut manifest = manifest("b", &["metrics.jsonl"]);
    for data_prefix in ["metrics/a/2026-01-04T00-00-00/data", "datasets/rates", "metrics/b/../a"] {
        manifest["outputs"]["data_prefix"] = json!(data_prefix);
        put(&caller, "metrics/b/current/manifest.json", manifest.to_string()).await;
        let answer = caller.get("/api/v1/metrics/b").await;
        assert_eq!((answer.status, answer.problem().as_str()), (500, "internal"), "{data_prefix}");
    }
}
