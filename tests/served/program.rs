//! `control --serve` with a database and a bucket of its own.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http;
use crate::local_aws::LocalAws;
use crate::postgres::TestDatabase;

pub(crate) const KEY: &str = "the-key-of-these-tests";
const BUCKET: &str = "own";

/// The served API.
pub(crate) struct Program {
    pub(crate) url: String,
    pub(crate) database: TestDatabase,
    aws: LocalAws,
    process: Child,
}

impl Program {
    pub(crate) async fn start() -> Self {
        let database = TestDatabase::new().await;
        let aws = LocalAws::start().await;
        aws.bucket(BUCKET).await;
        let topic = aws.fifo_topic("requests.fifo").await;
        let port = free_port();
        let folder = tempfile::tempdir().unwrap();
        let process = command(&database, &aws, &topic, port).current_dir(folder.path()).spawn().unwrap();
        let url = format!("http://127.0.0.1:{port}");
        let program = Self { url, database, aws, process };
        let start = Instant::now();
        while http::get(&format!("{}/health", program.url)).await.is_none_or(|(status, _)| status != 200) {
            assert!(start.elapsed() < Duration::from_secs(60), "the API does not answer");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        program.fill().await;
        program
    }

    /// Two metrics, of which one has a version with values and a gap, and one a run that failed.
    async fn fill(&self) {
        let rows = [
            "INSERT INTO series (code) VALUES ('A'), ('B')",
            "INSERT INTO datasets (id, name) VALUES ('rates', 'Rates <b>of exchange</b>')",
            "INSERT INTO dataset_series (dataset_id, series_code) VALUES ('rates', 'A'), ('rates', 'B')",
            "INSERT INTO metrics (id, code, expression_type, expression_json, unit) VALUES \
             ('1', 'ratio.a_b', 'series_math', '{}', 'USD'), ('2', 'mean.a', 'window_op', '{}', NULL)",
            "INSERT INTO metric_dependencies (metric_id, series_code, position) VALUES ('1', 'A', 1), ('1', 'B', 2), ('2', 'A', 1)",
            "INSERT INTO dataset_updates (dataset_id, version_manifest_path, projections_path, event_key) VALUES \
             ('rates', 'datasets/rates/versions/v7/manifest.json', 'datasets/rates/projections/', 'k')",
            "INSERT INTO metric_runs (id, metric_id, metric_code, status) VALUES \
             ('11111111-good', '1', 'ratio.a_b', 'queued'), ('22222222-bad', '2', 'mean.a', 'queued')",
            "UPDATE metric_runs SET status = 'dispatched'",
            "UPDATE metric_runs SET status = 'succeeded', started_at = now() - interval '3 seconds', finished_at = now(), \
             row_count = 400, version_ts = '2026-03-01T00-00-00' WHERE metric_id = '1'",
            "UPDATE metric_runs SET status = 'failed', error_code = 'INPUT_READ_ERROR', \
             error = 'no series <script>alert(1)</script>' WHERE metric_id = '2'",
        ];
        for sql in rows {
            sqlx::query(sql).execute(&self.database.pool).await.unwrap();
        }
        let version = "metrics/ratio.a_b/2026-03-01T00-00-00";
        let manifest = json!({
            "run_id": "11111111-good", "metric_code": "ratio.a_b", "version_ts": "2026-03-01T00-00-00",
            "created_at": "2026-03-01T00:00:00Z", "row_count": 400, "inputs": [],
            "outputs": { "data_prefix": format!("{version}/data"), "files": ["metrics.jsonl"], "sha256": {} },
        });
        self.aws.put(BUCKET, "metrics/ratio.a_b/current/manifest.json", manifest.to_string()).await;
        self.aws.put(BUCKET, &format!("{version}/data/metrics.jsonl"), wave().concat()).await;
    }
}

/// A year and a bit of days, some of them without a value.
fn wave() -> Vec<String> {
    let first: jiff::civil::Date = "2025-01-25".parse().unwrap();
    let line = |day: i32| {
        let date = first.saturating_add(jiff::Span::new().days(day));
        let value = match (150..160).contains(&day) {
            true => Value::Null,
            false => json!(100.0 + 10.0 * (f64::from(day) / 30.0).sin() + f64::from(day) / 20.0),
        };
        format!("{{\"obs_time\":\"{date}T00:00:00\",\"value\":{value}}}\n")
    };
    (0..400).map(line).collect()
}

fn command(database: &TestDatabase, aws: &LocalAws, topic: &str, port: u16) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_control"));
    command.arg("--serve").env_clear().envs(database.environment()).envs(aws.environment());
    command.env("SNS_TOPIC_ARN", topic).env("S3_BUCKET", BUCKET).env("PORT", port.to_string()).env("API_KEY", KEY);
    command.env("LOG_LEVEL", "warn").stdin(Stdio::null());
    command
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn whoever_has_no_key_serves_nothing_that_writes() {
    let database = TestDatabase::new().await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_control"));
    command.arg("--serve").env_clear().envs(database.environment()).current_dir(std::env::temp_dir());
    command.env("SNS_TOPIC_ARN", "arn:aws:sns:us-east-1:000000000000:requests.fifo").env("S3_BUCKET", BUCKET);
    let done = command.output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(!done.status.success() && said.contains("API_KEY is missing"), "{said}");
}
