//! `metrics dataset`: a table in; a dataset as the worker reads it, in a folder or a bucket, out.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use serde_json::json;

use super::location::{DATASETS, DataArguments, Missing};
use super::progress::Progress;
use super::table::grouped;
use crate::dataset::columns::Names;
use crate::dataset::csv::{self, Rates};
use crate::dataset::{Dataset, Manifest, SeriesRows, long, table, wide};
use crate::ids::DatasetId;
use crate::keys::{Key, Prefix};
use crate::storage::ObjectStorage;

/// What can be done with datasets.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build a dataset from a CSV or Parquet file
    Build(Build),
}

/// The arguments of `metrics dataset build`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  metrics dataset build --csv shop.csv --into bucket
  metrics dataset build --parquet ticks.parquet --columns long --time at --value price --into s3://my-bucket/team
  metrics dataset build --csv eurofxref-hist.csv --columns rates --into bucket

Times are days (2024-01-31) or times (2024-01-31T14:30:00, with a zone or in UTC), unique within a series. A dataset is
versions/<version>/manifest.json, current/manifest.json and projections/<series>/year=YYYY/month=MM/data.parquet. The
version is named by its time of creation; one that is there never changes, and current only goes forward.")]
pub struct Build {
    /// A CSV file
    #[arg(long, value_name = "FILE", required_unless_present = "parquet", conflicts_with = "parquet")]
    csv: Option<PathBuf>,
    /// A Parquet file
    #[arg(long, value_name = "FILE")]
    parquet: Option<PathBuf>,
    /// How the table is made
    #[arg(long, value_enum, default_value_t = Columns::Codes)]
    columns: Columns,
    /// The column of times; by default the first of a CSV of codes, otherwise obs_time, time, timestamp, date or day
    #[arg(long, value_name = "COLUMN")]
    time: Option<String>,
    /// The column of series codes in a long table; by default internal_series_code, series_code, series or code
    #[arg(long, value_name = "COLUMN")]
    series: Option<String>,
    /// The column of values in a long table; by default value
    #[arg(long, value_name = "COLUMN")]
    value: Option<String>,
    /// Where it goes: a folder that stands for a bucket, created where it is missing, or s3://BUCKET[/PREFIX]
    #[arg(long, value_name = "LOCATION")]
    into: String,
    /// The dataset's id; by default the file's name, or ecb_fx for rates
    #[arg(long, value_name = "ID")]
    dataset_id: Option<String>,
    /// The folder of datasets within the location
    #[arg(long, value_name = "PREFIX", default_value = DATASETS)]
    datasets: String,
    /// When the version came to be, RFC 3339; by default the newest day of the file at 16:00 UTC, or its newest time if
    /// that is later
    #[arg(long, value_name = "TIME")]
    created_at: Option<Timestamp>,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Columns {
    /// A column of times, and a series in every other, its code as the header; empty or N/A where there is no value
    Codes,
    /// Rows of time, series code and value; a row without a value is an observation of null
    Long,
    /// Reference rates as the European Central Bank publishes them, CSV: USD becomes ECB_EUR_USD_D
    Rates,
}

/// Runs one of the commands.
///
/// # Errors
/// When the file is not understood, or the dataset cannot be written.
pub async fn run(command: &Command, out: &mut (dyn Write + Send)) -> anyhow::Result<()> {
    let Command::Build(build) = command;
    let mut dataset = plan(build)?;
    let arguments = DataArguments::at(&build.into, &build.datasets);
    let location = arguments.open_as(None, Missing::Created).await?;
    write(&mut dataset, &*location.storage).await?;
    let is_current = dataset.advance_current(&*location.storage).await?;
    if build.json {
        let manifest = dataset.manifest();
        let document = json!({
            "datasetId": manifest.dataset_id, "version": manifest.version_id, "current": is_current,
            "manifest": dataset.manifest_key().as_str(), "series": manifest.series_count,
            "observations": manifest.data_points_count, "files": manifest.parquet_files.len(),
            "from": manifest.date_range.min_obs_time, "to": manifest.date_range.max_obs_time,
        });
        writeln!(out, "{document}")?;
        return Ok(());
    }
    describe(&dataset, |key| location.of(key), out)?;
    if !is_current {
        writeln!(out, "a newer version stays the current one")?;
    }
    Ok(())
}

/// Reads the file and names every object of the dataset.
fn plan(build: &Build) -> anyhow::Result<Dataset> {
    let datasets = Prefix::parse(&build.datasets).with_context(|| format!("--datasets {:?}", build.datasets))?;
    let dataset_id = dataset_id(build)?;
    if build.columns == Columns::Rates {
        let Some(path) = &build.csv else { bail!("--columns rates is for CSV: the bank publishes no Parquet") };
        return Ok(Dataset::plan(&read_rates(path)?, &datasets, &dataset_id, build.created_at)?);
    }
    Ok(Dataset::plan_series(read_series(build)?, &datasets, &dataset_id, build.created_at)?)
}

fn file(build: &Build) -> &Path {
    build.csv.as_deref().or(build.parquet.as_deref()).unwrap_or(Path::new(""))
}

fn dataset_id(build: &Build) -> anyhow::Result<DatasetId> {
    let stem = file(build).file_stem().unwrap_or_default().to_string_lossy();
    match &build.dataset_id {
        Some(text) => DatasetId::parse(text).context("--dataset-id"),
        None if build.columns == Columns::Rates => Ok(DatasetId::parse("ecb_fx")?),
        None => DatasetId::parse(&stem).context("the file's name is no id of a dataset: give one with --dataset-id"),
    }
}

fn read_series(build: &Build) -> anyhow::Result<Vec<SeriesRows>> {
    let Build { time, series, value, .. } = build;
    let names = Names { time: time.clone(), series: series.clone(), value: value.clone() };
    let path = file(build);
    let place = || path.display().to_string();
    let input = File::open(path).with_context(place)?;
    match (build.parquet.is_some(), build.columns) {
        (true, Columns::Long) => table::long(input, &names).with_context(place),
        (true, _) => table::wide(input, &names).with_context(place),
        (false, Columns::Long) => long::parse(input, &names).with_context(place),
        (false, _) => wide::parse(input, &names).with_context(place),
    }
}

/// Reads a file of reference rates.
pub(super) fn read_rates(path: &Path) -> anyhow::Result<Rates> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    csv::parse(file).with_context(|| path.display().to_string())
}

/// Writes a dataset and shows how far it has come.
pub(super) async fn write(dataset: &mut Dataset, storage: &dyn ObjectStorage) -> anyhow::Result<()> {
    let mut progress = Progress::stderr("dataset", "objects", dataset.object_count());
    progress.doing(&dataset.manifest().version_id);
    dataset.write(storage, || progress.step()).await?;
    progress.finish();
    Ok(())
}

/// Says what was written, and where.
pub(super) fn describe(
    dataset: &Dataset,
    place_of: impl Fn(&Key) -> String,
    out: &mut (dyn Write + Send),
) -> std::io::Result<()> {
    let manifest: &Manifest = dataset.manifest();
    let (series, files) = (manifest.series_count, grouped(manifest.parquet_files.len()));
    let observations = grouped(manifest.data_points_count);
    let (first, last) = (&manifest.date_range.min_obs_time, &manifest.date_range.max_obs_time);
    writeln!(
        out,
        "dataset {}: {series} series, {observations} observations from {} to {}",
        manifest.dataset_id,
        shown(first),
        shown(last)
    )?;
    writeln!(out, "{files} Parquet files and {}", place_of(dataset.manifest_key()))
}

/// A midnight as its day.
fn shown(time: &str) -> &str {
    time.strip_suffix("T00:00:00Z").unwrap_or(time)
}
