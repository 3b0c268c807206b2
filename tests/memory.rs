//! A run takes memory for what it has at hand, not for the history: measured from outside, in a process of its own.
//!
//! `MEMORY_POINTS=100000000 cargo test --profile bench --test memory -- --nocapture` (`make memory`) for a longer history.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where its world fails")]
#![allow(clippy::print_stdout, reason = "what was measured is told")]

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, TimestampNanosecondArray};
use metrics_engine::worker::deadline::Deadline;
use metrics_engine::worker::recorder::{QueueRecorder, Recorder};
use metrics_engine::worker::{Ports, batch};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use serde_json::{Value, json};

use disk::Disk;

#[path = "memory/disk.rs"]
mod disk;
#[path = "support/world.rs"]
mod world;

const MINUTE_NS: i64 = 60_000_000_000;

/// Points of all series together, where nobody asks for more.
const POINTS: i64 = 2_400_000;

/// Names the folder to a process that is measured.
const MEASURED: &str = "MEMORY_MEASURED";

#[expect(clippy::disallowed_methods, reason = "a longer history is asked for from outside of the test")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn points() -> i64 {
    variable("MEMORY_POINTS").map_or(POINTS, |text| text.parse().expect("MEMORY_POINTS is a number"))
}

/// A dataset of minute data: files of a number of rows each, one after the other in time.
fn write_dataset(root: &Path, codes: &[&str], rows: i64, rows_a_file: i64) {
    for (place, code) in codes.iter().enumerate() {
        let folder = root.join(format!("datasets/d/projections/{code}"));
        fs::create_dir_all(&folder).unwrap();
        for (number, first) in (0..rows).step_by(usize::try_from(rows_a_file).unwrap()).enumerate() {
            let last = rows.min(first + rows_a_file);
            write_file(&folder.join(format!("{number:05}.parquet")), first..last, i64::try_from(place).unwrap());
        }
    }
    let manifest = json!({ "version_id": "v1", "dataset_id": "d", "series_codes": codes, "parquet_files": [] });
    let folder = root.join("datasets/d/versions/v1");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
}

/// A file as ordinary writers make it: row groups of a million rows.
fn write_file(path: &Path, rows: std::ops::Range<i64>, place: i64) {
    let properties = WriterProperties::builder().set_dictionary_enabled(false).build();
    let batch = |rows: std::ops::Range<i64>| {
        let times: TimestampNanosecondArray = rows.clone().map(|row| row * MINUTE_NS).collect::<Vec<_>>().into();
        let value = |row: i64| ((row * 7_919 + place * 31) % 1_000_003) as f64 / 64.0;
        let values: Float64Array = rows.map(value).collect::<Vec<_>>().into();
        let columns: [(&str, ArrayRef); 2] = [("obs_time", Arc::new(times)), ("value", Arc::new(values))];
        RecordBatch::try_from_iter(columns).unwrap()
    };
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch(0..0).schema(), Some(properties)).unwrap();
    for first in rows.clone().step_by(1 << 16) {
        writer.write(&batch(first..rows.end.min(first + (1 << 16)))).unwrap();
    }
    writer.close().unwrap();
}

fn request(number: usize, codes: &[&str], expression: &Value) -> Value {
    let inputs: Vec<Value> = codes.iter().map(|code| json!({ "datasetId": "d", "seriesCode": code })).collect();
    let kind = match (expression.get("operands"), expression.get("left")) {
        (Some(_), _) => "composite",
        (_, Some(_)) => "series_math",
        _ => "window_op",
    };
    json!({
        "type": "metric_run_requested", "runId": format!("r{number}"), "metricCode": format!("m{number}"), "expressionType": kind,
        "expressionJson": expression, "inputs": inputs,
        "catalog": { "datasets": { "d": { "manifestPath": "datasets/d/versions/v1/manifest.json" } } },
        "output": { "basePath": format!("metrics/m{number}/") }
    })
}

/// Runs it as so many records of groups of their own, and tells the peak of the process in kilobytes.
fn run(root: &Path, codes: &[&str], expression: &Value, limit_observations: &str, records: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let publisher = Arc::new(Recorder::new());
    let ports = Ports {
        storage: Arc::new(Disk::new(root)),
        publisher: publisher.clone(),
        queue: Arc::new(QueueRecorder::new(true)),
        clock: Arc::new(|| jiff::Timestamp::from_second(world::START_SECONDS).unwrap()),
    };
    let config = world::config(&[("LIMIT_OBSERVATIONS", limit_observations)]);
    let record = |number: usize| {
        let name = number.to_string();
        world::record(&name, &name, &request(number, codes, expression))
    };
    let event = world::event(&(0..records).map(record).collect::<Vec<_>>());
    let start = Instant::now();
    let response = runtime.block_on(batch::handle(event, &ports, &config, Deadline::unknown()));
    let took = start.elapsed();
    assert_eq!(world::failed(&response), Vec::<String>::new());
    let completed = serde_json::to_value(publisher.delivered().last().unwrap()).unwrap();
    assert_eq!(completed["status"], "SUCCESS", "{completed}");
    // Every result has as many rows as a series has.
    println!("rows: {}, ms: {}, peak_kb: {}", completed["rowCount"], took.as_millis(), peak_kb());
}

fn peak_kb() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The peak in kilobytes of a process that runs the expression over the folder.
fn measured(test_name: &str, root: &Path) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", test_name, "--nocapture", "--test-threads=1"]).env(MEASURED, root);
    let output = child.output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{}:\n{text}", output.status);
    let line = text.lines().find(|line| line.contains("peak_kb: ")).unwrap_or_else(|| panic!("{text}"));
    println!("{test_name}: {line}");
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// The limit of observations is half of those that are read: they could not be held at once.
fn check(test_name: &str, codes: &[&str], rows: i64, rows_a_file: i64, expression: &Value, most_mb: u64) {
    check_batch(test_name, codes, rows, rows_a_file, expression, 1, most_mb);
}

/// The same of so many records at once.
fn check_batch(
    test_name: &str,
    codes: &[&str],
    rows: i64,
    rows_a_file: i64,
    expression: &Value,
    records: usize,
    most_mb: u64,
) {
    let limit = (rows * i64::try_from(codes.len()).unwrap() / 2).clamp(100_000, 3_000_000).to_string();
    if let Some(root) = variable(MEASURED) {
        return run(Path::new(&root), codes, expression, &limit, records);
    }
    let root = tempfile::tempdir().unwrap();
    write_dataset(root.path(), codes, rows, rows_a_file);
    let peak_kb = measured(test_name, root.path());
    assert!(peak_kb < most_mb << 10, "{peak_kb} KB at the peak, {most_mb} MB are allowed");
}

#[test]
fn a_long_history_takes_no_more_than_a_short_one() {
    let expression = json!({ "op": "sma", "series": { "series_code": "A" }, "window": 1_000 });
    check("a_long_history_takes_no_more_than_a_short_one", &["A"], points(), 5_000_000, &expression, 192);
}

#[test]
fn minute_data_of_six_series_takes_little() {
    let codes = ["A", "B", "C", "D", "E", "F"];
    let operands: Vec<Value> = codes.iter().map(|code| json!({ "series_code": code })).collect();
    let expression = json!({ "op": "avg", "operands": operands });
    let rows = points() / 6;
    check("minute_data_of_six_series_takes_little", &codes, rows, 5_300_000, &expression, 96);
}

#[test]
fn months_of_minutes_in_small_files_take_little() {
    let expression = json!({
        "op": "subtract", "left": { "series_code": "A" },
        "right": { "op": "lag", "series": { "series_code": "B" }, "window": 7 }
    });
    let rows = (points() / 6).min(5_260_000);
    check("months_of_minutes_in_small_files_take_little", &["A", "B"], rows, 43_200, &expression, 96);
}

#[test]
fn a_batch_of_ten_over_the_same_files_takes_little() {
    let test_name = "a_batch_of_ten_over_the_same_files_takes_little";
    let codes = ["A", "B", "C"];
    let operands: Vec<Value> = codes.iter().map(|code| json!({ "series_code": code })).collect();
    check_batch(test_name, &codes, 275 * 22, 22, &json!({ "op": "sum", "operands": operands }), 10, 96);
}
