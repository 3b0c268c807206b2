//! Keys and paths: whatever text comes in, a key stays in its place and reads back as what it was made of.
#![no_main]

use libfuzzer_sys::fuzz_target;
use metrics_engine::ids::{DatasetId, MetricCode, RunId, SeriesCode};
use metrics_engine::keys::{self, DataFile, Key, OutputKey, OutputKeys, Prefix, Prefixes, VersionTs};

fn check(key: &Key) {
    assert_eq!(Key::parse(key.as_str()).as_ref(), Ok(key));
    assert!(key.segments().all(|segment| !matches!(segment, "" | "." | "..")), "{key}");
    assert!(key.as_str().len() <= 1_024);
    assert!(key.as_str().bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{key}");
}

fn check_outputs(base: Prefix, name: &str) {
    let Ok(outputs) = OutputKeys::new(base) else { return };
    let version = VersionTs::parse(name).unwrap_or(VersionTs::from_unix_seconds(1_736_937_000));
    let mut all = vec![
        OutputKey::Data(version, DataFile::Jsonl),
        OutputKey::Data(version, DataFile::Parquet),
        OutputKey::Manifest(version),
        OutputKey::Current,
    ];
    if let Ok(run_id) = RunId::parse(name) {
        all.extend([OutputKey::Marker(run_id.clone()), OutputKey::Claim(run_id)]);
    }
    for output in all {
        let key = outputs.key(&output);
        check(&key);
        assert!(outputs.base().contains(key.as_str()), "{key}");
        assert_eq!(outputs.parse(&key), Some(output), "{key}");
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (first, second) = text.split_once('\n').unwrap_or((text, ""));
    let allowed = Prefixes::parse("datasets/,metrics/").unwrap();
    if let Ok(path) = keys::without_bucket(first, "own") {
        assert!(path.len() <= first.len());
        if let Ok(key) = Key::parse(path).and_then(|key| allowed.confine(key)) {
            check(&key);
            assert!(key.as_str().starts_with("datasets/") || key.as_str().starts_with("metrics/"), "{key}");
            if let Ok(dataset_id) = DatasetId::parse(second)
                && let Ok(projections) = keys::projections(&key, &dataset_id, None)
            {
                check(&projections.join("x").unwrap());
            }
        }
    }
    if let Ok(prefix) = Prefix::parse(first) {
        assert_eq!(Prefix::parse(prefix.as_str()).as_ref(), Ok(&prefix));
        for key in
            [prefix.join(second), prefix.folder(second).and_then(|folder| folder.join("x"))].into_iter().flatten()
        {
            check(&key);
            assert!(prefix.contains(key.as_str()), "{key} left {prefix}");
            assert!(prefix.segments_below(&key).count() > 0);
        }
        check_outputs(prefix, second);
    }
    if let Ok(prefixes) = Prefixes::parse(first) {
        assert_eq!(Prefixes::parse(&prefixes.to_string()), Ok(prefixes));
    }
    if let Some(version) = VersionTs::parse(first) {
        assert_eq!(version.to_string(), first);
        assert_eq!(VersionTs::from_unix_seconds(version.unix_seconds()), version);
        assert!(version.next() >= version);
    }
    for id in [MetricCode::parse(first).map(|id| id.to_string()), SeriesCode::parse(first).map(|id| id.to_string())] {
        assert!(id.is_err() || id.as_deref() == Ok(first));
    }
});
