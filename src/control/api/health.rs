//! Whether the API can do its work: the database is asked.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Serialize;

use super::Api;
use super::problem::Problem;

/// Whoever asks has a time-out of a few seconds, and wants an answer within it.
const PATIENCE: Duration = Duration::from_secs(2);

/// The API works.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Health {
    /// `ok`
    pub status: &'static str,
    /// The version of the program.
    pub version: &'static str,
    /// Requests of runs that wait to be published: more than a few for longer than a minute are a topic that is away.
    pub outbox: i64,
}

/// Asks the database.
pub(super) async fn health(State(api): State<Api>) -> Result<Json<Health>, Problem> {
    let waiting = sqlx::query_scalar!(r#"SELECT count(*) AS "waiting!" FROM outbox"#);
    let outbox = tokio::time::timeout(PATIENCE, waiting.fetch_one(&api.pool)).await;
    let outbox = outbox.map_err(|_| sqlx::Error::PoolTimedOut)??;
    Ok(Json(Health { status: "ok", version: env!("CARGO_PKG_VERSION"), outbox }))
}
