//! The control plane: datasets change, the right metrics run, once.
//!
//! A projection update comes in and is recorded; in the same transaction every metric that depends on the dataset is
//! released, or left waiting for its other datasets. Requests leave through the outbox, feedback of the worker moves the
//! runs on, and a sweeper notices those of which nothing is heard. All state is in Postgres: any number of instances
//! work side by side.

pub mod status;
pub mod instant;
pub mod database;
pub mod config;
