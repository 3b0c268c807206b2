//! The engine as a contestant: the worker's own handler over S3, or over a folder where one is given, with events and
//! queue in memory.
//!
//! Commands come as lines of JSON on stdin, each answered by a line on stdout: `{"batch": FILE, "env": {…}}` handles the
//! SQS event in that file and tells seconds, CPU seconds and the peak of resident memory; with `"step": "read"` its
//! first request is planned, and what is told is the reading alone.

use std::collections::HashMap;
use std::io::BufRead;
use std::sync::Arc;
use std::time::Instant;

use aws_lambda_events::sqs::SqsEvent;
use metrics_engine::config::Config;
use metrics_engine::event::{Event, Outcome};
use metrics_engine::request;
use metrics_engine::storage::ObjectStorage;
use metrics_engine::storage::folder::FolderStorage;
use metrics_engine::storage::s3::S3Storage;
use metrics_engine::worker::read::{Cut, Next, Slices};
use metrics_engine::worker::recorder::{QueueRecorder, Recorder};
use metrics_engine::worker::{self, Ports, batch, deadline::Deadline};

#[derive(serde::Deserialize)]
struct Command {
    batch: String,
    #[serde(default)]
    env: HashMap<String, String>,
    #[serde(default)]
    step: Option<String>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let config = config(&HashMap::new());
    let storage: Arc<dyn ObjectStorage> = match std::env::args().nth(1) {
        Some(folder) => Arc::new(FolderStorage::new(folder.as_ref()).expect("a folder")),
        None => {
            let client = metrics_engine::aws::clients(&config.aws).await.s3;
            Arc::new(S3Storage::new(client, config.rules.bucket.clone()))
        }
    };
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let command: Command = serde_json::from_str(&line).expect("a command");
        let text = std::fs::read(&command.batch).expect("the batch can be read");
        let event: SqsEvent = serde_json::from_slice(&text).expect("an SQS event");
        let config = self::config(&command.env);
        if command.step.is_some() {
            println!("{}", read(&event, &*storage, &config).await);
            continue;
        }
        let recorder = Arc::new(Recorder::new());
        let ports = Ports {
            storage: Arc::clone(&storage),
            publisher: Arc::clone(&recorder) as _,
            queue: Arc::new(QueueRecorder::new(true)),
            clock: Arc::new(jiff::Timestamp::now),
        };
        // 5 sets the peak back to what is resident now.
        std::fs::write("/proc/self/clear_refs", "5").ok();
        let (started, cpu) = (Instant::now(), cpu_seconds());
        let response = batch::handle(event, &ports, &config, Deadline::from_unix_ms(0, jiff::Timestamp::now())).await;
        let (seconds, cpu) = (started.elapsed().as_secs_f64(), cpu_seconds() - cpu);
        let failed: Vec<_> = recorder.delivered().into_iter().filter_map(failure).collect();
        let rows: u64 = recorder.delivered().into_iter().filter_map(rows).sum();
        let answer = serde_json::json!({
            "seconds": seconds, "cpu": cpu, "peak_mb": peak_mb(), "rows": rows, "failed": failed,
            "returned": response.batch_item_failures.len(),
        });
        println!("{answer}");
    }
}

/// Reads what the first request of the event needs, slice by slice, and computes nothing.
async fn read(event: &SqsEvent, storage: &dyn ObjectStorage, config: &Config) -> serde_json::Value {
    let body = event.records.first().and_then(|record| record.body.as_deref()).expect("a record");
    let request = request::decode(body, &config.rules).expect("a request");
    let work = request.work.as_ref().expect("a valid request");
    let plan = worker::prepare(work, storage, config).await.expect("a plan").plan;
    let settings = worker::read_settings(config);
    let (started, cpu, mut rows) = (Instant::now(), cpu_seconds(), 0);
    let mut slices = Slices::new(&plan, storage, &settings, Cut::Slices, &|_| ());
    loop {
        match slices.next().await.expect("the input can be read") {
            Next::Slice(slice) => rows += slice.iter().map(|series| series.len()).sum::<usize>(),
            Next::End => break,
            Next::OutOfOrder => panic!("the workloads are in order of time"),
        }
    }
    let (seconds, cpu) = (started.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    serde_json::json!({ "seconds": seconds, "cpu": cpu, "peak_mb": peak_mb(), "rows": rows })
}

fn config(extra: &HashMap<String, String>) -> Config {
    let lookup = |name: &str| extra.get(name).cloned().or_else(|| std::env::var(name).ok());
    Config::from_lookup(lookup).expect("the environment of the benchmark is whole")
}

fn failure(event: Event) -> Option<String> {
    match event {
        Event::MetricRunCompleted { outcome: Outcome::Failure { error_message, .. }, .. } => Some(error_message),
        _ => None,
    }
}

fn rows(event: Event) -> Option<u64> {
    match event {
        Event::MetricRunCompleted { outcome: Outcome::Success { row_count, .. }, .. } => Some(row_count),
        _ => None,
    }
}

/// User and system time of the process so far.
fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn peak_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    peak.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") / 1_024.0
}
