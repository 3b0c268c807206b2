//! Reads what a run needs: a [`ReadPlan`] comes in; a [`Series`] for each that is planned goes out.
//!
//! Objects are fetched and decoded side by side and put together in path order, so that of two observations with the
//! same time the one read last wins. Files are untrusted: everything that they claim is checked before memory is
//! taken for it. Footers, page headers and indexes are therefore read here, and pages decompressed here; the
//! decoding of the values in a page is the parquet library's.
//!
//! Top to bottom: an object is opened (`fetch`), its footer read (`footer`, `schema`), what cannot matter left
//! out (`prune`), pages let through (`page_guard`, `page_header`,
//! `codec`, `delta`) and decoded (`decode`, `columns`).

mod error;
mod fetch;
mod file;
mod footer;
mod schema;
mod thrift;
mod prune;
mod page_guard;
mod page_header;
mod codec;
mod delta;
mod decode;
mod columns;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use futures::FutureExt;
use futures::stream::{self, StreamExt, TryStreamExt};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

pub use error::{Error, Place, Problem};
pub use thrift::Malformed;

use self::decode::{Budget, Rows, Wanted};
use self::fetch::OpenObject;
use crate::series::{Series, SeriesBuilder};
use crate::storage::{ETag, ObjectStorage};
use crate::telemetry::STEPS;
use crate::worker::plan::{Content, PlannedObject, PlannedSeries, ReadPlan};

/// Objects too large to be fetched whole that are read at a time: each has two row groups in memory.
const LARGE_OBJECTS_AT_A_TIME: usize = 2;

/// Long decodes at a time: each has a page of every column in memory, however small its file is.
const LONG_DECODES_AT_A_TIME: usize = 2;

/// How much is read at a time, and how much at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadSettings {
    /// Objects that are fetched and decoded side by side.
    pub concurrency: NonZeroUsize,
    /// The largest page, uncompressed.
    pub page_bytes_limit: u64,
    /// An object of at most so many bytes is fetched by one request.
    pub whole_object_bytes: u64,
    /// The most observations of all series of a run together, duplicates included: each takes 16 bytes.
    pub observation_limit: u64,
}

impl Default for ReadSettings {
    fn default() -> Self {
        Self {
            concurrency: NonZeroUsize::MIN.saturating_add(31),
            page_bytes_limit: 64 << 20,
            whole_object_bytes: 1 << 20,
            observation_limit: 20_000_000,
        }
    }
}

/// A series as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesRead {
    /// Which series it is.
    pub series: PlannedSeries,
    /// Its observations.
    pub observations: Series,
    /// How many objects were read for it.
    pub object_count: u64,
    /// SHA-256, in hex, over key and tag of each of these objects in path order, each text behind its length.
    pub objects_digest: String,
    /// Observations that one read later replaced.
    pub dropped_duplicates: u64,
    /// Observations that are earlier than the one read before them.
    pub out_of_order: u64,
    /// Rows in the series' own folder that belong to other series.
    pub foreign_rows: u64,
}

/// All that was read for a run.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadOutcome {
    /// The series, in the order of the plan.
    pub series: Vec<SeriesRead>,
    /// Bytes that the store sent.
    pub read_bytes: u64,
    /// Requests that the store answered or refused.
    pub request_count: u64,
}

/// Reads every series of the plan. `progress` is told the fraction of objects done, from 0 to 1.
///
/// # Errors
/// When an object is missing or unreadable, a limit is passed, or a series has no observation where one must be;
/// [`Error::is_transient`] tells whether to try again.
#[tracing::instrument(target = STEPS, level = "debug", skip_all, fields(objects = plan.objects.len()))]
pub async fn read(
    plan: &ReadPlan,
    storage: &dyn ObjectStorage,
    settings: &ReadSettings,
    progress: &(dyn Fn(f64) + Sync),
) -> Result<ReadOutcome, Error> {
    let source = fetch::Source { storage, read_bytes: AtomicU64::new(0), request_count: AtomicU64::new(0) };
    let run = Run::new(settings);
    let mut collected: Vec<Collected> = plan.series.iter().map(|_| Collected::default()).collect();
    let done_count = AtomicUsize::new(0);
    let reads = (0..plan.objects.len()).map(|index| {
        let (run, source, done_count) = (&run, &source, &done_count);
        // Each is made when its turn comes: a manifest may list a million objects.
        async move {
            let object = &plan.objects[index];
            let read = read_object(plan, object, source, settings, run).await?;
            let done = done_count.fetch_add(1, Ordering::Relaxed) + 1;
            progress(done as f64 / plan.objects.len() as f64);
            Ok::<_, Error>((object, read))
        }
        .boxed()
    });
    let mut in_path_order = stream::iter(reads).buffered(settings.concurrency.get());
    while let Some((object, read)) = in_path_order.try_next().await? {
        collect(object, read, &mut collected);
    }
    drop(in_path_order);
    let series = plan.series.iter().zip(collected).map(|(series, collected)| collected.finish(series));
    Ok(ReadOutcome {
        series: series.collect::<Result<_, _>>()?,
        read_bytes: source.read_bytes.into_inner(),
        request_count: source.request_count.into_inner(),
    })
}

/// What the objects of a run share.
struct Run {
    budget: Arc<Budget>,
    large_objects: Semaphore,
}

impl Run {
    fn new(settings: &ReadSettings) -> Self {
        let budget = Budget {
            page_bytes_limit: settings.page_bytes_limit,
            observation_limit: settings.observation_limit,
            observation_count: AtomicU64::new(0),
            row_count: AtomicU64::new(0),
            is_abandoned: AtomicBool::new(false),
            long_decodes: Semaphore::new(LONG_DECODES_AT_A_TIME),
        };
        Self { budget: Arc::new(budget), large_objects: Semaphore::new(LARGE_OBJECTS_AT_A_TIME) }
    }
}

/// A run that was cancelled, or failed elsewhere, stops what is still being decoded for it.
impl Drop for Run {
    fn drop(&mut self) {
        self.budget.is_abandoned.store(true, Ordering::Relaxed);
    }
}

/// What was read of one object.
struct ObjectRead {
    etag: ETag,
    rows: Rows,
}

async fn read_object(
    plan: &ReadPlan,
    object: &PlannedObject,
    source: &fetch::Source<'_>,
    settings: &ReadSettings,
    run: &Run,
) -> Result<ObjectRead, Error> {
    let wanted = Arc::new(wanted(plan, object)?);
    let opened = OpenObject::open(source, &object.key, object.size_bytes, settings.whole_object_bytes).await?;
    // A semaphore that is never closed always gives its permit.
    let _permit = if opened.is_whole() { None } else { run.large_objects.acquire().await.ok() };
    let rows = file::read_file(&object.key, &opened, wanted, Arc::clone(&run.budget)).await?;
    Ok(ObjectRead { etag: opened.etag, rows })
}

/// The numbers of the series that an object holds.
fn series_of(content: &Content) -> &[usize] {
    match content {
        Content::Own(index) => std::slice::from_ref(index),
        Content::Shared(indexes) => indexes,
    }
}

fn wanted(plan: &ReadPlan, object: &PlannedObject) -> Result<Wanted, Error> {
    let code_of = |&index: &usize| match plan.series.get(index) {
        Some(series) => Ok(series.series_code.clone()),
        None => Err(Error::Plan { key: object.key.to_string(), index, series_count: plan.series.len() }),
    };
    let codes = series_of(&object.content).iter().map(code_of).collect::<Result<_, _>>()?;
    Ok(Wanted { codes, is_own: matches!(object.content, Content::Own(_)) })
}

/// What was read of one series so far.
#[derive(Default)]
struct Collected {
    observations: SeriesBuilder,
    object_count: u64,
    objects_digest: Sha256,
    foreign_rows: u64,
    has_own_object: bool,
}

/// Adds an object to the series that it holds.
fn collect(object: &PlannedObject, read: ObjectRead, collected: &mut [Collected]) {
    let is_own = matches!(object.content, Content::Own(_));
    for (&index, observations) in series_of(&object.content).iter().zip(read.rows.builders) {
        let Some(collected) = collected.get_mut(index) else { continue };
        collected.observations.append(observations);
        collected.object_count += 1;
        collected.has_own_object |= is_own;
        let foreign_rows = if is_own { read.rows.foreign_rows } else { 0 };
        collected.foreign_rows = collected.foreign_rows.saturating_add(foreign_rows);
        for text in [object.key.as_str(), &read.etag.0] {
            collected.objects_digest.update((text.len() as u64).to_be_bytes());
            collected.objects_digest.update(text.as_bytes());
        }
    }
}

impl Collected {
    fn finish(self, series: &PlannedSeries) -> Result<SeriesRead, Error> {
        if self.observations.is_empty() && !self.has_own_object {
            let PlannedSeries { series_code, dataset_id } = series.clone();
            return Err(Error::NoObservations { series_code, dataset_id });
        }
        let out_of_order = self.observations.descents() as u64;
        let (observations, dropped_count) = self.observations.finish();
        Ok(SeriesRead {
            series: series.clone(),
            observations,
            object_count: self.object_count,
            objects_digest: hex::encode(self.objects_digest.finalize()),
            dropped_duplicates: dropped_count as u64,
            out_of_order,
            foreign_rows: self.foreign_rows,
        })
    }
}
