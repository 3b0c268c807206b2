//! `metrics eval`: expressions over a data location in, their series out, as a run would compute them. Nothing is
//! written to the location.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

use super::formula;
use super::location::{DataArguments, Location};
use super::lookup::{self, Found};
use super::progress::Fraction;
use super::screen::Screen;
use crate::expression::{Expr, text};
use crate::ids::DatasetId;
use crate::series::{Series, TimeNs};
use crate::worker;

mod output;

/// The arguments of `metrics eval`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  metrics eval --data bucket 'JPY / USD'
  metrics eval --data bucket 'macd = ema(USD, 12) - ema(USD, 26)' --from 2024-01-01 --output plot
  metrics eval --data bucket 'rate = USD' 'mean = sma(USD, 200)' --svg rate.svg --unit 'USD per EUR'
  metrics eval --data s3://my-bucket/team --dataset fx --file metric.json --output csv

Nothing is written to the location. Limits, INPUT_SCOPE and CALENDAR_TIMEZONE are those of the environment, as for the worker.")]
pub struct Command {
    /// The expressions, as text or as JSON; each may begin with a label: 'mean = sma(A, 20)'
    #[arg(value_name = "EXPR", required_unless_present = "file")]
    expressions: Vec<String>,
    /// A file that holds one expression; may be given several times
    #[arg(long, value_name = "FILE")]
    file: Vec<PathBuf>,
    #[command(flatten)]
    data: DataArguments,
    /// The dataset that has the series; otherwise all are looked through
    #[arg(long, value_name = "ID")]
    dataset: Option<String>,
    /// The first time shown: 2024-01-31 or 2024-01-31T12:00:00, UTC; what lies before it still counts for windows
    #[arg(long, value_name = "TIME", value_parser = time_ns)]
    from: Option<TimeNs>,
    /// The last time shown
    #[arg(long, value_name = "TIME", value_parser = time_ns)]
    to: Option<TimeNs>,
    /// Show the newest so many rows of each metric
    #[arg(long, value_name = "ROWS")]
    limit: Option<usize>,
    /// The form of the result
    #[arg(long, value_enum, default_value_t = Form::Table)]
    output: Form,
    /// The same as --output svg --out FILE
    #[arg(long, value_name = "FILE", conflicts_with_all = ["output", "out", "json"])]
    svg: Option<PathBuf>,
    /// What the values are, written along the axis of an SVG picture
    #[arg(long, value_name = "TEXT", default_value = "value")]
    unit: String,
    /// A file for the result, instead of the standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Everything as one JSON document, with what was read
    #[arg(long, conflicts_with = "output")]
    json: bool,
}

/// How a result is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// Rows in columns, the newest 20 without --limit
    Table,
    /// Comma-separated values, every digit, nulls empty
    Csv,
    /// As the worker writes it; one metric
    Jsonl,
    /// As the worker writes it; one metric
    Parquet,
    /// A curve in the terminal
    Plot,
    /// A picture, all metrics in one
    Svg,
}

/// A metric and what it took.
struct Evaluated {
    label: String,
    expression: Expr,
    series: Series,
    object_count: usize,
    read_bytes: u64,
    request_count: u64,
}

/// Evaluates the expressions and shows the result.
///
/// # Errors
/// When an expression is none, a series is nowhere, or something cannot be read.
pub async fn run(command: &Command, screen: Screen, out: &mut (dyn Write + Send)) -> anyhow::Result<()> {
    let location = command.data.open().await?;
    let mut given = command.expressions.clone();
    for file in &command.file {
        given.push(fs::read_to_string(file).with_context(|| file.display().to_string())?);
    }
    let mut expressions = Vec::new();
    for text in &given {
        let (label, expression) = formula::labelled(text);
        let expression = formula::read(expression, &location.config.rules.expression)?;
        expressions.push((label.map_or_else(|| text::print(&expression), str::to_owned), expression));
    }
    let only = command.dataset.as_deref().map(DatasetId::parse).transpose()?;
    let datasets = lookup::datasets(&location, only.as_ref()).await?;
    let mut metrics = Vec::new();
    for (label, expression) in expressions {
        let mut evaluated = evaluate(label, expression, &datasets, &location).await?;
        evaluated.series = cut(&evaluated.series, command)?;
        metrics.push(evaluated);
    }
    let shown = render(command, &metrics, screen)?;
    match command.svg.as_ref().or(command.out.as_ref()) {
        Some(file) => fs::write(file, shown).with_context(|| file.display().to_string())?,
        None if command.output == Form::Parquet && !command.json && io::stdout().is_terminal() => {
            bail!("Parquet is nothing for a terminal: name a file with --out")
        }
        None => out.write_all(&shown)?,
    }
    Ok(())
}

async fn evaluate(
    label: String,
    expression: Expr,
    datasets: &[Found],
    location: &Location,
) -> anyhow::Result<Evaluated> {
    let work = lookup::work(&expression, datasets, location).await?;
    let storage = &*location.storage;
    let read_plan = worker::prepare(&work, storage, &location.config).await?.plan;
    let progress = Fraction::stderr(&label);
    let tell = |fraction| progress.at(fraction);
    let outcome = worker::read_planned(&read_plan, storage, &location.config, &tell).await?;
    progress.finish();
    let (read_bytes, request_count) = (outcome.read_bytes, outcome.request_count);
    let series = worker::value(&expression, outcome, &location.config).await?;
    Ok(Evaluated { label, expression, series, object_count: read_plan.objects.len(), read_bytes, request_count })
}

/// The rows that are asked for.
fn cut(series: &Series, command: &Command) -> anyhow::Result<Series> {
    let times = series.times();
    let start = command.from.map_or(0, |from| times.partition_point(|&time| time < from));
    let end = command.to.map_or(times.len(), |to| times.partition_point(|&time| time <= to)).max(start);
    let start = command.limit.map_or(start, |limit| start.max(end.saturating_sub(limit)));
    Ok(Series::new(times[start..end].to_vec(), series.values()[start..end].to_vec())?)
}

fn render(command: &Command, metrics: &[Evaluated], screen: Screen) -> anyhow::Result<Vec<u8>> {
    if command.json {
        return output::json(metrics);
    }
    let is_one = metrics.len() == 1;
    match if command.svg.is_some() { Form::Svg } else { command.output } {
        Form::Table => Ok(output::rows(metrics, command.limit).into_bytes()),
        Form::Csv => output::csv(metrics),
        Form::Plot => Ok(output::plots(metrics, screen).into_bytes()),
        Form::Svg => output::svg(metrics, &command.unit),
        Form::Jsonl | Form::Parquet => {
            ensure!(is_one, "jsonl and parquet hold one metric, found {}: use csv", metrics.len());
            output::as_the_worker_does(&metrics[0].series, command.output == Form::Parquet)
        }
    }
}

/// A day or a time of it, in UTC.
fn time_ns(text: &str) -> Result<TimeNs, String> {
    let datetime = text.parse::<Date>().map(|date| date.at(0, 0, 0, 0)).or_else(|_| text.parse::<DateTime>());
    let timestamp = datetime.and_then(|datetime| TimeZone::UTC.to_timestamp(datetime));
    let ns = timestamp.ok().and_then(|timestamp| TimeNs::try_from(timestamp.as_nanosecond()).ok());
    ns.ok_or_else(|| "expected a day such as 2024-01-31, or a time such as 2024-01-31T12:00:00".to_owned())
}
