//! The inner parts by themselves, on one core, without a store between: `cargo bench --bench inner`.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark stops where its input is wrong")]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{ArrayRef, DictionaryArray, Float64Array, RecordBatch, TimestampNanosecondArray};
use arrow::datatypes::Int32Type;
use async_trait::async_trait;
use bytes::Bytes;
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use metrics_engine::config::OutputCompression;
use metrics_engine::expression::{Expr, Limits};
use metrics_engine::ids::{DatasetId, SeriesCode};
use metrics_engine::keys::{DataFile, Key, Prefix};
use metrics_engine::series::Series;
use metrics_engine::storage::{ByteRange, ETag, Error, Object, ObjectMeta, ObjectStorage, Part, PutCondition, Upload};
use metrics_engine::worker::evaluate::{Calendar, Evaluator};
use metrics_engine::worker::plan::{Content, PlannedObject, PlannedSeries, ReadPlan};
use metrics_engine::worker::read::{Cut, Next, ReadSettings, Slices};
use metrics_engine::worker::write::encode::{encode, jsonl};
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};

const DAY_NS: i64 = 86_400_000_000_000;
const MINUTE_NS: i64 = 60_000_000_000;
const ROWS: usize = 1_000_000;

fn main() {
    divan::main();
}

/// Objects that are there at once: what is measured is what happens to their bytes.
struct AtOnce(HashMap<Key, Bytes>);

#[async_trait]
impl ObjectStorage for AtOnce {
    async fn get(&self, key: &Key, range: ByteRange, _: Option<&ETag>) -> Result<Object, Error> {
        let bytes = self.0.get(key).ok_or_else(|| Error::NotFound { key: key.to_string() })?;
        let wanted = range.within(bytes.len());
        Ok(Object { bytes: bytes.slice(wanted), etag: ETag(String::new()), size_bytes: bytes.len() as u64 })
    }

    async fn list(&self, _: &Prefix) -> Result<Vec<ObjectMeta>, Error> {
        Ok(Vec::new())
    }

    async fn put(&self, key: &Key, _: Bytes, _: &'static str, _: PutCondition) -> Result<ETag, Error> {
        Err(read_only(key))
    }

    async fn begin_upload(&self, key: &Key, _: &'static str) -> Result<Upload, Error> {
        Err(read_only(key))
    }

    async fn upload_part(&self, upload: &Upload, _: u16, _: Bytes) -> Result<Part, Error> {
        Err(read_only(&upload.key))
    }

    async fn complete_upload(&self, upload: &Upload, _: &[Part], _: PutCondition) -> Result<ETag, Error> {
        Err(read_only(&upload.key))
    }

    async fn abort_upload(&self, upload: &Upload) -> Result<(), Error> {
        Err(read_only(&upload.key))
    }
}

fn read_only(key: &Key) -> Error {
    Error::Refused { operation: "put", key: key.to_string(), reason: "read only".to_owned() }
}

/// A file of one series, with a dictionary of its code as writers make it.
fn file(times: &[i64], values: &[f64]) -> Bytes {
    let codes: DictionaryArray<Int32Type> = std::iter::repeat_n("SERIES_A", times.len()).collect();
    let columns: [(&str, ArrayRef); 3] = [
        ("obs_time", Arc::new(TimestampNanosecondArray::from(times.to_vec()).with_timezone("UTC"))),
        ("value", Arc::new(Float64Array::from(values.to_vec()))),
        ("internal_series_code", Arc::new(codes)),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    Bytes::from(writer.into_inner().unwrap())
}

/// So many files of so many rows, and the plan to read them.
fn planned(files: usize, rows: usize, step_ns: i64) -> (ReadPlan, AtOnce) {
    let series = PlannedSeries {
        dataset_id: DatasetId::parse("bench").unwrap(),
        series_code: SeriesCode::parse("SERIES_A").unwrap(),
    };
    let mut plan = ReadPlan { series: vec![series], objects: Vec::new() };
    let mut objects = HashMap::new();
    for number in 0..files {
        let key = Key::parse(&format!("datasets/bench/projections/SERIES_A/part-{number:06}.parquet")).unwrap();
        let times: Vec<i64> = (0..rows).map(|row| (number * rows + row) as i64 * step_ns).collect();
        let bytes = file(&times, &values(rows));
        plan.objects.push(PlannedObject {
            key: key.clone(),
            size_bytes: Some(bytes.len() as u64),
            etag: None,
            content: Content::Own(0),
        });
        objects.insert(key, bytes);
    }
    (plan, AtOnce(objects))
}

/// Values of four decimals that differ, as measured ones do.
fn values(count: usize) -> Vec<f64> {
    (0..count as u64).map(|row| (row.wrapping_mul(2_654_435_761) % 1_000_000) as f64 / 1e4).collect()
}

fn series(count: usize, first: i64, step_ns: i64) -> Series {
    let times = (0..count as i64).map(|row| first + row * step_ns).collect();
    Series::new(times, values(count)).unwrap()
}

fn read(bencher: Bencher<'_, '_>, files: usize, rows: usize, step_ns: i64) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (plan, storage) = planned(files, rows, step_ns);
    let settings = ReadSettings::default();
    bencher.counter(ItemsCount::new(files)).bench_local(|| {
        runtime.block_on(async {
            let mut slices = Slices::new(&plan, &storage, &settings, Cut::Slices, &|_| ());
            while let Next::Slice(slice) = slices.next().await.unwrap() {
                black_box(slice);
            }
        });
    });
}

/// The time of an item is that of one file.
#[divan::bench(args = [22, 250])]
fn read_small_files(bencher: Bencher<'_, '_>, rows: usize) {
    read(bencher, 825, rows, DAY_NS);
}

#[divan::bench]
fn read_a_long_file(bencher: Bencher<'_, '_>) {
    read(bencher, 1, ROWS, MINUTE_NS);
}

fn evaluate(bencher: Bencher<'_, '_>, expression: &Value, inputs: &BTreeMap<SeriesCode, Series>) {
    let expression = Expr::parse(expression, &Limits::default()).unwrap();
    let count: usize = inputs.values().map(Series::len).sum();
    bencher.counter(ItemsCount::new(count)).with_inputs(|| inputs.clone()).bench_local_values(|inputs| {
        let mut evaluator = Evaluator::new(&expression, &Calendar::utc());
        black_box(evaluator.next(inputs).unwrap())
    });
}

fn code(number: usize) -> SeriesCode {
    SeriesCode::parse(&format!("S{number:03}")).unwrap()
}

#[divan::bench(args = ["sma", "sum", "max", "ema", "lag"])]
fn window(bencher: Bencher<'_, '_>, op: &str) {
    let window = if op == "lag" { 7 } else { 1_440 };
    let expression = json!({ "op": op, "series": { "series_code": "S000" }, "window": window });
    evaluate(bencher, &expression, &BTreeMap::from([(code(0), series(ROWS, 0, MINUTE_NS))]));
}

#[divan::bench(args = ["same times", "other times"])]
fn difference(bencher: Bencher<'_, '_>, times: &str) {
    let expression = json!({ "op": "subtract", "left": { "series_code": "S000" }, "right": { "series_code": "S001" } });
    let first = if times == "same times" { 0 } else { MINUTE_NS * 5 };
    let inputs = [(code(0), series(ROWS, 0, MINUTE_NS)), (code(1), series(ROWS, first, MINUTE_NS))];
    evaluate(bencher, &expression, &BTreeMap::from(inputs));
}

/// The sum of 500 series of 5,000 points, whose times are the same, begin one after the other on a grid, or lie on none.
#[divan::bench(args = ["same times", "a grid", "no grid"])]
fn composite(bencher: Bencher<'_, '_>, times: &str) {
    let operands: Vec<Value> = (0..500).map(|number| json!({ "series_code": code(number).as_str() })).collect();
    let first = |number: usize| match times {
        "same times" => 0,
        "a grid" => number as i64 * DAY_NS,
        _ => number as i64 * DAY_NS + (number as i64 * 7_919) % 1_009,
    };
    let inputs = (0..500).map(|number| (code(number), series(5_000, first(number), DAY_NS))).collect();
    evaluate(bencher, &json!({ "op": "sum", "operands": operands }), &inputs);
}

#[divan::bench]
fn write_lines(bencher: Bencher<'_, '_>) {
    let series = series(ROWS, 0, MINUTE_NS);
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| jsonl(black_box(&series)));
}

#[divan::bench]
fn write_parquet(bencher: Bencher<'_, '_>) {
    let series = series(ROWS, 0, MINUTE_NS);
    bencher
        .counter(ItemsCount::new(ROWS))
        .bench_local(|| encode(black_box(&series), &[DataFile::Parquet], OutputCompression::Snappy).unwrap());
}
