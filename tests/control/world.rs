//! A control plane with a database of its own, a topic that remembers, and what tests say to it.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use metrics_engine::control::catalogue::{self, DatasetSpec, MetricSpec, SeriesSpec};
use metrics_engine::control::message::{self, Message};
use metrics_engine::control::outbox::{self, Outgoing, PublishError, RequestPublisher};
use metrics_engine::control::rejection::Error;
use metrics_engine::control::status::RunStatus;
use metrics_engine::control::update::{self, Recorded};
use metrics_engine::control::{feedback, release::Released};
use metrics_engine::expression;
use metrics_engine::ids::{DatasetId, MetricCode, SeriesCode};
use metrics_engine::keys::Prefixes;
use metrics_engine::request::Rules;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::postgres::TestDatabase;

pub const BUCKET: &str = "own";

pub fn rules() -> Rules {
    Rules {
        bucket: BUCKET.to_owned(),
        input_prefixes: Prefixes::parse("datasets/").unwrap(),
        output_prefixes: Prefixes::parse("metrics/").unwrap(),
        body_bytes: 1 << 20,
        expression: expression::Limits::default(),
    }
}

/// A topic that remembers what it took, and fails as it is told.
#[derive(Default)]
pub struct Topic {
    pub taken: Mutex<Vec<Outgoing>>,
    pub fault: Mutex<Option<PublishError>>,
}

#[async_trait]
impl RequestPublisher for Topic {
    async fn publish(&self, requests: &[Outgoing]) -> Vec<Result<(), PublishError>> {
        if let Some(fault) = &*self.fault.lock().unwrap() {
            return requests.iter().map(|_| Err(fault.clone())).collect();
        }
        self.taken.lock().unwrap().extend_from_slice(requests);
        requests.iter().map(|_| Ok(())).collect()
    }
}

pub struct World {
    pub database: TestDatabase,
    pub pool: PgPool,
    pub rules: Rules,
    pub topic: Arc<Topic>,
}

/// A run, as far as tests look at it.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    pub id: String,
    pub metric: String,
    pub status: RunStatus,
    /// The manifests that it was released with, by dataset.
    pub lineage: Vec<String>,
}

impl World {
    pub async fn new() -> Self {
        let database = TestDatabase::new().await;
        Self { pool: database.pool.clone(), database, rules: rules(), topic: Arc::default() }
    }

    /// Datasets named by letters, each with a series of its own: dataset `a` has series `A`.
    pub async fn with_datasets(names: &[&str]) -> Self {
        let world = Self::new().await;
        for name in names {
            world.dataset(name, &[&name.to_uppercase()]).await;
        }
        world
    }

    pub async fn dataset(&self, id: &str, series: &[&str]) {
        for code in series {
            let code = SeriesCode::parse(code).unwrap();
            catalogue::put_series(&self.pool, &code, &SeriesSpec::default()).await.unwrap();
        }
        let series = series.iter().map(|&code| code.to_owned()).collect();
        let spec = DatasetSpec { series, ..DatasetSpec::default() };
        catalogue::put_dataset(&self.pool, &DatasetId::parse(id).unwrap(), &spec).await.unwrap();
    }

    /// A metric over the sum of these series; of one series, its average.
    pub async fn metric(&self, code: &str, series: &[&str]) {
        self.put_metric(code, &sum(series)).await.unwrap();
    }

    pub async fn put_metric(&self, code: &str, spec: &MetricSpec) -> Result<catalogue::Written, Error> {
        catalogue::put_metric(&self.pool, &MetricCode::parse(code).unwrap(), spec, &self.rules).await
    }

    pub async fn update(&self, dataset: &str, version: &str) -> Released {
        match self.try_update(dataset, version).await.unwrap() {
            Recorded::New(released) => released,
            Recorded::Known => panic!("{dataset} {version} is known"),
        }
    }

    pub async fn try_update(&self, dataset: &str, version: &str) -> Result<Recorded, Error> {
        let Message::ProjectionUpdate(update) = self.decode(&update_body(dataset, version)) else {
            panic!("no update")
        };
        update::record(&self.pool, &update, &self.rules).await
    }

    pub fn decode(&self, body: &Value) -> Message {
        message::decode(&body.to_string(), &self.rules).unwrap()
    }

    /// Feedback of a worker.
    pub async fn say(&self, body: &Value) -> Result<RunStatus, Error> {
        match self.decode(body) {
            Message::Started(message) => feedback::started(&self.pool, &message).await,
            Message::Heartbeat(message) => feedback::heartbeat(&self.pool, &message).await,
            Message::Completed(message) => feedback::completed(&self.pool, &message).await,
            Message::ProjectionUpdate(_) => panic!("no feedback"),
        }
    }

    pub async fn relay(&self) -> outbox::Relayed {
        outbox::relay(&self.pool, &*self.topic).await.unwrap()
    }

    /// What the topic took, as JSON.
    pub fn requests(&self) -> Vec<Value> {
        self.topic.taken.lock().unwrap().iter().map(|one| serde_json::from_str(&one.body).unwrap()).collect()
    }

    /// All runs, in the order in which they were asked for.
    pub async fn runs(&self) -> Vec<Run> {
        let rows: Vec<(String, String, String, Vec<String>)> = sqlx::query_as(
            "SELECT r.id, r.metric_code, r.status, ARRAY(
                 SELECT l.dataset_id || ' ' || split_part(u.version_manifest_path, '/', 4)
                 FROM run_dataset_updates l JOIN dataset_updates u ON u.id = l.update_id WHERE l.run_id = r.id ORDER BY 1)
             FROM metric_runs r ORDER BY r.requested_at, r.metric_code",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap();
        let run = |(id, metric, status, lineage): (String, String, String, Vec<String>)| {
            let status = RunStatus::parse(&status).unwrap();
            Run { id, metric, status, lineage }
        };
        rows.into_iter().map(run).collect()
    }

    /// `metric status lineage` of all runs.
    pub async fn standing(&self) -> Vec<String> {
        let runs = self.runs().await;
        let line = |run: &Run| {
            format!("{} {} {}", run.metric, run.status.as_str(), run.lineage.join(", ")).trim_end().to_owned()
        };
        runs.iter().map(line).collect()
    }

    /// The id of the only run.
    pub async fn only_run(&self) -> String {
        let runs = self.runs().await;
        assert_eq!(runs.len(), 1, "{runs:?}");
        runs[0].id.clone()
    }

    /// Everything happened so many hours earlier.
    pub async fn hours_pass(&self, hours: i32) {
        for (table, columns) in [
            ("dataset_updates", &["created_at"][..]),
            ("metric_run_pending_datasets", &["received_at"]),
            ("event_log", &["processed_at"]),
            (
                "metric_runs",
                &[
                    "requested_at",
                    "queued_at",
                    "dispatched_at",
                    "started_at",
                    "last_heartbeat_at",
                    "heard_at",
                    "finished_at",
                ],
            ),
        ] {
            for column in columns {
                let earlier = format!("UPDATE {table} SET {column} = {column} - {hours} * interval '1 hour'");
                sqlx::query(sqlx::AssertSqlSafe(earlier)).execute(&self.pool).await.unwrap();
            }
        }
    }

    pub async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(&self.pool).await.unwrap()
    }
}

pub fn sum(series: &[&str]) -> MetricSpec {
    let operands: Vec<Value> = series.iter().map(|code| json!({ "series_code": code })).collect();
    match operands.as_slice() {
        [one] => spec("window_op", json!({ "op": "sma", "series": one, "window": 1 })),
        _ => spec("composite", json!({ "op": "sum", "operands": operands })),
    }
}

pub fn spec(expression_type: &str, expression_json: Value) -> MetricSpec {
    let expression_type = expression_type.to_owned();
    let (frequency, unit, description, required_days) = (None, None, None, None);
    MetricSpec { expression_type, expression_json, frequency, unit, description, required_days }
}

pub fn update_body(dataset: &str, version: &str) -> Value {
    json!({ "event": "projection_update", "dataset_id": dataset, "bucket": BUCKET,
        "version_manifest_path": format!("datasets/{dataset}/versions/{version}/manifest.json"),
        "projections_path": format!("datasets/{dataset}/projections/") })
}

pub fn started(run_id: &str, metric: &str) -> Value {
    json!({ "schema": "metrics.run.v1", "type": "metric_run_started", "runId": run_id, "metricCode": metric,
        "startedAt": "2025-01-15T10:30:10Z" })
}

pub fn heartbeat(run_id: &str, metric: &str, progress: f64) -> Value {
    json!({ "type": "metric_run_heartbeat", "runId": run_id, "metricCode": metric, "progress": progress })
}

pub fn success(run_id: &str, metric: &str, row_count: u64) -> Value {
    json!({ "type": "metric_run_completed", "runId": run_id, "metricCode": metric, "status": "SUCCESS",
        "versionTs": "2025-01-15T10-30-00", "outputManifest": format!("metrics/{metric}/2025-01-15T10-30-00/manifest.json"),
        "rowCount": row_count })
}

pub fn failure(run_id: &str, metric: &str) -> Value {
    json!({ "type": "metric_run_completed", "runId": run_id, "metricCode": metric, "status": "FAILURE",
        "error": "INPUT_READ_ERROR: no series", "errorCode": "INPUT_READ_ERROR", "errorMessage": "no series" })
}
