//! Parquet files that lie, inflate, or are something else.

use std::time::Duration;

use bytes::Bytes;
use metrics_engine::keys::Key;
use metrics_engine::worker::deadline::Deadline;
use serde_json::json;

use crate::hostile_files::{
    HostileFile, claims, flipped, inflating, no_rows, padded, repeating, shared_of, strangers, truncations, valid,
};
use crate::measure::{bounded, in_a_process_of_its_own};
use crate::scene::Fate::{Fails, Succeeds};
use crate::scene::{Fate, METRIC, check, check_within, runtime, small_world};
use crate::world::{self, World, record, request};

const INPUT: &str = "INPUT_READ_ERROR";
const OWN: &str = "datasets/d/projections/A/year=2024/month=01/data.parquet";

fn world_with(key: &str, bytes: Bytes) -> World {
    let world = small_world();
    world.storage.insert(&Key::parse(key).unwrap(), bytes);
    world
}

fn check_file(file: &HostileFile) {
    let world = world_with(OWN, file.bytes.clone());
    let body = request("h", METRIC).to_string();
    runtime().block_on(check(&file.name, &world, &body, Fails(INPUT, file.problem)));
}

/// What becomes of a run over many damaged files, one after the other: it fails as an input does, or succeeds.
async fn all_end(files: impl Iterator<Item = Bytes>) -> [usize; 2] {
    let mut counts = [0; 2];
    let body = request("h", METRIC);
    for (index, bytes) in files.enumerate() {
        let world = world_with(OWN, bytes);
        assert!(world.handle(&[record("m", "g", &body)]).await.is_empty(), "file {index} went back");
        let completed = world.completed();
        assert_eq!(completed.len(), 1, "file {index}");
        let event = &completed[0];
        let is_success = event["status"] == "SUCCESS";
        assert!(is_success || event["errorCode"] == INPUT, "file {index}: {event}");
        let is_named = || event["error"].as_str().is_some_and(|text| text.contains(OWN) || text.contains("no series"));
        assert!(is_success || is_named(), "file {index}: {event}");
        counts[usize::from(is_success)] += 1;
    }
    counts
}

#[test]
fn every_truncation_fails_the_run() {
    in_a_process_of_its_own("parquet_files::every_truncation_fails_the_run", || {
        let [failed, succeeded] = runtime().block_on(bounded("truncations", all_end(truncations())));
        assert_eq!((failed, succeeded), (valid().len(), 0));
    });
}

#[test]
fn flipped_bytes_fail_the_run_or_are_harmless() {
    in_a_process_of_its_own("parquet_files::flipped_bytes_fail_the_run_or_are_harmless", || {
        // The decoder may panic on values: that is caught and named, so its messages are not wanted here.
        std::panic::set_hook(Box::new(|info| {
            if !info.location().is_some_and(|location| location.file().contains("/parquet-")) {
                eprintln!("{info}");
            }
        }));
        let [failed, succeeded] = runtime().block_on(bounded("flipped bytes", all_end(flipped(20_250_115, 1_500))));
        println!("{failed} failed, {succeeded} succeeded");
        assert!(failed > 100 && succeeded > 10, "{failed} failed, {succeeded} succeeded");
    });
}

#[test]
fn claims_are_not_believed() {
    in_a_process_of_its_own("parquet_files::claims_are_not_believed", || claims().iter().for_each(check_file));
}

#[test]
fn strangers_are_named() {
    in_a_process_of_its_own("parquet_files::strangers_are_named", || {
        strangers().iter().for_each(check_file);
        let body = request("h", METRIC).to_string();
        runtime().block_on(check("no rows", &world_with(OWN, no_rows()), &body, Succeeds));
        runtime().block_on(check("foreign rows", &world_with(OWN, shared_of("X")), &body, Succeeds));
    });
}

#[test]
fn a_small_file_that_inflates_is_stopped() {
    in_a_process_of_its_own("parquet_files::a_small_file_that_inflates_is_stopped", || {
        inflating().iter().for_each(check_file);
    });
}

#[test]
fn files_that_inflate_beside_one_another_take_turns() {
    in_a_process_of_its_own("parquet_files::files_that_inflate_beside_one_another_take_turns", || {
        let mut world = small_world();
        world.config = world::config(&[("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"), ("READ_CONCURRENCY", "16")]);
        let bytes = padded();
        for index in 0..16 {
            let key = format!("datasets/d/projections/A/year=2020/month={index:02}/data.parquet");
            world.storage.insert(&Key::parse(&key).unwrap(), bytes.clone());
        }
        let body = request("h", METRIC).to_string();
        runtime().block_on(check("16 files of 32 MB", &world, &body, Succeeds));
    });
}

#[test]
fn rows_that_cost_nothing_to_claim_are_limited() {
    in_a_process_of_its_own("parquet_files::rows_that_cost_nothing_to_claim_are_limited", || {
        let body = request("h", METRIC).to_string();
        let check = |name: &str, world: &World, body: &str, fate: Fate| {
            // Cancelling must be possible all the time: a worker that cannot answer loses its whole batch.
            let deadline = Deadline::after(Duration::from_secs(55));
            runtime().block_on(check_within(name, world, body, fate, deadline));
        };
        check("2^31 own rows", &world_with(OWN, repeating("A")), &body, Fails(INPUT, "observations"));
        // The rows of others are limited by the observations that may be read; fewer here, for a debug build's sake.
        let few = world::config(&[("LIMIT_OBSERVATIONS", "50000")]);
        let mut world = world_with(OWN, repeating("X"));
        world.config = few.clone();
        check("2^31 foreign rows", &world, &body, Fails(INPUT, "the run decodes more than 5000000 rows"));
        let mut world = world_with("datasets/d/projections/all.parquet", repeating("X"));
        world.config = few;
        for own in [OWN, "datasets/d/projections/A/year=2024/month=02/data.parquet"] {
            world.storage.remove(&Key::parse(own).unwrap());
        }
        let manifest = json!({ "parquet_files": ["all.parquet"], "series_codes": ["A", "B"] }).to_string();
        world.storage.insert(&Key::parse("datasets/d/versions/v9/manifest.json").unwrap(), Bytes::from(manifest));
        let shared = body.replace("versions/v1", "versions/v9");
        check("2^31 shared foreign rows", &world, &shared, Fails(INPUT, "the run decodes more than 5000000 rows"));
    });
}

/// `make fuzz` begins with these.
#[test]
#[ignore = "it writes files into the folder FUZZ_SEEDS, and checks nothing"]
fn seeds_of_the_fuzz_target() {
    const MOST_BYTES: usize = 4 << 10;
    let folder = std::path::PathBuf::from(std::env::var_os("FUZZ_SEEDS").expect("FUZZ_SEEDS is not set"));
    std::fs::create_dir_all(&folder).unwrap();
    let own = [valid(), no_rows(), shared_of("X"), repeating("A"), repeating("X")];
    let files = own.into_iter().chain(claims().into_iter().chain(strangers()).map(|file| file.bytes));
    for (index, bytes) in files.filter(|bytes| bytes.len() <= MOST_BYTES).enumerate() {
        std::fs::write(folder.join(index.to_string()), bytes).unwrap();
    }
}
