//! What becomes of a series over many files: order, duplicates, foreign rows, digests, progress, missing objects.

use std::sync::Mutex;

use metrics_engine::storage::ByteRange;
use metrics_engine::worker::plan::Content::{Own, Shared};
use metrics_engine::worker::read::{self, Error, ReadSettings};
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use crate::files::{file, observations, series_file};
use crate::store::{Store, block_on, plan, ranged, read, read_with};

#[test]
fn of_two_observations_at_one_time_the_later_path_wins() {
    let store = Store::with([
        ("p/A/1.parquet", series_file(&[("A", 1, 1.0), ("A", 2, 2.0)])),
        ("p/A/2.parquet", series_file(&[("A", 2, 20.0), ("A", 3, 30.0), ("A", 3, 31.0)])),
    ]);
    // Also where the later object is there first.
    store.make_slow("p/A/1.parquet");
    let plan = plan(&["A"], &[("p/A/1.parquet", None, Own(0)), ("p/A/2.parquet", None, Own(0))]);
    let outcome = block_on(read(&plan, &store)).unwrap();
    let series = &outcome.series[0];
    assert_eq!(series.observations.times(), [1, 2, 3]);
    assert_eq!(series.observations.values(), [1.0, 20.0, 31.0]);
    assert_eq!((series.dropped_duplicates, series.object_count, series.foreign_rows), (2, 2, 0));
}

#[test]
fn rows_of_another_series_are_left_out_and_counted() {
    let store = Store::with([("p/A/1.parquet", series_file(&[("A", 1, 1.0), ("A_B", 2, 2.0), ("", 3, 3.0)]))]);
    let outcome = block_on(read(&plan(&["A"], &[("p/A/1.parquet", None, Own(0))]), &store)).unwrap();
    assert_eq!(outcome.series[0].observations.times(), [1]);
    assert_eq!(outcome.series[0].foreign_rows, 2);
}

#[test]
fn a_file_of_nothing_but_another_series_leaves_an_empty_one() {
    let store = Store::with([("p/A/1.parquet", series_file(&[("B", 1, 1.0)]))]);
    let outcome = block_on(read(&plan(&["A"], &[("p/A/1.parquet", None, Own(0))]), &store)).unwrap();
    assert!(outcome.series[0].observations.is_empty());
    assert_eq!(outcome.series[0].foreign_rows, 1);
}

#[test]
fn one_file_gives_many_series() {
    let rows = [("A", 1, 1.0), ("A_B", 1, 2.0), ("C", 1, 3.0), ("A", 2, 4.0)];
    let store = Store::with([("p/all.parquet", series_file(&rows))]);
    let outcome = block_on(read(&plan(&["A_B", "A"], &[("p/all.parquet", None, Shared(vec![0, 1]))]), &store)).unwrap();
    assert_eq!(outcome.series[0].observations.values(), [2.0]);
    assert_eq!(outcome.series[1].observations.values(), [1.0, 4.0]);
    assert_eq!(outcome.series[0].objects_digest, outcome.series[1].objects_digest);
    assert_eq!(outcome.series[1].foreign_rows, 0);
}

#[test]
fn a_series_without_objects_or_rows_is_missing() {
    let store = Store::with([("p/all.parquet", series_file(&[("A", 1, 1.0)]))]);
    for plan in [plan(&["X"], &[]), plan(&["X"], &[("p/all.parquet", None, Shared(vec![0]))])] {
        let error = block_on(read(&plan, &store)).unwrap_err();
        assert_eq!(error.to_string(), "no series X in dataset d");
        assert!(!error.is_transient());
    }
}

#[test]
fn what_the_store_says_decides_whether_to_try_again() {
    let store = Store::with([("p/A/2.parquet", series_file(&[("A", 1, 1.0)]))]);
    store.make_unavailable("p/A/2.parquet");
    let missing = block_on(read(&plan(&["A"], &[("p/A/1.parquet", None, Own(0))]), &store)).unwrap_err();
    assert_eq!(missing.to_string(), "no object p/A/1.parquet");
    assert!(!missing.is_transient());
    let failed = block_on(read(&plan(&["A"], &[("p/A/2.parquet", None, Own(0))]), &store)).unwrap_err();
    assert!(failed.is_transient());
}

#[test]
fn a_small_object_is_one_request() {
    let bytes = series_file(&[("A", 1, 1.0)]);
    let size_bytes = bytes.len() as u64;
    for (size, range) in [(Some(size_bytes), ByteRange::Whole), (None, ByteRange::Suffix(1 << 20))] {
        let store = Store::with([("p/A/1.parquet", bytes.clone())]);
        let outcome = block_on(read(&plan(&["A"], &[("p/A/1.parquet", size, Own(0))]), &store)).unwrap();
        assert_eq!((outcome.request_count, outcome.read_bytes), (1, size_bytes));
        assert_eq!(store.requests()[0].range, range);
    }
}

#[test]
fn the_digest_depends_on_every_key_and_tag_and_on_nothing_else() {
    let digest = |keys: &[&'static str], rewritten: Option<&str>| {
        let bytes = series_file(&[("A", 1, 1.0)]);
        let store = Store::with(keys.iter().map(|key| (*key, bytes.clone())));
        if let Some(key) = rewritten {
            store.set(key, bytes);
        }
        let planned: Vec<_> = keys.iter().map(|key| (*key, None, Own(0))).collect();
        block_on(read(&plan(&["A"], &planned), &store)).unwrap().series[0].objects_digest.clone()
    };
    let first = digest(&["p/1", "p/2"], None);
    assert_eq!(first.len(), 64);
    assert_eq!(first, digest(&["p/1", "p/2"], None));
    assert_ne!(first, digest(&["p/1", "p/2"], Some("p/2")));
    assert_ne!(first, digest(&["p/1"], None));
    assert_ne!(first, digest(&["p/1", "p/3"], None));
}

#[test]
fn as_many_objects_are_read_side_by_side_as_the_settings_say() {
    let keys = ["p/A/1", "p/A/2", "p/A/3", "p/A/4", "p/A/5", "p/A/6", "p/A/7"];
    for concurrency in [1, 3] {
        let store = Store::with(keys.map(|key| (key, series_file(&[("A", 1, 1.0)]))));
        keys.iter().for_each(|key| store.make_slow(key));
        let settings = ReadSettings { concurrency: concurrency.try_into().unwrap(), ..ReadSettings::default() };
        let plan = plan(&["A"], &keys.map(|key| (key, None, Own(0))));
        block_on(read_with(&plan, &store, &settings)).unwrap();
        assert_eq!(store.most_in_flight(), concurrency);
    }
}

#[test]
fn progress_rises_to_one() {
    let keys = ["p/A/1", "p/A/2", "p/A/3", "p/A/4"];
    let store = Store::with(keys.map(|key| (key, series_file(&[("A", 1, 1.0)]))));
    let planned = keys.map(|key| (key, None, Own(0)));
    let seen = Mutex::new(Vec::new());
    let plan = plan(&["A"], &planned);
    let progress = |fraction| seen.lock().unwrap().push(fraction);
    block_on(read::read(&plan, &store, &ReadSettings::default(), &progress)).unwrap();
    assert_eq!(*seen.lock().unwrap(), [0.25, 0.5, 0.75, 1.0]);
}

#[test]
fn an_object_replaced_between_two_requests_is_tried_again() {
    let rows: Vec<(&str, i64, f64)> =
        (0..60_000u32).map(|row| ("A", i64::from(row) * 7_919, f64::from(row).sqrt())).collect();
    let bytes = series_file(&rows);
    let size = Some(bytes.len() as u64);
    let store = Store::with([("p/A/1.parquet", bytes.clone())]);
    let plan = plan(&["A"], &[("p/A/1.parquet", size, Own(0))]);
    let whole = block_on(read_with(&plan, &store, &ranged())).unwrap();
    assert_eq!(whole.series[0].observations.len(), rows.len());
    store.replace_after_first_request("p/A/1.parquet", bytes);
    let error = block_on(read_with(&plan, &store, &ranged())).unwrap_err();
    assert!(matches!(error, Error::Changed { .. }), "{error}");
    assert!(error.is_transient());
    assert_eq!(error.to_string(), "p/A/1.parquet: changed while it was read");
}

#[test]
fn a_run_of_too_many_observations_is_refused() {
    let store = Store::with([("p/A/1", series_file(&[("A", 1, 1.0), ("A", 2, 1.0)]))]);
    let settings = ReadSettings { observation_limit: 1, ..ReadSettings::default() };
    let error = block_on(read_with(&plan(&["A"], &[("p/A/1", None, Own(0))]), &store, &settings)).unwrap_err();
    assert_eq!(error.to_string(), "p/A/1: the run reads more than 1 observations");
}

#[test]
fn what_a_file_holds_counts_once_also_where_only_its_second_row_group_takes_long() {
    const GROUP_ROWS: u32 = 12_000;
    let value = |row: u32| if row < GROUP_ROWS { 1.0 } else { f64::from(row * 7_919 % 100_003) / 7.0 };
    let rows: Vec<_> = (0..2 * GROUP_ROWS).map(|row| ("A", i64::from(row) * 1_000_000_007, value(row))).collect();
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_dictionary_enabled(false)
        .set_max_row_group_row_count(Some(GROUP_ROWS as usize))
        .build();
    let store = Store::with([("p/A/1", file(&observations(&rows), properties))]);
    let settings = ReadSettings { observation_limit: rows.len() as u64, ..ReadSettings::default() };
    let outcome = block_on(read_with(&plan(&["A"], &[("p/A/1", None, Own(0))]), &store, &settings)).unwrap();
    assert_eq!(outcome.series[0].observations.len(), rows.len());
}
