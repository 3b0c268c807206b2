//! The expression tree: untrusted JSON in, a closed tree out. Whatever is wrong with an expression is found here,
//! with its place in the JSON, before anything is read.

mod parse;
mod problem;
pub mod text;

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use serde_json::{Value, json};

pub(crate) use parse::series_code;
pub use problem::{Error, Problem};

use crate::ids::SeriesCode;

/// An expression over series.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// The observations of a series, as read.
    Series(SeriesCode),
    /// Two operands, joined on time; `scale` multiplies the result.
    Math {
        /// What is done with the two values at a time.
        op: MathOp,
        /// The first operand.
        left: Box<Self>,
        /// The second operand.
        right: Box<Self>,
        /// Multiplies every value of the result; finite. 1 where the request has none.
        scale: f64,
    },
    /// A function of an observation and those before it.
    Window {
        /// The function.
        op: WindowOp,
        /// The operand.
        series: Box<Self>,
        /// Observations, or calendar days for `lag`.
        window: WindowLength,
    },
    /// Two or more operands, joined on time.
    Composite {
        /// How the values present at a time become one.
        op: CompositeOp,
        /// At least two.
        operands: Vec<Self>,
        /// What a missing operand does to the result.
        nulls: NullPolicy,
    },
}

/// The operators of `series_math`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MathOp {
    /// left + right
    Add,
    /// left − right
    Subtract,
    /// left × right
    Multiply,
    /// left ÷ right, by IEEE 754 where right is zero
    Ratio,
}

/// The operators of `window_op`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WindowOp {
    /// Mean of the last N observations.
    Sma,
    /// Exponential moving average of span N.
    Ema,
    /// Sum of the last N observations.
    Sum,
    /// Greatest of the last N observations.
    Max,
    /// Least of the last N observations.
    Min,
    /// The value N calendar days ago.
    Lag,
}

/// The operators of `composite`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CompositeOp {
    /// Sum of the values present.
    Sum,
    /// Mean of the values present.
    Avg,
    /// Greatest of the values present.
    Max,
    /// Least of the values present.
    Min,
}

/// What a missing operand of a `composite` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NullPolicy {
    /// It is left out; only a time without any value is null.
    Skip,
    /// The result is null.
    Propagate,
}

/// The length of a window: observations, or calendar days for `lag`. At least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WindowLength(NonZeroU32);

impl WindowLength {
    /// A window of that length, if it is at least 1.
    #[must_use]
    pub fn new(length: u32) -> Option<Self> {
        NonZeroU32::new(length).map(Self)
    }

    /// The length.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0.get()
    }
}

/// `expressionType`: the kind that the shape of the expression must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpressionType {
    /// `left` and `right`
    SeriesMath,
    /// `series` and `window`
    WindowOp,
    /// `operands`
    Composite,
}

/// How large an expression may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Nested levels, the root being the first.
    pub depth: usize,
    /// Operators and series references together.
    pub nodes: usize,
    /// Operands of one `composite`.
    pub operands: usize,
    /// The length of a window.
    pub window: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { depth: 32, nodes: 10_000, operands: 1_024, window: 1_000_000 }
    }
}

impl MathOp {
    /// The name in the request.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Subtract => "subtract",
            Self::Multiply => "multiply",
            Self::Ratio => "ratio",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [Self::Add, Self::Subtract, Self::Multiply, Self::Ratio].into_iter().find(|op| op.as_str() == name)
    }
}

impl WindowOp {
    /// The name in the request.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sma => "sma",
            Self::Ema => "ema",
            Self::Sum => "sum",
            Self::Max => "max",
            Self::Min => "min",
            Self::Lag => "lag",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [Self::Sma, Self::Ema, Self::Sum, Self::Max, Self::Min, Self::Lag].into_iter().find(|op| op.as_str() == name)
    }
}

impl CompositeOp {
    /// The name in the request.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Max => "max",
            Self::Min => "min",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [Self::Sum, Self::Avg, Self::Max, Self::Min].into_iter().find(|op| op.as_str() == name)
    }
}

impl ExpressionType {
    /// The name in the request.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SeriesMath => "series_math",
            Self::WindowOp => "window_op",
            Self::Composite => "composite",
        }
    }

    /// The type with that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::SeriesMath, Self::WindowOp, Self::Composite].into_iter().find(|kind| kind.as_str() == name)
    }
}

impl Expr {
    /// Parses an expression; unknown fields are ignored.
    ///
    /// # Errors
    /// The first thing that is wrong, with its JSON path.
    pub fn parse(json: &Value, limits: &Limits) -> Result<Self, Error> {
        parse::Parser::new(limits).node(json, "$", 1)
    }

    /// Parses the root of a request, whose kind must be the declared one.
    ///
    /// # Errors
    /// As [`Expr::parse`]; also when the shape contradicts `declared`.
    pub fn parse_declared(json: &Value, declared: ExpressionType, limits: &Limits) -> Result<Self, Error> {
        let expr = Self::parse(json, limits)?;
        if expr.kind() == Some(declared) {
            return Ok(expr);
        }
        let found = expr.kind().map_or("series reference", ExpressionType::as_str);
        Err(parse::at("$", Problem::ContradictsType { declared: declared.as_str(), found }))
    }

    /// The kind of the root; none for a bare series reference.
    #[must_use]
    pub fn kind(&self) -> Option<ExpressionType> {
        match self {
            Self::Series(_) => None,
            Self::Math { .. } => Some(ExpressionType::SeriesMath),
            Self::Window { .. } => Some(ExpressionType::WindowOp),
            Self::Composite { .. } => Some(ExpressionType::Composite),
        }
    }

    /// The series that the expression refers to.
    #[must_use]
    pub fn series_codes(&self) -> BTreeSet<&SeriesCode> {
        let mut codes = BTreeSet::new();
        self.collect_series_codes(&mut codes);
        codes
    }

    fn collect_series_codes<'a>(&'a self, codes: &mut BTreeSet<&'a SeriesCode>) {
        match self {
            Self::Series(code) => {
                codes.insert(code);
            }
            Self::Math { left, right, .. } => {
                left.collect_series_codes(codes);
                right.collect_series_codes(codes);
            }
            Self::Window { series, .. } => series.collect_series_codes(codes),
            Self::Composite { operands, .. } => operands.iter().for_each(|operand| operand.collect_series_codes(codes)),
        }
    }

    /// The expression as a request carries it; [`Expr::parse`] gives it back.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match self {
            Self::Series(code) => json!({ "series_code": code.as_str() }),
            Self::Math { op, left, right, scale } => {
                json!({ "op": op.as_str(), "left": left.to_json(), "right": right.to_json(), "scale": scale })
            }
            Self::Window { op, series, window } => {
                json!({ "op": op.as_str(), "series": series.to_json(), "window": window.get() })
            }
            Self::Composite { op, operands, nulls } => {
                let operands: Vec<Value> = operands.iter().map(Self::to_json).collect();
                match nulls {
                    NullPolicy::Skip => json!({ "op": op.as_str(), "operands": operands }),
                    NullPolicy::Propagate => json!({ "op": op.as_str(), "operands": operands, "nulls": "propagate" }),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &Value, expected: &str) {
        let answer = match Expr::parse(json, &Limits::default()) {
            Ok(expr) => {
                assert_eq!(Expr::parse(&expr.to_json(), &Limits::default()).unwrap(), expr);
                expr.to_json().to_string()
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(answer, expected, "for {json}");
    }

    fn a() -> Value {
        json!({ "series_code": "A" })
    }

    #[test]
    fn every_shape_parses_in_both_spellings() {
        check(&json!({ "seriesCode": "A" }), r#"{"series_code":"A"}"#);
        check(
            &json!({ "op": "ratio", "left": a(), "right": { "seriesCode": "B" }, "scale": 0, "note": "ignored" }),
            r#"{"left":{"series_code":"A"},"op":"ratio","right":{"series_code":"B"},"scale":0.0}"#,
        );
        check(
            &json!({ "op": "sum", "series": a(), "window": 3 }),
            r#"{"op":"sum","series":{"series_code":"A"},"window":3}"#,
        );
        check(
            &json!({ "op": "sum", "operands": [a(), a()], "nulls": "propagate" }),
            r#"{"nulls":"propagate","op":"sum","operands":[{"series_code":"A"},{"series_code":"A"}]}"#,
        );
    }

    #[test]
    fn a_window_is_an_integer_of_at_least_one() {
        for (window, shown) in [
            (json!(2.0), "2.0"),
            (json!("2"), "\"2\""),
            (json!(true), "true"),
            (json!(0), "0"),
            (json!(-1), "-1"),
            (Value::Null, "null"),
        ] {
            let expected = format!("window must be an integer of at least 1, found {shown} at $.window");
            check(&json!({ "op": "sma", "series": a(), "window": window }), &expected);
        }
        check(&json!({ "op": "sma", "series": a() }), "missing field window at $.window");
        check(
            &json!({ "op": "sma", "series": a(), "window": 1_000_001 }),
            "window exceeds the limit of 1000000 at $.window",
        );
        check(
            &json!({ "op": "sma", "series": a(), "window": u64::MAX }),
            "window exceeds the limit of 1000000 at $.window",
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        check(&json!([]), "expected an object, found an array at $");
        check(&json!({}), "neither a series reference nor left+right, series+window or operands at $");
        check(&json!({ "op": "add", "left": a() }), "missing field right at $");
        check(&json!({ "op": "add", "left": a(), "right": 1 }), "expected an object, found a number at $.right");
        check(
            &json!({ "op": "avg", "left": a(), "right": a() }),
            "unknown op \"avg\" for series_math, expected one of add, subtract, multiply, ratio at $",
        );
        check(
            &json!({ "op": "add", "left": a(), "right": a(), "scale": "1" }),
            "scale must be a number, found a string at $.scale",
        );
        check(
            &json!({ "op": "sum", "operands": [a()] }),
            "a composite needs at least 2 operands, found 1 at $.operands",
        );
        check(
            &json!({ "op": "sum", "operands": [a(), { "series_code": "../x" }] }),
            "seriesCode \"../x\" may hold only letters, digits and . _ : - and may not be . or .. at $.operands[1]",
        );
        check(
            &json!({ "op": "sum", "operands": [a(), a()], "window": 1 }),
            "ambiguous: the fields of window_op and of composite at $",
        );
        check(
            &json!({ "series_code": "A", "seriesCode": "B" }),
            "series_code and seriesCode name two different series at $",
        );
        check(
            &json!({ "op": "sum", "operands": [a(), a()], "nulls": "zero" }),
            "nulls must be \"skip\" or \"propagate\" at $.nulls",
        );
    }

    #[test]
    fn limits_hold() {
        let mut deep = a();
        for _ in 0..32 {
            deep = json!({ "op": "sma", "series": deep, "window": 1 });
        }
        let error = Expr::parse(&deep, &Limits::default()).unwrap_err();
        assert_eq!(error.problem, Problem::TooMuch { what: "nesting depth", limit: 32 });
        let wide = json!({ "op": "sum", "operands": vec![a(); 1_025] });
        let error = Expr::parse(&wide, &Limits::default()).unwrap_err();
        assert_eq!(error.problem, Problem::TooMuch { what: "number of operands", limit: 1_024 });
        let bushy = json!({ "op": "sum", "operands": vec![json!({ "op": "sum", "operands": vec![a(); 1_000] }); 10] });
        let error = Expr::parse(&bushy, &Limits::default()).unwrap_err();
        assert_eq!(error.problem, Problem::TooMuch { what: "number of nodes", limit: 10_000 });
    }

    #[test]
    fn the_declared_type_must_be_the_shape() {
        let json = json!({ "op": "sum", "operands": [a(), a()] });
        assert!(Expr::parse_declared(&json, ExpressionType::Composite, &Limits::default()).is_ok());
        let error = Expr::parse_declared(&json, ExpressionType::WindowOp, &Limits::default()).unwrap_err();
        assert_eq!(error.to_string(), "expressionType says window_op, the expression is a composite at $");
        assert!(Expr::parse_declared(&a(), ExpressionType::Composite, &Limits::default()).is_err());
    }
}
