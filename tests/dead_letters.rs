//! `metrics dlq` over a real SQS on this machine.
#![allow(clippy::unwrap_used, reason = "a message that is not as it should be stops the test")]

mod support;

use metrics_engine::worker::queue::{Queue, QueueUrls, ReceivedRecord, SqsQueue};
use support::local_aws::{LocalAws, LocalQueue};

async fn metrics(aws: &LocalAws, arguments: &[&str]) -> String {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_metrics"));
    let output = command.args(arguments).envs(aws.environment()).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

async fn letter(aws: &LocalAws, queue: &LocalQueue, id: &str) {
    let urls = QueueUrls { dead_letters: Some(queue.url.clone()), ..QueueUrls::default() };
    let record = ReceivedRecord {
        message_id: id.to_owned(),
        body: format!("body of {id}"),
        group_id: Some(format!("group of {id}").replace(' ', "-")),
        ..ReceivedRecord::default()
    };
    SqsQueue::new(aws.clients.sqs.clone(), urls).dead_letter(&record, &format!("reason of {id}")).await.unwrap();
}

/// A letter with a request, as the worker writes it.
async fn request_letter(aws: &LocalAws, queue: &LocalQueue, run_id: &str, window: u8) {
    let urls = QueueUrls { dead_letters: Some(queue.url.clone()), ..QueueUrls::default() };
    let record = ReceivedRecord {
        message_id: format!("message of {run_id}"),
        body: request(run_id, window),
        group_id: Some("fx.usd".to_owned()),
        ..ReceivedRecord::default()
    };
    SqsQueue::new(aws.clients.sqs.clone(), urls).dead_letter(&record, "the store was down").await.unwrap();
}

fn request(run_id: &str, window: u8) -> String {
    let manifest = "datasets/shop/versions/v20240103_160000_000000/manifest.json";
    serde_json::json!({
        "type": "metric_run_requested", "runId": run_id, "metricCode": "fx.usd", "expressionType": "window_op",
        "expressionJson": { "op": "sma", "series": { "series_code": "A" }, "window": window },
        "inputs": [{ "datasetId": "shop", "seriesCode": "A" }],
        "catalog": { "datasets": { "shop": { "manifestPath": manifest } } },
        "output": { "basePath": "s3://bucket/metrics/fx.usd/" },
    })
    .to_string()
}

#[tokio::test]
async fn letters_and_files_are_replayed_here_or_sent() {
    let aws = LocalAws::start().await;
    let (dead, requests) = (aws.fifo_queue("dead").await, aws.fifo_queue("requests").await);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (csv, bucket, event) = (path("shop.csv"), path("bucket"), path("request.json"));
    std::fs::write(&csv, "day,A\n2024-01-01,1\n2024-01-02,2\n2024-01-03,3\n").unwrap();
    metrics(&aws, &["dataset", "build", "--csv", &csv, "--into", &bucket]).await;
    request_letter(&aws, &dead, "run-1", 2).await;
    request_letter(&aws, &dead, "run-2", 1).await;

    let dry = metrics(&aws, &["replay", "run-1", "--queue", &dead.url, "--data", &bucket, "--dry-run"]).await;
    assert!(dry.contains("run run-1\n    the store was down\n1 record would be run over"), "{dry}");
    assert!(!folder.path().join("bucket/metrics").exists(), "nothing is run");
    let here = metrics(&aws, &["replay", "run-1", "--queue", &dead.url, "--data", &bucket]).await;
    assert!(here.contains("run run-1") && here.contains("SUCCESS  3 rows") && !here.contains("run-2"), "{here}");
    let all = metrics(&aws, &["replay", "--queue", &dead.url, "--data", &bucket, "--json"]).await;
    assert_eq!(all.matches(r#""status":"SUCCESS""#).count(), 2, "{all}");
    assert_eq!(all.matches("metric_run_started").count(), 1, "run-1 is done already: {all}");
    let listed = metrics(&aws, &["dlq", "list", "--queue", &dead.url]).await;
    assert!(listed.ends_with("2 dead letters\n"), "what is run here stays there: {listed}");

    let back = metrics(&aws, &["replay", "run-2", "--queue", &dead.url, "--to", &requests.url]).await;
    assert!(back.starts_with("1 record sent to "), "{back}");
    std::fs::write(&event, request("run-3", 1)).unwrap();
    metrics(&aws, &["replay", &event, "--to", &requests.url]).await;
    metrics(&aws, &["replay", &event, "--to", &requests.url]).await;
    let sent = aws.drain(&requests).await;
    let run_ids: Vec<String> = sent
        .iter()
        .map(|message| serde_json::from_str::<serde_json::Value>(message.body().unwrap()).unwrap()["runId"].to_string())
        .collect();
    assert_eq!(run_ids, ["\"run-2\"", "\"run-3\"", "\"run-3\""], "each replay is a message of its own");
    let group = &sent[1].attributes().unwrap()[&aws_sdk_sqs::types::MessageSystemAttributeName::MessageGroupId];
    assert_eq!(group, "fx.usd", "a file has the group that the control plane would give it");
    let left = metrics(&aws, &["dlq", "list", "--queue", &dead.url]).await;
    assert!(left.contains("run run-1") && left.ends_with("1 dead letter\n"), "{left}");

    let arguments = ["replay", "run-9", "--queue", &dead.url, "--data", &bucket];
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_metrics"));
    let output = command.args(arguments).envs(aws.environment()).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code() == Some(1) && said.contains("no letter with the message id or run id run-9"),
        "{said}"
    );
}

#[tokio::test]
async fn letters_are_listed_shown_and_sent_back() {
    let aws = LocalAws::start().await;
    let (dead, requests) = (aws.fifo_queue("dead.fifo").await, aws.fifo_queue("requests.fifo").await);
    letter(&aws, &dead, "one").await;
    letter(&aws, &dead, "two").await;
    let listed = metrics(&aws, &["dlq", "list", "--queue", &dead.url]).await;
    assert!(listed.contains("    reason of one\n") && listed.ends_with("2 dead letters\n"), "{listed}");
    let json = metrics(&aws, &["dlq", "list", "--queue", &dead.url, "--json"]).await;
    let letters: serde_json::Value = serde_json::from_str(&json).unwrap();
    let letters = letters.as_array().unwrap();
    let two = letters.iter().find(|letter| letter["body"] == "body of two").unwrap();
    let id = two["messageId"].as_str().unwrap();
    assert!(metrics(&aws, &["dlq", "show", id, "--queue", &dead.url]).await.contains("reason of two"));

    let redrive = ["dlq", "redrive", id, "--queue", &dead.url, "--to", &requests.url];
    let dry = metrics(&aws, &[&redrive[..], &["--dry-run"]].concat()).await;
    assert!(dry.contains("1 dead letter would be sent"), "{dry}");
    assert!(aws.receive(&requests, 0).await.is_empty(), "nothing is sent");
    metrics(&aws, &redrive).await;
    let back = aws.drain(&requests).await;
    assert_eq!(back.iter().map(|message| message.body().unwrap()).collect::<Vec<_>>(), ["body of two"]);
    assert!(back[0].message_attributes().is_none_or(|attributes| attributes.is_empty()), "the reason stays behind");
    let left = metrics(&aws, &["dlq", "list", "--queue", &dead.url]).await;
    assert!(left.contains("reason of one") && left.ends_with("1 dead letter\n"), "{left}");
}
