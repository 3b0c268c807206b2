//! The polling mode as a process: the built worker takes requests from a queue, publishes, deletes, gives back, extends,
//! is measured and ends, against a local S3, SNS and SQS.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where its process fails")]

#[path = "polling/gate.rs"]
mod gate;
mod support;
#[path = "support/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use aws_sdk_sqs::types::QueueAttributeName;
use gate::{Gate, Way};
use serde_json::Value;
use support::local_aws::{Delivery, LocalAws, LocalQueue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// The machine that runs the tests may be busy with others.
const PATIENCE: Duration = Duration::from_secs(40);

/// A worker with its own queues and topic; bucket and datasets are shared.
struct Scene<'a> {
    aws: &'a LocalAws,
    requests: LocalQueue,
    dead_letters: LocalQueue,
    events: LocalQueue,
    gate: Gate,
    variables: BTreeMap<String, String>,
}

impl<'a> Scene<'a> {
    async fn new(aws: &'a LocalAws, name: &str, visibility_seconds: u32, way: Way) -> Self {
        let (requests, dead_letters) = aws.fifo_queue_with_dead_letters(name, 5, visibility_seconds).await;
        let topic = aws.fifo_topic(&format!("{name}-events")).await;
        let events = aws.fifo_queue(&format!("{name}-events")).await;
        aws.subscribe(&topic, &events, Delivery::Raw).await;
        let gate = Gate::before(&aws.endpoint, way).await;
        let mut variables: BTreeMap<String, String> =
            aws.environment().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let own = [
            ("AWS_ENDPOINT_URL_S3", gate.endpoint.as_str()),
            ("AWS_S3_BUCKET", "own"),
            ("AWS_SNS_EVENTS_TOPIC_ARN", &topic),
            ("AWS_SQS_RUN_REQUEST_QUEUE_URL", &requests.url),
            ("DEAD_LETTER_QUEUE_URL", &dead_letters.url),
            ("PROMETHEUS_PORT", "0"),
            ("LOG_LEVEL", "debug"),
        ];
        variables.extend(own.map(|(name, value)| (name.to_owned(), value.to_owned())));
        Self { aws, requests, dead_letters, events, gate, variables }
    }

    /// The built worker, with these variables and no others.
    fn worker(&self, more: &[(&str, &str)]) -> Child {
        command(self.aws.folder(), &["--poll"]).envs(&self.variables).envs(more.iter().copied()).spawn().unwrap()
    }

    async fn send(&self, run_id: &str, body: &str) {
        self.aws.send(&self.requests, run_id, run_id, body).await;
    }

    /// The messages of the queue that wait, and those that somebody holds.
    async fn counts(&self) -> (u32, u32) {
        let names = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        ];
        let request = self.aws.clients.sqs.get_queue_attributes().queue_url(&self.requests.url);
        let answer = request.set_attribute_names(Some(names.to_vec())).send().await.unwrap();
        let count = |name| answer.attributes().unwrap()[&name].parse().unwrap();
        let [waiting, held] = names;
        (count(waiting), count(held))
    }

    async fn wait_for_counts(&self, expected: (u32, u32)) {
        let start = Instant::now();
        while self.counts().await != expected {
            assert!(start.elapsed() < PATIENCE, "{:?} instead of {expected:?}", self.counts().await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The completed events up to now, waiting for so many events of all types.
    async fn completed(&self, event_count: usize) -> Vec<Value> {
        let messages = self.aws.collect(&self.events, event_count, PATIENCE).await;
        let events = messages.iter().map(|message| serde_json::from_str::<Value>(message.body().unwrap()).unwrap());
        events.filter(|event| event["type"] == "metric_run_completed").collect()
    }
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_worker"));
    command.args(arguments).current_dir(folder).env_clear().kill_on_drop(true);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

async fn signal(worker: &Child, name: &str) {
    let process_id = worker.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-s", name, &process_id]).status().await.unwrap().success());
}

/// How the process ended, and what it said.
async fn end(worker: Child) -> (Option<i32>, Vec<Value>) {
    let Output { status, stdout, stderr } =
        tokio::time::timeout(PATIENCE, worker.wait_with_output()).await.expect("the worker ends").unwrap();
    let lines = String::from_utf8(stdout).unwrap();
    if !stderr.is_empty() {
        eprintln!("{}", String::from_utf8_lossy(&stderr));
    }
    let lines = lines.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")));
    (status.code(), lines.collect())
}

async fn stop(worker: Child) -> Vec<Value> {
    signal(&worker, "TERM").await;
    let (code, lines) = end(worker).await;
    assert_eq!(code, Some(0), "{lines:#?}");
    lines
}

/// The samples that `/metrics` shows, by name and labels.
async fn metrics(port: u16) -> BTreeMap<String, f64> {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    connection.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    let samples = answer.lines().filter(|line| !line.starts_with('#') && line.contains("service=\"worker\""));
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.replace("service=\"worker\"", "").replace("{}", "").replace("{,", "{"), value.parse().unwrap())
    };
    samples.map(sample).collect()
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

async fn with_dataset() -> LocalAws {
    let aws = LocalAws::start().await;
    aws.bucket("own").await;
    for (key, bytes) in world::dataset() {
        aws.put("own", key.as_str(), bytes).await;
    }
    aws
}

fn request(run_id: &str) -> String {
    world::request(run_id, &format!("metric.{run_id}")).to_string()
}

#[tokio::test]
async fn the_worker_does_for_itself_what_the_event_source_mapping_does() {
    let aws = with_dataset().await;
    tokio::join!(
        requests_become_objects_and_events_and_poison_becomes_a_dead_letter(&aws),
        a_failing_record_comes_back_after_its_backoff(&aws),
        a_long_batch_stays_invisible_and_may_end_after_a_signal(&aws),
        a_second_signal_ends_at_once(&aws),
    );
}

async fn requests_become_objects_and_events_and_poison_becomes_a_dead_letter(aws: &LocalAws) {
    let scene = Scene::new(aws, "plain", 30, Way::Open).await;
    let port = free_port();
    let worker = scene.worker(&[("PROMETHEUS_PORT", &port.to_string())]);
    scene.send("p1", &request("p1")).await;
    scene.send("poison", "no request").await;
    scene.send("p2", &request("p2").replace("\"A\"", "\"NONE\"")).await;

    let completed = scene.completed(4).await;
    let outcome = |run_id: &str| completed.iter().find(|event| event["runId"] == run_id).unwrap().clone();
    assert_eq!((completed.len(), &outcome("p1")["status"]), (2, &Value::from("SUCCESS")));
    assert_eq!(outcome("p2")["status"], "FAILURE");
    let manifest = aws.get("own", outcome("p1")["outputManifest"].as_str().unwrap()).await.unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&manifest).unwrap()["run_id"], "p1");
    scene.wait_for_counts((0, 0)).await;
    let letters = aws.collect(&scene.dead_letters, 1, PATIENCE).await;
    assert_eq!(letters.iter().map(|letter| letter.body().unwrap()).collect::<Vec<_>>(), ["no request"]);

    let code = outcome("p2")["errorCode"].as_str().unwrap().to_owned();
    let samples = metrics(port).await;
    let expected = [
        ("metric_runs_started_total", 2.0),
        ("metric_runs_succeeded_total", 1.0),
        ("metric_runs_skipped_total", 0.0),
        ("metric_run_duration_seconds_count", 2.0),
        ("s3_read_mb_count", 1.0),
        ("s3_write_mb_count", 1.0),
        ("records_rejected_total", 1.0),
        ("batch_items_failed_total", 0.0),
        (&format!("metric_runs_failed_total{{error_code=\"{code}\"}}"), 1.0),
        ("metric_runs_failed_total{error_code=\"INTERNAL_ERROR\"}", 0.0),
    ];
    for (name, value) in expected {
        assert_eq!(samples.get(name), Some(&value), "{name} in {samples:#?}");
    }
    assert!(samples["s3_requests_total"] >= 10.0, "{samples:#?}");
    assert!(samples.contains_key("metric_run_duration_seconds_bucket{le=\"0.25\"}"), "{samples:#?}");

    check_lines(&stop(worker).await);
}

/// Inside a run every line names it, and every step has a span of its own.
fn check_lines(lines: &[Value]) {
    let is_run = |span: &Value| span["name"] == "run";
    let in_run =
        |line: &&Value| is_run(&line["span"]) || line["spans"].as_array().is_some_and(|all| all.iter().any(is_run));
    let (steps, messages): (Vec<_>, Vec<_>) = lines.iter().filter(in_run).partition(|line| line["message"] == "close");
    for line in &messages {
        assert!(line["span"]["run_id"].is_string() && line["span"]["metric_code"].is_string(), "{line}");
    }
    let read = messages.iter().find(|line| line["message"] == "read").unwrap();
    assert_eq!((&read["span"]["run_id"], &read["span"]["metric_code"]), (&"p1".into(), &"metric.p1".into()));
    for name in ["run", "lookup", "manifest", "list", "read", "evaluate", "write", "publish"] {
        let step = steps.iter().find(|line| line["span"]["name"] == name).unwrap_or_else(|| panic!("no span {name}"));
        assert!(step["time.busy"].is_string() && step["time.idle"].is_string(), "{step}");
    }
    assert!(lines.iter().any(|line| line["span"]["name"] == "receive"), "a record is received before its run is known");
}

async fn a_failing_record_comes_back_after_its_backoff(aws: &LocalAws) {
    // The queue's own timeout would bring it back long after the test's patience.
    let scene = Scene::new(aws, "failing", 300, Way::Shut).await;
    let worker = scene.worker(&[]);
    scene.send("f1", &request("f1")).await;
    scene.send("f2", "poison of another group").await;
    aws.collect(&scene.dead_letters, 1, PATIENCE).await;
    scene.wait_for_counts((1, 0)).await;
    scene.gate.set(Way::Open);
    let completed = scene.completed(2).await;
    assert_eq!((completed.len(), &completed[0]["status"]), (1, &Value::from("SUCCESS")));
    scene.wait_for_counts((0, 0)).await;
    let lines = stop(worker).await;
    let ended = lines.iter().find(|line| line["message"] == "run ended").unwrap();
    assert!(ended["receive_count"].as_u64().unwrap() >= 2, "{ended}");
}

async fn a_long_batch_stays_invisible_and_may_end_after_a_signal(aws: &LocalAws) {
    const VISIBILITY_SECONDS: u32 = 3;
    let scene = Scene::new(aws, "long", VISIBILITY_SECONDS, Way::Held).await;
    let worker = scene.worker(&[]);
    for run_id in ["l1", "l2"] {
        scene.send(run_id, &request(run_id)).await;
    }
    scene.wait_for_counts((0, 2)).await;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3 * u64::from(VISIBILITY_SECONDS)) {
        assert!(aws.receive(&scene.requests, 0).await.is_empty(), "visible after {:?}", start.elapsed());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    signal(&worker, "TERM").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    scene.send("l3", &request("l3")).await;
    scene.gate.set(Way::Open);
    let (code, lines) = end(worker).await;
    assert_eq!(code, Some(0), "{lines:#?}");
    let completed = scene.completed(4).await;
    assert_eq!(completed.iter().map(|event| event["status"].as_str().unwrap()).collect::<Vec<_>>(), ["SUCCESS"; 2]);
    assert_eq!(scene.counts().await, (1, 0), "what came after the signal waits for another worker");
    assert!(lines.iter().any(|line| line["message"] == "visibility extended"));
}

async fn a_second_signal_ends_at_once(aws: &LocalAws) {
    let scene = Scene::new(aws, "twice", 300, Way::Held).await;
    let mut worker = scene.worker(&[]);
    scene.send("s1", &request("s1")).await;
    scene.wait_for_counts((0, 1)).await;
    signal(&worker, "TERM").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(worker.try_wait().unwrap().is_none(), "the first signal gives the batch its time");
    let start = Instant::now();
    signal(&worker, "INT").await;
    let (code, lines) = end(worker).await;
    assert_eq!(code, Some(1), "{lines:#?}");
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    assert_eq!(scene.counts().await, (0, 1));
}

#[tokio::test]
async fn a_queue_that_is_switched_off_is_not_polled_and_env_files_are_read_by_the_polling_mode_alone() {
    let folder = tempfile::tempdir().unwrap();
    let settings = "AWS_S3_BUCKET=own\nAWS_SNS_EVENTS_TOPIC_ARN=arn:aws:sns:us-east-1:000000000000:events.fifo\n\
                    AWS_SQS_RUN_REQUEST_QUEUE_ENABLED=false\nMAX_RECEIVE_COUNT=many\n";
    std::fs::write(folder.path().join(".env"), settings).unwrap();
    let worker = command(folder.path(), &["--poll"]).env("MAX_RECEIVE_COUNT", "3").spawn().unwrap();
    let (code, lines) = end(worker).await;
    assert_eq!((code, lines.len()), (Some(0), 1), "{lines:#?}");
    assert!(lines[0]["message"].as_str().unwrap().contains("AWS_SQS_RUN_REQUEST_QUEUE_ENABLED"), "{lines:#?}");

    let output = |arguments: &'static [&'static str]| command(folder.path(), arguments).output();
    let polling = output(&["--poll"]).await.unwrap();
    let message = String::from_utf8(polling.stderr).unwrap();
    assert!(message.contains("MAX_RECEIVE_COUNT is \"many\""), "{message}");
    let lambda = output(&[]).await.unwrap();
    let message = String::from_utf8(lambda.stderr).unwrap();
    assert!(message.contains("AWS_S3_BUCKET is missing"), "{message}");
    assert_eq!((polling.status.code(), lambda.status.code()), (Some(1), Some(1)));
}

#[tokio::test]
async fn the_worker_says_what_it_can_be_told() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, code, said) in [
        (&["--help"][..], 0, "Usage: worker [--poll]"),
        (&["--version"], 0, concat!("worker ", env!("CARGO_PKG_VERSION"))),
        (&["--pole"], 2, "unexpected argument '--pole'"),
        (&["--poll", "now"], 2, "unexpected argument 'now'"),
    ] {
        let output = command(folder.path(), arguments).output().await.unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(text.contains(said), "{arguments:?}: {text}");
    }
}

#[tokio::test]
#[ignore = "a measurement: cargo test --test polling -- --ignored --nocapture what_spans_cost"]
async fn what_spans_cost() {
    const RUNS: u32 = 200;
    let aws = with_dataset().await;
    for (round, level) in ["info", "debug", "info", "debug"].into_iter().enumerate() {
        let scene = Scene::new(&aws, &format!("cost-{round}"), 60, Way::Open).await;
        for index in 0..RUNS {
            let run_id = format!("c{round}-{index}");
            scene.send(&run_id, &request(&run_id)).await;
        }
        let port = free_port();
        let mut worker = scene.worker(&[("LOG_LEVEL", level), ("PROMETHEUS_PORT", &port.to_string())]);
        let (mut stdout, mut text) = (worker.stdout.take().unwrap(), String::new());
        let measuring = async {
            while scene.counts().await != (0, 0) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            let process = std::fs::read_to_string(format!("/proc/{}/stat", worker.id().unwrap())).unwrap();
            let samples = metrics(port).await;
            signal(&worker, "TERM").await;
            // User and system time in hundredths of a second.
            let ticks: u32 = process.split(' ').skip(13).take(2).map(|text| text.parse::<u32>().unwrap()).sum();
            (f64::from(ticks) * 10.0, 1_000.0 * samples["metric_run_duration_seconds_sum"])
        };
        let ((cpu_ms, elapsed_ms), read) = tokio::join!(measuring, stdout.read_to_string(&mut text));
        read.unwrap();
        let per_run = |total: f64| total / f64::from(RUNS);
        let line_count = per_run(f64::from(u32::try_from(text.lines().count()).unwrap()));
        let size_kb = per_run(f64::from(u32::try_from(text.len()).unwrap())) / 1_000.0;
        let (elapsed_ms, cpu_ms) = (per_run(elapsed_ms), per_run(cpu_ms));
        println!(
            "{level}: a run takes {elapsed_ms:.1} ms, {cpu_ms:.2} ms of CPU, {line_count:.1} lines, {size_kb:.1} kB"
        );
    }
}

#[test]
fn every_metric_is_documented_and_no_other() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/observability.md")).unwrap();
    let section = text.split("\n## ").find(|section| section.starts_with("Metrics\n")).unwrap();
    let documented: Vec<&str> =
        section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert_eq!(documented, metrics_engine::telemetry::METRICS);
}
