//! An expression as text, with no more parentheses than it takes to read it back.

use super::token::is_bare;
use crate::expression::{Expr, MathOp, NullPolicy, WindowOp};
use crate::ids::SeriesCode;

/// The expression on one line; [`super::parse`] gives it back.
#[must_use]
pub fn print(expression: &Expr) -> String {
    match expression {
        Expr::Series(code) => reference(code),
        Expr::Math { op, left, right, scale } => {
            let level = level(*op);
            let left = operand(left, binding(left) < level);
            let right = operand(right, binding(right) <= level);
            let infix = format!("{left} {} {right}", sign(*op));
            if is_one(*scale) { infix } else { format!("{} * ({infix})", number(*scale)) }
        }
        Expr::Window { op, series, window } => {
            let unit = if *op == WindowOp::Lag { "d" } else { "" };
            format!("{}({}, {}{unit})", op.as_str(), print(series), window.get())
        }
        Expr::Composite { op, operands, nulls } => {
            let operands: Vec<String> = operands.iter().map(print).collect();
            let nulls = match nulls {
                NullPolicy::Skip => "",
                NullPolicy::Propagate => ", nulls=propagate",
            };
            format!("{}({}{nulls})", op.as_str(), operands.join(", "))
        }
    }
}

/// A series code, in backticks where it would be read as something else.
fn reference(code: &SeriesCode) -> String {
    if is_bare(code.as_str()) { code.to_string() } else { format!("`{code}`") }
}

fn operand(expression: &Expr, in_parentheses: bool) -> String {
    if in_parentheses { format!("({})", print(expression)) } else { print(expression) }
}

/// How tightly an operator binds.
fn level(op: MathOp) -> u8 {
    match op {
        MathOp::Add | MathOp::Subtract => 1,
        MathOp::Multiply | MathOp::Ratio => 2,
    }
}

/// How tightly the whole of an expression does; with a scale it is a product.
fn binding(expression: &Expr) -> u8 {
    match expression {
        Expr::Math { scale, .. } if !is_one(*scale) => 2,
        Expr::Math { op, .. } => level(*op),
        Expr::Series(_) | Expr::Window { .. } | Expr::Composite { .. } => 3,
    }
}

#[expect(clippy::float_cmp, reason = "a scale of exactly 1 is the one that changes nothing")]
fn is_one(scale: f64) -> bool {
    scale == 1.0
}

/// The shortest digits that are read as the same float.
fn number(value: f64) -> String {
    let text = format!("{value:?}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

fn sign(op: MathOp) -> &'static str {
    match op {
        MathOp::Add => "+",
        MathOp::Subtract => "-",
        MathOp::Multiply => "*",
        MathOp::Ratio => "/",
    }
}
