//! How far a command has come, on the standard error, where that is a terminal; elsewhere nothing: logs and scripts stay
//! readable.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The columns that the names before bars take, so that bars stand below each other.
const NAME_WIDTH: usize = 10;

/// The progress of one piece of work.
pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar on the standard error of this process, where that is a terminal.
    #[must_use]
    pub(super) fn stderr(name: &'static str, unit: &'static str, total: usize) -> Self {
        let length = u64::try_from(total).unwrap_or(u64::MAX);
        let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
        let template =
            format!("{name:<NAME_WIDTH$} {{bar:40.cyan}} {{human_pos}} of {{human_len}} {unit} {{msg:.dim}}");
        bar.set_style(ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar }
    }

    /// Says what is being worked on.
    pub(super) fn doing(&mut self, what: &str) {
        self.bar.set_message(what.to_owned());
    }

    /// One more is done.
    pub(super) fn step(&mut self) {
        self.bar.inc(1);
    }

    /// Takes the bar away.
    pub(super) fn finish(self) {
        self.bar.finish_and_clear();
    }
}

/// A sign of life on a terminal for work of which nobody knows how long it takes, once it takes longer than a second;
/// elsewhere nothing. It ends when it is dropped.
pub(super) struct Waiting {
    bar: ProgressBar,
    appearance: Option<tokio::task::JoinHandle<()>>,
}

impl Waiting {
    /// A sign on the standard error of this process that says what is being done.
    #[must_use]
    pub(super) fn stderr(what: impl Into<String>) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        let style = ProgressStyle::with_template("{spinner:.cyan} {msg:.dim} {elapsed:.dim}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.set_message(what.into());
        if !io::stderr().is_terminal() {
            return Self { bar, appearance: None };
        }
        let shown = bar.clone();
        let appearance = tokio::spawn(async move {
            tokio::time::sleep(PATIENCE).await;
            shown.set_draw_target(ProgressDrawTarget::stderr());
            shown.enable_steady_tick(TICK);
        });
        Self { bar, appearance: Some(appearance) }
    }

    /// Takes the sign away while something is written.
    pub(super) fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        self.bar.suspend(write)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(appearance) = &self.appearance {
            appearance.abort();
        }
        self.bar.finish_and_clear();
    }
}

/// How often a sign of life moves.
const TICK: Duration = Duration::from_millis(120);

/// Work that is over in this time shows no bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// A bar on a terminal for work that knows only which fraction of it is done; elsewhere nothing.
pub(super) struct Fraction {
    bar: ProgressBar,
}

impl Fraction {
    /// A bar on the standard error of this process, once the work takes longer than a second.
    #[must_use]
    pub(super) fn stderr(what: &str) -> Self {
        let bar = ProgressBar::with_draw_target(Some(1_000), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{bar:40.cyan} {percent:>3} % {msg:.dim}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar: bar.with_message(what.to_owned()) }
    }

    /// So much is done, from 0 to 1.
    pub(super) fn at(&self, fraction: f64) {
        if self.bar.elapsed() >= PATIENCE {
            self.bar.set_position(permille(fraction));
        }
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to what fits")]
fn permille(fraction: f64) -> u64 {
    (fraction.clamp(0.0, 1.0) * 1e3) as u64
}
