//! Random cases: series with gaps, duplicates, nulls and infinities, and expressions of every operator over them.

use metrics_engine::expression::{Expr, Limits};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::oracle::Observations;

/// An expression, what it refers to, and the zone that it counts days in.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    /// The expression as a request carries it.
    pub(crate) json: Value,
    /// Observations in the order they are read.
    pub(crate) observations: Observations,
    /// An IANA name.
    pub(crate) zone: &'static str,
}

impl Case {
    /// The parsed expression.
    pub(crate) fn expr(&self) -> Expr {
        Expr::parse(&self.json, &Limits::default()).unwrap()
    }
}

const CODES: [&str; 4] = ["A", "B", "C", "D"];
const ZONES: [&str; 4] = ["UTC", "America/New_York", "Europe/Madrid", "America/Argentina/Buenos_Aires"];

const SECOND: i64 = 1_000_000_000;
const HOUR: i64 = 3_600 * SECOND;
const DAY: i64 = 24 * HOUR;

/// When a series may start, and how far apart its observations usually are.
const TIMELINES: [(i64, i64); 5] = [
    // 2024-03-01: the clocks of New York and Madrid go forward within the month.
    (19_783 * DAY, DAY),
    // 2024-10-20: and back within these weeks.
    (20_016 * DAY, DAY),
    // 1950-04-20: before the epoch.
    (-7_196 * DAY, DAY),
    // 2024-03-10T05:00Z: a day later is in the hour that New York left out.
    (19_792 * DAY + 5 * HOUR, HOUR / 2),
    // 2024-11-02T04:00Z: a day later New York has an hour twice.
    (20_029 * DAY + 4 * HOUR, HOUR / 2),
];

/// Cases.
pub(crate) fn case() -> impl Strategy<Value = Case> {
    // Mostly one timeline for all series, so that they meet.
    let timelines = prop_oneof![
        3 => timeline().prop_map(|timeline| [timeline; 4]),
        1 => prop::array::uniform4(timeline()),
    ];
    let series = prop::array::uniform4(prop::collection::vec(observation(), 0..150));
    let expression = prop_oneof![5 => expression(), 1 => lag(reference())];
    let zone = prop::sample::select(ZONES.to_vec());
    (expression, timelines, series, zone).prop_map(|(json, timelines, series, zone)| {
        let observations = CODES.into_iter().zip(timelines).zip(series).map(|((code, (start, step)), observations)| {
            let at = |(index, shift, value): (i64, i64, _)| (start + index * step + shift, value);
            (code.to_owned(), observations.into_iter().map(at).collect())
        });
        Case { json, observations: observations.collect(), zone }
    })
}

fn timeline() -> impl Strategy<Value = (i64, i64)> {
    prop::sample::select(TIMELINES.to_vec())
}

/// The number of a step in a timeline, a shift from it, and a value. The numbers are few, so that one series has a time
/// twice.
fn observation() -> impl Strategy<Value = (i64, i64, Option<f64>)> {
    let shift = prop_oneof![
        12 => Just(0),
        2 => (0..48_i64).prop_map(|half_hours| half_hours * HOUR / 2),
        1 => Just(HOUR - 1),
        1 => 0..DAY,
    ];
    (0..60_i64, shift, value())
}

fn value() -> impl Strategy<Value = Option<f64>> {
    prop_oneof![
        10 => (-8_000..8_000_i32).prop_map(|eighths| Some(f64::from(eighths) / 8.0)),
        6 => (-1e6..1e6_f64).prop_map(Some),
        2 => (1e-6..1e-3_f64).prop_map(Some),
        1 => (1e9..1e12_f64).prop_map(Some),
        // Large ones that cancel, and leave the small beside them.
        3 => prop::sample::select(vec![1e15, -1e15]).prop_map(Some),
        2 => Just(Some(0.0)),
        3 => Just(None),
        1 => Just(Some(f64::INFINITY)),
        1 => Just(Some(f64::NEG_INFINITY)),
    ]
}

fn reference() -> impl Strategy<Value = Value> {
    prop::sample::select(CODES.to_vec()).prop_map(|code| json!({ "series_code": code }))
}

fn lag(operand: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    let days = prop_oneof![4 => Just(1_u32), 6 => 1..35_u32, 1 => Just(27_000_u32), 1 => Just(1_000_000_u32)];
    (operand, days).prop_map(|(series, days)| json!({ "op": "lag", "series": series, "window": days }))
}

/// Expressions of up to four operators above each other.
fn expression() -> impl Strategy<Value = Value> {
    reference().prop_recursive(4, 24, 4, |operand| {
        let math = (
            prop::sample::select(vec!["add", "subtract", "multiply", "ratio"]),
            operand.clone(),
            operand.clone(),
            prop::sample::select(vec![1.0, 1.0, 0.0, -2.5, 100.0, 0.001]),
        )
            .prop_map(|(op, left, right, scale)| json!({ "op": op, "left": left, "right": right, "scale": scale }));
        let length = prop_oneof![8 => 1..8_u32, 2 => 8..40_u32, 1 => Just(1_000_000_u32)];
        let window = (prop::sample::select(vec!["sma", "ema", "sum", "max", "min"]), operand.clone(), length)
            .prop_map(|(op, series, window)| json!({ "op": op, "series": series, "window": window }));
        let lag = lag(operand.clone());
        let composite = (
            prop::sample::select(vec!["sum", "avg", "max", "min"]),
            prop::collection::vec(operand, 2..5),
            prop::sample::select(vec!["skip", "propagate"]),
        )
            .prop_map(|(op, operands, nulls)| json!({ "op": op, "operands": operands, "nulls": nulls }));
        prop_oneof![4 => math, 4 => window, 2 => lag, 4 => composite]
    })
}
