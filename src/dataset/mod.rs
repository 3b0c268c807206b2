//! A dataset from a file: CSV or Parquet in; one small Parquet object for each month of each series, and a version
//! manifest, out. It gives the demo real input, and anybody's own data the very layout that the worker reads.
//!
//! Nothing depends on the clock or the machine: the same file gives the same bytes under the same keys.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, TryStreamExt};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use parquet::errors::ParquetError;

use crate::ids::{self, DatasetId, SeriesCode};
use crate::keys::{self, DataFile, Key, Prefix};
use crate::manifest::DatasetManifest;
use crate::series::TimeNs;
use crate::storage::{self, ByteRange, ObjectStorage, PutCondition};

pub mod columns;
pub mod csv;
pub mod long;
mod manifest;
mod month;
pub mod table;
mod time;
pub mod wide;

pub use manifest::{DateRange, Manifest};

use csv::{CurrencyRates, Rates};
use month::Constants;

/// The bank publishes the rates of a day at 16:00 Central European Time; a version is dated after that hour in UTC.
const PUBLISHED_AT_HOUR: i8 = 16;

/// What is told of the frequency of a series whose times are all midnights; of others nothing is.
const DAILY: &str = "D";

/// Objects on their way at once: a bucket takes its tens of milliseconds for each.
const WRITES_AT_A_TIME: usize = 16;

/// Versions a microsecond apart are tried until one is free; a builder that never finds one is stopped.
const MOST_VERSIONS: usize = 1_000;

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
    /// The version is there already, and holds something else.
    #[error("{key} is there already, of other contents: another time of creation makes another version")]
    VersionTaken {
        /// Its manifest.
        key: Key,
    },
}

/// The observations of one series.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesRows {
    /// Its code.
    pub code: SeriesCode,
    /// Times and values, times ascending and unique; a value that is not a number is null.
    pub observations: Vec<(TimeNs, f64)>,
}

/// A dataset ready to be encoded and written.
#[derive(Debug)]
pub struct Dataset {
    root: Prefix,
    datasets: Prefix,
    dataset_id: DatasetId,
    manifest_key: Key,
    manifest: Manifest,
    created_at: Timestamp,
    /// Whether somebody chose the version; otherwise the next that is free will do.
    is_chosen: bool,
    series: Vec<DatasetSeries>,
    months: Vec<Month>,
}

/// One series of the dataset.
#[derive(Debug)]
struct DatasetSeries {
    code: SeriesCode,
    unit: String,
    observations: Vec<(TimeNs, f64)>,
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

impl Dataset {
    /// Cuts the rates into months and names every object. Without `created_at` the version is dated by the newest
    /// day of the rates.
    ///
    /// # Errors
    /// When a currency or path does not make a key.
    pub fn plan(
        rates: &Rates,
        datasets: &Prefix,
        dataset_id: &DatasetId,
        created_at: Option<Timestamp>,
    ) -> Result<Self, Error> {
        let series = rates.currencies().iter().map(dataset_series).collect::<Result<Vec<_>, _>>()?;
        Self::assemble(series, datasets, dataset_id, created_at)
    }

    /// Cuts series of one's own into months and names every object, as [`Dataset::plan`] does.
    ///
    /// # Errors
    /// When a path does not make a key.
    pub fn plan_series(
        series: Vec<SeriesRows>,
        datasets: &Prefix,
        dataset_id: &DatasetId,
        created_at: Option<Timestamp>,
    ) -> Result<Self, Error> {
        let series = series.into_iter().map(|one| DatasetSeries {
            code: one.code,
            unit: String::new(),
            observations: one.observations,
        });
        Self::assemble(series.collect(), datasets, dataset_id, created_at)
    }

    fn assemble(
        series: Vec<DatasetSeries>,
        datasets: &Prefix,
        dataset_id: &DatasetId,
        created_at: Option<Timestamp>,
    ) -> Result<Self, Error> {
        let (first, last) = time_range(&series);
        let is_chosen = created_at.is_some();
        let created_at = created_at.unwrap_or_else(|| last.max(utc(date(last), PUBLISHED_AT_HOUR)));
        let version_id = version_id(created_at);
        let manifest_key = keys::dataset_manifest(datasets, dataset_id, &version_id)?;
        let projections = keys::projections(&manifest_key, dataset_id, None)?;

        let mut months = Vec::new();
        for (index, one) in series.iter().enumerate() {
            months.extend(cut(index, one, &projections)?);
        }
        let manifest = Manifest {
            version_id,
            dataset_id: dataset_id.to_string(),
            created_at: created_at.to_string(),
            collection_date: date(last).to_string(),
            data_points_count: series.iter().map(|one| one.observations.len()).sum(),
            series_count: series.len(),
            series_codes: series.iter().map(|one| one.code.to_string()).collect(),
            date_range: DateRange { min_obs_time: first.to_string(), max_obs_time: last.to_string() },
            parquet_files: months.iter().map(|month| month.file.clone()).collect(),
            partitions: months.iter().map(|month| folder_of(&month.file).to_owned()).collect(),
            partition_strategy: manifest::PARTITION_STRATEGY,
        };
        Ok(Self {
            root: datasets.folder(dataset_id.as_str())?,
            datasets: datasets.clone(),
            dataset_id: dataset_id.clone(),
            manifest_key,
            manifest,
            created_at,
            is_chosen,
            series,
            months,
        })
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

    /// The objects, encoded one by one as they are asked for, the manifest last.
    pub fn objects(&self) -> impl Iterator<Item = Result<(Key, Bytes), Error>> + '_ {
        let manifest = std::iter::once_with(|| Ok((self.manifest_key.clone(), self.manifest_text()?)));
        self.data().chain(manifest)
    }

    fn data(&self) -> impl Iterator<Item = Result<(Key, Bytes), Error>> + '_ {
        self.months.iter().map(|month| Ok((month.key.clone(), self.encode(month)?)))
    }

    fn manifest_text(&self) -> Result<Bytes, Error> {
        let mut text = serde_json::to_vec_pretty(&self.manifest)?;
        text.push(b'\n');
        Ok(text.into())
    }

    /// Writes all objects but those that are there already with the same bytes; calls `done` after each. The version's
    /// manifest comes last, so that whoever finds it finds what it lists, and only where there is none: a version never
    /// changes. Where its place is taken, and contents have changed, the version moves on by a microsecond, unless it was chosen.
    ///
    /// # Errors
    /// When an object cannot be encoded, the store does not take it, or the chosen version is taken.
    pub async fn write(&mut self, storage: &dyn ObjectStorage, mut done: impl FnMut() + Send) -> Result<(), Error> {
        let stored = storage.list(&self.root).await?.into_iter().map(|object| (object.key, object.size_bytes));
        let stored: BTreeMap<Key, u64> = stored.collect();
        let puts = self.data().map(|object| {
            let stored = &stored;
            async move {
                let (key, body) = object?;
                let is_changed = !is_stored(&key, &body, stored, storage).await?;
                if is_changed {
                    storage.put(&key, body, DataFile::Parquet.content_type(), PutCondition::Always).await?;
                }
                Ok::<_, Error>(is_changed)
            }
        });
        let mut puts = stream::iter(puts).buffer_unordered(WRITES_AT_A_TIME).boxed();
        let mut is_changed = false;
        while let Some(changed) = puts.try_next().await? {
            is_changed |= changed;
            done();
        }
        drop(puts);
        self.write_manifest(is_changed, storage).await?;
        done();
        Ok(())
    }

    async fn write_manifest(&mut self, is_changed: bool, storage: &dyn ObjectStorage) -> Result<(), Error> {
        for _ in 0..MOST_VERSIONS {
            let body = self.manifest_text()?;
            let put = storage.put(&self.manifest_key, body.clone(), "application/json", PutCondition::IfAbsent).await;
            match put {
                Ok(_) => return Ok(()),
                Err(storage::Error::Precondition { .. } | storage::Error::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            let is_same = match storage.get(&self.manifest_key, ByteRange::Whole, None).await {
                Ok(object) => object.bytes == body && !is_changed,
                Err(storage::Error::NotFound { .. }) => continue,
                Err(error) => return Err(error.into()),
            };
            if is_same {
                return Ok(());
            }
            if self.is_chosen {
                break;
            }
            self.move_on()?;
        }
        Err(Error::VersionTaken { key: self.manifest_key.clone() })
    }

    /// Becomes the version of the next microsecond.
    fn move_on(&mut self) -> Result<(), Error> {
        self.created_at += jiff::SignedDuration::from_micros(1);
        self.manifest.version_id = version_id(self.created_at);
        self.manifest.created_at = self.created_at.to_string();
        self.manifest_key = keys::dataset_manifest(&self.datasets, &self.dataset_id, &self.manifest.version_id)?;
        Ok(())
    }

    /// Makes this version the current one, unless a newer one is: whoever writes at the same time, the pointer only goes
    /// forward. Says whether this version is current now.
    ///
    /// # Errors
    /// When the manifest cannot be encoded, or the store fails.
    pub async fn advance_current(&self, storage: &dyn ObjectStorage) -> Result<bool, Error> {
        let key = keys::dataset_current(&self.root);
        let body = Bytes::from(serde_json::to_vec_pretty(&self.manifest)?);
        loop {
            let condition = match storage.get(&key, ByteRange::Whole, None).await {
                Err(storage::Error::NotFound { .. }) => PutCondition::IfAbsent,
                Err(error) => return Err(error.into()),
                Ok(current) => {
                    let stored = serde_json::from_slice::<DatasetManifest>(&current.bytes).ok();
                    // Versions are named by their time. What names none is replaced.
                    if stored.and_then(|stored| stored.version_id).is_some_and(|other| other > self.manifest.version_id)
                    {
                        return Ok(false);
                    }
                    PutCondition::IfMatch(current.etag)
                }
            };
            match storage.put(&key, body.clone(), "application/json", condition).await {
                Ok(_) => return Ok(true),
                // Somebody else was faster: look again. Each turn means that another has advanced the pointer.
                Err(storage::Error::Precondition { .. } | storage::Error::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn encode(&self, month: &Month) -> Result<Bytes, Error> {
        let series = &self.series[month.series];
        let is_daily = series.observations.iter().all(|&(time, _)| time % time::DAY_NS == 0);
        let frequency = if is_daily { DAILY } else { "" };
        let constants = Constants { series_code: series.code.as_str(), unit: &series.unit, frequency };
        month::encode(&constants, &series.observations[month.rows.clone()])
            .map_err(|source| Error::Encode { key: month.key.clone(), source })
    }
}

/// Whether the store has the object with these very bytes. To read it is cheaper than to write it, and leaves its tag as
/// it is.
async fn is_stored(
    key: &Key,
    body: &Bytes,
    stored: &BTreeMap<Key, u64>,
    storage: &dyn ObjectStorage,
) -> Result<bool, Error> {
    if stored.get(key) != Some(&(body.len() as u64)) {
        return Ok(false);
    }
    match storage.get(key, ByteRange::Whole, None).await {
        Ok(object) => Ok(object.bytes == body),
        Err(storage::Error::NotFound { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn dataset_series(rates: &CurrencyRates) -> Result<DatasetSeries, Error> {
    let observations = rates.observations.iter().map(|&(date, rate)| (time::midnight_ns(date), rate));
    Ok(DatasetSeries {
        code: series_code(&rates.currency)?,
        unit: format!("{} per EUR", rates.currency),
        observations: observations.collect(),
    })
}

fn cut(index: usize, series: &DatasetSeries, projections: &Prefix) -> Result<Vec<Month>, Error> {
    let month = |time: TimeNs| {
        let date = date(time::timestamp(time));
        (date.year(), date.month())
    };
    let mut months = Vec::new();
    let mut start = 0;
    for rows in series.observations.chunk_by(|&(a, _), &(b, _)| month(a) == month(b)) {
        let (year, month) = month(rows[0].0);
        let file = keys::month_file(&series.code, year, month);
        let key = projections.join(&file)?;
        months.push(Month { series: index, rows: start..start + rows.len(), key, file });
        start += rows.len();
    }
    Ok(months)
}

/// The first and the last time of any series.
fn time_range(series: &[DatasetSeries]) -> (Timestamp, Timestamp) {
    let times = || series.iter().flat_map(|one| &one.observations).map(|&(time, _)| time);
    (time::timestamp(times().min().unwrap_or(0)), time::timestamp(times().max().unwrap_or(0)))
}

fn date(timestamp: Timestamp) -> Date {
    TimeZone::UTC.to_datetime(timestamp).date()
}

fn folder_of(file: &str) -> &str {
    file.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn utc(date: Date, hour: i8) -> Timestamp {
    TimeZone::UTC.to_timestamp(date.at(hour, 0, 0, 0)).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow::array::AsArray;
    use arrow::datatypes::{Float64Type, TimestampMicrosecondType};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::storage::memory::{MemoryStorage, Operation};

    const SAMPLE: &[u8] = include_bytes!("../../sample-data/eurofxref-hist.csv");

    fn sample() -> Rates {
        csv::parse(SAMPLE).unwrap()
    }

    fn plan(rates: &Rates) -> Dataset {
        Dataset::plan(rates, &Prefix::parse("datasets").unwrap(), &DatasetId::parse("ecb_fx").unwrap(), None).unwrap()
    }

    fn small() -> Rates {
        csv::parse("Date,USD,ISK\n2024-02-01,1.5,N/A\n2024-01-31,1.25,N/A\n2024-01-02,1.125,140\n".as_bytes()).unwrap()
    }

    fn objects(rates: &Rates) -> Vec<(String, Bytes)> {
        let dataset = plan(rates);
        let objects = dataset.objects().map(|object| object.map(|(key, body)| (key.to_string(), body)));
        objects.collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn the_layout_is_one_object_for_each_month_of_each_series_and_then_the_manifest() {
        let keys: Vec<String> = objects(&small()).into_iter().map(|(key, _)| key).collect();
        assert_eq!(
            keys,
            [
                "datasets/ecb_fx/projections/ECB_EUR_USD_D/year=2024/month=01/data.parquet",
                "datasets/ecb_fx/projections/ECB_EUR_USD_D/year=2024/month=02/data.parquet",
                "datasets/ecb_fx/projections/ECB_EUR_ISK_D/year=2024/month=01/data.parquet",
                "datasets/ecb_fx/versions/v20240201_160000_000000/manifest.json",
            ]
        );
    }

    #[test]
    fn the_manifest_says_what_the_version_holds() {
        let objects = objects(&small());
        let (_, manifest) = objects.last().unwrap();
        insta::assert_snapshot!(std::str::from_utf8(manifest).unwrap());
    }

    #[test]
    fn a_given_time_names_the_version() {
        let rates = small();
        let created_at = "2025-11-11T01:41:38.730866Z".parse().unwrap();
        let dataset_id = DatasetId::parse("ecb_fx").unwrap();
        let dataset =
            Dataset::plan(&rates, &Prefix::parse("datasets").unwrap(), &dataset_id, Some(created_at)).unwrap();
        assert_eq!(dataset.manifest().version_id, "v20251111_014138_730866");
        assert_eq!(dataset.manifest_key().as_str(), "datasets/ecb_fx/versions/v20251111_014138_730866/manifest.json");
    }

    #[test]
    fn a_month_reads_back_as_it_was() {
        let objects = objects(&small());
        let reader = ParquetRecordBatchReaderBuilder::try_new(objects[0].1.clone()).unwrap();
        assert_eq!(reader.metadata().file_metadata().created_by(), Some("metrics-engine dataset builder"));
        let batches: Vec<_> = reader.build().unwrap().collect::<Result<_, _>>().unwrap();
        let [batch] = batches.as_slice() else { panic!("{} batches", batches.len()) };
        let times = batch.column_by_name("obs_time").unwrap().as_primitive::<TimestampMicrosecondType>();
        assert_eq!(times.values(), &[1_704_153_600_000_000, 1_706_659_200_000_000]);
        assert_eq!(batch.column_by_name("value").unwrap().as_primitive::<Float64Type>().values(), &[1.125, 1.25]);
        for (name, expected) in [("internal_series_code", "ECB_EUR_USD_D"), ("unit", "USD per EUR"), ("frequency", "D")]
        {
            assert!(batch.column_by_name(name).unwrap().as_string::<i32>().iter().all(|text| text == Some(expected)));
        }
    }

    #[test]
    fn the_sample_gives_the_same_bytes_every_time() {
        let rates = sample();
        let first = objects(&rates);
        assert_eq!(first, objects(&sample()));

        let sizes: Vec<usize> = first.iter().rev().skip(1).map(|(_, body)| body.len()).collect();
        let mut digest = Sha256::new();
        for (key, body) in &first {
            digest.update(key);
            digest.update(body);
        }
        let mut summary: BTreeMap<&str, String> = BTreeMap::new();
        summary.insert("sha256", hex::encode(digest.finalize()));
        summary.insert("objects", first.len().to_string());
        summary.insert("smallest_bytes", sizes.iter().min().unwrap().to_string());
        summary.insert("largest_bytes", sizes.iter().max().unwrap().to_string());
        summary.insert("data_bytes", sizes.iter().sum::<usize>().to_string());
        summary.insert("manifest_bytes", first.last().unwrap().1.len().to_string());
        insta::assert_json_snapshot!(summary);
    }

    #[test]
    fn every_file_of_the_samples_manifest_exists_and_no_other() {
        let rates = sample();
        let dataset = plan(&rates);
        let keys: Vec<String> = dataset.objects().map(|object| object.unwrap().0.to_string()).collect();
        let manifest = dataset.manifest();
        let projections = "datasets/ecb_fx/projections/";
        let listed: Vec<String> = manifest.parquet_files.iter().map(|file| format!("{projections}{file}")).collect();
        assert_eq!(keys[..keys.len() - 1], listed);
        assert_eq!(keys.len(), dataset.object_count());
        assert_eq!(manifest.version_id, "v20261030_160000_000000");
        assert_eq!(manifest.series_codes.len(), manifest.series_count);
        assert_eq!(manifest.date_range.min_obs_time, "1999-01-04T00:00:00Z");
        let gap = |file: &&String| file.starts_with("ECB_EUR_ISK_D/year=201");
        let years: Vec<&str> = manifest.parquet_files.iter().filter(gap).map(|file| &file[14..23]).collect();
        assert_eq!((years.first(), years.last()), (Some(&"year=2018"), Some(&"year=2019")));
    }

    #[tokio::test]
    async fn what_is_there_already_is_not_written_again() {
        let rates = small();
        let mut dataset = plan(&rates);
        let storage = MemoryStorage::new();
        let mut done_count = 0;
        dataset.write(&storage, || done_count += 1).await.unwrap();
        assert_eq!(done_count, dataset.object_count());
        for object in dataset.objects() {
            let (key, body) = object.unwrap();
            assert_eq!(storage.peek(&key), Some(body), "{key}");
        }

        let put_count = || storage.trace().iter().filter(|step| step.call.operation == Operation::Put).count();
        let before = put_count();
        dataset.write(&storage, || ()).await.unwrap();
        assert_eq!(put_count() - before, 1, "the manifest, which is refused");
        assert_eq!(dataset.manifest().version_id, "v20240201_160000_000000", "the same contents are the same version");

        let changed = dataset.objects().next().unwrap().unwrap().0;
        storage.insert(&changed, "other bytes");
        let before = put_count();
        dataset.write(&storage, || ()).await.unwrap();
        assert_eq!(put_count() - before, 3, "the changed object, the manifest that is refused, and the next one");
        assert_eq!(dataset.manifest().version_id, "v20240201_160000_000001");
        assert_ne!(storage.peek(&changed), Some("other bytes".into()));
    }

    #[tokio::test]
    async fn a_version_never_changes() {
        let (rates, storage) = (small(), MemoryStorage::new());
        plan(&rates).write(&storage, || ()).await.unwrap();
        let fewer = csv::parse("Date,USD\n2024-02-01,1.5\n".as_bytes()).unwrap();
        let mut next = plan(&fewer);
        next.write(&storage, || ()).await.unwrap();
        assert_eq!(next.manifest().version_id, "v20240201_160000_000001", "the next that is free");
        let (datasets, id) = (Prefix::parse("datasets").unwrap(), DatasetId::parse("ecb_fx").unwrap());
        let chosen = Some("2024-02-01T16:00:00Z".parse().unwrap());
        let refused = Dataset::plan(&fewer, &datasets, &id, chosen).unwrap().write(&storage, || ()).await.unwrap_err();
        assert!(matches!(refused, Error::VersionTaken { .. }), "{refused}");
    }

    #[test]
    fn times_within_a_day_are_kept() {
        let code = SeriesCode::parse("A").unwrap();
        let observations = vec![(-1, 1.0), (time::DAY_NS + 1_500, f64::NAN)];
        let (datasets, id) = (Prefix::parse("datasets").unwrap(), DatasetId::parse("d").unwrap());
        let dataset = Dataset::plan_series(vec![SeriesRows { code, observations }], &datasets, &id, None).unwrap();
        let manifest = dataset.manifest();
        assert_eq!(manifest.version_id, "v19700102_160000_000000");
        assert_eq!(manifest.date_range.min_obs_time, "1969-12-31T23:59:59.999999999Z");
        assert_eq!(manifest.parquet_files.len(), 2, "two months");
        let (_, body) = dataset.objects().nth(1).unwrap().unwrap();
        let batch = ParquetRecordBatchReaderBuilder::try_new(body).unwrap().build().unwrap().next().unwrap().unwrap();
        let times = batch.column_by_name("obs_time").unwrap();
        assert_eq!(times.as_primitive::<arrow::datatypes::TimestampNanosecondType>().values(), &[time::DAY_NS + 1_500]);
        assert_eq!(batch.column_by_name("value").unwrap().null_count(), 1);
    }

    #[tokio::test]
    async fn the_pointer_only_goes_forward() {
        let (rates, storage) = (small(), MemoryStorage::new());
        let at = |time: &str| {
            let (datasets, id) = (Prefix::parse("datasets").unwrap(), DatasetId::parse("d").unwrap());
            Dataset::plan(&rates, &datasets, &id, Some(time.parse().unwrap())).unwrap()
        };
        let (older, newer) = (at("2024-02-01T00:00:00Z"), at("2024-02-02T00:00:00Z"));
        let key = Key::parse("datasets/d/current/manifest.json").unwrap();
        let current =
            || serde_json::from_slice::<DatasetManifest>(&storage.peek(&key).unwrap()).unwrap().version_id.unwrap();
        assert!(older.advance_current(&storage).await.unwrap());
        assert_eq!(current(), older.manifest().version_id);
        assert!(newer.advance_current(&storage).await.unwrap());
        assert!(!older.advance_current(&storage).await.unwrap());
        assert_eq!(current(), newer.manifest().version_id);
        storage.insert(&key, "no manifest");
        assert!(older.advance_current(&storage).await.unwrap());
    }
}
