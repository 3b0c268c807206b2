//! An expression: what is read, printed and read again is the same expression.
#![no_main]

use libfuzzer_sys::fuzz_target;
use metrics_engine::expression::{Expr, Limits};
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let Ok(json) = serde_json::from_slice::<Value>(data) else { return };
    let limits = Limits { depth: 8, nodes: 200, operands: 20, window: 1_000 };
    let expression = match Expr::parse(&json, &limits) {
        Ok(expression) => expression,
        Err(error) => {
            assert!(error.path.starts_with('$'), "{error}");
            return;
        }
    };
    let printed = expression.to_json().to_string();
    let again = Expr::parse(&serde_json::from_str(&printed).unwrap(), &limits).unwrap();
    assert_eq!(again, expression, "{printed}");
    if let Some(kind) = expression.kind() {
        assert_eq!(Expr::parse_declared(&json, kind, &limits).unwrap(), expression);
    }
});
