//! What a metric holds now, read as any reader of the bucket would: the metric's code in; its current manifest and its
//! rows out.

use std::io;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::Deserialize;

use crate::ids::MetricCode;
use crate::keys::{self, DataFile, Key, OutputKeys, Prefix};
use crate::manifest::OutputManifest;
use crate::series::{self, NULL, Series, TimeNs};
use crate::storage::{self, ByteRange, ObjectStorage};

/// A metric's current version.
#[derive(Debug, Clone)]
pub(super) struct Metric {
    /// Its manifest.
    pub(super) manifest: OutputManifest,
    /// Its rows.
    pub(super) series: Series,
}

/// Why a metric cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
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
    /// The version has no JSONL file.
    #[error("{key} lists no {}", DataFile::Jsonl.name())]
    NoJsonl {
        /// The manifest's key.
        key: Key,
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
pub(super) async fn read(
    storage: &dyn ObjectStorage,
    metrics: &Prefix,
    metric_code: &MetricCode,
) -> Result<Metric, Error> {
    read_manifest(storage, OutputKeys::new(metrics.folder(metric_code.as_str())?)?.current()).await
}

/// Reads the version whose manifest lies there.
///
/// # Errors
/// As [`read`].
pub(super) async fn read_manifest(storage: &dyn ObjectStorage, manifest_key: Key) -> Result<Metric, Error> {
    let stored = storage.get(&manifest_key, ByteRange::Whole, None).await?;
    let manifest: OutputManifest = serde_json::from_slice(&stored.bytes)
        .map_err(|source| Error::Manifest { key: manifest_key.clone(), source })?;
    let jsonl = DataFile::Jsonl.name();
    if !manifest.outputs.files.iter().any(|file| file == jsonl) {
        return Err(Error::NoJsonl { key: manifest_key });
    }
    let data_key = Prefix::parse(&manifest.outputs.data_prefix)?.join(jsonl)?;
    let stored = storage.get(&data_key, ByteRange::Whole, None).await?;
    let series = rows(&data_key, &stored.bytes)?;
    Ok(Metric { manifest, series })
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
