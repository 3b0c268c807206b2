//! A record's body, bare or SNS-wrapped, becomes a [`RunRequest`]. All validation of requests is here.
//!
//! A body is judged in two steps. Without a valid `type`, `runId` and `metricCode` there is no run to speak of: the
//! body is [`Unreadable`]. With them there is a [`Run`], whose marker can be looked up and whose failure can be
//! published; whatever else is wrong is an [`Invalid`] in place of its [`Work`].

mod problem;

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::expression::{self, Expr, ExpressionType};
use crate::ids::{DatasetId, MetricCode, RunId, SeriesCode};
use crate::keys::{self, Key, OutputKeys, Prefix, Prefixes};

pub use problem::{Invalid, Unreadable};

/// The only type of event that the worker takes.
const REQUEST_TYPE: &str = "metric_run_requested";

/// What requests are held against: the configuration's part in their validation.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The function's bucket.
    pub bucket: String,
    /// Where inputs may be read.
    pub input_prefixes: Prefixes,
    /// Where outputs may be written.
    pub output_prefixes: Prefixes,
    /// The largest body.
    pub body_bytes: usize,
    /// How large an expression may be.
    pub expression: expression::Limits,
}

/// A request to compute a metric.
#[derive(Debug, Clone)]
pub struct RunRequest {
    /// Which run it is.
    pub run: Run,
    /// What to compute, or why that cannot be told.
    pub work: Result<Work, Invalid>,
}

/// Which run a request is about, known however wrong the rest of it may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The run.
    pub run_id: RunId,
    /// Its metric.
    pub metric_code: MetricCode,
    /// SHA-256 over the canonical JSON of what the request asks for, in hex.
    pub request_digest: String,
    /// Where its output lies. A request without a usable `output.basePath` has the metric's default place, so that
    /// its marker can still be looked up; nothing is written for such a request.
    pub keys: OutputKeys,
}

/// What a run computes.
#[derive(Debug, Clone, PartialEq)]
pub struct Work {
    /// The expression.
    pub expression: Expr,
    /// The dataset of each series that the expression refers to.
    pub inputs: BTreeMap<SeriesCode, DatasetId>,
    /// Where each of these datasets lies.
    pub datasets: BTreeMap<DatasetId, DatasetPaths>,
}

/// Where a dataset lies, under an allowed prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetPaths {
    /// The manifest of the version to read.
    pub manifest: Key,
    /// The folder that the manifest's files are relative to.
    pub projections: Prefix,
}

/// Reads a record's body.
///
/// # Errors
/// When there is no run in it; what else may be wrong is in [`RunRequest::work`].
pub fn decode(body: &str, rules: &Rules) -> Result<RunRequest, Unreadable> {
    let unwrapped = unwrap(body, rules.body_bytes)?;
    let event = RawEvent::read(&unwrapped.event, unwrapped.what)?;
    event.decode(unwrapped.kind, unwrapped.metric_code, rules)
}

/// The event of a body.
pub(crate) struct Unwrapped<'a> {
    /// Its JSON.
    pub(crate) event: Cow<'a, str>,
    /// Where it was found, for error messages.
    pub(crate) what: &'static str,
    /// What the envelope says instead of the event's own `type`.
    pub(crate) kind: Option<String>,
    /// What the envelope says instead of the event's own `metricCode`.
    pub(crate) metric_code: Option<String>,
}

/// Takes an event out of its SNS envelope, where it has one.
///
/// # Errors
/// When the body is too large or no JSON object.
pub(crate) fn unwrap(body: &str, limit_bytes: usize) -> Result<Unwrapped<'_>, Unreadable> {
    if body.len() > limit_bytes {
        return Err(Unreadable::TooLarge { length_bytes: body.len(), limit_bytes });
    }
    let mut envelope: Envelope = read_json(body, "the body")?;
    let mut attribute = |name: &str| envelope.attributes.remove(name).and_then(|attribute| attribute.value);
    let (kind, metric_code) = (attribute("type"), attribute("metricCode"));
    Ok(match envelope.notification() {
        None => Unwrapped { event: body.into(), what: "the body", kind: None, metric_code: None },
        Some(message) => Unwrapped { event: message.to_owned().into(), what: "the SNS message", kind, metric_code },
    })
}

fn read_json<'a, T: Deserialize<'a>>(text: &'a str, what: &'static str) -> Result<T, Unreadable> {
    // A derived struct would also take its fields from an array, by position.
    if !text.trim_ascii_start().starts_with('{') {
        return Err(Unreadable::NotAnEvent { what, reason: "expected an object".to_owned() });
    }
    serde_json::from_str(text).map_err(|error| Unreadable::NotAnEvent { what, reason: error.to_string() })
}

/// The SNS envelope, as far as it matters; of a bare event nothing but its absence.
#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "Type", default)]
    kind: Option<Value>,
    #[serde(rename = "Message", default)]
    message: Option<Value>,
    #[serde(rename = "MessageAttributes", default, deserialize_with = "lenient_attributes")]
    attributes: BTreeMap<String, Attribute>,
}

#[derive(Deserialize, Default)]
struct Attribute {
    #[serde(rename = "Value", default)]
    value: Option<String>,
}

/// Attributes that are no text (`Binary` ones, or none at all) override nothing.
fn lenient_attributes<'de, D: serde::Deserializer<'de>>(input: D) -> Result<BTreeMap<String, Attribute>, D::Error> {
    let json = Value::deserialize(input)?;
    Ok(serde_json::from_value(json).unwrap_or_default())
}

impl Envelope {
    fn notification(&self) -> Option<&str> {
        let is_notification = self.kind.as_ref().and_then(Value::as_str) == Some("Notification");
        self.message.as_ref().and_then(Value::as_str).filter(|_| is_notification)
    }
}

/// The event with its parts unparsed: a part of any depth or size costs no stack, and a broken part breaks no other.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawEvent<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default)]
    run_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    metric_code: Option<&'a RawValue>,
    #[serde(borrow, default)]
    expression_type: Option<&'a RawValue>,
    #[serde(borrow, default)]
    expression_json: Option<&'a RawValue>,
    #[serde(borrow, default)]
    inputs: Option<&'a RawValue>,
    #[serde(borrow, default)]
    catalog: Option<&'a RawValue>,
    #[serde(borrow, default)]
    output: Option<&'a RawValue>,
}

impl<'a> RawEvent<'a> {
    fn read(text: &'a str, what: &'static str) -> Result<Self, Unreadable> {
        read_json(text, what)
    }

    fn decode(
        &self,
        type_attribute: Option<String>,
        metric_code_attribute: Option<String>,
        rules: &Rules,
    ) -> Result<RunRequest, Unreadable> {
        let kind = required_text(type_attribute, self.kind, "type")?;
        if kind != REQUEST_TYPE {
            return Err(Unreadable::OtherType { found: format!("{:?}", shorten(&kind)) });
        }
        let run_id = RunId::parse(&required_text(None, self.run_id, "runId")?)?;
        let metric_code = MetricCode::parse(&required_text(metric_code_attribute, self.metric_code, "metricCode")?)?;
        let request_digest = self.digest(&metric_code);
        let output_keys = self.output_keys(rules);
        let keys = output_keys.clone().or_else(|_| default_keys(&metric_code, rules));
        let work = output_keys.and_then(|_| self.work(rules));
        Ok(RunRequest { run: Run { run_id, metric_code, request_digest, keys: keys? }, work })
    }

    /// SHA-256 over the canonical JSON (RFC 8785) of what is asked for. Parts that are no readable JSON are taken as
    /// text: such a request equals only itself.
    fn digest(&self, metric_code: &MetricCode) -> String {
        let parts = [self.expression_type, self.expression_json, self.inputs, self.catalog, self.output];
        let texts = parts.map(|part| part.map_or("null", RawValue::get));
        let values = texts.map(serde_json::from_str::<Value>);
        let canonical = match values {
            [Ok(kind), Ok(expression), Ok(inputs), Ok(catalog), Ok(output)] => {
                // Moved, not copied: a part of a megabyte may take a hundred of them as a tree.
                let fields = [
                    ("metricCode", Value::from(metric_code.as_str())),
                    ("expressionType", kind),
                    ("expressionJson", expression),
                    ("inputs", inputs),
                    ("catalog", catalog),
                    ("output", output),
                ];
                let fields: Map<String, Value> =
                    fields.into_iter().map(|(name, part)| (name.to_owned(), part)).collect();
                serde_json_canonicalizer::to_vec(&fields).ok()
            }
            _ => None,
        };
        let as_text = || json!([metric_code.as_str(), texts]).to_string().into_bytes();
        hex::encode(Sha256::digest(canonical.unwrap_or_else(as_text)))
    }

    fn output_keys(&self, rules: &Rules) -> Result<OutputKeys, Invalid> {
        const FIELD: &str = "output.basePath";
        let output = object(part(self.output, "output")?, "output")?;
        let base_path = text(&output, "basePath", FIELD)?;
        let keys = keys::without_bucket(&base_path, &rules.bucket)
            .and_then(Prefix::parse)
            .and_then(|base| rules.output_prefixes.confine(base))
            .and_then(OutputKeys::new);
        keys.map_err(|source| Invalid::Path { field: FIELD.to_owned(), source })
    }

    fn work(&self, rules: &Rules) -> Result<Work, Invalid> {
        let inputs = self.inputs()?;
        let datasets = self.datasets(&inputs, rules)?;
        let expression = self.expression(rules)?;
        let mut used_inputs = BTreeMap::new();
        for series_code in expression.series_codes() {
            let Some(dataset_id) = inputs.get(series_code) else {
                return Err(Invalid::SeriesNotInInputs { series_code: series_code.clone() });
            };
            used_inputs.insert(series_code.clone(), dataset_id.clone());
        }
        let is_used = |dataset_id: &DatasetId| used_inputs.values().any(|used| used == dataset_id);
        let datasets = datasets.into_iter().filter(|(dataset_id, _)| is_used(dataset_id)).collect();
        Ok(Work { expression, inputs: used_inputs, datasets })
    }

    fn inputs(&self) -> Result<BTreeMap<SeriesCode, DatasetId>, Invalid> {
        let Value::Array(items) = part(self.inputs, "inputs")? else {
            return Err(Invalid::WrongType { field: "inputs".to_owned(), expected: "an array" });
        };
        let mut inputs: BTreeMap<SeriesCode, DatasetId> = BTreeMap::new();
        for (index, item) in items.into_iter().enumerate() {
            let path = format!("inputs[{index}]");
            let fields = object(item, &path)?;
            let series_code = series_code(&fields, &path)?;
            let field = format!("{path}.datasetId");
            let dataset_id = DatasetId::parse(&text(&fields, "datasetId", &field)?);
            let dataset_id = dataset_id.map_err(|source| Invalid::Id { field, source })?;
            match inputs.get(&series_code) {
                Some(first) if *first != dataset_id => {
                    let first = first.clone();
                    return Err(Invalid::SeriesOfTwoDatasets { series_code, first, second: dataset_id });
                }
                _ => inputs.insert(series_code, dataset_id),
            };
        }
        Ok(inputs)
    }

    fn datasets(
        &self,
        inputs: &BTreeMap<SeriesCode, DatasetId>,
        rules: &Rules,
    ) -> Result<BTreeMap<DatasetId, DatasetPaths>, Invalid> {
        let catalog = object(part(self.catalog, "catalog")?, "catalog")?;
        let entries = catalog.get("datasets").ok_or(Invalid::Missing { field: "catalog.datasets".to_owned() })?;
        let entries = object(entries.clone(), "catalog.datasets")?;
        let mut datasets = BTreeMap::new();
        for dataset_id in inputs.values() {
            if datasets.contains_key(dataset_id) {
                continue;
            }
            let Some(entry) = entries.get(dataset_id.as_str()) else {
                return Err(Invalid::DatasetNotInCatalog { dataset_id: dataset_id.clone() });
            };
            datasets.insert(dataset_id.clone(), dataset_paths(entry, dataset_id, rules)?);
        }
        Ok(datasets)
    }

    fn expression(&self, rules: &Rules) -> Result<Expr, Invalid> {
        let Value::String(declared) = part(self.expression_type, "expressionType")? else {
            return Err(Invalid::WrongType { field: "expressionType".to_owned(), expected: "a string" });
        };
        let found = || Invalid::UnknownExpressionType { found: shorten(&declared) };
        let declared = ExpressionType::parse(&declared).ok_or_else(found)?;
        let json = part(self.expression_json, "expressionJson").map_err(|error| match error {
            Invalid::NotJson { reason, .. } => Invalid::ExpressionNotJson { reason },
            other => other,
        })?;
        Ok(Expr::parse_declared(&json, declared, &rules.expression)?)
    }
}

fn dataset_paths(entry: &Value, dataset_id: &DatasetId, rules: &Rules) -> Result<DatasetPaths, Invalid> {
    let path = format!("catalog.datasets.{dataset_id}");
    let fields = object(entry.clone(), &path)?;
    let field = format!("{path}.manifestPath");
    let manifest_path = text(&fields, "manifestPath", &field)?;
    let manifest = keys::without_bucket(&manifest_path, &rules.bucket)
        .and_then(Key::parse)
        .and_then(|key| rules.input_prefixes.confine(key))
        .map_err(|source| Invalid::Path { field, source })?;
    let field = format!("{path}.projectionsPath");
    let projections_path = match fields.get("projectionsPath") {
        None | Some(Value::Null) => None,
        Some(_) => Some(text(&fields, "projectionsPath", &field)?),
    };
    let projections_path = projections_path.as_deref().map(|path| keys::without_bucket(path, &rules.bucket));
    let projections = projections_path
        .transpose()
        .and_then(|path| keys::projections(&manifest, dataset_id, path))
        .and_then(|prefix| rules.input_prefixes.confine(prefix))
        .map_err(|source| Invalid::Path { field, source })?;
    Ok(DatasetPaths { manifest, projections })
}

/// Where the metric's output lies when the request does not say it in a usable way.
fn default_keys(metric_code: &MetricCode, rules: &Rules) -> Result<OutputKeys, keys::Error> {
    let prefix = rules.output_prefixes.iter().next().ok_or(keys::Error::Empty)?;
    OutputKeys::new(prefix.folder(metric_code.as_str())?)
}

fn required_text(
    attribute: Option<String>,
    field: Option<&RawValue>,
    name: &'static str,
) -> Result<String, Unreadable> {
    if let Some(text) = attribute {
        return Ok(text);
    }
    let raw = field.ok_or(Unreadable::Missing { field: name })?;
    serde_json::from_str(raw.get()).map_err(|_| Unreadable::NotText { field: name })
}

fn part(field: Option<&RawValue>, name: &'static str) -> Result<Value, Invalid> {
    let raw = field.ok_or_else(|| Invalid::Missing { field: name.to_owned() })?;
    serde_json::from_str(raw.get()).map_err(|error| Invalid::NotJson { field: name, reason: error.to_string() })
}

fn object(json: Value, path: &str) -> Result<Map<String, Value>, Invalid> {
    match json {
        Value::Object(fields) => Ok(fields),
        _ => Err(Invalid::WrongType { field: path.to_owned(), expected: "an object" }),
    }
}

fn text(fields: &Map<String, Value>, name: &str, path: &str) -> Result<String, Invalid> {
    match fields.get(name) {
        None => Err(Invalid::Missing { field: path.to_owned() }),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(Invalid::WrongType { field: path.to_owned(), expected: "a string" }),
    }
}

fn series_code(fields: &Map<String, Value>, path: &str) -> Result<SeriesCode, Invalid> {
    let field = format!("{path}.seriesCode");
    expression::series_code(fields).map_err(|problem| match problem {
        expression::Problem::Missing { .. } => Invalid::Missing { field },
        expression::Problem::SeriesCode(source) => Invalid::Id { field, source },
        expression::Problem::TwoSeriesCodes => {
            Invalid::WrongType { field, expected: "the same as series_code where both are given" }
        }
        _ => Invalid::WrongType { field, expected: "a string" },
    })
}

fn shorten(text: &str) -> String {
    const SHOWN_CHARACTERS: usize = 64;
    text.chars().take(SHOWN_CHARACTERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ErrorCode;

    fn rules() -> Rules {
        Rules {
            bucket: "own".to_owned(),
            input_prefixes: Prefixes::parse("datasets/").unwrap(),
            output_prefixes: Prefixes::parse("metrics/").unwrap(),
            body_bytes: 1 << 20,
            expression: expression::Limits::default(),
        }
    }

    fn event() -> Value {
        json!({
            "schema": "metrics.run.v1", "type": "metric_run_requested", "runId": "run-1", "metricCode": "ratio.a_to_b",
            "expressionType": "series_math",
            "expressionJson": { "op": "ratio", "left": { "series_code": "A" }, "right": { "seriesCode": "B" }, "scale": 1 },
            "inputs": [{ "datasetId": "d", "seriesCode": "A" }, { "datasetId": "d", "series_code": "B" }],
            "catalog": { "datasets": { "d": { "manifestPath": "datasets/d/versions/v1/manifest.json",
                                              "projectionsPath": "datasets/d/projections/" } } },
            "output": { "basePath": "s3://bucket/metrics/ratio.a_to_b/" },
            "messageGroupId": "ignored"
        })
    }

    fn with(pointer: &str, value: Value) -> Value {
        let mut event = event();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        let parent = event.pointer_mut(parent).unwrap();
        match parent {
            Value::Array(items) => items[field.parse::<usize>().unwrap()] = value,
            _ => parent[field] = value,
        }
        event
    }

    fn decoded(event: &Value) -> RunRequest {
        decode(&event.to_string(), &rules()).unwrap()
    }

    fn check_invalid(event: &Value, code: ErrorCode, message: &str) {
        let request = decoded(event);
        let error = request.work.unwrap_err();
        assert_eq!((error.code(), error.to_string().as_str()), (code, message));
    }

    fn check_unreadable(body: &str, message: &str) {
        assert_eq!(decode(body, &rules()).unwrap_err().to_string(), message);
    }

    #[test]
    fn a_bare_event_is_read() {
        let request = decoded(&event());
        assert_eq!(request.run.run_id.as_str(), "run-1");
        assert_eq!(request.run.keys.base().as_str(), "metrics/ratio.a_to_b/");
        let work = request.work.unwrap();
        assert_eq!(work.inputs.len(), 2);
        let dataset = work.datasets.values().next().unwrap();
        assert_eq!(dataset.projections.as_str(), "datasets/d/projections/");
    }

    #[test]
    fn a_wrapped_event_is_read_and_its_attributes_override() {
        let wrapped = json!({
            "Type": "Notification", "MessageId": "x", "Message": with("/type", json!("other")).to_string(),
            "MessageAttributes": { "type": { "Type": "String", "Value": "metric_run_requested" },
                                   "metricCode": { "Type": "String", "Value": "other.code" } }
        });
        let request = decoded(&wrapped);
        assert_eq!(request.run.metric_code.as_str(), "other.code");
        let plain = json!({ "Type": "Notification", "Message": event().to_string() });
        assert_eq!(decoded(&plain).run, decoded(&event()).run);
        let odd = json!({ "Type": "Notification", "Message": event().to_string(), "MessageAttributes": [1] });
        assert_eq!(decoded(&odd).run, decoded(&event()).run);
    }

    #[test]
    fn the_digest_is_of_what_is_asked_for() {
        let digest = |event: &Value| decoded(event).run.request_digest;
        let reordered: Value = serde_json::from_str(&event().to_string()).unwrap();
        assert_eq!(digest(&event()), digest(&reordered));
        assert_eq!(digest(&event()), digest(&with("/messageGroupId", json!("other"))));
        assert_eq!(digest(&event()), digest(&with("/expressionJson/scale", json!(1.0))));
        assert_ne!(digest(&event()), digest(&with("/expressionJson/scale", json!(2))));
        assert_ne!(digest(&event()), digest(&with("/output/basePath", json!("metrics/x/"))));
        assert_eq!(digest(&event()).len(), 64);
    }

    #[test]
    fn without_a_run_a_body_is_unreadable() {
        check_unreadable("", "the body is not the JSON object of an event: expected an object");
        check_unreadable("[1]", "the body is not the JSON object of an event: expected an object");
        check_unreadable(
            &with("/type", json!("metric_run_started")).to_string(),
            "type is \"metric_run_started\", expected metric_run_requested",
        );
        check_unreadable(&with("/runId", json!(7)).to_string(), "runId must be a string");
        check_unreadable(
            &with("/metricCode", json!("../x")).to_string(),
            "metricCode \"../x\" may hold only letters, digits and . _ : - and may not be . or ..",
        );
        check_unreadable(
            &json!({ "type": "metric_run_requested", "runId": "r" }).to_string(),
            "missing field metricCode",
        );
        let large = " ".repeat((1 << 20) + 1);
        check_unreadable(&large, "body has 1048577 bytes, at most 1048576 are allowed");
    }

    #[test]
    fn what_contradicts_the_configuration_is_a_config_error() {
        let config = |event: &Value, message: &str| check_invalid(event, ErrorCode::ConfigError, message);
        config(
            &with("/output/basePath", json!("s3://other/metrics/x/")),
            "output.basePath: bucket \"other\" is not this function's bucket \"own\"",
        );
        config(
            &with("/output/basePath", json!("datasets/x/")),
            "output.basePath: datasets/x/ is not under an allowed prefix (metrics/)",
        );
        config(
            &with("/output/basePath", json!("metrics/../x/")),
            "output.basePath: path \"metrics/../x\" has a segment that is empty, . or ..",
        );
        config(&with("/output", Value::Null), "missing field output");
        config(
            &with("/inputs/1", json!({ "datasetId": "e", "seriesCode": "B" })),
            "dataset e of inputs is not in catalog.datasets",
        );
        config(
            &with("/inputs/1", json!({ "datasetId": "e", "seriesCode": "A" })),
            "series A is claimed by two datasets, d and e",
        );
        config(&with("/inputs/1", json!({ "datasetId": "d" })), "missing field inputs[1].seriesCode");
        config(&with("/inputs/1", json!({ "seriesCode": "B" })), "missing field inputs[1].datasetId");
        config(&with("/inputs", json!({})), "inputs must be an array");
        config(
            &with("/catalog/datasets/d/manifestPath", json!("metrics/m.json")),
            "catalog.datasets.d.manifestPath: metrics/m.json is not under an allowed prefix (datasets/)",
        );
        config(
            &with("/catalog/datasets/d/projectionsPath", json!("metrics/")),
            "catalog.datasets.d.projectionsPath: metrics/ is not under an allowed prefix (datasets/)",
        );
        config(&with("/expressionType", json!(1)), "expressionType must be a string");
    }

    #[test]
    fn what_is_wrong_with_the_expression_is_an_expression_error() {
        let evaluation = |event: &Value, message: &str| check_invalid(event, ErrorCode::ExpressionEvalError, message);
        evaluation(
            &with("/expressionType", json!("median")),
            "expressionType is \"median\", expected series_math, window_op or composite",
        );
        evaluation(
            &with("/expressionType", json!("composite")),
            "expressionJson: expressionType says composite, the expression is a series_math at $",
        );
        evaluation(
            &with("/expressionJson/op", json!("pow")),
            "expressionJson: unknown op \"pow\" for series_math, expected one of add, subtract, multiply, ratio at $",
        );
        evaluation(
            &with("/expressionJson/right", json!({ "series_code": "C" })),
            "series C of the expression is not among the inputs",
        );
    }

    #[test]
    fn an_expression_of_any_depth_is_answered_without_a_stack() {
        let depth = 100_000;
        let deep =
            format!("{}{}{}", r#"{"op":"sma","window":1,"series":"#.repeat(depth / 4), "1", "}".repeat(depth / 4));
        let body = event().to_string().replace(&event()["expressionJson"].to_string(), &deep);
        let request = decode(&body, &rules()).unwrap();
        let error = request.work.unwrap_err();
        assert_eq!(error.code(), ErrorCode::ExpressionEvalError);
        assert!(error.to_string().starts_with("expressionJson cannot be read: recursion limit exceeded"), "{error}");
        let ignored = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let body = event().to_string().replace("\"ignored\"", &ignored);
        assert!(decode(&body, &rules()).unwrap().work.is_ok());
    }

    #[test]
    fn a_request_without_a_usable_base_path_still_has_the_place_of_its_marker() {
        let request = decoded(&with("/output/basePath", json!("s3://other/metrics/x/")));
        assert_eq!(request.run.keys.base().as_str(), "metrics/ratio.a_to_b/");
    }
}
