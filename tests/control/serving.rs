//! The built control plane over a real Postgres, SNS and SQS: messages in through queues, requests out through a topic.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aws_sdk_sqs::types::QueueAttributeName;
use metrics_engine::control::database;
use metrics_engine::ids::{MetricCode, RunId};
use serde_json::Value;

use crate::local_aws::{Delivery, LocalAws, LocalQueue};
use crate::postgres::TestDatabase;
use crate::world::{BUCKET, World, started, success, update_body};

/// So long something may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The queues of a control plane, and one that hears its topic.
struct Stage {
    aws: LocalAws,
    world: World,
    environment: Vec<(&'static str, String)>,
    updates: LocalQueue,
    started: LocalQueue,
    completed: LocalQueue,
    dead_letters: LocalQueue,
    requests: LocalQueue,
}

impl Stage {
    async fn new() -> Self {
        let aws = LocalAws::start().await;
        let world = World::with_datasets(&["a"]).await;
        world.metric("m", &["A"]).await;
        let topic = aws.fifo_topic("runs").await;
        let requests = aws.fifo_queue("requests").await;
        aws.subscribe(&topic, &requests, Delivery::Raw).await;
        let (updates, dead_letters) = aws.fifo_queue_with_dead_letters("updates", 5, 10).await;
        // What a killed instance had in hand is seen again soon.
        let soon = [(QueueAttributeName::VisibilityTimeout, "5")];
        let started = aws.fifo_queue_with("started", &soon).await;
        let completed = aws.fifo_queue_with("completed", &soon).await;
        let heartbeat = aws.fifo_queue_with("heartbeat", &soon).await;
        let mut environment = world.database.environment();
        environment.extend(aws.environment());
        environment.extend([
            ("SNS_TOPIC_ARN", topic),
            ("S3_BUCKET", BUCKET.to_owned()),
            ("SQS_PROJECTION_UPDATE_QUEUE_URL", updates.url.clone()),
            ("SQS_METRIC_RUN_STARTED_QUEUE_URL", started.url.clone()),
            ("SQS_METRIC_RUN_HEARTBEAT_QUEUE_URL", heartbeat.url.clone()),
            ("SQS_METRIC_RUN_COMPLETED_QUEUE_URL", completed.url.clone()),
            ("DEAD_LETTER_QUEUE_URL", dead_letters.url.clone()),
            ("PORT", "0".to_owned()),
            ("API_KEY", "0123456789abcdef0123456789abcdef".to_owned()),
        ]);
        Self { aws, world, environment, updates, started, completed, dead_letters, requests }
    }

    fn instance(&self) -> Child {
        control(&self.environment).arg("--serve").stdout(Stdio::null()).spawn().unwrap()
    }

    async fn send(&self, queue: &LocalQueue, number: usize, body: &Value) {
        self.aws.send(queue, "g", &format!("{number}"), &body.to_string()).await;
    }

    async fn until(&self, expected: &[&str]) {
        let start = Instant::now();
        while self.world.standing().await != expected {
            assert!(start.elapsed() < PATIENCE, "{:?} is not {expected:?}", self.world.standing().await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn control(environment: &[(&'static str, String)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_control"));
    command.env_clear().envs(environment.iter().cloned()).current_dir(std::env::temp_dir());
    command
}

#[tokio::test]
async fn messages_come_in_through_queues_and_requests_leave_through_the_topic_although_an_instance_is_killed() {
    let stage = Stage::new().await;
    let (mut first, mut second) = (stage.instance(), stage.instance());
    stage.send(&stage.updates, 0, &update_body("a", "v1")).await;
    stage.send(&stage.updates, 1, &serde_json::json!({ "event": "projection_update", "dataset_id": 7 })).await;
    stage.send(&stage.updates, 2, &update_body("a", "v2")).await;
    stage.until(&["m dispatched a v1", "m dispatched a v2"]).await;
    let requests = stage.aws.collect(&stage.requests, 2, PATIENCE).await;
    let runs = stage.world.runs().await;
    let body = |number: usize| -> Value { serde_json::from_str(requests[number].body().unwrap()).unwrap() };
    assert_eq!((&body(0)["runId"], &body(1)["runId"]), (&runs[0].id.clone().into(), &runs[1].id.clone().into()));
    let letters = stage.aws.collect(&stage.dead_letters, 1, PATIENCE).await;
    let reason = letters[0].message_attributes().unwrap()["dead_letter_reason"].string_value().unwrap().to_owned();
    assert_eq!(reason, "dataset_id must be a string");

    first.kill().unwrap();
    first.wait().unwrap();
    stage.send(&stage.completed, 0, &success(&runs[0].id, "m", 0)).await;
    stage.send(&stage.started, 0, &started(&runs[0].id, "m")).await;
    stage.send(&stage.started, 1, &started(&runs[1].id, "m")).await;
    stage.until(&["m succeeded a v1", "m running a v2"]).await;

    let stopped = Command::new("kill").args(["-TERM", &second.id().to_string()]).status().unwrap();
    assert!(stopped.success());
    let start = Instant::now();
    while second.try_wait().unwrap().is_none() {
        assert!(start.elapsed() < PATIENCE, "it does not stop");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(second.wait().unwrap().success(), "a signal ends it in good order");
    let running = RunId::parse(&runs[1].id).unwrap();
    metrics_engine::control::runs::cancel(&stage.world.pool, &running).await.unwrap();
    let code = MetricCode::parse("m").unwrap();
    metrics_engine::control::runs::run_now(&stage.world.pool, &code, &stage.world.rules).await.unwrap();
    let mut third = stage.instance();
    stage.until(&["m succeeded a v1", "m canceled a v2", "m dispatched a v2"]).await;
    third.kill().unwrap();
    third.wait().unwrap();
}

#[tokio::test]
async fn the_commands_migrate_seed_and_reset_the_database_that_is_named() {
    let database = TestDatabase::empty().await;
    let mut environment = database.environment();
    environment.push(("SNS_TOPIC_ARN", "arn:aws:sns:us-east-1:1:runs.fifo".to_owned()));
    environment.push(("S3_BUCKET", BUCKET.to_owned()));
    let run = |arguments: &[&str]| control(&environment).args(arguments).output().unwrap();
    for arguments in [&["migrate", "up"][..], &["seed"], &["seed"]] {
        let output = run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metrics = async || sqlx::query_scalar::<_, i64>("SELECT count(*) FROM metrics").fetch_one(&database.pool).await;
    assert_eq!(metrics().await.unwrap(), 6);
    assert!(!run(&["reset", "--database", "production"]).status.success());
    assert_eq!(metrics().await.unwrap(), 6);
    assert!(run(&["reset", "--database", &database.settings.name]).status.success());
    assert_eq!(metrics().await.unwrap(), 0);
    assert!(run(&["migrate", "down", "--to", "0"]).status.success());
    assert!(metrics().await.is_err());
    database::migrate_up(&database.pool).await.unwrap();
}

#[test]
fn without_its_configuration_it_does_not_start_and_names_everything_that_is_missing() {
    let output = control(&[]).arg("--serve").output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    for name in ["DB_HOST", "DB_NAME", "DB_USER", "SNS_TOPIC_ARN", "S3_BUCKET"] {
        assert!(error.contains(&format!("{name} is missing")), "{error}");
    }
}
