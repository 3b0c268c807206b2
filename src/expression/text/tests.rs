//! Every text that is understood, every one that is not, and the way there and back.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn check(text: &str, json: &serde_json::Value, printed: &str) {
    let expr = parse(text, &Limits::default()).unwrap_or_else(|error| panic!("{error}\n{}", error.caret(text)));
    assert_eq!(expr, Expr::parse(json, &Limits::default()).unwrap(), "{text}");
    assert_eq!(print(&expr), printed);
    assert_eq!(parse(printed, &Limits::default()).unwrap(), expr);
}

#[test]
fn operators_bind_as_on_paper() {
    let [a, b, c] = ["A", "B", "C"].map(|code| json!({ "series_code": code }));
    let product = json!({ "op": "multiply", "left": b, "right": c });
    check("A+B*C", &json!({ "op": "add", "left": a, "right": product }), "A + B * C");
    let sum = json!({ "op": "add", "left": a, "right": b });
    check("(A + B) * C", &json!({ "op": "multiply", "left": sum, "right": c }), "(A + B) * C");
    let left = json!({ "op": "subtract", "left": a, "right": b });
    check("A - B - C", &json!({ "op": "subtract", "left": left, "right": c }), "A - B - C");
    let right = json!({ "op": "ratio", "left": b, "right": c });
    check("((A)) / (B / C)", &json!({ "op": "ratio", "left": a, "right": right }), "A / (B / C)");
}

#[test]
fn a_number_scales_an_operation() {
    let [a, b] = ["A", "B"].map(|code| json!({ "series_code": code }));
    let scaled = |scale: f64| json!({ "op": "ratio", "left": a, "right": b, "scale": scale });
    check("100 * (A / B)", &scaled(100.0), "100 * (A / B)");
    check("A / B * 100", &scaled(100.0), "100 * (A / B)");
    check("-2.5e-9*(A/B)", &scaled(-2.5e-9), "-2.5e-9 * (A / B)");
    check("1 * (A / B)", &scaled(1.0), "A / B");
    check("0 * (A / B)", &scaled(0.0), "0 * (A / B)");
    check("A - -1 * (A / B)", &json!({ "op": "subtract", "left": a, "right": scaled(-1.0) }), "A - -1 * (A / B)");
    let twice = json!({ "op": "multiply", "left": a, "right": scaled(2.0) });
    check("A * (2 * (A / B))", &twice, "A * (2 * (A / B))");
}

#[test]
fn the_last_argument_tells_a_window_from_a_composite() {
    let [x, y] = ["X", "fx:usd.eur"].map(|code| json!({ "series_code": code }));
    check("sum(X, 5)", &json!({ "op": "sum", "series": x, "window": 5 }), "sum(X, 5)");
    check("sum(X, fx:usd.eur)", &json!({ "op": "sum", "operands": [x, y] }), "sum(X, fx:usd.eur)");
    check("lag( X ,\n 30d ) # a month", &json!({ "op": "lag", "series": x, "window": 30 }), "lag(X, 30d)");
    let propagate = json!({ "op": "avg", "operands": [x, y], "nulls": "propagate" });
    check("avg(X, fx:usd.eur, nulls=propagate)", &propagate, "avg(X, fx:usd.eur, nulls=propagate)");
    check("max(X, fx:usd.eur, nulls=skip)", &json!({ "op": "max", "operands": [x, y] }), "max(X, fx:usd.eur)");
    let odd = json!({ "op": "min", "operands": [{ "series_code": "5" }, { "series_code": "A-B" }] });
    check("min(`5`, `A-B`)", &odd, "min(`5`, `A-B`)");
    let named = json!({ "op": "add", "left": { "series_code": "sum" }, "right": { "series_code": "nulls" } });
    check("sum + nulls", &named, "sum + nulls");
}

fn check_error(text: &str, place: (usize, usize), problem: &str) {
    let error = parse(text, &Limits::default()).unwrap_err();
    assert_eq!((error.problem.to_string().as_str(), (error.line, error.column)), (problem, place), "{text}");
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let loose = "a number scales an operation: write it before one in parentheses, as in 100 * (A / B)";
    let nothing = "only an operation in parentheses, as in 100 * (A / B), has a scale";
    check_error("", (1, 1), "expected a series, a function or (, found the end");
    check_error("A +", (1, 4), "expected a series, a function or (, found the end");
    check_error("A B", (1, 3), "expected an operator or the end, found \"B\"");
    check_error("(A + B", (1, 7), "expected an operator or ), found the end");
    check_error("é", (1, 1), "unexpected character 'é'");
    check_error("A\n  / ^", (2, 5), "unexpected character '^'");
    check_error("`A", (1, 1), "no closing backtick");
    check_error("A + 5", (1, 6), loose);
    check_error("A / 5", (1, 5), loose);
    check_error("100 * A / B", (1, 7), nothing);
    check_error("A * 100", (1, 5), nothing);
    check_error("2 * (3 * (A / B))", (1, 5), "the operation has a scale already");
    check_error("1e999 * (A / B)", (1, 1), "a scale must be finite");
    check_error("-A", (1, 1), "expected a series, a function or (, found -");
    check_error(
        "5A / B",
        (1, 1),
        "\"5A\" is no number; a series code that begins with a digit is written in backticks",
    );
    check_error("median(A, B)", (1, 1), "no function \"median\", expected one of sma, ema, sum, max, min, lag, avg");
    check_error("sma(A)", (1, 1), "sma needs a window as its last argument, as in sma(A, 20)");
    check_error("lag(A)", (1, 1), "lag needs a window as its last argument, as in lag(A, 30d)");
    check_error("sum(A)", (1, 1), "sum needs a window, as in sum(A, 5), or at least two series, as in sum(A, B)");
    let window = "a window is an integer of at least 1, and days for lag alone: sma(A, 20), lag(A, 30d)";
    for (text, column) in [("sma(A, 0)", 8), ("sma(A, 2.5)", 8), ("sma(A, 5d)", 8), ("lag(A, 30)", 8)] {
        check_error(text, (1, column), window);
    }
    check_error("sma(A, B, 5)", (1, 1), "a window has one series, found 2");
    check_error("avg(A, 5)", (1, 8), "avg has no window; the mean of the last observations is sma");
    check_error("sum(A, B, nulls=zero)", (1, 17), "nulls must be skip or propagate");
    check_error("sum(A, 5, nulls=skip)", (1, 9), "expected ), found a comma");
    check_error(
        "`a/b` + A",
        (1, 1),
        "seriesCode \"a/b\" may hold only letters, digits and . _ : - and may not be . or ..",
    );
}

#[test]
fn a_caret_points_at_the_place() {
    let text = "A +\n  B ^ C";
    assert_eq!(parse(text, &Limits::default()).unwrap_err().caret(text), "  B ^ C\n    ^");
}

#[test]
fn limits_hold_for_text_too() {
    let too_much = |text: &str| parse(text, &Limits::default()).unwrap_err().problem.to_string();
    assert_eq!(too_much(&vec!["A"; 33].join("+")), "nesting depth exceeds the limit of 32");
    assert_eq!(too_much(&"(".repeat(100_000)), "nesting depth exceeds the limit of 32");
    assert_eq!(
        too_much(&format!("sum({})", vec!["A"; 1_025].join(","))),
        "number of operands exceeds the limit of 1024"
    );
    assert_eq!(too_much("sma(A, 1000001)"), "window exceeds the limit of 1000000");
    assert_eq!(too_much("sma(A, 99999999999999999999)"), "window exceeds the limit of 1000000");
    let group = format!("sum({})", vec!["A"; 1_000].join(","));
    assert_eq!(too_much(&format!("sum({})", vec![group; 10].join(","))), "number of nodes exceeds the limit of 10000");
}

fn codes() -> impl Strategy<Value = SeriesCode> {
    let valid = "[A-Za-z0-9._:-]{1,12}".prop_filter_map("no code", |text| SeriesCode::parse(&text).ok());
    const TRICKY: [&str; 13] = ["sum", "nulls", "12", "30d", "1e5", "-", "-1", "A-B", "_", "5A", "nulls:x", "inf", "e"];
    prop_oneof![valid, proptest::sample::select(&TRICKY[..]).prop_map(|text| SeriesCode::parse(text).unwrap())]
}

fn scales() -> impl Strategy<Value = f64> {
    let finite = any::<f64>().prop_filter("finite", |scale| scale.is_finite());
    const SPECIAL: [f64; 11] = [0.0, -0.0, 1.0, -1.0, 100.0, 0.1, f64::MIN, f64::MAX, 5e-324, 1e16, 1e-5];
    prop_oneof![finite, proptest::sample::select(&SPECIAL[..])]
}

fn expressions() -> impl Strategy<Value = Expr> {
    let math = [MathOp::Add, MathOp::Subtract, MathOp::Multiply, MathOp::Ratio];
    let window = [WindowOp::Sma, WindowOp::Ema, WindowOp::Sum, WindowOp::Max, WindowOp::Min, WindowOp::Lag];
    let composite = [CompositeOp::Sum, CompositeOp::Avg, CompositeOp::Max, CompositeOp::Min];
    let nulls = [NullPolicy::Skip, NullPolicy::Propagate];
    codes().prop_map(Expr::Series).prop_recursive(6, 64, 4, move |inner| {
        let operands = prop::collection::vec(inner.clone(), 2..5);
        prop_oneof![
            (proptest::sample::select(math.to_vec()), inner.clone(), inner.clone(), scales()).prop_map(
                |(op, left, right, scale)| Expr::Math { op, left: Box::new(left), right: Box::new(right), scale }
            ),
            (proptest::sample::select(window.to_vec()), inner, 1..=1_000_000_u32).prop_map(|(op, series, length)| {
                Expr::Window { op, series: Box::new(series), window: WindowLength::new(length).unwrap() }
            }),
            (proptest::sample::select(composite.to_vec()), operands, proptest::sample::select(nulls.to_vec()))
                .prop_map(|(op, operands, nulls)| Expr::Composite { op, operands, nulls }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_is_printed_reads_back(expr in expressions()) {
        let text = print(&expr);
        let again = parse(&text, &Limits::default());
        prop_assert_eq!(again.as_ref(), Ok(&expr), "{}", text);
        // Zero has a sign that equality does not see.
        prop_assert_eq!(again.unwrap().to_json().to_string(), expr.to_json().to_string());
    }

    #[test]
    fn any_text_gets_an_answer(text in "[-AB5d.e`(),+*/= \n#]{0,40}") {
        match parse(&text, &Limits::default()) {
            Ok(expr) => prop_assert_eq!(parse(&print(&expr), &Limits::default()), Ok(expr)),
            Err(error) => prop_assert!(error.caret(&text).ends_with('^')),
        }
    }
}
