//! The control plane on a real Postgres.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]
#![allow(unreachable_pub, dead_code, reason = "modules of one test binary")]

#[path = "../support/local_aws.rs"]
mod local_aws;
#[path = "../support/runtime_api.rs"]
mod runtime_api;
#[path = "../support/postgres.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of the support")]
mod postgres;
#[path = "../support/tls_postgres.rs"]
mod tls_postgres;

mod defects;
mod invoked;
mod many;
mod messages;
mod properties;
mod relays;
mod schema;
mod serving;
mod size;
mod speed;
mod tls;
mod world;
