//! The words of a text: characters in, tokens with their places out.

use std::fmt;

use super::{Error, Problem, at};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// A name: of a series, a function or a setting.
    Word(String),
    /// A series code in backticks.
    Quoted(String),
    /// Digits, perhaps with a point or an exponent.
    Number(String),
    /// Digits that count days.
    Days(String),
    Plus,
    Minus,
    Times,
    Over,
    Open,
    Close,
    Comma,
    Equals,
    End,
}

impl fmt::Display for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(text) | Self::Number(text) => write!(formatter, "{text:?}"),
            Self::Quoted(text) => write!(formatter, "`{text}`"),
            Self::Days(text) => write!(formatter, "\"{text}d\""),
            Self::Plus => formatter.write_str("+"),
            Self::Minus => formatter.write_str("-"),
            Self::Times => formatter.write_str("*"),
            Self::Over => formatter.write_str("/"),
            Self::Open => formatter.write_str("("),
            Self::Close => formatter.write_str(")"),
            Self::Comma => formatter.write_str("a comma"),
            Self::Equals => formatter.write_str("="),
            Self::End => formatter.write_str("the end"),
        }
    }
}

/// The tokens of a text, each with the offset of its first byte; behind the last there is [`Token::End`] for ever.
pub(super) struct Tokens {
    tokens: Vec<(Token, usize)>,
    next: usize,
    end: usize,
}

impl Tokens {
    pub(super) fn peek(&self) -> (Token, usize) {
        self.tokens.get(self.next).cloned().unwrap_or((Token::End, self.end))
    }

    pub(super) fn peek_second(&self) -> Token {
        self.tokens.get(self.next + 1).map_or(Token::End, |(token, _)| token.clone())
    }

    pub(super) fn next(&mut self) -> (Token, usize) {
        let next = self.peek();
        self.next += 1;
        next
    }
}

/// Whether the text is a series code that needs no backticks.
pub(super) fn is_bare(code: &str) -> bool {
    code.starts_with(begins_word) && code.chars().all(continues_word)
}

fn begins_word(character: char) -> bool {
    character.is_ascii_alphabetic() || character == '_'
}

fn continues_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || "_.:".contains(character)
}

pub(super) fn tokens(text: &str) -> Result<Tokens, Error> {
    let mut tokens = Vec::new();
    let mut offset = 0;
    while let Some(first) = text[offset..].chars().next() {
        let rest = &text[offset..];
        let (token, length) = match first {
            _ if first.is_whitespace() => (None, first.len_utf8()),
            '#' => (None, rest.find('\n').unwrap_or(rest.len())),
            '`' => {
                let Some(length) = rest[1..].find('`') else {
                    return Err(at(text, offset, Problem::OpenBacktick));
                };
                (Some(Token::Quoted(rest[1..=length].to_owned())), length + 2)
            }
            _ if begins_word(first) => {
                let word = &rest[..length_of(rest, continues_word)];
                (Some(Token::Word(word.to_owned())), word.len())
            }
            _ if first.is_ascii_digit() => {
                let (number, length) = number(rest).map_err(|problem| at(text, offset, problem))?;
                (Some(number), length)
            }
            _ => (Some(sign(first).ok_or_else(|| at(text, offset, Problem::Character { found: first }))?), 1),
        };
        tokens.extend(token.map(|token| (token, offset)));
        offset += length;
    }
    Ok(Tokens { tokens, next: 0, end: text.trim_end().len() })
}

fn sign(character: char) -> Option<Token> {
    match character {
        '+' => Some(Token::Plus),
        '-' => Some(Token::Minus),
        '*' => Some(Token::Times),
        '/' => Some(Token::Over),
        '(' => Some(Token::Open),
        ')' => Some(Token::Close),
        ',' => Some(Token::Comma),
        '=' => Some(Token::Equals),
        _ => None,
    }
}

fn length_of(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|character| !belongs(character)).unwrap_or(text.len())
}

/// `12`, `0.5`, `1e-7`, or `30d`.
fn number(text: &str) -> Result<(Token, usize), Problem> {
    let digits = |from: usize| from + length_of(&text[from..], |character| character.is_ascii_digit());
    let whole = digits(0);
    let mut end = whole;
    if text[end..].starts_with('.') {
        end = digits(end + 1);
    }
    if text[end..].starts_with(['e', 'E']) {
        let sign = usize::from(text[end + 1..].starts_with(['+', '-']));
        let exponent = digits(end + 1 + sign);
        end = if exponent > end + 1 + sign { exponent } else { end };
    }
    let is_days = end == whole && text[end..].starts_with('d');
    let length = end + usize::from(is_days);
    if text[length..].starts_with(continues_word) {
        let found = text[..length + length_of(&text[length..], continues_word)].to_owned();
        return Err(Problem::Number { found });
    }
    let number = text[..end].to_owned();
    Ok((if is_days { Token::Days(number) } else { Token::Number(number) }, length))
}
