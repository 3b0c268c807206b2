//! The command line: arguments in, text out. Each command is a room; what they share is how a series is shown.

use std::io::Write;

use clap::{Parser, Subcommand};

use crate::worker::Clock;
use screen::Screen;

pub mod dataset;
pub mod demo;
pub mod plot;
pub mod schemas;
pub mod screen;
pub mod table;

mod axis;
mod formula;
mod progress;
mod readback;

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
    /// Run the sample batches on the sample data and show what comes of them
    Demo(demo::Demo),
    /// Build datasets
    #[command(subcommand)]
    Dataset(dataset::Command),
    /// Write the contracts as JSON Schemas and an AsyncAPI document
    Schemas(schemas::Schemas),
}

/// Runs the command that the arguments name; its result goes to `out`, its progress to the standard error.
///
/// # Errors
/// When the command fails; the error's chain says why.
pub async fn run(
    arguments: Arguments,
    clock: Clock,
    screen: Screen,
    out: &mut (dyn Write + Send),
) -> anyhow::Result<()> {
    match arguments.command {
        Command::Demo(demo) => demo::run(&demo, clock, screen, out).await,
        Command::Dataset(command) => dataset::run(&command, out).await,
        Command::Schemas(schemas) => schemas::run(&schemas, out).await,
    }
}
