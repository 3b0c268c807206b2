//! A plan read in slices gives what it gives read whole, holds no more than a slice, and says where it cannot.

use std::num::NonZeroUsize;

use bytes::Bytes;
use metrics_engine::worker::plan::Content::{self, Own, Shared};
use metrics_engine::worker::plan::ReadPlan;
use metrics_engine::worker::read::{Cut, Error, Facts, Next, ReadSettings, Slices};
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::files::{file, observations};
use crate::store::{Store, block_on, plan, read_with};

type Row = (&'static str, i64, f64);

fn written(rows: &[Row], rows_a_group: usize) -> Bytes {
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_max_row_group_row_count(Some(rows_a_group))
        .set_data_page_row_count_limit(7)
        .set_write_batch_size(3);
    file(&observations(rows), properties.build())
}

fn settings(slice_observations: usize, piece_bytes: u64) -> ReadSettings {
    let concurrency = NonZeroUsize::new(3).unwrap();
    ReadSettings { concurrency, slice_observations, piece_bytes, ..ReadSettings::default() }
}

/// The observations of each series, the facts and the number of slices; or nothing, where they come out of order.
type Sliced = Option<(Vec<Vec<(i64, Option<f64>)>>, Facts, usize)>;

fn sliced(plan: &ReadPlan, store: &Store, settings: &ReadSettings) -> Result<Sliced, Error> {
    block_on(async {
        let mut slices = Slices::new(plan, store, settings, Cut::Slices, &|_| {});
        let mut series: Vec<Vec<(i64, Option<f64>)>> = vec![Vec::new(); plan.series.len()];
        let (mut end_before, mut slice_count) = (i64::MIN, 0);
        loop {
            let slice = match slices.next().await? {
                Next::Slice(slice) => slice,
                Next::End => break,
                Next::OutOfOrder => return Ok(None),
            };
            slice_count += 1;
            let times = || slice.iter().flat_map(|series| series.times().iter().copied());
            assert!(times().all(|time| time >= end_before), "a slice reaches into the one before");
            end_before = times().max().map_or(end_before, |last| last + 1);
            series.iter_mut().zip(&slice).for_each(|(all, slice)| all.extend(slice.iter()));
        }
        Ok(Some((series, slices.finish()?, slice_count)))
    })
}

/// Read in slices is read whole, to the last fact.
fn check(plan: &ReadPlan, store: &Store, settings: &ReadSettings) -> Option<usize> {
    let whole = block_on(read_with(plan, store, settings)).unwrap();
    let (series, facts, slice_count) = sliced(plan, store, settings).unwrap()?;
    for ((read, observations), facts) in whole.series.iter().zip(series).zip(facts.series) {
        assert_eq!(read.observations.iter().collect::<Vec<_>>(), observations);
        assert_eq!(facts.observation_count, observations.len() as u64);
        assert_eq!(
            (read.object_count, &read.objects_digest, read.dropped_duplicates, read.foreign_rows),
            (facts.object_count, &facts.objects_digest, facts.dropped_duplicates, facts.foreign_rows)
        );
    }
    Some(slice_count)
}

/// A history of so many rows a file from a time on, the last of a file again in the next.
fn history(code: &'static str, files: usize, rows_a_file: i64, step: i64) -> Vec<Vec<Row>> {
    let file = |number: i64| {
        let first = number * rows_a_file - i64::from(number > 0);
        (first..(number + 1) * rows_a_file).map(|row| (code, row * step, (row + number) as f64)).collect()
    };
    (0..i64::try_from(files).unwrap()).map(file).collect()
}

fn paths(code: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("p/{code}/{number:03}.parquet")).collect()
}

/// A store and a plan of these files, series by series.
fn own_files(series: &[(&'static str, Vec<Bytes>)]) -> (ReadPlan, Store) {
    let store = Store::default();
    let mut objects: Vec<(String, u64, Content)> = Vec::new();
    for (index, (code, files)) in series.iter().enumerate() {
        for (path, bytes) in paths(code, files.len()).into_iter().zip(files) {
            store.set(&path, bytes.clone());
            objects.push((path, bytes.len() as u64, Own(index)));
        }
    }
    let objects: Vec<_> =
        objects.iter().map(|(path, size, content)| (&path[..], Some(*size), content.clone())).collect();
    let codes: Vec<&str> = series.iter().map(|(code, _)| *code).collect();
    (plan(&codes, &objects), store)
}

#[test]
fn files_in_order_of_time_are_given_out_in_slices() {
    let files = |code, count, rows, step| -> Vec<Bytes> {
        history(code, count, rows, step).iter().map(|rows| written(rows, 20)).collect()
    };
    let (plan, store) =
        own_files(&[("A", files("A", 9, 50, 10)), ("B", files("B", 4, 100, 11)), ("C", files("C", 1, 5, 1000))]);
    for (slice_observations, least_slices) in [(1, 50), (60, 5), (200, 2), (100_000, 1)] {
        for piece_bytes in [1, 100, 1 << 20] {
            let slice_count = check(&plan, &store, &settings(slice_observations, piece_bytes)).unwrap();
            assert!(slice_count >= least_slices, "{slice_count} slices of {slice_observations}");
            assert!(slice_observations < 100_000 || slice_count == 1);
        }
    }
}

#[test]
fn a_limit_that_is_too_small_for_everything_is_enough_for_slices() {
    let files: Vec<Bytes> = history("A", 40, 50, 10).iter().map(|rows| written(rows, 1_000)).collect();
    let (plan, store) = own_files(&[("A", files)]);
    let settings = ReadSettings { observation_limit: 1_000, ..settings(100, 1 << 20) };
    assert!(block_on(read_with(&plan, &store, &settings)).is_err());
    let (series, facts, _) = sliced(&plan, &store, &settings).unwrap().unwrap();
    assert_eq!((series[0].len(), facts.series[0].dropped_duplicates), (2_000, 39));
}

#[test]
fn a_time_before_what_was_given_out_is_told() {
    let mut histories = history("A", 9, 50, 10);
    histories.swap(2, 7);
    let files = |rows_a_group| histories.iter().map(|rows| written(rows, rows_a_group)).collect();
    let (plan, store) = own_files(&[("A", files(20))]);
    assert_eq!(check(&plan, &store, &settings(60, 1 << 20)), None);
    // What fits into a slice is sorted there.
    assert_eq!(check(&plan, &store, &settings(1_000, 1 << 20)), Some(1));
}

#[test]
fn objects_of_many_series_are_fetched_once_and_given_out_in_slices() {
    let store = Store::default();
    let mut objects = Vec::new();
    for (path, number) in paths("all", 12).into_iter().zip(0..) {
        let row = |row: i64| [("A", row, row as f64), ("B", row + 1, -row as f64)];
        let rows: Vec<Row> = (number * 30..(number + 1) * 30).flat_map(row).collect();
        let bytes = written(&rows, 25);
        objects.push((path.clone(), bytes.len() as u64));
        store.set(&path, bytes);
    }
    let objects: Vec<_> = objects.iter().map(|(path, size)| (&path[..], Some(*size), Shared(vec![1, 0]))).collect();
    let plan = plan(&["B", "A"], &objects);
    let slice_count = check(&plan, &store, &settings(50, 1 << 20)).unwrap();
    assert!(slice_count > 3, "{slice_count} slices");
    let count = |path: &str| store.requests().iter().filter(|request| request.key == path).count();
    assert!(objects.iter().all(|(path, _, _)| count(path) == 2), "once whole, once in slices");
}

#[test]
fn a_long_object_is_fetched_in_pieces_and_each_byte_of_them_once() {
    let rows: Vec<Row> = (0..60_000).map(|row| ("A", row * 7_919, (row as f64).sqrt())).collect();
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(20_000))
        .set_dictionary_enabled(false)
        .set_data_page_row_count_limit(1_000);
    let bytes = file(&observations(&rows), properties.build());
    let size = bytes.len() as u64;
    let (plan, store) = own_files(&[("A", vec![bytes])]);
    let settings = ReadSettings { whole_object_bytes: 0, ..settings(10_000, 64 << 10) };
    let (series, facts, slice_count) = sliced(&plan, &store, &settings).unwrap().unwrap();
    assert_eq!((series[0].len(), slice_count >= 5), (60_000, true));
    let answered: u64 = store.requests().iter().map(|request| request.answered_bytes).sum();
    assert_eq!((facts.read_bytes, facts.request_count), (answered, store.requests().len() as u64));
    assert!(answered <= size + (64 << 10), "{answered} bytes of {size}");
    let most = store.requests().iter().map(|request| request.answered_bytes).max().unwrap();
    assert!(most <= 64 << 10, "a request of {most} bytes");
}

#[test]
fn pieces_of_long_objects_are_requests_like_others_and_no_more_are_in_flight_than_may_be() {
    let codes = ["A", "B", "C", "D", "E", "F"];
    let files = codes.map(|code| {
        let rows: Vec<Row> = (0..5_000).map(|row| (code, row * 10, row as f64)).collect();
        (code, vec![written(&rows, 500)])
    });
    let (plan, store) = own_files(&files);
    // Each has two columns, each with a piece at hand and one on its way, beside those of the other series.
    let settings = ReadSettings { whole_object_bytes: 0, ..settings(600, 256) };
    let (series, ..) = sliced(&plan, &store, &settings).unwrap().unwrap();
    assert!(series.iter().all(|series| series.len() == 5_000));
    assert_eq!(store.most_in_flight(), settings.concurrency.get());
}

#[test]
fn whatever_is_wrong_with_a_file_is_told_as_when_it_is_read_whole() {
    let good: Vec<Row> = (0..40).map(|row| ("A", row, 1.0)).collect();
    let bytes = written(&good, 16);
    let small = settings(5, 50);
    for index in (4..bytes.len()).step_by(3) {
        let mut broken = bytes.to_vec();
        broken[index] ^= 0x55;
        let (plan, store) = own_files(&[("A", vec![Bytes::from(broken)])]);
        let whole = block_on(read_with(&plan, &store, &small)).map(|outcome| outcome.series[0].observations.len());
        let in_slices = sliced(&plan, &store, &small);
        match (whole, in_slices) {
            (Ok(_), Ok(None)) => {}
            (Ok(count), Ok(Some((series, _, _)))) => assert_eq!(count, series[0].len(), "byte {index}"),
            (Err(whole), Err(in_slices)) => {
                assert_eq!(whole.is_transient(), in_slices.is_transient(), "byte {index}: {whole}; {in_slices}");
            }
            // Times that do not ascend any more are told before the rest of the file is looked at.
            (Err(_), Ok(None)) => {}
            (whole, in_slices) => panic!("byte {index}: {whole:?}; {:?}", in_slices.map(|_| ())),
        }
    }
}

/// Times and values, whether they are put into order, and the rows of a row group.
type DrawnFile = (Vec<(i64, i32)>, bool, usize);

#[test]
fn however_files_are_made_slices_are_the_whole() {
    let row = (0..400_i64, -9..9_i32);
    let file = (prop::collection::vec(row, 0..60), any::<bool>(), 1..40_usize);
    let series = prop::collection::vec(prop::collection::vec(file, 1..6), 1..4);
    let config = Config { cases: Config::default().cases.max(300), failure_persistence: None, ..Config::default() };
    let sizes = (1..150_usize, prop_oneof![1..200_u64, Just(1 << 20)]);
    let sliced_runs = std::cell::Cell::new(0);
    let check = |(series, (slice_observations, piece_bytes)): (Vec<Vec<DrawnFile>>, _)| {
        let codes = ["A", "B", "C"];
        let files = series.into_iter().zip(codes).map(|(files, code)| {
            let file = |(number, (mut rows, is_ordered, rows_a_group)): (i64, DrawnFile)| {
                if is_ordered {
                    rows.sort_by_key(|(time, _)| *time);
                }
                // Files come one after the other in time, but for what reaches into the next.
                let at = |(time, value): (i64, i32)| (code, number * 390 + time, f64::from(value));
                written(&rows.into_iter().map(at).collect::<Vec<Row>>(), rows_a_group)
            };
            (code, (0..).zip(files).map(file).collect())
        });
        let (plan, store) = own_files(&files.collect::<Vec<_>>());
        if check(&plan, &store, &settings(slice_observations, piece_bytes)).is_some_and(|count| count > 1) {
            sliced_runs.set(sliced_runs.get() + 1);
        }
        Ok(())
    };
    if let Err(failure) = TestRunner::new(config).run(&(series, sizes), check) {
        panic!("{failure}");
    }
    assert!(sliced_runs.get() > 50, "only {} cases had more than one slice", sliced_runs.get());
}
