//! The built control plane as Lambda runs it: batches and the clock in, exact answers out.

use std::time::Duration;

use serde_json::{Value, json};

use crate::local_aws::{Delivery, LocalAws};
use crate::runtime_api::{Answer, Lambda};
use crate::world::{BUCKET, World, update_body};

const LIMIT: Duration = Duration::from_secs(30);

fn record(number: usize, group: &str, body: &str) -> Value {
    json!({ "messageId": format!("{number}"), "receiptHandle": format!("handle {number}"), "body": body,
        "attributes": { "MessageGroupId": group, "ApproximateReceiveCount": "1" }, "messageAttributes": {},
        "eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:updates.fifo" })
}

#[tokio::test]
async fn a_batch_is_answered_with_what_goes_back_and_what_it_released_is_published_at_once() {
    let aws = LocalAws::start().await;
    let world = World::with_datasets(&["a"]).await;
    world.metric("m", &["A"]).await;
    let topic = aws.fifo_topic("runs").await;
    let requests = aws.fifo_queue("requests").await;
    aws.subscribe(&topic, &requests, Delivery::Raw).await;
    let mut environment = world.database.environment();
    environment.extend(aws.environment());
    environment.extend([("SNS_TOPIC_ARN", topic), ("S3_BUCKET", BUCKET.to_owned())]);
    let environment: Vec<(String, String)> =
        environment.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let mut lambda = Lambda::start(env!("CARGO_BIN_EXE_control"), &environment).await;

    let good = update_body("a", "v1").to_string();
    let batch = json!({ "Records": [record(0, "a", &good), record(1, "b", "garbage"), record(2, "a", &good)] });
    let answer = lambda.invoke(&batch, LIMIT).await.response();
    assert_eq!(answer, json!({ "batchItemFailures": [{ "itemIdentifier": "1" }] }), "there is no dead-letter queue");
    assert_eq!(aws.collect(&requests, 1, LIMIT).await.len(), 1);
    assert_eq!(world.standing().await, ["m dispatched a v1"]);

    world.hours_pass(2).await;
    let tick = json!({ "source": "aws.events", "detail-type": "Scheduled Event", "detail": {} });
    let answer = lambda.invoke(&tick, LIMIT).await.response();
    assert_eq!(answer, json!({ "published": 0, "silent": 1, "expired": 0 }));
    assert_eq!(world.standing().await, ["m timed_out a v1"]);

    let unknown = lambda.invoke(&json!({ "hello": "world" }), LIMIT).await;
    assert!(matches!(unknown, Answer::Error(_)), "{unknown:?}");
    lambda.kill().await;
}
