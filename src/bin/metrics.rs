//! The command line of the metrics engine: reads the arguments and hands over.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use metrics_engine::cli::screen::Screen;
use metrics_engine::cli::{self, Arguments, Verdict};
use metrics_engine::config::read_env_file;
use metrics_engine::worker::Clock;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match read_env_file(".env".as_ref()).and_then(|()| run(arguments)) {
        Ok(Verdict::Well) => ExitCode::SUCCESS,
        Ok(Verdict::Wrong) => ExitCode::from(3),
        // Whoever reads the output has seen enough: `metrics demo | head`.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // With nowhere left to write to, the exit code still tells.
            let _ = writeln!(io::stderr(), "error: {}", told(&error));
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn run(arguments: Arguments) -> anyhow::Result<Verdict> {
    let mut out = io::stdout();
    let verdict = cli::run(arguments, clock(), Screen::stdout(), &mut out).await?;
    out.flush()?;
    Ok(verdict)
}

#[expect(clippy::disallowed_methods, reason = "the clock is made here, and passed on as a port")]
fn clock() -> Clock {
    Arc::new(jiff::Timestamp::now)
}

/// The error and its causes; a cause that the error before it names already is not told twice.
fn told(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if told.is_empty() {
            told = cause;
        } else if !told.ends_with(&cause) {
            told = format!("{told}: {cause}");
        }
    }
    told
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
