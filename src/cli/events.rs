//! An event as a line for a person.

use std::io::{self, Write};

use super::screen::{Colour, Screen};
use super::table::grouped;
use crate::event::{Event, Outcome};

/// Writes the event; what went wrong follows on lines of its own.
pub(super) fn show(event: &Event, code_width: usize, screen: Screen, out: &mut dyn Write) -> io::Result<()> {
    let start = format!("{:<20}  {:<code_width$}  ", event.type_name(), event.metric_code().as_str());
    match event {
        Event::MetricRunStarted { run_id, .. } => {
            writeln!(out, "{start}{}", screen.paint(Colour::Dim, &format!("run {run_id}")))
        }
        Event::MetricRunHeartbeat { progress, .. } => writeln!(out, "{start}{:.0} %", progress * 100.0),
        Event::MetricRunCompleted { outcome: Outcome::Success { version_ts, row_count, .. }, .. } => {
            let rows = grouped(usize::try_from(*row_count).unwrap_or(usize::MAX));
            writeln!(out, "{start}{}  {rows} rows, version {version_ts}", screen.paint(Colour::Green, "SUCCESS"))
        }
        Event::MetricRunCompleted { outcome: Outcome::Failure { error, .. }, .. } => {
            writeln!(out, "{start}{}", screen.paint(Colour::Red, "FAILURE"))?;
            indented(error, screen, out)
        }
    }
}

/// A text of several lines' length, four columns in.
pub(super) fn indented(text: &str, screen: Screen, out: &mut dyn Write) -> io::Result<()> {
    wrap(text, screen.width.saturating_sub(4)).iter().try_for_each(|line| writeln!(out, "    {line}"))
}

/// Lines of whole words, no wider than the width unless a word is.
pub(super) fn wrap(text: &str, width: u16) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let Some(line) = lines.last_mut() else { break };
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= usize::from(width) {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}
