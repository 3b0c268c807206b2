//! Batches through the handler, on a store, a topic and a queue in memory: what comes out for what goes in.
#![allow(clippy::unwrap_used, reason = "a test stops where the world is not as it must be")]

#[path = "support/world.rs"]
mod world;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use metrics_engine::event::Event;
use metrics_engine::keys::Key;
use metrics_engine::storage::memory::{Call, Fault, MemoryStorage, Operation};
use metrics_engine::worker::deadline::Deadline;
use metrics_engine::worker::recorder::{QueueRecorder, Recorder};
use serde_json::{Value, json};
use world::{Record, World, record, request};

fn last(record: Record) -> Record {
    Record { receive_count: 5, ..record }
}

#[tokio::test]
async fn a_run_leaves_its_version_and_its_events() {
    let world = World::new();
    assert!(world.handle(&[record("m1", "g", &request("r1", "ratio.a_to_b"))]).await.is_empty());
    insta::assert_json_snapshot!("run_keys", world.output_keys());
    insta::assert_json_snapshot!("run_events", world.events());
    insta::assert_json_snapshot!("run_manifest", world.json("metrics/ratio.a_to_b/2025-01-15T10-30-00/manifest.json"));
    insta::assert_json_snapshot!("run_marker", world.json("metrics/ratio.a_to_b/runs/r1.ok"));
    let lines = world.text("metrics/ratio.a_to_b/2025-01-15T10-30-00/data/metrics.jsonl").unwrap();
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(lines.len(), 60);
    assert_eq!(lines[0], r#"{"obs_time":"2024-01-01T00:00:00","value":4.0}"#);
    assert_eq!(lines[6], r#"{"obs_time":"2024-01-07T00:00:00","value":null}"#);
    let current = world.text("metrics/ratio.a_to_b/current/manifest.json");
    assert_eq!(current, world.text("metrics/ratio.a_to_b/2025-01-15T10-30-00/manifest.json"));
}

#[tokio::test]
async fn a_second_delivery_publishes_the_same_success_and_writes_nothing() {
    let world = World::new();
    let delivery = record("m1", "g", &request("r1", "m"));
    world.handle(std::slice::from_ref(&delivery)).await;
    let (before, first) = (world.storage.snapshot(), world.completed());
    world.pass_seconds(1_000);
    assert!(world.handle(&[Record { receive_count: 2, ..delivery }]).await.is_empty());
    assert_eq!(world.storage.snapshot(), before);
    assert_eq!(world.completed(), first, "one effective completion");
    let all = world.publisher.published();
    let completions: Vec<&Event> =
        all.iter().map(|one| &one.event).filter(|event| event.type_name() == "metric_run_completed").collect();
    assert_eq!(completions.len(), 2, "published again, for whoever missed it");
    assert_eq!(completions[0], completions[1]);
}

#[tokio::test]
async fn another_request_under_a_finished_run_is_dead_lettered_without_an_event() {
    let world = World::new();
    world.handle(&[record("m1", "g", &request("r1", "m"))]).await;
    let (before, events) = (world.storage.snapshot(), world.publisher.published().len());
    let mut other = request("r1", "m");
    other["expressionJson"]["scale"] = json!(2);
    let mut broken = request("r1", "m");
    broken["expressionJson"]["op"] = json!("pow");
    assert!(world.handle(&[record("m2", "g", &other), record("m3", "g", &broken)]).await.is_empty());
    assert_eq!(world.storage.snapshot(), before);
    assert_eq!(world.publisher.published().len(), events);
    let letters = world.queue.dead_letters();
    assert_eq!(letters.len(), 2);
    assert!(letters[0].1.contains("run r1 is known with another request"), "{}", letters[0].1);
}

#[tokio::test]
async fn a_poison_body_goes_to_the_dead_letter_queue_and_its_group_goes_on() {
    let world = World::new();
    let records =
        [record("m1", "g", &request("r1", "m")), record("m2", "g", "not json"), record("m3", "g", &request("r3", "m"))];
    assert!(world.handle(&records).await.is_empty());
    assert_eq!(world.completed().len(), 2);
    let letters = world.queue.dead_letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].0.message_id, "m2");
    assert_eq!(letters[0].1, "the body is not the JSON object of an event: expected an object");
}

#[tokio::test]
async fn without_a_dead_letter_queue_a_poison_body_goes_back_alone() {
    let world = World::with(MemoryStorage::new(), Recorder::new(), QueueRecorder::new(false));
    let records = [record("m1", "g", "not json"), record("m2", "g", &request("r2", "m"))];
    assert_eq!(world.handle(&records).await, ["m1"]);
    assert_eq!(world.completed().len(), 1);
}

async fn failure_of(request: &Value) -> Value {
    let world = World::new();
    assert!(world.handle(&[record("m1", "g", request)]).await.is_empty(), "a failed run is acknowledged");
    let events = world.events();
    assert!(world.output_keys().iter().all(|key| key.ends_with(".claim")), "{:?}", world.output_keys());
    events.last().unwrap().clone()
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_published_with_its_code_and_place() {
    let with = |pointer: &str, value: Value| {
        let mut request = request("r1", "m");
        *request.pointer_mut(pointer).unwrap() = value;
        request
    };
    let mut failures = Vec::new();
    for request in [
        with("/expressionJson/op", json!("pow")),
        with("/expressionJson/right", json!({ "series_code": "C" })),
        with("/expressionType", json!("composite")),
        with("/output/basePath", json!("s3://foreign/metrics/m/")),
        with("/catalog/datasets/d/manifestPath", json!("datasets/d/versions/v9/manifest.json")),
        with("/catalog/datasets/d/manifestPath", json!("secrets/manifest.json")),
        with("/inputs/1", json!({ "datasetId": "e", "seriesCode": "B" })),
    ] {
        let failure = failure_of(&request).await;
        assert_eq!(failure["status"], "FAILURE");
        failures.push(failure["error"].as_str().unwrap().to_owned());
    }
    insta::assert_snapshot!("failures", failures.join("\n"));
}

#[tokio::test]
async fn a_series_that_the_dataset_lacks_fails_the_run() {
    let mut missing = request("r1", "m");
    missing["expressionJson"]["right"] = json!({ "series_code": "C" });
    missing["inputs"][1]["seriesCode"] = json!("C");
    assert_eq!(failure_of(&missing).await["error"], "INPUT_READ_ERROR: no series C in dataset d");
}

/// A store that fails for now whenever a key of this metric is read.
fn failing(metric: &'static str) -> World {
    World::with_storage_faults(move |call: &Call| {
        let is_hit = call.operation == Operation::Get && call.key.starts_with(&format!("metrics/{metric}/"));
        if is_hit { Fault::FailBefore } else { Fault::Proceed }
    })
}

#[tokio::test]
async fn the_first_retry_of_a_group_and_all_after_it_go_back_and_other_groups_do_not() {
    let world = failing("broken");
    let records = [
        record("a1", "a", &request("ra1", "m")),
        record("b1", "b", &request("rb1", "m2")),
        record("a2", "a", &request("ra2", "broken")),
        record("a3", "a", &request("ra3", "m")),
        record("b2", "b", &request("rb2", "m2")),
        record("a4", "a", "poison"),
    ];
    assert_eq!(world.handle(&records).await, ["a2", "a3", "a4"]);
    let done: Vec<String> = world.completed().iter().map(|event| event["runId"].as_str().unwrap().to_owned()).collect();
    assert_eq!(done.len(), 3);
    assert!(["ra1", "rb1", "rb2"].iter().all(|run| done.contains(&(*run).to_owned())), "{done:?}");
    let changes = world.queue.visibility_changes();
    assert_eq!(changes.len(), 1, "all of a group get one visibility");
    assert_eq!(changes[0].0, ["a2", "a3", "a4"]);
    assert!(changes[0].1 >= Duration::from_secs(1) && changes[0].1 <= Duration::from_secs(300));
    assert!(world.queue.dead_letters().is_empty(), "what was not attempted is not judged");
}

#[tokio::test]
async fn the_last_receive_fails_the_run_and_the_group_goes_on() {
    let world = failing("broken");
    let records = [last(record("a1", "a", &request("ra1", "broken"))), record("a2", "a", &request("ra2", "m"))];
    assert!(world.handle(&records).await.is_empty());
    let completed = world.completed();
    assert_eq!(completed[0]["status"], "FAILURE");
    assert_eq!(completed[0]["errorCode"], "OUTPUT_WRITE_ERROR");
    assert_eq!(completed[1]["runId"], "ra2");
    assert_eq!(completed[1]["status"], "SUCCESS");
    let letters = world.queue.dead_letters();
    assert_eq!(letters.len(), 1);
    assert!(
        letters[0].1.starts_with("OUTPUT_WRITE_ERROR: ") && letters[0].1.ends_with("(receive 5)"),
        "{}",
        letters[0].1
    );
}

#[tokio::test]
async fn a_failure_that_cannot_be_published_is_not_acknowledged_away() {
    let publisher = Recorder::with_faults(|_, event: &Event| match event.type_name() {
        "metric_run_completed" => Fault::FailBefore,
        _ => Fault::Proceed,
    });
    let world = World::with(MemoryStorage::new(), publisher, QueueRecorder::new(true));
    let mut invalid = request("r1", "m");
    invalid["expressionJson"]["op"] = json!("pow");
    let records = [record("m1", "g", &invalid), record("m2", "g", &request("r2", "m"))];
    assert_eq!(world.handle(&records).await, ["m1", "m2"]);
    assert_eq!(world.handle(&[last(record("m1", "g", &invalid))]).await, ["m1"]);
    assert_eq!(world.handle(&[last(record("m2", "g", &request("r2", "m")))]).await, ["m2"]);
    assert!(world.queue.dead_letters().is_empty());
}

#[tokio::test]
async fn a_success_whose_answer_was_lost_is_not_overturned_on_the_last_receive() {
    let publisher = Recorder::with_faults(|_, event: &Event| match event.type_name() {
        "metric_run_completed" => Fault::LoseAnswer,
        _ => Fault::Proceed,
    });
    let storage = MemoryStorage::with_faults(|call: &Call| match call.operation {
        Operation::Get if call.key.ends_with(".claim") => Fault::FailBefore,
        _ => Fault::Proceed,
    });
    let world = World::with(storage, publisher, QueueRecorder::new(true));
    for message_id in ["m1", "m2"] {
        assert_eq!(world.handle(&[last(record(message_id, "g", &request("r1", "m")))]).await, [message_id]);
        // The second delivery finds the marker alone: the claim of a finished run may be cleaned away.
        world.storage.remove(&Key::parse("metrics/m/runs/r1.claim").unwrap());
    }
    let statuses: Vec<Value> = world.completed().iter().map(|event| event["status"].clone()).collect();
    assert_eq!(statuses, ["SUCCESS"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_unfinished_at_the_deadline_goes_back_in_time() {
    let world = World::with_storage_faults(|call: &Call| match call.key.as_str() {
        "datasets/d/versions/v1/manifest.json" => Fault::Hang,
        _ => Fault::Proceed,
    });
    let records =
        [record("a1", "a", &request("ra1", "m")), record("a2", "a", &request("ra2", "m")), record("b1", "b", "poison")];
    let start = tokio::time::Instant::now();
    let failed = world.handle_within(&records, Deadline::after(Duration::from_secs(10))).await;
    assert!(start.elapsed() <= Duration::from_millis(9_750), "{:?}", start.elapsed());
    assert_eq!(failed, ["a1", "a2"]);
    assert_eq!(world.queue.dead_letters().len(), 1);
    assert!(world.completed().is_empty());
}

#[tokio::test(start_paused = true)]
async fn heartbeats_tell_progress_and_stop_before_the_completed_event() {
    let mut world = World::with(
        MemoryStorage::new().with_latency(Duration::from_secs(20)),
        Recorder::new(),
        QueueRecorder::new(true),
    );
    world.config = world::config(&[("WORKER_HEARTBEAT_INTERVAL_SECONDS", "15")]);
    assert!(world.handle(&[record("m1", "g", &request("r1", "m"))]).await.is_empty());
    let events = world.events();
    let types: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(types.last(), Some(&"metric_run_completed"));
    let progress: Vec<f64> = events.iter().filter_map(|event| event["progress"].as_f64()).collect();
    assert!(progress.len() > 5, "{types:?}");
    assert!(progress.is_sorted() && *progress.last().unwrap() <= 1.0, "{progress:?}");
    assert!(types.iter().all(|kind| *kind != "metric_run_started") || types.contains(&"metric_run_heartbeat"));
}

#[tokio::test]
async fn a_failed_read_of_one_record_leaves_the_others_that_wait_for_it_alone() {
    let is_first = AtomicBool::new(true);
    let world = World::with_storage_faults(move |call: &Call| {
        match call.key.ends_with("A/year=2024/month=02/data.parquet") && is_first.swap(false, Ordering::Relaxed) {
            true => Fault::FailBefore,
            false => Fault::Proceed,
        }
    });
    let records = ["a", "b", "c"].map(|name| record(name, name, &request(&format!("r{name}"), &format!("m{name}"))));
    assert_eq!(world.handle(&records).await, ["a"]);
    assert_eq!(world.completed().len(), 2);
}

/// How long a record over 550 objects takes, of which one of a hundred does not answer the first time where there is a
/// tail, at 30 ms a request; and how many requests.
async fn over_many_objects(has_tail: bool) -> (Duration, usize) {
    let path = |code: &str, month: i32| format!("datasets/d/projections/{code}/month={month:03}/data.parquet");
    let slow = (0..275).step_by(50).map(|month| path("A", month));
    let slow = Mutex::new(slow.filter(|_| has_tail).collect::<BTreeSet<String>>());
    let faults = move |call: &Call| match slow.lock().unwrap().remove(&call.key) {
        true => Fault::Hang,
        false => Fault::Proceed,
    };
    let storage = MemoryStorage::with_faults(faults).with_latency(Duration::from_millis(30));
    for month in 0..275 {
        for code in ["A", "B"] {
            let file = world::parquet_file(code, 10_000 + i64::from(month), &[Some(f64::from(month))]);
            storage.insert(&Key::parse(&path(code, month)).unwrap(), file);
        }
    }
    let manifest = json!({ "version_id": "v1", "dataset_id": "d", "series_codes": ["A", "B"], "parquet_files": [] });
    let mut world = World::with(storage, Recorder::new(), QueueRecorder::new(true));
    for (key, _) in world::dataset().iter().filter(|(key, _)| key.is_parquet()) {
        world.storage.remove(key);
    }
    world.storage.insert(&Key::parse("datasets/d/versions/v1/manifest.json").unwrap(), manifest.to_string());
    world.config = world::config(&[("READ_CONCURRENCY", "64")]);
    let began = tokio::time::Instant::now();
    let deadline = Deadline::after(Duration::from_secs(900));
    assert!(world.handle_within(&[record("m1", "g", &request("r1", "m"))], deadline).await.is_empty());
    (began.elapsed(), world.storage.trace().len())
}

#[tokio::test(start_paused = true)]
async fn a_run_does_not_wait_for_the_slowest_of_its_reads() {
    let (untailed, requests) = over_many_objects(false).await;
    let (tailed, requests_with_tail) = over_many_objects(true).await;
    assert!(tailed <= untailed * 2, "{tailed:?} beside {untailed:?}");
    assert_eq!(requests_with_tail, requests + 6, "each late read once more");
}

#[tokio::test]
async fn an_empty_batch_has_an_empty_answer() {
    assert!(World::new().handle(&[]).await.is_empty());
}

#[tokio::test]
async fn a_failure_is_final_for_its_message_and_a_redrive_takes_the_run_up_again() {
    let world = World::new();
    let manifest = metrics_engine::keys::Key::parse("datasets/d/versions/v1/manifest.json").unwrap();
    let bytes = world.storage.peek(&manifest).unwrap();
    world.storage.remove(&manifest);
    let delivery = record("m1", "g", &request("r1", "m"));
    assert!(world.handle(std::slice::from_ref(&delivery)).await.is_empty());
    world.storage.insert(&manifest, bytes);
    assert!(world.handle(&[Record { receive_count: 2, ..delivery }]).await.is_empty());
    let completed = world.completed();
    assert_eq!(completed.len(), 1, "the second delivery of the message repeats its failure");
    assert_eq!(completed[0]["errorCode"], "INPUT_READ_ERROR");
    world.pass_seconds(600);
    assert!(world.handle(&[record("m9", "g", &request("r1", "m"))]).await.is_empty());
    assert_eq!(world.completed()[1]["status"], "SUCCESS");
    assert_eq!(world.completed()[1]["versionTs"], "2025-01-15T10-30-00", "the version was fixed at first sight");
}

#[tokio::test]
async fn a_refused_write_fails_the_run() {
    let world = World::with_storage_faults(|call: &Call| {
        let is_hit = call.operation == Operation::Put && call.key.ends_with("/2025-01-15T10-30-00/manifest.json");
        if is_hit { Fault::Refuse } else { Fault::Proceed }
    });
    assert!(world.handle(&[record("m1", "g", &request("r1", "m"))]).await.is_empty());
    assert_eq!(world.completed()[0]["errorCode"], "OUTPUT_WRITE_ERROR");
}

#[tokio::test]
async fn a_run_that_another_attempt_has_done_does_not_fail() {
    // On the last receive the run is done, and then its completed event fails: a FAILURE would be a lie.
    let publisher = Recorder::with_faults(|sequence, _: &Event| match sequence {
        1 => Fault::FailBefore,
        _ => Fault::Proceed,
    });
    let world = World::with(MemoryStorage::new(), publisher, QueueRecorder::new(true));
    assert!(world.handle(&[last(record("m1", "g", &request("r1", "m")))]).await.is_empty());
    let completed = world.completed();
    assert_eq!(completed.len(), 1);
    assert_eq!(completed[0]["status"], "SUCCESS");
    assert!(world.queue.dead_letters().is_empty());
}

/// The data files of a run over a dataset with this object more, in slices of so many observations; and whether an
/// upload was aborted.
async fn data_of_a_run(object: Option<(&str, Bytes)>, slice_observations: usize) -> (Vec<(String, Bytes)>, bool) {
    let storage = MemoryStorage::new().with_part_size(200);
    let mut world = World::with(storage, Recorder::new(), QueueRecorder::new(true));
    world.config.slice_observations = slice_observations;
    if let Some((path, bytes)) = object {
        world.storage.insert(&Key::parse(path).unwrap(), bytes);
    }
    assert!(world.handle(&[record("1", "g", &request("r", "m"))]).await.is_empty());
    assert_eq!(world.completed()[0]["status"], "SUCCESS");
    assert_eq!(world.storage.open_uploads(), []);
    let trace = world.storage.trace();
    let is_aborted = trace.iter().any(|step| step.call.operation == Operation::AbortUpload);
    let data = world.storage.snapshot().into_iter().filter(|(key, _)| key.contains("/data/metrics."));
    (data.collect(), is_aborted)
}

#[tokio::test]
async fn a_run_in_slices_writes_the_bytes_of_a_run_in_one() {
    let whole = data_of_a_run(None, usize::MAX).await;
    assert_eq!(whole.0.len(), 2);
    for slice_observations in [1, 10, 40] {
        assert_eq!(data_of_a_run(None, slice_observations).await, whole, "slices of {slice_observations}");
    }
}

#[tokio::test]
async fn a_run_whose_files_are_not_in_order_of_time_is_computed_from_the_whole_of_them() {
    // Paths are in order, times are not: the first file holds the last days, and one of the second month again.
    let values: Vec<Option<f64>> = (0..20).map(|day| Some(f64::from(day))).collect();
    let path = "datasets/d/projections/A/year=2024/month=00/data.parquet";
    let object = || Some((path, world::parquet_file("A", 19_782, &values)));
    let (whole, was_aborted) = data_of_a_run(object(), usize::MAX).await;
    assert!(!was_aborted);
    for slice_observations in [2, 10, 30] {
        assert_eq!(data_of_a_run(object(), slice_observations).await.0, whole, "slices of {slice_observations}");
    }
    // Where the late file comes last, much was sent before it was seen.
    let late = || {
        Some(("datasets/d/projections/B/year=2024/month=03/data.parquet", world::parquet_file("B", 19_723, &values)))
    };
    let (whole, was_aborted) = data_of_a_run(late(), usize::MAX).await;
    assert!(!was_aborted);
    assert_eq!(data_of_a_run(late(), 10).await, (whole, true));
}
