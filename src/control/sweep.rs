//! The sweeper: runs of which nothing is heard are timed out, waiting runs are looked at once more, old events forgotten.
//!
//! Several sweepers may work at once: each takes what no other holds.

use sqlx::PgPool;

use super::config::Patience;
use super::release::{Mode, release};
use crate::request::Rules;

/// Rows that one statement takes.
const AT_ONCE: i64 = 1_000;

/// What a sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Runs whose worker says nothing.
    pub silent: u64,
    /// Waiting runs that were missing nothing.
    pub released: u64,
    /// Waiting runs whose updates have all become too old.
    pub expired: u64,
    /// Events that were forgotten.
    pub forgotten: u64,
}

/// Sweeps once.
///
/// # Errors
/// When the database fails; what was swept until then stays swept.
pub async fn sweep(
    pool: &PgPool,
    patience: &Patience,
    event_log_days: u32,
    rules: &Rules,
) -> Result<Swept, sqlx::Error> {
    let (released, expired) = waiting(pool, rules).await?;
    let swept = Swept {
        silent: silent(pool, patience).await?,
        released,
        expired,
        forgotten: forget(pool, event_log_days).await?,
    };
    if swept != Swept::default() {
        let Swept { silent, released, expired, forgotten } = swept;
        tracing::info!(silent, released, expired, forgotten, "swept");
    }
    Ok(swept)
}

/// A run that was published and gave no sign, or gave its last one too long ago.
async fn silent(pool: &PgPool, patience: &Patience) -> Result<u64, sqlx::Error> {
    let mut total = 0;
    loop {
        let timed_out = sqlx::query!(
            "UPDATE metric_runs SET status = 'timed_out', finished_at = clock_timestamp(), error_code = 'TIMED_OUT',
                 error = CASE status WHEN 'dispatched' THEN 'no worker began to work on the run'
                                     ELSE 'nothing was heard of the run''s worker' END
             WHERE id IN (
                 SELECT r.id FROM metric_runs r
                 WHERE (r.status = 'dispatched' AND r.dispatched_at < clock_timestamp() - $1 * interval '1 second'
                        -- What waits to be published is nobody's silence.
                        AND NOT EXISTS (SELECT FROM outbox o WHERE o.run_id = r.id)
                     OR r.status = 'running' AND COALESCE(r.heard_at, r.dispatched_at)
                        < clock_timestamp() - $2 * interval '1 second')
                 ORDER BY r.id LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED)",
            patience.start.as_secs_f64(),
            patience.heartbeat.as_secs_f64(),
            AT_ONCE
        );
        let count = timed_out.execute(pool).await?.rows_affected();
        total += count;
        if count < AT_ONCE.unsigned_abs() {
            return Ok(total);
        }
    }
}

/// Waiting runs, page by page: released where nothing is missing, timed out where nothing is there any more.
async fn waiting(pool: &PgPool, rules: &Rules) -> Result<(u64, u64), sqlx::Error> {
    let (mut released, mut expired, mut after) = (0, 0, String::new());
    loop {
        let mut transaction = pool.begin().await?;
        let metric_ids = sqlx::query_scalar!(
            "SELECT m.id FROM metrics m
             WHERE m.id > $1 AND EXISTS (
                 SELECT FROM metric_runs r WHERE r.metric_id = m.id AND r.status = 'pending_dependencies')
             ORDER BY m.id LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED",
            after,
            AT_ONCE
        );
        let metric_ids = metric_ids.fetch_all(&mut *transaction).await?;
        let Some(last) = metric_ids.last() else { return Ok((released, expired)) };
        after.clone_from(last);
        released += release(&mut transaction, &metric_ids, Mode::Waiting, rules).await?.released;
        let timed_out = sqlx::query!(
            "UPDATE metric_runs r SET status = 'timed_out', finished_at = clock_timestamp(), error_code = 'TIMED_OUT',
                 error = 'every update that the run had was too old before the others came'
             WHERE r.metric_id = ANY ($1) AND r.status = 'pending_dependencies' AND NOT EXISTS (
                 SELECT FROM metric_run_pending_datasets p WHERE p.run_id = r.id AND p.received
                     AND p.received_at >= clock_timestamp() - p.required_days * interval '24 hours')",
            &metric_ids
        );
        expired += timed_out.execute(&mut *transaction).await?.rows_affected();
        transaction.commit().await?;
    }
}

/// Events that were handled long ago.
async fn forget(pool: &PgPool, event_log_days: u32) -> Result<u64, sqlx::Error> {
    let mut total = 0;
    loop {
        let forgotten = sqlx::query!(
            "DELETE FROM event_log WHERE event_key IN (
                 SELECT event_key FROM event_log WHERE processed_at < now() - $1 * interval '24 hours'
                 ORDER BY processed_at LIMIT $2 FOR UPDATE SKIP LOCKED)",
            f64::from(event_log_days),
            AT_ONCE
        );
        let count = forgotten.execute(pool).await?.rows_affected();
        total += count;
        if count < AT_ONCE.unsigned_abs() {
            return Ok(total);
        }
    }
}
