//! Manifests, claims and markers: never a panic, and what is read, printed and read again is the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use metrics_engine::manifest::{Claim, DatasetManifest, ManifestHead, Marker, OutputManifest};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn same_again<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(json: &[u8]) {
    let Ok(first) = serde_json::from_slice::<T>(json) else { return };
    let printed = serde_json::to_vec(&first).unwrap();
    assert_eq!(serde_json::from_slice::<T>(&printed).unwrap(), first);
}

fuzz_target!(|data: &[u8]| {
    match DatasetManifest::parse(data) {
        Ok(manifest) => assert!(manifest.version_id.is_none_or(|id| id.len() <= 256)),
        Err(reason) => assert!(reason.len() <= 512, "{reason}"),
    }
    same_again::<OutputManifest>(data);
    same_again::<Claim>(data);
    same_again::<Marker>(data);
    _ = serde_json::from_slice::<ManifestHead>(data);
});
