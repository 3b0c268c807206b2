//! What tests share: a local AWS and a local Lambda.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of the support")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where its support fails")]

pub mod local_aws;
pub mod request_log;
pub mod runtime_api;
pub mod scene;
