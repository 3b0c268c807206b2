//! A metrics engine: expressions over time series, computed by a worker on AWS Lambda.
//!
//! A dataset changes; the control plane asks for runs; for every record of an SQS batch the worker checks whether the
//! run was done, plans what to read, reads Parquet from S3, evaluates the expression, commits the result and
//! publishes what happened. Top to bottom, the modules are one run: first the values that every step shares, then
//! the steps, then the edges of the process.

// The vocabulary: values, no async, no storage, no clock.
pub mod ids;
pub mod request;
pub mod expression;
pub mod manifest;
pub mod keys;
pub mod series;
pub mod event;
pub mod schema;

// The worker: steps in the order that the data takes.
pub mod worker;

// The edges of the process.
pub mod aws;
pub mod storage;
pub mod config;
pub mod telemetry;
pub mod poll;

// Beside the worker: input for it, what it wrote read back, and the command line.
pub mod readback;
pub mod cli;
pub mod dataset;

// The control plane: which metrics run, and when.
#[cfg(feature = "control")]
pub mod control;
