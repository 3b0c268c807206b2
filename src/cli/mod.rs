//! The command line: arguments in, text out. Each command is a room; what they share is how a series is shown.

use std::io::Write;

use clap::{Parser, Subcommand};

use crate::worker::Clock;
use screen::Screen;

pub mod dataset;
pub mod demo;
pub mod eval;
pub mod expr;
pub mod plot;
pub mod screen;
pub mod table;

mod axis;
mod chart;
mod formula;
mod location;
mod lookup;
mod progress;
mod readback;

/// Metrics over time series, computed once, exactly
#[derive(Debug, Parser)]
#[command(name = "metrics", version, after_help = EXIT_CODES)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes:
  0  done, and all is well
  1  it could not be done; the standard error says why
  2  the arguments are not understood
  3  done, and something is wrong: a run failed, a test did not pass, a document is not valid";

/// What came of a command that could do its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// All is well.
    Well,
    /// What was looked at is not as it should be.
    Wrong,
}

/// What `metrics` can do.
#[derive(Debug, Subcommand)]
enum Command {
    /// Run the sample batches on the sample data and show what comes of them
    Demo(demo::Demo),
    /// Evaluate expressions over a data location
    Eval(eval::Command),
    /// Translate an expression between text and JSON
    Expr(expr::Command),
    /// Build datasets
    #[command(subcommand)]
    Dataset(dataset::Command),
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
) -> anyhow::Result<Verdict> {
    match arguments.command {
        Command::Demo(demo) => demo::run(&demo, clock, screen, out).await?,
        Command::Eval(command) => eval::run(&command, screen, out).await?,
        Command::Expr(command) => expr::run(&command, out)?,
        Command::Dataset(command) => dataset::run(&command, out).await?,
    }
    Ok(Verdict::Well)
}
