//! `metrics test`: files of tests in; which hold, and where the others differ, out. Nothing is read but the files: the
//! series of a test are written in it, and the worker's own evaluator computes.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail, ensure};
use clap::Args;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Zoned};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Verdict;
use super::screen::{Colour, Screen};
use super::{events, formula, location};
use crate::expression::{Expr, Limits};
use crate::ids::SeriesCode;
use crate::series::{Series, SeriesBuilder, TimeNs};
use crate::worker::evaluate::{Calendar, evaluate};

mod notation;

/// The arguments of `metrics test`.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  metrics test shop.yaml

A file:
  tests:
    - name: the mean of two days
      series: { A: '1+2x3 _ 10' }
      expression: sma(A, 2)
      expect: 'null 2 4 6 _ 8.5'
    - name: a window is counted in rows
      expression: sma(A, 2d)
      error: a window is an integer

A value a day: a number, null, inf, -inf, or _ where there is no observation; 1+2x3 is 1 3 5 7, 4x2 is 4 4 4, _x2 is _ _;
1|2 are two observations at one time. The file, or a test in it, may set start (2024-01-01), interval (1d; 6h, 15m) and
timezone (UTC); a test may set group, and tolerance (0, relative). Limits are those of the environment.")]
pub struct Command {
    /// The files
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// One JSON document for all tests
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TestFile {
    #[serde(default)]
    start: Option<String>,
    #[serde(default)]
    interval: Option<String>,
    #[serde(default)]
    timezone: Option<String>,
    tests: Vec<Test>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Test {
    name: String,
    #[serde(default)]
    start: Option<String>,
    #[serde(default)]
    interval: Option<String>,
    #[serde(default)]
    timezone: Option<String>,
    /// What the test is about, for whoever reads or counts tests.
    #[serde(default)]
    group: Option<String>,
    #[serde(default)]
    series: BTreeMap<String, String>,
    expression: String,
    #[serde(default)]
    expect: Option<String>,
    /// A part of the message that refuses the expression.
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    tolerance: f64,
}

/// A row of the result beside the one that was expected; nothing where there is no row.
struct Difference {
    time: String,
    expected: Option<f64>,
    found: Option<f64>,
}

/// What came of a test.
enum Outcome {
    Passed,
    /// The values differ.
    Differing(Vec<Difference>),
    /// The expression was to be refused with another message, or at all.
    NotRefused(String),
}

/// Runs every test of every file.
///
/// # Errors
/// When a file is none, or a test in it cannot be understood.
pub fn run(command: &Command, screen: Screen, out: &mut (dyn Write + Send)) -> anyhow::Result<Verdict> {
    let (mut passed, mut failed, mut documents) = (0_usize, 0_usize, Vec::new());
    let limits = location::limits()?;
    for path in &command.files {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let file: TestFile = serde_saphyr::from_str(&text).map_err(|error| anyhow!("{}: {error}", path.display()))?;
        for test in &file.tests {
            let outcome = outcome(test, &file, &limits);
            let outcome = outcome.with_context(|| format!("{}: {}", path.display(), test.name))?;
            match &outcome {
                Outcome::Passed => passed += 1,
                Outcome::Differing(_) | Outcome::NotRefused(_) => failed += 1,
            }
            if command.json {
                documents.push(to_json(path, test, &outcome));
            } else {
                show(path, test, &outcome, screen, out)?;
            }
        }
    }
    if command.json {
        writeln!(out, "{}", Value::from(documents))?;
    } else {
        let colour = if failed == 0 { Colour::Green } else { Colour::Red };
        writeln!(out, "{}", screen.paint(colour, &format!("{passed} passed, {failed} failed")))?;
    }
    Ok(if failed == 0 { Verdict::Well } else { Verdict::Wrong })
}

fn to_json(path: &Path, test: &Test, outcome: &Outcome) -> Value {
    let mut document = json!({ "file": path, "name": test.name, "group": test.group,
                               "passed": matches!(outcome, Outcome::Passed) });
    match outcome {
        Outcome::Passed => {}
        Outcome::Differing(differences) => {
            let rows = differences.iter().map(|one| json!([one.time, cell(one.expected), cell(one.found)]));
            document["differences"] = rows.collect();
        }
        Outcome::NotRefused(found) => document["found"] = json!(found),
    }
    document
}

fn show(
    path: &Path,
    test: &Test,
    outcome: &Outcome,
    screen: Screen,
    out: &mut (dyn Write + Send),
) -> std::io::Result<()> {
    if matches!(outcome, Outcome::Passed) {
        return Ok(());
    }
    writeln!(out, "{} {}: {}", screen.paint(Colour::Red, "FAILED"), path.display(), test.name)?;
    writeln!(out, "    {}", test.expression.trim())?;
    match outcome {
        Outcome::Passed => Ok(()),
        Outcome::NotRefused(found) => {
            writeln!(out, "    expected to be refused: {}", test.error.as_deref().unwrap_or_default())?;
            events::indented(&format!("found: {found}"), screen, out)
        }
        Outcome::Differing(differences) => {
            let width = differences.iter().map(|one| one.time.len() + 2).max().unwrap_or(0).max(12);
            writeln!(out, "    {:<width$}{:<24}found", "time", "expected")?;
            for Difference { time, expected, found } in differences {
                writeln!(out, "    {time:<width$}{:<24}{}", cell(*expected), cell(*found))?;
            }
            Ok(())
        }
    }
}

fn cell(value: Option<f64>) -> String {
    match value {
        None => "_".to_owned(),
        Some(value) if value.is_nan() => "null".to_owned(),
        Some(value) => value.to_string(),
    }
}

fn outcome(test: &Test, file: &TestFile, limits: &Limits) -> anyhow::Result<Outcome> {
    let expression = formula::read(&test.expression, limits);
    match (&test.expect, &test.error) {
        (Some(_), Some(_)) | (None, None) => bail!("a test has either expect or error"),
        (None, Some(error)) => {
            let found = expression.map_or_else(|found| found.to_string(), |_| "a valid expression".to_owned());
            Ok(if found.contains(error) { Outcome::Passed } else { Outcome::NotRefused(found) })
        }
        (Some(expect), None) => {
            let differences = differences(test, file, &expression?, expect)?;
            Ok(if differences.is_empty() { Outcome::Passed } else { Outcome::Differing(differences) })
        }
    }
}

fn differences(test: &Test, file: &TestFile, expression: &Expr, expect: &str) -> anyhow::Result<Vec<Difference>> {
    let zone = test.timezone.as_deref().or(file.timezone.as_deref()).unwrap_or("UTC");
    let start = test.start.as_deref().or(file.start.as_deref()).unwrap_or("2024-01-01");
    let start: Date = start.parse().with_context(|| format!("start {start:?} is no day"))?;
    let interval = test.interval.as_deref().or(file.interval.as_deref()).unwrap_or("1d");
    let interval: Span = interval.parse().with_context(|| format!("interval {interval:?}, expected one such as 1d"))?;
    ensure!(interval.is_positive(), "interval {interval}, expected one such as 1d");
    let start = start.to_zoned(TimeZone::get(zone)?)?;
    let parse = |text: &str| -> anyhow::Result<Series> { series(&notation::parse(text)?, &start, interval) };
    let mut inputs = BTreeMap::new();
    for (code, text) in &test.series {
        let observations = parse(text).with_context(|| format!("series {code}"))?;
        inputs.insert(SeriesCode::parse(code)?, observations);
    }
    let expected = parse(expect).context("expect")?;
    let found = evaluate(expression, inputs, &Calendar::parse(zone)?)?;
    let mut rows: BTreeMap<TimeNs, (Option<f64>, Option<f64>)> = BTreeMap::new();
    let observations =
        |series: &Series| series.times().iter().copied().zip(series.values().to_vec()).collect::<Vec<_>>();
    observations(&expected).into_iter().for_each(|(at, value)| rows.entry(at).or_default().0 = Some(value));
    observations(&found).into_iter().for_each(|(at, value)| rows.entry(at).or_default().1 = Some(value));
    let differing = rows.into_iter().filter(|(_, (expected, found))| !is_same(*expected, *found, test.tolerance));
    let shown = |time| local(time, start.time_zone());
    Ok(differing.map(|(time, (expected, found))| Difference { time: shown(time), expected, found }).collect())
}

/// The time on the test's own clock: a day where it is a midnight.
fn local(time: TimeNs, zone: &TimeZone) -> String {
    let Ok(timestamp) = Timestamp::from_nanosecond(i128::from(time)) else { return format!("{time} ns") };
    let at = zone.to_datetime(timestamp);
    if at.time() == jiff::civil::Time::midnight() { at.date().to_string() } else { at.to_string() }
}

/// Whether both are missing, null, or equal but for the tolerance.
#[expect(clippy::float_cmp, reason = "without a tolerance the digits are meant")]
fn is_same(expected: Option<f64>, found: Option<f64>, tolerance: f64) -> bool {
    match (expected, found) {
        (None, None) => true,
        (Some(expected), Some(found)) => {
            let is_near = (expected - found).abs() <= tolerance * expected.abs();
            expected == found || (expected.is_nan() && found.is_nan()) || is_near
        }
        _ => false,
    }
}

/// Values an interval apart from the start on; days are those of its zone.
fn series(values: &[Vec<f64>], start: &Zoned, interval: Span) -> anyhow::Result<Series> {
    let mut observations = SeriesBuilder::new();
    for (step, values) in (0_i64..).zip(values) {
        let at = start.checked_add(interval.checked_mul(step)?)?;
        for value in values {
            observations.push(TimeNs::try_from(at.timestamp().as_nanosecond())?, *value);
        }
    }
    Ok(observations.finish().0)
}
