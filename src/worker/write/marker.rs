//! A run's marker: the run is done, and this is its result. It is the last object written and the first one read.

use crate::keys::{Key, OutputKey, VersionTs};
use crate::manifest::{ManifestHead, Marker, OutputManifest};
use crate::request::Run;
use crate::storage::{self, ByteRange, ObjectStorage, PutCondition};
use crate::worker::write::{Error, JSON, MOST_CONDITIONAL_ATTEMPTS, check_digest, get_if_present, rfc3339, to_json};

/// The marker of a run that is done, whatever it takes to find it: the one that this worker writes, or the one of an
/// older worker together with the version manifest that names the run. Nothing where the run is still to be done.
///
/// # Errors
/// When the run was done for another request, or the store fails.
pub async fn find(run: &Run, storage: &dyn ObjectStorage) -> Result<Option<Marker>, Error> {
    let key = run.keys.marker(&run.run_id);
    let Some(object) = get_if_present(storage, &key).await? else {
        return Ok(None);
    };
    match serde_json::from_slice::<Marker>(&object.bytes) {
        Ok(marker) => {
            check_digest(run, &key, &marker.request_digest)?;
            Ok(Some(marker))
        }
        Err(_) => marker_of_older_worker(run, storage).await,
    }
}

/// An older worker's marker holds the run's id alone; the version manifest with that id tells the rest.
async fn marker_of_older_worker(run: &Run, storage: &dyn ObjectStorage) -> Result<Option<Marker>, Error> {
    let listed = storage.list(run.keys.base()).await?;
    let is_manifest = |key: &Key| matches!(run.keys.parse(key), Some(OutputKey::Manifest(_)));
    // Newest first: a run that is asked about again is more often a recent one.
    for meta in listed.iter().rev().filter(|meta| is_manifest(&meta.key)) {
        let object = storage.get(&meta.key, ByteRange::Whole, None).await?;
        let Ok(head) = serde_json::from_slice::<ManifestHead>(&object.bytes) else { continue };
        if head.run_id.as_deref() != Some(run.run_id.as_str()) {
            continue;
        }
        let Some(version_ts) = head.version_ts.as_deref().and_then(VersionTs::parse) else { continue };
        return Ok(Some(Marker {
            run_id: run.run_id.clone(),
            metric_code: run.metric_code.clone(),
            version_ts,
            output_manifest: meta.key.to_string(),
            row_count: head.row_count.unwrap_or(0),
            completed_at: String::new(),
            request_digest: run.request_digest.clone(),
        }));
    }
    Ok(None)
}

/// Marks the run as done. The answer is the marker as stored: the first one written stays, whoever wrote it.
///
/// # Errors
/// When the run was marked for another request, or the store fails.
pub async fn write(
    run: &Run,
    sealed: &OutputManifest,
    now: jiff::Timestamp,
    storage: &dyn ObjectStorage,
) -> Result<Marker, Error> {
    let key = run.keys.marker(&run.run_id);
    let marker = Marker {
        run_id: run.run_id.clone(),
        metric_code: run.metric_code.clone(),
        version_ts: sealed.version_ts,
        output_manifest: run.keys.manifest(sealed.version_ts).to_string(),
        row_count: sealed.row_count,
        completed_at: rfc3339(now),
        request_digest: run.request_digest.clone(),
    };
    let body = to_json(&key, &marker)?;
    let mut condition = PutCondition::IfAbsent;
    for _ in 0..MOST_CONDITIONAL_ATTEMPTS {
        match storage.put(&key, body.clone(), JSON, condition).await {
            Ok(_) => return Ok(marker),
            Err(storage::Error::Precondition { .. } | storage::Error::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let Some(object) = get_if_present(storage, &key).await? else {
            condition = PutCondition::IfAbsent;
            continue;
        };
        if let Ok(stored) = serde_json::from_slice::<Marker>(&object.bytes) {
            check_digest(run, &key, &stored.request_digest)?;
            return Ok(stored);
        }
        // An older worker's marker without a version manifest: the run has been done again, and now it is told whole.
        condition = PutCondition::IfMatch(object.etag);
    }
    Err(Error::Contended { key: key.to_string() })
}
