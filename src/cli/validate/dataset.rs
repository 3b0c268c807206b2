//! A dataset against its manifest: every object is read as a run would read it, and what a run would pass over in
//! silence (order, duplicates, overlaps, rows of others, objects that it does not see) is told too.

use std::collections::{BTreeMap, BTreeSet};

use futures::stream::{self, StreamExt};
use serde_json::Value;

use super::rows::{self, Span};
use super::{Problem, manifest};
use crate::cli::location::Location;
use crate::cli::lookup::{self, Found};
use crate::cli::progress::Progress;
use crate::ids::{DatasetId, SeriesCode};
use crate::keys::{self, Key};
use crate::manifest::DatasetManifest;
use crate::request::DatasetPaths;
use crate::storage::{self, ByteRange, ObjectMeta};

/// Objects that are read side by side.
const READS_AT_A_TIME: usize = 16;

/// Everything that is wrong with a dataset.
pub(super) async fn problems(dataset_id: &DatasetId, location: &Location) -> anyhow::Result<Vec<Problem>> {
    let mut problems = Vec::new();
    for (dataset_id, key) in lookup::newest(location, Some(dataset_id)).await? {
        let bytes = location.storage.get(&key, ByteRange::Whole, None).await?.bytes;
        // A manifest that cannot be read lists nothing; the objects are looked at all the same.
        let parsed = match serde_json::from_slice::<Value>(&bytes) {
            Ok(json) => {
                problems.extend(manifest::dataset(&json));
                legible(&json)
            }
            Err(error) => {
                problems.push(Problem::new(key.as_str(), format!("no JSON: {error}")));
                DatasetManifest::default()
            }
        };
        let projections = keys::projections(&key, &dataset_id, None)?;
        let paths = DatasetPaths { manifest: key, projections };
        let found = Found { dataset_id, paths, manifest: parsed };
        problems.extend(pointer(&found, location).await?);
        let listed = location.storage.list(&found.paths.projections).await?;
        let files = sorted(&found, &listed);
        problems.extend(against_listing(&found, &listed, &files));
        problems.extend(contents(&found, &files, location).await);
    }
    Ok(problems)
}

/// What can be read of a manifest; an entry that is no text is an empty one, so that the others keep their places.
fn legible(json: &Value) -> DatasetManifest {
    let texts = |field: &str| {
        let items = json[field].as_array().map_or(&[][..], Vec::as_slice);
        items.iter().map(|item| item.as_str().unwrap_or_default().to_owned()).collect()
    };
    DatasetManifest {
        version_id: json["version_id"].as_str().map(str::to_owned),
        parquet_files: texts("parquet_files"),
        series_codes: texts("series_codes"),
    }
}

/// The pointer must name the newest version, where there is one.
async fn pointer(found: &Found, location: &Location) -> anyhow::Result<Vec<Problem>> {
    let key = keys::dataset_current(&location.datasets.folder(found.dataset_id.as_str())?);
    if key == found.paths.manifest {
        return Ok(Vec::new());
    }
    let problem = |problem: String| Ok(vec![Problem::new(key.as_str(), problem)]);
    let current = match location.storage.get(&key, ByteRange::Whole, None).await {
        Ok(object) => DatasetManifest::parse(&object.bytes),
        Err(storage::Error::NotFound { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    match current {
        Err(reason) => problem(format!("no manifest: {reason}")),
        Ok(current) if current.version_id != found.manifest.version_id => {
            let name = |version: Option<String>| version.unwrap_or_else(|| "no version".to_owned());
            problem(format!(
                "names {}, but the newest is {}",
                name(current.version_id),
                name(found.manifest.version_id.clone())
            ))
        }
        Ok(_) => Ok(Vec::new()),
    }
}

/// What the objects of a dataset are to a run.
struct Files<'a> {
    /// In a series' own folder.
    own: Vec<(SeriesCode, &'a ObjectMeta)>,
    /// In none, and listed by the manifest: of many series.
    shared: Vec<&'a ObjectMeta>,
    /// In none, and not listed.
    unseen: Vec<&'a ObjectMeta>,
}

/// Tells the objects apart as the worker's plan does. Where the manifest names no series, a folder that is no part of a
/// partition is one.
fn sorted<'a>(found: &Found, listed: &'a [ObjectMeta]) -> Files<'a> {
    let codes = found.manifest.series_codes.iter().map(String::as_str);
    let named: BTreeSet<&str> = codes.filter(|code| !code.is_empty()).collect();
    let projections = &found.paths.projections;
    let listed_files: BTreeSet<Key> =
        found.manifest.parquet_files.iter().filter_map(|file| projections.join(file).ok()).collect();
    let mut files = Files { own: Vec::new(), shared: Vec::new(), unseen: Vec::new() };
    for meta in listed.iter().filter(|meta| meta.key.is_parquet()) {
        let segments: Vec<&str> = projections.segments_below(&meta.key).collect();
        let folders = &segments[..segments.len() - 1];
        let is_series = |segment: &&&str| match named.is_empty() {
            true => !segment.contains('='),
            false => named.contains(**segment),
        };
        match folders.iter().find(is_series).and_then(|segment| SeriesCode::parse(segment).ok()) {
            Some(code) => files.own.push((code, meta)),
            None if listed_files.contains(&meta.key) => files.shared.push(meta),
            None => files.unseen.push(meta),
        }
    }
    files
}

fn against_listing(found: &Found, listed: &[ObjectMeta], files: &Files<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let keys: BTreeSet<&Key> = listed.iter().map(|meta| &meta.key).collect();
    for (index, file) in found.manifest.parquet_files.iter().enumerate().filter(|(_, file)| !file.is_empty()) {
        let is_there = found.paths.projections.join(file).is_ok_and(|key| keys.contains(&key));
        if !is_there {
            problems.push(Problem::new(format!("$.parquet_files[{index}]"), format!("no object {file}")));
        }
    }
    for meta in &files.unseen {
        let problem = "in no folder of a series that the manifest names, and not among its files: no run reads it";
        problems.push(Problem::new(meta.key.as_str(), problem));
    }
    for meta in listed.iter().filter(|meta| !meta.key.is_parquet()) {
        problems.push(Problem::new(meta.key.as_str(), "no Parquet file: no run reads it"));
    }
    problems
}

async fn contents(found: &Found, files: &Files<'_>, location: &Location) -> Vec<Problem> {
    let mut progress = Progress::stderr("validate", "objects", (files.own.len() + files.shared.len()).max(1));
    let own = files.own.iter().map(|(code, meta)| rows::own(found, code, meta, location));
    let mut own = stream::iter(own).buffered(READS_AT_A_TIME).boxed();
    let (mut problems, mut spans) = (Vec::new(), BTreeMap::<SeriesCode, Vec<Span>>::new());
    let mut take = |read: rows::Read| {
        problems.extend(read.problems);
        for (code, span) in read.spans {
            spans.entry(code).or_default().push(span);
        }
    };
    while let Some(read) = own.next().await {
        take(read);
        progress.step();
    }
    drop(own);
    // One after the other: such a file may be large.
    for meta in &files.shared {
        take(rows::shared(found, meta, location).await);
        progress.step();
    }
    progress.finish();
    for (index, code) in found.manifest.series_codes.iter().enumerate().filter(|(_, code)| !code.is_empty()) {
        let has_rows = SeriesCode::parse(code).is_ok_and(|code| spans.contains_key(&code));
        if !has_rows {
            problems
                .push(Problem::new(format!("$.series_codes[{index}]"), format!("{code} has no row that can be read")));
        }
    }
    problems.extend(rows::overlaps(spans));
    problems
}
