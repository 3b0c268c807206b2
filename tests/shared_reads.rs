//! The records of a batch over the same series, against a local S3: every object is asked for once, whoever asks, and
//! what the runs write is what each alone would have written.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where its world fails")]
#![allow(clippy::print_stdout, reason = "what was measured is told")]

mod support;
#[path = "support/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use metrics_engine::keys::Key;
use metrics_engine::storage::s3::S3Storage;
use metrics_engine::storage::{ByteRange, ObjectStorage, PutCondition};
use metrics_engine::worker::deadline::Deadline;
use metrics_engine::worker::recorder::{QueueRecorder, Recorder};
use metrics_engine::worker::{Ports, batch};
use serde_json::{Value, json};
use support::local_aws::{self, LocalAws};
use support::request_log::{RequestLog, Way};

const BUCKET: &str = "own";
const SERIES: [&str; 3] = ["A", "B", "C"];
const MONTHS: usize = 275;
const RECORDS: usize = 10;

/// Three series of 275 monthly files, as a daily series since 2003 has them.
fn dataset() -> Vec<(String, Bytes)> {
    let manifest = json!({ "version_id": "v1", "dataset_id": "d", "series_codes": SERIES, "parquet_files": [] });
    let mut objects = vec![("datasets/d/versions/v1/manifest.json".to_owned(), Bytes::from(manifest.to_string()))];
    for (number, code) in SERIES.iter().enumerate() {
        for month in 0..MONTHS {
            let values: Vec<_> = (0..22).map(|day| Some((number * 7 + month * 22 + day) as f64 / 8.0)).collect();
            let first_day = 12_054 + i64::try_from(month).unwrap() * 30;
            let (year, month) = (2003 + month / 12, month % 12 + 1);
            let path = format!("datasets/d/projections/{code}/year={year}/month={month:02}/data.parquet");
            objects.push((path, world::parquet_file(code, first_day, &values)));
        }
    }
    objects
}

/// `A + B + C`, of which the records ask in different order.
fn request(number: usize) -> Value {
    let mut codes = SERIES.to_vec();
    codes.rotate_left(number % SERIES.len());
    let operands: Vec<Value> = codes.iter().map(|code| json!({ "series_code": code })).collect();
    let inputs: Vec<Value> = codes.iter().map(|code| json!({ "datasetId": "d", "seriesCode": code })).collect();
    json!({
        "type": "metric_run_requested", "runId": format!("r{number}"), "metricCode": format!("m{number}"),
        "expressionType": "composite", "expressionJson": { "op": "sum", "operands": operands }, "inputs": inputs,
        "catalog": { "datasets": { "d": { "manifestPath": "datasets/d/versions/v1/manifest.json" } } },
        "output": { "basePath": format!("metrics/m{number}/") }
    })
}

/// Handles ten records, numbered from `base` on, in these groups; the requests for inputs by what they ask for, and what
/// the metrics' manifests say.
async fn handled(
    log: &RequestLog,
    ports: &Ports,
    base: usize,
    group: fn(usize) -> String,
) -> (BTreeMap<String, usize>, Vec<Value>) {
    let begun_at = log.requests().len();
    let records: Vec<_> = (0..RECORDS)
        .map(|number| number + base)
        .map(|number| world::record(&format!("message {number}"), &group(number), &request(number)))
        .collect();
    let began = std::time::Instant::now();
    let config = world::config(&[("READ_CONCURRENCY", "16")]);
    let response = batch::handle(world::event(&records), ports, &config, Deadline::unknown()).await;
    assert_eq!(world::failed(&response), Vec::<String>::new());
    let requests = log.requests().split_off(begun_at);
    println!("{} requests in {:?}", requests.len(), began.elapsed());
    let mut inputs = BTreeMap::new();
    for request in requests.iter().filter(|request| request.method == "GET") {
        let asked = format!("{}?{}", request.path, request.query.get("prefix").map_or("", String::as_str));
        if asked.contains("datasets/") {
            *inputs.entry(asked).or_default() += 1;
        }
    }
    let mut manifests = Vec::new();
    for number in base..base + RECORDS {
        let key = Key::parse(&format!("metrics/m{number}/current/manifest.json")).unwrap();
        let object = ports.storage.get(&key, ByteRange::Whole, None).await.unwrap();
        manifests.push(serde_json::from_slice(&object.bytes).unwrap());
    }
    (inputs, manifests)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_records_over_the_same_series_ask_for_each_object_once() {
    let aws = LocalAws::start().await;
    aws.bucket(BUCKET).await;
    let log = RequestLog::start(&aws.endpoint, |_| Way::Free).await;
    let direct = S3Storage::new(aws.clients.s3.clone(), BUCKET);
    let puts = dataset().into_iter().map(|(path, bytes)| {
        let (direct, key) = (&direct, Key::parse(&path).unwrap());
        async move { direct.put(&key, bytes, "application/octet-stream", PutCondition::Always).await.unwrap() }
    });
    stream::iter(puts).buffer_unordered(32).for_each(|_| futures::future::ready(())).await;
    let clients = local_aws::clients(&log.endpoint).await;
    let ports = Ports {
        storage: Arc::new(S3Storage::new(clients.s3, BUCKET)),
        publisher: Arc::new(Recorder::new()),
        queue: Arc::new(QueueRecorder::new(true)),
        clock: Arc::new(|| jiff::Timestamp::from_second(world::START_SECONDS).unwrap()),
    };
    // Each in a group of its own, all at once; and all in one group, one after the other.
    for (base, group) in [(0, (|number| number.to_string()) as fn(usize) -> String), (RECORDS, |_| "one".to_owned())] {
        let (inputs, manifests) = handled(&log, &ports, base, group).await;
        let count_of = |part: &str| inputs.keys().filter(|asked| asked.contains(part)).count();
        // A listing's path is the bucket's, and its prefix a series' folder.
        assert_eq!((count_of("data.parquet?"), count_of("manifest.json?")), (SERIES.len() * MONTHS, 1));
        assert_eq!(inputs.len(), SERIES.len() * MONTHS + SERIES.len() + 1);
        let twice: Vec<_> = inputs.iter().filter(|(_, count)| **count > 1).collect();
        assert!(twice.is_empty(), "{twice:?}");
        for manifest in &manifests {
            assert_eq!(manifest["row_count"], MONTHS * 22);
            assert_eq!(manifest["outputs"]["sha256"], manifests[0]["outputs"]["sha256"]);
            assert_eq!(manifest["inputs"], manifests[0]["inputs"], "the lineage is that of a record alone");
        }
    }
}
