//! The sample batches are what they claim: SQS events with right digests, over series that the sample dataset has.

#![expect(clippy::unwrap_used, reason = "a test that cannot read its files should fail at once")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use aws_lambda_events::event::sqs::{SqsEvent, SqsMessage};
use md5::{Digest, Md5};
use metrics_engine::dataset::{Dataset, csv};
use metrics_engine::expression::{Expr, ExpressionType, Limits};
use metrics_engine::ids::DatasetId;
use metrics_engine::keys::Prefix;
use serde_json::Value;

/// Batches whose records are broken on purpose.
const BROKEN_EXPRESSION: &str = "08-invalid-expression.json";
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

/// The requests that can be read, out of their SNS envelope where they have one.
fn requests() -> Vec<(String, Value)> {
    let request = |body: &str| -> Option<Value> {
        let body: Value = serde_json::from_str(body).ok()?;
        match body["Message"].as_str() {
            Some(message) => serde_json::from_str(message).ok(),
            None => Some(body),
        }
    };
    let read = |(name, record): (String, SqsMessage)| Some((name, request(record.body.as_deref()?)?));
    records().into_iter().filter_map(read).collect()
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
fn every_expression_but_the_broken_one_parses() {
    for (name, request) in requests() {
        let declared = ExpressionType::parse(request["expressionType"].as_str().unwrap()).unwrap();
        let expr = Expr::parse_declared(&request["expressionJson"], declared, &Limits::default());
        assert_eq!(expr.is_err(), name == BROKEN_EXPRESSION, "{name}: {expr:?}");
        let Ok(expr) = expr else { continue };
        let inputs: BTreeSet<&str> =
            request["inputs"].as_array().unwrap().iter().map(|input| input["seriesCode"].as_str().unwrap()).collect();
        assert_eq!(
            expr.series_codes().into_iter().map(|code| code.as_str()).collect::<BTreeSet<_>>(),
            inputs,
            "{name}"
        );
    }
}

#[test]
fn requests_name_the_version_and_the_series_that_the_sample_dataset_has() {
    let sample = fs::File::open(root().join("sample-data/eurofxref-hist.csv")).unwrap();
    let rates = csv::parse(sample).unwrap();
    let datasets = Prefix::parse("datasets").unwrap();
    let dataset = Dataset::plan(&rates, &datasets, &DatasetId::parse("ecb_fx").unwrap(), None).unwrap();
    for (name, request) in requests() {
        let entry = &request["catalog"]["datasets"]["ecb_fx"];
        assert_eq!(entry["manifestPath"], dataset.manifest_key().as_str(), "{name}");
        let is_known = |input: &Value| dataset.manifest().series_codes.iter().any(|code| input["seriesCode"] == **code);
        let all_known = request["inputs"].as_array().unwrap().iter().all(is_known);
        assert_eq!(all_known, name != MISSING_SERIES, "{name}");
    }
}
