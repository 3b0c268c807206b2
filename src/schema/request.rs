//! The request as it is written down: the shape of `metric_run_requested`, for its schema alone.
//!
//! `request::decode` reads requests by hand, so that a broken part breaks no other. These types say the same once more,
//! as far as a schema can say it; what it cannot say (limits of the configuration, prefixes, whether every series has
//! a dataset) is listed in `tests/schemas.rs`, which holds the schema against `decode`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::ids::{DatasetId, MetricCode, RunId};

/// A request to compute a metric. Unknown fields are ignored.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("$comment" = "the expression's kind must be the one that expressionType names"))]
pub struct MetricRunRequested {
    /// `metrics.run.v1` where it is given; not looked at.
    #[schemars(extend("examples" = [crate::event::SCHEMA]))]
    pub schema: Option<Value>,
    /// The type of the event.
    #[serde(rename = "type")]
    #[schemars(extend("const" = "metric_run_requested"))]
    pub kind: String,
    /// The run.
    pub run_id: RunId,
    /// Its metric.
    pub metric_code: MetricCode,
    /// The kind of the expression.
    pub expression_type: ExpressionType,
    /// What to compute.
    pub expression_json: Expression,
    /// The dataset of each series; every series of the expression must be there, none twice with two datasets.
    pub inputs: Vec<Input>,
    /// The datasets.
    pub catalog: Catalog,
    /// Where the result goes.
    pub output: Output,
    /// Not looked at: the group is the one of the SQS message.
    pub message_group_id: Option<Value>,
    /// Not looked at.
    pub message_deduplication_id: Option<Value>,
}

/// The kinds of expressions.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExpressionType {
    /// Two operands and an operator.
    SeriesMath,
    /// A series and a window.
    WindowOp,
    /// Many operands.
    Composite,
}

/// An expression: which kind it is follows from its fields, which must be those of one kind alone.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Expression {
    /// Two operands.
    Math(Box<SeriesMath>),
    /// A window.
    Window(Box<WindowOp>),
    /// Many operands.
    Composite(Composite),
}

/// An operand.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Operand {
    /// A series.
    Reference(Reference),
    /// An expression in an expression.
    Expression(Expression),
}

/// A series by its code, in either spelling; where both are given they must be equal.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(extend("anyOf" = json!([{ "required": ["series_code"] }, { "required": ["seriesCode"] }]),
    "not" = json!({ "anyOf": [{ "required": ["left"] }, { "required": ["right"] }, { "required": ["series"] },
        { "required": ["window"] }, { "required": ["operands"] }] })))]
pub struct Reference {
    /// The code.
    #[schemars(default, with = "crate::ids::SeriesCode")]
    pub series_code: Option<String>,
    /// The same.
    #[serde(rename = "seriesCode")]
    #[schemars(default, with = "crate::ids::SeriesCode")]
    pub series_code_camel: Option<String>,
}

/// Two operands, joined on their times.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(extend("not" = json!({ "anyOf": [{ "required": ["series_code"] }, { "required": ["seriesCode"] },
    { "required": ["series"] }, { "required": ["window"] }, { "required": ["operands"] }] })))]
pub struct SeriesMath {
    /// The operator.
    pub op: MathOp,
    /// The left operand.
    pub left: Operand,
    /// The right operand.
    pub right: Operand,
    /// Multiplies the result; any finite number.
    pub scale: Option<f64>,
}

/// The operators of `series_math`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is what it is called")]
pub enum MathOp {
    Add,
    Subtract,
    Multiply,
    Ratio,
}

/// An operator over the last observations or days of a series.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(extend("not" = json!({ "anyOf": [{ "required": ["series_code"] }, { "required": ["seriesCode"] },
    { "required": ["left"] }, { "required": ["right"] }, { "required": ["operands"] }] })))]
pub struct WindowOp {
    /// The operator.
    pub op: WindowOperator,
    /// The operand.
    pub series: Operand,
    /// Observations; for `lag`, calendar days. Written without a fraction: `2.0` is refused.
    #[schemars(range(min = 1))]
    pub window: u32,
}

/// The operators of `window_op`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is what it is called")]
pub enum WindowOperator {
    Sma,
    Ema,
    Sum,
    Max,
    Min,
    Lag,
}

/// Many operands, joined on their times.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(extend("not" = json!({ "anyOf": [{ "required": ["series_code"] }, { "required": ["seriesCode"] },
    { "required": ["left"] }, { "required": ["right"] }, { "required": ["series"] }, { "required": ["window"] }] })))]
pub struct Composite {
    /// The operator.
    pub op: CompositeOp,
    /// The operands.
    #[schemars(length(min = 2))]
    pub operands: Vec<Operand>,
    /// What a missing operand means.
    pub nulls: Option<NullPolicy>,
}

/// The operators of `composite`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is what it is called")]
pub enum CompositeOp {
    Sum,
    Avg,
    Max,
    Min,
}

/// What a missing operand means.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NullPolicy {
    /// It is left out.
    Skip,
    /// There is no value at that time.
    Propagate,
}

/// A series of a dataset.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("anyOf" = json!([{ "required": ["series_code"] }, { "required": ["seriesCode"] }])))]
pub struct Input {
    /// The dataset.
    pub dataset_id: DatasetId,
    /// The series.
    #[schemars(default, with = "crate::ids::SeriesCode")]
    pub series_code: Option<String>,
    /// The same.
    #[serde(rename = "series_code")]
    #[schemars(default, with = "crate::ids::SeriesCode")]
    pub series_code_snake: Option<String>,
}

/// The datasets that inputs name.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Catalog {
    /// By their ids; those that no input names are not looked at.
    pub datasets: BTreeMap<String, Dataset>,
}

/// Where a dataset lies.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Dataset {
    /// The key of the manifest of the version to read, under an allowed prefix.
    #[schemars(length(min = 1))]
    pub manifest_path: String,
    /// The folder that the manifest's files are relative to; `projections/` beside the dataset's root where it is missing.
    pub projections_path: Option<String>,
}

/// Where the result goes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// `s3://BUCKET/PREFIX/` or a bare prefix; the bucket is the worker's own, or the placeholder `bucket` or `bucket-name`.
    #[schemars(length(min = 1))]
    pub base_path: String,
}
