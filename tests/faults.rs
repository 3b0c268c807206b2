//! The worker itself in a world of faults: the real handler on a store, a topic and a queue in memory, in virtual time.
//!
//! One half tries every trouble at every request in turn, the other half makes up schedules from seeds. In both,
//! `faults/judge.rs` looks at each write and each event as it happens, and at everything that is left.
//!
//! `SOAK_SEEDS=100000 cargo test --test faults -- --nocapture seeds` (or `make soak`) takes more seeds.

#![cfg(test)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where its world fails")]

#[path = "faults/deadlines.rs"]
mod deadlines;
#[path = "faults/judge.rs"]
mod judge;
#[path = "faults/lab.rs"]
mod lab;
#[path = "faults/points.rs"]
mod points;
#[path = "faults/schedule.rs"]
mod schedule;
#[path = "faults/wire.rs"]
mod wire;
#[path = "support/world.rs"]
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use lab::in_virtual_time;
use metrics_engine::storage::memory::Fault;
use points::{Plan, Setting};
use schedule::Counts;
use wire::{Point, Trouble};

const CALM: Setting = Setting {
    two_runs: false,
    inputs_change: false,
    is_last_receive: false,
    second_worker: false,
    redrive: false,
    in_slices: false,
};

fn run(setting: Setting, plan: Vec<(usize, Trouble)>) -> Vec<Point> {
    in_virtual_time(points::check(setting, Plan::from(Arc::new(plan)))).unwrap_or_else(|wrong| panic!("{wrong}"))
}

/// Every trouble at every point of the undisturbed life; the number of cases.
fn every_point(setting: Setting) -> usize {
    let points = run(setting, Vec::new());
    let mut count = 0;
    for point in &points {
        for trouble in points::troubles(point) {
            run(setting, vec![(point.number, trouble)]);
            count += 1;
        }
    }
    println!("{setting:?}: {} points, {count} cases", points.len());
    count
}

#[test]
fn a_calm_run_puts_one_file_whole_and_uploads_the_other_in_parts() {
    let points = run(CALM, Vec::new());
    let data: Vec<&str> =
        points.iter().filter(|point| point.target.contains("/data/metrics.")).map(|point| point.operation).collect();
    assert_eq!(data, ["put", "begin", "part", "part", "complete"]);
}

#[test]
fn a_run_in_slices_sends_a_file_ahead_and_completes_it_when_all_of_it_is_there() {
    let points = run(Setting { in_slices: true, ..CALM }, Vec::new());
    let lines = points.iter().filter(|point| point.target.contains("/data/metrics.jsonl"));
    let operations: Vec<&str> = lines.map(|point| point.operation).collect();
    assert_eq!(operations, ["begin", "part", "part", "complete"]);
    let place = |operation, target| {
        points.iter().position(|point| point.operation == operation && point.target.contains(target)).unwrap()
    };
    // The other file is complete, and its upload begun, only when everything was read and computed.
    assert!(place("part", "metrics.jsonl") < place("begin", "metrics.parquet"));
}

#[test]
fn every_trouble_at_every_point_of_a_run_in_slices() {
    let in_slices = Setting { in_slices: true, ..CALM };
    assert!(every_point(in_slices) >= 100);
    assert!(every_point(Setting { redrive: true, inputs_change: true, ..in_slices }) >= 100);
    assert!(every_point(Setting { second_worker: true, inputs_change: true, ..in_slices }) >= 100);
}

#[test]
fn every_trouble_at_every_point_of_a_run() {
    assert!(every_point(CALM) >= 100);
    assert!(every_point(Setting { inputs_change: true, ..CALM }) >= 100);
    assert!(every_point(Setting { redrive: true, inputs_change: true, ..CALM }) >= 100);
}

#[test]
fn every_trouble_at_every_point_of_the_last_receive() {
    assert!(every_point(Setting { is_last_receive: true, inputs_change: true, ..CALM }) >= 100);
}

#[test]
fn every_trouble_at_every_point_of_two_runs_in_the_same_second() {
    assert!(every_point(Setting { two_runs: true, ..CALM }) >= 200);
    assert!(every_point(Setting { two_runs: true, inputs_change: true, ..CALM }) >= 200);
}

#[test]
fn every_trouble_at_every_point_beside_a_second_worker() {
    assert!(every_point(Setting { second_worker: true, ..CALM }) >= 100);
    assert!(every_point(Setting { second_worker: true, inputs_change: true, ..CALM }) >= 100);
    assert!(every_point(Setting { second_worker: true, two_runs: true, inputs_change: true, ..CALM }) >= 200);
    assert!(every_point(Setting { second_worker: true, is_last_receive: true, ..CALM }) >= 100);
}

#[test]
fn two_troubles_in_one_life() {
    const FIRST: [Trouble; 3] =
        [Trouble::Fault(Fault::LoseAnswer), Trouble::Fault(Fault::FailBefore), Trouble::Fault(Fault::HangAfter)];
    const SECOND: [Trouble; 3] =
        [Trouble::Fault(Fault::LoseAnswer), Trouble::CrashBefore, Trouble::Fault(Fault::Refuse)];
    let mut count = 0;
    for setting in [CALM, Setting { is_last_receive: true, inputs_change: true, ..CALM }] {
        let calm = run(setting, Vec::new());
        for first in 0..calm.len() {
            for trouble in FIRST {
                // What the worker does after the first trouble has points of its own.
                let points = run(setting, vec![(first, trouble)]);
                for second in &points[first + 1..] {
                    for another in SECOND {
                        run(setting, vec![(first, trouble), (second.number, another)]);
                        count += 1;
                    }
                }
            }
        }
    }
    println!("{count} pairs");
    assert!(count >= 500);
}

#[test]
fn the_answer_leaves_in_time_whatever_hangs_and_nothing_happens_after_it() {
    const LIMITS: u64 = 2_000;
    let played =
        (0..LIMITS).map(|seed| in_virtual_time(deadlines::play(seed)).unwrap_or_else(|wrong| panic!("{wrong}")));
    let returned = played.filter(|something_returned| *something_returned).count();
    println!("{LIMITS} time limits, {returned} with records that went back");
    assert!((500..1_900).contains(&returned), "the limits are all alike: {returned}");
}

/// How many seeds are played where nobody asks for more.
const SEEDS: u64 = 600;

#[expect(clippy::disallowed_methods, reason = "a longer search is asked for from outside of the test")]
fn seed_count() -> u64 {
    std::env::var("SOAK_SEEDS").map_or(SEEDS, |text| text.parse().expect("SOAK_SEEDS is a number"))
}

#[test]
fn seeds() {
    let (count, next) = (seed_count(), AtomicU64::new(0));
    let totals = Mutex::new(Counts::default());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= count {
                        return;
                    }
                    let played = in_virtual_time(schedule::play(seed));
                    let (counts, _) = played.unwrap_or_else(|wrong| panic!("{wrong}"));
                    totals.lock().unwrap().add(counts);
                    if seed % 1_000 == 999 {
                        eprintln!("{} of {count} seeds", seed + 1);
                    }
                }
            });
        }
    });
    let totals = *totals.lock().unwrap();
    println!("{count} seeds: {totals:?}");
    let per_seed = |number: usize| number as u64 * 10 >= count;
    let Counts { lives, deaths, troubled, at_once, redriven, duplicates, failures, .. } = totals;
    for number in [lives, deaths, troubled, at_once, redriven, duplicates, failures] {
        assert!(per_seed(number), "too little happens in these schedules: {totals:?}");
    }
}

#[test]
fn a_seed_is_played_the_same_way_every_time() {
    for seed in 0..25 {
        let once = in_virtual_time(schedule::play(seed)).unwrap_or_else(|wrong| panic!("{wrong}"));
        let again = in_virtual_time(schedule::play(seed)).unwrap_or_else(|wrong| panic!("{wrong}"));
        assert!(once == again, "seed {seed}:\n{}\n\n{}", once.1, again.1);
    }
}
