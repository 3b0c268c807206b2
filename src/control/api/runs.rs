//! Runs: which there are, how they stand; ask for one, cancel one.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{HeaderName, LOCATION};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Api;
use super::extract::{Id, Parameters};
use super::page::{Page, PageParameters};
use super::problem::Problem;
use crate::control::instant::Instant;
use crate::control::rejection::Rejection;
use crate::control::runs;
use crate::control::status::RunStatus;
use crate::ids::{MetricCode, RunId};

/// A run.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct RunView {
    /// The run.
    pub run_id: String,
    /// Its metric.
    pub metric_code: String,
    /// Where it stands.
    pub status: RunStatus,
    /// When it was asked for.
    pub requested_at: Instant,
    /// When it had everything that it waited for.
    pub queued_at: Option<Instant>,
    /// When its request was published.
    pub dispatched_at: Option<Instant>,
    /// When a worker began to work on it.
    pub started_at: Option<Instant>,
    /// When it came to its end.
    pub finished_at: Option<Instant>,
    /// When something was last heard of it.
    pub last_heartbeat_at: Option<Instant>,
    /// How far it is, from 0 to 1.
    pub progress: Option<f64>,
    /// Why it failed.
    pub error: Option<String>,
    /// The code of why it failed.
    pub error_code: Option<String>,
    /// The version that it made.
    pub version_ts: Option<String>,
    /// The key of that version's manifest.
    pub manifest_path: Option<String>,
    /// Rows of that version.
    pub row_count: Option<i64>,
}

/// An update of a dataset that a run was released with.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct UpdateView {
    /// The dataset.
    pub dataset_id: String,
    /// The key of the version's manifest.
    pub version_manifest_path: String,
    /// When the update was recorded.
    pub created_at: Instant,
}

/// A run, with what it was or will be released with.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct RunDetails {
    /// The run.
    #[serde(flatten)]
    pub run: RunView,
    /// The updates that it was released with.
    pub updates: Vec<UpdateView>,
    /// The datasets that it still waits for.
    pub waits_for: Vec<String>,
}

/// A run that was asked for.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Requested {
    /// The run.
    pub run_id: RunId,
}

/// Which runs are wanted.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct RunParameters {
    /// Only those that stand so.
    pub status: Option<RunStatus>,
    /// Only those of this metric.
    pub metric: Option<MetricCode>,
    /// Rows of the page; 50 where nothing is said.
    #[schemars(with = "Option<u8>", range(min = 1, max = 200))]
    pub limit: Option<String>,
    /// `next_cursor` of the page before.
    #[schemars(extend("pattern" = "^([0-9a-f]{2})+$"))]
    pub cursor: Option<String>,
}

/// Runs, newest request first.
pub(super) async fn list(
    State(api): State<Api>,
    Parameters(wanted): Parameters<RunParameters>,
) -> Result<Json<Page<RunView>>, Problem> {
    let page = PageParameters { limit: wanted.limit, cursor: wanted.cursor };
    page_of(&api, wanted.status, wanted.metric.as_ref(), &page).await
}

/// Runs of a metric, newest request first.
pub(super) async fn of_metric(
    State(api): State<Api>,
    Id(code): Id<MetricCode>,
    Parameters(page): Parameters<PageParameters>,
) -> Result<Json<Page<RunView>>, Problem> {
    let exists = sqlx::query_scalar!(r#"SELECT true AS "is_there!" FROM metrics WHERE code = $1"#, code.as_str());
    if exists.fetch_optional(&api.pool).await?.is_none() {
        return Err(Rejection::UnknownMetric { metric_code: code }.into());
    }
    page_of(&api, None, Some(&code), &page).await
}

async fn page_of(
    api: &Api,
    status: Option<RunStatus>,
    metric: Option<&MetricCode>,
    page: &PageParameters,
) -> Result<Json<Page<RunView>>, Problem> {
    let limit = page.limit()?;
    let after: Option<(Instant, RunId)> = page.after()?;
    let (after_time, after_id) = after.map(|(time, id)| (time, id.to_string())).unzip();
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT id AS "run_id!", metric_code, status, requested_at AS "requested_at: Instant",
               queued_at AS "queued_at: Instant", dispatched_at AS "dispatched_at: Instant",
               started_at AS "started_at: Instant", finished_at AS "finished_at: Instant",
               last_heartbeat_at AS "last_heartbeat_at: Instant", progress, error, error_code, version_ts,
               manifest_path, row_count
           FROM metric_runs
           WHERE ($1::text IS NULL OR status = $1) AND ($2::text IS NULL OR metric_code = $2)
               AND ($3::timestamptz IS NULL OR (requested_at, id) < ($3, $4))
           ORDER BY requested_at DESC, id DESC LIMIT $5"#,
        status.map(RunStatus::as_str),
        metric.map(MetricCode::as_str),
        after_time as Option<Instant>,
        after_id,
        limit + 1,
    );
    let rows = rows.fetch_all(&api.pool).await?;
    let views = rows.into_iter().map(Row::view).collect::<Result<Vec<_>, _>>()?;
    Ok(Json(Page::of(views, limit, |run| (run.requested_at, run.run_id.clone()))))
}

/// A run as it is stored.
struct Row {
    run_id: String,
    metric_code: String,
    status: String,
    requested_at: Instant,
    queued_at: Option<Instant>,
    dispatched_at: Option<Instant>,
    started_at: Option<Instant>,
    finished_at: Option<Instant>,
    last_heartbeat_at: Option<Instant>,
    progress: Option<f64>,
    error: Option<String>,
    error_code: Option<String>,
    version_ts: Option<String>,
    manifest_path: Option<String>,
    row_count: Option<i64>,
}

impl Row {
    fn view(self) -> Result<RunView, sqlx::Error> {
        let status = RunStatus::try_from(self.status).map_err(|error| sqlx::Error::Decode(error.into()))?;
        Ok(RunView {
            run_id: self.run_id,
            metric_code: self.metric_code,
            status,
            requested_at: self.requested_at,
            queued_at: self.queued_at,
            dispatched_at: self.dispatched_at,
            started_at: self.started_at,
            finished_at: self.finished_at,
            last_heartbeat_at: self.last_heartbeat_at,
            progress: self.progress,
            error: self.error,
            error_code: self.error_code,
            version_ts: self.version_ts,
            manifest_path: self.manifest_path,
            row_count: self.row_count,
        })
    }
}

/// One run.
pub(super) async fn one(State(api): State<Api>, Id(run_id): Id<RunId>) -> Result<Json<RunDetails>, Problem> {
    details(&api, run_id).await.map(Json)
}

async fn details(api: &Api, run_id: RunId) -> Result<RunDetails, Problem> {
    let row = sqlx::query_as!(
        Row,
        r#"SELECT id AS "run_id!", metric_code, status, requested_at AS "requested_at: Instant",
               queued_at AS "queued_at: Instant", dispatched_at AS "dispatched_at: Instant",
               started_at AS "started_at: Instant", finished_at AS "finished_at: Instant",
               last_heartbeat_at AS "last_heartbeat_at: Instant", progress, error, error_code, version_ts,
               manifest_path, row_count
           FROM metric_runs WHERE id = $1"#,
        run_id.as_str()
    );
    let row = row.fetch_optional(&api.pool).await?;
    let run = row.ok_or_else(|| Rejection::UnknownRun { run_id: run_id.clone() })?.view()?;
    let updates = sqlx::query_as!(
        UpdateView,
        r#"SELECT u.dataset_id, u.version_manifest_path, u.created_at AS "created_at: Instant"
           FROM run_dataset_updates r JOIN dataset_updates u ON u.id = r.update_id
           WHERE r.run_id = $1 ORDER BY u.dataset_id"#,
        run_id.as_str()
    );
    let waits_for = sqlx::query_scalar!(
        "SELECT p.dataset_id FROM metric_run_pending_datasets p JOIN metric_runs r ON r.id = p.run_id
         WHERE p.run_id = $1 AND NOT p.received AND r.status = 'pending_dependencies' ORDER BY 1",
        run_id.as_str()
    );
    Ok(RunDetails {
        run,
        updates: updates.fetch_all(&api.pool).await?,
        waits_for: waits_for.fetch_all(&api.pool).await?,
    })
}

/// An answer that says where the run is.
type Accepted = (StatusCode, [(HeaderName, String); 1], Json<Requested>);

/// Asks for a run now. A body is not looked at.
pub(super) async fn run_now(State(api): State<Api>, Id(code): Id<MetricCode>) -> Result<Accepted, Problem> {
    let run_id = runs::run_now(&api.pool, &code, &api.rules).await?;
    Ok((StatusCode::ACCEPTED, [(LOCATION, format!("/runs/{run_id}"))], Json(Requested { run_id })))
}

/// Cancels a run.
pub(super) async fn cancel(State(api): State<Api>, Id(run_id): Id<RunId>) -> Result<Json<RunDetails>, Problem> {
    runs::cancel(&api.pool, &run_id).await?;
    details(&api, run_id).await.map(Json)
}
