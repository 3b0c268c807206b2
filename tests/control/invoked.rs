//! The built control plane as Lambda runs it: the batches of its four queues, the clock and the calls of a function URL in,
//! exact answers out.

use std::time::Duration;

use metrics_engine::control::status::RunStatus;
use serde_json::{Value, json};

use crate::local_aws::{Delivery, LocalAws, LocalQueue};
use crate::runtime_api::{Answer, Lambda};
use crate::world::{BUCKET, World, failure, heartbeat, started, success, sum, update_body};

const LIMIT: Duration = Duration::from_secs(30);
const KEY: &str = "the-key-of-these-tests";

/// The name of each queue's settings, and of the queue.
const QUEUES: [(&str, &str); 4] = [
    ("PROJECTION_UPDATE", "updates"),
    ("METRIC_RUN_STARTED", "started"),
    ("METRIC_RUN_HEARTBEAT", "heartbeat"),
    ("METRIC_RUN_COMPLETED", "completed"),
];

/// The function with its database, its topic and its queues.
struct Stage {
    aws: LocalAws,
    world: World,
    /// Hears the topic.
    requests: LocalQueue,
    /// In the order of `QUEUES`.
    queues: Vec<LocalQueue>,
    dead_letters: Vec<LocalQueue>,
    lambda: Lambda,
}

impl Stage {
    /// Dataset `a` with a metric `m`.
    async fn new() -> Self {
        let aws = LocalAws::start().await;
        aws.bucket(BUCKET).await;
        let world = World::with_datasets(&["a"]).await;
        world.metric("m", &["A"]).await;
        let topic = aws.fifo_topic("runs").await;
        let requests = aws.fifo_queue("requests").await;
        aws.subscribe(&topic, &requests, Delivery::Raw).await;
        let own = [("SNS_TOPIC_ARN", topic), ("S3_BUCKET", BUCKET.to_owned()), ("API_KEY", KEY.to_owned())];
        let all = world.database.environment().into_iter().chain(aws.environment()).chain(own);
        let mut environment: Vec<(String, String)> = all.map(|(name, value)| (name.to_owned(), value)).collect();
        let (mut queues, mut dead_letters) = (Vec::new(), Vec::new());
        for (name, queue) in QUEUES {
            let (queue, letters) = aws.fifo_queue_with_dead_letters(queue, 5, 60).await;
            environment.push((format!("SQS_{name}_QUEUE_URL"), queue.url.clone()));
            environment.push((format!("SQS_{name}_DEAD_LETTER_QUEUE_URL"), letters.url.clone()));
            queues.push(queue);
            dead_letters.push(letters);
        }
        let lambda = Lambda::start(env!("CARGO_BIN_EXE_control"), &environment).await;
        Self { aws, world, requests, queues, dead_letters, lambda }
    }

    /// A batch of the queue with this number; what goes back of it.
    async fn deliver(&mut self, queue: usize, bodies: &[String]) -> Value {
        let arn = &self.queues[queue].arn;
        let records: Vec<Value> =
            bodies.iter().enumerate().map(|(number, body)| record(number, &format!("g{number}"), body, arn)).collect();
        let mut answer = self.lambda.invoke(&json!({ "Records": records }), LIMIT).await.response();
        answer["batchItemFailures"].take()
    }

    async fn call(&mut self, call: Value) -> Value {
        self.lambda.invoke(&call, LIMIT).await.response()
    }
}

fn record(number: usize, group: &str, body: &str, arn: &str) -> Value {
    json!({ "messageId": format!("{number}"), "receiptHandle": format!("handle {number}"), "body": body,
        "md5OfBody": "", "attributes": { "MessageGroupId": group, "ApproximateReceiveCount": "1" },
        "messageAttributes": {}, "eventSource": "aws:sqs", "eventSourceARN": arn, "awsRegion": "us-east-1" })
}

/// A call as a function URL hands it on.
fn http(method: &str, path: &str, query: &str, headers: &Value) -> Value {
    json!({ "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": query, "headers": headers,
        "isBase64Encoded": false, "requestContext": {
            "accountId": "anonymous", "apiId": "id", "domainName": "id.lambda-url.us-east-1.on.aws",
            "domainPrefix": "id", "requestId": "r", "routeKey": "$default", "stage": "$default",
            "time": "12/Mar/2026:19:03:58 +0000", "timeEpoch": 1_773_342_238_000_i64,
            "http": { "method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "t" } } })
}

fn get(path: &str, query: &str) -> Value {
    http("GET", path, query, &json!({ "accept": "*/*" }))
}

fn write(method: &str, path: &str, body: Option<(&str, bool)>) -> Value {
    let mut call = http(method, path, "", &json!({ "x-api-key": KEY, "content-type": "application/json" }));
    if let Some((body, is_base64)) = body {
        call["body"] = json!(body);
        call["isBase64Encoded"] = json!(is_base64);
    }
    call
}

fn body(answer: &Value) -> Value {
    assert_eq!(answer["isBase64Encoded"], false, "{answer}");
    serde_json::from_str(answer["body"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn a_run_goes_through_the_batches_of_all_four_queues() {
    let mut stage = Stage::new().await;
    let good = update_body("a", "v1").to_string();
    assert_eq!(stage.deliver(0, &[good.clone(), good]).await, json!([]));
    assert_eq!(stage.aws.collect(&stage.requests, 1, LIMIT).await.len(), 1, "published before the batch is answered");
    assert_eq!(stage.world.standing().await, ["m dispatched a v1"]);
    let run = stage.world.only_run().await;
    for (queue, message, status, progress) in [
        (1, started(&run, "m"), RunStatus::Running, None),
        (2, heartbeat(&run, "m", 0.5), RunStatus::Running, Some(0.5)),
        (3, failure(&run, "m"), RunStatus::Failed, Some(0.5)),
        (3, success(&run, "m", 7), RunStatus::Succeeded, Some(1.0)),
    ] {
        assert_eq!(stage.deliver(queue, &[message.to_string()]).await, json!([]), "{message}");
        assert_eq!(stage.world.runs().await[0].status, status, "{message}");
        let heard: Option<f64> =
            sqlx::query_scalar("SELECT progress FROM metric_runs").fetch_one(&stage.world.pool).await.unwrap();
        assert_eq!(heard, progress, "{message}");
    }
    assert_eq!(stage.world.count("SELECT row_count FROM metric_runs").await, 7);
    stage.lambda.terminate().await;
    assert!(stage.lambda.exit(LIMIT).await.is_some(), "an idle function does not end when it is asked to");
}

#[tokio::test]
async fn what_cannot_be_read_goes_to_the_dead_letters_of_its_own_queue() {
    let mut stage = Stage::new().await;
    for (number, (_, name)) in QUEUES.into_iter().enumerate() {
        let unknown = started("no-such-run", "m").to_string();
        let bodies = [format!("garbage of {name}"), unknown, update_body("a", name).to_string()];
        assert_eq!(stage.deliver(number, &bodies).await, json!([]), "{name}");
        let letters = stage.aws.collect(&stage.dead_letters[number], 2, LIMIT).await;
        let mut letters: Vec<&str> = letters.iter().map(|letter| letter.body().unwrap()).collect();
        letters.sort_unstable();
        assert_eq!(letters, [&bodies[0], &bodies[1]], "{name}");
    }
    let versions = stage.world.count("SELECT count(*) FROM dataset_updates").await;
    assert_eq!(versions, 4, "what was good in each batch was done");
}

#[tokio::test]
async fn without_a_database_a_batch_goes_back_and_without_dead_letters_garbage_does() {
    let aws = LocalAws::start().await;
    let world = World::with_datasets(&["a"]).await;
    let topic = aws.fifo_topic("runs").await;
    let own =
        [("SNS_TOPIC_ARN", topic), ("S3_BUCKET", BUCKET.to_owned()), ("DB_CONNECT_TIMEOUT_SECONDS", "2".to_owned())];
    let all = world.database.environment().into_iter().chain(aws.environment()).chain(own);
    let mut environment: Vec<(String, String)> = all.map(|(name, value)| (name.to_owned(), value)).collect();
    let arn = "arn:aws:sqs:us-east-1:000000000000:updates.fifo";
    let good = update_body("a", "v1").to_string();
    let batch =
        json!({ "Records": [record(0, "a", &good, arn), record(1, "b", "garbage", arn), record(2, "a", &good, arn)] });
    let failures = |ids: &[&str]| json!({ "batchItemFailures": ids.iter().map(|id| json!({ "itemIdentifier": id })).collect::<Vec<_>>() });
    let mut lambda = Lambda::start(env!("CARGO_BIN_EXE_control"), &environment).await;
    assert_eq!(lambda.invoke(&batch, LIMIT).await.response(), failures(&["1"]), "there is no dead-letter queue");

    // Nobody listens there.
    environment.retain(|(name, _)| name != "DB_PORT");
    environment.push(("DB_PORT".to_owned(), "1".to_owned()));
    let mut away = Lambda::start(env!("CARGO_BIN_EXE_control"), &environment).await;
    assert_eq!(away.invoke(&batch, LIMIT).await.response(), failures(&["0", "1", "2"]));
    let health = away.invoke(&get("/health", ""), LIMIT).await.response();
    assert_eq!(
        (&health["statusCode"], &body(&health)["type"]),
        (&json!(503), &json!("urn:metrics-engine:problem:unavailable"))
    );
    let tick = json!({ "source": "aws.events", "detail-type": "Scheduled Event", "detail": {} });
    let ticked = away.invoke(&tick, LIMIT).await;
    assert!(matches!(ticked, Answer::Error(_)), "so that the alarm of errors is raised: {ticked:?}");
}

#[tokio::test]
async fn the_scheduled_event_relays_what_is_left_and_sweeps() {
    let mut stage = Stage::new().await;
    // As EventBridge sends it.
    let tick = json!({ "version": "0", "id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa", "detail-type": "Scheduled Event",
        "source": "aws.events", "account": "000000000000", "time": "2026-03-12T19:04:00Z", "region": "us-east-1",
        "resources": ["arn:aws:events:us-east-1:000000000000:rule/tick"], "detail": {} });
    stage.world.update("a", "v1").await;
    let answer = stage.call(tick.clone()).await;
    assert_eq!(answer, json!({ "published": 1, "silent": 0, "expired": 0 }));
    assert_eq!(stage.aws.collect(&stage.requests, 1, LIMIT).await.len(), 1);
    stage.world.hours_pass(2).await;
    assert_eq!(stage.call(tick).await, json!({ "published": 0, "silent": 1, "expired": 0 }));
    assert_eq!(stage.world.standing().await, ["m timed_out a v1"]);
    let unknown = stage.lambda.invoke(&json!({ "hello": "world" }), LIMIT).await;
    assert!(matches!(unknown, Answer::Error(_)), "{unknown:?}");
}

#[tokio::test]
async fn a_function_url_reads_writes_and_has_a_run_published_before_it_answers() {
    let mut stage = Stage::new().await;
    let health = stage.call(get("/health", "")).await;
    assert_eq!((&health["statusCode"], &body(&health)["status"]), (&json!(200), &json!("ok")), "{health}");
    let metric = serde_json::to_string(&json!({ "expression_type": "window_op",
        "expression_json": sum(&["A"]).expression_json }))
    .unwrap();
    let created = stage.call(write("PUT", "/metrics/second", Some((&metric, false)))).await;
    assert_eq!(created["statusCode"], 201, "{created}");
    let page = stage.call(get("/metrics", "limit=1")).await;
    assert_eq!(
        (&body(&page)["items"][0]["code"], &body(&page)["next_cursor"].is_string()),
        (&json!("m"), &true),
        "{page}"
    );

    let mut stranger = write("POST", "/metrics/m/runs", None);
    stranger["headers"] = json!({});
    let refused = stage.call(stranger).await;
    assert_eq!(
        (&refused["statusCode"], &refused["headers"]["content-type"]),
        (&json!(401), &json!("application/problem+json"))
    );
    stage.world.update("a", "v1").await;
    stage.world.relay().await;
    let accepted = stage.call(write("POST", "/metrics/second/runs", None)).await;
    assert_eq!(accepted["statusCode"], 202, "{accepted}");
    let run_id = body(&accepted)["run_id"].as_str().unwrap().to_owned();
    assert_eq!(accepted["headers"]["location"], format!("/runs/{run_id}"));
    let requests = stage.aws.collect(&stage.requests, 1, LIMIT).await;
    let request: Value = serde_json::from_str(requests[0].body().unwrap()).unwrap();
    assert_eq!(request["runId"], run_id);

    // A body in either form, and values from the bucket.
    let series = stage.call(write("PUT", "/series/B", Some(("eyJ1bml0IjoiVVNEIn0=", true)))).await;
    assert_eq!((&series["statusCode"], &body(&series)["unit"]), (&json!(201), &json!("USD")), "{series}");
    let version = "metrics/m/2026-03-01T00-00-00";
    let manifest = json!({ "run_id": "r", "metric_code": "m", "version_ts": "2026-03-01T00-00-00",
        "created_at": "2026-03-01T00:00:00Z", "row_count": 1, "inputs": [],
        "outputs": { "data_prefix": format!("{version}/data"), "files": ["metrics.jsonl"], "sha256": {} } });
    stage.aws.put(BUCKET, "metrics/m/current/manifest.json", manifest.to_string()).await;
    let line = "{\"obs_time\":\"2026-02-28T00:00:00\",\"value\":1.5}\n";
    stage.aws.put(BUCKET, &format!("{version}/data/metrics.jsonl"), line).await;
    let values = stage.call(get("/api/v1/metrics/m", "from=2026-02-01&to=2026-02-28")).await;
    assert_eq!(body(&values)["points"], json!([{ "ts": "2026-02-28T00:00:00Z", "value": 1.5 }]), "{values}");
    let page = stage.call(get("/", "")).await;
    assert_eq!((&page["statusCode"], &page["isBase64Encoded"]), (&json!(200), &json!(false)));
    assert!(page["body"].as_str().unwrap().starts_with("<!doctype html>"), "{page}");
}
