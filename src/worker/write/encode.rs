//! A series becomes the bytes of its files: JSONL and Parquet. Pure; the same series always gives the same bytes, whole
//! or in slices.

use std::collections::BTreeMap;

use bytes::Bytes;
use parquet::errors::ParquetError;

use self::columns::Columns;
use self::lines::Lines;
use self::parts::Parts;
use crate::config::OutputCompression;
use crate::keys::DataFile;
use crate::series::Series;

mod columns;
mod compressor;
mod deltas;
mod lines;
mod pages;
mod parts;

/// What a run will commit: the files of a version, and what its manifest says of them.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The files and their bytes, in the order of the manifest.
    pub files: Vec<(DataFile, Bytes)>,
    /// What the manifest says of them.
    pub summary: Summary,
}

/// What a manifest says of the files of a version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Rows, null ones included.
    pub row_count: u64,
    /// Rows whose value is null.
    pub null_count: u64,
    /// All files together.
    pub size_bytes: u64,
    /// The files in the order of the manifest, and SHA-256 of each in hex.
    pub digests: Vec<(DataFile, String)>,
}

impl Summary {
    /// SHA-256 of each file, in hex, by its name.
    #[must_use]
    pub fn digests_by_name(&self) -> BTreeMap<String, String> {
        self.digests.iter().map(|(file, digest)| (file.name().to_owned(), digest.clone())).collect()
    }
}

/// Encodes a series that comes in slices, in each of the formats.
pub struct Encoder {
    files: Vec<Encoded>,
    summary: Summary,
}

/// A file being encoded.
struct Encoded {
    file: DataFile,
    format: Format,
    parts: Parts,
}

enum Format {
    Jsonl(Lines),
    Parquet(Box<Columns>),
}

impl Encoder {
    /// Before the first slice. Bytes are given out in parts of so many.
    ///
    /// # Errors
    /// When the Parquet writer refuses.
    pub fn new(files: &[DataFile], compression: OutputCompression, part_bytes: usize) -> Result<Self, ParquetError> {
        let encoded = |&file: &DataFile| {
            let format = match file {
                DataFile::Jsonl => Format::Jsonl(Lines::new()),
                DataFile::Parquet => Format::Parquet(Box::new(Columns::new(compression)?)),
            };
            Ok(Encoded { file, format, parts: Parts::of(part_bytes) })
        };
        let files = files.iter().map(encoded).collect::<Result<_, ParquetError>>()?;
        Ok(Self { files, summary: Summary::default() })
    }

    /// Adds a slice; the answer is the parts of each file that are full now and have more after them, in the order of the
    /// files. How a series is cut into slices makes no difference to its parts.
    ///
    /// # Errors
    /// When the Parquet writer refuses.
    pub fn next(&mut self, slice: &Series) -> Result<Vec<Vec<Bytes>>, ParquetError> {
        self.summary.row_count += slice.len() as u64;
        self.summary.null_count += slice.values().iter().filter(|value| value.is_nan()).count() as u64;
        let next = |Encoded { format, parts, .. }: &mut Encoded| {
            match format {
                Format::Jsonl(lines) => lines.write(slice, parts),
                Format::Parquet(columns) => columns.write(slice, parts)?,
            }
            Ok(parts.take_full())
        };
        self.files.iter_mut().map(next).collect()
    }

    /// The last parts of each file, and what the manifest says of the files. Only the last one of them is not full.
    ///
    /// # Errors
    /// When the Parquet writer refuses.
    pub fn finish(self) -> Result<(Vec<Vec<Bytes>>, Summary), ParquetError> {
        let mut summary = self.summary;
        let mut last = Vec::with_capacity(self.files.len());
        for Encoded { file, format, mut parts } in self.files {
            if let Format::Parquet(columns) = format {
                columns.finish(&mut parts)?;
            }
            let (of_file, size_bytes, digest) = parts.finish();
            summary.size_bytes += size_bytes;
            summary.digests.push((file, digest));
            last.push(of_file);
        }
        Ok((last, summary))
    }
}

/// Encodes a whole series in each of the formats.
///
/// # Errors
/// When the Parquet writer refuses.
pub fn encode(series: &Series, files: &[DataFile], compression: OutputCompression) -> Result<Draft, ParquetError> {
    let mut encoder = Encoder::new(files, compression, usize::MAX)?;
    encoder.next(series)?;
    let (last, summary) = encoder.finish()?;
    let whole = last.into_iter().map(|parts| parts.into_iter().next().unwrap_or_default());
    let files = files.iter().copied().zip(whole).collect();
    Ok(Draft { files, summary })
}

/// The lines of a whole series: `{"obs_time":"2024-01-01T03:00:00","value":1.23}`, ascending.
#[must_use]
pub fn jsonl(series: &Series) -> Bytes {
    let mut text = Vec::new();
    Lines::new().write_to(series.times(), series.values(), &mut text);
    Bytes::from(text)
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::{DataType, Float64Type, TimeUnit, TimestampNanosecondType};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use parquet::basic::Compression;
    use proptest::prelude::*;

    use super::*;
    use crate::series::NULL;

    fn series() -> Series {
        let day = 86_400 * 1_000_000_000;
        let times = vec![i64::MIN, -1, 0, 1_000_000, 1_001_000, 19_723 * day + 3 * 3_600 * 1_000_000_000, i64::MAX];
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
            assert_eq!((draft.summary.row_count, draft.summary.null_count), (7, 1));
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
        assert_eq!(draft.summary.row_count, 0);
        assert!(draft.files[0].1.is_empty());
        assert_eq!(draft.summary.digests_by_name().len(), 2);
    }

    /// Rows of more than one row group, nulls among them.
    fn long_series(row_count: i64) -> Series {
        let minute = 60_000_000_000;
        let value = |row: i64| if row % 97 == 5 { NULL } else { (row * 7_919 % 100_003) as f64 / 8.0 };
        let rows = 0..row_count;
        Series::new(rows.clone().map(|row| row * minute).collect(), rows.map(value).collect()).unwrap()
    }

    #[test]
    fn however_a_series_is_cut_its_files_are_the_same() {
        let (short, long) = (long_series(40_000), long_series(1_060_000));
        let both = [DataFile::Jsonl, DataFile::Parquet];
        let cuts = [
            (&short, &both[..], [1, 20_000]),
            (&short, &both, [16_384, 16_384]),
            (&short, &both, [1_023, 999]),
            (&long, &both[1..], [1_048_000, 577]),
        ];
        for (series, files, lengths) in cuts {
            let whole = encode(series, files, OutputCompression::Snappy).unwrap();
            let mut encoder = Encoder::new(files, OutputCompression::Snappy, 1 << 16).unwrap();
            let mut bytes = vec![Vec::new(); files.len()];
            let mut add = |next: Vec<Vec<Bytes>>| {
                bytes.iter_mut().zip(next).for_each(|(all, parts)| all.extend(parts.concat()));
            };
            let (mut start, mut lengths) = (0, lengths.into_iter().cycle());
            while start < series.len() {
                let end = series.len().min(start + lengths.next().unwrap());
                let slice = Series::new(series.times()[start..end].to_vec(), series.values()[start..end].to_vec());
                add(encoder.next(&slice.unwrap()).unwrap());
                start = end;
            }
            let (last, summary) = encoder.finish().unwrap();
            add(last);
            assert_eq!(summary, whole.summary);
            for ((_, whole), bytes) in whole.files.iter().zip(&bytes) {
                assert!(whole == bytes, "{} bytes, not {}", bytes.len(), whole.len());
            }
        }
    }

    #[test]
    fn a_parquet_file_of_two_row_groups_reads_back() {
        let series = long_series(140_000);
        let draft = encode(&series, &[DataFile::Parquet], OutputCompression::Snappy).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(draft.files[0].1.clone()).unwrap();
        assert_eq!(reader.metadata().num_row_groups(), 2);
        assert!(
            reader
                .metadata()
                .row_groups()
                .iter()
                .flat_map(|group| group.columns())
                .all(|column| { column.compression() == Compression::SNAPPY && column.statistics().is_some() })
        );
        let (mut times, mut values) = (Vec::new(), Vec::new());
        for batch in reader.build().unwrap() {
            let batch = batch.unwrap();
            assert_eq!(
                batch.schema().field(0).data_type(),
                &DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))
            );
            times.extend(batch.column(0).as_primitive::<TimestampNanosecondType>().iter());
            values.extend(batch.column(1).as_primitive::<Float64Type>().iter());
        }
        assert!(times.into_iter().eq(series.times().iter().copied().map(Some)));
        assert!(values.into_iter().eq(series.iter().map(|(_, value)| value)));
    }

    /// Times and values as any reader finds them.
    fn read_back(series: &Series) -> (Vec<i64>, Vec<Option<f64>>) {
        let draft = encode(series, &[DataFile::Parquet], OutputCompression::Snappy).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(draft.files[0].1.clone()).unwrap().build().unwrap();
        let (mut times, mut values) = (Vec::new(), Vec::new());
        for batch in reader.map(Result::unwrap) {
            times.extend(batch.column(0).as_primitive::<TimestampNanosecondType>().values());
            values.extend(batch.column(1).as_primitive::<Float64Type>().iter());
        }
        (times, values)
    }

    #[test]
    fn times_at_any_distance_read_back() {
        for width in 0..63 {
            let mut time = -3_i64;
            let times: Vec<i64> = (0..17_000_i64)
                .map_while(|row| {
                    time = time.checked_add_unsigned(
                        1 + row.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64.cast_signed()).unsigned_abs() % (1 << width),
                    )?;
                    Some(time)
                })
                .collect();
            let series = Series::new(times.clone(), vec![1.5; times.len()]).unwrap();
            assert!(read_back(&series).0 == times, "{width} bits");
        }
    }

    proptest! {
        #[test]
        fn any_series_reads_back(
            rows in proptest::collection::btree_map(any::<i64>(), proptest::option::of(any::<f64>()), 0..400),
        ) {
            let values = rows.values().map(|value| value.unwrap_or(NULL)).collect();
            let series = Series::new(rows.keys().copied().collect(), values).unwrap();
            let (times, values) = read_back(&series);
            prop_assert_eq!(times, series.times());
            let bits = |value: Option<f64>| value.map(f64::to_bits);
            prop_assert!(values.into_iter().map(bits).eq(series.iter().map(|(_, value)| bits(value))));
        }

        #[test]
        fn a_value_is_written_as_json_writes_it(bits in any::<u64>(), number in any::<i32>(), places in 0..9) {
            let short = f64::from(number) / 10_f64.powi(places);
            for value in [f64::from_bits(bits), short, f64::from(number), short * 1e12, short * 1e-12] {
                let text = jsonl(&Series::new(vec![0], vec![value]).unwrap());
                let json = if value.is_finite() { serde_json::to_string(&value).unwrap() } else { "null".to_owned() };
                let line = format!("{{\"obs_time\":\"1970-01-01T00:00:00\",\"value\":{json}}}\n");
                prop_assert_eq!(&text[..], line.as_bytes());
            }
        }

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
