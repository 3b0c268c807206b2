//! An expression and the series it refers to in, one series out.
//!
//! The only step that computes, and pure: no storage, no clock, no waiting. What every operator does, and why, is in
//! `docs/expressions.md`; a null is a NaN here (see [`crate::series`]), so arithmetic carries it by itself.

use std::collections::BTreeMap;

use crate::expression::Expr;
use crate::ids::SeriesCode;
use crate::series::{self, Series};

mod program;

mod align;
mod arithmetic;
mod calendar;
mod compensated;
mod composite;
mod ema;
mod window;

pub use calendar::Calendar;

/// Why an expression has no value.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The expression refers to a series that was not read.
    #[error("no series {series_code} among the series read")]
    MissingSeries {
        /// The series.
        series_code: SeriesCode,
    },
    /// The time zone database has no such zone.
    #[error("no time zone {name:?} in the time zone database")]
    UnknownTimeZone {
        /// The name asked for.
        name: String,
        /// What the database says.
        source: jiff::Error,
    },
    /// An operator made something that is not a series: a bug.
    #[error("the result of an operator is not a series")]
    NotASeries(#[from] series::Error),
}

/// The value of an expression.
///
/// `series` are taken by value: each is freed after its last use. Equal sub-expressions are evaluated once. The result
/// shares its operand's timeline wherever the operator keeps it. Linear in the number of observations for every
/// operator but `composite`, which also takes the logarithm of the number of operands that differ in their times.
///
/// # Errors
/// When `series` lacks one that the expression refers to.
pub fn evaluate(expr: &Expr, series: BTreeMap<SeriesCode, Series>, calendar: &Calendar) -> Result<Series, Error> {
    program::Program::compile(expr).run(series, calendar, |_| ())
}
