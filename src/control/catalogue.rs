//! What is registered: series, datasets, metrics. Each is written whole: created, or replaced by what is given, and twice
//! is the same as once.
//!
//! An expression is parsed by the worker's own parser before it is stored, and stored as that parser understood it; the
//! series that it mentions, however deep, become the metric's dependencies.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{PgConnection, PgPool};

use super::database;
use super::rejection::{Error, Rejection};
use super::release::{Mode, release};
use crate::expression::{Expr, ExpressionType};
use crate::ids::{DatasetId, MetricCode, SeriesCode};
use crate::request::Rules;

/// A run is released with updates of the last week, where its metric says nothing else.
const DEFAULT_REQUIRED_DAYS: i32 = 7;

/// The longest window, a century: the database keeps no other either.
const MOST_REQUIRED_DAYS: i32 = 36_500;

/// The longest description.
const MAX_TEXT_BYTES: usize = 4_096;

/// Under these the API serves something else beside the values of each metric.
const RESERVED_CODES: [&str; 1] = ["summary"];

/// A metric, as it is registered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MetricSpec {
    /// `series_math`, `window_op` or `composite`
    #[serde(alias = "expressionType")]
    pub expression_type: String,
    /// What is computed.
    #[serde(alias = "expressionJson")]
    pub expression_json: Value,
    /// How often it is expected to change, such as `daily`.
    #[serde(default)]
    pub frequency: Option<String>,
    /// What its values are counted in.
    #[serde(default)]
    pub unit: Option<String>,
    /// What it says.
    #[serde(default)]
    pub description: Option<String>,
    /// How old, in days of 24 hours, an update of a dataset that it needs may be; 7 where nothing is said.
    #[serde(default, alias = "requiredDays")]
    pub required_days: Option<i32>,
}

/// A series, as it is registered.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SeriesSpec {
    /// Its name, for people.
    pub name: Option<String>,
    /// What it says.
    pub description: Option<String>,
    /// What its values are counted in.
    pub unit: Option<String>,
    /// How often it changes, such as `daily`.
    pub frequency: Option<String>,
}

/// A dataset, as it is registered.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DatasetSpec {
    /// Its name, for people.
    pub name: Option<String>,
    /// What it says.
    pub description: Option<String>,
    /// The bucket that it lies in.
    pub bucket: Option<String>,
    /// The codes of its series, which are registered already. A series belongs to one dataset.
    pub series: Vec<String>,
}

/// What writing did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// There was none before.
    Created,
    /// It is now as given.
    Replaced,
}

impl Written {
    fn from(is_new: Option<bool>) -> Self {
        match is_new {
            Some(true) => Self::Created,
            Some(false) | None => Self::Replaced,
        }
    }
}

/// Registers a series.
///
/// # Errors
/// When a text is too long, or the database fails.
pub async fn put_series(pool: &PgPool, code: &SeriesCode, spec: &SeriesSpec) -> Result<Written, Error> {
    let SeriesSpec { name, description, unit, frequency } = spec;
    check_texts([("name", name), ("description", description), ("unit", unit), ("frequency", frequency)])?;
    let is_new = sqlx::query_scalar!(
        "INSERT INTO series (code, name, description, unit, frequency) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (code) DO UPDATE SET name = excluded.name, description = excluded.description,
             unit = excluded.unit, frequency = excluded.frequency, updated_at = now()
         RETURNING xmax = 0",
        code.as_str(),
        name.as_deref(),
        description.as_deref(),
        unit.as_deref(),
        frequency.as_deref(),
    );
    Ok(Written::from(is_new.fetch_one(pool).await?))
}

/// Registers a dataset with its series.
///
/// # Errors
/// [`Rejection::UnknownSeries`], [`Rejection::SeriesOfOtherDataset`], or when the database fails.
pub async fn put_dataset(pool: &PgPool, id: &DatasetId, spec: &DatasetSpec) -> Result<Written, Error> {
    let DatasetSpec { name, description, bucket, series } = spec;
    check_texts([("name", name), ("description", description), ("bucket", bucket)])?;
    for code in series {
        SeriesCode::parse(code).map_err(Rejection::from)?;
    }
    let mut transaction = pool.begin().await?;
    let outcome = put_dataset_within(&mut transaction, id, spec).await;
    database::end(transaction, outcome).await
}

async fn put_dataset_within(
    connection: &mut PgConnection,
    id: &DatasetId,
    spec: &DatasetSpec,
) -> Result<Written, Error> {
    let DatasetSpec { name, description, bucket, series } = spec;
    let is_new = sqlx::query_scalar!(
        "INSERT INTO datasets (id, name, description, bucket) VALUES ($1, $2, $3, $4)
         ON CONFLICT (id) DO UPDATE SET name = excluded.name, description = excluded.description,
             bucket = excluded.bucket, updated_at = now()
         RETURNING xmax = 0",
        id.as_str(),
        name.as_deref(),
        description.as_deref(),
        bucket.as_deref(),
    );
    let written = Written::from(is_new.fetch_one(&mut *connection).await?);
    refuse_unknown(connection, series).await?;
    sqlx::query!(
        "DELETE FROM dataset_series WHERE dataset_id = $1 AND NOT series_code = ANY ($2)",
        id.as_str(),
        series
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "INSERT INTO dataset_series (dataset_id, series_code) SELECT $1, code FROM unnest($2::text[]) AS code
         ORDER BY code ON CONFLICT DO NOTHING",
        id.as_str(),
        series
    )
    .execute(&mut *connection)
    .await?;
    let elsewhere = sqlx::query!(
        "SELECT series_code, dataset_id FROM dataset_series WHERE series_code = ANY ($2) AND dataset_id <> $1
         ORDER BY series_code LIMIT 1",
        id.as_str(),
        series
    );
    if let Some(other) = elsewhere.fetch_optional(&mut *connection).await? {
        let series_code = SeriesCode::parse(&other.series_code).map_err(Rejection::from)?;
        return Err(Rejection::SeriesOfOtherDataset { series_code, dataset_id: other.dataset_id }.into());
    }
    Ok(written)
}

/// Registers a metric. A run of it that waits is released if the metric needs less than before and nothing is missing.
///
/// # Errors
/// [`Rejection::ReservedCode`], what the worker's parser says of the expression, [`Rejection::UnknownSeries`], or when the
/// database fails.
pub async fn put_metric(pool: &PgPool, code: &MetricCode, spec: &MetricSpec, rules: &Rules) -> Result<Written, Error> {
    if RESERVED_CODES.contains(&code.as_str()) {
        return Err(Rejection::ReservedCode { metric_code: code.clone() }.into());
    }
    let expression = check_metric(spec, rules)?;
    let mut transaction = pool.begin().await?;
    let outcome = put_metric_within(&mut transaction, code, spec, &expression, rules).await;
    database::end(transaction, outcome).await
}

async fn put_metric_within(
    connection: &mut PgConnection,
    code: &MetricCode,
    spec: &MetricSpec,
    expression: &Expr,
    rules: &Rules,
) -> Result<Written, Error> {
    let series_codes = series_in_order(expression);
    refuse_unknown(connection, &series_codes).await?;
    let row = sqlx::query!(
        r#"INSERT INTO metrics (code, expression_type, expression_json, frequency, unit, description, required_days)
           VALUES ($1, $2, $3, $4, $5, $6, $7)
           ON CONFLICT (code) DO UPDATE SET expression_type = excluded.expression_type,
               expression_json = excluded.expression_json, frequency = excluded.frequency, unit = excluded.unit,
               description = excluded.description, required_days = excluded.required_days, updated_at = now()
           RETURNING id, xmax = 0 AS is_new"#,
        code.as_str(),
        spec.expression_type,
        expression.to_json(),
        spec.frequency.as_deref(),
        spec.unit.as_deref(),
        spec.description.as_deref(),
        spec.required_days.unwrap_or(DEFAULT_REQUIRED_DAYS),
    );
    let row = row.fetch_one(&mut *connection).await?;
    sqlx::query!("DELETE FROM metric_dependencies WHERE metric_id = $1", row.id).execute(&mut *connection).await?;
    sqlx::query!(
        "INSERT INTO metric_dependencies (metric_id, series_code, position)
         SELECT $1, code, position::int FROM unnest($2::text[]) WITH ORDINALITY AS mentioned (code, position)",
        row.id,
        &series_codes
    )
    .execute(&mut *connection)
    .await?;
    release(connection, &[row.id], Mode::Waiting, rules).await?;
    Ok(Written::from(row.is_new))
}

/// The expression, if the metric is one that can be registered.
fn check_metric(spec: &MetricSpec, rules: &Rules) -> Result<Expr, Rejection> {
    let MetricSpec { expression_type, expression_json, frequency, unit, description, required_days } = spec;
    check_texts([("frequency", frequency), ("unit", unit), ("description", description)])?;
    if !required_days.is_none_or(|days| (1..=MOST_REQUIRED_DAYS).contains(&days)) {
        return Err(Rejection::Malformed { field: "required_days", expected: "an integer from 1 to 36500" });
    }
    let found = || Rejection::UnknownExpressionType { found: expression_type.chars().take(64).collect() };
    let declared = ExpressionType::parse(expression_type).ok_or_else(found)?;
    Ok(Expr::parse_declared(expression_json, declared, &rules.expression)?)
}

fn check_texts<const N: usize>(texts: [(&'static str, &Option<String>); N]) -> Result<(), Rejection> {
    for (field, text) in texts {
        let is_storable = |text: &String| text.len() <= MAX_TEXT_BYTES && !text.contains('\0');
        if !text.as_ref().is_none_or(is_storable) {
            return Err(Rejection::Malformed { field, expected: "a string of at most 4096 bytes without NUL" });
        }
    }
    Ok(())
}

/// Refuses series that nobody registered.
async fn refuse_unknown(connection: &mut PgConnection, series_codes: &[String]) -> Result<(), Error> {
    let unknown = sqlx::query_scalar!(
        r#"SELECT mentioned.code AS "code!" FROM unnest($1::text[]) AS mentioned (code)
           WHERE NOT EXISTS (SELECT FROM series s WHERE s.code = mentioned.code) ORDER BY 1 LIMIT 20"#,
        series_codes
    );
    let unknown = unknown.fetch_all(connection).await?;
    match unknown.is_empty() {
        true => Ok(()),
        false => Err(Rejection::UnknownSeries { series_codes: unknown }.into()),
    }
}

/// The series that an expression mentions, each once, in the order of their first mention.
#[must_use]
pub fn series_in_order(expression: &Expr) -> Vec<String> {
    let mut mentioned = Vec::new();
    // The parser bounds the number of nodes, and so the length of this list.
    let mut open = vec![expression];
    let mut seen = std::collections::BTreeSet::new();
    while let Some(node) = open.pop() {
        match node {
            Expr::Series(code) => {
                if seen.insert(code) {
                    mentioned.push(code.to_string());
                }
            }
            // Pushed last, looked at first.
            Expr::Math { left, right, .. } => open.extend([&**right, &**left]),
            Expr::Window { series, .. } => open.push(series),
            Expr::Composite { operands, .. } => open.extend(operands.iter().rev()),
        }
    }
    mentioned
}
