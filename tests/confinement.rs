//! Whatever paths a request and a dataset's manifest claim, the worker asks the store for nothing outside of its
//! prefixes. This is judged by what the store is asked for, not by what a parser says of the paths.

#![cfg(test)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where its world fails")]

#[path = "support/world.rs"]
mod world;

use std::cell::Cell;
use std::sync::{Arc, Mutex};
use std::thread;

use async_trait::async_trait;
use bytes::Bytes;
use metrics_engine::config::Config;
use metrics_engine::keys::{Key, Prefix};
use metrics_engine::storage::memory::MemoryStorage;
use metrics_engine::storage::{ByteRange, ETag, Error, Object, ObjectMeta, ObjectStorage, Part, PutCondition, Upload};
use metrics_engine::worker::deadline::Deadline;
use metrics_engine::worker::recorder::{QueueRecorder, Recorder};
use metrics_engine::worker::{Ports, batch};
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::select;
use proptest::test_runner::{Config as Cases, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use proptest::{collection, option};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

/// How many requests are tried.
const TUPLES: u32 = 100_000;

/// They are tried on so many threads.
const SHARES: u8 = 4;

/// What a store was asked for: the operation and the key.
type Calls = Vec<(&'static str, String)>;

/// Pieces of which paths are made: good ones, and those that have broken other programs.
const SEGMENTS: [&str; 36] = [
    "datasets",
    "metrics",
    "datasets",
    "metrics",
    "d",
    "m",
    "versions",
    "v1",
    "manifest.json",
    "projections",
    "A",
    "B",
    "runs",
    "current",
    "data.parquet",
    "..",
    ".",
    "",
    " ",
    "...",
    "%2e%2e",
    "%2F",
    "..%2f",
    "..\\",
    "\\",
    "datasetsX",
    "metricsX",
    "~",
    "\u{0}",
    "\n",
    "é",
    "\u{202e}",
    "\u{ff0e}\u{ff0e}",
    "A/../../secrets",
    "secrets",
    "r0.ok",
];

const BUCKETS: [&str; 12] = [
    "",
    "",
    "",
    "",
    "s3://bucket/",
    "s3://own/",
    "s3://other/",
    "s3://own@other/",
    "s3:///",
    "S3://own/",
    "https://own/",
    "/",
];

/// A path that is hostile, long, or by chance a good one.
fn path() -> impl Strategy<Value = String> {
    let made = (select(&BUCKETS[..]), collection::vec(select(&SEGMENTS[..]), 0..7), any::<bool>()).prop_map(
        |(bucket, segments, ends_with_slash)| {
            let slash = if ends_with_slash { "/" } else { "" };
            format!("{bucket}{}{slash}", segments.join("/"))
        },
    );
    let good = select(
        &[
            "datasets/d/versions/v1/manifest.json",
            "datasets/d/projections/",
            "metrics/m/",
            "s3://bucket/metrics/m/",
            "A/year=2024/month=01/data.parquet",
            "B/year=2024/month=01/data.parquet",
            "datasets/secret/versions/v1/manifest.json",
            "metrics/m/current/manifest.json",
            "metrics/",
            "datasets/",
            "datasets",
            "datasetsX/d/manifest.json",
            "/datasets/d/",
        ][..],
    )
    .prop_map(str::to_owned);
    let long = (path_start(), 1..1_200_usize).prop_map(|(start, length)| format!("{start}{}", "a".repeat(length)));
    prop_oneof![10 => made, 8 => good, 1 => long, 1 => "\\PC{0,40}"]
}

fn path_start() -> impl Strategy<Value = &'static str> {
    select(&["datasets/", "metrics/", "datasets", "../", ""][..])
}

fn id(good: &'static str) -> impl Strategy<Value = String> {
    let hostile =
        select(&["..", ".", "a/b", "a/../b", "%2e%2e", "A\\B", "", "é", "r\n", "metrics", "s3://own", "*"][..]);
    prop_oneof![24 => Just(good.to_owned()), 1 => hostile.prop_map(str::to_owned), 1 => path()]
}

/// What the attacker decides.
#[derive(Debug, Clone)]
struct Tuple {
    run_id: String,
    metric_code: String,
    dataset_id: String,
    series: String,
    manifest: String,
    projections: Option<String>,
    base: String,
    files: Vec<String>,
}

/// Mostly good with some hostile part: a request that is wrong everywhere gets nowhere.
fn mostly(good: &'static str) -> impl Strategy<Value = String> {
    prop_oneof![1 => Just(good.to_owned()), 1 => path()]
}

fn tuple() -> impl Strategy<Value = Tuple> {
    let ids = (id("r1"), id("m"), id("d"), id("A"));
    let manifest = mostly("datasets/d/versions/v1/manifest.json");
    let projections = option::weighted(0.8, mostly("datasets/d/projections/"));
    let paths = (manifest, projections, mostly("s3://bucket/metrics/m/"), collection::vec(path(), 0..4));
    (ids, paths).prop_map(|((run_id, metric_code, dataset_id, series), (manifest, projections, base, files))| Tuple {
        run_id,
        metric_code,
        dataset_id,
        series,
        manifest,
        projections,
        base,
        files,
    })
}

impl Tuple {
    fn request(&self) -> Value {
        let mut dataset = json!({ "manifestPath": self.manifest });
        if let Some(projections) = &self.projections {
            dataset["projectionsPath"] = json!(projections);
        }
        let mut request = world::request(&self.run_id, &self.metric_code);
        request["expressionType"] = json!("window_op");
        request["expressionJson"] = json!({ "op": "sma", "window": 2, "series": { "series_code": self.series } });
        request["inputs"] = json!([{ "datasetId": self.dataset_id, "seriesCode": self.series }]);
        request["catalog"] = json!({ "datasets": { &self.dataset_id: dataset } });
        request["output"] = json!({ "basePath": self.base });
        request
    }
}

/// A store that has whatever is asked for, and remembers it.
struct Obliging {
    outputs: MemoryStorage,
    manifest: Bytes,
    parquet: Bytes,
    calls: Mutex<Calls>,
}

impl Obliging {
    fn note(&self, operation: &'static str, key: &str) {
        self.calls.lock().unwrap().push((operation, key.to_owned()));
    }
}

#[async_trait]
impl ObjectStorage for Obliging {
    async fn get(&self, key: &Key, range: ByteRange, if_match: Option<&ETag>) -> Result<Object, Error> {
        self.note("get", key.as_str());
        let body = match key.as_str().starts_with("metrics/") {
            true => return self.outputs.get(key, range, if_match).await,
            false if key.is_parquet() => &self.parquet,
            false => &self.manifest,
        };
        let size_bytes = u64::try_from(body.len()).unwrap();
        Ok(Object { bytes: body.slice(range.within(body.len())), etag: ETag("tag".to_owned()), size_bytes })
    }

    async fn list(&self, prefix: &Prefix) -> Result<Vec<ObjectMeta>, Error> {
        self.note("list", prefix.as_str());
        let key = Key::parse(&format!("{prefix}year=2024/month=01/data.parquet"));
        let size_bytes = u64::try_from(self.parquet.len()).unwrap();
        Ok(key.into_iter().map(|key| ObjectMeta { key, size_bytes, etag: ETag("tag".to_owned()) }).collect())
    }

    async fn put(
        &self,
        key: &Key,
        body: Bytes,
        content_type: &'static str,
        condition: PutCondition,
    ) -> Result<ETag, Error> {
        self.note("put", key.as_str());
        self.outputs.put(key, body, content_type, condition).await
    }

    async fn begin_upload(&self, key: &Key, content_type: &'static str) -> Result<Upload, Error> {
        self.note("put", key.as_str());
        self.outputs.begin_upload(key, content_type).await
    }

    async fn upload_part(&self, upload: &Upload, number: u16, body: Bytes) -> Result<Part, Error> {
        self.note("put", upload.key.as_str());
        self.outputs.upload_part(upload, number, body).await
    }

    async fn complete_upload(&self, upload: &Upload, parts: &[Part], condition: PutCondition) -> Result<ETag, Error> {
        self.note("put", upload.key.as_str());
        self.outputs.complete_upload(upload, parts, condition).await
    }

    async fn abort_upload(&self, upload: &Upload) -> Result<(), Error> {
        self.note("put", upload.key.as_str());
        self.outputs.abort_upload(upload).await
    }
}

/// Where a request's own metadata and output may lie, told without the library's parsers.
fn places(tuple: &Tuple) -> [String; 2] {
    let base = ["s3://own/", "s3://bucket/", "s3://bucket-name/"].iter().find_map(|own| tuple.base.strip_prefix(own));
    let base = base.unwrap_or(&tuple.base).trim_end_matches('/');
    [format!("{base}/"), format!("metrics/{}/", tuple.metric_code)]
}

fn judge(tuple: &Tuple, calls: &[(&'static str, String)]) -> Result<(), String> {
    for (operation, key) in calls {
        let is_clean = key.bytes().all(|byte| (0x20..0x7f).contains(&byte)) && key.len() <= 1_024;
        let segments = key.strip_suffix('/').unwrap_or(key).split('/');
        let is_plain = segments.clone().all(|segment| !segment.is_empty() && segment != "." && segment != "..");
        let is_output =
            key.starts_with("metrics/") && places(tuple).iter().any(|place| key.starts_with(place.as_str()));
        let is_allowed = match *operation {
            "put" => is_output,
            "get" => is_output || key.starts_with("datasets/"),
            _ => key.starts_with("datasets/") || is_output,
        };
        if !is_clean || !is_plain || !is_allowed {
            return Err(format!("{operation} {key:?} with {:?}", places(tuple)));
        }
    }
    Ok(())
}

/// Lets the worker handle a request; the answer is what the store was asked for.
fn handle(tuple: &Tuple, parquet: &Bytes, config: &Config, runtime: &Runtime) -> Result<Calls, TestCaseError> {
    let manifest = json!({ "version_id": "v1", "parquet_files": tuple.files, "series_codes": [tuple.series] });
    let storage = Arc::new(Obliging {
        outputs: MemoryStorage::new(),
        manifest: Bytes::from(manifest.to_string()),
        parquet: parquet.clone(),
        calls: Mutex::default(),
    });
    let ports = Ports {
        storage: storage.clone(),
        publisher: Arc::new(Recorder::new()),
        queue: Arc::new(QueueRecorder::new(true)),
        clock: Arc::new(|| jiff::Timestamp::from_second(world::START_SECONDS).unwrap()),
    };
    let event = world::event(&[world::record("m1", "g", &tuple.request())]);
    let answer = runtime.block_on(batch::handle(event, &ports, config, Deadline::unknown()));
    proptest::prop_assert!(world::failed(&answer).is_empty(), "a hostile request is settled at once");
    Ok(std::mem::take(&mut *storage.calls.lock().unwrap()))
}

/// A share of the requests: how many, how many requests to the store, how many that read a file, how many that were done.
fn share(seed: u8, count: u32) -> [usize; 4] {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let cases = Cases { cases: count, failure_persistence: None, ..Cases::default() };
    let mut runner = TestRunner::new_with_rng(cases, TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]));
    let config = world::config(&[("OUTPUT_FORMAT", "jsonl"), ("WORKER_HEARTBEAT_ENABLED", "false")]);
    let parquet = world::parquet_file("A", 19_723, &[Some(1.0), Some(2.0)]);
    let counts = Cell::new([0; 4]);
    let outcome = runner.run(&tuple(), |tuple| {
        let calls = handle(&tuple, &parquet, &config, &runtime)?;
        let any = |name, suffix| calls.iter().any(|(operation, key)| *operation == name && key.ends_with(suffix));
        let [tuples, asked, read, done] = counts.get();
        let (is_read, is_done) = (any("get", ".parquet"), any("put", ".ok"));
        counts.set([tuples + 1, asked + calls.len(), read + usize::from(is_read), done + usize::from(is_done)]);
        judge(&tuple, &calls).map_err(TestCaseError::fail)
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    counts.get()
}

#[test]
fn no_path_leads_out_of_the_prefixes() {
    let threads: Vec<_> =
        (0..SHARES).map(|seed| thread::spawn(move || share(seed, TUPLES / u32::from(SHARES)))).collect();
    let shares = threads.into_iter().map(|thread| thread.join().unwrap());
    let sum = |sum: [usize; 4], share: [usize; 4]| std::array::from_fn(|index| sum[index] + share[index]);
    let [tuples, calls, read, done] = shares.fold([0; 4], sum);
    println!("{tuples} tuples: {calls} requests to the store, {read} that read a file, {done} that were done");
    assert!(read * 50 > tuples && done * 200 > tuples, "hardly any request gets past the first check");
}
