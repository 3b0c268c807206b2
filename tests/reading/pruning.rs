//! What is not read of a large file, by bytes and requests.

use bytes::Bytes;
use metrics_engine::worker::plan::Content::{Own, Shared};
use metrics_engine::worker::plan::ReadPlan;
use metrics_engine::worker::read::ReadOutcome;
use parquet::basic::Compression;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};

use crate::files::{file, observations};
use crate::store::{Store, block_on, plan, ranged, read_with};

const SERIES: u32 = 40;
const ROWS_EACH: u32 = 5_000;

/// Numbers that no codec makes small.
fn noise_bits(seed: u32) -> u32 {
    seed.wrapping_mul(2_654_435_761).rotate_left(13) ^ seed.wrapping_mul(40_503)
}

fn noise(seed: u32) -> f64 {
    f64::from(noise_bits(seed)).sqrt()
}

/// Forty series of five thousand rows, one after the other.
fn sorted_rows() -> Vec<(String, i64, f64)> {
    let row = |index: u32| {
        let code = format!("S{:02}", index / ROWS_EACH);
        (code, i64::from(noise_bits(index)) + i64::from(index) * 10_000_000_000, noise(index))
    };
    (0..SERIES * ROWS_EACH).map(row).collect()
}

/// The same rows, each series spread over the whole file.
fn scattered_rows() -> Vec<(String, i64, f64)> {
    let mut rows = sorted_rows();
    rows.sort_by_key(|(_, _, value)| value.to_bits().wrapping_mul(0x9e37_79b9_7f4a_7c15));
    rows
}

fn properties() -> WriterPropertiesBuilder {
    WriterProperties::builder().set_compression(Compression::SNAPPY).set_dictionary_enabled(false)
}

fn written(rows: &[(String, i64, f64)], properties: WriterProperties) -> Bytes {
    let rows: Vec<(&str, i64, f64)> = rows.iter().map(|(code, time, value)| (&code[..], *time, *value)).collect();
    file(&observations(&rows), properties)
}

fn shared(code: &str, bytes: &Bytes) -> (ReadPlan, Store) {
    let store = Store::with([("p/all.parquet", bytes.clone())]);
    (plan(&[code], &[("p/all.parquet", Some(bytes.len() as u64), Shared(vec![0]))]), store)
}

fn outcome(code: &str, bytes: &Bytes) -> ReadOutcome {
    let (plan, store) = shared(code, bytes);
    let outcome = block_on(read_with(&plan, &store, &ranged())).unwrap();
    let answered: u64 = store.requests().iter().map(|request| request.answered_bytes).sum();
    assert_eq!(answered, outcome.read_bytes);
    assert_eq!(store.requests().len() as u64, outcome.request_count);
    for later in &store.requests()[1..] {
        assert!(later.if_match.is_some(), "a later request that could see another version: {later:?}");
    }
    outcome
}

/// The same series, read by an obvious way.
fn expected(rows: &[(String, i64, f64)], code: &str) -> Vec<(i64, Option<f64>)> {
    let mut observations: Vec<_> =
        rows.iter().filter(|(each, _, _)| each == code).map(|(_, time, value)| (*time, Some(*value))).collect();
    observations.sort_by_key(|(time, _)| *time);
    observations
}

fn check(outcome: &ReadOutcome, rows: &[(String, i64, f64)], code: &str) {
    let found: Vec<_> = outcome.series[0].observations.iter().collect();
    assert!(found == expected(rows, code), "{} observations of {code}", found.len());
}

#[test]
fn row_groups_are_left_out_by_their_statistics() {
    let rows = sorted_rows();
    let properties = properties()
        .set_max_row_group_row_count(Some(ROWS_EACH as usize * 4))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true)
        .build();
    let bytes = written(&rows, properties);
    let outcome = outcome("S17", &bytes);
    check(&outcome, &rows, "S17");
    // One row group of ten, and the end of the file.
    assert!(outcome.read_bytes < bytes.len() as u64 / 10 + (80 << 10), "{} of {}", outcome.read_bytes, bytes.len());
    assert_eq!(outcome.request_count, 2);
}

#[test]
fn pages_are_left_out_by_the_page_index() {
    let rows = sorted_rows();
    for dictionary in [false, true] {
        let properties = properties()
            .set_dictionary_enabled(dictionary)
            .set_data_page_row_count_limit(1_000)
            .set_write_batch_size(500)
            .set_statistics_enabled(EnabledStatistics::Page)
            .build();
        let bytes = written(&rows, properties);
        let outcome = outcome("S17", &bytes);
        check(&outcome, &rows, "S17");
        let tail_bytes = 64 << 10;
        let limit = if dictionary { bytes.len() as u64 } else { bytes.len() as u64 / 20 + tail_bytes };
        assert!(outcome.read_bytes < limit, "{} of {}", outcome.read_bytes, bytes.len());
        assert!(outcome.request_count <= 5, "{} requests", outcome.request_count);
    }
}

#[test]
fn row_groups_are_left_out_by_their_bloom_filters() {
    // Statistics that exclude nothing: each row group holds the first and the last code.
    let mut rows = Vec::new();
    for (index, row) in sorted_rows().into_iter().enumerate() {
        let code = match index % 1_000 {
            0 => "S00".to_owned(),
            1 => "S99".to_owned(),
            _ => row.0.clone(),
        };
        rows.push((code, row.1, row.2));
    }
    let properties = || {
        properties()
            .set_max_row_group_row_count(Some(ROWS_EACH as usize * 4))
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_offset_index_disabled(true)
    };
    let bytes = written(&rows, properties().set_bloom_filter_enabled(true).set_bloom_filter_max_ndv(100).build());
    let with = outcome("S17", &bytes);
    check(&with, &rows, "S17");
    let without = outcome("S17", &written(&rows, properties().build()));
    check(&without, &rows, "S17");
    assert!(with.read_bytes * 5 < without.read_bytes, "{} against {}", with.read_bytes, without.read_bytes);
}

#[test]
fn scattered_rows_are_found_wherever_they_are() {
    let rows = scattered_rows();
    for version in
        [parquet::file::properties::WriterVersion::PARQUET_1_0, parquet::file::properties::WriterVersion::PARQUET_2_0]
    {
        let properties = properties()
            .set_writer_version(version)
            .set_dictionary_enabled(true)
            .set_max_row_group_row_count(Some(30_000))
            .set_data_page_row_count_limit(777)
            .build();
        check(&outcome("S03", &written(&rows, properties)), &rows, "S03");
    }
}

#[test]
fn page_boundaries_that_differ_between_columns_do_not_matter() {
    let mut rows = sorted_rows();
    rows.truncate(20_000);
    // Small pages of values beside larger pages of codes.
    for page_bytes in [512, 3_000, 20_000] {
        let properties = properties().set_data_page_size_limit(page_bytes).set_write_batch_size(64).build();
        for code in ["S00", "S01", "S02", "S03"] {
            check(&outcome(code, &written(&rows, properties.clone())), &rows, code);
        }
    }
}

#[test]
fn a_code_that_statistics_exclude_costs_only_the_end_of_the_file() {
    let bytes = written(&sorted_rows(), properties().set_max_row_group_row_count(Some(20_000)).build());
    let (plan, store) = shared("X", &bytes);
    let error = block_on(read_with(&plan, &store, &ranged())).unwrap_err();
    assert_eq!(error.to_string(), "no series X in dataset d");
    assert_eq!(store.requests().len(), 1);
}

#[test]
fn the_series_column_is_not_read_where_statistics_prove_it() {
    // Codes so long that not to read them is seen in the bytes.
    let code = "A".repeat(60);
    let rows: Vec<_> = (0..60_000u32).map(|row| (code.clone(), i64::from(row), noise(row))).collect();
    let uncompressed = || WriterProperties::builder().set_dictionary_enabled(false);
    let read_bytes = |properties: WriterProperties| {
        let bytes = written(&rows, properties);
        let store = Store::with([("p/own.parquet", bytes.clone())]);
        let plan = plan(&[&code], &[("p/own.parquet", Some(bytes.len() as u64), Own(0))]);
        let outcome = block_on(read_with(&plan, &store, &ranged())).unwrap();
        assert_eq!(outcome.series[0].observations.len(), rows.len());
        outcome.read_bytes
    };
    let proven = read_bytes(uncompressed().build());
    let unproven = read_bytes(uncompressed().set_statistics_enabled(EnabledStatistics::None).build());
    assert!(proven + 60 * 60_000 < unproven + (64 << 10), "{proven} against {unproven}");
}

#[test]
fn a_large_file_is_read_one_row_group_at_a_time() {
    let rows = sorted_rows();
    let bytes = written(&rows, properties().set_max_row_group_row_count(Some(20_000)).build());
    let store = Store::with([("p/S/own.parquet", bytes.clone())]);
    let plan = plan(&["S17"], &[("p/S/own.parquet", Some(bytes.len() as u64), Own(0))]);
    let outcome = block_on(read_with(&plan, &store, &ranged())).unwrap();
    assert_eq!(outcome.series[0].observations.len(), ROWS_EACH as usize);
    assert_eq!(outcome.series[0].foreign_rows, u64::from((SERIES - 1) * ROWS_EACH));
    let largest = store.requests().iter().map(|request| request.answered_bytes).max().unwrap();
    assert!(largest < bytes.len() as u64 / 5, "{largest} of {}", bytes.len());
}
