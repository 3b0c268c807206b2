//! What can be wrong with an expression, and where.

use crate::ids;

/// What is wrong with an expression, and where: a JSON path from the root `$`.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{problem} at {path}")]
pub struct Error {
    /// JSON path of the offending node or field.
    pub path: String,
    /// What is wrong there.
    pub problem: Problem,
}

/// What can be wrong with an expression.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Problem {
    /// Not a JSON object.
    #[error("expected an object, found {found}")]
    NotAnObject {
        /// The JSON type found.
        found: &'static str,
    },
    /// Neither a reference nor one of the three shapes.
    #[error("neither a series reference nor left+right, series+window or operands")]
    UnknownShape,
    /// More than one shape at once.
    #[error("ambiguous: the fields of {first} and of {second}")]
    AmbiguousShape {
        /// One shape.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// A required field is missing.
    #[error("missing field {field}")]
    Missing {
        /// Its name.
        field: &'static str,
    },
    /// No such operator in this kind.
    #[error("unknown op {op:?} for {kind}, expected one of {expected}")]
    UnknownOp {
        /// What the request says, cut to 64 characters.
        op: String,
        /// The kind of the node.
        kind: &'static str,
        /// The operators that it has.
        expected: &'static str,
    },
    /// A field has the wrong JSON type.
    #[error("{field} must be {expected}, found {found}")]
    WrongType {
        /// The field.
        field: &'static str,
        /// What it must be.
        expected: &'static str,
        /// The JSON type found.
        found: &'static str,
    },
    /// The series code cannot be one.
    #[error(transparent)]
    SeriesCode(#[from] ids::Error),
    /// `series_code` and `seriesCode` disagree.
    #[error("series_code and seriesCode name two different series")]
    TwoSeriesCodes,
    /// `scale` is not finite.
    #[error("scale must be finite")]
    ScaleNotFinite,
    /// The window is no integer of at least 1.
    #[error("window must be an integer of at least 1, found {found}")]
    Window {
        /// The JSON text found, cut to 64 characters.
        found: String,
    },
    /// Over a limit.
    #[error("{what} exceeds the limit of {limit}")]
    TooMuch {
        /// Which limit.
        what: &'static str,
        /// Its value.
        limit: u64,
    },
    /// Fewer than two operands.
    #[error("a composite needs at least 2 operands, found {found}")]
    TooFewOperands {
        /// How many there are.
        found: usize,
    },
    /// `nulls` is neither `skip` nor `propagate`.
    #[error("nulls must be \"skip\" or \"propagate\"")]
    NullPolicy,
    /// The request's `expressionType` says otherwise.
    #[error("expressionType says {declared}, the expression is a {found}")]
    ContradictsType {
        /// What the request says.
        declared: &'static str,
        /// What the shape says.
        found: &'static str,
    },
}
