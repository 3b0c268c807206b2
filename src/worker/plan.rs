//! What a run reads: a request, its datasets' manifests and listings in; the objects to fetch out. Pure.

use crate::ids::{DatasetId, SeriesCode};
use crate::keys::Key;
use crate::storage::ETag;

/// The objects that a run reads.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReadPlan {
    /// The series that the expression refers to, each once.
    pub series: Vec<PlannedSeries>,
    /// The objects, in path order: of two observations with the same time, the one from the later object wins.
    pub objects: Vec<PlannedObject>,
}

/// A series to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedSeries {
    /// The dataset that has it.
    pub dataset_id: DatasetId,
    /// Its code.
    pub series_code: SeriesCode,
}

/// An object to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedObject {
    /// Its key.
    pub key: Key,
    /// Its size, where a listing told.
    pub size_bytes: Option<u64>,
    /// Its tag, where a listing told.
    pub etag: Option<ETag>,
    /// Whose observations it holds.
    pub content: Content,
}

/// Whose observations an object holds. Numbers are indexes into [`ReadPlan::series`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// It lies in this series' own folder. Rows of another series are left out; without a series column all rows count.
    Own(usize),
    /// It holds many series, these among them; its rows are told apart by the series column.
    Shared(Vec<usize>),
}
