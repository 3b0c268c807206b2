//! `metrics dataset`: a file of reference rates in, a dataset in a folder out.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;

use super::progress::Progress;
use super::table::grouped;
use crate::dataset::csv::{self, Rates};
use crate::dataset::{Dataset, Manifest, wide};
use crate::ids::DatasetId;
use crate::keys::{Key, Prefix};
use crate::storage::ObjectStorage;
use crate::storage::folder::FolderStorage;

/// What can be done with datasets.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build a dataset from a CSV file
    Build(Build),
}

/// The arguments of `metrics dataset build`.
#[derive(Debug, Args)]
pub struct Build {
    /// The file: a column of days, then one for each series; empty or N/A where there is no value
    #[arg(long, value_name = "FILE")]
    csv: PathBuf,
    /// What the headers of the columns are
    #[arg(long, value_enum, default_value_t = Columns::Rates)]
    columns: Columns,
    /// The folder that stands for the bucket; created where it is missing
    #[arg(long, value_name = "FOLDER")]
    into: PathBuf,
    /// The dataset's id
    #[arg(long, value_name = "ID", default_value = "ecb_fx")]
    dataset_id: String,
    /// The folder of datasets within the bucket
    #[arg(long, value_name = "PREFIX", default_value = "datasets/")]
    datasets: String,
    /// When the version came to be, RFC 3339; by default the newest day of the file at 16:00 UTC
    #[arg(long, value_name = "TIME")]
    created_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Columns {
    /// Currencies, as the European Central Bank publishes its rates: USD becomes ECB_EUR_USD_D
    Rates,
    /// Series codes
    Codes,
}

/// Runs one of the commands.
///
/// # Errors
/// When the file is not understood, or the dataset cannot be written.
pub async fn run(command: &Command, out: &mut (dyn Write + Send)) -> anyhow::Result<()> {
    let Command::Build(build) = command;
    let dataset_id = DatasetId::parse(&build.dataset_id)?;
    let datasets = Prefix::parse(&build.datasets).with_context(|| format!("--datasets {:?}", build.datasets))?;
    match build.columns {
        Columns::Rates => {
            let rates = read_rates(&build.csv)?;
            finish(&Dataset::plan(&rates, &datasets, &dataset_id, build.created_at)?, build, out).await
        }
        Columns::Codes => {
            let file = File::open(&build.csv).with_context(|| build.csv.display().to_string())?;
            let series = wide::parse(file).with_context(|| build.csv.display().to_string())?;
            finish(&Dataset::plan_series(&series, &datasets, &dataset_id, build.created_at)?, build, out).await
        }
    }
}

async fn finish(dataset: &Dataset<'_>, build: &Build, out: &mut (dyn Write + Send)) -> anyhow::Result<()> {
    let storage = FolderStorage::new(&build.into).with_context(|| build.into.display().to_string())?;
    write(dataset, &storage).await?;
    if !dataset.advance_current(&storage).await? {
        writeln!(out, "a newer version stays the current one")?;
    }
    describe(&build.into, dataset.manifest_key(), dataset.manifest(), out)?;
    Ok(())
}

/// Reads a file of reference rates.
pub(super) fn read_rates(path: &Path) -> anyhow::Result<Rates> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    csv::parse(file).with_context(|| path.display().to_string())
}

/// Writes a dataset and shows how far it has come.
pub(super) async fn write(dataset: &Dataset<'_>, storage: &dyn ObjectStorage) -> anyhow::Result<()> {
    let mut progress = Progress::stderr("dataset", "objects", dataset.object_count());
    progress.doing(&dataset.manifest().version_id);
    dataset.write(storage, || progress.step()).await?;
    progress.finish();
    Ok(())
}

/// Says what was written, and where.
pub(super) fn describe(
    bucket: &Path,
    manifest_key: &Key,
    manifest: &Manifest,
    out: &mut (dyn Write + Send),
) -> std::io::Result<()> {
    let (series, files) = (manifest.series_count, grouped(manifest.parquet_files.len()));
    let (observations, dates) = (grouped(manifest.data_points_count), &manifest.date_range);
    let (first, last) = (day(&dates.min_obs_time), day(&dates.max_obs_time));
    writeln!(
        out,
        "dataset {}: {series} series, {observations} observations from {first} to {last}",
        manifest.dataset_id
    )?;
    writeln!(out, "{files} Parquet files and {}", bucket.join(manifest_key.as_str()).display())
}

fn day(time: &str) -> &str {
    time.split_once('T').map_or(time, |(day, _)| day)
}
