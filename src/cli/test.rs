//! `metrics test`: files of tests in; which hold, and where the others differ, out. Nothing is read but the files: the
//! series of a test are written in it, and the worker's own evaluator computes.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::Args;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::json;

use super::Verdict;
use super::formula;
use super::screen::{Colour, Screen};
use crate::expression::Limits;
use crate::ids::SeriesCode;
use crate::series::{Series, TimeNs};
use crate::worker::evaluate::{Calendar, evaluate};

mod notation;

/// The arguments of `metrics test`.
#[derive(Debug, Args)]
#[command(after_help = "A file:
  tests:
    - name: the mean of two days
      series: { A: '1+2x3 _ 10' }
      expression: sma(A, 2)
      expect: 'null 2 4 6 _ 8.5'

A value a day: a number, null, inf, -inf, or _ where there is no observation; 1+2x3 is 1 3 5 7, 4x2 is 4 4 4, _x2 is _ _.
The file, or a test in it, may set start (2024-01-01) and timezone (UTC); a test may set tolerance (0, relative).")]
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
    timezone: Option<String>,
    series: BTreeMap<String, String>,
    expression: String,
    expect: String,
    #[serde(default)]
    tolerance: f64,
}

/// A row of the result beside the one that was expected; nothing where there is no row.
struct Difference {
    day: String,
    expected: Option<f64>,
    found: Option<f64>,
}

/// Runs every test of every file.
///
/// # Errors
/// When a file is none, or a test in it cannot be understood.
pub fn run(command: &Command, screen: Screen, out: &mut (dyn Write + Send)) -> anyhow::Result<Verdict> {
    let (mut passed, mut failed, mut document) = (0_usize, 0_usize, Vec::new());
    for path in &command.files {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let file: TestFile = serde_saphyr::from_str(&text).map_err(|error| anyhow!("{}: {error}", path.display()))?;
        for test in &file.tests {
            let differences = differences(test, &file).with_context(|| format!("{}: {}", path.display(), test.name))?;
            if differences.is_empty() {
                passed += 1
            } else {
                failed += 1
            }
            if command.json {
                let rows = differences.iter().map(|one| json!([one.day, cell(one.expected), cell(one.found)]));
                document.push(json!({ "file": path, "name": test.name, "passed": differences.is_empty(),
                                      "differences": rows.collect::<Vec<_>>() }));
            } else if !differences.is_empty() {
                show(path, test, &differences, screen, out)?;
            }
        }
    }
    if command.json {
        writeln!(out, "{}", serde_json::Value::from(document))?;
    } else {
        let colour = if failed == 0 { Colour::Green } else { Colour::Red };
        writeln!(out, "{}", screen.paint(colour, &format!("{passed} passed, {failed} failed")))?;
    }
    Ok(if failed == 0 { Verdict::Well } else { Verdict::Wrong })
}

fn show(
    path: &Path,
    test: &Test,
    differences: &[Difference],
    screen: Screen,
    out: &mut (dyn Write + Send),
) -> std::io::Result<()> {
    writeln!(out, "{} {}: {}", screen.paint(Colour::Red, "FAILED"), path.display(), test.name)?;
    writeln!(out, "    {}", test.expression)?;
    writeln!(out, "    {:<12}{:<24}found", "day", "expected")?;
    for Difference { day, expected, found } in differences {
        writeln!(out, "    {day:<12}{:<24}{}", cell(*expected), cell(*found))?;
    }
    Ok(())
}

fn cell(value: Option<f64>) -> String {
    match value {
        None => "_".to_owned(),
        Some(value) if value.is_nan() => "null".to_owned(),
        Some(value) => value.to_string(),
    }
}

fn differences(test: &Test, file: &TestFile) -> anyhow::Result<Vec<Difference>> {
    let zone = test.timezone.as_deref().or(file.timezone.as_deref()).unwrap_or("UTC");
    let start = test.start.as_deref().or(file.start.as_deref()).unwrap_or("2024-01-01");
    let start: Date = start.parse().with_context(|| format!("start {start:?} is no day"))?;
    let time_zone = TimeZone::get(zone)?;
    let parse = |text: &str| -> anyhow::Result<Series> { series(&notation::parse(text)?, start, &time_zone) };
    let mut inputs = BTreeMap::new();
    for (code, text) in &test.series {
        let observations = parse(text).with_context(|| format!("series {code}"))?;
        inputs.insert(SeriesCode::parse(code)?, observations);
    }
    let expected = parse(&test.expect).context("expect")?;
    let expression = formula::read(&test.expression, &Limits::default())?;
    let found = evaluate(&expression, inputs, &Calendar::parse(zone)?)?;
    let mut rows: BTreeMap<TimeNs, (Option<f64>, Option<f64>)> = BTreeMap::new();
    expected
        .times()
        .iter()
        .zip(expected.values())
        .for_each(|(&at, &value)| rows.entry(at).or_default().0 = Some(value));
    found.times().iter().zip(found.values()).for_each(|(&at, &value)| rows.entry(at).or_default().1 = Some(value));
    let differing = rows.into_iter().filter(|(_, (expected, found))| !is_same(*expected, *found, test.tolerance));
    let day = |time| super::axis::civil(time).map_or_else(String::new, |at| at.date().to_string());
    Ok(differing.map(|(time, (expected, found))| Difference { day: day(time), expected, found }).collect())
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

/// A value a day from the start, at the midnights of the zone.
fn series(values: &[Option<f64>], start: Date, zone: &TimeZone) -> anyhow::Result<Series> {
    let (mut times, mut present) = (Vec::new(), Vec::new());
    let days = start.series(jiff::Span::new().days(1));
    for (day, value) in days.zip(values) {
        if let Some(value) = value {
            let midnight = zone.to_timestamp(day.at(0, 0, 0, 0))?;
            times.push(TimeNs::try_from(midnight.as_nanosecond())?);
            present.push(*value);
        }
    }
    Ok(Series::new(times, present)?)
}
