//! The HTTP API over a real Postgres: what it answers, to whom, and what it does when it is asked for nonsense.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]
#![allow(unreachable_pub, reason = "modules of one test binary")]

#[path = "../support/postgres.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of the support")]
mod postgres;

mod caller;

mod access;
mod catalogue;
mod lambda;
mod pages;
mod problems;
mod slow;
mod values;
