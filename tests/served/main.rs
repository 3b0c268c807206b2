//! The API as it is served: by the built program, over a real Postgres and a local S3, to a fuzzer and to a browser.
#![allow(clippy::disallowed_methods, reason = "what is tested is said by variables")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

#[path = "../support/http.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of the support")]
mod http;
#[path = "../support/local_aws.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of the support")]
mod local_aws;
#[path = "../support/postgres.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of the support")]
mod postgres;
mod browser;
mod fuzzer;
mod program;
mod silent;
