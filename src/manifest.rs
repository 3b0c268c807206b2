//! Manifests: a dataset version's in, a metric version's out; and the two small objects of a run, claim and marker.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::event::ErrorCode;
use crate::ids::{DatasetId, MetricCode, RunId, SeriesCode};
use crate::keys::VersionTs;

/// A digest, as a pattern.
const SHA256_HEX: &str = "^[0-9a-f]{64}$";

/// The most files, and the most series, that a dataset's manifest lists: each takes some hundred bytes of memory, and a
/// version that touched more files than this belongs into fewer.
const MOST_LISTED: usize = 250_000;

/// A version's id becomes part of every lineage.
const MOST_VERSION_ID_BYTES: usize = 256;

/// The parser's own words may hold any text of the manifest.
const MOST_REASON_BYTES: usize = 512;

/// The manifest of a dataset version, as far as a run needs it. Every other field may be null or missing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
pub struct DatasetManifest {
    /// The version.
    #[serde(default, deserialize_with = "version_id")]
    #[schemars(with = "Option<String>", extend("maxLength" = MOST_VERSION_ID_BYTES))]
    pub version_id: Option<String>,
    /// The files that this version touched, relative to the projections folder.
    #[serde(default, deserialize_with = "texts")]
    #[schemars(with = "Option<Vec<String>>", extend("maxItems" = MOST_LISTED))]
    pub parquet_files: Vec<String>,
    /// The series of the dataset.
    #[serde(default, deserialize_with = "texts")]
    #[schemars(with = "Option<Vec<String>>", extend("maxItems" = MOST_LISTED))]
    pub series_codes: Vec<String>,
}

impl DatasetManifest {
    /// Reads a manifest, which is untrusted: what it may hold is limited while it is read.
    ///
    /// # Errors
    /// When it is no JSON object, a field has another type, or a list is too long; in the parser's words.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        // A derived struct would also take its fields from an array, by position.
        if json.trim_ascii_start().first() != Some(&b'{') {
            return Err("expected an object".to_owned());
        }
        serde_json::from_slice(json).map_err(|error| {
            let mut reason = error.to_string();
            reason.truncate(reason.floor_char_boundary(MOST_REASON_BYTES));
            reason
        })
    }
}

fn texts<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<String>, D::Error> {
    input.deserialize_any(Texts)
}

/// A list of texts, or null for none.
struct Texts;

impl<'de> Visitor<'de> for Texts {
    type Value = Vec<String>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of strings")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut texts = Vec::new();
        while let Some(text) = items.next_element()? {
            if texts.len() == MOST_LISTED {
                return Err(serde::de::Error::custom(format!("it lists more than {MOST_LISTED} files or series")));
            }
            texts.push(text);
        }
        Ok(texts)
    }
}

fn version_id<'de, D: Deserializer<'de>>(input: D) -> Result<Option<String>, D::Error> {
    let version_id = Option::<String>::deserialize(input)?;
    match version_id.as_ref().map(String::len) {
        Some(length_bytes) if length_bytes > MOST_VERSION_ID_BYTES => Err(serde::de::Error::custom(format!(
            "version_id has {length_bytes} bytes, at most {MOST_VERSION_ID_BYTES} are allowed"
        ))),
        _ => Ok(version_id),
    }
}

/// The manifest of a metric version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutputManifest {
    /// The run that made the version.
    pub run_id: RunId,
    /// Its metric.
    pub metric_code: MetricCode,
    /// The version.
    pub version_ts: VersionTs,
    /// When the run was first worked on; RFC 3339, UTC.
    #[schemars(extend("format" = "date-time"))]
    pub created_at: String,
    /// Rows, null ones included.
    pub row_count: u64,
    /// Where the rows are.
    pub outputs: Outputs,
    /// What they were computed from.
    pub inputs: Vec<InputLineage>,
}

/// Where a version's rows are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// `data_prefix + "/" + files[i]` is an object key.
    pub data_prefix: String,
    /// File names; `metrics.jsonl` first where it is written.
    #[schemars(length(min = 1))]
    pub files: Vec<String>,
    /// SHA-256 of each file, in hex.
    #[schemars(extend("additionalProperties" = serde_json::json!({ "type": "string", "pattern": SHA256_HEX })))]
    pub sha256: BTreeMap<String, String>,
}

/// What was read of one dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InputLineage {
    /// The dataset.
    pub dataset_id: DatasetId,
    /// The key of its manifest.
    pub manifest_path: String,
    /// The version that the manifest names.
    pub version_id: Option<String>,
    /// What was read of each series.
    pub series: Vec<SeriesLineage>,
}

/// What was read of one series.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SeriesLineage {
    /// The series.
    pub series_code: SeriesCode,
    /// Objects read.
    pub object_count: u64,
    /// SHA-256 over their keys and tags, in hex.
    #[schemars(extend("pattern" = SHA256_HEX))]
    pub objects_digest: String,
}

/// What a reader of a foreign or older metric manifest needs: any of the fields may be missing there.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ManifestHead {
    /// The run that made the version.
    #[serde(default)]
    pub run_id: Option<String>,
    /// The version.
    #[serde(default)]
    pub version_ts: Option<String>,
    /// Rows.
    #[serde(default)]
    pub row_count: Option<u64>,
}

/// Why an output manifest does not validate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} of manifest {key} is {found}, expected {expected}")]
pub struct Invalid {
    /// The manifest's key.
    pub key: String,
    /// The field.
    pub field: &'static str,
    /// What it holds.
    pub found: String,
    /// What it should hold.
    pub expected: String,
}

impl OutputManifest {
    /// Holds the manifest, as stored under `key`, against the run that should have written it.
    ///
    /// # Errors
    /// When it names another run, metric, version or place, or no files.
    pub fn validate(&self, key: &str, expected: &Self) -> Result<(), Invalid> {
        let invalid =
            |field, found: String, expected: String| Err(Invalid { key: key.to_owned(), field, found, expected });
        if self.run_id != expected.run_id {
            return invalid("run_id", self.run_id.to_string(), expected.run_id.to_string());
        }
        if self.metric_code != expected.metric_code {
            return invalid("metric_code", self.metric_code.to_string(), expected.metric_code.to_string());
        }
        if self.version_ts != expected.version_ts {
            return invalid("version_ts", self.version_ts.to_string(), expected.version_ts.to_string());
        }
        if self.row_count != expected.row_count {
            return invalid("row_count", self.row_count.to_string(), expected.row_count.to_string());
        }
        if self.outputs.data_prefix != expected.outputs.data_prefix {
            return invalid("data_prefix", self.outputs.data_prefix.clone(), expected.outputs.data_prefix.clone());
        }
        let has_digests = self.outputs.files.iter().all(|file| self.outputs.sha256.contains_key(file));
        if self.outputs.files.is_empty() || !has_digests || self.outputs.files != expected.outputs.files {
            return invalid("files", format!("{:?}", self.outputs.files), format!("{:?}", expected.outputs.files));
        }
        Ok(())
    }
}

/// A run's claim: its version, fixed when the run is first worked on.
///
/// It is open until it is sealed or failed, by a conditional update. While it is open the version may be moved. Sealing
/// is the run's point of no return: all data of the version is written, its manifest can only be this one, and the run
/// cannot fail any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Claim {
    /// The run.
    pub run_id: RunId,
    /// Its metric.
    pub metric_code: MetricCode,
    /// The run's version.
    pub version_ts: VersionTs,
    /// When the run was first worked on; RFC 3339, UTC.
    #[schemars(extend("format" = "date-time"))]
    pub claimed_at: String,
    /// SHA-256 over the canonical JSON of what was asked for, in hex.
    #[schemars(extend("pattern" = SHA256_HEX))]
    pub request_digest: String,
    /// The manifest that the version will have, once all its data is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<OutputManifest>,
    /// Why the run failed, where it did before it was sealed. Another message may take it up again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Failed>,
}

/// A failure, as a claim keeps it: every delivery of the message publishes the same one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failed {
    /// The SQS message whose delivery failed.
    pub message_id: String,
    /// The code on the wire.
    pub error_code: ErrorCode,
    /// What was wrong, where, and what to do.
    pub error_message: String,
}

/// A run's marker: the run is done, and this is its result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Marker {
    /// The run.
    pub run_id: RunId,
    /// Its metric.
    pub metric_code: MetricCode,
    /// The run's version.
    pub version_ts: VersionTs,
    /// The key of its manifest.
    pub output_manifest: String,
    /// Rows, null ones included.
    pub row_count: u64,
    /// When the run was first marked; RFC 3339, UTC.
    #[schemars(extend("format" = "date-time"))]
    pub completed_at: String,
    /// SHA-256 over the canonical JSON of what was asked for, in hex.
    #[schemars(extend("pattern" = SHA256_HEX))]
    pub request_digest: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dataset_manifest_may_lack_everything_else() {
        let manifest: DatasetManifest = serde_json::from_str(
            r#"{"version_id":"v1","parquet_files":["A/x.parquet"],"series_codes":null,"date_range":null}"#,
        )
        .unwrap();
        assert_eq!(manifest.parquet_files, ["A/x.parquet"]);
        assert!(manifest.series_codes.is_empty());
        assert!(serde_json::from_str::<DatasetManifest>(r#"{"parquet_files":"x"}"#).is_err());
    }

    fn output() -> OutputManifest {
        OutputManifest {
            run_id: RunId::parse("r").unwrap(),
            metric_code: MetricCode::parse("m").unwrap(),
            version_ts: VersionTs::from_unix_seconds(0),
            created_at: "1970-01-01T00:00:00Z".into(),
            row_count: 2,
            outputs: Outputs {
                data_prefix: "metrics/m/1970-01-01T00-00-00/data".into(),
                files: vec!["metrics.jsonl".into()],
                sha256: BTreeMap::from([("metrics.jsonl".into(), "00".into())]),
            },
            inputs: vec![],
        }
    }

    #[test]
    fn a_manifest_of_another_run_does_not_validate() {
        assert_eq!(output().validate("k", &output()), Ok(()));
        let other = OutputManifest { run_id: RunId::parse("s").unwrap(), ..output() };
        assert_eq!(other.validate("k", &output()).unwrap_err().to_string(), "run_id of manifest k is s, expected r");
        let mut without_files = output();
        without_files.outputs.files.clear();
        assert!(without_files.validate("k", &output()).is_err());
    }
}
