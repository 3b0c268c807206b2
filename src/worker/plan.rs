//! What a run reads: its work and its datasets as they are now in, the objects to fetch out. Pure.
//!
//! A version's manifest lists only the files that this version touched, so a series is the union of what its folder
//! holds and what the manifest lists for it. A file belongs to a series when a whole path segment is the series' code.
//! Files without the code of any known series in their path hold many series and are told apart by a column.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{DatasetId, SeriesCode};
use crate::keys::{self, Key, Prefixes};
use crate::request::Work;
use crate::storage::{ETag, ObjectMeta};
use crate::worker::resolve::{Dataset, Resolved};

/// The objects that a run reads.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReadPlan {
    /// The series that the expression refers to, each once.
    pub series: Vec<PlannedSeries>,
    /// The objects, in path order: of two observations with the same time, the one from the later object wins.
    pub objects: Vec<PlannedObject>,
}

/// A series to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedSeries {
    /// The dataset that has it.
    pub dataset_id: DatasetId,
    /// Its code.
    pub series_code: SeriesCode,
}

/// An object to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedObject {
    /// Its key.
    pub key: Key,
    /// Its size, where a listing told.
    pub size_bytes: Option<u64>,
    /// Its tag, where a listing told.
    pub etag: Option<ETag>,
    /// Whose observations it holds.
    pub content: Content,
}

/// Whose observations an object holds. Numbers are indexes into [`ReadPlan::series`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// It lies in this series' own folder. Rows of another series are left out; without a series column all rows count.
    Own(usize),
    /// It holds many series, these among them; its rows are told apart by the series column.
    Shared(Vec<usize>),
}

/// Why nothing can be planned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A file that the manifest lists has no valid path, or one outside the allowed prefixes.
    #[error("parquet_files of manifest {manifest}: {source}")]
    File {
        /// The manifest.
        manifest: Key,
        /// Why.
        source: keys::Error,
    },
    /// Nothing in the dataset belongs to the series.
    #[error("no series {series_code} in dataset {dataset_id}")]
    NoSeries {
        /// The series.
        series_code: SeriesCode,
        /// The dataset.
        dataset_id: DatasetId,
    },
}

/// Plans what to read for the work.
///
/// # Errors
/// When a listed file is not allowed, or a series has no file.
pub fn plan(work: &Work, resolved: &Resolved, input_prefixes: &Prefixes) -> Result<ReadPlan, Error> {
    let mut plan = ReadPlan::default();
    let mut objects = BTreeMap::new();
    for (dataset_id, dataset) in resolved {
        let first_index = plan.series.len();
        let inputs = work.inputs.iter().filter(|(_, of)| *of == dataset_id);
        plan.series.extend(inputs.map(|(series_code, _)| PlannedSeries {
            dataset_id: dataset_id.clone(),
            series_code: series_code.clone(),
        }));
        let files = manifest_files(dataset, input_prefixes)?;
        plan_dataset(dataset, &files, &plan.series[first_index..], first_index, &mut objects)?;
    }
    plan.objects = objects.into_values().collect();
    Ok(plan)
}

fn manifest_files(dataset: &Dataset, input_prefixes: &Prefixes) -> Result<BTreeSet<Key>, Error> {
    let mut files = BTreeSet::new();
    for file in &dataset.manifest.parquet_files {
        let key = dataset.paths.projections.join(file).and_then(|key| input_prefixes.confine(key));
        files.insert(key.map_err(|source| Error::File { manifest: dataset.paths.manifest.clone(), source })?);
    }
    Ok(files)
}

fn plan_dataset(
    dataset: &Dataset,
    files: &BTreeSet<Key>,
    series: &[PlannedSeries],
    first_index: usize,
    objects: &mut BTreeMap<Key, PlannedObject>,
) -> Result<(), Error> {
    let shared_files = shared_files(dataset, files, series);
    for (offset, planned) in series.iter().enumerate() {
        let index = first_index + offset;
        let listed = dataset.listings.get(&planned.series_code).map_or(&[][..], Vec::as_slice);
        let own_files = files.iter().filter(|key| is_own(dataset, key, &planned.series_code));
        let object_count = objects.len();
        for meta in listed.iter().filter(|meta| meta.key.is_parquet()) {
            add(objects, &meta.key, Some(meta), Content::Own(index));
        }
        for key in own_files {
            add(objects, key, None, Content::Own(index));
        }
        let has_own_files = objects.len() > object_count;
        // Where the manifest does not say which series there are, a series with files of its own has no others.
        let is_told_apart = has_own_files && dataset.manifest.series_codes.is_empty();
        if !is_told_apart {
            shared_files.iter().for_each(|key| add_shared(objects, key, index));
        }
        if !has_own_files && shared_files.is_empty() {
            let PlannedSeries { dataset_id, series_code } = planned.clone();
            return Err(Error::NoSeries { series_code, dataset_id });
        }
    }
    Ok(())
}

/// The manifest's files that lie in no series' own folder.
fn shared_files<'a>(dataset: &Dataset, files: &'a BTreeSet<Key>, series: &[PlannedSeries]) -> Vec<&'a Key> {
    let known_codes: BTreeSet<&str> = dataset
        .manifest
        .series_codes
        .iter()
        .map(String::as_str)
        .chain(series.iter().map(|planned| planned.series_code.as_str()))
        .collect();
    // Below the projections folder: the dataset itself, or a folder above it, may well be named like a series.
    let projections = &dataset.paths.projections;
    let is_shared = |key: &&Key| !projections.segments_below(key).any(|segment| known_codes.contains(segment));
    files.iter().filter(is_shared).collect()
}

fn is_own(dataset: &Dataset, key: &Key, series_code: &SeriesCode) -> bool {
    // A whole segment: `A` never matches `A_B/…`.
    dataset.paths.projections.segments_below(key).any(|segment| segment == series_code.as_str())
}

fn add(objects: &mut BTreeMap<Key, PlannedObject>, key: &Key, meta: Option<&ObjectMeta>, content: Content) {
    objects.entry(key.clone()).or_insert_with(|| PlannedObject {
        key: key.clone(),
        size_bytes: meta.map(|meta| meta.size_bytes),
        etag: meta.map(|meta| meta.etag.clone()),
        content,
    });
}

fn add_shared(objects: &mut BTreeMap<Key, PlannedObject>, key: &Key, index: usize) {
    add(objects, key, None, Content::Shared(Vec::new()));
    if let Some(PlannedObject { content: Content::Shared(indexes), .. }) = objects.get_mut(key) {
        indexes.push(index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expression::{Expr, Limits};
    use crate::keys::Prefix;
    use crate::manifest::DatasetManifest;
    use crate::request::DatasetPaths;

    fn code(text: &str) -> SeriesCode {
        SeriesCode::parse(text).unwrap()
    }

    fn work(codes: &[&str]) -> Work {
        let operands: Vec<_> = codes.iter().map(|code| serde_json::json!({ "series_code": code })).collect();
        let operands = [operands.as_slice(), operands.as_slice()].concat();
        let json = serde_json::json!({ "op": "sum", "operands": operands });
        let dataset_id = DatasetId::parse("d").unwrap();
        Work {
            expression: Expr::parse(&json, &Limits::default()).unwrap(),
            inputs: codes.iter().map(|text| (code(text), dataset_id.clone())).collect(),
            datasets: BTreeMap::new(),
        }
    }

    fn dataset(files: &[&str], series_codes: &[&str], listed: &[(&str, &[&str])]) -> Resolved {
        let paths = DatasetPaths {
            manifest: Key::parse("datasets/d/versions/v/manifest.json").unwrap(),
            projections: Prefix::parse("datasets/d/projections").unwrap(),
        };
        let meta = |path: &&str| ObjectMeta {
            key: paths.projections.join(path).unwrap(),
            size_bytes: 7,
            etag: ETag("e".into()),
        };
        let listings = listed.iter().map(|(text, paths)| (code(text), paths.iter().map(meta).collect())).collect();
        let manifest = DatasetManifest {
            version_id: None,
            parquet_files: files.iter().map(|file| (*file).to_owned()).collect(),
            series_codes: series_codes.iter().map(|code| (*code).to_owned()).collect(),
        };
        BTreeMap::from([(DatasetId::parse("d").unwrap(), Dataset { paths, manifest, listings })])
    }

    fn check(codes: &[&str], resolved: &Resolved, expected: &[&str]) {
        let answer = match plan(&work(codes), resolved, &Prefixes::parse("datasets/").unwrap()) {
            Ok(plan) => plan
                .objects
                .iter()
                .map(|object| {
                    let path = object.key.as_str().trim_start_matches("datasets/d/projections/");
                    format!("{path} {:?} {:?}", object.content, object.size_bytes)
                })
                .collect(),
            Err(error) => vec![error.to_string()],
        };
        assert_eq!(answer, expected);
    }

    #[test]
    fn a_series_is_its_folder_and_what_the_manifest_lists() {
        let resolved = dataset(
            &["A/m2.parquet", "A_B/m1.parquet"],
            &["A", "A_B"],
            &[("A", &["A/m1.parquet", "A/m2.parquet", "A/notes.txt"])],
        );
        check(&["A"], &resolved, &["A/m1.parquet Own(0) Some(7)", "A/m2.parquet Own(0) Some(7)"]);
    }

    #[test]
    fn a_listed_file_that_the_folder_lacks_is_read_all_the_same() {
        let resolved = dataset(&["year=2024/A/m2.parquet"], &["A"], &[("A", &["A/m1.parquet"])]);
        check(&["A"], &resolved, &["A/m1.parquet Own(0) Some(7)", "year=2024/A/m2.parquet Own(0) None"]);
    }

    #[test]
    fn files_of_many_series_are_shared() {
        let resolved = dataset(&["all-1.parquet", "all-2.parquet"], &["A", "B"], &[]);
        check(&["A", "B"], &resolved, &["all-1.parquet Shared([0, 1]) None", "all-2.parquet Shared([0, 1]) None"]);
    }

    #[test]
    fn without_series_codes_a_series_with_a_folder_has_no_other_files() {
        let resolved = dataset(&["A/m1.parquet", "C/m1.parquet"], &[], &[]);
        check(&["A"], &resolved, &["A/m1.parquet Own(0) None"]);
        check(&["X"], &dataset(&["all.parquet"], &[], &[]), &["all.parquet Shared([0]) None"]);
    }

    #[test]
    fn a_folder_above_the_projections_is_no_series() {
        let resolved = dataset(&["d/m1.parquet", "other/m1.parquet"], &["d", "other"], &[]);
        check(&["d"], &resolved, &["d/m1.parquet Own(0) None"]);
        check(&["datasets"], &resolved, &["no series datasets in dataset d"]);
    }

    #[test]
    fn hostile_files_are_refused() {
        let resolved = dataset(&["../../../secrets.parquet"], &["A"], &[]);
        check(
            &["A"],
            &resolved,
            &[
                "parquet_files of manifest datasets/d/versions/v/manifest.json: path \"datasets/d/projections/../../../secrets.parquet\" has a segment that is empty, . or ..",
            ],
        );
    }
}
