//! `'%s is %d'.format([a, b])`

use super::operators::{entries, shown};
use super::time;
use crate::eval::{Evaluated, Failure, failed};
use crate::value::Value;

/// Longer results are of no use in a message.
const DIGITS: usize = 300;

pub(crate) fn call(function: &str, args: &[Value]) -> Option<Evaluated> {
    match (function, args) {
        ("format", [Value::String(text), Value::List(args)]) => Some(format(text, args)),
        _ => None,
    }
}

fn format(text: &str, args: &[Value]) -> Evaluated {
    let (mut out, mut next) = (String::new(), args.iter());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        if chars.peek() == Some(&'%') {
            chars.next();
            out.push('%');
            continue;
        }
        let mut digits = None;
        if chars.peek() == Some(&'.') {
            chars.next();
            let mut count = String::new();
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                count.push(digit);
            }
            digits = Some(count.parse::<usize>().unwrap_or(0).min(DIGITS));
        }
        let verb = chars.next().ok_or_else(|| failed("unexpected end of string"))?;
        let at = args.len() - next.len();
        let value = next.next().ok_or_else(|| failed(format!("index {at} out of range")))?;
        out.push_str(&one(verb, digits, value)?);
    }
    Ok(out.into())
}

fn one(verb: char, digits: Option<usize>, value: &Value) -> Result<String, Failure> {
    use Value::{Bool, Bytes, Double, Int, String, Uint};
    let digits = digits.unwrap_or(6);
    Ok(match (verb, value) {
        ('s', value) => text(value),
        ('d', Int(n)) => n.to_string(),
        ('d', Uint(n)) => n.to_string(),
        ('f', Double(n)) => format!("{n:.digits$}"),
        ('f', Int(n)) => format!("{:.digits$}", *n as f64),
        ('e', Double(n)) => exponent(*n, digits),
        ('e', Int(n)) => exponent(*n as f64, digits),
        ('b', Int(n)) if *n < 0 => format!("-{:b}", n.unsigned_abs()),
        ('b', Int(n)) => format!("{n:b}"),
        ('b', Uint(n)) => format!("{n:b}"),
        ('b', Bool(flag)) => u8::from(*flag).to_string(),
        ('o', Int(n)) if *n < 0 => format!("-{:o}", n.unsigned_abs()),
        ('o', Int(n)) => format!("{n:o}"),
        ('o', Uint(n)) => format!("{n:o}"),
        ('x', Int(n)) if *n < 0 => format!("-{:x}", n.unsigned_abs()),
        ('x', Int(n)) => format!("{n:x}"),
        ('x', Uint(n)) => format!("{n:x}"),
        ('X', Int(n)) if *n < 0 => format!("-{:X}", n.unsigned_abs()),
        ('X', Int(n)) => format!("{n:X}"),
        ('X', Uint(n)) => format!("{n:X}"),
        ('x', String(text)) => text.bytes().map(|b| format!("{b:02x}")).collect(),
        ('X', String(text)) => text.bytes().map(|b| format!("{b:02X}")).collect(),
        ('x', Bytes(bytes)) => bytes.iter().map(|b| format!("{b:02x}")).collect(),
        ('X', Bytes(bytes)) => bytes.iter().map(|b| format!("{b:02X}")).collect(),
        ('d' | 'f' | 'e' | 'b' | 'o' | 'x' | 'X', other) => {
            return Err(failed(format!(
                "error during formatting: %{verb} clause cannot be used on {}",
                other.type_name()
            )));
        }
        (other, _) => {
            return Err(failed(format!(
                "could not parse formatting clause: unrecognized formatting clause \"{other}\""
            )));
        }
    })
}

/// As Go writes it: two digits of exponent at least.
fn exponent(n: f64, digits: usize) -> String {
    let text = format!("{n:.digits$e}");
    match text.split_once('e') {
        Some((digits, power)) => {
            let (sign, power) = power.strip_prefix('-').map_or(('+', power), |power| ('-', power));
            format!("{digits}e{sign}{power:0>2}")
        }
        None => text,
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Duration(by) => time::seconds(*by),
        Value::Timestamp(at) => at.to_string(),
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Type(name) => name.to_string(),
        Value::List(items) => format!("[{}]", items.iter().map(text).collect::<Vec<_>>().join(", ")),
        Value::Map(map) => {
            let entries = entries(map).into_iter().map(|(key, value)| format!("{}: {}", text(&key), text(value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
        other => shown(other),
    }
}
