//! The demo from end to end: the sample batches over the sample data, through the worker's handler, into a folder.

#![expect(clippy::unwrap_used, reason = "a test that cannot run the demo should fail at once")]

use std::path::Path;
use std::sync::Arc;

use clap::Parser;
use metrics_engine::cli::screen::Screen;
use metrics_engine::cli::{self, Arguments};

/// What the demo says, at a fixed time and into that folder.
async fn demo(bucket: &Path, more: &[&str]) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = |relative: &str| root.join(relative).to_str().unwrap().to_owned();
    let (events, csv) = (path("events"), path("sample-data/eurofxref-hist.csv"));
    let fixed = ["metrics", "demo", "--events", &events, "--csv", &csv, "--bucket", bucket.to_str().unwrap()];
    let arguments = Arguments::parse_from(fixed.iter().chain(more));
    let now = "2026-10-30T16:06:00Z".parse().unwrap();
    let mut out = Vec::new();
    cli::run(arguments, Arc::new(move || now), Screen::plain(100), &mut out).await.unwrap();
    String::from_utf8(out).unwrap()
}

/// A part of what the demo says: from one heading up to another.
fn part<'a>(said: &'a str, from: &str, to: &str) -> &'a str {
    let start = said.find(&format!("━━ {from} ")).unwrap();
    let end = said.find(&format!("━━ {to} ")).unwrap();
    &said[start..end]
}

/// The events, sorted: groups of a batch run at once, so only the order within a metric is certain.
fn events(said: &str) -> String {
    let mut lines: Vec<&str> = part(said, "events published, in order", "dead letters").lines().skip(2).collect();
    lines.retain(|line| line.starts_with("metric_run_"));
    lines.sort_by_key(|line| line.split_whitespace().nth(1).map(str::to_owned));
    lines.join("\n")
}

#[tokio::test]
async fn the_demo_shows_every_metric_and_everything_that_happened() {
    let folder = tempfile::tempdir().unwrap();
    let first = demo(folder.path(), &[]).await;
    insta::assert_snapshot!("metrics", part(&first, "fx.usd_jpy", "batches and their responses"));
    insta::assert_snapshot!("events", events(&first));
    insta::assert_snapshot!("dead_letters", part(&first, "dead letters", "files"));
    let batches = part(&first, "batches and their responses", "events published, in order");
    assert_eq!(batches.matches("no failed items").count(), 13);

    let kept = demo(folder.path(), &["--keep"]).await;
    let successes = |said: &str| -> Vec<String> {
        events(said).lines().filter(|line| line.contains("SUCCESS")).map(str::to_owned).collect()
    };
    assert_eq!(successes(&kept), successes(&first), "a finished run publishes the same SUCCESS again");
    let started = |said: &str| events(said).matches("metric_run_started").count();
    assert_eq!(started(&kept), 0, "and what a message has failed stays failed for it");
}
