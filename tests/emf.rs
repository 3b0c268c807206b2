//! The metrics that CloudWatch reads out of the function's log: every one of them, once an invocation, in the embedded
//! metric format, and with dimensions from fixed sets.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops where the worker did not do its part")]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use metrics_engine::event::ErrorCode;
use metrics_engine::telemetry::{METRICS, NAMESPACE};
use serde_json::{Value, json};
use support::request_log::{Request, RequestLog, Way};
use support::runtime_api::Lambda;
use support::scene::{Scene, Sent, ratio, request};

/// The lines of the log that are metrics.
fn embedded(worker: &Lambda) -> Vec<Value> {
    let output = worker.output();
    let lines = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line.get("_aws").is_some()).collect()
}

/// The log arrives through a pipe, after the answer.
async fn embedded_lines(worker: &Lambda, count: usize) -> Vec<Value> {
    for _ in 0..200 {
        if embedded(worker).len() >= count {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // What comes too much would come by now.
    tokio::time::sleep(Duration::from_millis(300)).await;
    embedded(worker)
}

/// Checks a line; its dimensions, and the names of its metrics.
fn parts(line: &Value) -> (Vec<&str>, Vec<&str>) {
    let [directive] = line["_aws"]["CloudWatchMetrics"].as_array().unwrap().as_slice() else { panic!("{line}") };
    assert_eq!(directive["Namespace"], NAMESPACE);
    assert!(line["_aws"]["Timestamp"].is_u64(), "{line}");
    let [dimensions] = directive["Dimensions"].as_array().unwrap().as_slice() else { panic!("{line}") };
    let dimensions: Vec<_> = dimensions.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    for dimension in &dimensions {
        let value = line[*dimension].as_str().unwrap();
        let is_fixed = match *dimension {
            "service" => value == "worker",
            "error_code" => ErrorCode::ALL.iter().any(|code| code.as_str() == value),
            _ => false,
        };
        assert!(is_fixed, "{dimension}={value} is from no fixed set");
    }
    let names: Vec<_> =
        directive["Metrics"].as_array().unwrap().iter().map(|metric| metric["Name"].as_str().unwrap()).collect();
    for name in &names {
        let values = line[*name].as_array().cloned().unwrap_or_else(|| vec![line[*name].clone()]);
        assert!(!values.is_empty() && values.iter().all(Value::is_number), "{name} of {line}");
    }
    (dimensions, names)
}

fn way(request: &Request) -> Way {
    if request.path.contains("/datasets/unavailable/") { Way::Unavailable } else { Way::Free }
}

#[tokio::test]
async fn every_metric_is_written_once_an_invocation() {
    let scene = Scene::new().await;
    let log = RequestLog::start(&scene.aws.endpoint, way).await;
    let mut worker = scene.worker_with(&[("AWS_ENDPOINT_URL", log.endpoint.as_str())]).await;
    let bad_window = json!({"op": "sma", "series": {"seriesCode": "A"}, "window": 0});
    let mut unavailable = ratio("run-3", "m.three");
    unavailable["catalog"]["datasets"]["rates"]["manifestPath"] = json!("datasets/unavailable/manifest.json");
    let bodies = [
        ("one", ratio("run-1", "m.one").to_string()),
        ("one", ratio("run-1", "m.one").to_string()),
        ("two", request("run-2", "m.two", "window_op", &bad_window).to_string()),
        ("three", unavailable.to_string()),
        ("four", "this is no request".to_owned()),
    ];
    let batch = scene.batch(&bodies.map(|(group, body)| Sent { group, body })).await;
    scene.deliver(&mut worker, &batch).await;

    let lines = embedded_lines(&worker, 2).await;
    let parts: Vec<_> = lines.iter().map(parts).collect();
    let dimensions: Vec<_> = parts.iter().map(|(dimensions, _)| dimensions.clone()).collect();
    assert_eq!(dimensions.len(), 2, "one line for each set of dimensions: {lines:#?}");
    assert!(dimensions.contains(&vec!["service"]) && dimensions.contains(&vec!["service", "error_code"]));
    let names: BTreeSet<_> = parts.iter().flat_map(|(_, names)| names.clone()).collect();
    // A count of nothing is not written, and of so few reads none is asked for twice.
    let expected = METRICS.into_iter().filter(|name| *name != "s3_hedged_requests_total");
    assert_eq!(names, expected.collect::<BTreeSet<_>>());
    let failed = lines.iter().find(|line| line.get("error_code").is_some()).unwrap();
    assert_eq!(
        (&failed["error_code"], &failed["metric_runs_failed_total"]),
        (&json!("EXPRESSION_EVAL_ERROR"), &json!(1))
    );
    let whole = lines.iter().find(|line| line.get("error_code").is_none()).unwrap();
    for (name, count) in [
        ("metric_runs_succeeded_total", 1),
        ("metric_runs_skipped_total", 1),
        ("records_rejected_total", 1),
        ("batch_items_failed_total", 1),
    ] {
        assert_eq!(whole[name], count, "{name}");
    }

    // The next invocation has lines of its own, and counts from zero.
    let batch = scene.batch(&[Sent { group: "five", body: ratio("run-5", "m.five").to_string() }]).await;
    scene.deliver(&mut worker, &batch).await;
    let lines = embedded_lines(&worker, 3).await;
    let last = lines.last().unwrap();
    assert_eq!((lines.len(), &last["metric_runs_succeeded_total"]), (3, &json!(1)), "{lines:#?}");
    assert!(last.get("records_rejected_total").is_none_or(|count| *count == 0), "{last}");
}
