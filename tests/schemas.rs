//! The schemas in `schemas/` are those of the types, and everything that crosses the worker's border is as they say.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where the contracts are not as they must be")]

#[path = "support/world.rs"]
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use jsonschema::Validator;
use metrics_engine::cli::schemas;
use metrics_engine::expression::{Limits, Problem};
use metrics_engine::ids::RunId;
use metrics_engine::keys::{self, Prefixes, VersionTs};
use metrics_engine::request::{self, Invalid, Rules};
use metrics_engine::schema;
use metrics_engine::storage::memory::{Call, Fault, Operation};
use serde_json::{Value, json};
use world::{Record, World, record, request};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A validator for each contract; each schema is itself one of 2020-12.
fn validators() -> BTreeMap<&'static str, Validator> {
    let one = |contract: schema::Contract| {
        let name = contract.name;
        jsonschema::draft202012::meta::validate(&contract.document).unwrap_or_else(|error| panic!("{name}: {error}"));
        let options = jsonschema::draft202012::options().should_validate_formats(true);
        (name, options.build(&contract.document).unwrap_or_else(|error| panic!("{name}: {error}")))
    };
    schema::contracts().into_iter().map(one).collect()
}

fn check(validators: &BTreeMap<&str, Validator>, contract: &str, value: &Value) {
    let errors: Vec<String> =
        validators[contract].iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{contract}: {value:#}\n{errors:#?}");
}

fn rules() -> Rules {
    Rules {
        bucket: "own".to_owned(),
        input_prefixes: Prefixes::parse("datasets/").unwrap(),
        output_prefixes: Prefixes::parse("metrics/").unwrap(),
        body_bytes: 1 << 20,
        expression: Limits::default(),
    }
}

#[test]
fn the_schemas_in_the_tree_are_those_of_the_types() {
    let expected: BTreeMap<String, String> = schemas::files().into_iter().collect();
    let folder = root().join("schemas");
    let listed = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let listed: BTreeSet<String> = listed.filter(|name| name != "README.md").collect();
    assert_eq!(listed, expected.keys().cloned().collect(), "run `make schemas`");
    for (name, text) in expected {
        let found = fs::read_to_string(folder.join(&name)).unwrap();
        assert!(found == text, "{name} is not what the types say: run `make schemas`");
    }
}

#[test]
fn the_asyncapi_document_refers_to_schemas_that_exist() {
    let document = schema::asyncapi::document();
    let names: BTreeSet<String> = schema::contracts().iter().map(schema::Contract::file_name).collect();
    let messages = document["components"]["messages"].as_object().unwrap();
    assert_eq!(messages.len(), 4);
    for (name, message) in messages {
        let reference = message["payload"]["schema"]["$ref"].as_str().unwrap();
        assert!(names.contains(reference), "{name} refers to {reference}");
    }
    for channel in document["operations"].as_object().unwrap().values() {
        let pointer = channel["channel"]["$ref"].as_str().unwrap().trim_start_matches('#');
        assert!(document.pointer(pointer).is_some(), "no {pointer}");
    }
}

#[test]
fn an_identifier_of_the_schema_is_one_of_the_code() {
    let validators = validators();
    let long = "x".repeat(128);
    let too_long = "x".repeat(129);
    for text in ["a", "...", ".a", "..a", "A:B_c-1", ".", "..", "", "a/b", "a b", "ä", "a\n", "a\0", &long, &too_long]
    {
        let event = json!({ "schema": "metrics.run.v1", "type": "metric_run_started", "runId": text,
            "metricCode": "m", "startedAt": "2025-01-15T10:30:10Z" });
        assert_eq!(validators["metric_run_started"].is_valid(&event), RunId::parse(text).is_ok(), "{text:?}");
    }
    for text in ["2025-01-15T10-30-00", "2025-01-15T10:30:00", "2025-01-15", "", "2025-01-15T10-30-00Z"] {
        let marker = json!({ "run_id": "r", "metric_code": "m", "version_ts": text, "output_manifest": "k",
            "row_count": 0, "completed_at": "2025-01-15T10:30:10Z", "request_digest": "0".repeat(64) });
        assert_eq!(validators["run_marker"].is_valid(&marker), VersionTs::parse(text).is_some(), "{text:?}");
    }
}

/// The event in a body, out of its SNS envelope.
fn unwrapped(body: &str) -> Option<Value> {
    let json: Value = serde_json::from_str(body).ok()?;
    match json["Message"].as_str() {
        Some(message) => serde_json::from_str(message).ok(),
        None => Some(json),
    }
}

#[test]
fn every_sample_record_that_the_worker_takes_is_as_the_schema_says() {
    let validators = validators();
    let sample_rules = Rules { bucket: "metrics".to_owned(), ..rules() };
    let files = fs::read_dir(root().join("events")).unwrap().map(|file| file.unwrap().path());
    let mut counts = (0, 0);
    for path in files.filter(|path: &PathBuf| path.extension().is_some_and(|extension| extension == "json")) {
        let batch: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        for record in batch["Records"].as_array().unwrap() {
            let body = record["body"].as_str().unwrap();
            let is_taken = request::decode(body, &sample_rules).is_ok_and(|request| request.work.is_ok());
            match (is_taken, unwrapped(body)) {
                (true, Some(event)) => {
                    check(&validators, "metric_run_requested", &event);
                    counts.0 += 1;
                }
                (true, None) => panic!("{} is taken, but cannot be read", path.display()),
                (false, _) => counts.1 += 1,
            }
        }
    }
    assert!(counts.0 >= 10 && counts.1 >= 3, "{counts:?}");
}

/// Whether a schema cannot tell that: it needs the configuration, or two places at once.
fn is_beyond_a_schema(invalid: &Invalid) -> bool {
    match invalid {
        Invalid::DatasetNotInCatalog { .. }
        | Invalid::SeriesOfTwoDatasets { .. }
        | Invalid::SeriesNotInInputs { .. }
        | Invalid::Path { source: keys::Error::ForeignBucket { .. } | keys::Error::NotAllowed { .. }, .. } => true,
        // A path's own rules are those of the key, after the bucket was taken off.
        Invalid::Path { .. } => true,
        Invalid::Expression(error) => {
            // To a schema, 2.0 is an integer.
            matches!(&error.problem, Problem::Window { found } if found == "2.0")
                || matches!(
                    error.problem,
                    Problem::ContradictsType { .. } | Problem::TwoSeriesCodes | Problem::TooMuch { .. }
                )
        }
        Invalid::WrongType { expected, .. } => expected.contains("the same as series_code"),
        Invalid::Missing { .. }
        | Invalid::NotJson { .. }
        | Invalid::Id { .. }
        | Invalid::UnknownExpressionType { .. }
        | Invalid::ExpressionNotJson { .. } => false,
    }
}

fn pointers(value: &Value, here: &str, all: &mut Vec<String>) {
    all.push(here.to_owned());
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| pointers(value, &format!("{here}/{name}"), all))
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| pointers(item, &format!("{here}/{index}"), all));
        }
        _ => {}
    }
}

fn without(value: &Value, pointer: &str) -> Option<Value> {
    let (parent, name) = pointer.rsplit_once('/')?;
    let mut value = value.clone();
    value.pointer_mut(parent)?.as_object_mut()?.remove(name)?;
    Some(value)
}

/// Samples of every kind of expression.
fn samples() -> Vec<Value> {
    let reference = json!({ "series_code": "A" });
    let math = json!({ "op": "add", "left": reference, "right": { "seriesCode": "B" }, "scale": 2 });
    let window = json!({ "op": "sum", "series": math, "window": 3 });
    let composite = json!({ "op": "sum", "operands": [window, reference, math], "nulls": "propagate" });
    let one = |(kind, expression): (&str, &Value)| {
        let mut request = request("r1", "m");
        request["expressionType"] = json!(kind);
        request["expressionJson"] = expression.clone();
        request
    };
    [("series_math", &math), ("window_op", &window), ("composite", &composite)].into_iter().map(one).collect()
}

#[test]
fn the_schema_and_the_decoder_agree_on_every_change_of_a_request() {
    let validator = &validators()["metric_run_requested"];
    let values = [
        json!(null),
        json!(0),
        json!(2),
        json!(-1),
        json!(1.5),
        json!(2.0),
        json!(""),
        json!("A"),
        json!(".."),
        json!(true),
        json!([]),
        json!({}),
        json!([{}]),
        json!({ "series_code": "A" }),
        json!({ "seriesCode": "B", "window": 2 }),
        json!({ "op": "add", "left": { "series_code": "A" }, "right": { "series_code": "B" }, "operands": [] }),
    ];
    let mut counts = (0, 0, 0);
    let mut differences = Vec::new();
    for sample in samples() {
        let mut all = Vec::new();
        pointers(&sample, "", &mut all);
        let mut changed: Vec<(String, Value)> = vec![("nothing".to_owned(), sample.clone())];
        for pointer in all {
            changed.extend(without(&sample, &pointer).map(|json| (format!("without {pointer}"), json)));
            for value in &values {
                let mut json = sample.clone();
                *json.pointer_mut(&pointer).unwrap() = value.clone();
                changed.push((format!("{pointer} is {value}"), json));
            }
        }
        for (change, json) in changed {
            let is_valid = validator.is_valid(&json);
            match request::decode(&json.to_string(), &rules()).map(|request| request.work) {
                Ok(Ok(_)) if is_valid => counts.0 += 1,
                Ok(Err(invalid)) if is_valid && is_beyond_a_schema(&invalid) => counts.1 += 1,
                Ok(Err(_)) | Err(_) if !is_valid => counts.2 += 1,
                decoded => differences.push(format!("{change}: the schema says {is_valid}, the decoder {decoded:?}")),
            }
        }
    }
    assert!(differences.is_empty(), "{differences:#?}");
    assert!(counts.0 > 50 && counts.1 > 20 && counts.2 > 500, "{counts:?}");
}

/// Checks every object and event of a world, and says how many there were of each contract.
fn check_world(world: &World, validators: &BTreeMap<&str, Validator>, counts: &mut BTreeMap<&'static str, usize>) {
    for key in world.storage.snapshot().into_keys() {
        let contract = match key.as_str() {
            key if key.ends_with(".claim") => "run_claim",
            key if key.ends_with(".ok") => "run_marker",
            key if key.starts_with("datasets/") && key.ends_with("/manifest.json") => "dataset_manifest",
            key if key.ends_with("/manifest.json") => "output_manifest",
            _ => continue,
        };
        check(validators, contract, &world.json(&key));
        *counts.entry(contract).or_default() += 1;
    }
    for event in world.events() {
        let name = event["type"].as_str().unwrap();
        let (contract, _) = validators.get_key_value(name).unwrap();
        check(validators, contract, &event);
        let contract = schema::contracts().into_iter().find(|contract| contract.name == name).unwrap().name;
        *counts.entry(contract).or_default() += 1;
    }
}

#[tokio::test(start_paused = true)]
async fn everything_that_runs_leave_is_as_the_schemas_say() {
    let validators = validators();
    let mut counts = BTreeMap::new();
    let world = World::new();
    let mut invalid = request("r2", "m2");
    invalid["expressionJson"]["op"] = json!("pow");
    let mut missing = request("r3", "m3");
    missing["expressionJson"]["right"] = json!({ "series_code": "C" });
    missing["inputs"][1]["seriesCode"] = json!("C");
    let records = [("m1", request("r1", "m")), ("m2", invalid), ("m3", missing)];
    let records: Vec<Record> = records.iter().map(|(id, body)| record(id, id, body)).collect();
    assert!(world.handle(&records).await.is_empty());
    check_world(&world, &validators, &mut counts);
    let failing = World::with_storage_faults(|call: &Call| {
        let is_data = call.operation == Operation::Put && call.key.contains("/data/");
        if is_data { Fault::FailBefore } else { Fault::Proceed }
    });
    let last = Record { receive_count: 5, ..record("m1", "g", &request("r1", "m")) };
    assert!(failing.handle(&[last]).await.is_empty());
    check_world(&failing, &validators, &mut counts);
    let slow = World::with_storage_faults(|call: &Call| {
        if call.key.contains("/current/") && call.operation == Operation::Put { Fault::Hang } else { Fault::Proceed }
    });
    let deadline = metrics_engine::worker::deadline::Deadline::unknown();
    let batch = [record("m1", "g", &request("r1", "m"))];
    let answer = tokio::time::timeout(std::time::Duration::from_secs(100), slow.handle_within(&batch, deadline)).await;
    assert!(answer.is_err(), "the run hangs until somebody gives it up, and beats meanwhile");
    check_world(&slow, &validators, &mut counts);
    let expected =
        schema::contracts().into_iter().map(|contract| contract.name).filter(|name| *name != "metric_run_requested");
    assert_eq!(counts.keys().copied().collect::<BTreeSet<_>>(), expected.collect(), "{counts:?}");
}

#[test]
fn a_contract_finds_what_breaks_it() {
    let validators = validators();
    let failure = json!({ "schema": "metrics.run.v1", "type": "metric_run_completed", "runId": "r", "metricCode": "m",
        "status": "FAILURE", "error": "INPUT_READ_ERROR: x", "errorCode": "INPUT_READ_ERROR", "errorMessage": "x" });
    check(&validators, "metric_run_completed", &failure);
    for (field, value) in [
        ("error", json!({ "code": "INPUT_READ_ERROR" })),
        ("errorCode", json!("OTHER")),
        ("status", json!("SUCCESS")),
        ("schema", json!("metrics.run.v2")),
        ("type", json!("metric_run_started")),
    ] {
        let mut broken = failure.clone();
        broken[field] = value;
        assert!(!validators["metric_run_completed"].is_valid(&broken), "{field}");
    }
    let beat = json!({ "schema": "metrics.run.v1", "type": "metric_run_heartbeat", "runId": "r", "metricCode": "m",
        "progress": 1.5, "ts": "2025-01-15T10:30:10Z" });
    assert!(!validators["metric_run_heartbeat"].is_valid(&beat));
}
