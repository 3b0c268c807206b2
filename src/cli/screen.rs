//! What the output of a command can show: how wide it is, and whether colours reach anybody.

use std::io::IsTerminal;

/// The width where nobody can tell: a log, a file, a pipe.
const DEFAULT_WIDTH: u16 = 100;

/// Wider plots become harder to read, not easier.
const WIDEST: u16 = 160;

/// Where a command's output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Screen {
    /// Columns.
    pub width: u16,
    /// Whether escape sequences are understood.
    pub colours: bool,
}

/// The colours that the command line uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// Headings.
    Bold,
    /// What is there to be looked up, not to be read.
    Dim,
    /// A success.
    Green,
    /// A failure.
    Red,
    /// A curve.
    Cyan,
}

impl Screen {
    /// The standard output of this process.
    #[must_use]
    pub fn stdout() -> Self {
        let colours = std::io::stdout().is_terminal() && console::colors_enabled();
        let width = console::Term::stdout().size_checked().map_or(DEFAULT_WIDTH, |(_, columns)| columns);
        Self { width: width.min(WIDEST), colours }
    }

    /// Plain text of that width.
    #[must_use]
    pub fn plain(width: u16) -> Self {
        Self { width, colours: false }
    }

    /// The text in a colour, where colours reach anybody.
    #[must_use]
    pub fn paint(self, colour: Colour, text: &str) -> String {
        if !self.colours || text.is_empty() {
            return text.to_owned();
        }
        let code = match colour {
            Colour::Bold => 1,
            Colour::Dim => 2,
            Colour::Green => 32,
            Colour::Red => 31,
            Colour::Cyan => 36,
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_appear_only_where_they_reach_anybody() {
        assert_eq!(Screen::plain(80).paint(Colour::Red, "x"), "x");
        assert_eq!(Screen { width: 80, colours: true }.paint(Colour::Red, "x"), "\u{1b}[31mx\u{1b}[0m");
    }
}
