//! What must hold: at each write and each event as it happens, and of everything that is left in the end.
//!
//! The judge knows the contract's keys and files, and nothing of how the worker gets there.

use std::collections::BTreeMap;

use bytes::Bytes;
use metrics_engine::event::{Event, Outcome};
use metrics_engine::keys::{DataFile, Key, OutputKey, OutputKeys, Prefix, VersionTs};
use metrics_engine::manifest::{Claim, Marker, OutputManifest};
use metrics_engine::storage::memory::MemoryStorage;
use metrics_engine::worker::publish::Attempt;
use metrics_engine::worker::recorder::Published;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::wire::Shared;

/// The data files of a run as they should be, by name: one set for each generation of the inputs.
pub(crate) type Generations = Vec<BTreeMap<String, Bytes>>;

fn keys_of(key: &Key) -> Option<OutputKeys> {
    let segments: Vec<&str> = key.segments().collect();
    let ["metrics", metric, ..] = segments.as_slice() else { return None };
    OutputKeys::new(Prefix::parse(&format!("metrics/{metric}/")).ok()?).ok()
}

fn read<T: DeserializeOwned>(storage: &MemoryStorage, key: &Key) -> Result<T, String> {
    let bytes = storage.peek(key).ok_or_else(|| format!("no {key}"))?;
    serde_json::from_slice(&bytes).map_err(|error| format!("{key}: {error}"))
}

/// The manifest of a version, whose data is there and is what the manifest says.
fn version(storage: &MemoryStorage, keys: &OutputKeys, version_ts: VersionTs) -> Result<OutputManifest, String> {
    let key = keys.manifest(version_ts);
    let manifest: OutputManifest = read(storage, &key)?;
    if manifest.version_ts != version_ts || manifest.outputs.files != ["metrics.jsonl", "metrics.parquet"] {
        return Err(format!("{key} is not of its version, or not of both files"));
    }
    for file in &manifest.outputs.files {
        let data =
            Key::parse(&format!("{}/{file}", manifest.outputs.data_prefix)).map_err(|error| error.to_string())?;
        let bytes = storage.peek(&data).ok_or_else(|| format!("{key} names {data}, which is not there"))?;
        if manifest.outputs.sha256.get(file) != Some(&hex::encode(Sha256::digest(&bytes))) {
            return Err(format!("the digest in {key} is not that of {data}"));
        }
    }
    Ok(manifest)
}

/// A write that has just taken effect.
pub(crate) fn put(shared: &Shared, key: &Key) {
    if let Err(what) = judge_put(&shared.storage, key) {
        shared.wrong(&what);
    }
}

fn judge_put(storage: &MemoryStorage, key: &Key) -> Result<(), String> {
    let keys = keys_of(key).ok_or_else(|| format!("wrote {key}, which is no output"))?;
    let written_once = match storage.history(key).len() {
        1 => Ok(()),
        count => Err(format!("{key} was written {count} times")),
    };
    match keys.parse(key).ok_or_else(|| format!("wrote {key}, which the contract does not know"))? {
        OutputKey::Data(..) => written_once,
        OutputKey::Manifest(version_ts) => written_once.and(version(storage, &keys, version_ts).map(drop)),
        OutputKey::Current => current(storage, &keys),
        OutputKey::Marker(run_id) => {
            let marker: Marker = read(storage, key)?;
            let manifest = version(storage, &keys, marker.version_ts)?;
            let newest: OutputManifest = read(storage, &keys.current())?;
            if manifest.run_id != run_id || marker.run_id != run_id || newest.version_ts < marker.version_ts {
                return Err(format!("{key} came before its manifest or a current no older"));
            }
            written_once
        }
        OutputKey::Claim(_) => claim(storage, &keys, key),
    }
}

/// `current` only moves forward, and is the manifest that it names.
fn current(storage: &MemoryStorage, keys: &OutputKeys) -> Result<(), String> {
    let key = keys.current();
    let history = storage.history(&key);
    let parsed: Result<Vec<OutputManifest>, _> = history.iter().map(|bytes| serde_json::from_slice(bytes)).collect();
    let versions: Vec<_> = parsed.map_err(|error| error.to_string())?.iter().map(|one| one.version_ts).collect();
    if !versions.is_sorted_by(|one, other| one < other) {
        return Err(format!("{key} went back or stood still: {versions:?}"));
    }
    let Some((newest, bytes)) = versions.last().zip(history.last()) else { return Err(format!("no {key}")) };
    version(storage, keys, *newest)?;
    match storage.peek(&keys.manifest(*newest)).as_ref() == Some(bytes) {
        true => Ok(()),
        false => Err(format!("{key} is no copy of the manifest that it names")),
    }
}

/// A claim's version never falls, and a sealed one is opened again only where another run holds its version.
fn claim(storage: &MemoryStorage, keys: &OutputKeys, key: &Key) -> Result<(), String> {
    let history = storage.history(key);
    let parsed: Result<Vec<Claim>, _> = history.iter().map(|bytes| serde_json::from_slice(bytes)).collect();
    let parsed = parsed.map_err(|error| error.to_string())?;
    let [.., before, now] = parsed.as_slice() else { return Ok(()) };
    if now.version_ts < before.version_ts || now.claimed_at != before.claimed_at {
        return Err(format!("{key} went back, or forgot when it was made"));
    }
    if before.sealed.is_some() && before.sealed != now.sealed {
        let holder: OutputManifest = read(storage, &keys.manifest(before.version_ts))?;
        if holder.run_id == before.run_id {
            return Err(format!("{key} was changed although it was sealed and its version committed"));
        }
    }
    Ok(())
}

/// An event that is about to reach the topic. A worker is blind where the store does not tell it how the run stands.
pub(crate) fn publication(shared: &Shared, event: &Event, attempt: &Attempt, is_blind: bool) {
    if let Err(what) = judge_publication(shared, event, attempt, is_blind) {
        shared.wrong(&what);
    }
}

fn judge_publication(shared: &Shared, event: &Event, attempt: &Attempt, is_blind: bool) -> Result<(), String> {
    let published = shared.publisher.published();
    let is_completed = |one: &&Published| one.event.type_name() == "metric_run_completed";
    let Event::MetricRunCompleted { run_id, metric_code, outcome, .. } = event else {
        return match published.iter().filter(is_completed).any(|one| one.attempt == *attempt) {
            true => Err(format!("{} after the completed event of {attempt:?}", event.type_name())),
            false => Ok(()),
        };
    };
    let is_success = |one: &&Published| matches!(&one.event, Event::MetricRunCompleted { run_id: other, outcome: Outcome::Success { .. }, .. } if other == run_id);
    let earlier = published.iter().find(is_success);
    match outcome {
        Outcome::Failure { error, .. } => match earlier {
            None => Ok(()),
            Some(other) if is_blind && other.attempt != *attempt => {
                *shared.excused.lock().unwrap() += 1;
                Ok(())
            }
            Some(_) => Err(format!("FAILURE of {run_id} after its SUCCESS: {error}")),
        },
        Outcome::Success { version_ts, row_count, output_manifest, .. } => {
            if earlier.is_some_and(|earlier| earlier.event != *event) {
                return Err(format!("two SUCCESS of {run_id} differ"));
            }
            let base = Prefix::parse(&format!("metrics/{metric_code}/")).map_err(|error| error.to_string())?;
            let keys = OutputKeys::new(base).map_err(|error| error.to_string())?;
            let marker: Marker = read(&shared.storage, &keys.marker(run_id))?;
            let is_marked = (marker.version_ts, marker.row_count, &marker.output_manifest)
                == (*version_ts, *row_count, output_manifest);
            if !is_marked {
                return Err(format!("SUCCESS of {run_id} does not say what its marker says"));
            }
            version(&shared.storage, &keys, *version_ts).map(drop)
        }
    }
}

/// What is left when every run is done, as (run, metric) pairs. `generations` are the outputs that a run may have.
pub(crate) fn all_is_done(shared: &Shared, runs: &[(String, String)], generations: &Generations) -> Result<(), String> {
    let storage = &shared.storage;
    let mut holders: BTreeMap<Key, String> = BTreeMap::new();
    let mut committed: BTreeMap<&str, Vec<VersionTs>> = BTreeMap::new();
    for path in storage.snapshot().keys().filter(|path| !path.starts_with("datasets/")) {
        let key = Key::parse(path).map_err(|error| error.to_string())?;
        let keys = keys_of(&key).ok_or_else(|| format!("{key} is no output"))?;
        if let Some(OutputKey::Manifest(version_ts)) = keys.parse(&key) {
            holders.insert(key, version(storage, &keys, version_ts)?.run_id.to_string());
        }
    }
    for (run_id, metric) in runs {
        let keys = OutputKeys::new(Prefix::parse(&format!("metrics/{metric}/")).map_err(|error| error.to_string())?);
        let keys = keys.map_err(|error| error.to_string())?;
        let own: Vec<&Key> = holders.iter().filter(|(_, holder)| *holder == run_id).map(|(key, _)| key).collect();
        let [manifest_key] = own.as_slice() else { return Err(format!("{run_id} holds the versions {own:?}")) };
        let manifest: OutputManifest = read(storage, manifest_key)?;
        let data = manifest.outputs.files.iter().filter_map(|file| {
            let key = keys.data(manifest.version_ts, DataFile::Jsonl).to_string().replace("metrics.jsonl", file);
            Some((file.clone(), storage.peek(&Key::parse(&key).ok()?)?))
        });
        let data: BTreeMap<String, Bytes> = data.collect();
        if !generations.contains(&data) {
            return Err(format!("the output of {run_id} is none of an undisturbed run's"));
        }
        let run_id = metrics_engine::ids::RunId::parse(run_id).map_err(|error| error.to_string())?;
        let marker: Marker = read(storage, &keys.marker(&run_id))?;
        if marker.version_ts != manifest.version_ts || marker.output_manifest != manifest_key.as_str() {
            return Err(format!("the marker of {run_id} names another version than the one it committed"));
        }
        committed.entry(metric).or_default().push(manifest.version_ts);
    }
    for (metric, versions) in committed {
        let key = Key::parse(&format!("metrics/{metric}/current/manifest.json")).map_err(|error| error.to_string())?;
        let newest: OutputManifest = read(storage, &key)?;
        if Some(&newest.version_ts) != versions.iter().max() {
            return Err(format!("{key} names {}, the versions are {versions:?}", newest.version_ts));
        }
    }
    Ok(())
}
