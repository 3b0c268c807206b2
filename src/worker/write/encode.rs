//! A series becomes the bytes of its files: JSONL and Parquet. Pure; the same series always gives the same bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, TimestampNanosecondArray};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use bytes::Bytes;
use jiff::civil::Date;
use parquet::arrow::ArrowWriter;
use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use sha2::{Digest, Sha256};

use crate::config::OutputCompression;
use crate::keys::DataFile;
use crate::series::{Series, TimeNs};

/// What a run will commit: the files of a version, and what its manifest says of them.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The files and their bytes, in the order of the manifest.
    pub files: Vec<(DataFile, Bytes)>,
    /// Rows, null ones included.
    pub row_count: u64,
    /// Rows whose value is null.
    pub null_count: u64,
}

impl Draft {
    /// SHA-256 of each file, in hex.
    #[must_use]
    pub fn digests(&self) -> BTreeMap<String, String> {
        let digest = |bytes: &Bytes| hex::encode(Sha256::digest(bytes));
        self.files.iter().map(|(file, bytes)| (file.name().to_owned(), digest(bytes))).collect()
    }

    /// All files together.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.files.iter().map(|(_, bytes)| bytes.len() as u64).sum()
    }
}

/// Encodes a series in each of the formats.
///
/// # Errors
/// When the Parquet writer refuses.
pub fn encode(series: &Series, files: &[DataFile], compression: OutputCompression) -> Result<Draft, ParquetError> {
    let mut encoded = Vec::with_capacity(files.len());
    for &file in files {
        let bytes = match file {
            DataFile::Jsonl => jsonl(series),
            DataFile::Parquet => parquet(series, compression)?,
        };
        encoded.push((file, bytes));
    }
    let null_count = series.values().iter().filter(|value| value.is_nan()).count() as u64;
    Ok(Draft { files: encoded, row_count: series.len() as u64, null_count })
}

/// One object a line, ascending: `{"obs_time":"2024-01-01T03:00:00","value":1.23}`. JSON has no infinity: a value that
/// is not finite is `null`, as null is.
#[must_use]
pub fn jsonl(series: &Series) -> Bytes {
    const TYPICAL_LINE_BYTES: usize = 64;
    let mut text = Vec::with_capacity(series.len() * TYPICAL_LINE_BYTES);
    let mut clock = ClockText::default();
    for (&time, &value) in series.times().iter().zip(series.values()) {
        text.extend_from_slice(b"{\"obs_time\":\"");
        clock.write(time, &mut text);
        text.extend_from_slice(b"\",\"value\":");
        write_value(value, &mut text);
        text.extend_from_slice(b"}\n");
    }
    Bytes::from(text)
}

/// The shortest text that reads back to the same f64.
fn write_value(value: f64, text: &mut Vec<u8>) {
    let written = value.is_finite() && serde_json::to_writer(&mut *text, &value).is_ok();
    if !written {
        text.extend_from_slice(b"null");
    }
}

/// Writes times as ISO 8601 UTC without a suffix; keeps the text of the day, which rows in order share.
#[derive(Default)]
struct ClockText {
    day: Option<i64>,
    date: [u8; 10],
}

const NS_PER_SECOND: i64 = 1_000_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

impl ClockText {
    fn write(&mut self, time: TimeNs, text: &mut Vec<u8>) {
        let seconds = time.div_euclid(NS_PER_SECOND);
        let day = seconds.div_euclid(SECONDS_PER_DAY);
        if self.day != Some(day) {
            self.date = date_text(day);
            self.day = Some(day);
        }
        let second_of_day = seconds.rem_euclid(SECONDS_PER_DAY);
        text.extend_from_slice(&self.date);
        text.push(b'T');
        push_digits(text, second_of_day / 3_600, 2);
        text.push(b':');
        push_digits(text, second_of_day / 60 % 60, 2);
        text.push(b':');
        push_digits(text, second_of_day % 60, 2);
        match time.rem_euclid(NS_PER_SECOND) {
            0 => {}
            fraction if fraction % 1_000_000 == 0 => push_fraction(text, fraction / 1_000_000, 3),
            fraction if fraction % 1_000 == 0 => push_fraction(text, fraction / 1_000, 6),
            fraction => push_fraction(text, fraction, 9),
        }
    }
}

fn push_fraction(text: &mut Vec<u8>, number: i64, digits: u32) {
    text.push(b'.');
    push_digits(text, number, digits);
}

fn push_digits(text: &mut Vec<u8>, number: i64, digits: u32) {
    for place in (0..digits).rev() {
        let digit = number / 10_i64.pow(place) % 10;
        // A digit is 0 to 9, so the conversion always holds.
        text.push(b'0' + u8::try_from(digit).unwrap_or(0));
    }
}

/// `2024-01-31` of a day since the epoch. Nanoseconds in an i64 reach from 1677 to 2262, so every day has a date.
fn date_text(day: i64) -> [u8; 10] {
    const EPOCH: Date = Date::constant(1970, 1, 1);
    let date = EPOCH.checked_add(jiff::Span::new().days(day)).unwrap_or(EPOCH);
    let mut text = Vec::with_capacity(10);
    push_digits(&mut text, i64::from(date.year()), 4);
    text.push(b'-');
    push_digits(&mut text, i64::from(date.month()), 2);
    text.push(b'-');
    push_digits(&mut text, i64::from(date.day()), 2);
    text.try_into().unwrap_or(*b"0000-00-00")
}

/// `obs_time` timestamp[ns, UTC] and `value` double; null is null, infinities are what they are.
fn parquet(series: &Series, compression: OutputCompression) -> Result<Bytes, ParquetError> {
    let times = TimestampNanosecondArray::from(series.times().to_vec()).with_timezone("UTC");
    let nulls = NullBuffer::from_iter(series.values().iter().map(|value| !value.is_nan()));
    let values = Float64Array::new(ScalarBuffer::from(series.values().to_vec()), Some(nulls));
    let columns: [(&str, ArrayRef, bool); 2] =
        [("obs_time", Arc::new(times), false), ("value", Arc::new(values), true)];
    let batch = RecordBatch::try_from_iter_with_nullable(columns)?;
    let properties = WriterProperties::builder().set_compression(codec(compression)).build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties))?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(Bytes::from(bytes))
}

fn codec(compression: OutputCompression) -> Compression {
    match compression {
        OutputCompression::None => Compression::UNCOMPRESSED,
        OutputCompression::Gzip => Compression::GZIP(GzipLevel::default()),
        OutputCompression::Snappy => Compression::SNAPPY,
        OutputCompression::Zstd => Compression::ZSTD(ZstdLevel::default()),
        OutputCompression::Lz4 => Compression::LZ4_RAW,
        OutputCompression::Brotli => Compression::BROTLI(BrotliLevel::default()),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::{DataType, Float64Type, TimeUnit, TimestampNanosecondType};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use proptest::prelude::*;

    use super::*;
    use crate::series::NULL;

    fn series() -> Series {
        let day = 86_400 * NS_PER_SECOND;
        let times = vec![i64::MIN, -1, 0, 1_000_000, 1_001_000, 19_723 * day + 3 * 3_600 * NS_PER_SECOND, i64::MAX];
        let values = vec![0.1 + 0.2, NULL, -0.0, f64::INFINITY, f64::NEG_INFINITY, 1e300, 5e-324];
        Series::new(times, values).unwrap()
    }

    #[test]
    fn lines_are_as_existing_readers_expect() {
        let text = String::from_utf8(jsonl(&series()).to_vec()).unwrap();
        insta::assert_snapshot!(text, @r#"
        {"obs_time":"1677-09-21T00:12:43.145224192","value":0.30000000000000004}
        {"obs_time":"1969-12-31T23:59:59.999999999","value":null}
        {"obs_time":"1970-01-01T00:00:00","value":-0.0}
        {"obs_time":"1970-01-01T00:00:00.001","value":null}
        {"obs_time":"1970-01-01T00:00:00.001001","value":null}
        {"obs_time":"2024-01-01T03:00:00","value":1e+300}
        {"obs_time":"2262-04-11T23:47:16.854775807","value":5e-324}
        "#);
    }

    #[test]
    fn parquet_reads_back_in_every_compression() {
        for compression in [
            OutputCompression::None,
            OutputCompression::Gzip,
            OutputCompression::Snappy,
            OutputCompression::Zstd,
            OutputCompression::Lz4,
            OutputCompression::Brotli,
        ] {
            let draft = encode(&series(), &[DataFile::Parquet], compression).unwrap();
            assert_eq!((draft.row_count, draft.null_count), (7, 1));
            let bytes = draft.files[0].1.clone();
            let batch =
                ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap().next().unwrap().unwrap();
            let schema = batch.schema();
            assert_eq!(schema.field(0).data_type(), &DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())));
            assert_eq!(batch.column(0).as_primitive::<TimestampNanosecondType>().values(), series().times());
            let values = batch.column(1).as_primitive::<Float64Type>();
            let read: Vec<Option<f64>> = values.iter().collect();
            let written: Vec<Option<f64>> = series().iter().map(|(_, value)| value).collect();
            assert_eq!(read, written);
        }
    }

    #[test]
    fn an_empty_series_has_files_without_rows() {
        let draft = encode(&Series::empty(), &[DataFile::Jsonl, DataFile::Parquet], OutputCompression::Snappy).unwrap();
        assert_eq!(draft.row_count, 0);
        assert!(draft.files[0].1.is_empty());
        assert_eq!(draft.digests().len(), 2);
    }

    proptest! {
        #[test]
        fn a_line_reads_back_to_the_same_observation(time in any::<i64>(), bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            let text = jsonl(&Series::new(vec![time], vec![value]).unwrap());
            let line: serde_json::Value = serde_json::from_slice(&text).unwrap();
            let read: jiff::civil::DateTime = line["obs_time"].as_str().unwrap().parse().unwrap();
            let timestamp = jiff::tz::Offset::UTC.to_timestamp(read).unwrap();
            prop_assert_eq!(timestamp.as_nanosecond(), i128::from(time));
            match line["value"].as_f64() {
                Some(read) => prop_assert_eq!(read.to_bits(), value.to_bits()),
                None => prop_assert!(!value.is_finite()),
            }
        }
    }
}
