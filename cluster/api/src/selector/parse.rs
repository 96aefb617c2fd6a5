//! The text of a label selector: words and symbols, and what they say.

use super::keys::check_key;
use super::{Operator, Requirement, Selector, SelectorError};

pub(super) fn selector(text: &str) -> Result<Selector, SelectorError> {
    Parser { tokens: lex(text), at: 0 }.selector()
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Symbol(&'static str),
    Bad(String),
}

impl Token {
    fn text(&self) -> &str {
        match self {
            Self::Word(text) | Self::Bad(text) => text,
            Self::Symbol(text) => text,
        }
    }
}

/// Longest first, so that `!=` is not `!` and `=`.
const SYMBOLS: &[&str] = &["==", "!=", "=", "!", "(", ")", ",", ">", "<"];

fn lex(text: &str) -> Vec<Token> {
    let special = |c: char| "=!(),><".contains(c);
    let blank = |c: char| " \t\r\n".contains(c);
    let mut rest = text.trim_start_matches(blank);
    let mut tokens = Vec::new();
    while !rest.is_empty() {
        let symbol = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol));
        let length = match symbol {
            Some(symbol) => symbol.len(),
            None => rest.find(|c| special(c) || blank(c)).unwrap_or(rest.len()),
        };
        let (token, after) = rest.split_at(length);
        tokens.push(match symbol {
            Some(symbol) => Token::Symbol(symbol),
            None if token.is_empty() => Token::Bad(rest.to_owned()),
            None => Token::Word(token.to_owned()),
        });
        rest = after.trim_start_matches(blank);
    }
    tokens
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn peek_symbol(&self, symbol: &str) -> bool {
        matches!(self.peek(), Some(Token::Symbol(s)) if *s == symbol)
    }

    fn take(&mut self) -> Option<Token> {
        let token = self.peek().cloned();
        self.at += 1;
        token
    }

    fn unexpected<T>(token: Option<&Token>, expected: &'static str) -> Result<T, SelectorError> {
        let found = token.map(Token::text).unwrap_or_default().to_owned();
        Err(SelectorError::Unexpected { found, expected })
    }

    fn selector(mut self) -> Result<Selector, SelectorError> {
        let mut requirements = Vec::new();
        loop {
            match self.peek() {
                None => break,
                Some(Token::Word(_) | Token::Symbol("!")) => {}
                other => return Self::unexpected(other, "!, identifier, or 'end of string'"),
            }
            requirements.push(self.requirement().map_err(|e| SelectorError::Requirement(Box::new(e)))?);
            match self.take() {
                None => break,
                Some(Token::Symbol(",")) => {
                    if !matches!(self.peek(), Some(Token::Word(_) | Token::Symbol("!"))) {
                        return Self::unexpected(self.peek(), "identifier after ','");
                    }
                }
                other => return Self::unexpected(other.as_ref(), "',' or 'end of string'"),
            }
        }
        Ok(Selector { requirements, nothing: false })
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let absent = self.peek_symbol("!");
        if absent {
            self.at += 1;
        }
        let key = match self.take() {
            Some(Token::Word(key)) => key,
            other => return Self::unexpected(other.as_ref(), "identifier"),
        };
        check_key(&key)?;
        if absent || self.peek().is_none() || self.peek_symbol(",") {
            let operator = if absent { Operator::DoesNotExist } else { Operator::Exists };
            return Requirement::new(&key, operator, Vec::new());
        }
        let (operator, many) = match self.take() {
            Some(Token::Symbol("=" | "==")) => (Operator::In, false),
            Some(Token::Symbol("!=")) => (Operator::NotIn, false),
            Some(Token::Symbol(">")) => (Operator::Gt, false),
            Some(Token::Symbol("<")) => (Operator::Lt, false),
            Some(Token::Word(word)) if word == "in" => (Operator::In, true),
            Some(Token::Word(word)) if word == "notin" => (Operator::NotIn, true),
            other => return Self::unexpected(other.as_ref(), "in, notin, =, ==, !=, gt, lt"),
        };
        let values = if many { self.values()? } else { vec![self.value()?] };
        Requirement::new(&key, operator, values)
    }

    fn value(&mut self) -> Result<String, SelectorError> {
        if self.peek().is_none() || self.peek_symbol(",") {
            return Ok(String::new());
        }
        match self.take() {
            Some(Token::Word(value)) => Ok(value),
            other => Self::unexpected(other.as_ref(), "identifier"),
        }
    }

    /// `(x,y)`; an empty place between commas is the empty value.
    fn values(&mut self) -> Result<Vec<String>, SelectorError> {
        match self.take() {
            Some(Token::Symbol("(")) => {}
            other => {
                return Err(SelectorError::NoList(other.as_ref().map(Token::text).unwrap_or_default().to_owned()));
            }
        }
        match self.peek() {
            // `()` holds one empty value, as `(,)` does.
            Some(Token::Word(_) | Token::Symbol("," | ")")) => {}
            other => return Self::unexpected(other, "',', ')' or identifier"),
        }
        let mut values = Vec::new();
        loop {
            match self.peek() {
                Some(Token::Word(word)) => {
                    values.push(word.clone());
                    self.at += 1;
                }
                Some(Token::Symbol("," | ")")) => values.push(String::new()),
                other => return Self::unexpected(other, "',', or identifier"),
            }
            match self.take() {
                Some(Token::Symbol(")")) => return Ok(values),
                Some(Token::Symbol(",")) => {}
                other => return Self::unexpected(other.as_ref(), "',' or ')'"),
            }
        }
    }
}
