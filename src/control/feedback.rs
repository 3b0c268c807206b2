//! What workers say of their runs: started, heartbeat, completed; in any order, and more than once.
//!
//! Each is one statement. What a message may change follows from where the run stands, and is decided on the newest
//! version of its row; what comes too late changes nothing.

use sqlx::PgPool;

use super::message::{Completed, Ending, Heartbeat, Message, Started};
use super::rejection::{Error, Rejection};
use super::status::RunStatus;
use crate::ids::{MetricCode, RunId};

/// A worker began.
///
/// # Errors
/// [`Rejection::UnknownRunOfMetric`], or when the database fails.
pub async fn started(pool: &PgPool, message: &Started) -> Result<RunStatus, Error> {
    let Started { run_id, metric_code, started_at } = message;
    let event = Message::Started(message.clone());
    let status = sqlx::query_scalar!(
        r#"WITH run AS (
               UPDATE metric_runs SET
                   status = CASE WHEN status = 'dispatched' THEN 'running' ELSE status END,
                   started_at = COALESCE(started_at, $3, clock_timestamp()),
                   heard_at = clock_timestamp()
               WHERE id = $1 AND metric_code = $2 AND status NOT IN ('pending_dependencies', 'queued')
               RETURNING status),
           logged AS (
               INSERT INTO event_log (event_key, event_type, payload) SELECT $4, $5, $6 FROM run
               ON CONFLICT DO NOTHING)
           SELECT status FROM run"#,
        run_id.as_str(),
        metric_code.as_str(),
        *started_at as _,
        event.event_key(),
        event.type_name(),
        event.payload(),
    );
    match status.fetch_optional(pool).await? {
        Some(status) => known(Some(status), run_id, metric_code),
        None => known(standing(pool, run_id, metric_code).await?, run_id, metric_code),
    }
}

/// A worker still works. Heartbeats are many, so they are not in the log of events.
///
/// # Errors
/// [`Rejection::UnknownRunOfMetric`], or when the database fails.
pub async fn heartbeat(pool: &PgPool, message: &Heartbeat) -> Result<RunStatus, Error> {
    let Heartbeat { run_id, metric_code, progress, ts } = message;
    let status = sqlx::query_scalar!(
        r#"UPDATE metric_runs SET
               status = CASE WHEN status = 'dispatched' THEN 'running' ELSE status END,
               started_at = COALESCE(started_at, LEAST($4, clock_timestamp())),
               last_heartbeat_at = GREATEST(last_heartbeat_at, LEAST($4, clock_timestamp())),
               heard_at = clock_timestamp(),
               -- Of two heartbeats the later one counts, whichever comes first.
               progress = CASE WHEN last_heartbeat_at > $4 THEN progress ELSE COALESCE($3, progress) END
           WHERE id = $1 AND metric_code = $2 AND status IN ('dispatched', 'running')
           RETURNING status"#,
        run_id.as_str(),
        metric_code.as_str(),
        *progress,
        *ts as _,
    );
    match status.fetch_optional(pool).await? {
        Some(status) => known(Some(status), run_id, metric_code),
        None => known(standing(pool, run_id, metric_code).await?, run_id, metric_code),
    }
}

/// A run ended.
///
/// # Errors
/// [`Rejection::UnknownRunOfMetric`], or when the database fails.
pub async fn completed(pool: &PgPool, message: &Completed) -> Result<RunStatus, Error> {
    let Completed { run_id, metric_code, ending } = message;
    let event = Message::Completed(message.clone());
    let status = match ending {
        Ending::Success { version_ts, output_manifest, row_count } => {
            let status = sqlx::query_scalar!(
                r#"WITH run AS (
                       UPDATE metric_runs SET
                           status = CASE WHEN status = 'canceled' THEN status ELSE 'succeeded' END,
                           finished_at = CASE WHEN status IN ('succeeded', 'canceled') THEN finished_at
                                              ELSE clock_timestamp() END,
                           progress = CASE WHEN status = 'canceled' THEN progress ELSE 1 END,
                           error = CASE WHEN status = 'canceled' THEN error END,
                           error_code = CASE WHEN status = 'canceled' THEN error_code END,
                           version_ts = COALESCE(version_ts, $3),
                           manifest_path = COALESCE(manifest_path, $4),
                           row_count = COALESCE(row_count, $5)
                       WHERE id = $1 AND metric_code = $2 AND status NOT IN ('pending_dependencies', 'queued')
                       RETURNING status),
                   logged AS (
                       INSERT INTO event_log (event_key, event_type, payload) SELECT $6, $7, $8 FROM run
                       ON CONFLICT DO NOTHING)
                   SELECT status FROM run"#,
                run_id.as_str(),
                metric_code.as_str(),
                version_ts.as_deref(),
                output_manifest.as_deref(),
                *row_count,
                event.event_key(),
                event.type_name(),
                event.payload(),
            );
            status.fetch_optional(pool).await?
        }
        Ending::Failure { error, error_code } => {
            let status = sqlx::query_scalar!(
                r#"WITH run AS (
                       UPDATE metric_runs SET
                           status = CASE WHEN status IN ('dispatched', 'running', 'timed_out') THEN 'failed'
                                         ELSE status END,
                           finished_at = CASE WHEN status IN ('succeeded', 'canceled') THEN finished_at
                                              ELSE clock_timestamp() END,
                           error = CASE WHEN status IN ('succeeded', 'canceled') THEN error ELSE $3 END,
                           error_code = CASE WHEN status IN ('succeeded', 'canceled') THEN error_code ELSE $4 END
                       WHERE id = $1 AND metric_code = $2 AND status NOT IN ('pending_dependencies', 'queued')
                       RETURNING status),
                   logged AS (
                       INSERT INTO event_log (event_key, event_type, payload) SELECT $5, $6, $7 FROM run
                       ON CONFLICT DO NOTHING)
                   SELECT status FROM run"#,
                run_id.as_str(),
                metric_code.as_str(),
                error.as_deref(),
                error_code.as_deref(),
                event.event_key(),
                event.type_name(),
                event.payload(),
            );
            status.fetch_optional(pool).await?
        }
    };
    match status {
        Some(status) => known(Some(status), run_id, metric_code),
        None => known(standing(pool, run_id, metric_code).await?, run_id, metric_code),
    }
}

/// Where a run stands that a message did not change.
async fn standing(pool: &PgPool, run_id: &RunId, metric_code: &MetricCode) -> Result<Option<String>, sqlx::Error> {
    let (run_id, metric_code) = (run_id.as_str(), metric_code.as_str());
    let status =
        sqlx::query_scalar!("SELECT status FROM metric_runs WHERE id = $1 AND metric_code = $2", run_id, metric_code);
    status.fetch_optional(pool).await
}

/// The status of a run that exists.
fn known(status: Option<String>, run_id: &RunId, metric_code: &MetricCode) -> Result<RunStatus, Error> {
    let unknown = || Rejection::UnknownRunOfMetric { run_id: run_id.clone(), metric_code: metric_code.clone() };
    let status = RunStatus::try_from(status.ok_or_else(unknown)?);
    status.map_err(|error| sqlx::Error::Decode(error.into()).into())
}
