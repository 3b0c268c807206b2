//! The control plane: datasets change, the right metrics run, once.
//!
//! A projection update comes in and is recorded; in the same transaction every metric that depends on the dataset is
//! released, or left waiting for its other datasets. Requests leave through the outbox, feedback of the worker moves the
//! runs on, and a sweeper notices those of which nothing is heard. All state is in Postgres: any number of instances
//! work side by side.

// The vocabulary: values, no database.
pub mod status;
pub mod rejection;
pub mod message;
pub mod instant;

// What is done, each in one transaction.
pub mod catalogue;
pub mod update;
pub mod release;
pub mod feedback;
pub mod runs;
pub mod outbox;
pub mod sweep;

// Whoever calls: queues, the clock, people.
pub mod batch;
pub mod service;
pub mod lambda;
pub mod serve;

// The edges.
pub mod config;
pub mod database;
pub mod sample;
pub mod api;
