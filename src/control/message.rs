//! A record's body, bare or SNS-wrapped, becomes one of the four messages that the control plane handles. Pure.
//!
//! Every field is read in both spellings, `runId` and `run_id`; fields that nobody knows are ignored. What is read is
//! kept as it was understood, not as it was written: nothing gets into the database that was not checked.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::instant::Instant;
use super::rejection::Rejection;
use crate::ids::{DatasetId, MetricCode, RunId};
use crate::keys::{self, Key, Prefix};
use crate::request::{self, Rules, Unreadable};

/// An error text is read by a person: what is longer than this is cut.
const MAX_ERROR_BYTES: usize = 16 * 1024;

/// The longest text of a version or an error code.
const MAX_TEXT_BYTES: usize = 1_024;

/// What comes in.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// A dataset has a new version.
    ProjectionUpdate(ProjectionUpdate),
    /// A worker began to work on a run.
    Started(Started),
    /// A worker still works on a run.
    Heartbeat(Heartbeat),
    /// A run ended.
    Completed(Completed),
}

/// A dataset has a new version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectionUpdate {
    /// The dataset.
    pub dataset_id: DatasetId,
    /// The manifest of the version, without a bucket.
    pub manifest: Key,
    /// The folder of its projections, without a bucket.
    pub projections: Prefix,
}

/// A worker began to work on a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// The run.
    pub run_id: RunId,
    /// Its metric.
    pub metric_code: MetricCode,
    /// When, where the message says it.
    pub started_at: Option<Instant>,
}

/// A worker still works on a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Heartbeat {
    /// The run.
    pub run_id: RunId,
    /// Its metric.
    pub metric_code: MetricCode,
    /// From 0 to 1.
    pub progress: Option<f64>,
    /// When, where the message says it.
    pub ts: Option<Instant>,
}

/// A run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completed {
    /// The run.
    pub run_id: RunId,
    /// Its metric.
    pub metric_code: MetricCode,
    /// How.
    pub ending: Ending,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Its version is committed.
    Success {
        /// The version.
        version_ts: Option<String>,
        /// The key of its manifest.
        output_manifest: Option<String>,
        /// Rows; 0 is a number of rows.
        row_count: Option<i64>,
    },
    /// There is no version.
    Failure {
        /// What happened.
        error: Option<String>,
        /// Its code.
        error_code: Option<String>,
    },
}

impl ProjectionUpdate {
    /// What makes the update this update.
    #[must_use]
    pub fn event_key(&self) -> String {
        format!("{}:{}", self.dataset_id, self.manifest)
    }
}

/// Reads a record's body.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn decode(body: &str, rules: &Rules) -> Result<Message, Rejection> {
    let unwrapped = request::unwrap(body, rules.body_bytes)?;
    let json: Value = serde_json::from_str(&unwrapped.event)
        .map_err(|error| Unreadable::NotAnEvent { what: unwrapped.what, reason: error.to_string() })?;
    let Value::Object(mut fields) = json else {
        return Err(Unreadable::NotAnEvent { what: unwrapped.what, reason: "expected an object".to_owned() }.into());
    };
    if let Some(metric_code) = unwrapped.metric_code {
        fields.insert("metricCode".to_owned(), metric_code.into());
    }
    let fields = Fields(fields);
    let kind = match unwrapped.kind {
        Some(kind) => kind,
        None => fields.required_text("type", "event")?,
    };
    match kind.as_str() {
        "projection_update" => projection_update(&fields, rules).map(Message::ProjectionUpdate),
        "metric_run_started" => started(&fields).map(Message::Started),
        "metric_run_heartbeat" => heartbeat(&fields).map(Message::Heartbeat),
        "metric_run_completed" => completed(&fields).map(Message::Completed),
        other => Err(Rejection::UnknownEvent { found: other.chars().take(64).collect() }),
    }
}

impl Message {
    /// Its type on the wire.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::ProjectionUpdate(_) => "projection_update",
            Self::Started(_) => "metric_run_started",
            Self::Heartbeat(_) => "metric_run_heartbeat",
            Self::Completed(_) => "metric_run_completed",
        }
    }

    /// The message as it was understood, for the log of events.
    #[must_use]
    pub fn payload(&self) -> Value {
        match self {
            Self::ProjectionUpdate(update) => json!({
                "dataset_id": update.dataset_id, "version_manifest_path": update.manifest.as_str(),
                "projections_path": update.projections.as_str() }),
            Self::Started(Started { run_id, metric_code, started_at }) => {
                json!({ "runId": run_id, "metricCode": metric_code, "startedAt": started_at })
            }
            Self::Heartbeat(Heartbeat { run_id, metric_code, progress, ts }) => {
                json!({ "runId": run_id, "metricCode": metric_code, "progress": progress, "ts": ts })
            }
            Self::Completed(Completed { run_id, metric_code, ending }) => match ending {
                Ending::Success { version_ts, output_manifest, row_count } => {
                    json!({ "runId": run_id, "metricCode": metric_code, "status": "SUCCESS", "versionTs": version_ts,
                        "outputManifest": output_manifest, "rowCount": row_count })
                }
                Ending::Failure { error, error_code } => {
                    json!({ "runId": run_id, "metricCode": metric_code, "status": "FAILURE", "error": error,
                        "errorCode": error_code })
                }
            },
        }
    }

    /// What makes the message this message: delivered twice, it has the same key.
    #[must_use]
    pub fn event_key(&self) -> String {
        match self {
            Self::ProjectionUpdate(update) => format!("{}:{}", self.type_name(), update.event_key()),
            Self::Started(_) | Self::Heartbeat(_) | Self::Completed(_) => {
                let digest = hex::encode(Sha256::digest(self.payload().to_string()));
                format!("{}:{digest}", self.type_name())
            }
        }
    }
}

fn projection_update(fields: &Fields, rules: &Rules) -> Result<ProjectionUpdate, Rejection> {
    const MANIFEST: &str = "version_manifest_path";
    const PROJECTIONS: &str = "projections_path";
    let dataset_id = DatasetId::parse(&fields.required_text("dataset_id", "datasetId")?)?;
    if let Some(found) = fields.text("bucket", "bucket")?
        && found != rules.bucket
    {
        let found = found.chars().take(64).collect();
        return Err(Rejection::ForeignBucket { found, own: rules.bucket.clone() });
    }
    let path = |field| move |source| Rejection::Path { field, source };
    let manifest = fields.required_text(MANIFEST, "versionManifestPath")?;
    let manifest = keys::without_bucket(&manifest, &rules.bucket)
        .and_then(Key::parse)
        .and_then(|key| rules.input_prefixes.confine(key))
        .map_err(path(MANIFEST))?;
    let projections = fields.text(PROJECTIONS, "projectionsPath")?;
    let projections = projections.as_deref().map(|path| keys::without_bucket(path, &rules.bucket));
    let projections = projections
        .transpose()
        .and_then(|path| keys::projections(&manifest, &dataset_id, path))
        .and_then(|prefix| rules.input_prefixes.confine(prefix))
        .map_err(path(PROJECTIONS))?;
    Ok(ProjectionUpdate { dataset_id, manifest, projections })
}

fn started(fields: &Fields) -> Result<Started, Rejection> {
    let (run_id, metric_code) = fields.run()?;
    Ok(Started { run_id, metric_code, started_at: fields.instant("startedAt", "started_at")? })
}

fn heartbeat(fields: &Fields) -> Result<Heartbeat, Rejection> {
    let (run_id, metric_code) = fields.run()?;
    let progress = match fields.get("progress", "progress") {
        None => None,
        Some(value) => {
            let progress = value.as_f64().filter(|progress| (0.0..=1.0).contains(progress));
            Some(progress.ok_or(Rejection::Malformed { field: "progress", expected: "a number from 0 to 1" })?)
        }
    };
    Ok(Heartbeat { run_id, metric_code, progress, ts: fields.instant("ts", "ts")? })
}

fn completed(fields: &Fields) -> Result<Completed, Rejection> {
    let (run_id, metric_code) = fields.run()?;
    let ending = match fields.required_text("status", "status")?.as_str() {
        "SUCCESS" => Ending::Success {
            version_ts: fields.text("versionTs", "version_ts")?,
            output_manifest: fields.text("outputManifest", "output_manifest")?,
            row_count: fields.row_count()?,
        },
        "FAILURE" => failure(fields)?,
        _ => return Err(Rejection::Malformed { field: "status", expected: "SUCCESS or FAILURE" }),
    };
    Ok(Completed { run_id, metric_code, ending })
}

/// `error` is a text, or an object with a code and a message of its own.
fn failure(fields: &Fields) -> Result<Ending, Rejection> {
    let error = fields.get("error", "error");
    let (error, code_within) = match error {
        None => (None, None),
        Some(Value::String(text)) => (Some(text.clone()), None),
        Some(object @ Value::Object(within)) => {
            let code = within.get("code").or_else(|| within.get("errorCode")).and_then(Value::as_str);
            (Some(object.to_string()), code.map(str::to_owned))
        }
        Some(_) => return Err(Rejection::Malformed { field: "error", expected: "a string or an object" }),
    };
    let error = match error {
        Some(error) => Some(error),
        None => fields.long_text("errorMessage", "error_message")?,
    };
    let error_code = match fields.text("errorCode", "error_code")? {
        Some(code) => Some(code),
        None => code_within.map(|code| storable(&code, MAX_TEXT_BYTES)),
    };
    Ok(Ending::Failure { error: error.map(|error| storable(&error, MAX_ERROR_BYTES)), error_code })
}

/// The text as a database can keep it: without NUL, and not longer than this.
fn storable(text: &str, max_bytes: usize) -> String {
    let mut text = text.replace('\0', "\u{fffd}");
    text.truncate(text.floor_char_boundary(max_bytes));
    text
}

/// The fields of an event.
struct Fields(Map<String, Value>);

impl Fields {
    /// The value in either spelling; null counts as missing.
    fn get(&self, name: &str, other: &str) -> Option<&Value> {
        let present = |name: &str| self.0.get(name).filter(|value| !value.is_null());
        present(name).or_else(|| present(other))
    }

    fn long_text(&self, field: &'static str, other: &str) -> Result<Option<String>, Rejection> {
        match self.get(field, other) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(Rejection::Malformed { field, expected: "a string" }),
        }
    }

    fn text(&self, field: &'static str, other: &str) -> Result<Option<String>, Rejection> {
        let text = self.long_text(field, other)?;
        let is_storable = |text: &String| text.len() <= MAX_TEXT_BYTES && !text.contains('\0');
        if !text.as_ref().is_none_or(is_storable) {
            return Err(Rejection::Malformed { field, expected: "a string of at most 1024 bytes without NUL" });
        }
        Ok(text)
    }

    fn required_text(&self, field: &'static str, other: &str) -> Result<String, Rejection> {
        self.text(field, other)?.ok_or(Rejection::Missing { field })
    }

    fn run(&self) -> Result<(RunId, MetricCode), Rejection> {
        let run_id = RunId::parse(&self.required_text("runId", "run_id")?)?;
        Ok((run_id, MetricCode::parse(&self.required_text("metricCode", "metric_code")?)?))
    }

    fn instant(&self, field: &'static str, other: &str) -> Result<Option<Instant>, Rejection> {
        let Some(text) = self.text(field, other)? else { return Ok(None) };
        let instant = text.parse().map(Instant);
        instant.map(Some).map_err(|_| Rejection::Malformed { field, expected: "a time such as 2025-01-15T10:30:10Z" })
    }

    fn row_count(&self) -> Result<Option<i64>, Rejection> {
        const REJECTION: Rejection = Rejection::Malformed { field: "rowCount", expected: "an integer of at least 0" };
        match self.get("rowCount", "row_count") {
            None => Ok(None),
            Some(value) => value.as_i64().filter(|count| *count >= 0).map(Some).ok_or(REJECTION),
        }
    }
}
