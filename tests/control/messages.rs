//! What comes through the queues: good and bad, in batches.

use metrics_engine::control::batch::{self, Handling};
use metrics_engine::worker::deadline::Deadline;
use metrics_engine::worker::queue::ReceivedRecord;
use metrics_engine::worker::recorder::QueueRecorder;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::world::{World, started, success, update_body};

fn record(number: usize, group: &str, body: impl Into<String>) -> ReceivedRecord {
    ReceivedRecord {
        message_id: format!("{number}"),
        receipt_handle: format!("handle {number}"),
        body: body.into(),
        group_id: Some(group.to_owned()),
        receive_count: 1,
        ..ReceivedRecord::default()
    }
}

/// The ids that go back, and the dead letters with their reasons.
async fn handle(
    world: &World,
    pool: &PgPool,
    queue: &QueueRecorder,
    records: Vec<ReceivedRecord>,
) -> (Vec<String>, Vec<(String, String)>) {
    let deadline = Deadline::unknown();
    let handling = Handling { pool, queue, rules: &world.rules, max_receive_count: 5, deadline: &deadline };
    let returned = batch::handle_records(records, &handling).await;
    let letters = queue.dead_letters().into_iter().map(|(record, reason)| (record.message_id, reason)).collect();
    (returned, letters)
}

fn with(mut body: Value, field: &str, value: Value) -> String {
    body[field] = value;
    body.to_string()
}

#[tokio::test]
async fn whatever_is_wrong_with_a_message_is_named_and_its_group_goes_on() {
    let world = World::with_datasets(&["a"]).await;
    world.metric("m", &["A"]).await;
    let update = || update_body("a", "v1");
    let completed = || success("run", "m", 1);
    let wrong: Vec<(String, &str)> = vec![
        (String::new(), "the body is not the JSON object of an event: expected an object"),
        ("[1]".to_owned(), "the body is not the JSON object of an event: expected an object"),
        ("{\"event\":".to_owned(), "the body is not the JSON object of an event: EOF while parsing a value at line 1 column 9"),
        ("x".repeat((1 << 20) + 1), "body has 1048577 bytes, at most 1048576 are allowed"),
        (json!({ "dataset_id": "a" }).to_string(), "missing field type"),
        (json!({ "type": 7 }).to_string(), "type must be a string"),
        (
            json!({ "type": "metric_run_requested" }).to_string(),
            "type is \"metric_run_requested\", expected one of projection_update, metric_run_started, metric_run_heartbeat, metric_run_completed",
        ),
        (update_body("nobody", "v1").to_string(), "no dataset nobody"),
        (with(update(), "dataset_id", json!(7)), "dataset_id must be a string"),
        (
            with(update(), "dataset_id", json!("../a")),
            "datasetId \"../a\" may hold only letters, digits and . _ : - and may not be . or ..",
        ),
        (with(update(), "bucket", json!("other")), "bucket \"other\" is not this control plane's bucket \"own\""),
        (with(update(), "version_manifest_path", Value::Null), "missing field version_manifest_path"),
        (
            with(update(), "version_manifest_path", json!("datasets/../secret")),
            "version_manifest_path: path \"datasets/../secret\" has a segment that is empty, . or ..",
        ),
        (
            with(update(), "version_manifest_path", json!("s3://other/datasets/a/versions/v1/manifest.json")),
            "version_manifest_path: bucket \"other\" is not this function's bucket \"own\"",
        ),
        (
            with(update(), "projections_path", json!("metrics/a/")),
            "projections_path: metrics/a/ is not under an allowed prefix (datasets/)",
        ),
        (with(completed(), "runId", Value::Null), "missing field runId"),
        (with(completed(), "status", json!("success")), "status must be SUCCESS or FAILURE"),
        (with(completed(), "rowCount", json!(-1)), "rowCount must be an integer of at least 0"),
        (with(completed(), "rowCount", json!("1")), "rowCount must be an integer of at least 0"),
        (with(completed(), "versionTs", json!("a\0b")), "versionTs must be a string of at most 1024 bytes without NUL"),
        (with(started("run", "m"), "startedAt", json!("now")), "startedAt must be a time such as 2025-01-15T10:30:10Z"),
        (
            json!({ "type": "metric_run_heartbeat", "runId": "r", "metricCode": "m", "progress": 2 }).to_string(),
            "progress must be a number from 0 to 1",
        ),
        (
            json!({ "type": "metric_run_completed", "runId": "r", "metricCode": "m", "status": "FAILURE", "error": [1] })
                .to_string(),
            "error must be a string or an object",
        ),
        (completed().to_string(), "no run run of metric m"),
    ];
    let mut records: Vec<ReceivedRecord> =
        wrong.iter().enumerate().map(|(number, (body, _))| record(number, "g", body.clone())).collect();
    let last = records.len();
    records.push(record(last, "g", update_body("a", "v1").to_string()));
    let (returned, letters) = handle(&world, &world.pool, &QueueRecorder::new(true), records).await;
    assert_eq!(returned, Vec::<String>::new());
    let expected: Vec<(String, String)> =
        wrong.iter().enumerate().map(|(number, (_, reason))| (number.to_string(), (*reason).to_owned())).collect();
    assert_eq!(letters, expected);
    assert_eq!(world.standing().await, ["m queued a v1"], "the good one behind all of them was handled");
}

#[tokio::test]
async fn an_error_text_that_no_database_takes_is_kept_as_far_as_it_can_be() {
    let world = World::with_datasets(&["a"]).await;
    world.metric("m", &["A"]).await;
    world.update("a", "v1").await;
    world.relay().await;
    let run = world.only_run().await;
    let body = json!({ "type": "metric_run_completed", "runId": run, "metricCode": "m", "status": "FAILURE",
        "error": { "code": "X\0", "message": "y\0".repeat(100_000) } });
    let (returned, letters) =
        handle(&world, &world.pool, &QueueRecorder::new(true), vec![record(0, "g", body.to_string())]).await;
    assert_eq!((returned, letters), (vec![], vec![]));
    assert_eq!(world.standing().await, ["m failed a v1"]);
}

#[tokio::test]
async fn one_bad_message_does_not_fail_its_batch() {
    let world = World::with_datasets(&["a", "b"]).await;
    world.metric("m", &["A"]).await;
    let records = vec![
        record(0, "a", update_body("a", "v1").to_string()),
        record(1, "b", "garbage"),
        record(2, "a", update_body("a", "v2").to_string()),
    ];
    let (returned, letters) = handle(&world, &world.pool, &QueueRecorder::new(true), records.clone()).await;
    assert_eq!((returned.len(), letters.len()), (0, 1));
    assert_eq!(world.standing().await, ["m queued a v1", "m queued a v2"]);
    let (returned, _) = handle(&world, &world.pool, &QueueRecorder::new(false), records).await;
    assert_eq!(returned, ["1"], "without a dead-letter queue it goes back alone");
}

#[tokio::test]
async fn a_database_that_is_away_sends_the_rest_of_the_group_back_in_order() {
    let world = World::with_datasets(&["a"]).await;
    let mut settings = world.database.settings.clone();
    settings.port = 1;
    settings.connect_timeout = std::time::Duration::from_millis(300);
    let away = metrics_engine::control::database::pool(&settings);
    let update = |number: usize| record(number, "a", update_body("a", &format!("v{number}")).to_string());
    let queue = QueueRecorder::new(true);
    let (returned, letters) =
        handle(&world, &away, &queue, vec![record(9, "b", "garbage"), update(0), update(1)]).await;
    assert_eq!((returned, letters.len()), (vec!["0".to_owned(), "1".to_owned()], 1));
    assert_eq!(queue.visibility_changes().len(), 1);
    let mut last = update(2);
    last.receive_count = 5;
    let queue = QueueRecorder::new(true);
    let (returned, letters) = handle(&world, &away, &queue, vec![last]).await;
    assert_eq!((returned.len(), letters.len()), (0, 1), "its last receive");
    assert!(letters[0].1.starts_with("the database failed: "), "{letters:?}");
}

#[tokio::test]
async fn a_wrapped_message_is_the_message_inside() {
    let world = World::with_datasets(&["a"]).await;
    world.metric("m", &["A"]).await;
    let wrapped = json!({ "Type": "Notification", "Message": update_body("a", "v1").to_string() });
    handle(&world, &world.pool, &QueueRecorder::new(true), vec![record(0, "g", wrapped.to_string())]).await;
    assert_eq!(world.standing().await, ["m queued a v1"]);
}

#[tokio::test]
async fn the_sample_catalogue_is_registered_and_runs() {
    let world = World::new().await;
    for _ in 0..2 {
        metrics_engine::control::sample::seed(&world.pool, &world.rules).await.unwrap();
    }
    assert_eq!(world.update(metrics_engine::control::sample::DATASET, "v1").await.released, 6);
    world.relay().await;
    for request in world.requests() {
        let decoded = metrics_engine::request::decode(&request.to_string(), &world.rules).unwrap();
        assert!(decoded.work.is_ok(), "{request}");
    }
    metrics_engine::control::database::clear(&world.pool).await.unwrap();
    assert_eq!(world.count("SELECT count(*) FROM metrics").await, 0);
    assert!(world.count("SELECT count(*) FROM run_transitions").await > 10);
}
