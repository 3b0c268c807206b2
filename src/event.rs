//! What the worker publishes: started, heartbeat and completed, as the control plane reads them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{MetricCode, RunId};
use crate::keys::VersionTs;

/// The schema every event names.
pub const SCHEMA: &str = "metrics.run.v1";

/// Why a run failed, as the control plane stores it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErrorCode {
    /// A manifest or Parquet file is missing, unreadable or over a limit; a series was not found.
    InputReadError,
    /// The expression is malformed or names a series that is not among the inputs.
    ExpressionEvalError,
    /// The store refused a write for good.
    OutputWriteError,
    /// The manifest just written does not validate.
    ManifestValidationError,
    /// The request contradicts the configuration.
    ConfigError,
    /// A bug.
    InternalError,
}

impl ErrorCode {
    /// All codes.
    pub const ALL: [Self; 6] = [
        Self::InputReadError,
        Self::ExpressionEvalError,
        Self::OutputWriteError,
        Self::ManifestValidationError,
        Self::ConfigError,
        Self::InternalError,
    ];

    /// The code on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InputReadError => "INPUT_READ_ERROR",
            Self::ExpressionEvalError => "EXPRESSION_EVAL_ERROR",
            Self::OutputWriteError => "OUTPUT_WRITE_ERROR",
            Self::ManifestValidationError => "MANIFEST_VALIDATION_ERROR",
            Self::ConfigError => "CONFIG_ERROR",
            Self::InternalError => "INTERNAL_ERROR",
        }
    }
}

/// An event about a run.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum Event {
    /// The worker began to work on the run.
    MetricRunStarted {
        /// Names this schema.
        #[schemars(extend("const" = SCHEMA))]
        schema: &'static str,
        /// The run.
        run_id: RunId,
        /// Its metric.
        metric_code: MetricCode,
        /// RFC 3339, UTC, whole seconds.
        #[schemars(extend("format" = "date-time"))]
        started_at: String,
    },
    /// The worker is still working on the run.
    MetricRunHeartbeat {
        /// Names this schema.
        #[schemars(extend("const" = SCHEMA))]
        schema: &'static str,
        /// The run.
        run_id: RunId,
        /// Its metric.
        metric_code: MetricCode,
        /// 0 to 1; never falls within an attempt.
        #[schemars(range(min = 0.0, max = 1.0))]
        progress: f64,
        /// RFC 3339, UTC, whole seconds.
        #[schemars(extend("format" = "date-time"))]
        ts: String,
    },
    /// The run ended.
    MetricRunCompleted {
        /// Names this schema.
        #[schemars(extend("const" = SCHEMA))]
        schema: &'static str,
        /// The run.
        run_id: RunId,
        /// Its metric.
        metric_code: MetricCode,
        /// How it ended, and what it left.
        #[serde(flatten)]
        outcome: Outcome,
    },
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "status", rename_all = "SCREAMING_SNAKE_CASE", rename_all_fields = "camelCase")]
pub enum Outcome {
    /// The version is committed.
    Success {
        /// The version.
        version_ts: VersionTs,
        /// The key of its manifest.
        output_manifest: String,
        /// The same as a URI.
        output_manifest_uri: String,
        /// Rows, null ones included.
        row_count: u64,
    },
    /// There is no version, and there will be none without a new request or a redrive.
    Failure {
        /// Code and message as one text: the existing control plane stores it so.
        error: String,
        /// The code.
        error_code: ErrorCode,
        /// What was wrong, where, and what to do.
        error_message: String,
    },
}

impl Event {
    /// The run.
    #[must_use]
    pub fn run_id(&self) -> &RunId {
        match self {
            Self::MetricRunStarted { run_id, .. }
            | Self::MetricRunHeartbeat { run_id, .. }
            | Self::MetricRunCompleted { run_id, .. } => run_id,
        }
    }

    /// Its metric.
    #[must_use]
    pub fn metric_code(&self) -> &MetricCode {
        match self {
            Self::MetricRunStarted { metric_code, .. }
            | Self::MetricRunHeartbeat { metric_code, .. }
            | Self::MetricRunCompleted { metric_code, .. } => metric_code,
        }
    }

    /// The type on the wire.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::MetricRunStarted { .. } => "metric_run_started",
            Self::MetricRunHeartbeat { .. } => "metric_run_heartbeat",
            Self::MetricRunCompleted { .. } => "metric_run_completed",
        }
    }

    /// A failure, with the code and message in every form that readers expect.
    #[must_use]
    pub fn failure(run_id: RunId, metric_code: MetricCode, error_code: ErrorCode, error_message: String) -> Self {
        let error = format!("{}: {error_message}", error_code.as_str());
        let outcome = Outcome::Failure { error, error_code, error_message };
        Self::MetricRunCompleted { schema: SCHEMA, run_id, metric_code, outcome }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn ids() -> (RunId, MetricCode) {
        (RunId::parse("r").unwrap(), MetricCode::parse("m").unwrap())
    }

    fn check(event: &Event, expected: &Value) {
        assert_eq!(&serde_json::to_value(event).unwrap(), expected);
        assert_eq!(event.type_name(), expected["type"]);
    }

    #[test]
    fn events_are_as_the_control_plane_reads_them() {
        let (run_id, metric_code) = ids();
        let started = Event::MetricRunStarted {
            schema: SCHEMA,
            run_id: run_id.clone(),
            metric_code: metric_code.clone(),
            started_at: "2025-01-15T10:30:10Z".into(),
        };
        check(
            &started,
            &json!({"schema":"metrics.run.v1","type":"metric_run_started","runId":"r","metricCode":"m","startedAt":"2025-01-15T10:30:10Z"}),
        );
        let outcome = Outcome::Success {
            version_ts: VersionTs::parse("2025-01-15T10-30-00").unwrap(),
            output_manifest: "metrics/m/2025-01-15T10-30-00/manifest.json".into(),
            output_manifest_uri: "s3://b/metrics/m/2025-01-15T10-30-00/manifest.json".into(),
            row_count: 0,
        };
        let completed = Event::MetricRunCompleted {
            schema: SCHEMA,
            run_id: run_id.clone(),
            metric_code: metric_code.clone(),
            outcome,
        };
        check(
            &completed,
            &json!({"schema":"metrics.run.v1","type":"metric_run_completed","runId":"r","metricCode":"m","status":"SUCCESS",
                "versionTs":"2025-01-15T10-30-00","outputManifest":"metrics/m/2025-01-15T10-30-00/manifest.json",
                "outputManifestUri":"s3://b/metrics/m/2025-01-15T10-30-00/manifest.json","rowCount":0}),
        );
        let failed = Event::failure(run_id, metric_code, ErrorCode::InputReadError, "no series X in dataset Y".into());
        check(
            &failed,
            &json!({"schema":"metrics.run.v1","type":"metric_run_completed","runId":"r","metricCode":"m","status":"FAILURE",
                "error":"INPUT_READ_ERROR: no series X in dataset Y","errorCode":"INPUT_READ_ERROR","errorMessage":"no series X in dataset Y"}),
        );
    }

    #[test]
    fn a_code_reads_on_the_wire_as_it_does_in_the_code() {
        for code in ErrorCode::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }
}
