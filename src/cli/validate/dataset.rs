//! A dataset against its manifest: every object is read as a run would read it, one at a time, and what a run would
//! pass over in silence (duplicates, overlaps, rows of others) is told too.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;

use super::{Problem, entries};
use crate::cli::axis::civil;
use crate::cli::location::Location;
use crate::cli::lookup::{self, Found};
use crate::cli::progress::Progress;
use crate::ids::{DatasetId, SeriesCode};
use crate::keys::Key;
use crate::series::TimeNs;
use crate::storage::ObjectMeta;
use crate::worker;
use crate::worker::plan::{Content, PlannedObject, PlannedSeries, ReadPlan};

/// Everything that is wrong with a dataset.
pub(super) async fn problems(dataset_id: &DatasetId, location: &Location) -> anyhow::Result<Vec<Problem>> {
    let found = lookup::datasets(location, Some(dataset_id)).await?;
    let mut problems = Vec::new();
    for found in &found {
        let listed = location.storage.list(&found.paths.projections).await?;
        problems.extend(entries(&found.manifest));
        problems.extend(against_listing(found, &listed));
        problems.extend(contents(found, &listed, location).await);
    }
    Ok(problems)
}

fn against_listing(found: &Found, listed: &[ObjectMeta]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let keys: BTreeSet<&Key> = listed.iter().map(|meta| &meta.key).collect();
    for (index, file) in found.manifest.parquet_files.iter().enumerate() {
        let is_there = found.paths.projections.join(file).is_ok_and(|key| keys.contains(&key));
        if !is_there {
            problems.push(Problem::new(format!("$.parquet_files[{index}]"), format!("no object {file}")));
        }
    }
    let folders: BTreeSet<&str> =
        keys.iter().filter_map(|key| found.paths.projections.segments_below(key).next()).collect();
    for (index, code) in found.manifest.series_codes.iter().enumerate() {
        if !folders.contains(code.as_str()) {
            problems.push(Problem::new(format!("$.series_codes[{index}]"), format!("{code} has no folder")));
        }
    }
    for meta in listed.iter().filter(|meta| !meta.key.is_parquet()) {
        problems.push(Problem::new(meta.key.as_str(), "no Parquet file: no run reads it"));
    }
    problems
}

/// From the first to the last time of an object.
type Span = (TimeNs, TimeNs, String);

async fn contents(found: &Found, listed: &[ObjectMeta], location: &Location) -> Vec<Problem> {
    let objects: Vec<&ObjectMeta> = listed.iter().filter(|meta| meta.key.is_parquet()).collect();
    let mut progress = Progress::stderr("validate", "objects", objects.len().max(1));
    let (mut problems, mut spans) = (Vec::new(), BTreeMap::<String, Vec<Span>>::new());
    for meta in objects {
        let folder = found.paths.projections.segments_below(&meta.key).next().unwrap_or_default().to_owned();
        let is_known = found.manifest.series_codes.is_empty() || found.manifest.series_codes.contains(&folder);
        match SeriesCode::parse(&folder) {
            Ok(code) if is_known => {
                if let Some(span) = object(found, code, meta, location, &mut problems).await {
                    spans.entry(folder).or_default().push(span);
                }
            }
            _ => problems.push(Problem::new(meta.key.as_str(), format!("{folder} is no series of the manifest"))),
        }
        progress.step();
    }
    progress.finish();
    problems.extend(overlaps(spans));
    problems
}

async fn object(
    found: &Found,
    series_code: SeriesCode,
    meta: &ObjectMeta,
    location: &Location,
    problems: &mut Vec<Problem>,
) -> Option<Span> {
    let place = meta.key.as_str();
    let planned = PlannedObject {
        key: meta.key.clone(),
        size_bytes: Some(meta.size_bytes),
        etag: Some(meta.etag.clone()),
        content: Content::Own(0),
    };
    let series = PlannedSeries { dataset_id: found.dataset_id.clone(), series_code };
    let plan = ReadPlan { series: vec![series], objects: vec![planned] };
    let outcome = match worker::read_planned(&plan, &*location.storage, &location.config, &|_| ()).await {
        Ok(outcome) => outcome,
        Err(error) => {
            problems.push(Problem::new(place, error));
            return None;
        }
    };
    let read = outcome.series.first()?;
    for (count, what) in [
        (read.dropped_duplicates, "rows have the time of a later one"),
        (read.foreign_rows, "rows belong to other series"),
    ] {
        if count > 0 {
            problems.push(Problem::new(place, format!("{count} {what}")));
        }
    }
    let times = read.observations.times();
    let (Some(&first), Some(&last)) = (times.first(), times.last()) else {
        problems.push(Problem::new(place, "no rows"));
        return None;
    };
    if let Some((year, month)) = partition(&meta.key) {
        let is_inside = |time: TimeNs| civil(time).is_some_and(|at| (at.year(), at.month()) == (year, month));
        let outside = times.iter().filter(|&&time| !is_inside(time)).count();
        if outside > 0 {
            problems.push(Problem::new(place, format!("{outside} rows are not of {year}-{month:02}")));
        }
    }
    Some((first, last, place.to_owned()))
}

/// The month that a path names: `year=2024/month=01`.
fn partition(key: &Key) -> Option<(i16, i8)> {
    let value = |name: &str| key.segments().find_map(|segment| segment.strip_prefix(name)?.parse::<i16>().ok());
    let (year, month) = (value("year=")?, i8::try_from(value("month=")?).ok()?);
    Date::new(year, month, 1).ok().map(|_| (year, month))
}

fn overlaps(spans: BTreeMap<String, Vec<Span>>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for mut spans in spans.into_values() {
        spans.sort();
        for pair in spans.windows(2) {
            if pair[1].0 <= pair[0].1 {
                problems.push(Problem::new(&pair[1].2, format!("overlaps in time with {}", pair[0].2)));
            }
        }
    }
    problems
}
