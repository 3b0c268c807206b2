//! The invariants of the house (ARCHITECTURE.md), as far as the text of the code can show them.
#![allow(clippy::unwrap_used, reason = "a test stops where the tree is not as it must be")]

use std::fs;
use std::path::{Path, PathBuf};

/// A source file without its comments and unit tests.
struct Source {
    path: String,
    code: Vec<(usize, String)>,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    collect(&root.join("src"), &mut files);
    assert!(files.len() > 20, "the sources are where this test looks for them");
    files.sort();
    files.iter().map(|file| source(root, file)).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn source(root: &Path, file: &Path) -> Source {
    let text = fs::read_to_string(file).unwrap();
    let path = file.strip_prefix(root).unwrap().to_string_lossy().into_owned();
    let before_tests = text.split("\n#[cfg(test)]\nmod tests").next().unwrap();
    let lines = before_tests.lines().enumerate().map(|(index, line)| (index + 1, line.to_owned()));
    let code = lines.filter(|(_, line)| !line.trim_start().starts_with("//")).collect();
    Source { path, code }
}

impl Source {
    fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path == *place || (place.ends_with('/') && self.path.starts_with(place)))
    }
}

/// No line outside `allowed` (and, where `only` is not empty, inside it) holds one of the texts.
fn forbid(texts: &[&str], only: &[&str], allowed: &[&str], reason: &str) {
    let mut found = Vec::new();
    for source in sources() {
        let is_checked = (only.is_empty() || source.is_in(only)) && !source.is_in(allowed);
        if !is_checked {
            continue;
        }
        for (number, line) in &source.code {
            if let Some(text) = texts.iter().find(|text| line.contains(*text)) {
                found.push(format!("{}:{number}: {text}", source.path));
            }
        }
    }
    assert!(found.is_empty(), "{reason}:\n{}", found.join("\n"));
}

const VOCABULARY: [&str; 9] = [
    "src/ids.rs",
    "src/request.rs",
    "src/request/",
    "src/expression.rs",
    "src/expression/",
    "src/manifest.rs",
    "src/keys.rs",
    "src/series.rs",
    "src/event.rs",
];

const PURE_STEPS: [&str; 4] =
    ["src/worker/plan.rs", "src/worker/evaluate/", "src/worker/write/encode.rs", "src/worker/write/encode/"];

#[test]
fn the_vocabulary_and_the_pure_steps_are_pure() {
    let pure = [&VOCABULARY[..], &PURE_STEPS[..]].concat();
    let impure = [
        "async ",
        ".await",
        "tokio",
        "aws_",
        "ObjectStorage",
        "Instant::now",
        "SystemTime",
        "Timestamp::now",
        "std::fs",
        "std::env",
    ];
    forbid(&impure, &pure, &[], "no async, storage, SDK or clock in the vocabulary and the pure steps");
}

#[test]
fn the_vocabulary_knows_no_step() {
    forbid(&["crate::worker"], &VOCABULARY, &[], "the vocabulary is below the worker");
}

#[test]
fn only_the_run_orders_steps() {
    let calls = [
        "resolve::resolve(",
        "plan::plan(",
        "read::read(",
        "evaluate::evaluate(",
        "claim::obtain(",
        "write::data(",
        "write::manifest(",
        "marker::write(",
    ];
    forbid(&calls, &["src/worker/"], &["src/worker/mod.rs"], "a step never calls another step");
}

#[test]
fn only_keys_builds_and_parses_keys() {
    let parts = ["s3://", "manifest.json", ".parquet\"", ".jsonl\"", ".claim\"", "/data", "split('/')"];
    // Names of queues and topics and the calls of the API are paths of URLs, not keys; the command line prints and parses names of files.
    let allowed = [
        "src/keys.rs",
        "src/worker/queue.rs",
        "src/cli/",
        "src/bin/",
        "src/storage/folder.rs",
        "src/control/api/operations.rs",
    ];
    forbid(&parts, &[], &allowed, "only keys.rs builds or parses a key");
}

#[test]
fn only_the_binaries_read_the_environment() {
    forbid(
        &["std::env", "env::var"],
        &[],
        &["src/bin/", "src/cli/"],
        "only bin/ and the command line read the environment",
    );
}

#[test]
fn only_the_edge_builds_clients() {
    forbid(
        &["aws_config::", "Client::from_conf", "Client::new"],
        &[],
        &["src/aws.rs", "src/aws/"],
        "clients are built in aws.rs",
    );
    let edges = [
        "src/aws.rs",
        "src/aws/",
        "src/storage/s3.rs",
        "src/storage/s3/",
        "src/worker/publish.rs",
        "src/worker/publish/",
        "src/worker/queue.rs",
        "src/worker/queue/",
        "src/poll/inbox.rs",
        "src/control/outbox/sns.rs",
    ];
    forbid(&["aws_sdk_"], &[], &edges, "the SDK is known to its adapters alone");
}

const CONTROL_VOCABULARY: [&str; 3] = ["src/control/status.rs", "src/control/rejection.rs", "src/control/message.rs"];

#[test]
fn the_vocabulary_of_the_control_plane_is_pure() {
    let impure = ["async ", ".await", "tokio", "aws_", "PgPool", "query!", "Instant::now", "Timestamp::now", "std::fs"];
    forbid(&impure, &CONTROL_VOCABULARY, &[], "no async, database, SDK or clock in the control plane's vocabulary");
}

#[test]
fn queries_are_checked_against_the_schema() {
    // What configures a connection has no tables to be checked against.
    let allowed = ["src/control/database.rs"];
    forbid(
        &["sqlx::query(", "sqlx::query_as(", "query_scalar(", "raw_sql("],
        &["src/"],
        &allowed,
        "queries are macros",
    );
}

#[test]
fn a_message_is_published_by_the_relay_alone() {
    forbid(
        &["outbox::relay(", ".publish("],
        &["src/control/"],
        &["src/control/outbox/", "src/control/service.rs"],
        "requests leave through the outbox, after the transaction that wrote them",
    );
}

#[test]
fn the_worker_knows_nothing_of_the_control_plane() {
    let below = ["src/worker/", "src/storage/", "src/cli/", "src/dataset/", "src/poll/", "src/bin/worker.rs"];
    forbid(&["control::", "sqlx"], &below, &[], "the worker builds without the control plane");
}

#[test]
fn no_error_is_told_by_its_text() {
    forbid(
        &["to_string().contains(", "to_string().starts_with("],
        &[],
        &[],
        "codes and dispositions come from a match",
    );
    for source in sources() {
        let text: String = source.code.iter().map(|(_, line)| format!("{line}\n")).collect();
        for start in text.match_indices("-> Disposition {").chain(text.match_indices("-> Meaning {")).map(|(at, _)| at)
        {
            let body = text[start..].split("\n    }\n").next().unwrap();
            assert!(!body.contains("_ =>"), "{}: dispositions are matched arm by arm", source.path);
        }
    }
}

#[test]
fn names_say_what_is_inside() {
    for source in sources() {
        let stem = Path::new(&source.path).file_stem().unwrap().to_string_lossy().into_owned();
        assert!(!["utils", "util", "common", "types", "helpers", "misc"].contains(&stem.as_str()), "{}", source.path);
    }
}

#[test]
fn a_file_is_a_room_not_a_hall() {
    for source in sources() {
        let last = source.code.last().map_or(0, |(number, _)| *number);
        assert!(last <= 600, "{} has {last} lines before its tests: which room wants a door of its own?", source.path);
    }
}

#[test]
fn every_function_of_the_template_is_a_binary() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let template = fs::read_to_string(root.join("template.yaml")).unwrap();
    let binaries: Vec<&str> =
        template.lines().filter_map(|line| line.trim().strip_prefix("Binary: ")).map(str::trim).collect();
    assert!(binaries.contains(&"worker"), "{binaries:?}");
    for binary in binaries {
        assert!(root.join(format!("src/bin/{binary}.rs")).exists(), "{binary}");
    }
}
