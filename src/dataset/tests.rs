use std::collections::BTreeMap;

use arrow::array::AsArray;
use arrow::datatypes::{Float64Type, TimestampMicrosecondType};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use sha2::{Digest, Sha256};

use super::*;
use crate::storage::memory::{MemoryStorage, Operation};

const SAMPLE: &[u8] = include_bytes!("../../sample-data/eurofxref-hist.csv");

fn sample() -> Rates {
    csv::parse(SAMPLE).unwrap()
}

fn plan(rates: &Rates) -> Dataset<'_> {
    Dataset::plan(rates, &Prefix::parse("datasets").unwrap(), &DatasetId::parse("ecb_fx").unwrap(), None).unwrap()
}

fn small() -> Rates {
    csv::parse("Date,USD,ISK\n2024-02-01,1.5,N/A\n2024-01-31,1.25,N/A\n2024-01-02,1.125,140\n".as_bytes()).unwrap()
}

fn objects(rates: &Rates) -> Vec<(String, Bytes)> {
    let dataset = plan(rates);
    let objects = dataset.objects().map(|object| object.map(|(key, body)| (key.to_string(), body)));
    objects.collect::<Result<_, _>>().unwrap()
}

#[test]
fn the_layout_is_one_object_for_each_month_of_each_series_and_then_the_manifest() {
    let keys: Vec<String> = objects(&small()).into_iter().map(|(key, _)| key).collect();
    assert_eq!(
        keys,
        [
            "datasets/ecb_fx/projections/ECB_EUR_USD_D/year=2024/month=01/data.parquet",
            "datasets/ecb_fx/projections/ECB_EUR_USD_D/year=2024/month=02/data.parquet",
            "datasets/ecb_fx/projections/ECB_EUR_ISK_D/year=2024/month=01/data.parquet",
            "datasets/ecb_fx/versions/v20240201_160000_000000/manifest.json",
        ]
    );
}

#[test]
fn the_manifest_says_what_the_version_holds() {
    let objects = objects(&small());
    let (_, manifest) = objects.last().unwrap();
    insta::assert_snapshot!(std::str::from_utf8(manifest).unwrap());
}

#[test]
fn a_given_time_names_the_version() {
    let rates = small();
    let created_at = "2025-11-11T01:41:38.730866Z".parse().unwrap();
    let dataset_id = DatasetId::parse("ecb_fx").unwrap();
    let dataset = Dataset::plan(&rates, &Prefix::parse("datasets").unwrap(), &dataset_id, Some(created_at)).unwrap();
    assert_eq!(dataset.manifest().version_id, "v20251111_014138_730866");
    assert_eq!(dataset.manifest_key().as_str(), "datasets/ecb_fx/versions/v20251111_014138_730866/manifest.json");
}

#[test]
fn a_month_reads_back_as_it_was() {
    let objects = objects(&small());
    let reader = ParquetRecordBatchReaderBuilder::try_new(objects[0].1.clone()).unwrap();
    assert_eq!(reader.metadata().file_metadata().created_by(), Some("metrics-engine dataset builder"));
    let batches: Vec<_> = reader.build().unwrap().collect::<Result<_, _>>().unwrap();
    let [batch] = batches.as_slice() else { panic!("{} batches", batches.len()) };
    let times = batch.column_by_name("obs_time").unwrap().as_primitive::<TimestampMicrosecondType>();
    assert_eq!(times.values(), &[1_704_153_600_000_000, 1_706_659_200_000_000]);
    assert_eq!(batch.column_by_name("value").unwrap().as_primitive::<Float64Type>().values(), &[1.125, 1.25]);
    for (name, expected) in [("internal_series_code", "ECB_EUR_USD_D"), ("unit", "USD per EUR"), ("frequency", "D")] {
        assert!(batch.column_by_name(name).unwrap().as_string::<i32>().iter().all(|text| text == Some(expected)));
    }
}

#[test]
fn the_sample_gives_the_same_bytes_every_time() {
    let rates = sample();
    let first = objects(&rates);
    assert_eq!(first, objects(&sample()));

    let sizes: Vec<usize> = first.iter().rev().skip(1).map(|(_, body)| body.len()).collect();
    let mut digest = Sha256::new();
    for (key, body) in &first {
        digest.update(key);
        digest.update(body);
    }
    let mut summary: BTreeMap<&str, String> = BTreeMap::new();
    summary.insert("sha256", hex::encode(digest.finalize()));
    summary.insert("objects", first.len().to_string());
    summary.insert("smallest_bytes", sizes.iter().min().unwrap().to_string());
    summary.insert("largest_bytes", sizes.iter().max().unwrap().to_string());
    summary.insert("data_bytes", sizes.iter().sum::<usize>().to_string());
    summary.insert("manifest_bytes", first.last().unwrap().1.len().to_string());
    insta::assert_json_snapshot!(summary);
}

#[test]
fn every_file_of_the_samples_manifest_exists_and_no_other() {
    let rates = sample();
    let dataset = plan(&rates);
    let keys: Vec<String> = dataset.objects().map(|object| object.unwrap().0.to_string()).collect();
    let manifest = dataset.manifest();
    let projections = "datasets/ecb_fx/projections/";
    let listed: Vec<String> = manifest.parquet_files.iter().map(|file| format!("{projections}{file}")).collect();
    assert_eq!(keys[..keys.len() - 1], listed);
    assert_eq!(keys.len(), dataset.object_count());
    assert_eq!(manifest.version_id, "v20261030_160000_000000");
    assert_eq!(manifest.series_codes.len(), manifest.series_count);
    assert_eq!(manifest.date_range.min_obs_time, "1999-01-04T00:00:00Z");
    let gap = |file: &&String| file.starts_with("ECB_EUR_ISK_D/year=201");
    let years: Vec<&str> = manifest.parquet_files.iter().filter(gap).map(|file| &file[14..23]).collect();
    assert_eq!((years.first(), years.last()), (Some(&"year=2018"), Some(&"year=2019")));
}

#[tokio::test]
async fn what_is_there_already_is_not_written_again() {
    let rates = small();
    let dataset = plan(&rates);
    let storage = MemoryStorage::new();
    let mut done_count = 0;
    dataset.write(&storage, || done_count += 1).await.unwrap();
    assert_eq!(done_count, dataset.object_count());
    for object in dataset.objects() {
        let (key, body) = object.unwrap();
        assert_eq!(storage.peek(&key), Some(body), "{key}");
    }

    let put_count = || storage.trace().iter().filter(|step| step.call.operation == Operation::Put).count();
    let changed = dataset.objects().next().unwrap().unwrap().0;
    storage.insert(&changed, "other bytes");
    let before = put_count();
    dataset.write(&storage, || ()).await.unwrap();
    assert_eq!(put_count() - before, 1);
    assert_ne!(storage.peek(&changed), Some("other bytes".into()));
}
