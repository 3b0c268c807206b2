//! The release of runs: locked metrics in, what became of them out. One statement, whatever their number.

use sqlx::PgConnection;

use crate::ids::DatasetId;
use crate::request::Rules;

/// Which metrics get a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode<'a> {
    /// Those that depend on the dataset that changed.
    Update(&'a DatasetId),
    /// Those that have a waiting run.
    Waiting,
    /// All, on the newest updates however old they are.
    Now,
}

/// What became of the metrics.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Released {
    /// Runs that were released.
    pub released: u64,
    /// Runs that wait, now or still.
    pub waiting: u64,
    /// One of the released runs.
    pub a_run_id: Option<String>,
    /// Metrics with a series that no dataset has, at most twenty: they get no run, and hold nobody up.
    pub unresolved: Vec<String>,
    /// The datasets that one of the metrics lacks.
    pub missing: Vec<String>,
}

/// Releases runs of these metrics, or leaves them waiting.
///
/// The transaction must hold the rows of the metrics locked: it took them in a statement before this one, so that
/// this one sees every update that was recorded by whoever held them before.
///
/// # Errors
/// When the database fails.
pub async fn release(
    connection: &mut PgConnection,
    metric_ids: &[String],
    mode: Mode<'_>,
    rules: &Rules,
) -> Result<Released, sqlx::Error> {
    let (dataset_id, mode) = match mode {
        Mode::Update(dataset_id) => (Some(dataset_id.as_str()), "update"),
        Mode::Waiting => (None, "waiting"),
        Mode::Now => (None, "now"),
    };
    let outputs = rules.output_prefixes.iter().next().map(|outputs| outputs.uri(&rules.bucket)).unwrap_or_default();
    let row = sqlx::query_file!("src/control/release.sql", metric_ids, dataset_id, outputs, mode)
        .fetch_one(connection)
        .await?;
    Ok(Released {
        released: u64::try_from(row.released).unwrap_or_default(),
        waiting: u64::try_from(row.waiting).unwrap_or_default(),
        a_run_id: row.a_run_id,
        unresolved: row.unresolved,
        missing: row.missing.unwrap_or_default(),
    })
}
