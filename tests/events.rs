//! The sample batches are what they claim: SQS events with right digests, over series that the sample dataset has.

#![expect(clippy::unwrap_used, reason = "a test that cannot read its files should fail at once")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use aws_lambda_events::event::sqs::{SqsEvent, SqsMessage};
use md5::{Digest, Md5};
use metrics_engine::dataset::{Dataset, csv};
use metrics_engine::expression::Limits;
use metrics_engine::ids::{DatasetId, SeriesCode};
use metrics_engine::keys::{Prefix, Prefixes};
use metrics_engine::request::{self, Rules, RunRequest, Unreadable};

/// The batch that asks for a series that is not there.
const MISSING_SERIES: &str = "10-missing-series.json";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn batches() -> Vec<(String, SqsEvent)> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(root().join("events")).unwrap().map(|file| file.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    let read = |path: PathBuf| {
        let event = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        (path.file_name().unwrap().to_str().unwrap().to_owned(), event)
    };
    paths.into_iter().map(read).collect()
}

fn records() -> Vec<(String, SqsMessage)> {
    let one_by_one =
        |(name, event): (String, SqsEvent)| event.records.into_iter().map(move |record| (name.clone(), record));
    batches().into_iter().flat_map(one_by_one).collect()
}

/// What the records say, as the worker reads them.
fn requests() -> Vec<(String, Result<RunRequest, Unreadable>)> {
    let rules = Rules {
        bucket: "metrics".to_owned(),
        input_prefixes: Prefixes::parse("datasets/").unwrap(),
        output_prefixes: Prefixes::parse("metrics/").unwrap(),
        body_bytes: 1 << 20,
        expression: Limits::default(),
    };
    let read = |(name, record): (String, SqsMessage)| (name, request::decode(record.body.as_deref().unwrap(), &rules));
    records().into_iter().map(read).collect()
}

#[test]
fn the_readme_lists_every_batch_and_no_other() {
    let readme = fs::read_to_string(root().join("events/README.md")).unwrap();
    let listed: Vec<&str> = readme.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let batches = batches();
    let found: Vec<&str> = batches.iter().map(|(name, _)| name.strip_suffix(".json").unwrap()).collect();
    assert_eq!(listed, found);
    assert!(found.len() >= 10);
}

#[test]
fn every_record_is_one_of_a_fifo_queue_and_its_digest_is_right() {
    for (name, record) in records() {
        let body = record.body.as_deref().unwrap();
        assert_eq!(record.md5_of_body.as_deref().unwrap(), hex::encode(Md5::digest(body)), "{name}");
        assert_eq!(record.event_source.as_deref(), Some("aws:sqs"), "{name}");
        assert!(record.event_source_arn.as_deref().unwrap().ends_with(".fifo"), "{name}");
        for attribute in
            ["ApproximateReceiveCount", "SentTimestamp", "MessageGroupId", "MessageDeduplicationId", "SequenceNumber"]
        {
            assert!(record.attributes.contains_key(attribute), "{name} lacks {attribute}");
        }
    }
}

#[test]
fn messages_are_told_apart_and_sequence_numbers_ascend() {
    let records = records();
    let ids: BTreeSet<&str> = records.iter().map(|(_, record)| record.message_id.as_deref().unwrap()).collect();
    let receipts: BTreeSet<&str> =
        records.iter().map(|(_, record)| record.receipt_handle.as_deref().unwrap()).collect();
    assert_eq!((ids.len(), receipts.len()), (records.len(), records.len()));
    let numbers: Vec<&str> = records.iter().map(|(_, record)| record.attributes["SequenceNumber"].as_str()).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]));
}

#[test]
fn the_worker_reads_every_record_as_the_readme_says() {
    let line = |(name, request): (String, Result<RunRequest, Unreadable>)| match request {
        Err(unreadable) => format!("{name}: unreadable: {unreadable}"),
        Ok(RunRequest { run, work: Err(invalid) }) => {
            format!("{name}: {} is invalid: {}: {invalid}", run.metric_code, invalid.code().as_str())
        }
        Ok(RunRequest { run, work: Ok(work) }) => {
            let codes: Vec<&str> = work.inputs.keys().map(SeriesCode::as_str).collect();
            format!("{name}: {} of {}", run.metric_code, codes.join(", "))
        }
    };
    let lines: Vec<String> = requests().into_iter().map(line).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn requests_name_the_version_and_the_series_that_the_sample_dataset_has() {
    let sample = fs::File::open(root().join("sample-data/eurofxref-hist.csv")).unwrap();
    let rates = csv::parse(sample).unwrap();
    let datasets = Prefix::parse("datasets").unwrap();
    let dataset_id = DatasetId::parse("ecb_fx").unwrap();
    let dataset = Dataset::plan(&rates, &datasets, &dataset_id, None).unwrap();
    for (name, request) in requests() {
        let Ok(RunRequest { work: Ok(work), .. }) = request else { continue };
        let paths = &work.datasets[&dataset_id];
        assert_eq!(&paths.manifest, dataset.manifest_key(), "{name}");
        assert_eq!(paths.projections.as_str(), "datasets/ecb_fx/projections/", "{name}");
        let is_known = |code: &SeriesCode| dataset.manifest().series_codes.iter().any(|known| known == code.as_str());
        assert_eq!(work.inputs.keys().all(is_known), name != MISSING_SERIES, "{name}");
    }
}
