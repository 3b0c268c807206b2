//! A dataset from a file of reference rates: CSV in; one small Parquet object for each month of each series, and a
//! version manifest, out. It gives the demo and the benchmarks real input, in the very layout that the worker reads.
//!
//! Nothing depends on the clock or the machine: the same file gives the same bytes under the same keys.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use parquet::errors::ParquetError;

use crate::ids::{self, DatasetId, SeriesCode};
use crate::keys::{self, Key, Prefix};
use crate::storage::{self, ETag, ObjectStorage, PutCondition};

pub mod csv;
mod manifest;
mod month;

pub use manifest::{DateRange, Manifest};

use csv::{CurrencyRates, Rates};
use month::Constants;

/// The bank publishes the rates of a day at 16:00 Central European Time; a version is dated after that hour in UTC.
const PUBLISHED_AT_HOUR: i8 = 16;

/// The rates are of working days.
const FREQUENCY: &str = "D";

/// Why a dataset cannot be built or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A code cannot be part of a key.
    #[error(transparent)]
    Id(#[from] ids::Error),
    /// A path is no key.
    #[error(transparent)]
    Key(#[from] keys::Error),
    /// A month could not be encoded.
    #[error("{key} cannot be encoded")]
    Encode {
        /// The object.
        key: Key,
        /// What the encoder said.
        source: ParquetError,
    },
    /// The manifest could not be encoded.
    #[error("the manifest cannot be encoded")]
    Manifest(#[from] serde_json::Error),
    /// The store did not take an object.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

/// A dataset ready to be encoded and written.
#[derive(Debug)]
pub struct Dataset<'a> {
    root: Prefix,
    manifest_key: Key,
    manifest: Manifest,
    series: Vec<DatasetSeries<'a>>,
    months: Vec<Month>,
}

/// One series of the dataset.
#[derive(Debug)]
struct DatasetSeries<'a> {
    code: SeriesCode,
    unit: String,
    observations: &'a [(Date, f64)],
}

/// One month of one series: which observations, and where they go.
#[derive(Debug)]
struct Month {
    series: usize,
    rows: Range<usize>,
    key: Key,
    file: String,
}

/// The series code of a currency's reference rate.
///
/// # Errors
/// When the currency cannot be part of a series code.
pub fn series_code(currency: &str) -> Result<SeriesCode, ids::Error> {
    SeriesCode::parse(&format!("ECB_EUR_{currency}_D"))
}

/// The version of a dataset that came to be then: `v20251111_014138_730866`.
#[must_use]
pub fn version_id(created_at: Timestamp) -> String {
    TimeZone::UTC.to_datetime(created_at).strftime("v%Y%m%d_%H%M%S_%6f").to_string()
}

impl<'a> Dataset<'a> {
    /// Cuts the rates into months and names every object. Without `created_at` the version is dated by the newest
    /// day of the rates.
    ///
    /// # Errors
    /// When a currency or path does not make a key.
    pub fn plan(
        rates: &'a Rates,
        datasets: &Prefix,
        dataset_id: &DatasetId,
        created_at: Option<Timestamp>,
    ) -> Result<Self, Error> {
        let (first, last) = date_range(rates);
        let created_at = created_at.unwrap_or_else(|| utc(last, PUBLISHED_AT_HOUR));
        let version_id = version_id(created_at);
        let manifest_key = keys::dataset_manifest(datasets, dataset_id, &version_id)?;
        let projections = keys::projections(&manifest_key, dataset_id, None)?;

        let series = rates.currencies().iter().map(dataset_series).collect::<Result<Vec<_>, _>>()?;
        let mut months = Vec::new();
        for (index, one) in series.iter().enumerate() {
            months.extend(cut(index, one, &projections)?);
        }
        let manifest = Manifest {
            version_id,
            dataset_id: dataset_id.to_string(),
            created_at: created_at.to_string(),
            collection_date: last.to_string(),
            data_points_count: series.iter().map(|one| one.observations.len()).sum(),
            series_count: series.len(),
            series_codes: series.iter().map(|one| one.code.to_string()).collect(),
            date_range: DateRange { min_obs_time: utc(first, 0).to_string(), max_obs_time: utc(last, 0).to_string() },
            parquet_files: months.iter().map(|month| month.file.clone()).collect(),
            partitions: months.iter().map(|month| folder_of(&month.file).to_owned()).collect(),
            partition_strategy: manifest::PARTITION_STRATEGY,
        };
        Ok(Self { root: datasets.folder(dataset_id.as_str())?, manifest_key, manifest, series, months })
    }

    /// The key of the version's manifest.
    #[must_use]
    pub fn manifest_key(&self) -> &Key {
        &self.manifest_key
    }

    /// The version's manifest.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// How many objects there are, the manifest included.
    #[must_use]
    pub fn object_count(&self) -> usize {
        self.months.len() + 1
    }

    /// The objects, encoded one by one as they are asked for; the manifest comes last, so that whoever finds it
    /// finds what it lists.
    pub fn objects(&self) -> impl Iterator<Item = Result<(Key, Bytes), Error>> + '_ {
        let data = self.months.iter().map(|month| Ok((month.key.clone(), self.encode(month)?)));
        let manifest = std::iter::once_with(|| {
            let mut text = serde_json::to_vec_pretty(&self.manifest)?;
            text.push(b'\n');
            Ok((self.manifest_key.clone(), text.into()))
        });
        data.chain(manifest)
    }

    /// Writes all objects but those that are there already with the same tag; calls `done` after each.
    ///
    /// # Errors
    /// When an object cannot be encoded, or the store does not take it.
    pub async fn write(&self, storage: &dyn ObjectStorage, mut done: impl FnMut() + Send) -> Result<(), Error> {
        let stored = storage.list(&self.root).await?.into_iter().map(|object| (object.key, object.etag));
        let stored: BTreeMap<Key, ETag> = stored.collect();
        for object in self.objects() {
            let (key, body) = object?;
            // Where tags are made in another way none is equal, and everything is written.
            if stored.get(&key) != Some(&ETag::of(&body)) {
                let is_manifest = key == self.manifest_key;
                let content_type = if is_manifest { "application/json" } else { "application/vnd.apache.parquet" };
                storage.put(&key, body, content_type, PutCondition::Always).await?;
            }
            done();
        }
        Ok(())
    }

    fn encode(&self, month: &Month) -> Result<Bytes, Error> {
        let series = &self.series[month.series];
        let constants = Constants { series_code: series.code.as_str(), unit: &series.unit, frequency: FREQUENCY };
        month::encode(&constants, &series.observations[month.rows.clone()])
            .map_err(|source| Error::Encode { key: month.key.clone(), source })
    }
}

fn dataset_series(rates: &CurrencyRates) -> Result<DatasetSeries<'_>, Error> {
    Ok(DatasetSeries {
        code: series_code(&rates.currency)?,
        unit: format!("{} per EUR", rates.currency),
        observations: &rates.observations,
    })
}

fn cut(index: usize, series: &DatasetSeries<'_>, projections: &Prefix) -> Result<Vec<Month>, Error> {
    let mut months = Vec::new();
    let mut start = 0;
    for rows in series.observations.chunk_by(|(a, _), (b, _)| (a.year(), a.month()) == (b.year(), b.month())) {
        let date = rows[0].0;
        let file = keys::month_file(&series.code, date.year(), date.month());
        let key = projections.join(&file)?;
        months.push(Month { series: index, rows: start..start + rows.len(), key, file });
        start += rows.len();
    }
    Ok(months)
}

/// The first and the last day of any currency.
fn date_range(rates: &Rates) -> (Date, Date) {
    let days = || rates.currencies().iter().flat_map(|one| &one.observations).map(|&(date, _)| date);
    (days().min().unwrap_or(Date::ZERO), days().max().unwrap_or(Date::ZERO))
}

fn folder_of(file: &str) -> &str {
    file.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn utc(date: Date, hour: i8) -> Timestamp {
    TimeZone::UTC.to_timestamp(date.at(hour, 0, 0, 0)).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests;
