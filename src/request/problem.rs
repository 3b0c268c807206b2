//! What can be wrong with a request: a body that is none, or a run whose work cannot be told.

use super::REQUEST_TYPE;
use crate::event::ErrorCode;
use crate::expression;
use crate::ids::{self, DatasetId, SeriesCode};
use crate::keys;

/// Why a body is no request at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// More bytes than allowed.
    #[error("body has {length_bytes} bytes, at most {limit_bytes} are allowed")]
    TooLarge {
        /// Its length.
        length_bytes: usize,
        /// The limit.
        limit_bytes: usize,
    },
    /// Not the JSON of an event.
    #[error("{what} is not the JSON object of an event: {reason}")]
    NotAnEvent {
        /// The body, or the message that it wraps.
        what: &'static str,
        /// What the parser says.
        reason: String,
    },
    /// An event of another type.
    #[error("type is {found}, expected {REQUEST_TYPE}")]
    OtherType {
        /// The type found.
        found: String,
    },
    /// An identifier is missing.
    #[error("missing field {field}")]
    Missing {
        /// Which.
        field: &'static str,
    },
    /// An identifier is no text.
    #[error("{field} must be a string")]
    NotText {
        /// Which.
        field: &'static str,
    },
    /// An identifier is not valid.
    #[error(transparent)]
    Id(#[from] ids::Error),
    /// The metric's code leaves no place for its output.
    #[error("no place for the output of metricCode: {0}")]
    NoPlace(#[from] keys::Error),
}

/// What is wrong with a request whose run is known.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Invalid {
    /// A required field is missing.
    #[error("missing field {field}")]
    Missing {
        /// Its JSON path.
        field: String,
    },
    /// A field has the wrong type.
    #[error("{field} must be {expected}")]
    WrongType {
        /// Its JSON path.
        field: String,
        /// What it must be.
        expected: &'static str,
    },
    /// A field is not readable JSON.
    #[error("{field} cannot be read: {reason}")]
    NotJson {
        /// The field.
        field: &'static str,
        /// What the parser says.
        reason: String,
    },
    /// An identifier is not valid.
    #[error("{field}: {source}")]
    Id {
        /// Its JSON path.
        field: String,
        /// Why.
        source: ids::Error,
    },
    /// A path is not valid, or not allowed.
    #[error("{field}: {source}")]
    Path {
        /// Its JSON path.
        field: String,
        /// Why.
        source: keys::Error,
    },
    /// An input names a dataset that the catalog lacks.
    #[error("dataset {dataset_id} of inputs is not in catalog.datasets")]
    DatasetNotInCatalog {
        /// The dataset.
        dataset_id: DatasetId,
    },
    /// Two datasets claim one series.
    #[error("series {series_code} is claimed by two datasets, {first} and {second}")]
    SeriesOfTwoDatasets {
        /// The series.
        series_code: SeriesCode,
        /// One dataset.
        first: DatasetId,
        /// The other.
        second: DatasetId,
    },
    /// No such kind of expression.
    #[error("expressionType is {found:?}, expected series_math, window_op or composite")]
    UnknownExpressionType {
        /// What the request says, cut to 64 characters.
        found: String,
    },
    /// The expression is malformed.
    #[error("expressionJson: {0}")]
    Expression(#[from] expression::Error),
    /// The expression is no JSON that can be read.
    #[error("expressionJson cannot be read: {reason}")]
    ExpressionNotJson {
        /// What the parser says.
        reason: String,
    },
    /// The expression refers to a series that no input provides.
    #[error("series {series_code} of the expression is not among the inputs")]
    SeriesNotInInputs {
        /// The series.
        series_code: SeriesCode,
    },
}

impl Invalid {
    /// The code on the wire.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Missing { .. }
            | Self::WrongType { .. }
            | Self::NotJson { .. }
            | Self::Id { .. }
            | Self::Path { .. }
            | Self::DatasetNotInCatalog { .. }
            | Self::SeriesOfTwoDatasets { .. } => ErrorCode::ConfigError,
            Self::UnknownExpressionType { .. }
            | Self::Expression(_)
            | Self::ExpressionNotJson { .. }
            | Self::SeriesNotInInputs { .. } => ErrorCode::ExpressionEvalError,
        }
    }
}
