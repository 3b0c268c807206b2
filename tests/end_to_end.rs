//! The built worker as a process, driven through the Lambda Runtime API, against S3, SNS and SQS on this machine.
//!
//! Nothing of the worker is called from here: records go in through a queue, and what comes out is read where its
//! consumers read it, in the bucket, on the topics, in the dead-letter queue and in the batch response.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops where the worker did not do its part")]

mod support;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use arrow::array::{Array, Float64Array, TimestampNanosecondArray};
use arrow::datatypes::{DataType, TimeUnit};
use aws_sdk_sns::types::MessageAttributeValue;
use aws_sdk_sqs::types::{MessageSystemAttributeName, QueueAttributeName};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use support::local_aws::{Delivery, LocalAws};
use support::runtime_api::Lambda;
use support::scene::{
    BUCKET, MANIFEST, Published, Scene, Sent, TIMEOUT, message_ids, midnight, put_dataset, ratio, request,
    system_attribute, wrapped,
};

fn nothing_failed() -> Value {
    json!({"batchItemFailures": []})
}

fn of_run<'a>(events: &'a [Published], run_id: &str) -> Vec<&'a Published> {
    events.iter().filter(|event| event.field("runId") == run_id).collect()
}

fn types(events: &[&Published]) -> Vec<String> {
    let mut types: Vec<_> = events.iter().map(|event| event.field("type").to_owned()).collect();
    // How many heartbeats there are is a matter of time.
    types.dedup();
    types.retain(|kind| kind != "metric_run_heartbeat");
    types
}

fn completed<'a>(events: &'a [Published], run_id: &str) -> &'a Published {
    let all = of_run(events, run_id);
    all.into_iter().find(|event| event.field("type") == "metric_run_completed").unwrap_or_else(|| {
        panic!("no completed event of {run_id} in {events:#?}");
    })
}

async fn tags(scene: &Scene) -> BTreeMap<String, String> {
    let listed = scene.aws.clients.s3.list_objects_v2().bucket(BUCKET).prefix("metrics/").send().await.unwrap();
    let tag = |object: &aws_sdk_s3::types::Object| {
        (object.key().unwrap().to_owned(), format!("{:?} {:?}", object.e_tag(), object.last_modified()))
    };
    listed.contents().iter().map(tag).collect()
}

#[tokio::test]
async fn a_request_leaves_every_object_and_every_event() {
    let scene = Scene::new().await;
    let mut worker = scene.worker().await;
    let batch = scene.batch(&[Sent { group: "ratio.a_b", body: ratio("run-1", "ratio.a_b").to_string() }]).await;
    assert_eq!(scene.deliver(&mut worker, &batch).await, nothing_failed());

    let events = scene.events(2).await;
    assert_eq!(types(&of_run(&events, "run-1")), ["metric_run_started", "metric_run_completed"]);
    for event in &events {
        assert_eq!(event.group, "run-1");
        let attributes = [("type", event.field("type")), ("metricCode", "ratio.a_b")];
        assert_eq!(event.attributes, attributes.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    }
    let version = completed(&events, "run-1").field("versionTs").to_owned();
    let folder = format!("metrics/ratio.a_b/{version}");
    let manifest_key = format!("{folder}/manifest.json");
    let expected = json!({
        "schema": "metrics.run.v1", "type": "metric_run_completed", "runId": "run-1", "metricCode": "ratio.a_b",
        "status": "SUCCESS", "versionTs": version, "outputManifest": manifest_key,
        "outputManifestUri": format!("s3://{BUCKET}/{manifest_key}"), "rowCount": 4,
    });
    assert_eq!(completed(&events, "run-1").body, expected);

    let data = format!("{folder}/data");
    let mut keys = vec![
        format!("{data}/metrics.jsonl"),
        format!("{data}/metrics.parquet"),
        manifest_key.clone(),
        "metrics/ratio.a_b/current/manifest.json".to_owned(),
        "metrics/ratio.a_b/runs/run-1.claim".to_owned(),
        "metrics/ratio.a_b/runs/run-1.ok".to_owned(),
    ];
    keys.sort();
    assert_eq!(scene.outputs().await, keys);
    let lines = [
        r#"{"obs_time":"2024-01-30T00:00:00","value":null}"#,
        r#"{"obs_time":"2024-01-31T00:00:00","value":3.5}"#,
        r#"{"obs_time":"2024-02-01T00:00:00","value":null}"#,
        r#"{"obs_time":"2024-02-02T00:00:00","value":1.25}"#,
    ];
    assert_eq!(scene.text(&format!("{data}/metrics.jsonl")).await, lines.join("\n") + "\n");
    check_parquet(&scene, &format!("{data}/metrics.parquet")).await;
    check_metadata(&scene, &version, &manifest_key).await;
    assert!(scene.aws.drain(&scene.dead_letters).await.is_empty());

    worker.terminate().await;
    assert!(worker.exit(Duration::from_secs(10)).await.is_some(), "an idle worker does not end when it is asked to");
}

async fn check_parquet(scene: &Scene, key: &str) {
    let bytes = scene.aws.get(BUCKET, key).await.unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
    let instant = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
    let columns: Vec<_> = reader.schema().fields().iter().map(|f| (f.name().clone(), f.data_type().clone())).collect();
    assert_eq!(columns, [("obs_time".to_owned(), instant), ("value".to_owned(), DataType::Float64)]);
    let rows: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 1);
    let times = rows[0].column(0).as_any().downcast_ref::<TimestampNanosecondArray>().unwrap();
    let dates = ["2024-01-30", "2024-01-31", "2024-02-01", "2024-02-02"];
    assert_eq!(times.values(), &dates.map(midnight));
    let values = rows[0].column(1).as_any().downcast_ref::<Float64Array>().unwrap();
    let values: Vec<_> = values.iter().collect();
    assert_eq!(values, [None, Some(3.5), Some(f64::INFINITY), Some(1.25)]);
}

async fn check_metadata(scene: &Scene, version: &str, manifest_key: &str) {
    let manifest = scene.json(manifest_key).await;
    assert_eq!(manifest["run_id"], "run-1");
    assert_eq!(manifest["metric_code"], "ratio.a_b");
    assert_eq!(manifest["version_ts"], version);
    assert_eq!(manifest["row_count"], 4);
    assert_eq!(manifest["outputs"]["files"], json!(["metrics.jsonl", "metrics.parquet"]));
    for file in ["metrics.jsonl", "metrics.parquet"] {
        let key = format!("{}/{file}", manifest["outputs"]["data_prefix"].as_str().unwrap());
        let digest = hex::encode(Sha256::digest(scene.aws.get(BUCKET, &key).await.unwrap()));
        assert_eq!(manifest["outputs"]["sha256"][file], digest, "{file}");
    }
    let lineage = manifest["inputs"].to_string();
    assert!(lineage.contains(MANIFEST) && lineage.contains("\"v2\""), "{lineage}");
    assert_eq!(scene.json("metrics/ratio.a_b/current/manifest.json").await, manifest);

    let marker = scene.json("metrics/ratio.a_b/runs/run-1.ok").await;
    let expected = [
        ("run_id", json!("run-1")),
        ("metric_code", json!("ratio.a_b")),
        ("version_ts", json!(version)),
        ("output_manifest", json!(manifest_key)),
        ("row_count", json!(4)),
    ];
    for (field, value) in expected {
        assert_eq!(marker[field], value, "{field}");
    }
    let claim = scene.json("metrics/ratio.a_b/runs/run-1.claim").await;
    assert_eq!(marker["request_digest"].as_str().unwrap().len(), 64);
    assert_eq!(claim["request_digest"], marker["request_digest"]);
}

#[tokio::test]
async fn a_bad_record_stops_neither_its_group_nor_another() {
    let scene = Scene::new().await;
    let mut worker = scene.worker().await;
    let bad_window = json!({"op": "sma", "series": {"seriesCode": "A"}, "window": 0});
    let mut foreign = ratio("run-foreign", "m.foreign");
    foreign["output"]["basePath"] = json!("s3://somebody-else/metrics/m.foreign/");
    let absent = json!({"op": "sma", "series": {"seriesCode": "B"}, "window": 2});
    let mut absent = request("run-absent", "m.absent", "window_op", &absent);
    absent["catalog"]["datasets"]["rates"]["manifestPath"] = json!("datasets/rates/versions/v9/manifest.json");
    let records = [
        ("one", ratio("run-1", "m.one").to_string()),
        ("two", wrapped(&ratio("run-2", "m.two"))),
        ("two", request("run-window", "m.window", "window_op", &bad_window).to_string()),
        ("two", foreign.to_string()),
        ("two", absent.to_string()),
        ("three", "this is no request".to_owned()),
        ("three", ratio("run-3", "m.three").to_string()),
    ];
    let batch = scene.batch(&records.map(|(group, body)| Sent { group, body })).await;
    assert_eq!(scene.deliver(&mut worker, &batch).await, nothing_failed());

    let events = scene.events(9).await;
    for run_id in ["run-1", "run-2", "run-3"] {
        assert_eq!(completed(&events, run_id).field("status"), "SUCCESS", "{run_id}");
        assert_eq!(types(&of_run(&events, run_id)), ["metric_run_started", "metric_run_completed"]);
    }
    let failures =
        [("run-window", "EXPRESSION_EVAL_ERROR"), ("run-foreign", "CONFIG_ERROR"), ("run-absent", "INPUT_READ_ERROR")];
    for (run_id, code) in failures {
        let failure = completed(&events, run_id);
        assert_eq!((failure.field("status"), failure.field("errorCode")), ("FAILURE", code), "{run_id}");
        assert_eq!(failure.field("error"), format!("{code}: {}", failure.field("errorMessage")));
        assert_eq!(failure.group, run_id);
    }
    let dead = scene.aws.collect(&scene.dead_letters, 1, TIMEOUT).await;
    assert_eq!(dead.iter().map(|message| message.body().unwrap()).collect::<Vec<_>>(), ["this is no request"]);
    assert_eq!(system_attribute(&dead[0], &MessageSystemAttributeName::MessageGroupId), "three");
    assert!(!dead[0].message_attributes().unwrap().is_empty(), "a dead letter says why it is there");
}

#[tokio::test]
async fn a_finished_run_is_announced_again_and_never_overwritten() {
    let scene = Scene::new().await;
    let mut worker = scene.worker().await;
    let body = ratio("run-1", "m.one").to_string();
    let twice = [Sent { group: "m.one", body: body.clone() }, Sent { group: "m.one", body: body.clone() }];
    assert_eq!(scene.deliver(&mut worker, &scene.batch(&twice).await).await, nothing_failed());
    let first = scene.events(2).await;
    let success = completed(&first, "run-1").body.clone();
    assert_eq!(success["status"], "SUCCESS");
    let written = tags(&scene).await;
    assert_eq!(written.len(), 6);

    // Another worker, as after a redrive.
    worker.kill().await;
    let mut worker = scene.worker().await;
    let mut reordered: Value = serde_json::from_str(&body).unwrap();
    reordered["messageGroupId"] = json!("m.one");
    let again = scene.batch(&[Sent { group: "m.one", body: reordered.to_string() }]).await;
    assert_eq!(scene.deliver(&mut worker, &again).await, nothing_failed());
    assert_eq!(tags(&scene).await, written);

    let mut other = ratio("run-1", "m.one");
    other["expressionJson"]["scale"] = json!(3);
    let conflict = scene.batch(&[Sent { group: "m.one", body: other.to_string() }]).await;
    assert_eq!(scene.deliver(&mut worker, &conflict).await, nothing_failed());
    assert_eq!(tags(&scene).await, written);
    let dead = scene.aws.collect(&scene.dead_letters, 1, TIMEOUT).await;
    assert_eq!(dead.iter().map(|message| message.body().unwrap()).collect::<Vec<_>>(), [other.to_string()]);

    // SNS drops what has the same deduplication id; whatever else came says the same.
    for event in first.iter().chain(&scene.events(0).await) {
        if event.field("type") == "metric_run_completed" {
            assert_eq!(event.body, success);
        }
    }
}

#[tokio::test]
async fn a_store_that_is_down_returns_the_group_until_its_last_receive() {
    let scene = Scene::new().await;
    // Nobody listens on this port.
    let mut worker = scene.worker_with(&[("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")]).await;
    let records = [("one", "run-1"), ("one", "run-2"), ("two", "run-3")];
    let sent = records.map(|(group, run_id)| Sent { group, body: ratio(run_id, "m.one").to_string() });
    let mut batch = scene.batch(&sent).await;
    let response = scene.deliver(&mut worker, &batch).await;
    let sent = message_ids(&batch["Records"], "messageId");
    assert_eq!(message_ids(&response["batchItemFailures"], "itemIdentifier"), sent);
    let events = scene.events(0).await;
    assert!(events.iter().all(|event| event.field("type") != "metric_run_completed"), "{events:#?}");

    // The first record is received for the last time: its run fails, it is moved, and the rest of its group goes on.
    batch["Records"][0]["attributes"]["ApproximateReceiveCount"] = json!("5");
    let first: Value = serde_json::from_str(batch["Records"][0]["body"].as_str().unwrap()).unwrap();
    let response = scene.deliver(&mut worker, &batch).await;
    let rest = json!(batch["Records"].as_array().unwrap()[1..]);
    let failed = message_ids(&response["batchItemFailures"], "itemIdentifier");
    assert_eq!(failed, message_ids(&rest, "messageId"));
    let run_id = first["runId"].as_str().unwrap();
    let dead = scene.aws.collect(&scene.dead_letters, 1, TIMEOUT).await;
    assert_eq!(dead.len(), 1);
    assert_eq!(serde_json::from_str::<Value>(dead[0].body().unwrap()).unwrap(), first);
    assert_eq!(completed(&scene.events(1).await, run_id).field("status"), "FAILURE");

    // What was returned is released long before the queue's own visibility timeout.
    let released = scene.aws.collect(&scene.requests, 2, Duration::from_secs(90)).await;
    assert!(!released.is_empty(), "no returned record came back");
}

/// Passes everything on to the store but for reads of datasets: those are never answered.
async fn store_without_datasets(endpoint: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let store = endpoint.strip_prefix("http://").unwrap().to_owned();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(pass_on(connection, store.clone()));
        }
    });
    format!("http://{address}")
}

async fn pass_on(connection: TcpStream, store: String) {
    let (mut requests, mut answers) = connection.into_split();
    let (mut from_store, mut to_store) = TcpStream::connect(store).await.unwrap().into_split();
    let back = tokio::spawn(async move { tokio::io::copy(&mut from_store, &mut answers).await });
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = requests.read(&mut buffer).await {
        let line = buffer[..length].split(|byte| *byte == b'\r').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        if line.starts_with("GET ") && line.contains("datasets") {
            std::future::pending::<()>().await;
        }
        to_store.write_all(&buffer[..length]).await.unwrap();
    }
    back.abort();
}

#[tokio::test]
async fn before_the_deadline_everything_unfinished_is_returned() {
    let scene = Scene::new().await;
    let store = store_without_datasets(&scene.aws.endpoint).await;
    let settings = [("AWS_ENDPOINT_URL_S3", store.as_str()), ("WORKER_HEARTBEAT_INTERVAL_SECONDS", "1")];
    let mut worker = scene.worker_with(&settings).await;
    let batch = scene.batch(&[Sent { group: "one", body: ratio("run-1", "m.one").to_string() }]).await;
    let response = scene.deliver_within(&mut worker, &batch, Duration::from_secs(12)).await;
    assert_eq!(response, json!({"batchItemFailures": [{"itemIdentifier": batch["Records"][0]["messageId"]}]}));

    let events = scene.events(0).await;
    let beats: Vec<_> = events.iter().filter(|event| event.field("type") == "metric_run_heartbeat").collect();
    assert!(beats.len() >= 2, "{events:#?}");
    let progress: Vec<_> = beats.iter().map(|beat| beat.body["progress"].as_f64().unwrap()).collect();
    assert!(progress.is_sorted() && progress.iter().all(|part| (0.0..=1.0).contains(part)), "{progress:?}");
    assert!(events.iter().all(|event| event.field("type") != "metric_run_completed"));
    // Heartbeats end with the run.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(scene.events(0).await, []);
}

#[tokio::test]
async fn the_run_of_a_killed_worker_is_finished_by_the_next() {
    let scene = Scene::new().await;
    let batch = scene.batch(&[Sent { group: "one", body: ratio("run-1", "m.one").to_string() }]).await;
    let store = store_without_datasets(&scene.aws.endpoint).await;
    let mut killed = scene.worker_with(&[("AWS_ENDPOINT_URL_S3", &store)]).await;
    let cut_off = tokio::time::timeout(Duration::from_secs(4), killed.invoke(&batch, TIMEOUT)).await;
    assert!(cut_off.is_err(), "the worker answered without a dataset: {cut_off:?}");
    killed.kill().await;
    assert_eq!(scene.outputs().await, ["metrics/m.one/runs/run-1.claim"]);
    let claim = scene.json("metrics/m.one/runs/run-1.claim").await;

    let mut worker = scene.worker().await;
    assert_eq!(scene.deliver(&mut worker, &batch).await, nothing_failed());
    let events = scene.events(2).await;
    assert_eq!(completed(&events, "run-1").field("status"), "SUCCESS");
    // The version belongs to the run, not to the attempt.
    assert_eq!(completed(&events, "run-1").body["versionTs"], claim["version_ts"]);
    assert_eq!(scene.outputs().await.len(), 6);
}

#[tokio::test]
async fn a_worker_without_configuration_names_every_gap_and_does_not_start() {
    let region = ("AWS_REGION".to_owned(), "us-east-1".to_owned());
    let malformed = ("OUTPUT_FORMAT".to_owned(), "csv".to_owned());
    let mut worker = Lambda::start(env!("CARGO_BIN_EXE_worker"), &[region, malformed]).await;
    let status = worker.exit(TIMEOUT).await.unwrap_or_else(|| panic!("the worker runs without a configuration"));
    assert!(!status.success());
    let said = format!("{}{:?}", worker.output(), worker.init_errors());
    for name in ["AWS_S3_BUCKET", "AWS_SNS_EVENTS_TOPIC_ARN", "OUTPUT_FORMAT"] {
        assert!(said.contains(name), "{name} is not named in: {said}");
    }
}

/// What is asked first on the next connection, which is then left without an answer.
async fn asked(listener: &TcpListener) -> (String, TcpStream) {
    let (mut connection, _) = listener.accept().await.unwrap();
    let mut buffer = vec![0; 1 << 16];
    let length = connection.read(&mut buffer).await.unwrap();
    let text = String::from_utf8_lossy(&buffer[..length]);
    (text.lines().next().unwrap_or_default().to_owned(), connection)
}

#[tokio::test]
async fn a_cold_start_opens_a_connection_to_the_store_and_waits_for_no_answer() {
    let (store, api) =
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let endpoint = format!("http://{}", store.local_addr().unwrap());
    let mut worker = tokio::process::Command::new(env!("CARGO_BIN_EXE_worker"));
    let settings = [
        ("AWS_LAMBDA_RUNTIME_API", api.local_addr().unwrap().to_string()),
        ("AWS_LAMBDA_FUNCTION_NAME", "cold".to_owned()),
        ("AWS_LAMBDA_FUNCTION_VERSION", "1".to_owned()),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512".to_owned()),
        ("AWS_ACCESS_KEY_ID", "key".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_S3_BUCKET", BUCKET.to_owned()),
        ("AWS_SNS_EVENTS_TOPIC_ARN", "arn:aws:sns:us-east-1:000000000000:events.fifo".to_owned()),
    ];
    let _worker = worker.env_clear().envs(settings).kill_on_drop(true).spawn().unwrap();
    let (line, _unanswered) = tokio::time::timeout(TIMEOUT, asked(&store)).await.unwrap();
    assert!(line.contains("list-type=2") && line.contains("max-keys=1&prefix=datasets%2F"), "{line}");
    // The store says nothing for longer than a request's own time-out would be.
    let (line, _) = tokio::time::timeout(Duration::from_secs(15), asked(&api)).await.unwrap();
    assert!(line.contains("/invocation/next"), "{line}");
}

#[tokio::test]
async fn one_standard_topic_can_take_every_event() {
    let scene = Scene::new().await;
    let (topic, queue) = (scene.aws.standard_topic("all-events").await, scene.aws.standard_queue("all-events").await);
    scene.aws.subscribe(&topic, &queue, Delivery::Raw).await;
    let mut environment = scene.environment();
    environment.retain(|name, _| !name.starts_with("AWS_SNS_"));
    environment.insert("AWS_SNS_EVENTS_TOPIC_ARN".to_owned(), topic);
    let environment: Vec<_> = environment.into_iter().collect();
    let mut worker = Lambda::start(env!("CARGO_BIN_EXE_worker"), &environment).await;
    let batch = scene.batch(&[Sent { group: "one", body: ratio("run-1", "m.one").to_string() }]).await;
    assert_eq!(scene.deliver(&mut worker, &batch).await, nothing_failed());
    let messages = scene.aws.collect(&queue, 2, TIMEOUT).await;
    let bodies: Vec<Value> = messages.iter().map(|m| serde_json::from_str(m.body().unwrap()).unwrap()).collect();
    let types: Vec<_> = bodies.iter().map(|body| body["type"].as_str().unwrap()).collect();
    assert!(types.contains(&"metric_run_started") && types.contains(&"metric_run_completed"), "{types:?}");
}

/// Deploys the template with the built worker by `sam deploy`, and returns the stack's outputs.
fn deploy(aws: &LocalAws) -> BTreeMap<String, String> {
    let deployed = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.venv/bin/python"))
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/stack.py"))
        .args([&aws.endpoint, env!("CARGO_BIN_EXE_worker")])
        .output()
        .unwrap();
    assert!(deployed.status.success(), "{}", String::from_utf8_lossy(&deployed.stderr));
    serde_json::from_slice(&deployed.stdout).unwrap()
}

#[tokio::test]
async fn a_request_published_to_the_deployed_stack_s_topic_becomes_a_version() {
    let aws = LocalAws::start().await;
    let stack = deploy(&aws);
    put_dataset(&aws, &stack["BucketName"]).await;
    let events = aws.fifo_queue("events").await;
    for topic in ["RunStartedTopicArn", "RunHeartbeatTopicArn", "RunCompletedTopicArn"] {
        aws.subscribe(&stack[topic], &events, Delivery::Raw).await;
    }

    for (kind, run_id) in [("something_else", "run-0"), ("metric_run_requested", "run-1")] {
        let attribute = MessageAttributeValue::builder().data_type("String").string_value(kind).build().unwrap();
        let body = ratio(run_id, "m.one").to_string();
        let publish = aws.clients.sns.publish().topic_arn(&stack["RunRequestedTopicArn"]).message(body);
        let publish = publish.message_attributes("type", attribute).message_group_id("m.one");
        publish.message_deduplication_id(run_id).send().await.unwrap();
    }

    let messages = aws.collect(&events, 2, TIMEOUT).await;
    let bodies: Vec<Value> = messages.iter().map(|m| serde_json::from_str(m.body().unwrap()).unwrap()).collect();
    assert_eq!(bodies.len(), 2, "{bodies:#?}\n{}", aws.log());
    assert!(bodies.iter().all(|body| body["runId"] == "run-1"), "the filter let another type through: {bodies:#?}");
    assert_eq!(bodies[1]["status"], "SUCCESS", "{bodies:#?}");
    let manifest = aws.get(&stack["BucketName"], bodies[1]["outputManifest"].as_str().unwrap()).await.unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&manifest).unwrap()["row_count"], 4);
    assert_eq!(aws.keys(&stack["BucketName"], "metrics/").await.len(), 6);
    wait_until_empty(&aws, &stack["RunRequestQueueUrl"]).await;
    wait_until_empty(&aws, &stack["DeadLetterQueueUrl"]).await;
}

/// Messages in flight count: what the mapping did not delete is in flight.
async fn wait_until_empty(aws: &LocalAws, queue_url: &str) {
    let counts =
        [QueueAttributeName::ApproximateNumberOfMessages, QueueAttributeName::ApproximateNumberOfMessagesNotVisible];
    let start = Instant::now();
    loop {
        let request = aws.clients.sqs.get_queue_attributes().queue_url(queue_url);
        let found = request.set_attribute_names(Some(counts.to_vec())).send().await.unwrap().attributes.unwrap();
        if counts.iter().all(|count| found[count] == "0") {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "the queue still has {found:?}\n{}", aws.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
