//! The worker's messages over a real SNS and SQS on this machine: events, visibility, dead letters.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a message that is not as it should be stops the test")]

mod support;

use std::time::Duration;

use aws_sdk_sqs::primitives::Blob;
use aws_sdk_sqs::types::{Message, MessageAttributeValue, MessageSystemAttributeName, QueueAttributeName};
use metrics_engine::event::{ErrorCode, Event, Outcome, SCHEMA};
use metrics_engine::ids::{MetricCode, RunId};
use metrics_engine::keys::VersionTs;
use metrics_engine::worker::publish::{Attempt, Publisher, SnsPublisher, TopicArn, Topics};
use metrics_engine::worker::queue::{AttributeValue, MessageAttribute, Queue, QueueUrls, ReceivedRecord, SqsQueue};
use serde_json::Value;
use support::local_aws::{Delivery, LocalAws, LocalQueue, clients};

/// So long a message may be on its way on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn messages_reach_their_queues() {
    let aws = LocalAws::start().await;
    events_arrive_in_order_and_once(&aws).await;
    events_arrive_wrapped(&aws).await;
    a_standard_topic_gets_neither_group_nor_id(&aws).await;
    a_failed_publication_says_whether_to_try_again(&aws).await;
    a_group_returns_together(&aws).await;
    a_visibility_change_names_what_it_could_not_change(&aws).await;
    a_dead_letter_keeps_what_it_can(&aws).await;
    a_dead_letter_of_full_size_fits(&aws).await;
    a_failed_dead_letter_says_whether_to_try_again(&aws).await;
}

fn run_id() -> RunId {
    RunId::parse("550e8400-e29b-41d4-a716-446655440000").unwrap()
}

fn metric_code() -> MetricCode {
    MetricCode::parse("ratio.a_to_b").unwrap()
}

fn started() -> Event {
    let started_at = "2025-01-15T10:30:10Z".to_owned();
    Event::MetricRunStarted { schema: SCHEMA, run_id: run_id(), metric_code: metric_code(), started_at }
}

fn heartbeat(progress: f64) -> Event {
    let ts = "2025-01-15T10:32:00Z".to_owned();
    Event::MetricRunHeartbeat { schema: SCHEMA, run_id: run_id(), metric_code: metric_code(), progress, ts }
}

fn success() -> Event {
    let outcome = Outcome::Success {
        version_ts: VersionTs::parse("2025-01-15T10-30-00").unwrap(),
        output_manifest: "metrics/m/2025-01-15T10-30-00/manifest.json".to_owned(),
        output_manifest_uri: "s3://b/metrics/m/2025-01-15T10-30-00/manifest.json".to_owned(),
        row_count: 1_000,
    };
    Event::MetricRunCompleted { schema: SCHEMA, run_id: run_id(), metric_code: metric_code(), outcome }
}

fn failure() -> Event {
    Event::failure(run_id(), metric_code(), ErrorCode::InputReadError, "no series X in dataset Y".to_owned())
}

fn attempt(message_id: &str, receive_count: u32) -> Attempt {
    Attempt { message_id: message_id.to_owned(), receive_count }
}

fn publisher(aws: &LocalAws, topic: &str) -> SnsPublisher {
    let topic = TopicArn::parse(topic).unwrap();
    let topics = Topics { started: topic.clone(), heartbeat: topic.clone(), completed: topic };
    SnsPublisher::new(aws.clients.sns.clone(), topics)
}

fn body(message: &Message) -> Value {
    serde_json::from_str(message.body().unwrap()).unwrap()
}

fn text<'a>(message: &'a Message, attribute: &str) -> &'a str {
    let attributes = message.message_attributes().unwrap();
    attributes.get(attribute).unwrap_or_else(|| panic!("no attribute {attribute}")).string_value().unwrap()
}

fn group(message: &Message) -> Option<&str> {
    message.attributes()?.get(&MessageSystemAttributeName::MessageGroupId).map(String::as_str)
}

async fn events_arrive_in_order_and_once(aws: &LocalAws) {
    let topic = aws.fifo_topic("events").await;
    let queue = aws.fifo_queue("events").await;
    aws.subscribe(&topic, &queue, Delivery::Raw).await;
    let publisher = publisher(aws, &topic);
    let (first, second, redriven) = (attempt("m1", 1), attempt("m1", 2), attempt("m2", 1));
    for (event, attempt, sequence) in [
        (started(), &first, 0),
        (started(), &first, 0),
        (heartbeat(0.1), &first, 0),
        (heartbeat(0.2), &first, 1),
        (heartbeat(0.2), &first, 1),
        (failure(), &first, 0),
        (started(), &second, 0),
        (failure(), &second, 0),
        (started(), &redriven, 0),
        (failure(), &redriven, 0),
        (success(), &redriven, 0),
        (success(), &second, 0),
    ] {
        publisher.publish(&event, attempt, sequence).await.unwrap();
    }
    let mut messages = aws.collect(&queue, 8, PATIENCE).await;
    messages.extend(aws.receive(&queue, 1).await);
    let expected = [started(), heartbeat(0.1), heartbeat(0.2), failure(), started(), started(), failure(), success()];
    let bodies: Vec<Value> = messages.iter().map(body).collect();
    assert_eq!(bodies, expected.map(|event| serde_json::to_value(event).unwrap()));
    for message in &messages {
        assert_eq!(text(message, "type"), body(message)["type"]);
        assert_eq!(text(message, "metricCode"), "ratio.a_to_b");
        assert_eq!(message.message_attributes().unwrap().len(), 2);
        assert_eq!(group(message), Some("550e8400-e29b-41d4-a716-446655440000"));
    }
}

async fn events_arrive_wrapped(aws: &LocalAws) {
    let topic = aws.fifo_topic("wrapped").await;
    let queue = aws.fifo_queue("wrapped").await;
    aws.subscribe(&topic, &queue, Delivery::Wrapped).await;
    publisher(aws, &topic).publish(&success(), &attempt("m", 1), 0).await.unwrap();
    let messages = aws.collect(&queue, 1, PATIENCE).await;
    let envelope = body(&messages[0]);
    assert_eq!(envelope["Type"], "Notification");
    assert_eq!(envelope["MessageAttributes"]["type"]["Value"], "metric_run_completed");
    let event: Value = serde_json::from_str(envelope["Message"].as_str().unwrap()).unwrap();
    assert_eq!(event, serde_json::to_value(success()).unwrap());
}

async fn a_standard_topic_gets_neither_group_nor_id(aws: &LocalAws) {
    let topic = aws.standard_topic("standard").await;
    let queue = aws.standard_queue("standard").await;
    aws.subscribe(&topic, &queue, Delivery::Raw).await;
    let publisher = publisher(aws, &topic);
    for _ in 0..2 {
        publisher.publish(&success(), &attempt("m", 1), 0).await.unwrap();
    }
    let messages = aws.collect(&queue, 2, PATIENCE).await;
    assert_eq!(messages.len(), 2);
    assert_eq!(group(&messages[0]), None);
}

async fn a_failed_publication_says_whether_to_try_again(aws: &LocalAws) {
    let absent = "arn:aws:sns:us-east-1:000000000000:absent.fifo";
    let error = publisher(aws, absent).publish(&started(), &attempt("m", 1), 0).await.unwrap_err();
    assert!(!error.is_transient() && error.to_string().contains("absent.fifo refused metric_run_started"), "{error}");
    let topic = TopicArn::parse(absent).unwrap();
    let topics = Topics { started: topic.clone(), heartbeat: topic.clone(), completed: topic };
    let nowhere = SnsPublisher::new(clients("http://127.0.0.1:9").await.sns, topics);
    let error = nowhere.publish(&started(), &attempt("m", 1), 0).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
}

fn queue_of(aws: &LocalAws, dead_letters: Option<&LocalQueue>) -> SqsQueue {
    let urls = QueueUrls {
        requests: None,
        dead_letters: dead_letters.map(|queue| queue.url.clone()),
        endpoint: Some(aws.endpoint.clone()),
    };
    SqsQueue::new(aws.clients.sqs.clone(), urls)
}

fn records(messages: Vec<Message>, queue: &LocalQueue) -> Vec<ReceivedRecord> {
    messages.into_iter().map(|message| ReceivedRecord::from_received(message, Some(&queue.arn)).unwrap()).collect()
}

async fn a_group_returns_together(aws: &LocalAws) {
    let requests = aws.fifo_queue_with("requests", &[(QueueAttributeName::VisibilityTimeout, "900")]).await;
    let mut received = Vec::new();
    for number in 0..12 {
        aws.send(&requests, "g", &number.to_string(), &format!("body {number}")).await;
    }
    // A group's further messages are handed out only together with its first: take them as one batch and a rest.
    received.extend(records(aws.receive(&requests, 1).await, &requests));
    assert_eq!(received.len(), 10);
    assert!(aws.receive(&requests, 0).await.is_empty(), "a group in flight is blocked");
    let queue = queue_of(aws, None);
    queue.change_visibility(&received, Duration::ZERO).await.unwrap();
    let again = records(aws.receive(&requests, 1).await, &requests);
    let bodies: Vec<_> = again.iter().map(|record| record.body.as_str()).collect();
    let expected: Vec<_> = (0..10).map(|number| format!("body {number}")).collect();
    assert_eq!(bodies, expected, "all of the group came back, in order");
    assert!(again.iter().all(|record| record.receive_count == 2 && record.group_id.as_deref() == Some("g")));
    assert!(!queue.has_dead_letter_queue());
    assert!(queue.dead_letter(&again[0], "why").await.is_err());
}

/// More records than one batch takes, one of them with a handle that is none.
async fn a_visibility_change_names_what_it_could_not_change(aws: &LocalAws) {
    let requests = aws.fifo_queue_with("many", &[(QueueAttributeName::VisibilityTimeout, "900")]).await;
    for number in 0..12 {
        aws.send(&requests, &format!("g{number}"), &number.to_string(), "body").await;
    }
    let mut received = Vec::new();
    while received.len() < 12 {
        received.extend(records(aws.receive(&requests, 1).await, &requests));
    }
    let broken = ReceivedRecord { receipt_handle: "none".into(), message_id: "broken".into(), ..received[3].clone() };
    received.insert(5, broken);
    let error = queue_of(aws, None).change_visibility(&received, Duration::ZERO).await.unwrap_err();
    assert!(!error.is_transient() && error.to_string().contains("refused for 1 (broken)"), "{error}");
    let mut again = 0;
    while again < 12 {
        let batch = aws.receive(&requests, 1).await;
        assert!(!batch.is_empty(), "{again} of 12 came back");
        again += batch.len();
    }
    let homeless = ReceivedRecord { message_id: "m".into(), ..ReceivedRecord::default() };
    assert!(queue_of(aws, None).change_visibility(&[homeless], Duration::ZERO).await.is_err());
}

/// A record with the ten attributes that SQS allows, so that with reason and origin there are too many.
async fn a_dead_letter_keeps_what_it_can(aws: &LocalAws) {
    let source = aws.fifo_queue("source").await;
    let dead = aws.fifo_queue("dead").await;
    let attribute =
        |kind: &str, value: &str| MessageAttributeValue::builder().data_type(kind).string_value(value).build().unwrap();
    let mut request = aws.clients.sqs.send_message().queue_url(&source.url).message_body("not json");
    for number in 0..7 {
        request = request.message_attributes(format!("own{number}"), attribute("Number.int", &number.to_string()));
    }
    let binary = MessageAttributeValue::builder().data_type("Binary").binary_value(Blob::new([0, 255])).build();
    request = request.message_attributes("bin", binary.unwrap());
    request = request.message_attributes("type", attribute("String", "metric_run_requested"));
    request = request.message_attributes("metricCode", attribute("String", "m"));
    request.message_group_id("group").message_deduplication_id("dedup").send().await.unwrap();
    let record = records(aws.receive(&source, 1).await, &source).remove(0);
    assert_eq!(record.message_attributes.len(), 10);

    let queue = queue_of(aws, Some(&dead));
    assert!(queue.has_dead_letter_queue());
    queue.dead_letter(&record, "no runId\u{0}\nin \"not json\"").await.unwrap();
    queue.dead_letter(&record, "sent once more").await.unwrap();
    let messages = aws.collect(&dead, 1, PATIENCE).await;
    assert_eq!(messages.len(), 1, "the second one is a duplicate");
    let letter = &messages[0];
    assert_eq!((letter.body().unwrap(), group(letter)), ("not json", Some("group")));
    assert_eq!(text(letter, "dead_letter_reason"), "no runId  in \"not json\"");
    assert_eq!(text(letter, "source_message_id"), record.message_id);
    assert_eq!(text(letter, "source_queue_arn"), source.arn);
    assert_eq!(text(letter, "type"), "metric_run_requested");
    assert_eq!(text(letter, "dropped_attributes"), "own3,own4,own5,own6");
    let attributes = letter.message_attributes().unwrap();
    assert_eq!(attributes.len(), 10);
    assert_eq!(attributes["own0"].data_type(), "Number.int");
    assert_eq!(attributes["bin"].binary_value().unwrap().as_ref(), [0, 255]);
}

async fn a_dead_letter_of_full_size_fits(aws: &LocalAws) {
    let dead = aws.standard_queue("dead-standard").await;
    let body = "x".repeat(1024 * 1024 - 200);
    let value = AttributeValue::Text("y".repeat(100));
    let attribute = MessageAttribute { data_type: "String".into(), value };
    let record = ReceivedRecord {
        message_id: "m".into(),
        body: body.clone(),
        message_attributes: [("own".to_owned(), attribute)].into(),
        ..ReceivedRecord::default()
    };
    queue_of(aws, Some(&dead)).dead_letter(&record, &"z".repeat(10_000)).await.unwrap();
    let messages = aws.collect(&dead, 1, PATIENCE).await;
    assert_eq!(messages[0].body().unwrap(), body);
    assert_eq!(text(&messages[0], "own").len(), 100);
}

async fn a_failed_dead_letter_says_whether_to_try_again(aws: &LocalAws) {
    let absent = LocalQueue { url: format!("{}/000000000000/absent.fifo", aws.endpoint), arn: String::new() };
    let record = ReceivedRecord { message_id: "m".into(), body: "b".into(), ..ReceivedRecord::default() };
    let error = queue_of(aws, Some(&absent)).dead_letter(&record, "why").await.unwrap_err();
    assert!(!error.is_transient(), "{error}");
    let urls = QueueUrls { dead_letters: Some(absent.url), ..QueueUrls::default() };
    let nowhere = SqsQueue::new(clients("http://127.0.0.1:9").await.sqs, urls);
    assert!(nowhere.dead_letter(&record, "why").await.unwrap_err().is_transient());
}
