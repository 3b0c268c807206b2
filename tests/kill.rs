//! The built worker is killed at any moment, again and again, while its queue redelivers: in the end nobody can tell.
//!
//! `KILLS` says how often (30 by default), `SEED` where the random numbers begin; `make soak` kills 500 times.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where the worker did not do its part")]
#![allow(clippy::print_stdout, reason = "what was interrupted is told where it is counted")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use aws_sdk_sqs::types::{Message, MessageSystemAttributeName, QueueAttributeName};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use support::local_aws::LocalQueue;
use support::runtime_api::{Answer, Lambda};
use support::scene::{BUCKET, Scene, TIMEOUT, lambda_record, message_ids, ratio, system_attribute};

const METRICS: [&str; 3] = ["m1", "m2", "m3"];

/// Runs that wait in the queue while there are kills left.
const AT_HAND: usize = 9;

fn number(name: &str, default: u64) -> u64 {
    let text = std::env::var_os(name).map(|text| text.into_string().unwrap());
    text.map_or(default, |text| text.parse().unwrap())
}

/// A scene with a queue whose records come back as soon as it is told so, and the records sent to it.
struct Redelivery {
    scene: Scene,
    queue: LocalQueue,
    sent: usize,
    deleted: BTreeSet<String>,
}

impl Redelivery {
    async fn new() -> Self {
        let scene = Scene::new().await;
        let visibility = [(QueueAttributeName::VisibilityTimeout, "1800")];
        let queue = scene.aws.fifo_queue_with("killed-requests", &visibility).await;
        Self { scene, queue, sent: 0, deleted: BTreeSet::new() }
    }

    async fn worker(&self) -> Lambda {
        let changes = [("AWS_SQS_RUN_REQUEST_QUEUE_URL", &*self.queue.url), ("MAX_RECEIVE_COUNT", "1000")];
        self.scene.worker_with(&changes).await
    }

    /// Sends further runs, the metrics in turn; each metric is a group.
    async fn send_up_to(&mut self, count: usize) {
        for index in self.sent..count {
            let (run, metric) = (format!("run-{index:04}"), METRICS[index % METRICS.len()]);
            self.scene.aws.send(&self.queue, metric, &run, &ratio(&run, metric).to_string()).await;
        }
        self.sent = self.sent.max(count);
    }

    fn is_empty(&self) -> bool {
        self.deleted.len() == self.sent
    }

    async fn batch(&self) -> Vec<Message> {
        self.scene.aws.receive(&self.queue, 1).await
    }

    fn event(&self, messages: &[Message]) -> Value {
        let records: Vec<Value> = messages.iter().map(|message| lambda_record(message, &self.queue.arn)).collect();
        json!({ "Records": records })
    }

    /// What the event source mapping does with an answer.
    async fn settle(&mut self, messages: &[Message], response: &Value) {
        let failed = message_ids(&response["batchItemFailures"], "itemIdentifier");
        for message in messages {
            let id = message.message_id().unwrap();
            if !failed.contains(id) {
                self.scene.aws.delete(&self.queue, message).await;
                self.deleted.insert(id.to_owned());
            }
        }
    }

    /// What the queue does when the visibility timeout is over, without the wait.
    async fn let_the_timeout_pass(&self, messages: &[Message]) {
        for message in messages {
            let change = self.scene.aws.clients.sqs.change_message_visibility().queue_url(&self.queue.url);
            let handle = message.receipt_handle().unwrap();
            change.receipt_handle(handle).visibility_timeout(0).send().await.unwrap();
        }
    }

    /// Every object's bytes.
    async fn objects(&self) -> BTreeMap<String, bytes::Bytes> {
        let mut objects = BTreeMap::new();
        for key in self.scene.outputs().await {
            let bytes = self.scene.aws.get(BUCKET, &key).await.unwrap();
            objects.insert(key, bytes);
        }
        objects
    }

    /// Everything below `metrics/`, without what differs between any two executions.
    async fn normalised(&self) -> BTreeMap<String, String> {
        let keys = self.scene.outputs().await;
        let mut versions = BTreeMap::new();
        for key in keys.iter().filter(|key| key.ends_with(".ok")) {
            let marker = self.scene.json(key).await;
            let text = |field: &str| marker[field].as_str().unwrap().to_owned();
            let place = |version: &str| format!("metrics/{}/{version}", text("metric_code"));
            let known = versions.insert(place(&text("version_ts")), place(&format!("version-of-{}", text("run_id"))));
            assert_eq!(known, None, "two runs share a version: {marker}");
        }
        let mut objects = BTreeMap::new();
        for key in &keys {
            let bytes = self.scene.aws.get(BUCKET, key).await.unwrap();
            let content = match serde_json::from_slice::<Value>(&bytes) {
                Ok(mut json) if json.is_object() => {
                    normalise(&mut json, &versions);
                    json.to_string()
                }
                _ => hex::encode(&bytes),
            };
            let known = objects.insert(named(key, &versions), content);
            assert_eq!(known, None, "{key}");
        }
        objects
    }
}

/// The text with each version replaced by the name of its run.
fn named(text: &str, versions: &BTreeMap<String, String>) -> String {
    let is_at = |version: &str| text.strip_prefix(version).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    match versions.iter().find(|(version, _)| is_at(version)) {
        Some((version, name)) => text.replacen(version, name, 1),
        None => text.to_owned(),
    }
}

/// Times are left out; paths name a run's version by the run.
fn normalise(json: &mut Value, versions: &BTreeMap<String, String>) {
    match json {
        Value::Object(fields) => {
            for time in ["created_at", "claimed_at", "completed_at", "version_ts"] {
                fields.remove(time);
            }
            fields.values_mut().for_each(|value| normalise(value, versions));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| normalise(item, versions)),
        Value::String(text) => *text = named(text, versions),
        _ => {}
    }
}

/// How far the runs were that have no marker yet.
async fn unfinished(scene: &Scene) -> BTreeSet<&'static str> {
    let keys = scene.outputs().await;
    let mut stages = BTreeSet::new();
    for claim in keys.iter().filter(|key| key.ends_with(".claim")) {
        if keys.contains(&claim.replace(".claim", ".ok")) {
            continue;
        }
        let json = scene.json(claim).await;
        let folder = format!("{}/{}/", claim.split("/runs/").next().unwrap(), json["version_ts"].as_str().unwrap());
        let files = keys.iter().filter(|key| key.starts_with(&folder)).count();
        stages.insert(match (files, json["sealed"].is_object()) {
            (0, _) => "claimed",
            (_, false) => "with data",
            (2, true) => "sealed",
            _ => "with its manifest",
        });
    }
    stages
}

/// How long a batch takes from a cold start: as long there is something to interrupt.
async fn span_of_a_batch() -> Duration {
    let mut trial = Redelivery::new().await;
    trial.send_up_to(AT_HAND).await;
    let event = trial.event(&trial.batch().await);
    let mut worker = trial.worker().await;
    let start = Instant::now();
    worker.invoke(&event, TIMEOUT).await.response();
    start.elapsed()
}

/// Works the queue off, killing the worker `kills` times; how often each stage was what a kill left.
async fn work_off(redelivery: &mut Redelivery, kills: u64, span: Duration) -> BTreeMap<&'static str, u64> {
    let mut random = StdRng::seed_from_u64(number("SEED", 20_250_115));
    let mut left = kills;
    let mut stages = BTreeMap::new();
    let mut worker = None;
    redelivery.send_up_to(AT_HAND).await;
    while left > 0 || !redelivery.is_empty() {
        if left > 0 {
            redelivery.send_up_to(redelivery.deleted.len() + AT_HAND).await;
        }
        let messages = redelivery.batch().await;
        if messages.is_empty() {
            continue;
        }
        let event = redelivery.event(&messages);
        let mut running = match worker.take() {
            Some(running) => running,
            None => redelivery.worker().await,
        };
        if left == 0 {
            let response = running.invoke(&event, TIMEOUT).await.response();
            redelivery.settle(&messages, &response).await;
            worker = Some(running);
            continue;
        }
        let moment = span.mul_f64(random.random_range(0.0..1.5));
        // Where the answer was there first, the kill comes before the mapping has read it, or after.
        let answer = tokio::time::timeout(moment, running.invoke(&event, TIMEOUT)).await.ok();
        running.kill().await;
        left -= 1;
        match answer {
            Some(Answer::Response(response)) if random.random_bool(0.5) => {
                redelivery.settle(&messages, &response).await
            }
            _ => redelivery.let_the_timeout_pass(&messages).await,
        }
        for stage in unfinished(&redelivery.scene).await {
            *stages.entry(stage).or_default() += 1;
        }
    }
    stages
}

/// The run ids of the successes, each completed event once by its deduplication id.
async fn successes(redelivery: &Redelivery) -> Vec<String> {
    let messages = redelivery.scene.aws.drain(&redelivery.scene.events).await;
    let mut ids = BTreeSet::new();
    let mut runs = Vec::new();
    for message in &messages {
        let event: Value = serde_json::from_str(message.body().unwrap()).unwrap();
        if event["type"] != "metric_run_completed" {
            continue;
        }
        assert_eq!(event["status"], "SUCCESS", "{event}");
        let id = system_attribute(message, &MessageSystemAttributeName::MessageDeduplicationId);
        assert!(ids.insert(id.clone()), "the deduplication id {id} came twice");
        runs.push(event["runId"].as_str().unwrap().to_owned());
    }
    runs.sort();
    runs
}

#[tokio::test]
async fn a_worker_killed_at_any_moment_leaves_what_an_undisturbed_one_does() {
    let kills = number("KILLS", 30);
    let start = Instant::now();
    let span = span_of_a_batch().await;
    let mut disturbed = Redelivery::new().await;
    let stages = work_off(&mut disturbed, kills, span).await;
    println!("{kills} kills within {span:?}, {} runs, interrupted: {stages:?}", disturbed.sent);
    assert!(!stages.is_empty(), "no kill came while a run was under way");
    let runs: Vec<String> = (0..disturbed.sent).map(|index| format!("run-{index:04}")).collect();
    assert_eq!(successes(&disturbed).await, runs, "one SUCCESS for each run");

    let mut undisturbed = Redelivery::new().await;
    undisturbed.send_up_to(disturbed.sent).await;
    work_off(&mut undisturbed, 0, span).await;
    assert_eq!(successes(&undisturbed).await, runs);
    let (found, expected) = (disturbed.normalised().await, undisturbed.normalised().await);
    let keys = |objects: &BTreeMap<String, String>| objects.keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&found), keys(&expected));
    for (key, content) in &expected {
        assert_eq!(found[key], *content, "{key}");
    }
    println!("took {:?}", start.elapsed());
}

#[tokio::test]
async fn a_worker_that_is_asked_to_end_does_so_at_once_and_does_nothing_afterwards() {
    let mut redelivery = Redelivery::new().await;
    redelivery.send_up_to(AT_HAND).await;
    for moment_ms in [30, 150, 400] {
        let mut worker = redelivery.worker().await;
        let messages = redelivery.batch().await;
        let event = redelivery.event(&messages);
        let under_way = worker.invoke(&event, TIMEOUT);
        let answer = tokio::time::timeout(Duration::from_millis(moment_ms), under_way).await;
        let start = Instant::now();
        worker.terminate().await;
        assert!(worker.exit(Duration::from_secs(5)).await.is_some(), "still there after {:?}", start.elapsed());
        let (objects, keys) = (redelivery.objects().await, redelivery.scene.outputs().await);
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(redelivery.scene.outputs().await, keys);
        assert_eq!(redelivery.objects().await, objects);
        match answer {
            Ok(answer) => redelivery.settle(&messages, &answer.response()).await,
            Err(_) => redelivery.let_the_timeout_pass(&messages).await,
        }
    }
    work_off(&mut redelivery, 0, Duration::ZERO).await;
    assert_eq!(successes(&redelivery).await.len(), AT_HAND);
}
