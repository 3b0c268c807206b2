//! How far a command has come, on the standard error: a bar on a terminal, a line now and then elsewhere, so that a
//! log stays readable.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::table::grouped;

/// Elsewhere than on a terminal, so many lines tell the whole way.
const LINES: usize = 4;

/// The columns that the names before bars take, so that bars stand below each other.
const NAME_WIDTH: usize = 10;

/// The progress of one piece of work.
pub(super) struct Progress {
    name: &'static str,
    total: usize,
    done: usize,
    shown: Shown,
}

enum Shown {
    Bar(ProgressBar),
    Lines(Box<dyn Write + Send>),
}

impl Progress {
    /// Progress on the standard error of this process; `total` is not zero.
    #[must_use]
    pub(super) fn stderr(name: &'static str, unit: &'static str, total: usize) -> Self {
        let stderr = io::stderr();
        if !stderr.is_terminal() {
            return Self::lines(name, total, Box::new(stderr));
        }
        let length = u64::try_from(total).unwrap_or(u64::MAX);
        let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
        let template =
            format!("{name:<NAME_WIDTH$} {{bar:40.cyan}} {{human_pos}} of {{human_len}} {unit} {{msg:.dim}}");
        bar.set_style(ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { name, total, done: 0, shown: Shown::Bar(bar) }
    }

    fn lines(name: &'static str, total: usize, out: Box<dyn Write + Send>) -> Self {
        Self { name, total, done: 0, shown: Shown::Lines(out) }
    }

    /// Says what is being worked on.
    pub(super) fn doing(&mut self, what: &str) {
        if let Shown::Bar(bar) = &self.shown {
            bar.set_message(what.to_owned());
        }
    }

    /// One more is done.
    pub(super) fn step(&mut self) {
        let before = self.done * LINES / self.total.max(1);
        self.done += 1;
        match &mut self.shown {
            Shown::Bar(bar) => bar.inc(1),
            Shown::Lines(out) => {
                if self.done * LINES / self.total.max(1) > before {
                    // Progress that cannot be told is no reason to stop the work.
                    let _ =
                        writeln!(out, "{:<NAME_WIDTH$} {} of {}", self.name, grouped(self.done), grouped(self.total));
                }
            }
        }
    }

    /// Leaves the bar as it is, with nothing being worked on.
    pub(super) fn finish(self) {
        if let Shown::Bar(bar) = self.shown {
            bar.finish_with_message("");
        }
    }
}

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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lines(total: usize) -> String {
        let log = Log::default();
        let mut progress = Progress::lines("dataset", total, Box::new(log.clone()));
        (0..total).for_each(|_| progress.step());
        progress.finish();
        String::from_utf8(log.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_log_gets_a_line_now_and_then() {
        let expected = "dataset    807 of 3,228\ndataset    1,614 of 3,228\ndataset    2,421 of 3,228\ndataset    3,228 of 3,228\n";
        assert_eq!(lines(3_228), expected);
        assert_eq!(lines(1), "dataset    1 of 1\n");
    }
}
