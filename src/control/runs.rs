//! What people do with runs: ask for one now, cancel one.

use sqlx::{PgConnection, PgPool};

use super::database;
use super::rejection::{Error, Rejection};
use super::release::{Mode, release};
use super::status::RunStatus;
use crate::ids::{MetricCode, RunId};
use crate::request::Rules;

/// Releases a run of a metric on the newest updates of its datasets, however old they are. A run of the metric that waits
/// goes on waiting.
///
/// # Errors
/// [`Rejection::UnknownMetric`], [`Rejection::NoUpdate`], [`Rejection::SeriesWithoutDataset`], or when the database
/// fails.
pub async fn run_now(pool: &PgPool, metric_code: &MetricCode, rules: &Rules) -> Result<RunId, Error> {
    let mut transaction = pool.begin().await?;
    let outcome = run_within(&mut transaction, metric_code, rules).await;
    database::end(transaction, outcome).await
}

async fn run_within(connection: &mut PgConnection, metric_code: &MetricCode, rules: &Rules) -> Result<RunId, Error> {
    let metric = sqlx::query_scalar!("SELECT id FROM metrics WHERE code = $1 FOR NO KEY UPDATE", metric_code.as_str());
    let metric_id = metric.fetch_optional(&mut *connection).await?;
    let metric_id = metric_id.ok_or_else(|| Rejection::UnknownMetric { metric_code: metric_code.clone() })?;
    let released = release(connection, &[metric_id], Mode::Now, rules).await?;
    let metric_code = metric_code.clone();
    if !released.unresolved.is_empty() {
        return Err(Rejection::SeriesWithoutDataset { metric_code }.into());
    }
    let Some(run_id) = released.a_run_id else {
        return Err(Rejection::NoUpdate { metric_code, dataset_ids: released.missing }.into());
    };
    RunId::parse(&run_id).map_err(|error| sqlx::Error::Decode(error.into()).into())
}

/// Cancels a run that is not over. What its worker may still bring is kept, and the run stays canceled; a request that
/// was not published yet never will be. Canceling a canceled run changes nothing.
///
/// # Errors
/// [`Rejection::UnknownRun`], [`Rejection::RunIsOver`], or when the database fails.
pub async fn cancel(pool: &PgPool, run_id: &RunId) -> Result<(), Error> {
    let mut transaction = pool.begin().await?;
    let outcome = cancel_within(&mut transaction, run_id).await;
    database::end(transaction, outcome).await
}

async fn cancel_within(connection: &mut PgConnection, run_id: &RunId) -> Result<(), Error> {
    // The metric first: whoever releases a waiting run holds it, and must not find the run gone.
    let metric = sqlx::query_scalar!(
        "SELECT m.id FROM metrics m JOIN metric_runs r ON r.metric_id = m.id WHERE r.id = $1 FOR NO KEY UPDATE OF m",
        run_id.as_str()
    );
    if metric.fetch_optional(&mut *connection).await?.is_none() {
        return Err(Rejection::UnknownRun { run_id: run_id.clone() }.into());
    }
    let canceled = sqlx::query!(
        "UPDATE metric_runs SET status = 'canceled', finished_at = clock_timestamp()
         WHERE id = $1 AND status IN ('pending_dependencies', 'queued', 'dispatched', 'running')",
        run_id.as_str()
    );
    if canceled.execute(&mut *connection).await?.rows_affected() == 0 {
        let status = sqlx::query_scalar!("SELECT status FROM metric_runs WHERE id = $1", run_id.as_str());
        let status = status.fetch_one(&mut *connection).await?;
        if status != RunStatus::Canceled.as_str() {
            return Err(Rejection::RunIsOver { run_id: run_id.clone(), status }.into());
        }
    }
    Ok(())
}
