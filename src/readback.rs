//! What a metric holds now, read as any reader of the bucket would: the metric's code in; its current manifest and its
//! rows out. The command line and the API of the control plane show it.

use std::io;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, TimestampNanosecondType};
use bytes::Bytes;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::Deserialize;

use crate::ids::MetricCode;
use crate::keys::{self, DataFile, Key, OutputKeys, Prefix, VersionTs};
use crate::manifest::OutputManifest;
use crate::series::{self, NULL, Series, TimeNs};
use crate::storage::{self, ByteRange, ObjectStorage};

/// A metric's current version.
#[derive(Debug, Clone)]
pub struct Metric {
    /// Its manifest.
    pub manifest: OutputManifest,
    /// Its rows.
    pub series: Series,
}

/// Why a metric cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A path is no key.
    #[error(transparent)]
    Key(#[from] keys::Error),
    /// An object cannot be read.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// The manifest is none.
    #[error("{key} is no manifest of a metric")]
    Manifest {
        /// Its key.
        key: Key,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// The version has no file with rows.
    #[error("{key} lists neither {} nor {}", DataFile::Jsonl.name(), DataFile::Parquet.name())]
    NoRows {
        /// The manifest's key.
        key: Key,
    },
    /// The version's rows lie outside of the metric's own folder.
    #[error("{key} says that its rows are in {data_prefix}, which is not beside it")]
    Elsewhere {
        /// The manifest's key.
        key: Key,
        /// Where it says they are.
        data_prefix: Prefix,
    },
    /// An object is larger than anybody wants to hold in memory.
    #[error("{key} has {size_bytes} bytes, at most {MOST_BYTES} are read")]
    TooLarge {
        /// The object.
        key: Key,
        /// Its size.
        size_bytes: u64,
    },
    /// The file is not the Parquet that the worker writes.
    #[error("{key} is not the Parquet of a metric: {reason}")]
    Parquet {
        /// The file.
        key: Key,
        /// What is wrong with it.
        reason: String,
    },
    /// A line is no row.
    #[error("line {line} of {key} is no row: {reason}")]
    Row {
        /// The file.
        key: Key,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The rows are no series.
    #[error("the rows of {key} are no series: {source}")]
    Series {
        /// The file.
        key: Key,
        /// What is wrong with them.
        source: series::Error,
    },
}

/// Reads the current version of a metric under `metrics`.
///
/// # Errors
/// When an object is missing, or is not what it should be.
pub async fn read(storage: &dyn ObjectStorage, metrics: &Prefix, metric_code: &MetricCode) -> Result<Metric, Error> {
    let keys = OutputKeys::new(metrics.folder(metric_code.as_str())?)?;
    read_under(storage, keys.base(), keys.current()).await
}

/// Reads the version whose manifest lies there.
///
/// # Errors
/// As [`read`].
pub async fn read_manifest(
    storage: &dyn ObjectStorage,
    keys: &OutputKeys,
    version: VersionTs,
) -> Result<Metric, Error> {
    read_under(storage, keys.base(), keys.manifest(version)).await
}

/// A manifest is data too: what it names is read only within the metric's own folder.
async fn read_under(storage: &dyn ObjectStorage, base: &Prefix, manifest_key: Key) -> Result<Metric, Error> {
    let bytes = whole(storage, &manifest_key).await?;
    let manifest: OutputManifest =
        serde_json::from_slice(&bytes).map_err(|source| Error::Manifest { key: manifest_key.clone(), source })?;
    let has = |file: &DataFile| manifest.outputs.files.iter().any(|name| name == file.name());
    let Some(file) = [DataFile::Jsonl, DataFile::Parquet].into_iter().find(has) else {
        return Err(Error::NoRows { key: manifest_key });
    };
    let data_prefix = Prefix::parse(&manifest.outputs.data_prefix)?;
    if !base.contains(data_prefix.as_str()) {
        return Err(Error::Elsewhere { key: manifest_key, data_prefix });
    }
    let data_key = data_prefix.join(file.name())?;
    let bytes = whole(storage, &data_key).await?;
    let series = match file {
        DataFile::Jsonl => rows(&data_key, &bytes)?,
        DataFile::Parquet => columns(&data_key, bytes)?,
    };
    Ok(Metric { manifest, series })
}

/// A metric's rows, two million and more of them, fit well; a reader's memory is as bounded as a worker's.
const MOST_BYTES: u64 = 128 << 20;

async fn whole(storage: &dyn ObjectStorage, key: &Key) -> Result<Bytes, Error> {
    let object = storage.get(key, ByteRange::Bounded(0..MOST_BYTES), None).await?;
    match object.size_bytes > MOST_BYTES {
        true => Err(Error::TooLarge { key: key.clone(), size_bytes: object.size_bytes }),
        false => Ok(object.bytes),
    }
}

fn columns(key: &Key, bytes: Bytes) -> Result<Series, Error> {
    let broken = |reason: String| Error::Parquet { key: key.clone(), reason };
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).and_then(ParquetRecordBatchReaderBuilder::build);
    let (mut times, mut values) = (Vec::new(), Vec::new());
    for batch in reader.map_err(|error| broken(error.to_string()))? {
        let batch = batch.map_err(|error| broken(error.to_string()))?;
        append(&batch, &mut times, &mut values).ok_or_else(|| broken("its columns are others".to_owned()))?;
    }
    Series::new(times, values).map_err(|source| Error::Series { key: key.clone(), source })
}

fn append(batch: &RecordBatch, times: &mut Vec<TimeNs>, values: &mut Vec<f64>) -> Option<()> {
    let time_column = batch.column_by_name("obs_time")?.as_primitive_opt::<TimestampNanosecondType>()?;
    let value_column = batch.column_by_name("value")?.as_primitive_opt::<Float64Type>()?;
    if time_column.null_count() > 0 {
        return None;
    }
    times.extend_from_slice(time_column.values());
    values.extend(value_column.iter().map(|value| value.unwrap_or(NULL)));
    Some(())
}

/// One line of the file.
#[derive(Deserialize)]
struct Row<'a> {
    obs_time: &'a str,
    value: Option<f64>,
}

fn rows(key: &Key, text: &[u8]) -> Result<Series, Error> {
    let (mut times, mut values) = (Vec::new(), Vec::new());
    for (index, line) in io::BufRead::split(text, b'\n').enumerate() {
        let broken = |reason: String| Error::Row { key: key.clone(), line: index + 1, reason };
        let line = line.map_err(|error| broken(error.to_string()))?;
        let row: Row<'_> = serde_json::from_slice(&line).map_err(|error| broken(error.to_string()))?;
        times.push(time_ns(row.obs_time).ok_or_else(|| broken(format!("{:?} is no time", row.obs_time)))?);
        values.push(row.value.unwrap_or(NULL));
    }
    Series::new(times, values).map_err(|source| Error::Series { key: key.clone(), source })
}

/// Reads `2024-01-31T00:00:00` as UTC.
fn time_ns(text: &str) -> Option<TimeNs> {
    let datetime: DateTime = text.parse().ok()?;
    let timestamp = TimeZone::UTC.to_timestamp(datetime).ok()?;
    TimeNs::try_from(timestamp.as_nanosecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key::parse("m/data/metrics.jsonl").unwrap()
    }

    #[test]
    fn rows_read_back_as_a_series() {
        let text = "{\"obs_time\":\"1970-01-01T00:00:00\",\"value\":1.5}\n{\"obs_time\":\"1970-01-01T00:00:00.000000007\",\"value\":null}\n";
        assert_eq!(rows(&key(), text.as_bytes()).unwrap(), Series::new(vec![0, 7], vec![1.5, NULL]).unwrap());
        assert_eq!(rows(&key(), b"").unwrap(), Series::empty());
    }

    fn check_error(text: &str, expected: &str) {
        let error = rows(&key(), text.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }

    #[test]
    fn a_broken_row_is_named_with_its_line() {
        let good = "{\"obs_time\":\"1970-01-01T00:00:00\",\"value\":1}\n";
        check_error(&format!("{good}{{\"value\":1}}\n"), "line 2 of m/data/metrics.jsonl is no row: missing field");
        check_error(
            "{\"obs_time\":\"soon\",\"value\":1}\n",
            "line 1 of m/data/metrics.jsonl is no row: \"soon\" is no time",
        );
        check_error(&good.repeat(2), "the rows of m/data/metrics.jsonl are no series: time at index 1 does not ascend");
    }
}
