//! Expressions as a person writes them: `100 * (A / lag(A, 30d))` in, the tree that a request carries out, and back.
//!
//! The text form maps one to one onto the JSON form: `parse(&print(&e))` is `e` for every expression. What is wrong is
//! named with its line and column.
//!
//! | text | JSON |
//! |---|---|
//! | `A + B`, `A - B`, `A * B`, `A / B` | `series_math`; `*` and `/` bind tighter, equals from the left |
//! | `100 * (A / B)`, `A / B * 100` | the same with `scale` |
//! | `sma(A, 20)`, `lag(A, 30d)` | `window_op`: the last argument is a length, for `lag` in days |
//! | `sum(A, B)`, `avg(A, B, nulls=propagate)` | `composite`: every argument is an expression |
//! | `A`, `` `A-B` `` | a reference; in backticks unless it is a letter or `_`, then letters, digits, `_`, `.`, `:` |

mod print;
mod token;

pub use print::print;

use super::{CompositeOp, Expr, Limits, MathOp, NullPolicy, WindowLength, WindowOp};
use crate::ids::{self, SeriesCode};
use token::{Token, Tokens};

/// What is wrong with a text, and where.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{problem} at line {line}, column {column}")]
pub struct Error {
    /// The line, counted from 1.
    pub line: usize,
    /// The character within its line, counted from 1.
    pub column: usize,
    /// What is wrong there.
    pub problem: Problem,
}

impl Error {
    /// The line of the text that is meant, and below it a caret under the character.
    #[must_use]
    pub fn caret(&self, text: &str) -> String {
        let line = text.lines().nth(self.line - 1).unwrap_or("").replace('\t', " ");
        format!("{line}\n{}^", " ".repeat(self.column - 1))
    }
}

/// What can be wrong with a text.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Problem {
    /// A character that nothing begins with.
    #[error("unexpected character {found:?}")]
    Character {
        /// The character.
        found: char,
    },
    /// A backtick without its partner.
    #[error("no closing backtick")]
    OpenBacktick,
    /// Digits that go on with letters.
    #[error("{found:?} is no number; a series code that begins with a digit is written in backticks")]
    Number {
        /// What is there.
        found: String,
    },
    /// Something else was expected.
    #[error("expected {expected}, found {found}")]
    Expected {
        /// What was expected.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// No such function.
    #[error("no function {found:?}, expected one of sma, ema, sum, max, min, lag, avg")]
    Function {
        /// The name.
        found: String,
    },
    /// A number where only a series can be.
    #[error("a number scales an operation: write it before one in parentheses, as in 100 * (A / B)")]
    LooseNumber,
    /// A scale before what has none.
    #[error("only an operation in parentheses, as in 100 * (A / B), has a scale")]
    NothingToScale,
    /// Two scales.
    #[error("the operation has a scale already")]
    ScaledTwice,
    /// A scale that no float holds.
    #[error("a scale must be finite")]
    ScaleNotFinite,
    /// A length that is none.
    #[error("a window is an integer of at least 1, and days for lag alone: sma(A, 20), lag(A, 30d)")]
    Window,
    /// A window over several series.
    #[error("a window has one series, found {found}")]
    SeriesOfWindow {
        /// How many there are.
        found: usize,
    },
    /// A function that needs a window has none.
    #[error("{op} needs a window as its last argument, as in {op}(A, {example})")]
    NoWindow {
        /// The function.
        op: &'static str,
        /// Its window, for instance.
        example: &'static str,
    },
    /// `avg` with a window.
    #[error("{op} has no window; the mean of the last observations is sma")]
    NotAWindow {
        /// The function.
        op: &'static str,
    },
    /// One operand.
    #[error("{op} needs a window, as in {op}(A, 5), or at least two series, as in {op}(A, B)")]
    TooFewOperands {
        /// The function.
        op: &'static str,
    },
    /// Nulls are handled in two ways only.
    #[error("nulls must be skip or propagate")]
    NullPolicy,
    /// `nulls` where there is no choice.
    #[error("nulls is for sum, avg, max and min over several series")]
    NullsOfWindow,
    /// The series code cannot be one.
    #[error(transparent)]
    SeriesCode(#[from] ids::Error),
    /// Over a limit.
    #[error("{what} exceeds the limit of {limit}")]
    TooMuch {
        /// Which limit.
        what: &'static str,
        /// Its value.
        limit: u64,
    },
}

/// Parses an expression. Spaces and line ends are free; `#` begins a comment that ends with its line.
///
/// # Errors
/// The first thing that is wrong, with its line and column.
pub fn parse(text: &str, limits: &Limits) -> Result<Expr, Error> {
    let mut parser = Parser { text, tokens: token::tokens(text)?, limits, nodes: 0, parentheses: 0 };
    let parsed = parser.sum()?;
    match parser.tokens.peek() {
        (Token::End, _) => Ok(parsed.expr),
        (found, at) => Err(parser.expected("an operator or the end", &found, at)),
    }
}

/// The place of a byte of the text.
fn at(text: &str, offset: usize, problem: impl Into<Problem>) -> Error {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    let (line, column) = (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1);
    Error { line, column, problem: problem.into() }
}

/// A part of the text as a tree, with its depth.
struct Parsed {
    expr: Expr,
    depth: usize,
}

/// What stands between `(` and `)` of a function.
#[derive(Default)]
struct Call {
    operands: Vec<Parsed>,
    /// The number, whether it counts days, and where it stands.
    window: Option<(String, bool, usize)>,
    nulls: Option<(NullPolicy, usize)>,
}

struct Parser<'a> {
    text: &'a str,
    tokens: Tokens,
    limits: &'a Limits,
    nodes: usize,
    /// Open ones: each is a call of the parser within itself.
    parentheses: usize,
}

impl Parser<'_> {
    fn error(&self, offset: usize, problem: impl Into<Problem>) -> Error {
        at(self.text, offset, problem)
    }

    fn expected(&self, expected: &'static str, found: &Token, offset: usize) -> Error {
        self.error(offset, Problem::Expected { expected, found: found.to_string() })
    }

    /// `product + product - …`
    fn sum(&mut self) -> Result<Parsed, Error> {
        let mut left = self.product()?;
        loop {
            let op = match self.tokens.peek().0 {
                Token::Plus => MathOp::Add,
                Token::Minus => MathOp::Subtract,
                _ => return Ok(left),
            };
            let (_, offset) = self.tokens.next();
            let right = self.product()?;
            left = self.math(op, left, right, offset)?;
        }
    }

    /// `factor * factor / …`; a number scales the operation in parentheses after it, or the operation before it.
    fn product(&mut self) -> Result<Parsed, Error> {
        let mut left = match self.number()? {
            None => self.factor()?,
            Some((scale, _)) => {
                let (times, offset) = self.tokens.next();
                if times != Token::Times {
                    return Err(self.error(offset, Problem::LooseNumber));
                }
                let offset = self.tokens.peek().1;
                let operation = self.factor()?;
                self.scaled(operation, scale, offset)?
            }
        };
        loop {
            let op = match self.tokens.peek().0 {
                Token::Times => MathOp::Multiply,
                Token::Over => MathOp::Ratio,
                _ => return Ok(left),
            };
            let (_, offset) = self.tokens.next();
            match self.number()? {
                None => {
                    let right = self.factor()?;
                    left = self.math(op, left, right, offset)?;
                }
                Some((scale, number_offset)) if op == MathOp::Multiply => {
                    left = self.scaled(left, scale, number_offset)?;
                }
                Some((_, number_offset)) => return Err(self.error(number_offset, Problem::LooseNumber)),
            }
        }
    }

    fn math(&mut self, op: MathOp, left: Parsed, right: Parsed, offset: usize) -> Result<Parsed, Error> {
        let depth = left.depth.max(right.depth);
        let (left, right) = (Box::new(left.expr), Box::new(right.expr));
        self.node(Expr::Math { op, left, right, scale: 1.0 }, depth + 1, offset)
    }

    /// Counts a node and holds it against the limits.
    fn node(&mut self, expr: Expr, depth: usize, offset: usize) -> Result<Parsed, Error> {
        self.nodes += 1;
        for (what, count, limit) in
            [("nesting depth", depth, self.limits.depth), ("number of nodes", self.nodes, self.limits.nodes)]
        {
            if count > limit {
                return Err(self.error(offset, Problem::TooMuch { what, limit: limit as u64 }));
            }
        }
        Ok(Parsed { expr, depth })
    }

    #[expect(clippy::float_cmp, reason = "a scale of exactly 1 is the one that is not written")]
    fn scaled(&self, mut operation: Parsed, by: f64, offset: usize) -> Result<Parsed, Error> {
        match &mut operation.expr {
            Expr::Math { scale, .. } if *scale == 1.0 => *scale = by,
            Expr::Math { .. } => return Err(self.error(offset, Problem::ScaledTwice)),
            Expr::Series(_) | Expr::Window { .. } | Expr::Composite { .. } => {
                return Err(self.error(offset, Problem::NothingToScale));
            }
        }
        Ok(operation)
    }

    /// A number, with its sign, if there is one here.
    fn number(&mut self) -> Result<Option<(f64, usize)>, Error> {
        let (first, offset) = self.tokens.peek();
        let text = match (&first, self.tokens.peek_second()) {
            (Token::Number(digits), _) => digits.clone(),
            (Token::Minus, Token::Number(digits)) => format!("-{digits}"),
            _ => return Ok(None),
        };
        if first == Token::Minus {
            self.tokens.next();
        }
        self.tokens.next();
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Some((number, offset))),
            _ => Err(self.error(offset, Problem::ScaleNotFinite)),
        }
    }

    /// A reference, a function, or an expression in parentheses.
    fn factor(&mut self) -> Result<Parsed, Error> {
        let (token, offset) = self.tokens.next();
        match token {
            Token::Open => {
                let inside = self.inside(offset, Self::sum)?;
                self.close("an operator or )")?;
                Ok(inside)
            }
            Token::Word(name) if self.tokens.peek().0 == Token::Open => {
                self.tokens.next();
                let call = self.inside(offset, Self::arguments)?;
                self.call(&name, call, offset)
            }
            Token::Word(code) | Token::Quoted(code) => {
                let code = SeriesCode::parse(&code).map_err(|error| self.error(offset, error))?;
                self.node(Expr::Series(code), 1, offset)
            }
            other => Err(self.expected("a series, a function or (", &other, offset)),
        }
    }

    /// Parses what is inside parentheses: text that nests deeper than any expression does is not followed further.
    fn inside<T>(&mut self, offset: usize, parse: fn(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        self.parentheses += 1;
        // A level of the tree has at most two: those of its scale, and those that keep it together.
        if self.parentheses > 2 * self.limits.depth {
            let limit = self.limits.depth as u64;
            return Err(self.error(offset, Problem::TooMuch { what: "nesting depth", limit }));
        }
        let parsed = parse(self);
        self.parentheses -= 1;
        parsed
    }

    fn close(&mut self, expected: &'static str) -> Result<(), Error> {
        match self.tokens.next() {
            (Token::Close, _) => Ok(()),
            (other, offset) => Err(self.expected(expected, &other, offset)),
        }
    }

    /// `expression, expression, …, 12 | 30d | nulls=propagate)`
    fn arguments(&mut self) -> Result<Call, Error> {
        let mut call = Call::default();
        loop {
            let (token, offset) = self.tokens.peek();
            let second = self.tokens.peek_second();
            let is_last = match (token, second) {
                (Token::Number(digits), Token::Close | Token::Comma) => {
                    self.tokens.next();
                    call.window = Some((digits, false, offset));
                    true
                }
                (Token::Days(digits), _) => {
                    self.tokens.next();
                    call.window = Some((digits, true, offset));
                    true
                }
                (Token::Word(name), Token::Equals) if name == "nulls" => {
                    call.nulls = Some((self.nulls()?, offset));
                    true
                }
                _ => {
                    let operand = self.sum()?;
                    call.operands.push(operand);
                    false
                }
            };
            match self.tokens.next() {
                (Token::Close, _) => return Ok(call),
                (Token::Comma, _) if !is_last => {}
                (other, offset) if is_last => return Err(self.expected(")", &other, offset)),
                (other, offset) => return Err(self.expected("an operator, a comma or )", &other, offset)),
            }
        }
    }

    fn nulls(&mut self) -> Result<NullPolicy, Error> {
        self.tokens.next();
        self.tokens.next();
        match self.tokens.next() {
            (Token::Word(word), _) if word == "skip" => Ok(NullPolicy::Skip),
            (Token::Word(word), _) if word == "propagate" => Ok(NullPolicy::Propagate),
            (_, offset) => Err(self.error(offset, Problem::NullPolicy)),
        }
    }

    fn call(&mut self, name: &str, call: Call, offset: usize) -> Result<Parsed, Error> {
        let (window_op, composite_op) = (WindowOp::parse(name), CompositeOp::parse(name));
        match (window_op, composite_op, &call.window) {
            (None, None, _) => Err(self.error(offset, Problem::Function { found: super::parse::shorten(name) })),
            (Some(op), _, Some(_)) => self.window(op, call, offset),
            (None, Some(op), Some((_, _, at))) => Err(self.error(*at, Problem::NotAWindow { op: op.as_str() })),
            (_, Some(op), None) => self.composite(op, call, offset),
            (Some(op), None, None) => {
                let example = if op == WindowOp::Lag { "30d" } else { "20" };
                Err(self.error(offset, Problem::NoWindow { op: op.as_str(), example }))
            }
        }
    }

    fn window(&mut self, op: WindowOp, mut call: Call, offset: usize) -> Result<Parsed, Error> {
        let found = call.operands.len();
        let (Some(operand), Some((digits, is_days, at)), true) = (call.operands.pop(), call.window, found == 1) else {
            return Err(self.error(offset, Problem::SeriesOfWindow { found }));
        };
        let length = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<u32>());
        let length = match length {
            Some(Ok(length)) if length <= self.limits.window => WindowLength::new(length),
            Some(_) => {
                let limit = u64::from(self.limits.window);
                return Err(self.error(at, Problem::TooMuch { what: "window", limit }));
            }
            None => None,
        };
        let Some(window) = length.filter(|_| is_days == (op == WindowOp::Lag)) else {
            return Err(self.error(at, Problem::Window));
        };
        self.node(Expr::Window { op, series: Box::new(operand.expr), window }, operand.depth + 1, offset)
    }

    fn composite(&mut self, op: CompositeOp, call: Call, offset: usize) -> Result<Parsed, Error> {
        if call.operands.len() < 2 {
            return Err(self.error(offset, Problem::TooFewOperands { op: op.as_str() }));
        }
        if call.operands.len() > self.limits.operands {
            let limit = self.limits.operands as u64;
            return Err(self.error(offset, Problem::TooMuch { what: "number of operands", limit }));
        }
        let depth = call.operands.iter().map(|operand| operand.depth).max().unwrap_or(0);
        let operands = call.operands.into_iter().map(|operand| operand.expr).collect();
        let nulls = call.nulls.map_or(NullPolicy::Skip, |(nulls, _)| nulls);
        self.node(Expr::Composite { op, operands, nulls }, depth + 1, offset)
    }
}

#[cfg(test)]
mod tests;
