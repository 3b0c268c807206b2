//! The command line: arguments in, text out. Each command is a room; what they share is how a series is shown.

use std::io::Write;

use clap::{CommandFactory, Parser, Subcommand};

use crate::worker::Clock;
use screen::Screen;

pub mod dataset;
pub mod demo;
pub mod dlq;
pub mod eval;
pub mod explain;
pub mod expr;
pub mod inspect;
pub mod plot;
pub mod replay;
pub mod schemas;
pub mod run;
pub mod screen;
pub mod table;
pub mod test;
pub mod validate;

mod axis;
mod chart;
mod events;
mod formula;
mod location;
mod lookup;
mod progress;

/// Metrics over time series, computed once, exactly
#[derive(Debug, Parser)]
#[command(name = "metrics", version, after_help = EXIT_CODES)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const COMPLETIONS: &str = "Examples:
  metrics completions bash > ~/.local/share/bash-completion/completions/metrics
  metrics completions zsh > ~/.zfunc/_metrics";

const EXIT_CODES: &str = "Examples:
  metrics dataset build --csv shop.csv --into bucket
  metrics eval --data bucket 'sma(sales, 7)' --output plot
  metrics eval --help

A data location is a folder that stands for a bucket, s3://BUCKET, or s3://BUCKET/PREFIX; credentials, region and endpoint come from
the environment, as for any AWS tool, and settings from it and from .env. Colours and progress appear on a terminal only, and
none where NO_COLOR is set.

Exit codes:
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
    /// Run a batch, or a single request, as the worker does
    Run(run::Command),
    /// Show what the runs of a batch would read, and about what they would take and cost
    Explain(explain::Command),
    /// Find everything that is wrong with a document or a dataset
    Validate(validate::Command),
    /// Show what a bucket holds of a metric: versions, lineage, runs
    Inspect(inspect::Inspect),
    /// Show which times differ between two versions of a metric
    Diff(inspect::Diff),
    /// Run dead letters or a file's records once more, here, or send them to a queue
    Replay(replay::Command),
    /// Look at dead letters and send them back
    #[command(subcommand)]
    Dlq(dlq::Command),
    /// Test expressions against written series
    Test(test::Command),
    /// Write the completions of a shell to the standard output
    #[command(after_help = COMPLETIONS)]
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
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
) -> anyhow::Result<Verdict> {
    match arguments.command {
        Command::Demo(demo) => demo::run(&demo, clock, screen, out).await?,
        Command::Eval(command) => eval::run(&command, screen, out).await?,
        Command::Expr(command) => expr::run(&command, out)?,
        Command::Run(command) => return run::run(&command, clock, screen, out).await,
        Command::Explain(command) => return explain::run(&command, screen, out).await,
        Command::Validate(command) => return validate::run(&command, screen, out).await,
        Command::Inspect(command) => inspect::inspect(&command, screen, out).await?,
        Command::Diff(command) => return inspect::diff(&command, screen, out).await,
        Command::Replay(command) => return replay::run(&command, clock, screen, out).await,
        Command::Dlq(command) => dlq::run(&command, screen, out).await?,
        Command::Test(command) => return test::run(&command, screen, out),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "metrics", &mut { out });
        }
        Command::Dataset(command) => dataset::run(&command, out).await?,
        Command::Schemas(schemas) => schemas::run(&schemas, out).await?,
    }
    Ok(Verdict::Well)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(command: &clap::Command, path: &str) {
        let is_leaf = command.get_subcommands().next().is_none();
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(!is_leaf || help.starts_with("Example"), "{path} has no example in its help");
        assert!(command.get_about().is_some() || path == "metrics", "{path} does not say what it does");
        for subcommand in command.get_subcommands() {
            check(subcommand, &format!("{path} {}", subcommand.get_name()));
        }
    }

    #[test]
    fn every_command_says_what_it_does_and_shows_an_example() {
        check(&Arguments::command(), "metrics");
        Arguments::command().debug_assert();
        let help = Arguments::command().render_help().to_string();
        assert!(help.contains("Exit codes:\n  0") && help.contains("Examples:"), "{help}");
    }
}
