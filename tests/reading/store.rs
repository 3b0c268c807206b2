//! A store in memory that keeps what it was asked for.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use metrics_engine::ids::{DatasetId, SeriesCode};
use metrics_engine::keys::{Key, Prefix};
use metrics_engine::series::Series;
use metrics_engine::storage::{ByteRange, ETag, Error, Object, ObjectMeta, ObjectStorage, Part, PutCondition, Upload};
use metrics_engine::worker::plan::{Content, PlannedObject, PlannedSeries, ReadPlan};
use metrics_engine::worker::read::{self, ReadOutcome, ReadSettings};

/// A request for an object.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Request {
    pub(crate) key: String,
    pub(crate) range: ByteRange,
    pub(crate) if_match: Option<ETag>,
    pub(crate) answered_bytes: u64,
}

#[derive(Default)]
pub(crate) struct Store {
    objects: Mutex<BTreeMap<String, (Bytes, u64)>>,
    requests: Mutex<Vec<Request>>,
    /// What replaces an object as soon as it was asked for once.
    replacements: Mutex<BTreeMap<String, Bytes>>,
    /// Objects that cannot be had for now.
    unavailable: Mutex<Vec<String>>,
    /// Objects that take their time.
    slow: Mutex<Vec<String>>,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
}

impl Store {
    pub(crate) fn with(objects: impl IntoIterator<Item = (&'static str, Bytes)>) -> Self {
        let store = Self::default();
        for (key, bytes) in objects {
            store.set(key, bytes);
        }
        store
    }

    pub(crate) fn set(&self, key: &str, bytes: Bytes) {
        let mut objects = self.objects.lock().unwrap();
        let version = objects.get(key).map_or(0, |(_, version)| version + 1);
        objects.insert(key.to_owned(), (bytes, version));
    }

    pub(crate) fn replace_after_first_request(&self, key: &str, bytes: Bytes) {
        self.replacements.lock().unwrap().insert(key.to_owned(), bytes);
    }

    pub(crate) fn make_unavailable(&self, key: &str) {
        self.unavailable.lock().unwrap().push(key.to_owned());
    }

    pub(crate) fn make_slow(&self, key: &str) {
        self.slow.lock().unwrap().push(key.to_owned());
    }

    /// The most requests that were under way at one time.
    pub(crate) fn most_in_flight(&self) -> usize {
        self.most_in_flight.load(Ordering::Relaxed)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

#[async_trait]
impl ObjectStorage for Store {
    async fn get(&self, key: &Key, range: ByteRange, if_match: Option<&ETag>) -> Result<Object, Error> {
        let text = key.as_str();
        let in_flight = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_in_flight.fetch_max(in_flight, Ordering::Relaxed);
        // Others get a turn, as with a real store.
        let turns = if self.slow.lock().unwrap().iter().any(|slow| slow == text) { 1_000 } else { 1 };
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        if self.unavailable.lock().unwrap().iter().any(|unavailable| unavailable == text) {
            return Err(Error::Transient { operation: "get", key: text.to_owned(), reason: "503".to_owned() });
        }
        let found = self.objects.lock().unwrap().get(text).cloned();
        let Some((bytes, version)) = found else {
            return Err(Error::NotFound { key: text.to_owned() });
        };
        let etag = ETag(format!("{text}-{version}"));
        if if_match.is_some_and(|wanted| *wanted != etag) {
            return Err(Error::Precondition { key: text.to_owned() });
        }
        let size = bytes.len();
        let place = |number: u64| usize::try_from(number).unwrap();
        let wanted = match &range {
            ByteRange::Whole => 0..size,
            ByteRange::Bounded(range) => place(range.start).min(size)..place(range.end).min(size),
            ByteRange::Suffix(length) => size.saturating_sub(place(*length))..size,
        };
        let answer = bytes.slice(wanted);
        let answered_bytes = answer.len() as u64;
        self.requests.lock().unwrap().push(Request {
            key: text.to_owned(),
            range,
            if_match: if_match.cloned(),
            answered_bytes,
        });
        if let Some(replacement) = self.replacements.lock().unwrap().remove(text) {
            self.set(text, replacement);
        }
        Ok(Object { bytes: answer, etag, size_bytes: size as u64 })
    }

    async fn list(&self, prefix: &Prefix) -> Result<Vec<ObjectMeta>, Error> {
        let objects = self.objects.lock().unwrap();
        let listed = objects.iter().filter(|(key, _)| prefix.contains(key));
        let meta_of = |(key, (bytes, version)): (&String, &(Bytes, u64))| ObjectMeta {
            key: Key::parse(key).unwrap(),
            size_bytes: bytes.len() as u64,
            etag: ETag(format!("{key}-{version}")),
        };
        Ok(listed.map(meta_of).collect())
    }

    async fn put(&self, key: &Key, body: Bytes, _: &'static str, _: PutCondition) -> Result<ETag, Error> {
        self.set(key.as_str(), body);
        Ok(ETag(format!("{key}-0")))
    }

    async fn begin_upload(&self, key: &Key, _: &'static str) -> Result<Upload, Error> {
        Err(only_read("begin of an upload", key))
    }

    async fn upload_part(&self, upload: &Upload, _: u16, _: Bytes) -> Result<Part, Error> {
        Err(only_read("upload of a part", &upload.key))
    }

    async fn complete_upload(&self, upload: &Upload, _: &[Part], _: PutCondition) -> Result<ETag, Error> {
        Err(only_read("completion of an upload", &upload.key))
    }

    async fn abort_upload(&self, upload: &Upload) -> Result<(), Error> {
        Err(only_read("abort of an upload", &upload.key))
    }
}

fn only_read(operation: &'static str, key: &Key) -> Error {
    Error::Refused { operation, key: key.to_string(), reason: "whoever reads begins no upload".to_owned() }
}

/// A plan of these series and objects. An object's size is told where `size` says so.
pub(crate) fn plan(codes: &[&str], objects: &[(&str, Option<u64>, Content)]) -> ReadPlan {
    let series = codes.iter().map(|code| PlannedSeries {
        dataset_id: DatasetId::parse("d").unwrap(),
        series_code: SeriesCode::parse(code).unwrap(),
    });
    let objects = objects.iter().map(|(key, size_bytes, content)| PlannedObject {
        key: Key::parse(key).unwrap(),
        size_bytes: *size_bytes,
        etag: None,
        content: content.clone(),
    });
    ReadPlan { series: series.collect(), objects: objects.collect() }
}

pub(crate) async fn read(plan: &ReadPlan, store: &Store) -> Result<ReadOutcome, read::Error> {
    read_with(plan, store, &ReadSettings::default()).await
}

pub(crate) async fn read_with(
    plan: &ReadPlan,
    store: &Store,
    settings: &ReadSettings,
) -> Result<ReadOutcome, read::Error> {
    read::read(plan, store, settings, &|_| {}).await
}

/// Settings under which only tiny objects are fetched whole.
pub(crate) fn ranged() -> ReadSettings {
    ReadSettings { whole_object_bytes: 0, concurrency: NonZeroUsize::new(4).unwrap(), ..ReadSettings::default() }
}

/// Reads one file as series `A`'s own.
pub(crate) fn read_own(bytes: Bytes) -> Result<Series, read::Error> {
    let size_bytes = bytes.len() as u64;
    let store = Store::with([("p/A/data.parquet", bytes)]);
    let plan = plan(&["A"], &[("p/A/data.parquet", Some(size_bytes), Content::Own(0))]);
    let outcome = block_on(read(&plan, &store))?;
    Ok(outcome.series[0].observations.clone())
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}
