//! A projection update in; the update recorded and runs released or left waiting out, in one transaction.
//!
//! Locks are taken in one order by everybody: the dataset, then metrics by their ids, then runs. The dataset's lock gives
//! its updates an order. The metrics' locks make one of two concurrent updates, of A and of B, see the other.

use sqlx::{PgConnection, PgPool};

use super::database;
use super::message::ProjectionUpdate;
use super::rejection::{Error, Rejection};
use super::release::{Mode, Released, release};
use crate::request::Rules;

/// What became of an update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recorded {
    /// It was new.
    New(Released),
    /// It was recorded before, and nothing happened.
    Known,
}

/// Records an update and releases runs. Six round trips, whatever the number of metrics.
///
/// # Errors
/// [`Rejection::UnknownDataset`], or when the database fails; then nothing happened.
pub async fn record(pool: &PgPool, update: &ProjectionUpdate, rules: &Rules) -> Result<Recorded, Error> {
    let mut transaction = pool.begin().await?;
    let outcome = record_within(&mut transaction, update, rules).await;
    let recorded = database::end(transaction, outcome).await?;
    if let Recorded::New(Released { unresolved, .. }) = &recorded
        && !unresolved.is_empty()
    {
        tracing::warn!(dataset_id = %update.dataset_id, metrics = ?unresolved, "metrics need a series that no dataset has");
    }
    Ok(recorded)
}

async fn record_within(
    connection: &mut PgConnection,
    update: &ProjectionUpdate,
    rules: &Rules,
) -> Result<Recorded, Error> {
    let dataset_id = update.dataset_id.as_str();
    let dataset = sqlx::query_scalar!("SELECT id FROM datasets WHERE id = $1 FOR NO KEY UPDATE", dataset_id);
    if dataset.fetch_optional(&mut *connection).await?.is_none() {
        return Err(Rejection::UnknownDataset { dataset_id: update.dataset_id.clone() }.into());
    }
    if !insert(connection, update, rules).await? {
        return Ok(Recorded::Known);
    }
    let metric_ids = sqlx::query_scalar!(
        "SELECT m.id FROM metrics m
         WHERE m.id IN (SELECT d.metric_id FROM dataset_series s
                        JOIN metric_dependencies d ON d.series_code = s.series_code WHERE s.dataset_id = $1)
         ORDER BY m.id FOR NO KEY UPDATE",
        dataset_id
    );
    let metric_ids = metric_ids.fetch_all(&mut *connection).await?;
    let mode = Mode::Update(&update.dataset_id);
    Ok(Recorded::New(release(connection, &metric_ids, mode, rules).await?))
}

/// Whether the update is new.
async fn insert(connection: &mut PgConnection, update: &ProjectionUpdate, rules: &Rules) -> Result<bool, sqlx::Error> {
    let message = super::message::Message::ProjectionUpdate(update.clone());
    let id = sqlx::query_scalar!(
        r#"WITH new AS (
               INSERT INTO dataset_updates (dataset_id, version_manifest_path, projections_path, bucket, event_key)
               VALUES ($1, $2, $3, $4, $5) ON CONFLICT (event_key) DO NOTHING RETURNING id),
           logged AS (
               INSERT INTO event_log (event_key, event_type, payload) SELECT $6, $7, $8 FROM new
               ON CONFLICT DO NOTHING)
           SELECT id FROM new"#,
        update.dataset_id.as_str(),
        update.manifest.as_str(),
        update.projections.as_str(),
        rules.bucket,
        update.event_key(),
        message.event_key(),
        message.type_name(),
        message.payload(),
    );
    Ok(id.fetch_optional(connection).await?.is_some())
}
