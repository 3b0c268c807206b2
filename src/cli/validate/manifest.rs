//! Every problem of a manifest: field by field, so that one that is wrong hides no other.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Problem;
use crate::ids::{DatasetId, MetricCode, RunId, SeriesCode};
use crate::keys::{Prefix, VersionTs};
use crate::manifest::{DatasetManifest, OutputManifest};

/// Everything that is wrong with a dataset's manifest by itself.
pub(super) fn dataset(json: &Value) -> Vec<Problem> {
    if !json.is_object() {
        return vec![Problem::new("$", "must be an object")];
    }
    let mut problems = Vec::new();
    for name in ["version_id", "dataset_id"] {
        if !matches!(json[name], Value::Null | Value::String(_)) {
            problems.push(Problem::new(format!("$.{name}"), format!("must be a string, found {}", json[name])));
        }
    }
    let files = texts(json, "parquet_files", &mut problems);
    let codes = texts(json, "series_codes", &mut problems);
    // What is left is about the whole: a list or an id that is too long.
    if problems.is_empty()
        && let Err(reason) = DatasetManifest::parse(json.to_string().as_bytes())
    {
        problems.push(Problem::new("$", reason));
    }
    for (place, file) in &files {
        match Prefix::parse("projections").and_then(|folder| folder.join(file)) {
            Err(error) => problems.push(Problem::new(place, error)),
            Ok(key) if !key.is_parquet() => problems.push(Problem::new(place, format!("{file:?} is no .parquet file"))),
            Ok(_) => {}
        }
    }
    for (place, code) in &codes {
        if let Err(error) = SeriesCode::parse(code) {
            problems.push(Problem::new(place, error));
        }
    }
    problems.extend(twice(&files));
    problems.extend(twice(&codes));
    if let Some(count) = json["series_count"].as_u64()
        && !codes.is_empty()
        && count != codes.len() as u64
    {
        problems.push(Problem::new("$.series_count", format!("is {count}, but series_codes has {}", codes.len())));
    }
    problems
}

/// The texts of a list with their places; null and nothing are an empty list.
fn texts<'a>(json: &'a Value, field: &str, problems: &mut Vec<Problem>) -> Vec<(String, &'a str)> {
    let place = |index: usize| format!("$.{field}[{index}]");
    let mut texts = Vec::new();
    match &json[field] {
        Value::Null => {}
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                match item.as_str() {
                    Some(text) => texts.push((place(index), text)),
                    None => problems.push(Problem::new(place(index), format!("must be a string, found {item}"))),
                }
            }
        }
        _ => problems.push(Problem::new(format!("$.{field}"), "must be a list of strings")),
    }
    texts
}

fn twice(texts: &[(String, &str)]) -> Vec<Problem> {
    let mut seen = BTreeSet::new();
    let repeated = texts.iter().filter(|(_, text)| !seen.insert(*text));
    repeated.map(|(place, text)| Problem::new(place, format!("{text:?} is listed before"))).collect()
}

/// Everything that is wrong with a metric's manifest.
pub(super) fn output(json: &Value) -> Vec<Problem> {
    let mut problems = Vec::new();
    field::<RunId>(json, "/run_id", &mut problems);
    field::<MetricCode>(json, "/metric_code", &mut problems);
    field::<VersionTs>(json, "/version_ts", &mut problems);
    let created_at = field::<String>(json, "/created_at", &mut problems);
    if let Some(text) = created_at.filter(|text| text.parse::<jiff::Timestamp>().is_err()) {
        problems.push(Problem::new("$.created_at", format!("{text:?} is no time of RFC 3339")));
    }
    field::<u64>(json, "/row_count", &mut problems);
    let data_prefix = field::<String>(json, "/outputs/data_prefix", &mut problems).unwrap_or_default();
    let files = field::<Vec<String>>(json, "/outputs/files", &mut problems);
    let digests = field::<BTreeMap<String, String>>(json, "/outputs/sha256", &mut problems);
    let inputs = field::<Vec<Value>>(json, "/inputs", &mut problems).unwrap_or_default();
    for index in 0..inputs.len() {
        field::<DatasetId>(json, &format!("/inputs/{index}/dataset_id"), &mut problems);
        field::<String>(json, &format!("/inputs/{index}/manifest_path"), &mut problems);
        let series = field::<Vec<Value>>(json, &format!("/inputs/{index}/series"), &mut problems).unwrap_or_default();
        for series_index in 0..series.len() {
            let place = format!("/inputs/{index}/series/{series_index}");
            field::<SeriesCode>(json, &format!("{place}/series_code"), &mut problems);
            field::<u64>(json, &format!("{place}/object_count"), &mut problems);
            field::<String>(json, &format!("{place}/objects_digest"), &mut problems);
        }
    }
    for (name, digest) in digests.iter().flatten() {
        let is_digest = digest.len() == 64 && digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !is_digest {
            problems.push(Problem::new(format!("$.outputs.sha256.{name}"), format!("{digest:?} is no SHA-256 in hex")));
        }
    }
    for (index, file) in files.iter().flatten().enumerate() {
        let place = format!("$.outputs.files[{index}]");
        if let Err(error) = Prefix::parse(&data_prefix).and_then(|folder| folder.join(file)) {
            problems.push(Problem::new(&place, error));
        }
        if digests.as_ref().is_some_and(|digests| !digests.contains_key(file)) {
            problems.push(Problem::new("$.outputs.sha256", format!("no digest of {file}")));
        }
    }
    if files.is_some_and(|files| files.is_empty()) {
        problems.push(Problem::new("$.outputs.files", "no files"));
    }
    if problems.is_empty()
        && let Err(error) = serde_json::from_value::<OutputManifest>(json.clone())
    {
        problems.push(Problem::new("$", error));
    }
    problems
}

/// The field, where it is what it has to be.
fn field<T: DeserializeOwned>(json: &Value, pointer: &str, problems: &mut Vec<Problem>) -> Option<T> {
    match json.pointer(pointer) {
        None => {
            problems.push(Problem::new(path(pointer), "is missing"));
            None
        }
        Some(value) => match serde_json::from_value(value.clone()) {
            Ok(value) => Some(value),
            Err(error) => {
                problems.push(Problem::new(path(pointer), error));
                None
            }
        },
    }
}

/// `/inputs/0/series` as `$.inputs[0].series`.
fn path(pointer: &str) -> String {
    let segments = pointer.split('/').skip(1).map(|segment| match segment.parse::<usize>() {
        Ok(index) => format!("[{index}]"),
        Err(_) => format!(".{segment}"),
    });
    format!("${}", segments.collect::<String>())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lines(problems: &[Problem]) -> Vec<String> {
        problems.iter().map(|one| format!("{}: {}", one.place, one.problem)).collect()
    }

    #[test]
    fn every_problem_of_a_dataset_s_manifest_is_found() {
        let json = json!({
            "version_id": 5, "series_count": 3, "series_codes": ["A", "a b", "A", null],
            "parquet_files": ["A/x.parquet", 7, "../x.parquet", "A/notes.txt", "A/x.parquet"],
        });
        insta::assert_snapshot!(lines(&dataset(&json)).join("\n"));
        assert_eq!(lines(&dataset(&json!([]))), ["$: must be an object"]);
        assert!(dataset(&json!({ "parquet_files": null })).is_empty());
    }

    #[test]
    fn every_problem_of_a_metric_s_manifest_is_found() {
        let json = json!({
            "run_id": "r", "metric_code": "a b", "version_ts": "yesterday", "row_count": -1,
            "outputs": { "data_prefix": "metrics/m/v/data", "files": ["metrics.jsonl", "../x"], "sha256": { "metrics.jsonl": "0" } },
            "inputs": [{ "dataset_id": "d", "manifest_path": 1, "series": [{ "series_code": "A", "object_count": 1 }] }],
        });
        insta::assert_snapshot!(lines(&output(&json)).join("\n"));
    }
}
