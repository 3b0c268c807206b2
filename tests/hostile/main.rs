//! Hostile input through the whole handler: what it may cost, what becomes of it, and that nobody else notices.
//!
//! Each test runs in a process of its own, in which every case has a bound of time and of memory.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where the worker did not do its part"
)]
#![allow(clippy::print_stdout, reason = "what a case costs is told where it is measured")]
#![allow(unreachable_pub, reason = "the support is shared with other tests")]

#[path = "../reading/files.rs"]
#[allow(dead_code, reason = "the forged files are shared with the tests of the reader")]
mod files;
#[path = "../support/hostile_files.rs"]
mod hostile_files;
mod manifests;
mod measure;
mod parquet_files;
mod requests;
mod scene;
#[path = "../support/world.rs"]
mod world;
