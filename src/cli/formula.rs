//! An expression as a person would write it: `sma(A / B, 20)`. For reading only.

use crate::expression::{Expr, MathOp, NullPolicy};

/// The expression on one line.
#[must_use]
#[expect(clippy::float_cmp, reason = "a scale of exactly 1 is the one that changes nothing")]
pub(super) fn formula(expression: &Expr) -> String {
    match expression {
        Expr::Series(code) => code.to_string(),
        Expr::Math { op, left, right, scale } => {
            let infix = format!("{} {} {}", operand(left), sign(*op), operand(right));
            if *scale == 1.0 { infix } else { format!("{scale} × ({infix})") }
        }
        Expr::Window { op, series, window } => format!("{}({}, {})", op.as_str(), formula(series), window.get()),
        Expr::Composite { op, operands, nulls } => {
            let operands: Vec<String> = operands.iter().map(formula).collect();
            let nulls = match nulls {
                NullPolicy::Skip => "",
                NullPolicy::Propagate => "; nulls propagate",
            };
            format!("{}({}{nulls})", op.as_str(), operands.join(", "))
        }
    }
}

/// An operand between signs: in parentheses where it has a sign itself.
fn operand(expression: &Expr) -> String {
    match expression {
        Expr::Math { .. } => format!("({})", formula(expression)),
        Expr::Series(_) | Expr::Window { .. } | Expr::Composite { .. } => formula(expression),
    }
}

fn sign(op: MathOp) -> &'static str {
    match op {
        MathOp::Add => "+",
        MathOp::Subtract => "−",
        MathOp::Multiply => "×",
        MathOp::Ratio => "/",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::expression::Limits;

    fn check(expression: &Value, expected: &str) {
        assert_eq!(formula(&Expr::parse(expression, &Limits::default()).unwrap()), expected);
    }

    #[test]
    fn expressions_read_as_formulas() {
        let (a, b) = (json!({"series_code": "A"}), json!({"series_code": "B"}));
        let ratio = json!({"op": "ratio", "left": a, "right": b});
        check(&ratio, "A / B");
        check(&json!({"op": "subtract", "left": ratio, "right": a}), "(A / B) − A");
        check(&json!({"op": "multiply", "left": a, "right": ratio, "scale": 100}), "100 × (A × (A / B))");
        check(&json!({"op": "sma", "series": ratio, "window": 20}), "sma(A / B, 20)");
        check(&json!({"op": "avg", "operands": [a, ratio]}), "avg(A, A / B)");
        check(&json!({"op": "sum", "operands": [a, b], "nulls": "propagate"}), "sum(A, B; nulls propagate)");
    }
}
