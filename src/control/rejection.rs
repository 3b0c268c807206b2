//! Why the control plane did not do what it was asked: what the asker has to mend, or a database that failed. Pure.

use crate::expression;
use crate::ids;
use crate::ids::{DatasetId, MetricCode, RunId, SeriesCode};
use crate::keys;
use crate::request::Unreadable;

/// Why a message or a call had no effect.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is wrong, and will be as wrong tomorrow.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
}

/// What becomes of a message that had no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// It comes again.
    Retry,
    /// It goes to the dead-letter queue, with the reason.
    DeadLetter,
}

impl Error {
    /// What becomes of the message.
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Rejected(_) => Disposition::DeadLetter,
            Self::Database(error) => match sql_class(error).as_deref() {
                // A value that no column takes: it is in the message, and stays there.
                Some("22") => Disposition::DeadLetter,
                Some(_) | None => Disposition::Retry,
            },
        }
    }

    /// Whether the same transaction may pass at once: it met another one.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        match self {
            Self::Rejected(_) => false,
            Self::Database(error) => sql_class(error).as_deref() == Some("40"),
        }
    }
}

/// The class of an SQLSTATE: its first two characters.
fn sql_class(error: &sqlx::Error) -> Option<String> {
    let state = error.as_database_error()?.code()?;
    state.get(..2).map(str::to_owned)
}

/// What is wrong with a message or a call.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Rejection {
    /// A body that is no event.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// An event that nobody handles.
    #[error(
        "type is {found:?}, expected one of projection_update, metric_run_started, metric_run_heartbeat, metric_run_completed"
    )]
    UnknownEvent {
        /// What it says, cut to 64 characters.
        found: String,
    },
    /// A field is missing.
    #[error("missing field {field}")]
    Missing {
        /// Which.
        field: &'static str,
    },
    /// A field has another type, or a value that it cannot have.
    #[error("{field} must be {expected}")]
    Malformed {
        /// Which.
        field: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// An identifier is none.
    #[error(transparent)]
    Id(#[from] ids::Error),
    /// A path cannot be used.
    #[error("{field}: {source}")]
    Path {
        /// The field.
        field: &'static str,
        /// Why.
        source: keys::Error,
    },
    /// An update of data in another bucket.
    #[error("bucket {found:?} is not this control plane's bucket {own:?}")]
    ForeignBucket {
        /// What it says, cut to 64 characters.
        found: String,
        /// The bucket.
        own: String,
    },
    /// Nobody registered the dataset.
    #[error("no dataset {dataset_id}")]
    UnknownDataset {
        /// The dataset.
        dataset_id: DatasetId,
    },
    /// Nobody registered the metric.
    #[error("no metric {metric_code}")]
    UnknownMetric {
        /// The metric.
        metric_code: MetricCode,
    },
    /// There is no such run.
    #[error("no run {run_id}")]
    UnknownRun {
        /// The run.
        run_id: RunId,
    },
    /// There is no such run of that metric.
    #[error("no run {run_id} of metric {metric_code}")]
    UnknownRunOfMetric {
        /// The run.
        run_id: RunId,
        /// The metric.
        metric_code: MetricCode,
    },
    /// Nobody registered these series.
    #[error("no series {}", series_codes.join(", "))]
    UnknownSeries {
        /// The series.
        series_codes: Vec<String>,
    },
    /// No dataset has these series, so that there is nothing to read them from.
    #[error("metric {metric_code} needs series that no dataset has")]
    SeriesWithoutDataset {
        /// The metric.
        metric_code: MetricCode,
    },
    /// A series belongs to one dataset.
    #[error("series {series_code} belongs to dataset {dataset_id} already")]
    SeriesOfOtherDataset {
        /// The series.
        series_code: SeriesCode,
        /// Its dataset.
        dataset_id: String,
    },
    /// No such kind of expression.
    #[error("expression_type is {found:?}, expected series_math, window_op or composite")]
    UnknownExpressionType {
        /// What it says, cut to 64 characters.
        found: String,
    },
    /// The API serves something else under this code.
    #[error("a metric cannot be called {metric_code}: the api serves something else at /api/v1/metrics/{metric_code}")]
    ReservedCode {
        /// The code.
        metric_code: MetricCode,
    },
    /// The worker would refuse the expression.
    #[error("expression_json: {0}")]
    Expression(#[from] expression::Error),
    /// The run has nothing to read.
    #[error("metric {metric_code} cannot run: no update was ever recorded of {}", dataset_ids.join(", "))]
    NoUpdate {
        /// The metric.
        metric_code: MetricCode,
        /// The datasets.
        dataset_ids: Vec<String>,
    },
    /// Nothing is left to cancel.
    #[error("run {run_id} is over: {status}")]
    RunIsOver {
        /// The run.
        run_id: RunId,
        /// How it ended.
        status: String,
    },
}
