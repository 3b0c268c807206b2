//! A small world for runs without a network: a dataset in memory, a topic and a queue that remember, and requests.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of the world")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where its world fails")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use bytes::Bytes;
use metrics_engine::config::Config;
use metrics_engine::keys::Key;
use metrics_engine::storage::memory::{FaultPlan, MemoryStorage};
use metrics_engine::worker::deadline::Deadline;
use metrics_engine::worker::recorder::{QueueRecorder, Recorder};
use metrics_engine::worker::{Ports, batch};
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};

/// 2025-01-15T10:30:00Z
pub const START_SECONDS: i64 = 1_736_937_000;

/// The settings of a worker that has everything.
pub fn config(more: &[(&str, &str)]) -> Config {
    let mut variables = BTreeMap::from([
        ("AWS_S3_BUCKET", "own"),
        ("AWS_SNS_EVENTS_TOPIC_ARN", "arn:aws:sns:us-east-1:000000000000:events.fifo"),
        ("DEAD_LETTER_QUEUE_URL", "https://sqs.us-east-1.amazonaws.com/000000000000/dead.fifo"),
        ("READ_CONCURRENCY", "4"),
    ]);
    variables.extend(more.iter().copied());
    Config::from_lookup(|name| variables.get(name).map(|text| (*text).to_owned())).unwrap()
}

/// One month of a series as a Parquet file: days from `first_day` since the epoch on.
pub fn parquet_file(series_code: &str, first_day: i64, values: &[Option<f64>]) -> Bytes {
    const DAY_US: i64 = 86_400_000_000;
    let times = (first_day..).take(values.len()).map(|day| day * DAY_US);
    let columns: [(&str, ArrayRef); 3] = [
        ("obs_time", Arc::new(TimestampMicrosecondArray::from_iter_values(times))),
        ("value", Arc::new(Float64Array::from(values.to_vec()))),
        ("internal_series_code", Arc::new(StringArray::from(vec![series_code; values.len()]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    Bytes::from(bytes)
}

/// The objects of a dataset `d` with the series `A` and `B`: two months each, of which the manifest lists the second.
pub fn dataset() -> Vec<(Key, Bytes)> {
    let mut objects = Vec::new();
    let mut put = |path: &str, bytes: Bytes| objects.push((Key::parse(path).unwrap(), bytes));
    for (code, factor) in [("A", 2.0), ("B", 0.5)] {
        for (month, first_day, count) in [("01", 19_723, 31), ("02", 19_754, 29)] {
            let values: Vec<Option<f64>> =
                (0..count).map(|day| (day % 7 != 6).then_some(factor * f64::from(day + 1))).collect();
            let path = format!("datasets/d/projections/{code}/year=2024/month={month}/data.parquet");
            put(&path, parquet_file(code, first_day, &values));
        }
    }
    let manifest = json!({
        "version_id": "v1", "dataset_id": "d", "created_at": "2024-03-01T00:00:00Z", "collection_date": null,
        "data_points_count": 58, "series_count": 2, "series_codes": ["A", "B"], "date_range": null,
        "parquet_files": ["A/year=2024/month=02/data.parquet", "B/year=2024/month=02/data.parquet"],
        "partitions": [], "partition_strategy": "series_year_month"
    });
    put("datasets/d/versions/v1/manifest.json", Bytes::from(manifest.to_string()));
    objects
}

/// The smallest dataset `d` with `A` and `B`: four days, one file each. The values of `A` are another generation's,
/// where its number is another; nothing else is.
pub fn small_dataset(generation: i32) -> Vec<(Key, Bytes)> {
    let key = |path: &str| Key::parse(path).unwrap();
    let first = 2.0 + 6.0 * f64::from(generation);
    let files = [("A", [Some(first), None, Some(4.0), Some(5.0)]), ("B", [Some(2.0), Some(4.0), None, Some(8.0)])];
    let path = |code: &str| format!("{code}/year=2024/month=01/data.parquet");
    let manifest = json!({
        "version_id": "v1", "dataset_id": "d", "series_codes": ["A", "B"], "parquet_files": [path("A"), path("B")]
    });
    let mut objects = vec![(key("datasets/d/versions/v1/manifest.json"), Bytes::from(manifest.to_string()))];
    for (code, values) in files {
        let file = parquet_file(code, 19_723, &values);
        objects.push((key(&format!("datasets/d/projections/{}", path(code))), file));
    }
    objects
}

/// A request for `A / B` under a metric's code.
pub fn request(run_id: &str, metric_code: &str) -> Value {
    json!({
        "schema": "metrics.run.v1", "type": "metric_run_requested", "runId": run_id, "metricCode": metric_code,
        "expressionType": "series_math",
        "expressionJson": { "op": "ratio", "left": { "series_code": "A" }, "right": { "series_code": "B" } },
        "inputs": [{ "datasetId": "d", "seriesCode": "A" }, { "datasetId": "d", "seriesCode": "B" }],
        "catalog": { "datasets": { "d": { "manifestPath": "datasets/d/versions/v1/manifest.json",
                                          "projectionsPath": "datasets/d/projections/" } } },
        "output": { "basePath": format!("s3://bucket/metrics/{metric_code}/") }
    })
}

/// A record of a batch.
#[derive(Debug, Clone)]
pub struct Record {
    pub message_id: String,
    pub group_id: Option<String>,
    pub receive_count: u32,
    pub body: String,
}

/// A record on its first delivery.
pub fn record(message_id: &str, group_id: &str, body: &(impl ToString + ?Sized)) -> Record {
    let (message_id, group_id) = (message_id.to_owned(), Some(group_id.to_owned()));
    Record { message_id, group_id, receive_count: 1, body: body.to_string() }
}

/// The Lambda event of a batch.
pub fn event(records: &[Record]) -> SqsEvent {
    let records: Vec<Value> = records
        .iter()
        .map(|record| {
            let mut attributes = json!({ "ApproximateReceiveCount": record.receive_count.to_string() });
            if let Some(group_id) = &record.group_id {
                attributes["MessageGroupId"] = json!(group_id);
            }
            json!({
                "messageId": record.message_id, "receiptHandle": format!("handle of {}", record.message_id),
                "body": record.body, "attributes": attributes, "messageAttributes": {},
                "eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:requests.fifo",
                "awsRegion": "us-east-1"
            })
        })
        .collect();
    serde_json::from_value(json!({ "Records": records })).unwrap()
}

/// A worker with its surroundings.
pub struct World {
    pub storage: Arc<MemoryStorage>,
    pub publisher: Arc<Recorder>,
    pub queue: Arc<QueueRecorder>,
    pub config: Config,
    pub seconds: Arc<AtomicI64>,
}

impl World {
    /// A world without faults.
    pub fn new() -> Self {
        Self::with(MemoryStorage::new(), Recorder::new(), QueueRecorder::new(true))
    }

    /// A world whose store passes this plan.
    pub fn with_storage_faults(plan: impl FaultPlan) -> Self {
        Self::with(MemoryStorage::with_faults(plan), Recorder::new(), QueueRecorder::new(true))
    }

    pub fn with(storage: MemoryStorage, publisher: Recorder, queue: QueueRecorder) -> Self {
        for (key, bytes) in dataset() {
            storage.insert(&key, bytes);
        }
        Self {
            storage: Arc::new(storage),
            publisher: Arc::new(publisher),
            queue: Arc::new(queue),
            config: config(&[]),
            seconds: Arc::new(AtomicI64::new(START_SECONDS)),
        }
    }

    pub fn ports(&self) -> Ports {
        let seconds = Arc::clone(&self.seconds);
        Ports {
            storage: self.storage.clone(),
            publisher: self.publisher.clone(),
            queue: self.queue.clone(),
            clock: Arc::new(move || jiff::Timestamp::from_second(seconds.load(Ordering::SeqCst)).unwrap()),
        }
    }

    /// Lets seconds pass.
    pub fn pass_seconds(&self, seconds: i64) {
        self.seconds.fetch_add(seconds, Ordering::SeqCst);
    }

    /// Handles a batch; the answer is the ids that go back.
    pub async fn handle(&self, records: &[Record]) -> Vec<String> {
        self.handle_within(records, Deadline::unknown()).await
    }

    pub async fn handle_within(&self, records: &[Record], deadline: Deadline) -> Vec<String> {
        failed(&batch::handle(event(records), &self.ports(), &self.config, deadline).await)
    }

    /// The object as text.
    pub fn text(&self, key: &str) -> Option<String> {
        let bytes = self.storage.peek(&Key::parse(key).unwrap())?;
        Some(String::from_utf8(bytes.to_vec()).unwrap())
    }

    /// The object as JSON.
    pub fn json(&self, key: &str) -> Value {
        serde_json::from_str(&self.text(key).unwrap_or_else(|| panic!("no {key}"))).unwrap()
    }

    /// The keys under `metrics/`.
    pub fn output_keys(&self) -> Vec<String> {
        self.storage.snapshot().into_keys().filter(|key| key.starts_with("metrics/")).collect()
    }

    /// The events on the topic, as JSON, duplicates dropped as a FIFO topic does.
    pub fn events(&self) -> Vec<Value> {
        self.publisher.delivered().iter().map(|event| serde_json::to_value(event).unwrap()).collect()
    }

    /// The completed events on the topic.
    pub fn completed(&self) -> Vec<Value> {
        self.events().into_iter().filter(|event| event["type"] == "metric_run_completed").collect()
    }
}

/// The ids in a response, through the JSON that Lambda reads.
pub fn failed(response: &SqsBatchResponse) -> Vec<String> {
    let json = serde_json::to_value(response).unwrap();
    let object = json.as_object().unwrap();
    assert_eq!(object.keys().collect::<Vec<_>>(), ["batchItemFailures"], "the answer is exactly this");
    let items = object["batchItemFailures"].as_array().unwrap();
    items.iter().map(|item| item["itemIdentifier"].as_str().unwrap().to_owned()).collect()
}
