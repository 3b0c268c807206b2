//! The expression tree: untrusted JSON in, a closed tree out. Whatever is wrong with an expression is found here,
//! with its place in the JSON, before anything is read.

pub mod text;

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use serde_json::{Map, Value, json};

use crate::ids::{self, SeriesCode};

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

/// What is wrong with an expression, and where: a JSON path from the root `$`.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{problem} at {path}")]
pub struct Error {
    /// JSON path of the offending node or field.
    pub path: String,
    /// What is wrong there.
    pub problem: Problem,
}

/// What can be wrong with an expression.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Problem {
    /// Not a JSON object.
    #[error("expected an object, found {found}")]
    NotAnObject {
        /// The JSON type found.
        found: &'static str,
    },
    /// Neither a reference nor one of the three shapes.
    #[error("neither a series reference nor left+right, series+window or operands")]
    UnknownShape,
    /// More than one shape at once.
    #[error("ambiguous: the fields of {first} and of {second}")]
    AmbiguousShape {
        /// One shape.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// A required field is missing.
    #[error("missing field {field}")]
    Missing {
        /// Its name.
        field: &'static str,
    },
    /// No such operator in this kind.
    #[error("unknown op {op:?} for {kind}, expected one of {expected}")]
    UnknownOp {
        /// What the request says, cut to 64 characters.
        op: String,
        /// The kind of the node.
        kind: &'static str,
        /// The operators that it has.
        expected: &'static str,
    },
    /// A field has the wrong JSON type.
    #[error("{field} must be {expected}, found {found}")]
    WrongType {
        /// The field.
        field: &'static str,
        /// What it must be.
        expected: &'static str,
        /// The JSON type found.
        found: &'static str,
    },
    /// The series code cannot be one.
    #[error(transparent)]
    SeriesCode(#[from] ids::Error),
    /// `series_code` and `seriesCode` disagree.
    #[error("series_code and seriesCode name two different series")]
    TwoSeriesCodes,
    /// `scale` is not finite.
    #[error("scale must be finite")]
    ScaleNotFinite,
    /// The window is no integer of at least 1.
    #[error("window must be an integer of at least 1, found {found}")]
    Window {
        /// The JSON text found, cut to 64 characters.
        found: String,
    },
    /// Over a limit.
    #[error("{what} exceeds the limit of {limit}")]
    TooMuch {
        /// Which limit.
        what: &'static str,
        /// Its value.
        limit: u64,
    },
    /// Fewer than two operands.
    #[error("a composite needs at least 2 operands, found {found}")]
    TooFewOperands {
        /// How many there are.
        found: usize,
    },
    /// `nulls` is neither `skip` nor `propagate`.
    #[error("nulls must be \"skip\" or \"propagate\"")]
    NullPolicy,
    /// The request's `expressionType` says otherwise.
    #[error("expressionType says {declared}, the expression is a {found}")]
    ContradictsType {
        /// What the request says.
        declared: &'static str,
        /// What the shape says.
        found: &'static str,
    },
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
        Parser { limits, nodes: 0 }.node(json, "$", 1)
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
        Err(at("$", Problem::ContradictsType { declared: declared.as_str(), found }))
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

fn at(path: &str, problem: impl Into<Problem>) -> Error {
    Error { path: path.to_owned(), problem: problem.into() }
}

fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn shorten(text: &str) -> String {
    const SHOWN_CHARACTERS: usize = 64;
    text.chars().take(SHOWN_CHARACTERS).collect()
}

/// The shape of a node: which of its fields say what it is.
enum Shape {
    Reference,
    Math,
    Window,
    Composite,
}

struct Parser<'a> {
    limits: &'a Limits,
    nodes: usize,
}

impl Parser<'_> {
    fn node(&mut self, json: &Value, path: &str, depth: usize) -> Result<Expr, Error> {
        self.nodes += 1;
        if depth > self.limits.depth {
            return Err(at(path, Problem::TooMuch { what: "nesting depth", limit: self.limits.depth as u64 }));
        }
        if self.nodes > self.limits.nodes {
            return Err(at(path, Problem::TooMuch { what: "number of nodes", limit: self.limits.nodes as u64 }));
        }
        let Value::Object(fields) = json else {
            return Err(at(path, Problem::NotAnObject { found: json_type(json) }));
        };
        match shape(fields).map_err(|problem| at(path, problem))? {
            Shape::Reference => series_code(fields).map(Expr::Series).map_err(|problem| at(path, problem)),
            Shape::Math => self.math(fields, path, depth),
            Shape::Window => self.window(fields, path, depth),
            Shape::Composite => self.composite(fields, path, depth),
        }
    }

    fn math(&mut self, fields: &Map<String, Value>, path: &str, depth: usize) -> Result<Expr, Error> {
        let op = op(fields, "series_math", "add, subtract, multiply, ratio", MathOp::parse).map_err(|p| at(path, p))?;
        let left = self.child(fields, "left", path, depth)?;
        let right = self.child(fields, "right", path, depth)?;
        let scale = scale(fields).map_err(|problem| at(&format!("{path}.scale"), problem))?;
        Ok(Expr::Math { op, left, right, scale })
    }

    fn window(&mut self, fields: &Map<String, Value>, path: &str, depth: usize) -> Result<Expr, Error> {
        let op = op(fields, "window_op", "sma, ema, sum, max, min, lag", WindowOp::parse).map_err(|p| at(path, p))?;
        let window = self.window_length(fields).map_err(|problem| at(&format!("{path}.window"), problem))?;
        let series = self.child(fields, "series", path, depth)?;
        Ok(Expr::Window { op, series, window })
    }

    fn composite(&mut self, fields: &Map<String, Value>, path: &str, depth: usize) -> Result<Expr, Error> {
        let op = op(fields, "composite", "sum, avg, max, min", CompositeOp::parse).map_err(|p| at(path, p))?;
        let operands_path = format!("{path}.operands");
        let Some(Value::Array(items)) = fields.get("operands") else {
            let found = fields.get("operands").map_or("nothing", json_type);
            return Err(at(&operands_path, Problem::WrongType { field: "operands", expected: "an array", found }));
        };
        if items.len() < 2 {
            return Err(at(&operands_path, Problem::TooFewOperands { found: items.len() }));
        }
        if items.len() > self.limits.operands {
            let limit = self.limits.operands as u64;
            return Err(at(&operands_path, Problem::TooMuch { what: "number of operands", limit }));
        }
        let mut operands = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            operands.push(self.node(item, &format!("{operands_path}[{index}]"), depth + 1)?);
        }
        let nulls = match fields.get("nulls") {
            None | Some(Value::Null) => NullPolicy::Skip,
            Some(Value::String(text)) if text == "skip" => NullPolicy::Skip,
            Some(Value::String(text)) if text == "propagate" => NullPolicy::Propagate,
            Some(_) => return Err(at(&format!("{path}.nulls"), Problem::NullPolicy)),
        };
        Ok(Expr::Composite { op, operands, nulls })
    }

    fn child(
        &mut self,
        fields: &Map<String, Value>,
        field: &'static str,
        path: &str,
        depth: usize,
    ) -> Result<Box<Expr>, Error> {
        let Some(json) = fields.get(field) else {
            return Err(at(path, Problem::Missing { field }));
        };
        self.node(json, &format!("{path}.{field}"), depth + 1).map(Box::new)
    }

    fn window_length(&self, fields: &Map<String, Value>) -> Result<WindowLength, Problem> {
        let Some(json) = fields.get("window") else {
            return Err(Problem::Missing { field: "window" });
        };
        let Some(length) = json.as_u64().filter(|&length| length >= 1) else {
            return Err(Problem::Window { found: shorten(&json.to_string()) });
        };
        let too_long = Problem::TooMuch { what: "window", limit: u64::from(self.limits.window) };
        let length = u32::try_from(length).map_err(|_| too_long.clone())?;
        if length > self.limits.window {
            return Err(too_long);
        }
        WindowLength::new(length).ok_or(Problem::Window { found: length.to_string() })
    }
}

fn shape(fields: &Map<String, Value>) -> Result<Shape, Problem> {
    const REFERENCE: &str = "a series reference";
    let is_reference = fields.contains_key("series_code") || fields.contains_key("seriesCode");
    let is_math = fields.contains_key("left") || fields.contains_key("right");
    let is_window = fields.contains_key("series") || fields.contains_key("window");
    let is_composite = fields.contains_key("operands");
    let shapes = [
        (is_reference, REFERENCE, Shape::Reference),
        (is_math, "series_math", Shape::Math),
        (is_window, "window_op", Shape::Window),
        (is_composite, "composite", Shape::Composite),
    ];
    let mut present = shapes.into_iter().filter(|(is_present, ..)| *is_present);
    let Some((_, first, shape)) = present.next() else {
        return Err(Problem::UnknownShape);
    };
    if let Some((_, second, _)) = present.next() {
        return Err(Problem::AmbiguousShape { first, second });
    }
    Ok(shape)
}

/// The code of a series reference, in either spelling.
///
/// # Errors
/// When it is missing, no text, no series code, or when the two spellings disagree.
pub(crate) fn series_code(fields: &Map<String, Value>) -> Result<SeriesCode, Problem> {
    let snake = fields.get("series_code");
    let camel = fields.get("seriesCode");
    if let (Some(snake), Some(camel)) = (snake, camel)
        && snake != camel
    {
        return Err(Problem::TwoSeriesCodes);
    }
    let Some(json) = snake.or(camel) else {
        return Err(Problem::Missing { field: "series_code" });
    };
    let Value::String(text) = json else {
        return Err(Problem::WrongType { field: "series_code", expected: "a string", found: json_type(json) });
    };
    Ok(SeriesCode::parse(text)?)
}

fn op<T>(
    fields: &Map<String, Value>,
    kind: &'static str,
    expected: &'static str,
    parse: fn(&str) -> Option<T>,
) -> Result<T, Problem> {
    match fields.get("op") {
        None => Err(Problem::Missing { field: "op" }),
        Some(Value::String(name)) => {
            parse(name).ok_or_else(|| Problem::UnknownOp { op: shorten(name), kind, expected })
        }
        Some(other) => Err(Problem::WrongType { field: "op", expected: "a string", found: json_type(other) }),
    }
}

fn scale(fields: &Map<String, Value>) -> Result<f64, Problem> {
    match fields.get("scale") {
        None | Some(Value::Null) => Ok(1.0),
        Some(json) => {
            let found = json_type(json);
            let wrong_type = Problem::WrongType { field: "scale", expected: "a number", found };
            let scale = json.as_f64().ok_or(wrong_type)?;
            if scale.is_finite() { Ok(scale) } else { Err(Problem::ScaleNotFinite) }
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
