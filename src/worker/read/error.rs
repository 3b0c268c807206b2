//! What can go wrong while reading: the object, the place in it, and what was found there.

use parquet::errors::ParquetError;

use super::thrift::Malformed;
use crate::ids::{DatasetId, SeriesCode};
use crate::storage;

/// A run's input could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store did not give the object.
    #[error("{source}")]
    Storage {
        /// The object's key.
        key: String,
        /// What the store said; it names the key.
        source: storage::Error,
    },
    /// The object was replaced between two requests for parts of it.
    #[error("{key}: changed while it was read")]
    Changed {
        /// The object's key.
        key: String,
    },
    /// The object is no Parquet file that can be read.
    #[error("{key}: {problem}")]
    Unreadable {
        /// The object's key.
        key: String,
        /// What is wrong, and where.
        #[source]
        problem: Box<Problem>,
    },
    /// No object has the series.
    #[error("no series {series_code} in dataset {dataset_id}")]
    NoObservations {
        /// The series.
        series_code: SeriesCode,
        /// Its dataset.
        dataset_id: DatasetId,
    },
    /// The plan names a series that it does not list.
    #[error("{key}: planned for series number {index}, but the plan has {series_count} series")]
    Plan {
        /// The object's key.
        key: String,
        /// The number that names no series.
        index: usize,
        /// The number of series in the plan.
        series_count: usize,
    },
}

impl Error {
    /// Whether another attempt may succeed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Storage { source, .. } => source.is_transient(),
            Self::Changed { .. } => true,
            Self::Unreadable { .. } | Self::NoObservations { .. } | Self::Plan { .. } => false,
        }
    }

    pub(super) fn unreadable(key: &crate::keys::Key, problem: Problem) -> Self {
        Self::Unreadable { key: key.to_string(), problem: Box::new(problem) }
    }
}

/// Where in a file: a column of a row group.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column} in row group {row_group}")]
pub struct Place {
    /// The column's name.
    pub column: String,
    /// The row group's index in the file.
    pub row_group: usize,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// Too few bytes for the smallest Parquet file.
    #[error("{size_bytes} bytes are no Parquet file")]
    TooShort {
        /// The object's size.
        size_bytes: u64,
    },
    /// The first or last four bytes are not `PAR1`.
    #[error("not a Parquet file, or cut off: it does not begin and end with PAR1")]
    Magic,
    /// The footer or a needed column is encrypted.
    #[error("{what} is encrypted")]
    Encrypted {
        /// The footer, or a column.
        what: String,
    },
    /// The footer is longer than the file, or than allowed.
    #[error("the footer claims {claimed_bytes} bytes, at most {allowed_bytes} are possible")]
    FooterLength {
        /// What the file says.
        claimed_bytes: u64,
        /// The file's size, or the limit.
        allowed_bytes: u64,
    },
    /// The footer's bytes are malformed.
    #[error("the footer is malformed: {source}")]
    Footer {
        /// In what way.
        source: Malformed,
    },
    /// The footer reads well but contradicts itself.
    #[error("the footer is malformed: {reason}")]
    FooterContent {
        /// What it says.
        reason: String,
    },
    /// A column is missing.
    #[error("no column {column}")]
    NoColumn {
        /// Its name.
        column: &'static str,
    },
    /// A column has a type that does not fit.
    #[error("column {column} has type {found}, expected {expected}")]
    ColumnType {
        /// Its name.
        column: String,
        /// The type it has.
        found: String,
        /// What was expected, in words.
        expected: &'static str,
    },
    /// The metadata of a column chunk cannot be true.
    #[error("{place}: {reason}")]
    Chunk {
        /// Where.
        place: Place,
        /// What it claims.
        reason: String,
    },
    /// A page header's bytes are malformed.
    #[error("{place}: a page header is malformed: {source}")]
    PageHeader {
        /// Where.
        place: Place,
        /// In what way.
        source: Malformed,
    },
    /// A page claims what cannot be, or more than is allowed.
    #[error("{place}: a page {reason}")]
    Page {
        /// Where.
        place: Place,
        /// What it claims.
        reason: String,
    },
    /// The values of a page cannot be decoded.
    #[error("{place}: {source}")]
    Decode {
        /// Where.
        place: Place,
        /// What the decoder said.
        source: ParquetError,
    },
    /// The decoder gave up without an error of its own.
    #[error("the decoder panicked")]
    DecoderPanicked,
    /// An observation has no time.
    #[error("obs_time in row {row} is null")]
    NullTime {
        /// The row's index in the file.
        row: u64,
    },
    /// A time cannot be told in nanoseconds of 64 bits.
    #[error("obs_time in row {row} is outside the years 1677 to 2262")]
    TimeRange {
        /// The row's index in the file.
        row: u64,
    },
    /// A part of the file that has to be in memory at once is too large.
    #[error("{what} takes {size_bytes} bytes, at most {limit_bytes} are allowed")]
    TooLarge {
        /// The part.
        what: String,
        /// Its size.
        size_bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// The run reads more observations than allowed.
    #[error("the run reads more than {limit} observations")]
    TooManyObservations {
        /// The limit.
        limit: u64,
    },
    /// The run decodes more rows than allowed, those of other series included.
    #[error("the run decodes more than {limit} rows")]
    TooManyRows {
        /// The limit.
        limit: u64,
    },
    /// The store gave fewer bytes than the object has.
    #[error("bytes {start} to {end} are missing")]
    MissingBytes {
        /// The first.
        start: u64,
        /// One after the last.
        end: u64,
    },
    /// The run was given up while the file was being decoded.
    #[error("reading was given up")]
    Abandoned,
}
