//! The JSON of a request becomes an expression: one node after the other, within the limits.

use serde_json::{Map, Value};

use super::{CompositeOp, Error, Expr, Limits, MathOp, NullPolicy, Problem, WindowLength, WindowOp};
use crate::ids::SeriesCode;

pub(super) fn at(path: &str, problem: impl Into<Problem>) -> Error {
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

/// The beginning of a text, for a message.
pub(super) fn shorten(text: &str) -> String {
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

/// Parses nodes and counts them.
pub(super) struct Parser<'a> {
    limits: &'a Limits,
    nodes: usize,
}

impl<'a> Parser<'a> {
    /// Nothing counted yet.
    pub(super) fn new(limits: &'a Limits) -> Self {
        Self { limits, nodes: 0 }
    }

    /// The expression of a node, at this path and depth.
    pub(super) fn node(&mut self, json: &Value, path: &str, depth: usize) -> Result<Expr, Error> {
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
