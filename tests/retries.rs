//! Records that go back, on real queues: when they are seen again, together with whom, and when it is enough.
//!
//! The handler runs in this process on S3, SNS and SQS of this machine; between it and S3 stands a store that fails,
//! or hangs, for some metrics.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where the worker did not do its part")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use aws_sdk_sqs::types::Message;
use bytes::Bytes;
use metrics_engine::config::Config;
use metrics_engine::keys::{Key, Prefix};
use metrics_engine::storage::s3::S3Storage;
use metrics_engine::storage::{ByteRange, ETag, Error, Object, ObjectMeta, ObjectStorage, Part, PutCondition, Upload};
use metrics_engine::worker::deadline::Deadline;
use metrics_engine::worker::publish::SnsPublisher;
use metrics_engine::worker::queue::SqsQueue;
use metrics_engine::worker::{Ports, batch};
use serde_json::Value;
use support::scene::{BUCKET, Published, Scene, Sent, lambda_record, message_ids, ratio};

/// S3, out of order for two metrics.
struct Faulty(S3Storage);

impl Faulty {
    async fn pass(&self, key: &str) -> Result<(), Error> {
        if key.starts_with("metrics/hanging/") {
            std::future::pending::<()>().await;
        }
        let is_broken = key.starts_with("metrics/broken/");
        let fault = || Error::Transient { operation: "get", key: key.to_owned(), reason: "503 SlowDown".to_owned() };
        if is_broken { Err(fault()) } else { Ok(()) }
    }
}

#[async_trait]
impl ObjectStorage for Faulty {
    async fn get(&self, key: &Key, range: ByteRange, if_match: Option<&ETag>) -> Result<Object, Error> {
        self.pass(key.as_str()).await?;
        self.0.get(key, range, if_match).await
    }

    async fn list(&self, prefix: &Prefix) -> Result<Vec<ObjectMeta>, Error> {
        self.pass(prefix.as_str()).await?;
        self.0.list(prefix).await
    }

    async fn put(&self, key: &Key, body: Bytes, kind: &'static str, condition: PutCondition) -> Result<ETag, Error> {
        self.pass(key.as_str()).await?;
        self.0.put(key, body, kind, condition).await
    }

    async fn begin_upload(&self, key: &Key, content_type: &'static str) -> Result<Upload, Error> {
        self.pass(key.as_str()).await?;
        self.0.begin_upload(key, content_type).await
    }

    async fn upload_part(&self, upload: &Upload, number: u16, body: Bytes) -> Result<Part, Error> {
        self.pass(upload.key.as_str()).await?;
        self.0.upload_part(upload, number, body).await
    }

    async fn complete_upload(&self, upload: &Upload, parts: &[Part], condition: PutCondition) -> Result<ETag, Error> {
        self.pass(upload.key.as_str()).await?;
        self.0.complete_upload(upload, parts, condition).await
    }

    async fn abort_upload(&self, upload: &Upload) -> Result<(), Error> {
        self.pass(upload.key.as_str()).await?;
        self.0.abort_upload(upload).await
    }
}

/// The handler with its ports, and the queues around it.
struct Handler {
    scene: Scene,
    ports: Ports,
    config: Config,
}

impl Handler {
    async fn new() -> Self {
        let scene = Scene::new().await;
        let environment: BTreeMap<String, String> = scene.environment();
        let config = Config::from_lookup(|name| environment.get(name).cloned()).unwrap();
        let clients = scene.aws.clients.clone();
        let ports = Ports {
            storage: Arc::new(Faulty(S3Storage::new(clients.s3, BUCKET.to_owned()))),
            publisher: Arc::new(SnsPublisher::new(clients.sns, config.topics.clone())),
            queue: Arc::new(SqsQueue::new(clients.sqs, config.queue_urls.clone())),
            clock: Arc::new(|| jiff::Timestamp::from_second(1_736_937_000).unwrap()),
        };
        Self { scene, ports, config }
    }

    /// Handles the batch and deletes what is not given back, as the event source mapping does; the runs or bodies that
    /// are.
    async fn deliver(&self, event: &Value, deadline: Deadline) -> Vec<String> {
        let typed = serde_json::from_value(event.clone()).unwrap();
        let response = batch::handle(typed, &self.ports, &self.config, deadline).await;
        let response = serde_json::to_value(response).unwrap();
        let failed = message_ids(&response["batchItemFailures"], "itemIdentifier");
        let mut returned = Vec::new();
        for record in event["Records"].as_array().unwrap() {
            if failed.contains(record["messageId"].as_str().unwrap()) {
                returned.push(name(record["body"].as_str().unwrap()));
                continue;
            }
            let delete = self.scene.aws.clients.sqs.delete_message().queue_url(&self.scene.requests.url);
            delete.receipt_handle(record["receiptHandle"].as_str().unwrap()).send().await.unwrap();
        }
        returned
    }

    /// What comes back out of the queue first, and after how long.
    async fn come_back(&self) -> (Vec<Message>, Duration) {
        let start = Instant::now();
        loop {
            let messages = self.scene.aws.receive(&self.scene.requests, 0).await;
            if !messages.is_empty() {
                return (messages, start.elapsed());
            }
            assert!(start.elapsed() < Duration::from_secs(30), "nothing came back");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn event(&self, messages: &[Message]) -> Value {
        let arn = &self.scene.requests.arn;
        serde_json::json!({ "Records": messages.iter().map(|one| lambda_record(one, arn)).collect::<Vec<_>>() })
    }

    /// The completed events so far: run, status and code.
    async fn completed(&self) -> Vec<(String, String, String)> {
        let events: Vec<Published> = self.scene.events(0).await;
        let completed = events.iter().filter(|event| event.field("type") == "metric_run_completed");
        let mut completed: Vec<_> = completed
            .map(|event| ["runId", "status", "errorCode"].map(|field| event.field(field).to_owned()))
            .collect();
        completed.sort();
        completed.into_iter().map(|[run, status, code]| (run, status, code)).collect()
    }

    /// The bodies and reasons of the dead letters.
    async fn dead_letters(&self) -> Vec<(String, String)> {
        let letters = self.scene.aws.drain(&self.scene.dead_letters).await;
        let reason = |letter: &Message| {
            let attributes = letter.message_attributes().cloned().unwrap_or_default();
            attributes["dead_letter_reason"].string_value().unwrap().to_owned()
        };
        letters.iter().map(|letter| (name(letter.body().unwrap()), reason(letter))).collect()
    }
}

/// A body's run, or the body where it has none.
fn name(body: &str) -> String {
    let json: Option<Value> = serde_json::from_str(body).ok();
    json.and_then(|json| Some(json["runId"].as_str()?.to_owned())).unwrap_or_else(|| body.to_owned())
}

fn sent<'a>(group: &'a str, run: &str, metric: &str) -> Sent<'a> {
    Sent { group, body: ratio(run, metric).to_string() }
}

fn triple(run: &str, status: &str, code: &str) -> (String, String, String) {
    (run.to_owned(), status.to_owned(), code.to_owned())
}

#[tokio::test]
async fn a_group_comes_back_as_a_whole_and_in_order_and_delays_no_other() {
    let handler = Handler::new().await;
    let records = [
        sent("a", "a1", "m"),
        sent("a", "a2", "broken"),
        sent("a", "a3", "m"),
        sent("a", "a4", "m"),
        sent("b", "b1", "m2"),
        sent("b", "b2", "m2"),
    ];
    let event = handler.scene.batch(&records).await;
    assert_eq!(handler.deliver(&event, Deadline::unknown()).await, ["a2", "a3", "a4"]);
    let successes = ["a1", "b1", "b2"].map(|run| triple(run, "SUCCESS", ""));
    assert_eq!(handler.completed().await, successes);

    // The queue hides a record for half an hour; that it is back means that it was released.
    let (messages, first_wait) = handler.come_back().await;
    let runs: Vec<String> = messages.iter().map(|message| name(message.body().unwrap())).collect();
    assert_eq!(runs, ["a2", "a3", "a4"], "all of them at once, in their order");
    assert!(first_wait >= Duration::from_millis(900) && first_wait < Duration::from_secs(15), "{first_wait:?}");

    // The second retry waits longer than the shortest first one; what follows a broken record is not judged by it.
    let again = handler.event(&messages);
    assert_eq!(handler.deliver(&again, Deadline::unknown()).await, ["a2", "a3", "a4"]);
    let (messages, second_wait) = handler.come_back().await;
    assert_eq!(messages.len(), 3);
    assert!(second_wait >= Duration::from_secs(3), "{second_wait:?}");
    assert_eq!(handler.completed().await, []);
    assert!(handler.dead_letters().await.is_empty());
}

#[tokio::test]
async fn the_last_receive_ends_in_a_failure_and_a_dead_letter_and_the_group_goes_on() {
    let mut handler = Handler::new().await;
    handler.config.max_receive_count = 2;
    let records =
        [sent("a", "a1", "broken"), sent("a", "a2", "m"), sent("a", "a3", "broken"), sent("b", "b1", "broken")];
    let event = handler.scene.batch(&records).await;
    assert_eq!(handler.deliver(&event, Deadline::unknown()).await, ["a1", "a2", "a3", "b1"]);
    assert_eq!(handler.completed().await, []);
    let mut last = Vec::new();
    while last.len() < 4 {
        last.extend(handler.come_back().await.0);
    }
    assert!(handler.deliver(&handler.event(&last), Deadline::unknown()).await.is_empty(), "it is enough");
    let failed = |run| triple(run, "FAILURE", "OUTPUT_WRITE_ERROR");
    let expected = [failed("a1"), triple("a2", "SUCCESS", ""), failed("a3"), failed("b1")];
    assert_eq!(handler.completed().await, expected);
    let mut letters = handler.dead_letters().await;
    letters.sort();
    assert_eq!(letters.iter().map(|(run, _)| &**run).collect::<Vec<_>>(), ["a1", "a3", "b1"]);
    for (run, reason) in &letters {
        let is_told =
            reason.starts_with("OUTPUT_WRITE_ERROR: ") && reason.contains("503") && reason.ends_with("(receive 2)");
        assert!(is_told, "{run}: {reason}");
    }
    assert!(handler.scene.aws.receive(&handler.scene.requests, 0).await.is_empty(), "nothing is left");
}

#[tokio::test]
async fn poison_is_dead_lettered_at_once_with_its_reason() {
    let handler = Handler::new().await;
    let conflict = ratio("a1", "m").to_string().replace("\"scale\":2", "\"scale\":3");
    let poison = |body: &str| Sent { group: "a", body: body.to_owned() };
    let records = [
        sent("a", "a1", "m"),
        poison("not json"),
        poison("{\"type\":\"other\"}"),
        poison("{\"type\":\"metric_run_requested\",\"runId\":\"../x\",\"metricCode\":\"m\"}"),
        poison(&conflict),
        sent("a", "a6", "m"),
    ];
    let event = handler.scene.batch(&records).await;
    assert!(handler.deliver(&event, Deadline::unknown()).await.is_empty());
    assert_eq!(handler.completed().await, [triple("a1", "SUCCESS", ""), triple("a6", "SUCCESS", "")]);
    let letters = handler.dead_letters().await;
    let parts = ["is not the JSON object of an event", "type is", "runId", "is known with another request"];
    assert_eq!(letters.len(), parts.len(), "{letters:?}");
    for ((body, reason), part) in letters.iter().zip(parts) {
        assert!(reason.contains(part), "{body}: {reason}");
    }
}

#[tokio::test]
async fn a_group_that_hangs_delays_no_other_and_goes_back_before_the_deadline() {
    let handler = Handler::new().await;
    let records = [sent("a", "a1", "hanging"), sent("a", "a2", "m"), sent("b", "b1", "m2"), sent("b", "b2", "m2")];
    let event = handler.scene.batch(&records).await;
    let limit = Duration::from_secs(12);
    let start = Instant::now();
    let delivery = handler.deliver(&event, Deadline::after(limit));
    let watch = async {
        // The other group's runs are known long before the hanging one is given up.
        let events = handler.scene.events(4).await;
        (events.iter().filter(|event| event.field("status") == "SUCCESS").count(), start.elapsed())
    };
    let (returned, (successes, known_after)) = tokio::join!(delivery, watch);
    assert!(start.elapsed() < Duration::from_secs(40), "{:?}", start.elapsed());
    assert_eq!(returned, ["a1", "a2"]);
    assert_eq!(successes, 2);
    assert!(known_after < limit.mul_f64(0.75), "{known_after:?}");
    let (messages, _) = handler.come_back().await;
    assert_eq!(messages.len(), 2, "both were released");
}
