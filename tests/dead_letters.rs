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
    assert!(dry.contains("1 letters would be sent"), "{dry}");
    assert!(aws.receive(&requests, 0).await.is_empty(), "nothing is sent");
    metrics(&aws, &redrive).await;
    let back = aws.drain(&requests).await;
    assert_eq!(back.iter().map(|message| message.body().unwrap()).collect::<Vec<_>>(), ["body of two"]);
    assert!(back[0].message_attributes().is_none_or(|attributes| attributes.is_empty()), "the reason stays behind");
    let left = metrics(&aws, &["dlq", "list", "--queue", &dead.url]).await;
    assert!(left.contains("reason of one") && left.ends_with("1 dead letters\n"), "{left}");
}
