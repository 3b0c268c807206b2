//! Which dataset has which series: an expression in, the work of a run over the newest versions out.

use std::collections::BTreeMap;

use anyhow::{Context, anyhow, bail};

use super::location::Location;
use super::progress::Waiting;
use crate::expression::Expr;
use crate::ids::{DatasetId, SeriesCode};
use crate::keys::{self, Key};
use crate::manifest::DatasetManifest;
use crate::request::{DatasetPaths, Work};
use crate::storage::ByteRange;

/// A dataset in its newest version.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) dataset_id: DatasetId,
    pub(super) paths: DatasetPaths,
    pub(super) manifest: DatasetManifest,
}

/// The datasets of a location: the one that is named, or all of them.
///
/// # Errors
/// When there is none, or a manifest cannot be read.
pub(super) async fn datasets(location: &Location, only: Option<&DatasetId>) -> anyhow::Result<Vec<Found>> {
    let _waiting = Waiting::stderr(format!("looking for datasets in {}", location.name()));
    let mut found = Vec::new();
    for (dataset_id, manifest) in newest(location, only).await? {
        let object = location.storage.get(&manifest, ByteRange::Whole, None).await?;
        let parsed = DatasetManifest::parse(&object.bytes);
        let parsed = parsed.map_err(|reason| anyhow!("{manifest} is no manifest of a dataset: {reason}"))?;
        let projections = keys::projections(&manifest, &dataset_id, None)?;
        found.push(Found { dataset_id, paths: DatasetPaths { manifest, projections }, manifest: parsed });
    }
    Ok(found)
}

/// The newest manifest of the one dataset, or of each.
///
/// # Errors
/// When there is none, or the location cannot be listed.
pub(super) async fn newest(location: &Location, only: Option<&DatasetId>) -> anyhow::Result<BTreeMap<DatasetId, Key>> {
    let root = match only {
        Some(dataset_id) => location.datasets.folder(dataset_id.as_str())?.folder("versions")?,
        None => location.datasets.clone(),
    };
    let listed = location.storage.list(&root).await.with_context(|| location.name())?;
    let mut keys: Vec<Key> = listed.into_iter().map(|meta| meta.key).collect();
    if let Some(dataset_id) = only {
        // Older datasets have one version, which is the current one.
        let current = location.datasets.folder(dataset_id.as_str())?.folder("current")?;
        keys.extend(location.storage.list(&current).await?.into_iter().map(|meta| meta.key));
    }
    let newest = newest_manifests(&keys, location);
    if newest.is_empty() {
        bail!(
            "no dataset under {root} in {}: no manifest of a version; metrics dataset build makes one",
            location.name()
        );
    }
    Ok(newest)
}

/// The manifest of each dataset's newest version; versions are named by their time.
fn newest_manifests(keys: &[Key], location: &Location) -> BTreeMap<DatasetId, Key> {
    let mut newest: BTreeMap<DatasetId, (String, Key)> = BTreeMap::new();
    for key in keys {
        let segments: Vec<&str> = location.datasets.segments_below(key).collect();
        let (dataset_id, version) = match segments.as_slice() {
            [dataset_id, "versions", version, "manifest.json"] => (dataset_id, *version),
            [dataset_id, "current", "manifest.json"] => (dataset_id, ""),
            _ => continue,
        };
        let Ok(dataset_id) = DatasetId::parse(dataset_id) else { continue };
        let is_newer = newest.get(&dataset_id).is_none_or(|(other, _)| other.as_str() < version);
        if is_newer {
            newest.insert(dataset_id, (version.to_owned(), key.clone()));
        }
    }
    newest.into_iter().map(|(dataset_id, (_, key))| (dataset_id, key)).collect()
}

/// The work of an expression over these datasets.
///
/// # Errors
/// When no dataset has one of its series, or several have.
pub(super) async fn work(expression: &Expr, datasets: &[Found], location: &Location) -> anyhow::Result<Work> {
    let (mut inputs, mut paths) = (BTreeMap::new(), BTreeMap::new());
    for series_code in expression.series_codes() {
        let dataset = dataset_of(series_code, datasets, location).await?;
        inputs.insert(series_code.clone(), dataset.dataset_id.clone());
        paths.insert(dataset.dataset_id.clone(), dataset.paths.clone());
    }
    Ok(Work { expression: expression.clone(), inputs, datasets: paths })
}

async fn dataset_of<'a>(
    series_code: &SeriesCode,
    datasets: &'a [Found],
    location: &Location,
) -> anyhow::Result<&'a Found> {
    let names = |found: &&Found| found.manifest.series_codes.iter().any(|code| code == series_code.as_str());
    let mut having: Vec<&Found> = datasets.iter().filter(names).collect();
    if having.is_empty() {
        // A manifest may name no series: then the folders tell.
        for found in datasets {
            let folder = found.paths.projections.folder(series_code.as_str())?;
            if !location.storage.list(&folder).await?.is_empty() {
                having.push(found);
            }
        }
    }
    match having.as_slice() {
        [one] => Ok(one),
        [] => bail!("no dataset has a series {series_code}{}", similar(series_code, datasets)),
        [one, other, ..] => bail!(
            "series {series_code} is in two datasets, {} and {}: say which with --dataset",
            one.dataset_id,
            other.dataset_id
        ),
    }
}

/// The series that may have been meant: those that the code is a part of.
fn similar(series_code: &SeriesCode, datasets: &[Found]) -> String {
    const MOST_SHOWN: usize = 5;
    let wanted = series_code.as_str().to_ascii_lowercase();
    let all = datasets.iter().flat_map(|found| &found.manifest.series_codes);
    let similar: Vec<&str> =
        all.filter(|code| code.to_ascii_lowercase().contains(&wanted)).take(MOST_SHOWN).map(String::as_str).collect();
    if similar.is_empty() { String::new() } else { format!("; there is {}", similar.join(", ")) }
}
