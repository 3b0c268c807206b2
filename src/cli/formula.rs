//! The expression that a person gave: text or JSON in, the tree out, and below an error a caret at its place.

use anyhow::{Context, anyhow};

use crate::expression::{Expr, Limits, text};

/// Reads an expression: JSON where it begins with `{`, text otherwise.
///
/// # Errors
/// The first thing that is wrong, with its JSON path, or its line and column.
pub(super) fn read(given: &str, limits: &Limits) -> anyhow::Result<Expr> {
    if given.trim_start().starts_with('{') {
        let json = serde_json::from_str(given).context("the expression is no JSON")?;
        return Ok(Expr::parse(&json, limits)?);
    }
    text::parse(given, limits).map_err(|error| anyhow!("{error}\n\n{}", indented(&error.caret(given))))
}

fn indented(lines: &str) -> String {
    let lines: Vec<String> = lines.lines().map(|line| format!("    {line}")).collect();
    lines.join("\n")
}

/// `label = expression`; the expression is its own label where there is none.
pub(super) fn labelled(given: &str) -> (Option<&str>, &str) {
    let is_label = |label: &str| {
        !label.is_empty() && label.chars().all(|one| one.is_ascii_alphanumeric() || "_.:- ".contains(one))
    };
    match given.split_once('=') {
        Some((label, expression)) if is_label(label.trim()) => (Some(label.trim()), expression),
        _ => (None, given),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_the_same_expression() {
        let limits = Limits::default();
        let json = r#"{"op":"sma","series":{"series_code":"A"},"window":20}"#;
        assert_eq!(read("sma(A, 20)", &limits).unwrap(), read(json, &limits).unwrap());
    }

    #[test]
    fn an_error_shows_its_place() {
        let error = read("A / (B", &Limits::default()).unwrap_err().to_string();
        let expected = "expected an operator or ), found the end at line 1, column 7\n\n    A / (B\n          ^";
        assert_eq!(error, expected);
    }

    #[test]
    fn a_label_stands_before_a_sign_of_equality() {
        assert_eq!(labelled("slow = ema(A, 26)"), (Some("slow"), " ema(A, 26)"));
        assert_eq!(labelled("sum(A, B, nulls=propagate)"), (None, "sum(A, B, nulls=propagate)"));
        assert_eq!(labelled("A"), (None, "A"));
    }
}
