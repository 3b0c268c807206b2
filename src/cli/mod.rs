//! The command line: arguments in, text out. Each command is a room; what they share is how a series is shown.

use std::io::Write;

use clap::{Parser, Subcommand};

pub mod dataset;
pub mod plot;
pub mod screen;
pub mod table;

mod axis;
mod progress;

/// Metrics over time series, computed once, exactly
#[derive(Debug, Parser)]
#[command(name = "metrics", version)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// What `metrics` can do.
#[derive(Debug, Subcommand)]
enum Command {
    /// Build datasets
    #[command(subcommand)]
    Dataset(dataset::Command),
}

/// Runs the command that the arguments name; its result goes to `out`, its progress to the standard error.
///
/// # Errors
/// When the command fails; the error's chain says why.
pub async fn run(arguments: Arguments, out: &mut (dyn Write + Send)) -> anyhow::Result<()> {
    match arguments.command {
        Command::Dataset(command) => dataset::run(&command, out).await,
    }
}
