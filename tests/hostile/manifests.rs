//! Manifests of datasets that are broken, huge, or list what is not theirs; and broken metadata of a run.

use bytes::Bytes;
use metrics_engine::keys::Key;
use serde_json::json;

use crate::measure::in_a_process_of_its_own;
use crate::scene::Fate::{Fails, Succeeds};
use crate::scene::{Fate, METRIC, check, runtime, small_world};
use crate::world::{parquet_file, request};

const INPUT: &str = "INPUT_READ_ERROR";
const MANIFEST: &str = "datasets/d/versions/v2/manifest.json";

fn check_manifests(test_name: &str, cases: impl FnOnce() -> Vec<(&'static str, Bytes, Fate)>) {
    in_a_process_of_its_own(test_name, || {
        for (name, bytes, fate) in cases() {
            check_manifest(name, bytes, fate);
        }
    });
}

/// The hostile request reads this manifest, the honest ones another.
fn check_manifest(name: &str, bytes: Bytes, fate: Fate) {
    let mut request = request("h", METRIC);
    request["catalog"]["datasets"]["d"]["manifestPath"] = json!(MANIFEST);
    let world = small_world();
    world.storage.insert(&Key::parse(MANIFEST).unwrap(), bytes);
    runtime().block_on(check(name, &world, &request.to_string(), fate));
}

fn unreadable() -> Fate {
    Fails(INPUT, "manifest datasets/d/versions/v2/manifest.json of dataset d cannot be read")
}

#[test]
fn manifests_that_are_none_fail_the_run() {
    check_manifests("manifests::manifests_that_are_none_fail_the_run", || {
        let deep = "[".repeat(1_000_000);
        let valid = json!({ "parquet_files": [], "series_codes": ["A", "B"] }).to_string();
        let with = |files: &str| Bytes::from(format!(r#"{{"parquet_files":{files}}}"#));
        vec![
            ("empty", Bytes::new(), unreadable()),
            ("null", Bytes::from_static(b"null"), unreadable()),
            ("an empty list", Bytes::from_static(b"[]"), unreadable()),
            ("a number", Bytes::from_static(b"1"), unreadable()),
            ("invalid utf-8", Bytes::from_static(b"{\"version_id\":\"\xff\xfe\"}"), unreadable()),
            ("utf-16", Bytes::from_static(b"\xff\xfe{\0}\0"), unreadable()),
            ("a byte order mark", Bytes::from(format!("\u{feff}{valid}")), unreadable()),
            ("zeros", Bytes::from(vec![0; 1 << 20]), unreadable()),
            ("a million open arrays", Bytes::from(deep.clone()), unreadable()),
            ("a million open arrays inside", Bytes::from(format!("{{\"parquet_files\":{deep}")), unreadable()),
            ("a million open arrays aside", Bytes::from(format!("{{\"other\":{deep}")), unreadable()),
            ("files that are text", with("\"A\""), unreadable()),
            ("a text of a megabyte for files", with(&format!("\"{}\"", "x".repeat(1 << 20))), unreadable()),
            ("files that are numbers", with("[1,2]"), unreadable()),
            ("files that are null", with("[null]"), unreadable()),
            ("files twice", Bytes::from(r#"{"parquet_files":[],"parquet_files":[]}"#), unreadable()),
            ("cut off", with("[\"A/x.parquet\""), unreadable()),
            (
                "all fields null",
                Bytes::from(r#"{"version_id":null,"parquet_files":null,"series_codes":null}"#),
                Succeeds,
            ),
            ("nothing at all", Bytes::from("{}"), Succeeds),
        ]
    });
}

#[test]
fn files_that_a_manifest_may_not_list_fail_the_run() {
    check_manifests("manifests::files_that_a_manifest_may_not_list_fail_the_run", || {
        let listing = |file: &str| Bytes::from(json!({ "parquet_files": [file] }).to_string());
        let refused = Fails(INPUT, "parquet_files of manifest");
        let long = "x".repeat(1 << 20);
        vec![
            ("empty", listing(""), refused),
            ("up", listing("../../../secrets/A/x.parquet"), refused),
            ("up and down", listing("A/../../d/A/x.parquet"), refused),
            ("absolute", listing("/A/x.parquet"), refused),
            ("a null", listing("A/x\u{0}.parquet"), refused),
            ("unicode", listing("A/\u{202e}x.parquet"), refused),
            ("long", listing(&long), refused),
            ("a bucket", listing("s3://foreign/A/x.parquet"), refused),
            ("missing", listing("A/missing.parquet"), Fails(INPUT, "A/missing.parquet")),
        ]
    });
}

/// The text of a manifest with so many files, made without a second copy.
fn listing(count: usize, file: impl Fn(usize) -> String) -> Bytes {
    let mut text = String::from(r#"{"series_codes":["A","B"],"parquet_files":["#);
    for index in 0..count {
        text.push_str(if index == 0 { "\"" } else { ",\"" });
        text.push_str(&file(index));
        text.push('"');
    }
    text.push_str("]}");
    Bytes::from(text)
}

#[test]
fn huge_manifests_are_refused_in_bounded_memory() {
    in_a_process_of_its_own("manifests::huge_manifests_are_refused_in_bounded_memory", || {
        let too_many = Fails(INPUT, "lists more than 250000");
        let numbered = |count| listing(count, |index| format!("A/{index}.parquet"));
        // Each is made when its turn comes, so that only one of them is in memory.
        check_manifest("a million files", numbered(1_000_000), too_many);
        check_manifest("a million times one file", listing(1_000_000, |_| "A/x.parquet".to_owned()), too_many);
        check_manifest("a million shared files", listing(1_000_000, |index| format!("{index}.parquet")), too_many);
        check_manifest("250,000 missing files", numbered(250_000), Fails(INPUT, "A/0.parquet"));
        let present = |_| "A/year=2024/month=02/data.parquet".to_owned();
        check_manifest("250,000 times one file", listing(250_000, present), Succeeds);
        let codes = format!(r#"{{"series_codes":[{}"A"]}}"#, "\"\",".repeat(10_000_000));
        check_manifest("ten million codes", Bytes::from(codes), too_many);
        let version = format!(r#"{{"version_id":"{}"}}"#, "v".repeat(30_000_000));
        check_manifest("a version's id of 30 MB", Bytes::from(version), Fails(INPUT, "version_id"));
        let aside = format!(r#"{{"partitions":[{}{{}}],"parquet_files":[]}}"#, "{\"a\":[1,2]},".repeat(2_500_000));
        check_manifest("30 MB aside", Bytes::from(aside), Succeeds);
        check_manifest("65 MB", Bytes::from(vec![b' '; 65 << 20]), Fails(INPUT, "at most 67108864 are read"));
    });
}

#[test]
fn broken_metadata_of_a_run_ends_in_a_named_error_or_is_replaced() {
    in_a_process_of_its_own("manifests::broken_metadata_of_a_run_ends_in_a_named_error_or_is_replaced", || {
        let broken: [(&str, Vec<u8>); 6] = [
            ("empty", Vec::new()),
            ("invalid utf-8", b"{\"run_id\":\"\xff\"}".to_vec()),
            ("arrays", b"[".repeat(1_000_000)),
            ("null", b"null".to_vec()),
            ("numbers", br#"{"run_id":1,"version_ts":2,"request_digest":3}"#.to_vec()),
            ("a far version", br#"{"run_id":"x","version_ts":"9999-12-31T23-59-59","row_count":-1}"#.to_vec()),
        ];
        let places = [
            ("runs/h.ok", Succeeds),
            ("current/manifest.json", Succeeds),
            ("runs/h.claim", Fails("OUTPUT_WRITE_ERROR", "runs/h.claim cannot be read")),
        ];
        for (place, fate) in places {
            for (name, bytes) in &broken {
                let world = small_world();
                let key = Key::parse(&format!("metrics/{METRIC}/{place}")).unwrap();
                world.storage.insert(&key, Bytes::from(bytes.clone()));
                let body = request("h", METRIC).to_string();
                runtime().block_on(check(&format!("{place} {name}"), &world, &body, fate));
            }
        }
    });
}

#[test]
fn a_folder_of_a_hundred_thousand_objects_is_read_as_their_turns_come() {
    in_a_process_of_its_own("manifests::a_folder_of_a_hundred_thousand_objects_is_read_as_their_turns_come", || {
        let world = small_world();
        let file = parquet_file("A", 0, &[Some(1.0)]);
        for index in 0..100_000 {
            let key = format!("datasets/d/projections/A/{index:06}.parquet");
            // The last one is no Parquet file.
            let bytes = if index == 99_999 { Bytes::from_static(b"not Parquet") } else { file.clone() };
            world.storage.insert(&Key::parse(&key).unwrap(), bytes);
        }
        let body = request("h", METRIC).to_string();
        runtime().block_on(check("100,000 objects", &world, &body, Fails(INPUT, "A/099999.parquet: 11 bytes")));
    });
}
