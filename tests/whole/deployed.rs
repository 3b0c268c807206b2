//! The template with its control plane, deployed by `sam deploy` into the local AWS: what is there afterwards is what the
//! template says, and the built binaries close the loop over it, with a database that demands TLS and a password.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use metrics_engine::control::database;
use serde_json::{Value, json};

use crate::http;
use crate::local_aws::LocalAws;
use crate::scene::{DATASET, MANIFEST, put_dataset};
use crate::tls_postgres::{PASSWORD, Server};

const KEY: &str = "the-key-of-the-deployed-stack";

/// Two debug binaries start cold, one after the other, on a machine that may have other things to do.
const PATIENCE: Duration = Duration::from_secs(120);

/// The deployed stack: its outputs, and its control plane as the local AWS has it.
struct Stack {
    outputs: BTreeMap<String, String>,
    control: Value,
}

fn deploy(aws: &LocalAws, database: &Server, password: &str, is_pinned: bool) -> Stack {
    let wanted = json!({
        "parameters": {
            "ControlDatabaseHost": "localhost", "ControlDatabasePort": database.port.to_string(),
            "ControlDatabaseName": "postgres", "ControlDatabaseRootCertificate": database.pem("authority.pem"),
            "ControlApiAuthType": "NONE",
        },
        "secrets": {
            "ControlDatabase": json!({ "username": "postgres", "password": password }).to_string(),
            "ControlApiKey": KEY,
        },
        "pinned": is_pinned,
    });
    let mut deploying = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.venv/bin/python"))
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/stack.py"))
        .args([&aws.endpoint, env!("CARGO_BIN_EXE_worker"), env!("CARGO_BIN_EXE_control")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    deploying.stdin.take().unwrap().write_all(wanted.to_string().as_bytes()).unwrap();
    let deployed = deploying.wait_with_output().unwrap();
    assert!(deployed.status.success(), "{}", String::from_utf8_lossy(&deployed.stderr));
    let mut said: Value = serde_json::from_slice(&deployed.stdout).unwrap();
    let outputs = serde_json::from_value(said["outputs"].take()).unwrap();
    Stack { outputs, control: said["control"].take() }
}

/// What invokes the function, and with which environment.
fn check_function(stack: &Stack, database: &Server) {
    let control = &stack.control;
    let mut queues = BTreeSet::new();
    for mapping in control["mappings"].as_array().unwrap() {
        assert_eq!((&mapping["BatchSize"], &mapping["State"]), (&json!(10), &json!("Enabled")), "{mapping:#}");
        assert_eq!(mapping["FunctionResponseTypes"], json!(["ReportBatchItemFailures"]), "{mapping:#}");
        queues.insert(mapping["EventSourceArn"].as_str().unwrap().rsplit(':').next().unwrap());
    }
    let environment = |name: &str| control["environment"][name].as_str().unwrap_or_default();
    let urls = ["PROJECTION_UPDATE", "METRIC_RUN_STARTED", "METRIC_RUN_HEARTBEAT", "METRIC_RUN_COMPLETED"];
    let urls = urls.map(|name| environment(&format!("SQS_{name}_QUEUE_URL")).rsplit('/').next().unwrap().to_owned());
    assert_eq!(queues, urls.iter().map(String::as_str).collect(), "each of the four queues has its mapping");
    assert!(queues.contains("metrics-engine-cp-projection-updates-consumer.fifo"), "{queues:?}");
    let schedules = control["schedules"].as_array().unwrap();
    assert_eq!(schedules.len(), 1, "{schedules:#?}");
    let schedule = (&schedules[0]["ScheduleExpression"], &schedules[0]["State"]);
    assert_eq!(schedule, (&json!("rate(1 minute)"), &json!("ENABLED")));
    assert_eq!(control["url"]["AuthType"], "NONE");

    let port = database.port.to_string();
    for (name, value) in [
        ("DB_HOST", "localhost"),
        ("DB_PORT", &port),
        ("DB_USER", "postgres"),
        ("DB_PASSWORD", PASSWORD),
        ("DB_TLS", "verify-full"),
        ("DB_TLS_ROOT_CERT", &database.pem("authority.pem")),
        ("API_KEY", KEY),
        ("SNS_TOPIC_ARN", &stack.outputs["RunRequestedTopicArn"]),
        ("S3_BUCKET", &stack.outputs["BucketName"]),
    ] {
        assert_eq!(environment(name).trim(), value.trim(), "{name}");
    }
}

/// The API at the function's URL, by the path that the local AWS has for it.
struct Api<'a> {
    aws: &'a LocalAws,
    url: String,
}

impl<'a> Api<'a> {
    fn new(aws: &'a LocalAws, stack: &Stack) -> Self {
        let id = stack.outputs["ControlApiUrl"].trim_start_matches("https://").split('.').next().unwrap();
        Self { aws, url: format!("{}/_aws/lambda-url/{id}", aws.endpoint) }
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let answer = http::get(&format!("{}{path}", self.url)).await;
        answer.unwrap_or_else(|| panic!("nobody answers {path}\n{}", self.aws.log()))
    }

    async fn put(&self, path: &str, body: &Value) {
        let url = format!("{}{path}", self.url);
        let (stranger, said) = http::call("PUT", &url, None, &body.to_string()).await.unwrap();
        assert_eq!(stranger, 401, "{said}");
        let (status, said) = http::call("PUT", &url, Some(KEY), &body.to_string()).await.unwrap();
        assert_eq!(status, 201, "{path}: {said}");
    }
}

/// The values of a metric, as soon as there are any.
async fn values(api: &Api<'_>, metric: &str) -> Value {
    let start = Instant::now();
    loop {
        let (status, said) = api.get(&format!("/api/v1/metrics/{metric}")).await;
        if status == 200 {
            return serde_json::from_str(&said).unwrap();
        }
        assert!(start.elapsed() < PATIENCE, "{metric}: {said}\nruns: {:?}\n{}", api.get("/runs").await, api.aws.log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn status_of_the_only_run(api: &Api<'_>) -> String {
    let (_, said) = api.get("/runs").await;
    let runs: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(runs["items"].as_array().unwrap().len(), 1, "{said}");
    runs["items"][0]["status"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_update_becomes_values_at_the_url_of_the_deployed_stack_and_a_rotation_is_followed() {
    let aws = LocalAws::start().await;
    let postgres = Server::start();
    database::migrate_up(&database::pool(&postgres.settings())).await.unwrap();
    let stack = deploy(&aws, &postgres, PASSWORD, false);
    check_function(&stack, &postgres);
    put_dataset(&aws, &stack.outputs["BucketName"]).await;

    let api = Api::new(&aws, &stack);
    let (status, said) = api.get("/health").await;
    assert_eq!(status, 200, "{said}\n{}", aws.log());
    for series in ["A", "B"] {
        api.put(&format!("/series/{series}"), &json!({})).await;
    }
    api.put(&format!("/datasets/{DATASET}"), &json!({ "series": ["A", "B"] })).await;
    let expression =
        json!({ "op": "ratio", "left": { "series_code": "A" }, "right": { "series_code": "B" }, "scale": 2 });
    let metric = json!({ "expression_type": "series_math", "expression_json": expression });
    api.put("/metrics/ratio.a_b", &metric).await;

    let update = json!({ "event": "projection_update", "dataset_id": DATASET, "bucket": stack.outputs["BucketName"],
        "version_manifest_path": MANIFEST, "projections_path": format!("datasets/{DATASET}/projections/") });
    let publish = aws.clients.sns.publish().topic_arn(&stack.outputs["ProjectionUpdateTopicArn"]);
    let publish = publish.message(update.to_string()).message_group_id(DATASET).message_deduplication_id("v2");
    publish.send().await.unwrap();

    let values = values(&api, "ratio.a_b").await;
    let points: Vec<&Value> = values["points"].as_array().unwrap().iter().map(|point| &point["value"]).collect();
    assert_eq!(points, [&json!(null), &json!(3.5), &json!(null), &json!(1.25)]);
    let start = Instant::now();
    while status_of_the_only_run(&api).await != "succeeded" {
        assert!(start.elapsed() < PATIENCE, "{:?}\n{}", api.get("/runs").await, aws.log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let rotated = "another's password";
    let owner = database::pool(&postgres.settings());
    sqlx::query("ALTER ROLE postgres PASSWORD 'another''s password'").execute(&owner).await.unwrap();
    let stack = deploy(&aws, &postgres, rotated, true);
    assert_eq!(stack.control["environment"]["DB_PASSWORD"], rotated);
    let (status, said) = api.get("/health").await;
    assert_eq!(status, 200, "{said}\n{}", aws.log());
}
