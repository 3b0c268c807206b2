//! Times and numbers of eight bytes come back as they were written, however they are encoded, wherever reading begins;
//! and pages whose encoding is broken are named.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
use bytes::Bytes;
use metrics_engine::worker::plan::Content::Shared;
use metrics_engine::worker::read::ReadSettings;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::files::{ForgedColumn, Thrift, data_header, dictionary_header, file, forged, page};
use crate::store::{Store, block_on, plan, ranged, read_own, read_with};

/// Whose row it is, how long after the one before, and what it says.
type Row = (bool, i64, Option<i64>);

/// Few numbers or many, near each other or far apart, so that every way of packing is met.
fn rows() -> impl Strategy<Value = Vec<Row>> {
    let number = prop_oneof![Just(7), -3..3i64, -1_000_000..1_000_000i64, -(1i64 << 52)..1i64 << 52];
    let value = |nulls: f64| prop::option::weighted(1.0 - nulls, number.clone());
    let step = prop_oneof![Just(60_000_000), 1..5i64, 1..1i64 << 40];
    let some = |nulls| prop::collection::vec((prop::bool::weighted(0.2), step.clone(), value(nulls)), 1..700);
    let runs =
        prop::collection::vec((prop::bool::ANY, step.clone(), value(0.3), 1..300usize), 1..12).prop_map(|runs| {
            let repeated = runs.into_iter().map(|(ours, step, value, count)| vec![(ours, step, value); count]);
            repeated.flatten().collect()
        });
    prop_oneof![some(0.001), some(0.1), some(0.9), some(0.999), runs]
}

#[derive(Debug, Clone)]
struct Layout {
    time_encoding: Encoding,
    value_encoding: Encoding,
    has_dictionary: bool,
    is_integer: bool,
    codec: Compression,
    version: WriterVersion,
    rows_a_page: usize,
    has_page_index: bool,
}

fn layouts() -> impl Strategy<Value = Layout> {
    let encoding =
        || prop::sample::select(vec![Encoding::PLAIN, Encoding::DELTA_BINARY_PACKED, Encoding::BYTE_STREAM_SPLIT]);
    let codecs = vec![
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::LZ4_RAW,
        Compression::ZSTD(ZstdLevel::try_new(1).unwrap()),
    ];
    let versions = vec![WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0];
    let rows_a_page = prop::sample::select(vec![1, 7, 64, 1_000]);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    (encoding(), encoding(), flags, prop::sample::select(codecs), prop::sample::select(versions), rows_a_page).prop_map(
        |(time_encoding, value_encoding, flags, codec, version, rows_a_page)| {
            let (has_dictionary, is_integer, has_page_index) = flags;
            // Doubles are never stored as differences.
            let differs = value_encoding == Encoding::DELTA_BINARY_PACKED;
            let is_integer = is_integer || differs;
            Layout {
                time_encoding,
                value_encoding,
                has_dictionary,
                is_integer,
                codec,
                version,
                rows_a_page,
                has_page_index,
            }
        },
    )
}

fn written(rows: &[Row], layout: &Layout) -> Bytes {
    let codes: StringArray = rows.iter().map(|(ours, _, _)| Some(if *ours { "A" } else { "B" })).collect();
    let times: TimestampMicrosecondArray = times(rows).map(|time| time / 1_000).collect::<Vec<_>>().into();
    let values: ArrayRef = if layout.is_integer {
        Arc::new(rows.iter().map(|(_, _, value)| *value).collect::<Int64Array>())
    } else {
        Arc::new(rows.iter().map(|(_, _, value)| value.map(|value| value as f64)).collect::<Float64Array>())
    };
    let statistics = if layout.has_page_index { EnabledStatistics::Page } else { EnabledStatistics::None };
    let properties = WriterProperties::builder()
        .set_compression(layout.codec)
        .set_writer_version(layout.version)
        .set_dictionary_enabled(layout.has_dictionary)
        .set_column_encoding(ColumnPath::from("obs_time"), layout.time_encoding)
        .set_column_encoding(ColumnPath::from("value"), layout.value_encoding)
        .set_data_page_row_count_limit(layout.rows_a_page)
        .set_write_batch_size(layout.rows_a_page)
        .set_statistics_enabled(statistics)
        .set_offset_index_disabled(!layout.has_page_index)
        .build();
    file(&[("obs_time", Arc::new(times)), ("value", values), ("internal_series_code", Arc::new(codes))], properties)
}

/// The time of each row, in nanoseconds.
fn times(rows: &[Row]) -> impl Iterator<Item = i64> {
    rows.iter().scan(0, |time, (_, step, _)| {
        *time += step * 1_000;
        Some(*time)
    })
}

#[test]
fn what_was_written_is_read() {
    let check = |(rows, layout): (Vec<Row>, Layout)| {
        let bytes = written(&rows, &layout);
        let observations = |code: &str| -> Vec<_> {
            let all = times(&rows).zip(&rows);
            all.filter(|(_, (ours, _, _))| *ours == (code == "A"))
                .map(|(time, (_, _, value))| (time, value.map(|value| value as f64)))
                .collect()
        };
        for settings in [ReadSettings::default(), ranged()] {
            for code in ["A", "B"] {
                let expected: Vec<(i64, Option<f64>)> = observations(code);
                // A series without rows is a missing one.
                if expected.is_empty() {
                    continue;
                }
                let store = Store::with([("p/all.parquet", bytes.clone())]);
                let plan = plan(&[code], &[("p/all.parquet", Some(bytes.len() as u64), Shared(vec![0]))]);
                let outcome = block_on(read_with(&plan, &store, &settings)).unwrap();
                prop_assert_eq!(outcome.series[0].observations.iter().collect::<Vec<_>>(), expected);
            }
        }
        Ok(())
    };
    let config = Config { cases: 192, failure_persistence: None, ..Config::default() };
    TestRunner::new(config).run(&(rows(), layouts()), check).unwrap_or_else(|failure| panic!("{failure}"));
}

/// A file of one row whose value, a double, is in this page of data; before it stands a dictionary of two.
fn encoded(encoding: i64, body: &[u8]) -> Bytes {
    let dictionary = page(&dictionary_header(2, 16, 16), &[1.5f64.to_le_bytes(), 2.5f64.to_le_bytes()].concat());
    let data = page(&data_header(1, body.len(), body.len(), encoding), body);
    forged(&[ForgedColumn::times(1), ForgedColumn::values(1, 0, [dictionary, data].concat())], 1)
}

/// `obs_time` of so many rows, each a nanosecond after the one before.
fn rows_of_times(row_count: i64) -> ForgedColumn {
    let times: Vec<u8> = (0..row_count).flat_map(i64::to_le_bytes).collect();
    let pages = page(&data_header(times.len() / 8, times.len(), times.len(), 0), &times);
    ForgedColumn { pages, value_count: row_count, ..ForgedColumn::times(1) }
}

/// A file of two rows whose value, a whole number, is in this page of data.
fn differences(body: &[u8]) -> Bytes {
    let data = page(&data_header(2, body.len(), body.len(), 5), body);
    let values = ForgedColumn { physical: 2, ..ForgedColumn::values(2, 0, data) };
    forged(&[rows_of_times(2), values], 2)
}

#[test]
fn a_broken_encoding_is_named() {
    assert_eq!(read_own(encoded(8, &[1, 2, 1])).unwrap().values(), [2.5]);
    assert_eq!(read_own(encoded(2, &[1, 3, 0xff])).unwrap().values(), [2.5]);
    // Blocks of 128 in 4 parts, 2 numbers from 5 on, then 3 more than the one before, in no bits.
    let honest = [0x80, 1, 4, 2, 10, 6, 0, 0, 0, 0];
    assert_eq!(read_own(differences(&honest)).unwrap().values(), [5.0, 8.0]);
    let with = |place: usize, byte: u8| {
        let mut bytes = honest;
        bytes[place] = byte;
        differences(&bytes)
    };
    let broken = [
        (encoded(0, &[0; 7]), "ends before its values do"),
        (encoded(0, &[]), "ends before its values do"),
        (encoded(8, &[33, 2, 1, 0, 0, 0, 0]), "packs numbers of more than 32 bits"),
        (encoded(8, &[2, 2, 2]), "refers to more values than its dictionary has"),
        (encoded(8, &[2, 3, 0xff, 0xff]), "refers to more values than its dictionary has"),
        (encoded(8, &[1, 2]), "ends before its values do"),
        (encoded(8, &[1, 3]), "ends before its values do"),
        (encoded(8, &[1, 0, 0, 0]), "ends before its values do"),
        (encoded(8, &[1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), "ends before its values do"),
        (encoded(9, &[0; 7]), "ends before its values do"),
        (encoded(9, &[0; 9]), "ends before its values do"),
        (encoded(5, &honest), "has an encoding that values of its type never have"),
        (encoded(3, &[0; 8]), "has an encoding that values of its type never have"),
        (differences(&honest[..3]), "has no complete header of its differences"),
        (differences(&honest[..5]), "ends before its values do"),
        (differences(&honest[..6]), "ends before its values do"),
        (with(3, 1), "ends before its values do"),
        (with(6, 65), "packs differences of more than 64 bits"),
        (with(6, 64), "ends before its values do"),
        (with(2, 0), "divides its differences into blocks of an impossible size"),
        (with(2, 5), "divides its differences into blocks of an impossible size"),
        (with(2, 32), "divides its differences into blocks of an impossible size"),
    ];
    for (number, (bytes, expected)) in broken.into_iter().enumerate() {
        let error = read_own(bytes).unwrap_err();
        assert!(!error.is_transient());
        let expected = format!("p/A/data.parquet: column value in row group 0: a page {expected}");
        assert_eq!(error.to_string(), expected, "case {number}");
    }
}

#[test]
fn old_levels_of_one_bit_each_are_read() {
    // Of three rows the second is null; the levels begin at the highest bit.
    let body = [&[0b1010_0000][..], &1.5f64.to_le_bytes(), &2.5f64.to_le_bytes()].concat();
    let content = Thrift::new().i32(1, 3).i32(2, 0).i32(3, 4).i32(4, 3);
    let sizes = Thrift::new().i32(1, 0).i32(2, 17).i32(3, 17);
    let pages = page(&sizes.structure(5, content).end(), &body);
    let values = ForgedColumn { is_nullable: true, ..ForgedColumn::values(3, 0, pages) };
    let series = read_own(forged(&[rows_of_times(3), values], 3)).unwrap();
    assert_eq!(series.iter().map(|(_, value)| value).collect::<Vec<_>>(), [Some(1.5), None, Some(2.5)]);
}
