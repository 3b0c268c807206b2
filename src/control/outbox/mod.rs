//! The outbox: requests of runs that were released go to their topic, at least once, in the order of their group.
//!
//! A relay claims rows for a while, publishes them and deletes them; one that dies loses its claim, and the next one
//! publishes again: the run's id is the deduplication id. Several relays work side by side: whoever claims the head of a
//! group has the group. A run is `dispatched` before its request is published, so that no worker is faster than that.

pub mod sns;

use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, StreamExt};
use sqlx::PgPool;
use sqlx::postgres::types::PgInterval;

/// So long a claim lasts: longer than a publication with all the client's attempts.
const CLAIM: Duration = Duration::from_secs(60);

/// Groups that are claimed at once.
const GROUPS_AT_ONCE: i64 = 100;

/// Requests of one group that are claimed at once, and requests that go into one publication: SNS takes ten.
pub const BATCH: usize = 10;

/// Publications under way at once.
const CONCURRENCY: usize = 8;

/// The wait after a first failed publication; it doubles with each further one.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);

/// A topic that stays away is asked every other minute.
const LONGEST_BACKOFF: Duration = Duration::from_secs(120);

/// A request on its way to its topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Its place in the outbox.
    pub id: i64,
    /// The run: its deduplication id.
    pub run_id: String,
    /// The metric: its group.
    pub group_id: String,
    /// The request, as JSON.
    pub body: String,
    /// How often it was tried, this time included.
    pub attempts: i32,
}

/// Why a request was not published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Another attempt may succeed.
    #[error("{0}")]
    Transient(String),
    /// The topic will never take this request.
    #[error("{0}")]
    Refused(String),
}

/// Where requests go.
#[async_trait]
pub trait RequestPublisher: Send + Sync + 'static {
    /// Publishes at most [`BATCH`] requests, in their order. One answer for each.
    async fn publish(&self, requests: &[Outgoing]) -> Vec<Result<(), PublishError>>;
}

/// What a relay did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Relayed {
    /// Requests that were published.
    pub published: u64,
    /// Requests that wait for another attempt.
    pub postponed: u64,
    /// Runs that failed because the topic refused their request.
    pub refused: u64,
    /// Requests of runs that nobody wants any more.
    pub dropped: u64,
}

/// Publishes what is in the outbox, until nothing is left that may be published now.
///
/// # Errors
/// When the database fails. What was published meanwhile may be published again.
pub async fn relay(pool: &PgPool, publisher: &dyn RequestPublisher) -> Result<Relayed, sqlx::Error> {
    let mut total = Relayed::default();
    loop {
        let claimed = claim(pool).await?;
        if claimed.is_empty() {
            return Ok(total);
        }
        let (wanted, dropped): (Vec<_>, Vec<_>) = claimed.into_iter().partition(|(_, is_wanted)| *is_wanted);
        let dropped: Vec<i64> = dropped.into_iter().map(|(request, _)| request.id).collect();
        let batches = batches(wanted.into_iter().map(|(request, _)| request).collect());
        let answers = stream::iter(batches)
            .map(|batch| async move {
                let answers = publisher.publish(&batch).await;
                batch.into_iter().zip(answers).collect::<Vec<_>>()
            })
            .buffer_unordered(CONCURRENCY)
            .collect::<Vec<_>>()
            .await;
        let relayed = settle(pool, answers.into_iter().flatten().collect(), dropped).await?;
        total.published += relayed.published;
        total.postponed += relayed.postponed;
        total.refused += relayed.refused;
        total.dropped += relayed.dropped;
    }
}

/// Claims requests in the order of their groups; of each, whether anybody still wants it. A claim waits for no other
/// relay: of a group it takes what comes before the first request that somebody else is busy with.
async fn claim(pool: &PgPool) -> Result<Vec<(Outgoing, bool)>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"WITH head AS MATERIALIZED (
               SELECT o.id, o.group_id FROM outbox o
               WHERE (o.claimed_until IS NULL OR o.claimed_until <= clock_timestamp())
                   AND NOT EXISTS (SELECT FROM outbox e WHERE e.group_id = o.group_id AND e.id < o.id)
               ORDER BY o.id LIMIT $1 FOR UPDATE SKIP LOCKED),
           chosen AS MATERIALIZED (
               SELECT c.id, head.group_id FROM head CROSS JOIN LATERAL (
                   SELECT o.id FROM outbox o WHERE o.group_id = head.group_id AND o.id >= head.id
                   ORDER BY o.id LIMIT $2) c),
           locked AS MATERIALIZED (
               SELECT o.id FROM outbox o JOIN chosen ON chosen.id = o.id ORDER BY o.id FOR UPDATE OF o SKIP LOCKED),
           mine AS MATERIALIZED (
               SELECT w.id FROM (
                   SELECT chosen.id, bool_and(locked.id IS NOT NULL)
                       OVER (PARTITION BY chosen.group_id ORDER BY chosen.id) AS is_whole
                   FROM chosen LEFT JOIN locked ON locked.id = chosen.id) w
               WHERE w.is_whole),
           claimed AS (
               UPDATE outbox o SET claimed_until = clock_timestamp() + $3, attempts = o.attempts + 1
               FROM mine WHERE o.id = mine.id
               RETURNING o.id, o.run_id, o.group_id, o.body, o.attempts),
           dispatched AS (
               UPDATE metric_runs r SET status = 'dispatched', dispatched_at = clock_timestamp()
               FROM claimed WHERE r.id = claimed.run_id AND r.status = 'queued'
               RETURNING r.id)
           SELECT c.id, c.run_id, c.group_id, c.body::text AS "body!", c.attempts,
               (d.id IS NOT NULL OR r.status IN ('dispatched', 'running')) AS "is_wanted!"
           FROM claimed c JOIN metric_runs r ON r.id = c.run_id LEFT JOIN dispatched d ON d.id = c.run_id
           ORDER BY c.id"#,
        GROUPS_AT_ONCE,
        i64::try_from(BATCH).unwrap_or(1),
        interval(CLAIM) as _,
    );
    let rows = rows.fetch_all(pool).await?.into_iter().map(|row| {
        let (id, run_id, group_id, body, attempts) = (row.id, row.run_id, row.group_id, row.body, row.attempts);
        (Outgoing { id, run_id, group_id, body, attempts }, row.is_wanted)
    });
    Ok(rows.collect())
}

/// Batches of at most ten, in which the requests of a group stay together and in order.
fn batches(requests: Vec<Outgoing>) -> Vec<Vec<Outgoing>> {
    let mut groups: std::collections::BTreeMap<String, Vec<Outgoing>> = std::collections::BTreeMap::new();
    for request in requests {
        groups.entry(request.group_id.clone()).or_default().push(request);
    }
    let mut batches: Vec<Vec<Outgoing>> = Vec::new();
    for group in groups.into_values() {
        match batches.last_mut() {
            Some(batch) if batch.len() + group.len() <= BATCH => batch.extend(group),
            _ => batches.push(group),
        }
    }
    batches
}

/// Takes what was published out of the outbox, and says when the rest is tried again. Another relay may have the same
/// requests where a claim has ended, so rows are locked in the order of their ids: nobody waits in a circle.
async fn settle(
    pool: &PgPool,
    answers: Vec<(Outgoing, Result<(), PublishError>)>,
    dropped: Vec<i64>,
) -> Result<Relayed, sqlx::Error> {
    let mut relayed = Relayed { dropped: dropped.len() as u64, ..Relayed::default() };
    let mut gone = dropped;
    let (mut refused, mut refusals) = (Vec::new(), Vec::new());
    let (mut postponed, mut waits, mut reasons) = (Vec::new(), Vec::new(), Vec::new());
    for (request, answer) in answers {
        match answer {
            Ok(()) => {
                relayed.published += 1;
                gone.push(request.id);
            }
            Err(PublishError::Transient(reason)) => {
                tracing::warn!(run_id = request.run_id, reason, attempts = request.attempts, "a request waits");
                postponed.push(request.id);
                waits.push(backoff(request.attempts).as_secs_f64());
                reasons.push(reason);
            }
            Err(PublishError::Refused(reason)) => {
                tracing::error!(run_id = request.run_id, reason, "the topic refused a request");
                refused.push(request.id);
                refusals.push(format!("the request could not be published: {reason}"));
            }
        }
    }
    relayed.postponed = postponed.len() as u64;
    relayed.refused = refused.len() as u64;
    take_out(pool, &gone).await?;
    if !refused.is_empty() {
        sqlx::query!(
            "WITH refused AS MATERIALIZED (
                     SELECT o.id, r.reason FROM outbox o
                     JOIN unnest($1::bigint[], $2::text[]) AS r (id, reason) ON r.id = o.id
                     ORDER BY o.id FOR UPDATE OF o),
                 gone AS (DELETE FROM outbox o USING refused WHERE o.id = refused.id
                          RETURNING o.run_id, refused.reason)
             UPDATE metric_runs r SET status = 'failed', finished_at = clock_timestamp(), error = gone.reason,
                 error_code = 'REQUEST_REFUSED'
             FROM gone WHERE r.id = gone.run_id AND r.status IN ('dispatched', 'running')",
            &refused,
            &refusals
        )
        .execute(pool)
        .await?;
    }
    if !postponed.is_empty() {
        sqlx::query!(
            "WITH postponed AS MATERIALIZED (
                     SELECT o.id, p.seconds, p.reason FROM outbox o
                     JOIN unnest($1::bigint[], $2::float8[], $3::text[]) AS p (id, seconds, reason) ON p.id = o.id
                     ORDER BY o.id FOR UPDATE OF o)
             UPDATE outbox o SET claimed_until = clock_timestamp() + p.seconds * interval '1 second',
                 last_error = p.reason
             FROM postponed p WHERE o.id = p.id",
            &postponed,
            &waits,
            &reasons
        )
        .execute(pool)
        .await?;
    }
    Ok(relayed)
}

/// Takes requests out of the outbox that were published, or that nobody wants.
async fn take_out(pool: &PgPool, gone: &[i64]) -> Result<(), sqlx::Error> {
    if !gone.is_empty() {
        // From now on its worker is waited for.
        sqlx::query!(
            "WITH mine AS MATERIALIZED (SELECT id FROM outbox WHERE id = ANY ($1) ORDER BY id FOR UPDATE),
                 gone AS (DELETE FROM outbox o USING mine WHERE o.id = mine.id RETURNING o.run_id)
             UPDATE metric_runs r SET dispatched_at = clock_timestamp() FROM gone
             WHERE r.id = gone.run_id AND r.status = 'dispatched'",
            gone
        )
        .execute(pool)
        .await?;
    }
    Ok(())
}

fn backoff(attempts: i32) -> Duration {
    let doublings = u32::try_from(attempts.clamp(1, 10)).unwrap_or(1) - 1;
    (FIRST_BACKOFF * 2_u32.pow(doublings)).min(LONGEST_BACKOFF)
}

fn interval(duration: Duration) -> PgInterval {
    PgInterval { months: 0, days: 0, microseconds: i64::try_from(duration.as_micros()).unwrap_or(i64::MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(id: i64, group_id: &str) -> Outgoing {
        let (run_id, body) = (id.to_string(), String::new());
        Outgoing { id, run_id, group_id: group_id.to_owned(), body, attempts: 1 }
    }

    #[test]
    fn a_group_is_never_split_over_batches() {
        let requests = (0..35).map(|id| request(id, ["a", "b", "c", "d", "e"][usize::try_from(id).unwrap() % 5]));
        let batches = batches(requests.collect());
        assert!(batches.iter().all(|batch| batch.len() <= BATCH));
        for group in ["a", "b", "c", "d", "e"] {
            let holding: Vec<_> =
                batches.iter().filter(|batch| batch.iter().any(|one| one.group_id == group)).collect();
            assert_eq!(holding.len(), 1, "{group}");
            let ids: Vec<i64> = holding[0].iter().filter(|one| one.group_id == group).map(|one| one.id).collect();
            assert!(ids.is_sorted() && ids.len() == 7, "{ids:?}");
        }
    }

    #[test]
    fn a_topic_that_fails_is_asked_ever_less_often() {
        let seconds: Vec<u64> = (1..=9).map(|attempts| backoff(attempts).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 120, 120]);
    }
}
