//! The reading step against real Parquet files: every type, layout and codec, what pruning saves, and files that
//! are wrong, by accident or on purpose.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up has to stop")]

mod encodings;
mod files;
mod hostile;
mod merging;
mod pruning;
mod slicing;
mod store;
mod types;
