//! `metrics expr`: an expression in one form in, the same in the other out.

use std::io::Write;

use clap::{Args, ValueEnum};

use super::{formula, location};
use crate::expression::text;

/// The arguments of `metrics expr`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  metrics expr '100 * (A / lag(A, 30d))'
  metrics expr --to text '{\"op\":\"sma\",\"series\":{\"series_code\":\"A\"},\"window\":20}'")]
pub struct Command {
    /// The expression, as text or as JSON
    #[arg(value_name = "EXPR")]
    expression: String,
    /// The form to print
    #[arg(long, value_enum, default_value_t = Form::Json)]
    to: Form,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Form {
    /// As a request carries it
    Json,
    /// As a person writes it
    Text,
}

/// Prints the expression.
///
/// # Errors
/// When it is none; the error says where.
pub fn run(command: &Command, out: &mut (dyn Write + Send)) -> anyhow::Result<()> {
    let expression = formula::read(&command.expression, &location::limits()?)?;
    match command.to {
        Form::Json => writeln!(out, "{}", serde_json::to_string_pretty(&expression.to_json())?)?,
        Form::Text => writeln!(out, "{}", text::print(&expression))?,
    }
    Ok(())
}
