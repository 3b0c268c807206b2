//! The commit protocol of the worker, searched exhaustively.
//!
//! In goes a scenario: a few requests, a few workers, and a budget of troubles (crashes, lost answers, expired
//! visibility timeouts, redrives). Out comes either a proof that every promise of `model/promises.rs` holds in every
//! state that can be reached, or the shortest sequence of steps that breaks one. Taking away one guard at a time shows
//! what each is there for, and that the promises can fail.
//!
//! `cargo test --test model -- --nocapture` prints the numbers of states.

#![cfg(test)]

#[path = "model/guards.rs"]
mod guards;
#[path = "model/promises.rs"]
mod promises;
#[path = "model/protocol.rs"]
mod protocol;
#[path = "model/scenarios.rs"]
mod scenarios;
#[path = "model/system.rs"]
mod system;
#[path = "model/world.rs"]
mod world;

use std::collections::BTreeSet;

use stateright::{Checker, Expectation, HasDiscoveries, Model};

use guards::{Guard, Guards};
use scenarios::{BATCHES, CONFLICT, CROSSED, FAILURE, SAME_SECOND, SEVERAL_HANDS};
use system::System;
use world::Scenario;

/// Which promise breaks where a guard is missing.
const PROTECTS: &[(Guard, &Scenario, &str)] = &[
    (Guard::MarkerFirst, &CONFLICT, promises::FINISHED_STAYS_FINISHED),
    (Guard::MarkerDigest, &CONFLICT, promises::CONFLICT_HAS_NO_EFFECT),
    (Guard::ClaimIfAbsent, &CROSSED, promises::ONE_VERSION),
    (Guard::ClaimDigest, &CONFLICT, promises::CONFLICT_HAS_NO_EFFECT),
    (Guard::VersionAboveCurrent, &BATCHES, promises::GROUP_IN_ORDER),
    (Guard::DataIfAbsent, &SEVERAL_HANDS, promises::MANIFEST_DESCRIBES_DATA),
    (Guard::DataCompared, &SEVERAL_HANDS, promises::MANIFEST_DESCRIBES_DATA),
    (Guard::DataBeforeSeal, &SEVERAL_HANDS, promises::MANIFEST_DESCRIBES_DATA),
    (Guard::Seal, &SEVERAL_HANDS, promises::ONE_VERSION),
    (Guard::SealIfMatch, &CROSSED, promises::ONE_VERSION),
    (Guard::SealedIsFinished, &SEVERAL_HANDS, promises::ONE_VERSION),
    (Guard::MoveIfMatch, &SEVERAL_HANDS, promises::ONE_VERSION),
    (Guard::ManifestIfAbsent, &CROSSED, promises::NOTHING_COMMITTED_CHANGES),
    (Guard::ManifestCompared, &CROSSED, promises::OWN_VERSION),
    (Guard::ManifestBeforeCurrent, &SEVERAL_HANDS, promises::CURRENT_IS_COMMITTED),
    (Guard::CurrentForwardOnly, &CROSSED, promises::CURRENT_IS_MONOTONE),
    (Guard::CurrentIfMatch, &CROSSED, promises::CURRENT_IS_MONOTONE),
    (Guard::CurrentBeforeMarker, &SEVERAL_HANDS, promises::MARKER_IS_BACKED),
    (Guard::MarkerBeforeSuccess, &SEVERAL_HANDS, promises::SUCCESS_IS_BACKED),
    (Guard::PublishBeforeAcknowledge, &SEVERAL_HANDS, promises::NO_RUN_IS_LOST),
    (Guard::PublishBeforeAcknowledge, &SAME_SECOND, promises::CAN_FINISH),
    (Guard::LaterRecordsReturned, &BATCHES, promises::GROUP_IN_ORDER),
    (Guard::FailureThroughClaim, &FAILURE, promises::NO_FAILURE_AFTER_SUCCESS),
    (Guard::FailureIsFinalForMessage, &FAILURE, promises::NO_FAILURE_AFTER_SUCCESS),
];

/// Guards that the seal makes a second line of defence, and the promise that breaks where both are missing.
const SECOND_LINE: &[(Guard, &str)] = &[
    (Guard::MarkerIfAbsent, promises::NOTHING_COMMITTED_CHANGES),
    (Guard::SuccessFromStoredMarker, promises::SUCCESSES_ARE_EQUAL),
];

/// Searches every state of a scenario; there must be at least so many, lest the check become an empty one.
fn check(scenario: &Scenario, guards: Guards, at_least: usize) {
    let checker = System { scenario: scenario.clone(), guards }.checker().spawn_bfs().join();
    let states = checker.unique_state_count();
    println!("{}: {states} states, {} steps deep", scenario.name, checker.max_depth());
    checker.assert_properties();
    assert!(states >= at_least, "{} has {states} states, fewer than {at_least}", scenario.name);
}

/// The number of steps of the shortest way to break a promise without these guards.
fn steps_to_break(scenario: &Scenario, taken_away: &[Guard], promise: &'static str) -> Option<usize> {
    let system = System { scenario: scenario.clone(), guards: Guards::without(taken_away) };
    let found = HasDiscoveries::AnyOf(BTreeSet::from([promise]));
    let path = system.checker().finish_when(found).spawn_bfs().join().discovery(promise)?;
    Some(path.into_actions().len())
}

#[test]
fn every_promise_holds_for_two_runs_in_the_same_second() {
    check(&SAME_SECOND, Guards::ALL, 100_000);
}

#[test]
fn every_promise_holds_for_one_run_in_three_hands() {
    check(&SEVERAL_HANDS, Guards::ALL, 100_000);
}

#[test]
fn every_promise_holds_for_one_run_in_two_hands_beside_another() {
    check(&CROSSED, Guards::ALL, 200_000);
}

#[test]
fn every_promise_holds_for_a_conflict_and_a_redrive() {
    check(&CONFLICT, Guards::ALL, 200_000);
}

#[test]
fn every_promise_holds_for_groups_in_batches() {
    check(&BATCHES, Guards::ALL, 200_000);
}

#[test]
fn every_promise_holds_for_an_attempt_that_fails_for_good() {
    check(&FAILURE, Guards::ALL, 100_000);
}

#[test]
fn without_any_one_guard_a_promise_breaks() {
    for (guard, scenario, promise) in PROTECTS {
        let steps = steps_to_break(scenario, &[*guard], promise);
        println!("without {guard:?}, after {steps:?} steps, no longer: {promise}");
        assert!(steps.is_some(), "{guard:?} protects nothing: {promise}");
    }
}

#[test]
fn behind_the_seal_the_marker_has_a_second_line_of_defence() {
    for (guard, promise) in SECOND_LINE {
        let steps = steps_to_break(&SEVERAL_HANDS, &[Guard::Seal, *guard], promise);
        println!("without Seal and {guard:?}, after {steps:?} steps, no longer: {promise}");
        assert!(steps.is_some(), "{guard:?} protects nothing even without the seal: {promise}");
        assert_eq!(steps_to_break(&SEVERAL_HANDS, &[Guard::Seal], promise), None, "the seal alone protects: {promise}");
    }
    let second_line: Vec<Guard> = SECOND_LINE.iter().map(|(guard, _)| *guard).collect();
    check(&SEVERAL_HANDS, Guards::without(&second_line), 100_000);
}

#[test]
fn every_guard_and_every_promise_is_in_a_table() {
    let guards = PROTECTS.iter().map(|row| row.0).chain(SECOND_LINE.iter().map(|row| row.0));
    assert_eq!(guards.collect::<BTreeSet<_>>(), BTreeSet::from(Guard::ALL));
    let broken = PROTECTS.iter().map(|row| row.2).chain(SECOND_LINE.iter().map(|row| row.1));
    let system = System { scenario: FAILURE, guards: Guards::ALL };
    let properties = system.properties().into_iter();
    let promises = properties.filter(|property| property.expectation == Expectation::Always);
    assert_eq!(broken.collect::<BTreeSet<_>>(), promises.map(|property| property.name).collect());
}
