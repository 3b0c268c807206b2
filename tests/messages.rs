//! The worker's messages over a real SNS and SQS on this machine.

mod support;

use std::time::Duration;

use support::local_aws::{Delivery, LocalAws};

#[tokio::test]
async fn messages_reach_a_queue_raw_and_wrapped() {
    let aws = LocalAws::start().await;
    aws.bucket("bucket").await;
    aws.put("bucket", "key", "value").await;
    assert_eq!(aws.get("bucket", "key").await.unwrap(), "value");
    assert_eq!(aws.get("bucket", "another").await, None);
    let topic = aws.fifo_topic("topic").await;
    let (raw, wrapped) = (aws.fifo_queue("raw").await, aws.fifo_queue("wrapped").await);
    aws.subscribe(&topic, &raw, Delivery::Raw).await;
    aws.subscribe(&topic, &wrapped, Delivery::Wrapped).await;
    let publish = aws.clients.sns.publish().topic_arn(&topic).message("text");
    publish.message_group_id("group").message_deduplication_id("dedup").send().await.unwrap();
    let body = |message: &aws_sdk_sqs::types::Message| message.body().unwrap().to_owned();
    let bodies: Vec<_> = aws.collect(&raw, 1, Duration::from_secs(5)).await.iter().map(body).collect();
    assert_eq!(bodies, ["text"]);
    let bodies: Vec<_> = aws.collect(&wrapped, 1, Duration::from_secs(5)).await.iter().map(body).collect();
    let envelope: serde_json::Value = serde_json::from_str(&bodies[0]).unwrap();
    assert_eq!((&envelope["Type"], &envelope["Message"]), (&"Notification".into(), &"text".into()));
}
