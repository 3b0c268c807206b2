//! A local AWS with everything a worker needs: a bucket with a small dataset, the request queue and its dead-letter
//! queue, the three topics, and a queue that receives what they publish.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use aws_sdk_sqs::types::{Message, MessageSystemAttributeName, QueueAttributeName};
use parquet::arrow::ArrowWriter;
use serde_json::{Map, Value, json};

use super::local_aws::{Delivery, LocalAws, LocalQueue, REGION};
use super::runtime_api::Lambda;

pub const BUCKET: &str = "scene-data";
pub const DATASET: &str = "rates";
pub const MANIFEST: &str = "datasets/rates/versions/v2/manifest.json";

/// What a debug build on a busy machine needs for a batch, many times over.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// More than any test waits: a message that comes back was released by the worker.
const VISIBILITY_SECONDS: &str = "1800";

/// One record of a batch, as a test writes it.
pub struct Sent<'a> {
    pub group: &'a str,
    pub body: String,
}

/// The local AWS and what is in it.
pub struct Scene {
    pub aws: LocalAws,
    pub requests: LocalQueue,
    pub dead_letters: LocalQueue,
    /// Receives what all three topics publish, in its order within a run.
    pub events: LocalQueue,
    topics: Vec<(&'static str, String)>,
}

impl Scene {
    /// Sets everything up.
    pub async fn new() -> Self {
        let aws = LocalAws::start().await;
        aws.bucket(BUCKET).await;
        let dead_letters = aws.fifo_queue("metric-run-requests-dead").await;
        let redrive = json!({"deadLetterTargetArn": dead_letters.arn, "maxReceiveCount": "5"}).to_string();
        let attributes = [
            (QueueAttributeName::RedrivePolicy, &*redrive),
            (QueueAttributeName::VisibilityTimeout, VISIBILITY_SECONDS),
        ];
        let requests = aws.fifo_queue_with("metric-run-requests", &attributes).await;
        let events = aws.fifo_queue("events").await;
        let mut topics = Vec::new();
        for (variable, name) in [
            ("AWS_SNS_METRIC_RUN_STARTED_TOPIC_ARN", "run-started"),
            ("AWS_SNS_METRIC_RUN_HEARTBEAT_TOPIC_ARN", "run-heartbeat"),
            ("AWS_SNS_METRIC_RUN_COMPLETED_TOPIC_ARN", "run-completed"),
        ] {
            let arn = aws.fifo_topic(name).await;
            aws.subscribe(&arn, &events, Delivery::Raw).await;
            topics.push((variable, arn));
        }
        let scene = Self { aws, requests, dead_letters, events, topics };
        put_dataset(&scene.aws, BUCKET).await;
        scene
    }

    /// What the worker finds in its environment.
    pub fn environment(&self) -> BTreeMap<String, String> {
        let topics = self.topics.iter().map(|(name, arn)| (*name, arn.clone()));
        let own = [
            ("AWS_S3_BUCKET", BUCKET.to_owned()),
            ("AWS_SQS_RUN_REQUEST_QUEUE_URL", self.requests.url.clone()),
            ("DEAD_LETTER_QUEUE_URL", self.dead_letters.url.clone()),
            ("MAX_RECEIVE_COUNT", "5".to_owned()),
        ];
        let all = self.aws.environment().into_iter().chain(topics).chain(own);
        all.map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Starts the built worker.
    pub async fn worker(&self) -> Lambda {
        self.worker_with(&[]).await
    }

    /// Starts the built worker with other values for some variables.
    pub async fn worker_with(&self, changes: &[(&str, &str)]) -> Lambda {
        let mut environment = self.environment();
        environment.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Lambda::start(env!("CARGO_BIN_EXE_worker"), &environment.into_iter().collect::<Vec<_>>()).await
    }

    /// Sends the bodies through the request queue and returns them as the batch that Lambda makes of them.
    pub async fn batch(&self, records: &[Sent<'_>]) -> Value {
        for (index, record) in records.iter().enumerate() {
            let dedup_id = format!("{index}-{}", next_number());
            self.aws.send(&self.requests, record.group, &dedup_id, &record.body).await;
        }
        let mut messages = Vec::new();
        while messages.len() < records.len() {
            let more = self.aws.receive(&self.requests, 1).await;
            assert!(!more.is_empty(), "{} of {} records came out of the queue", messages.len(), records.len());
            messages.extend(more);
        }
        json!({"Records": messages.iter().map(|message| lambda_record(message, &self.requests.arn)).collect::<Vec<_>>()})
    }

    /// Hands the batch to the worker and, as the event source mapping does, deletes what it did not report as failed.
    pub async fn deliver(&self, worker: &mut Lambda, batch: &Value) -> Value {
        self.deliver_within(worker, batch, TIMEOUT).await
    }

    /// The same for a function with another timeout.
    pub async fn deliver_within(&self, worker: &mut Lambda, batch: &Value, timeout: Duration) -> Value {
        let response = worker.invoke(batch, timeout).await.response();
        let failed = message_ids(&response["batchItemFailures"], "itemIdentifier");
        for record in batch["Records"].as_array().unwrap() {
            if !failed.contains(record["messageId"].as_str().unwrap()) {
                let delete = self.aws.clients.sqs.delete_message().queue_url(&self.requests.url);
                delete.receipt_handle(record["receiptHandle"].as_str().unwrap()).send().await.unwrap();
            }
        }
        response
    }

    /// The events published so far, until `count` have come.
    pub async fn events(&self, count: usize) -> Vec<Published> {
        self.aws.collect(&self.events, count, Duration::from_secs(20)).await.iter().map(Published::of).collect()
    }

    /// Every key below `metrics/`.
    pub async fn outputs(&self) -> Vec<String> {
        self.aws.keys(BUCKET, "metrics/").await
    }

    /// An object's text.
    pub async fn text(&self, key: &str) -> String {
        let bytes = self.aws.get(BUCKET, key).await.unwrap_or_else(|| panic!("no object {key}"));
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    /// An object as JSON.
    pub async fn json(&self, key: &str) -> Value {
        serde_json::from_str(&self.text(key).await).unwrap()
    }
}

/// Two daily series in two monthly files each; the manifest lists only the newer ones, as a version's does.
pub async fn put_dataset(aws: &LocalAws, bucket: &str) {
    const JANUARY: &str = "year=2024/month=01/data.parquet";
    const FEBRUARY: &str = "year=2024/month=02/data.parquet";
    let files = [
        ("A", JANUARY, [("2024-01-30", 1.0), ("2024-01-31", 3.5)].as_slice()),
        ("A", FEBRUARY, &[("2024-02-01", 5.0), ("2024-02-02", 5.0)]),
        ("B", JANUARY, &[("2024-01-31", 2.0)]),
        ("B", FEBRUARY, &[("2024-02-01", 0.0), ("2024-02-02", 8.0)]),
    ];
    for (series, file, rows) in files {
        aws.put(bucket, &format!("datasets/rates/projections/{series}/{file}"), parquet(series, rows)).await;
    }
    let manifest = json!({
        "version_id": "v2", "dataset_id": DATASET, "created_at": "2024-02-02T18:00:00Z", "series_codes": ["A", "B"],
        "parquet_files": [format!("A/{FEBRUARY}"), format!("B/{FEBRUARY}")], "data_points_count": null,
    });
    aws.put(bucket, MANIFEST, manifest.to_string()).await;
}

/// An event as it arrived.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    pub body: Value,
    pub group: String,
    /// Its attributes `type` and `metricCode`.
    pub attributes: BTreeMap<String, String>,
}

impl Published {
    fn of(message: &Message) -> Self {
        let attributes = message.message_attributes().cloned().unwrap_or_default();
        let text = |value: &aws_sdk_sqs::types::MessageAttributeValue| value.string_value().unwrap().to_owned();
        Self {
            body: serde_json::from_str(message.body().unwrap()).unwrap(),
            group: system_attribute(message, &MessageSystemAttributeName::MessageGroupId),
            attributes: attributes.iter().map(|(name, value)| (name.clone(), text(value))).collect(),
        }
    }

    /// The text of a field, empty where it is not there.
    pub fn field(&self, name: &str) -> &str {
        self.body[name].as_str().unwrap_or_default()
    }
}

/// A request over the scene's dataset.
pub fn request(run_id: &str, metric_code: &str, expression_type: &str, expression: &Value) -> Value {
    json!({
        "schema": "metrics.run.v1", "type": "metric_run_requested", "runId": run_id, "metricCode": metric_code,
        "expressionType": expression_type, "expressionJson": expression,
        "inputs": [{"datasetId": DATASET, "seriesCode": "A"}, {"datasetId": DATASET, "seriesCode": "B"}],
        "catalog": {"datasets": {DATASET: {"manifestPath": MANIFEST, "projectionsPath": "datasets/rates/projections/"}}},
        "output": {"basePath": format!("s3://bucket/metrics/{metric_code}/")},
    })
}

/// Twice A over B.
pub fn ratio(run_id: &str, metric_code: &str) -> Value {
    let expression = json!({"op": "ratio", "left": {"series_code": "A"}, "right": {"seriesCode": "B"}, "scale": 2});
    request(run_id, metric_code, "series_math", &expression)
}

/// The request as SNS wraps it.
pub fn wrapped(request: &Value) -> String {
    let attribute = |name: &str| json!({"Type": "String", "Value": request[name]});
    json!({
        "Type": "Notification", "MessageId": "2d5f7f8e-0000-4000-8000-000000000001",
        "TopicArn": "arn:aws:sns:us-east-1:000000000000:metric-run-requested.fifo", "Message": request.to_string(),
        "Timestamp": "2025-01-15T10:30:00.000Z",
        "MessageAttributes": {"type": attribute("type"), "metricCode": attribute("metricCode")},
    })
    .to_string()
}

/// The ids in a list of records or failures.
pub fn message_ids(list: &Value, field: &str) -> BTreeSet<String> {
    list.as_array().unwrap().iter().map(|item| item[field].as_str().unwrap().to_owned()).collect()
}

/// A system attribute of a message.
pub fn system_attribute(message: &Message, name: &MessageSystemAttributeName) -> String {
    message.attributes().and_then(|attributes| attributes.get(name)).cloned().unwrap_or_default()
}

/// The message as Lambda hands it on.
pub fn lambda_record(message: &Message, queue_arn: &str) -> Value {
    let system: Map<_, _> =
        message.attributes().into_iter().flatten().map(|(n, v)| (n.to_string(), json!(v))).collect();
    let own = message.message_attributes().into_iter().flatten().map(|(name, value)| {
        let value = json!({"stringValue": value.string_value(), "dataType": value.data_type(),
            "stringListValues": [], "binaryListValues": []});
        (name.clone(), value)
    });
    json!({
        "messageId": message.message_id(), "receiptHandle": message.receipt_handle(), "body": message.body(),
        "md5OfBody": message.md5_of_body(), "attributes": system, "messageAttributes": own.collect::<Map<_, _>>(),
        "eventSource": "aws:sqs", "eventSourceARN": queue_arn, "awsRegion": REGION,
    })
}

fn parquet(series: &str, rows: &[(&str, f64)]) -> Vec<u8> {
    let times = rows.iter().map(|(date, _)| midnight(date)).collect();
    parquet_of(series, times, rows.iter().map(|(_, value)| *value).collect())
}

/// A file of one series: times in nanoseconds, and values.
pub fn parquet_of(series: &str, times: Vec<i64>, values: Vec<f64>) -> Vec<u8> {
    let series = vec![series; values.len()];
    let columns: [(&str, ArrayRef); 3] = [
        ("obs_time", Arc::new(TimestampNanosecondArray::from(times))),
        ("value", Arc::new(Float64Array::from(values))),
        ("internal_series_code", Arc::new(StringArray::from(series))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

/// Nanoseconds from the epoch to the start of a day in UTC.
pub fn midnight(date: &str) -> i64 {
    let time: jiff::Timestamp = format!("{date}T00:00:00Z").parse().unwrap();
    i64::try_from(time.as_nanosecond()).unwrap()
}

fn next_number() -> usize {
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}
