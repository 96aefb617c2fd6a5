//! Tokens.

use crate::source::Wrong;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    Int(i64),
    /// One more than the largest: only its negation is an integer.
    IntMin,
    Uint(u64),
    Double(f64),
    Text(String),
    Bytes(Vec<u8>),
    /// A name; in backquotes it may hold anything.
    Ident(String),
    /// An operator or bracket, or one of the words that are none: `true`, `false`, `null`, `in`.
    Sign(&'static str),
    End,
}

#[derive(Clone, Debug)]
pub(crate) struct Spot {
    pub(crate) token: Token,
    pub(crate) at: usize,
    /// As it was written, for errors.
    pub(crate) text: String,
}

/// Longer ones first.
const SIGNS: [&str; 27] = [
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", ".", ",", "(", ")", "[", "]",
    "{", "}", "=", "&", "|",
];
const WORDS: [&str; 4] = ["true", "false", "null", "in"];

pub(crate) fn lex(text: &str) -> Result<Vec<Spot>, Wrong> {
    let mut spots = Vec::new();
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let first = rest.chars().next().unwrap_or(' ');
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
            continue;
        }
        let (token, length) = one(rest, first, at)?;
        let shown = rest.get(..length).unwrap_or_default().to_owned();
        spots.push(Spot { token, at, text: shown });
        at += length;
    }
    spots.push(Spot { token: Token::End, at: text.len(), text: "<EOF>".to_owned() });
    Ok(spots)
}

fn one(rest: &str, first: char, at: usize) -> Result<(Token, usize), Wrong> {
    if let Some((prefix, raw, bytes)) = quote(rest) {
        return string(rest, prefix, raw, bytes, at);
    }
    let digit_after_dot = first == '.' && rest.chars().nth(1).is_some_and(|c| c.is_ascii_digit());
    if first.is_ascii_digit() || digit_after_dot {
        return number(rest, at);
    }
    if first == '`' {
        let inner = rest.get(1..).and_then(|r| r.split_once('`')).map(|(inner, _)| inner);
        return match inner.filter(|inner| !inner.is_empty()) {
            Some(inner) => Ok((Token::Ident(inner.to_owned()), inner.len() + 2)),
            None => Err(unknown(first, at)),
        };
    }
    if first.is_ascii_alphabetic() || first == '_' {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let name = rest.get(..end).unwrap_or_default();
        let token =
            WORDS.iter().find(|word| **word == name).map_or_else(|| Token::Ident(name.to_owned()), |w| Token::Sign(w));
        return Ok((token, end));
    }
    match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
        Some(sign) if !["=", "&", "|"].contains(sign) => Ok((Token::Sign(sign), sign.len())),
        Some(_) | None => Err(unknown(first, at)),
    }
}

fn unknown(c: char, at: usize) -> Wrong {
    Wrong::new(at, format!("Syntax error: token recognition error at: '{c}'"))
}

/// The length of a string's prefix, and whether it is raw and of bytes.
fn quote(rest: &str) -> Option<(usize, bool, bool)> {
    let (mut raw, mut bytes) = (false, false);
    for (at, c) in rest.char_indices().take(3) {
        match c {
            'r' | 'R' if !raw => raw = true,
            'b' | 'B' if !bytes => bytes = true,
            '\'' | '"' => return Some((at, raw, bytes)),
            _ => return None,
        }
    }
    None
}

fn string(rest: &str, prefix: usize, raw: bool, bytes: bool, at: usize) -> Result<(Token, usize), Wrong> {
    let body = rest.get(prefix..).unwrap_or_default();
    let mark = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|mark| body.starts_with(mark)).unwrap_or("\"");
    let mut out: Vec<u8> = Vec::new();
    let mut chars = body.char_indices().skip(mark.len());
    while let Some((place, c)) = chars.next() {
        let left = body.get(place..).unwrap_or_default();
        if left.starts_with(mark) {
            let token = if bytes {
                Token::Bytes(out)
            } else {
                Token::Text(
                    String::from_utf8(out).map_err(|_| Wrong::new(at, "Syntax error: invalid UTF-8 in string"))?,
                )
            };
            return Ok((token, prefix + place + mark.len()));
        }
        if c == '\\' && !raw {
            escape(&mut chars, bytes, &mut out).ok_or_else(|| unknown('\\', at + prefix + place))?;
            continue;
        }
        if matches!(c, '\n' | '\r') && mark.len() == 1 {
            break;
        }
        if c == '\\' {
            // In a raw string a backslash is one, and keeps a quote from ending it.
            out.push(b'\\');
            if let Some((_, next)) = chars.next() {
                out.extend(next.encode_utf8(&mut [0; 4]).as_bytes());
            }
            continue;
        }
        out.extend(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Err(Wrong::new(
        at,
        format!("Syntax error: token recognition error at: '{}'", rest.lines().next().unwrap_or_default()),
    ))
}

fn escape(chars: &mut impl Iterator<Item = (usize, char)>, bytes: bool, out: &mut Vec<u8>) -> Option<()> {
    let (_, c) = chars.next()?;
    let mut digits = |count: usize, radix: u32, first: u32| -> Option<u32> {
        let mut value = first;
        for _ in 0..count {
            value = value.checked_mul(radix)?.checked_add(chars.next()?.1.to_digit(radix)?)?;
        }
        Some(value)
    };
    let plain = match c {
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'n' => 10,
        'r' => 13,
        't' => 9,
        'v' => 11,
        '\\' | '?' | '"' | '\'' | '`' => u32::from(c),
        'x' | 'X' => return push(digits(2, 16, 0)?, bytes, out),
        'u' if !bytes => return push(digits(4, 16, 0)?, false, out),
        'U' if !bytes => return push(digits(8, 16, 0)?, false, out),
        '0'..='3' => {
            let first = c.to_digit(8)?;
            return push(digits(2, 8, first)?, bytes, out);
        }
        _ => return None,
    };
    push(plain, bytes, out)
}

fn push(code: u32, bytes: bool, out: &mut Vec<u8>) -> Option<()> {
    if bytes {
        out.push(u8::try_from(code).ok()?);
    } else {
        out.extend(char::from_u32(code)?.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Some(())
}

fn number(rest: &str, at: usize) -> Result<(Token, usize), Wrong> {
    let invalid = |text: &str, kind: &str| Wrong::new(at, format!("invalid {kind} literal: {text}"));
    let unsigned = |end: usize| rest.get(end..).is_some_and(|r| r.starts_with(['u', 'U']));
    if rest.starts_with("0x") || rest.starts_with("0X") {
        let end = rest.get(2..).and_then(|r| r.find(|c: char| !c.is_ascii_hexdigit())).map_or(rest.len(), |e| e + 2);
        let digits = rest.get(2..end).unwrap_or_default();
        if unsigned(end) {
            let value = u64::from_str_radix(digits, 16).map_err(|_| invalid(digits, "uint"))?;
            return Ok((Token::Uint(value), end + 1));
        }
        return i64::from_str_radix(digits, 16).map(|n| (Token::Int(n), end)).map_err(|_| invalid(digits, "int"));
    }
    let digits = |from: usize| rest.get(from..).map_or(0, |r| r.chars().take_while(char::is_ascii_digit).count());
    let mut end = digits(0);
    let mut double = false;
    // A dot belongs to a number only before a digit: `1.max()` is none of ours.
    if rest.get(end..).is_some_and(|r| r.starts_with('.')) && digits(end + 1) > 0 {
        double = true;
        end += 1 + digits(end + 1);
    }
    if rest.get(end..).is_some_and(|r| r.starts_with(['e', 'E'])) {
        let sign = usize::from(rest.get(end + 1..).is_some_and(|r| r.starts_with(['+', '-'])));
        if digits(end + 1 + sign) > 0 {
            double = true;
            end += 1 + sign + digits(end + 1 + sign);
        }
    }
    let text = rest.get(..end).unwrap_or_default();
    if double {
        return text.parse().map(|n| (Token::Double(n), end)).map_err(|_| invalid(text, "double"));
    }
    if unsigned(end) {
        return text.parse().map(|n| (Token::Uint(n), end + 1)).map_err(|_| invalid(text, "uint"));
    }
    match text.parse::<i64>() {
        Ok(value) => Ok((Token::Int(value), end)),
        Err(_) if text == "9223372036854775808" => Ok((Token::IntMin, end)),
        Err(_) => Err(invalid(text, "int")),
    }
}
