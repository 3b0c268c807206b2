//! What the datasets of a run look like now: their manifests and the listings of the series' folders.

use std::collections::BTreeMap;

use futures::FutureExt;
use futures::future::{try_join, try_join_all};

use crate::config::InputScope;
use crate::ids::{DatasetId, SeriesCode};
use crate::keys::{self, Key};
use crate::manifest::DatasetManifest;
use crate::request::{DatasetPaths, Work};
use crate::storage::{self, ByteRange, ObjectMeta, ObjectStorage};

/// A manifest of a hundred thousand files has some 10 MB; more than this is no manifest.
const MOST_MANIFEST_BYTES: u64 = 64 << 20;

/// The datasets of a run, as they are now.
pub type Resolved = BTreeMap<DatasetId, Dataset>;

/// One dataset, as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// Where it lies.
    pub paths: DatasetPaths,
    /// The manifest of the version that the request names.
    pub manifest: DatasetManifest,
    /// The objects in the folder of each series that the run needs; empty in the scope `manifest`.
    pub listings: BTreeMap<SeriesCode, Vec<ObjectMeta>>,
}

/// Why the datasets of a run could not be told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store failed or refused.
    #[error("dataset {dataset_id}: {source}")]
    Storage {
        /// The dataset.
        dataset_id: DatasetId,
        /// What happened.
        source: storage::Error,
    },
    /// A manifest is larger than any manifest.
    #[error("manifest {key} of dataset {dataset_id} has {size_bytes} bytes, at most {MOST_MANIFEST_BYTES} are read")]
    TooLarge {
        /// The dataset.
        dataset_id: DatasetId,
        /// The manifest.
        key: Key,
        /// Its size.
        size_bytes: u64,
    },
    /// A manifest is not the JSON of one.
    #[error("manifest {key} of dataset {dataset_id} cannot be read: {reason}")]
    Malformed {
        /// The dataset.
        dataset_id: DatasetId,
        /// The manifest.
        key: Key,
        /// What the parser says.
        reason: String,
    },
    /// A series has no valid folder.
    #[error("dataset {dataset_id}: {source}")]
    Path {
        /// The dataset.
        dataset_id: DatasetId,
        /// Why.
        source: keys::Error,
    },
}

impl Error {
    /// Whether another attempt may succeed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Storage { source, .. } => source.is_transient(),
            Self::TooLarge { .. } | Self::Malformed { .. } | Self::Path { .. } => false,
        }
    }
}

/// Reads the manifests and lists the series' folders, all at once.
///
/// # Errors
/// When a manifest is missing or malformed, or the store fails.
pub async fn resolve(work: &Work, scope: InputScope, storage: &dyn ObjectStorage) -> Result<Resolved, Error> {
    let datasets = work.datasets.iter();
    let resolved = datasets.map(|(dataset_id, paths)| dataset(dataset_id, paths, work, scope, storage).boxed());
    Ok(try_join_all(resolved).await?.into_iter().collect())
}

async fn dataset(
    dataset_id: &DatasetId,
    paths: &DatasetPaths,
    work: &Work,
    scope: InputScope,
    storage: &dyn ObjectStorage,
) -> Result<(DatasetId, Dataset), Error> {
    let series_codes: Vec<&SeriesCode> = match scope {
        InputScope::Projections => {
            work.inputs.iter().filter(|(_, of)| *of == dataset_id).map(|(code, _)| code).collect()
        }
        InputScope::Manifest => Vec::new(),
    };
    let manifest = read_manifest(dataset_id, &paths.manifest, storage);
    let listings = series_codes.into_iter().map(|code| list(dataset_id, paths, code, storage).boxed());
    let (manifest, listings) = try_join(manifest, try_join_all(listings)).await?;
    let dataset = Dataset { paths: paths.clone(), manifest, listings: listings.into_iter().collect() };
    Ok((dataset_id.clone(), dataset))
}

async fn read_manifest(
    dataset_id: &DatasetId,
    key: &Key,
    storage: &dyn ObjectStorage,
) -> Result<DatasetManifest, Error> {
    let range = ByteRange::Bounded(0..MOST_MANIFEST_BYTES);
    let object = storage.get(key, range, None).await;
    let object = object.map_err(|source| Error::Storage { dataset_id: dataset_id.clone(), source })?;
    if object.size_bytes > MOST_MANIFEST_BYTES {
        let size_bytes = object.size_bytes;
        return Err(Error::TooLarge { dataset_id: dataset_id.clone(), key: key.clone(), size_bytes });
    }
    DatasetManifest::parse(&object.bytes).map_err(|reason| Error::Malformed {
        dataset_id: dataset_id.clone(),
        key: key.clone(),
        reason,
    })
}

async fn list(
    dataset_id: &DatasetId,
    paths: &DatasetPaths,
    series_code: &SeriesCode,
    storage: &dyn ObjectStorage,
) -> Result<(SeriesCode, Vec<ObjectMeta>), Error> {
    let folder = paths.projections.folder(series_code.as_str());
    let folder = folder.map_err(|source| Error::Path { dataset_id: dataset_id.clone(), source })?;
    let objects = storage.list(&folder).await;
    let objects = objects.map_err(|source| Error::Storage { dataset_id: dataset_id.clone(), source })?;
    Ok((series_code.clone(), objects))
}
