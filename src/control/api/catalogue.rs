//! What is registered: metrics, series and datasets, and how fresh they are.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::Api;
use super::extract::{Body, Id, Parameters};
use super::page::{Page, PageParameters};
use super::problem::Problem;
use crate::control::catalogue::{self, DatasetSpec, MetricSpec, SeriesSpec, Written};
use crate::control::instant::Instant;
use crate::control::rejection::Rejection;
use crate::control::status::RunStatus;
use crate::ids::{DatasetId, MetricCode, SeriesCode};

/// A metric.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct MetricView {
    /// Its code.
    pub code: String,
    /// `series_math`, `window_op` or `composite`
    pub expression_type: String,
    /// What is computed.
    pub expression_json: Value,
    /// How often it is expected to change.
    pub frequency: Option<String>,
    /// What its values are counted in.
    pub unit: Option<String>,
    /// What it says.
    pub description: Option<String>,
    /// How old, in days of 24 hours, an update of a dataset that it needs may be.
    pub required_days: i32,
    /// When it was registered.
    pub created_at: Instant,
    /// When it was registered for the last time.
    pub updated_at: Instant,
    /// The series that it is computed from, in the order of their first mention.
    pub series: Vec<String>,
    /// The datasets that these belong to.
    pub datasets: Vec<String>,
    /// The newest run that succeeded: how fresh the metric is.
    pub latest_version: Option<VersionView>,
    /// The newest run, whatever became of it.
    pub latest_run: Option<LatestRun>,
}

/// The version that a run made.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct VersionView {
    /// The version.
    pub version_ts: Option<String>,
    /// The run.
    pub run_id: String,
    /// When the run came to its end.
    pub finished_at: Option<Instant>,
    /// Rows.
    pub row_count: Option<i64>,
}

/// A run, in short.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct LatestRun {
    /// The run.
    pub run_id: String,
    /// Where it stands.
    pub status: RunStatus,
    /// When it was asked for.
    pub requested_at: Instant,
    /// The code of why it failed.
    pub error_code: Option<String>,
}

/// A series.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct SeriesView {
    /// Its code.
    pub code: String,
    /// Its name, for people.
    pub name: Option<String>,
    /// What it says.
    pub description: Option<String>,
    /// What its values are counted in.
    pub unit: Option<String>,
    /// How often it changes.
    pub frequency: Option<String>,
    /// The dataset that it belongs to.
    pub dataset_id: Option<String>,
}

/// A dataset.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct DatasetView {
    /// Its id.
    pub id: String,
    /// Its name, for people.
    pub name: Option<String>,
    /// What it says.
    pub description: Option<String>,
    /// The bucket that it lies in.
    pub bucket: Option<String>,
    /// The codes of its series.
    pub series: Vec<String>,
    /// The key of the newest version's manifest: how fresh the dataset is.
    pub latest_manifest_path: Option<String>,
    /// When that version was heard of.
    pub latest_update_at: Option<Instant>,
}

/// A metric as it is stored, with its newest runs.
struct MetricRow {
    code: String,
    expression_type: String,
    expression_json: Value,
    frequency: Option<String>,
    unit: Option<String>,
    description: Option<String>,
    required_days: i32,
    created_at: Instant,
    updated_at: Instant,
    series: Vec<String>,
    datasets: Vec<String>,
    version_run_id: Option<String>,
    version_ts: Option<String>,
    finished_at: Option<Instant>,
    row_count: Option<i64>,
    run_id: Option<String>,
    status: Option<String>,
    requested_at: Option<Instant>,
    error_code: Option<String>,
}

impl MetricRow {
    fn view(self) -> Result<MetricView, sqlx::Error> {
        let (version_ts, finished_at, row_count) = (self.version_ts, self.finished_at, self.row_count);
        let latest_version =
            self.version_run_id.map(|run_id| VersionView { version_ts, run_id, finished_at, row_count });
        let status = self.status.map(RunStatus::try_from).transpose();
        let status = status.map_err(|error| sqlx::Error::Decode(error.into()))?;
        let latest_run = match (self.run_id, status, self.requested_at) {
            (Some(run_id), Some(status), Some(requested_at)) => {
                Some(LatestRun { run_id, status, requested_at, error_code: self.error_code })
            }
            _ => None,
        };
        Ok(MetricView {
            code: self.code,
            expression_type: self.expression_type,
            expression_json: self.expression_json,
            frequency: self.frequency,
            unit: self.unit,
            description: self.description,
            required_days: self.required_days,
            created_at: self.created_at,
            updated_at: self.updated_at,
            series: self.series,
            datasets: self.datasets,
            latest_version,
            latest_run,
        })
    }
}

/// The metric of that code where there is a code, otherwise `limit` metrics behind `after`.
async fn metrics(api: &Api, code: Option<&str>, after: Option<&str>, limit: i64) -> Result<Vec<MetricView>, Problem> {
    let rows = sqlx::query_as!(
        MetricRow,
        r#"SELECT m.code, m.expression_type, m.expression_json, m.frequency, m.unit, m.description, m.required_days,
               m.created_at AS "created_at: Instant", m.updated_at AS "updated_at: Instant",
               ARRAY(SELECT d.series_code FROM metric_dependencies d WHERE d.metric_id = m.id ORDER BY d.position)
                   AS "series!",
               ARRAY(SELECT DISTINCT s.dataset_id FROM metric_dependencies d
                     JOIN dataset_series s ON s.series_code = d.series_code WHERE d.metric_id = m.id ORDER BY 1)
                   AS "datasets!",
               good.id AS "version_run_id?", good.version_ts AS "version_ts?",
               good.finished_at AS "finished_at?: Instant", good.row_count AS "row_count?",
               newest.id AS "run_id?", newest.status AS "status?",
               newest.requested_at AS "requested_at?: Instant", newest.error_code AS "error_code?"
           FROM (SELECT * FROM metrics
                 WHERE ($1::text IS NULL OR code = $1) AND ($2::text IS NULL OR code > $2)
                 ORDER BY code LIMIT $3) m
           LEFT JOIN LATERAL (SELECT * FROM metric_runs r WHERE r.metric_code = m.code AND r.status = 'succeeded'
                              ORDER BY r.requested_at DESC, r.id DESC LIMIT 1) good ON true
           LEFT JOIN LATERAL (SELECT * FROM metric_runs r WHERE r.metric_code = m.code
                              ORDER BY r.requested_at DESC, r.id DESC LIMIT 1) newest ON true
           ORDER BY m.code"#,
        code,
        after,
        limit,
    );
    let rows = rows.fetch_all(&api.pool).await?;
    Ok(rows.into_iter().map(MetricRow::view).collect::<Result<_, _>>()?)
}

/// Metrics, ascending by code.
pub(super) async fn list_metrics(
    State(api): State<Api>,
    Parameters(page): Parameters<PageParameters>,
) -> Result<Json<Page<MetricView>>, Problem> {
    let limit = page.limit()?;
    let after: Option<MetricCode> = page.after()?;
    let rows = metrics(&api, None, after.as_ref().map(MetricCode::as_str), limit + 1).await?;
    Ok(Json(Page::of(rows, limit, |metric| metric.code.clone())))
}

/// One metric.
pub(super) async fn metric(State(api): State<Api>, Id(code): Id<MetricCode>) -> Result<Json<MetricView>, Problem> {
    one_metric(&api, code).await.map(Json)
}

async fn one_metric(api: &Api, code: MetricCode) -> Result<MetricView, Problem> {
    let found = metrics(api, Some(code.as_str()), None, 1).await?.pop();
    found.ok_or_else(|| Rejection::UnknownMetric { metric_code: code }.into())
}

/// Creates or replaces a metric.
pub(super) async fn put_metric(
    State(api): State<Api>,
    Id(code): Id<MetricCode>,
    Body(spec): Body<MetricSpec>,
) -> Result<(StatusCode, Json<MetricView>), Problem> {
    let written = catalogue::put_metric(&api.pool, &code, &spec, &api.rules).await?;
    Ok((status(written), Json(one_metric(&api, code).await?)))
}

/// Creates or replaces a series.
pub(super) async fn put_series(
    State(api): State<Api>,
    Id(code): Id<SeriesCode>,
    Body(spec): Body<SeriesSpec>,
) -> Result<(StatusCode, Json<SeriesView>), Problem> {
    let written = catalogue::put_series(&api.pool, &code, &spec).await?;
    let row = sqlx::query_as!(
        SeriesView,
        r#"SELECT s.code, s.name, s.description, s.unit, s.frequency, d.dataset_id AS "dataset_id?"
           FROM series s LEFT JOIN dataset_series d ON d.series_code = s.code WHERE s.code = $1"#,
        code.as_str()
    );
    Ok((status(written), Json(row.fetch_one(&api.pool).await?)))
}

/// The dataset of that id where there is one, otherwise `limit` datasets behind `after`.
async fn datasets(api: &Api, id: Option<&str>, after: Option<&str>, limit: i64) -> Result<Vec<DatasetView>, Problem> {
    let rows = sqlx::query_as!(
        DatasetView,
        r#"SELECT d.id, d.name, d.description, d.bucket,
               ARRAY(SELECT s.series_code FROM dataset_series s WHERE s.dataset_id = d.id ORDER BY 1) AS "series!",
               u.version_manifest_path AS "latest_manifest_path?", u.created_at AS "latest_update_at?: Instant"
           FROM (SELECT * FROM datasets WHERE ($1::text IS NULL OR id = $1) AND ($2::text IS NULL OR id > $2)
                 ORDER BY id LIMIT $3) d
           LEFT JOIN LATERAL (SELECT * FROM dataset_updates u WHERE u.dataset_id = d.id
                              ORDER BY u.sequence DESC LIMIT 1) u ON true
           ORDER BY d.id"#,
        id,
        after,
        limit,
    );
    Ok(rows.fetch_all(&api.pool).await?)
}

/// Datasets, ascending by id.
pub(super) async fn list_datasets(
    State(api): State<Api>,
    Parameters(page): Parameters<PageParameters>,
) -> Result<Json<Page<DatasetView>>, Problem> {
    let limit = page.limit()?;
    let after: Option<DatasetId> = page.after()?;
    let rows = datasets(&api, None, after.as_ref().map(DatasetId::as_str), limit + 1).await?;
    Ok(Json(Page::of(rows, limit, |dataset| dataset.id.clone())))
}

/// One dataset.
pub(super) async fn dataset(State(api): State<Api>, Id(id): Id<DatasetId>) -> Result<Json<DatasetView>, Problem> {
    one_dataset(&api, id).await.map(Json)
}

async fn one_dataset(api: &Api, id: DatasetId) -> Result<DatasetView, Problem> {
    let found = datasets(api, Some(id.as_str()), None, 1).await?.pop();
    found.ok_or_else(|| Rejection::UnknownDataset { dataset_id: id }.into())
}

/// Creates or replaces a dataset with its series.
pub(super) async fn put_dataset(
    State(api): State<Api>,
    Id(id): Id<DatasetId>,
    Body(spec): Body<DatasetSpec>,
) -> Result<(StatusCode, Json<DatasetView>), Problem> {
    let written = catalogue::put_dataset(&api.pool, &id, &spec).await?;
    Ok((status(written), Json(one_dataset(&api, id).await?)))
}

fn status(written: Written) -> StatusCode {
    match written {
        Written::Created => StatusCode::CREATED,
        Written::Replaced => StatusCode::OK,
    }
}
