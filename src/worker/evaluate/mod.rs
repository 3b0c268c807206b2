//! An expression and the series it refers to in, whole or in slices; one series out, in as many slices.
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

/// An expression being evaluated over series that come in slices.
///
/// Equal sub-expressions are evaluated once. The result shares its operand's timeline wherever the operator keeps it.
/// Linear in the number of observations; only `composite` also takes the logarithm of the number of operands that differ
/// in their times, where these lie on no grid. Between two slices nothing is held but the windows of the operators.
#[derive(Debug)]
pub struct Evaluator {
    running: program::Running,
}

impl Evaluator {
    /// Before the first slice.
    #[must_use]
    pub fn new(expr: &Expr, calendar: &Calendar) -> Self {
        Self { running: program::Running::new(program::Program::compile(expr), calendar) }
    }

    /// The codes of the series that the expression refers to, each once.
    pub fn inputs(&self) -> impl Iterator<Item = &SeriesCode> {
        self.running.inputs()
    }

    /// The next slice of the value.
    ///
    /// There is a time before which `slices` hold all observations of every series that were in no slice yet, and none
    /// from it on; the result is of the same times. How a series is cut into slices makes no difference to any bit of
    /// the value. Slices are taken by value: each is freed after its last use.
    ///
    /// # Errors
    /// When `slices` lacks a series that the expression refers to.
    pub fn next(&mut self, slices: BTreeMap<SeriesCode, Series>) -> Result<Series, Error> {
        self.running.next(slices, |_| ())
    }
}

/// The value of an expression over whole series: one slice of everything.
///
/// # Errors
/// When `series` lacks one that the expression refers to.
pub fn evaluate(expr: &Expr, series: BTreeMap<SeriesCode, Series>, calendar: &Calendar) -> Result<Series, Error> {
    Evaluator::new(expr, calendar).next(series)
}
