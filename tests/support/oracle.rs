//! The rules of expressions once more, slow and obvious: an expression and observations by time in, values by time out,
//! each with how far a correct evaluator may be from it.
//!
//! Nothing here is shared with the evaluator but the parsed expression. Every row is computed from nothing: windows are
//! collected and summed exactly, a lag looks through all observations.

use std::collections::{BTreeMap, BTreeSet};

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use metrics_engine::expression::{CompositeOp, Expr, MathOp, NullPolicy, WindowOp};

/// What an operation that rounds may be off by, relative to its result: four units in the last place.
const ROUNDING: f64 = 4.0 * f64::EPSILON;

/// A value at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    /// The value; none where it is null.
    pub(crate) value: Option<f64>,
    /// How far a correct evaluator may be from it, by ordinary propagation of rounding errors. It is 0 where every
    /// operation so far was a single IEEE 754 one on the very same operands. It is infinite where such an error
    /// decides everything, as in a ratio by a difference that may or may not be zero: there is nothing to compare there.
    pub(crate) error: f64,
}

/// Values by time.
pub(crate) type Column = BTreeMap<i64, Expected>;

/// Observations by series code, in the order they are read.
pub(crate) type Observations = BTreeMap<String, Vec<(i64, Option<f64>)>>;

/// The value of an expression.
pub(crate) fn evaluate(expr: &Expr, observations: &Observations, zone: &TimeZone) -> Column {
    match expr {
        Expr::Series(code) => {
            observations[code.as_str()].iter().map(|&(time, value)| (time, Expected { value, error: 0.0 })).collect()
        }
        Expr::Math { op, left, right, scale } => {
            let (left, right) = (evaluate(left, observations, zone), evaluate(right, observations, zone));
            let times: BTreeSet<i64> = left.keys().chain(right.keys()).copied().collect();
            times.into_iter().map(|time| (time, math(*op, at(&left, time), at(&right, time), *scale))).collect()
        }
        Expr::Window { op, series, window } => {
            let operand = evaluate(series, observations, zone);
            let rows: Vec<Expected> = operand.values().copied().collect();
            let length = window.get() as usize;
            let value_at = |(row, &time): (usize, &i64)| {
                let value = match op {
                    WindowOp::Lag => lag(&operand, time, i64::from(window.get()), zone),
                    WindowOp::Ema => ema(&rows[..=row], length),
                    _ if row + 1 < length => NULL,
                    _ => window_of(*op, &rows[row + 1 - length..=row]),
                };
                (time, value)
            };
            operand.keys().enumerate().map(value_at).collect()
        }
        Expr::Composite { op, operands, nulls } => {
            let operands: Vec<Column> = operands.iter().map(|operand| evaluate(operand, observations, zone)).collect();
            let times: BTreeSet<i64> = operands.iter().flat_map(BTreeMap::keys).copied().collect();
            let value_at = |time| {
                let row: Vec<Expected> = operands.iter().map(|operand| at(operand, time)).collect();
                (time, composite(*op, &row, *nulls))
            };
            times.into_iter().map(value_at).collect()
        }
    }
}

const NULL: Expected = Expected { value: None, error: 0.0 };
const NOT_COMPARABLE: Expected = Expected { value: None, error: f64::INFINITY };

fn at(column: &Column, time: i64) -> Expected {
    column.get(&time).copied().unwrap_or(NULL)
}

/// A float, which is null where it is NaN.
fn expected(value: f64, error: f64) -> Expected {
    if error.is_nan() || error == f64::INFINITY {
        return NOT_COMPARABLE;
    }
    Expected { value: (!value.is_nan()).then_some(value), error }
}

fn math(op: MathOp, left: Expected, right: Expected, scale: f64) -> Expected {
    if left.error == f64::INFINITY || right.error == f64::INFINITY {
        return NOT_COMPARABLE;
    }
    let (Some(l), Some(r)) = (left.value, right.value) else {
        return NULL;
    };
    let value = match op {
        MathOp::Add => l + r,
        MathOp::Subtract => l - r,
        MathOp::Multiply => l * r,
        MathOp::Ratio => l / r,
    };
    let may_be_zero = |operand: f64, error: f64| error > 0.0 && operand.abs() <= 2.0 * error;
    let error = if !l.is_finite() || !r.is_finite() {
        if may_be_zero(l, left.error) || may_be_zero(r, right.error) { f64::INFINITY } else { 0.0 }
    } else {
        match op {
            MathOp::Add | MathOp::Subtract => left.error + right.error,
            MathOp::Multiply => l.abs() * right.error + r.abs() * left.error + left.error * right.error,
            MathOp::Ratio if may_be_zero(r, right.error) => f64::INFINITY,
            MathOp::Ratio if r == 0.0 && may_be_zero(l, left.error) => f64::INFINITY,
            MathOp::Ratio if r == 0.0 => 0.0,
            MathOp::Ratio => (left.error + value.abs() * right.error) / (r.abs() - right.error),
        }
    };
    // On the very same operands one IEEE 754 operation gives the very same result; else both round in their own way.
    let rounding = if error > 0.0 && value.is_finite() { ROUNDING * value.abs() } else { 0.0 };
    expected(value * scale, (error + rounding) * scale.abs() * (1.0 + ROUNDING))
}

/// The aggregate of a full window.
fn window_of(op: WindowOp, rows: &[Expected]) -> Expected {
    if rows.iter().any(|row| row.error == f64::INFINITY) {
        return NOT_COMPARABLE;
    }
    let finite: Vec<f64> = rows.iter().filter_map(|row| row.value).filter(|value| value.is_finite()).collect();
    if finite.len() < rows.len() {
        return NULL;
    }
    match op {
        WindowOp::Sum => sum(rows, &finite, 1.0),
        WindowOp::Sma => sum(rows, &finite, rows.len() as f64),
        WindowOp::Max => extreme(rows, &finite, f64::max),
        WindowOp::Min => extreme(rows, &finite, f64::min),
        WindowOp::Ema | WindowOp::Lag => unreachable!("not an aggregate of a full window"),
    }
}

fn composite(op: CompositeOp, row: &[Expected], nulls: NullPolicy) -> Expected {
    if row.iter().any(|operand| operand.error == f64::INFINITY) {
        return NOT_COMPARABLE;
    }
    let present: Vec<f64> = row.iter().filter_map(|operand| operand.value).collect();
    if present.is_empty() || (nulls == NullPolicy::Propagate && present.len() < row.len()) {
        return NULL;
    }
    match op {
        CompositeOp::Sum => sum(row, &present, 1.0),
        CompositeOp::Avg => sum(row, &present, present.len() as f64),
        CompositeOp::Max => extreme(row, &present, f64::max),
        CompositeOp::Min => extreme(row, &present, f64::min),
    }
}

fn sum(rows: &[Expected], values: &[f64], divisor: f64) -> Expected {
    let value = exact_sum(values) / divisor;
    if !value.is_finite() {
        return expected(value, 0.0);
    }
    let magnitude: f64 = values.iter().map(|value| value.abs()).sum();
    let error: f64 = rows.iter().map(|row| row.error).sum();
    // A sum that carries its rounding errors holds 106 bits: where more than 50 of them cancel, it may be off by more
    // than its last bits.
    expected(value, error / divisor + ROUNDING * value.abs() + magnitude * f64::EPSILON.powi(2))
}

fn extreme(rows: &[Expected], values: &[f64], pick: fn(f64, f64) -> f64) -> Expected {
    let value = values.iter().copied().reduce(pick).unwrap_or(f64::NAN);
    expected(value, rows.iter().map(|row| row.error).fold(0.0, f64::max))
}

/// The mean at the last of `rows`: weights from how many rows lie between one value and the next.
fn ema(rows: &[Expected], span: usize) -> Expected {
    if rows.iter().any(|row| row.error == f64::INFINITY) {
        return NOT_COMPARABLE;
    }
    let alpha = 2.0 / (span as f64 + 1.0);
    let is_value = |row: &Expected| row.value.is_some_and(f64::is_finite);
    let mut observed = rows.iter().enumerate().filter(|(_, row)| is_value(row));
    let Some((mut last_row, first)) = observed.next() else {
        return NULL;
    };
    let (mut mean, mut error) = (first.value.unwrap_or(f64::NAN), first.error);
    for (row, observation) in observed {
        let value = observation.value.unwrap_or(f64::NAN);
        let weight = (1.0 - alpha).powf((row - last_row) as f64);
        error = (weight * error + alpha * observation.error) / (weight + alpha);
        error += ROUNDING * (weight * mean.abs() + alpha * value.abs()) * (row - last_row) as f64 / (weight + alpha);
        mean = (weight * mean + alpha * value) / (weight + alpha);
        last_row = row;
    }
    expected(mean, error)
}

fn lag(operand: &Column, time: i64, days: i64, zone: &TimeZone) -> Expected {
    let instant = Timestamp::from_nanosecond(i128::from(time)).unwrap();
    let Ok(civil) = zone.to_datetime(instant).checked_sub(Span::new().days(days)) else {
        return NULL;
    };
    let target = zone.to_ambiguous_timestamp(civil).compatible().unwrap().as_nanosecond();
    let mut latest = NULL;
    for (&time, &row) in operand {
        if i128::from(time) <= target {
            latest = row;
        }
    }
    latest
}

/// The sum as if in exact arithmetic, rounded at the end: the partial sums never overlap, so none loses a bit
/// (J. Shewchuk, "Adaptive Precision Floating-Point Arithmetic", 1997).
fn exact_sum(values: &[f64]) -> f64 {
    if values.iter().any(|value| !value.is_finite()) {
        return values.iter().sum();
    }
    let mut partials: Vec<f64> = Vec::new();
    for &value in values {
        let mut carried = value;
        let mut kept = Vec::new();
        for &partial in &partials {
            let (large, small) = if carried.abs() < partial.abs() { (partial, carried) } else { (carried, partial) };
            let high = large + small;
            let low = small - (high - large);
            if low != 0.0 {
                kept.push(low);
            }
            carried = high;
        }
        kept.push(carried);
        partials = kept;
    }
    partials.iter().rev().sum()
}
