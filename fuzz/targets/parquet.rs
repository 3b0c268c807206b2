//! A Parquet file, read as a series' own and as one of many series: an error with a name, or observations in order.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use metrics_engine::ids::{DatasetId, SeriesCode};
use metrics_engine::keys::Key;
use metrics_engine::storage::memory::MemoryStorage;
use metrics_engine::worker::plan::{Content, PlannedObject, PlannedSeries, ReadPlan};
use metrics_engine::worker::read::{self, ReadSettings};

fn read_as(content: Content, size_bytes: Option<u64>, whole_object_bytes: u64, bytes: &Bytes) {
    let key = Key::parse("datasets/d/projections/A/data.parquet").unwrap();
    let storage = MemoryStorage::new();
    storage.insert(&key, bytes.clone());
    let series =
        PlannedSeries { dataset_id: DatasetId::parse("d").unwrap(), series_code: SeriesCode::parse("A").unwrap() };
    let plan = ReadPlan { series: vec![series], objects: vec![PlannedObject { key, size_bytes, etag: None, content }] };
    let settings = ReadSettings {
        page_bytes_limit: 1 << 20,
        whole_object_bytes,
        observation_limit: 2_000,
        ..ReadSettings::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    match runtime.block_on(read::read(&plan, &storage, &settings, &|_| {})) {
        Ok(outcome) => {
            let times = outcome.series[0].observations.times();
            assert!(times.len() <= 2_000);
            assert!(times.is_sorted_by(|a, b| a < b), "times ascend and are unique");
        }
        Err(error) => assert!(!error.is_transient(), "{error}"),
    }
}

/// The decoder's library panics on some files; the reader catches that and names it. Any other panic is a find.
fn abort_on_own_panics() {
    let abort = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let file = info.location().map_or("", |location| location.file());
        if !["/parquet-", "/arrow-"].iter().any(|library| file.contains(library)) {
            abort(info);
        }
    }));
}

fuzz_target!(init: abort_on_own_panics(), |data: &[u8]| {
    let bytes = Bytes::copy_from_slice(data);
    let size_bytes = Some(data.len() as u64);
    read_as(Content::Own(0), size_bytes, 1 << 20, &bytes);
    read_as(Content::Shared(vec![0]), None, 1 << 20, &bytes);
    // Part by part, as large files are read.
    read_as(Content::Shared(vec![0]), size_bytes, 0, &bytes);
});
