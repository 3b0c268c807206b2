//! The evaluator against two others that share no code with it: a slow and obvious one, and pandas; and against the
//! numbers that the documentation shows.

#![expect(clippy::unwrap_used, clippy::panic, reason = "the helpers of a test may fail it")]

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::tz::TimeZone;
use metrics_engine::expression::{Expr, Limits};
use metrics_engine::ids::SeriesCode;
use metrics_engine::series::{NULL, Series, SeriesBuilder};
use metrics_engine::worker::evaluate::{Calendar, Evaluator, evaluate};
use proptest::prelude::*;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::{Value, json};

use generate::{Case, case};
use oracle::{Column, Expected};

#[path = "support/generate.rs"]
mod generate;
#[path = "support/oracle.rs"]
mod oracle;

/// What a value may be off by, relative to itself. Where a subtraction cancels, what rounding did to its operands is
/// allowed on top: [`Expected::error`].
const TOLERANCE: f64 = 1e-12;

fn observed(case: &Case) -> BTreeMap<SeriesCode, Series> {
    let mut series = BTreeMap::new();
    for (code, observations) in &case.observations {
        let mut builder = SeriesBuilder::new();
        for &(time, value) in observations {
            builder.push(time, value.unwrap_or(NULL));
        }
        series.insert(SeriesCode::parse(code).unwrap(), builder.finish().0);
    }
    series
}

fn evaluated(case: &Case) -> Series {
    evaluate(&case.expr(), observed(case), &Calendar::parse(case.zone).unwrap()).unwrap()
}

fn slowly_evaluated(case: &Case) -> Column {
    oracle::evaluate(&case.expr(), &case.observations, &TimeZone::get(case.zone).unwrap())
}

/// How many values were compared, and how many there were.
#[derive(Default)]
struct Coverage {
    compared: AtomicUsize,
    seen: AtomicUsize,
}

impl Coverage {
    /// The comparison means nothing if most values are left out of it.
    fn assert_nearly_complete(&self) {
        let (compared, seen) = (self.compared.load(Ordering::Relaxed), self.seen.load(Ordering::Relaxed));
        assert!(seen > 1_000, "only {seen} values");
        assert!(compared * 100 >= seen * 95, "only {compared} of {seen} values could be compared");
    }
}

/// Compares times, nulls, infinities and values.
fn compare(series: &Series, column: &Column, coverage: &Coverage) -> Result<(), String> {
    if !series.times().iter().eq(column.keys()) {
        return Err(format!("times are {:?}, not {:?}", series.times(), column.keys()));
    }
    for ((time, value), Expected { value: expected, error }) in series.iter().zip(column.values().copied()) {
        coverage.seen.fetch_add(1, Ordering::Relaxed);
        if error == f64::INFINITY {
            continue;
        }
        coverage.compared.fetch_add(1, Ordering::Relaxed);
        let is_right = match (value, expected) {
            (None, None) => true,
            (Some(value), Some(expected)) => {
                value == expected || (value - expected).abs() <= TOLERANCE * expected.abs() + error
            }
            _ => false,
        };
        if !is_right {
            return Err(format!("at {time}: {value:?}, not {expected:?} to within {error:e}"));
        }
    }
    Ok(())
}

#[test]
fn the_evaluator_agrees_with_a_slow_and_obvious_one() {
    let coverage = Coverage::default();
    let default = Config::default();
    // More than usual, and as many more as PROPTEST_CASES asks for.
    let config = Config { cases: default.cases.max(512), failure_persistence: None, ..default };
    let check =
        |case: Case| compare(&evaluated(&case), &slowly_evaluated(&case), &coverage).map_err(TestCaseError::fail);
    if let Err(failure) = TestRunner::new(config).run(&case(), check) {
        panic!("{failure}");
    }
    coverage.assert_nearly_complete();
}

/// The value over slices: every series cut at the same times.
fn evaluated_in_slices(case: &Case, cuts: &[i64]) -> Vec<(i64, u64)> {
    let whole = observed(case);
    let mut evaluator = Evaluator::new(&case.expr(), &Calendar::parse(case.zone).unwrap());
    let mut rows = Vec::new();
    let bounds = || std::iter::once(&i64::MIN).chain(cuts);
    for (&from, to) in bounds().zip(bounds().skip(1).map(Some).chain([None])) {
        let slices = whole.iter().map(|(code, series)| {
            let start = series.times().partition_point(|&time| time < from);
            let end = to.map_or(series.len(), |&to| series.times().partition_point(|&time| time < to));
            let slice = Series::new(series.times()[start..end].to_vec(), series.values()[start..end].to_vec());
            (code.clone(), slice.unwrap())
        });
        rows.extend(bits(&evaluator.next(slices.collect()).unwrap()));
    }
    rows
}

/// Each observation to the last bit; nulls are all the same.
fn bits(series: &Series) -> Vec<(i64, u64)> {
    let bits_of = |value: Option<f64>| value.unwrap_or(NULL).to_bits();
    series.iter().map(|(time, value)| (time, bits_of(value))).collect()
}

#[test]
fn however_series_are_cut_into_slices_the_value_is_the_same_to_the_last_bit() {
    let default = Config::default();
    let config = Config { cases: default.cases.max(512), failure_persistence: None, ..default };
    let cuts = prop::collection::vec(any::<prop::sample::Index>(), 0..12);
    let check = |(case, cuts): (Case, Vec<prop::sample::Index>)| {
        let mut times: Vec<i64> =
            case.observations.values().flatten().flat_map(|&(time, _)| [time, time + 1]).collect();
        times.push(0);
        let mut cuts: Vec<i64> = cuts.iter().map(|cut| *cut.get(&times)).collect();
        cuts.sort_unstable();
        let whole = bits(&evaluated(&case));
        prop_assert_eq!(evaluated_in_slices(&case, &cuts), whole, "cut at {:?}", cuts);
        times.sort_unstable();
        prop_assert_eq!(evaluated_in_slices(&case, &times), bits(&evaluated(&case)), "cut at every time");
        Ok(())
    };
    if let Err(failure) = TestRunner::new(config).run(&(case(), cuts), check) {
        panic!("{failure}");
    }
}

#[test]
fn the_evaluator_agrees_with_pandas() {
    const CASE_COUNT: usize = 300;
    let mut runner = TestRunner::deterministic();
    let cases: Vec<Case> = (0..CASE_COUNT).map(|_| case().new_tree(&mut runner).unwrap().current()).collect();
    let coverage = Coverage::default();
    for (case, answer) in cases.iter().zip(pandas_answers(&cases)) {
        let bounds = slowly_evaluated(case);
        let pandas: Column = answer
            .into_iter()
            .map(|(time, value)| {
                let value = value.map(|text| text.parse().unwrap());
                (time, Expected { value, error: bounds.get(&time).map_or(0.0, |bound| bound.error) })
            })
            .collect();
        if let Err(difference) = compare(&evaluated(case), &pandas, &coverage) {
            panic!("{difference} in {case:?}");
        }
    }
    coverage.assert_nearly_complete();
}

/// The values of each case by time, as texts that read back to the float, as pandas has them.
fn pandas_answers(cases: &[Case]) -> Vec<Vec<(i64, Option<String>)>> {
    let python = concat!(env!("CARGO_MANIFEST_DIR"), "/.venv/bin/python");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/pandas_oracle.py");
    let spawned = Command::new(python).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child =
        spawned.unwrap_or_else(|error| panic!("no pandas to compare with, run `make venv`: {python}: {error}"));
    let request: Vec<Value> = cases.iter().map(request).collect();
    child.stdin.take().unwrap().write_all(serde_json::to_string(&request).unwrap().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "pandas failed, is the environment of `make venv` complete?");
    let answers: Vec<Vec<(i64, Option<String>)>> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answers.len(), cases.len());
    answers
}

fn request(case: &Case) -> Value {
    let value = |value: Option<f64>| match value {
        Some(value) if value.is_infinite() => json!(value.to_string()),
        other => json!(other),
    };
    let series: BTreeMap<&String, Vec<(i64, Value)>> = case
        .observations
        .iter()
        .map(|(code, observations)| (code, observations.iter().map(|&(time, v)| (time, value(v))).collect()))
        .collect();
    json!({ "expression": case.json, "series": series, "zone": case.zone })
}

/// The worked examples of the documentation: blocks fenced as `text example`. The first line is the expression; then a
/// line for each series, one column a day: a number, `null`, or `.` where there is no observation; last the result.
#[test]
fn the_examples_of_the_documentation_hold() {
    let document = include_str!("../docs/expressions.md");
    let examples: Vec<&str> = document
        .split("```text example\n")
        .skip(1)
        .map(|rest| rest.split_once("```").expect("an example that ends").0)
        .collect();
    assert!(examples.len() >= 14, "one for each operator, not {}", examples.len());
    for example in examples {
        let mut lines = example.lines();
        let json: Value = serde_json::from_str(lines.next().unwrap()).unwrap();
        let expr = Expr::parse(&json, &Limits::default()).unwrap();
        let mut rows: BTreeMap<String, Series> = lines.map(documented_series).collect();
        let expected = rows.remove("result").unwrap();
        let series = rows.into_iter().map(|(code, series)| (SeriesCode::parse(&code).unwrap(), series)).collect();
        assert_eq!(evaluate(&expr, series, &Calendar::utc()).unwrap(), expected, "{example}");
    }
}

fn documented_series(line: &str) -> (String, Series) {
    const DAY: i64 = 86_400_000_000_000;
    let mut words = line.split_whitespace();
    let name = words.next().unwrap().to_owned();
    let (mut times, mut values) = (Vec::new(), Vec::new());
    for (day, word) in (0..).zip(words) {
        if word != "." {
            times.push(day * DAY);
            values.push(if word == "null" { NULL } else { word.parse().unwrap() });
        }
    }
    (name, Series::new(times, values).unwrap())
}
