//! Reads what a run needs: a [`ReadPlan`] comes in; a [`Series`] for each that is planned goes out, slice by slice.
//!
//! Objects are fetched and decoded side by side and put together in path order, so that of two observations with the
//! same time the one read last wins. Files are untrusted: everything that they claim is checked before memory is
//! taken for it. Footers, page headers and indexes are therefore read here, and pages decompressed here. Values of eight
//! bytes, which nearly all are, are decoded here as well; those of other types by the parquet library.
//!
//! Top to bottom: the plan is read in slices (`slices`, `lane`); an object is opened (`fetch`), its footer read (`footer`,
//! `schema`), what cannot matter left out (`prune`), and read whole (`file`) or in parts (`long_file`, `feed`); pages are
//! let through (`page_guard`, `page_header`, `codec`, `delta`) and decoded (`decode`, `columns`, `words`, `packed`).

mod error;
mod slices;
mod small;
mod lane;
mod fetch;
mod file;
mod long_file;
mod feed;
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
mod words;
mod packed;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Semaphore;

pub use error::{Error, Place, Problem};
pub use slices::{Cut, Next, Slices};
pub use thrift::Malformed;

use self::decode::{Budget, Wanted};
use crate::series::Series;
use crate::storage::ObjectStorage;
use crate::worker::computing::Computing;
use crate::worker::plan::{Content, PlannedObject, PlannedSeries, ReadPlan};

/// Objects too large to be fetched whole that are read at a time: each has two row groups in memory.
const LARGE_OBJECTS_AT_A_TIME: usize = 2;

/// Long decodes at a time: each has a page of every column in memory, however small its file is.
const LONG_DECODES_AT_A_TIME: usize = 2;

/// A slice of so many observations takes some megabytes in each form that it goes through, and some milliseconds.
pub const SLICE_OBSERVATIONS: usize = 64 << 10;

/// How much is read at a time, and how much at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadSettings {
    /// Objects that are fetched and decoded side by side.
    pub concurrency: NonZeroUsize,
    /// The largest page, uncompressed.
    pub page_bytes_limit: u64,
    /// An object of at most so many bytes is fetched by one request.
    pub whole_object_bytes: u64,
    /// The most observations of all series of a run that are held at a time, duplicates included: each takes 16 bytes.
    pub observation_limit: u64,
    /// With how many observations of all series together a slice is given out; what is less is one slice. An object of
    /// more is given out in parts.
    pub slice_observations: usize,
    /// The most of a column that is fetched at a time of an object that is given out in parts.
    pub piece_bytes: u64,
    /// Where long decodes run.
    pub computing: Computing,
}

impl Default for ReadSettings {
    fn default() -> Self {
        Self {
            concurrency: NonZeroUsize::MIN.saturating_add(31),
            page_bytes_limit: 64 << 20,
            whole_object_bytes: 1 << 20,
            observation_limit: 20_000_000,
            slice_observations: SLICE_OBSERVATIONS,
            piece_bytes: 2 << 20,
            computing: Computing::OnThreads,
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

/// What is known of a series when all of it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesFacts {
    /// Which series it is.
    pub series: PlannedSeries,
    /// How many observations it has.
    pub observation_count: u64,
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

/// What is known of all that was read for a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// The series, in the order of the plan.
    pub series: Vec<SeriesFacts>,
    /// Bytes that the store sent.
    pub read_bytes: u64,
    /// Requests that the store answered or refused.
    pub request_count: u64,
}

/// Reads every series of the plan whole. `progress` is told the fraction of objects done, from 0 to 1.
///
/// # Errors
/// When an object is missing or unreadable, a limit is passed, or a series has no observation where one must be;
/// [`Error::is_transient`] tells whether to try again.
pub async fn read(
    plan: &ReadPlan,
    storage: &dyn ObjectStorage,
    settings: &ReadSettings,
    progress: &(dyn Fn(f64) + Sync),
) -> Result<ReadOutcome, Error> {
    let mut slices = Slices::new(plan, storage, settings, Cut::Whole, progress);
    let whole = match slices.next().await? {
        Next::Slice(whole) => whole,
        Next::End | Next::OutOfOrder => Vec::new(),
    };
    let Facts { series, read_bytes, request_count } = slices.finish()?;
    let read = |(facts, observations): (SeriesFacts, Series)| SeriesRead {
        series: facts.series,
        observations,
        object_count: facts.object_count,
        objects_digest: facts.objects_digest,
        dropped_duplicates: facts.dropped_duplicates,
        out_of_order: facts.out_of_order,
        foreign_rows: facts.foreign_rows,
    };
    Ok(ReadOutcome { series: series.into_iter().zip(whole).map(read).collect(), read_bytes, request_count })
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
            computing: settings.computing,
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
