//! The command line: arguments in, text out. Each command is a room; what they share is how a series is shown.

pub mod plot;
pub mod screen;
pub mod table;

mod axis;
