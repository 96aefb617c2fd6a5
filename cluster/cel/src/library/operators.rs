//! Operators, conversions between types, and optionals.

use std::cmp::Ordering;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::time;
use crate::eval::{Evaluated, failed, of_key};
use crate::value::{Value, compare_numbers};

pub(crate) fn call(function: &str, args: &[Value]) -> Option<Evaluated> {
    use Value::{Bool, Bytes, Double, Duration, Int, List, Map, Optional, String, Timestamp, Uint};
    let overflow = |kind: &str| failed(format!("{kind} overflow"));
    let zero = |what: &str| Err(failed(what));
    Some(match (function, args) {
        ("!_", [Bool(a)]) => Ok(Bool(!a)),
        ("-_", [Int(a)]) => a.checked_neg().map(Int).ok_or_else(|| overflow("integer")),
        ("-_", [Double(a)]) => Ok(Double(-a)),
        ("_==_", [a, b]) => Ok(Bool(a == b)),
        ("_!=_", [a, b]) => Ok(Bool(a != b)),
        ("_<_" | "_<=_" | "_>_" | "_>=_", [a, b]) => compared(function, a, b)?,
        ("_+_", [Int(a), Int(b)]) => a.checked_add(*b).map(Int).ok_or_else(|| overflow("integer")),
        ("_-_", [Int(a), Int(b)]) => a.checked_sub(*b).map(Int).ok_or_else(|| overflow("integer")),
        ("_*_", [Int(a), Int(b)]) => a.checked_mul(*b).map(Int).ok_or_else(|| overflow("integer")),
        ("_/_", [Int(_), Int(0)]) | ("_/_", [Uint(_), Uint(0)]) => zero("division by zero"),
        ("_%_", [Int(_), Int(0)]) | ("_%_", [Uint(_), Uint(0)]) => zero("modulus by zero"),
        ("_/_", [Int(a), Int(b)]) => a.checked_div(*b).map(Int).ok_or_else(|| overflow("integer")),
        ("_%_", [Int(a), Int(b)]) => a.checked_rem(*b).map(Int).ok_or_else(|| overflow("integer")),
        ("_+_", [Uint(a), Uint(b)]) => a.checked_add(*b).map(Uint).ok_or_else(|| overflow("unsigned integer")),
        ("_-_", [Uint(a), Uint(b)]) => a.checked_sub(*b).map(Uint).ok_or_else(|| overflow("unsigned integer")),
        ("_*_", [Uint(a), Uint(b)]) => a.checked_mul(*b).map(Uint).ok_or_else(|| overflow("unsigned integer")),
        ("_/_", [Uint(a), Uint(b)]) => a.checked_div(*b).map(Uint).ok_or_else(|| overflow("unsigned integer")),
        ("_%_", [Uint(a), Uint(b)]) => a.checked_rem(*b).map(Uint).ok_or_else(|| overflow("unsigned integer")),
        ("_+_", [Double(a), Double(b)]) => Ok(Double(a + b)),
        ("_-_", [Double(a), Double(b)]) => Ok(Double(a - b)),
        ("_*_", [Double(a), Double(b)]) => Ok(Double(a * b)),
        ("_/_", [Double(a), Double(b)]) => Ok(Double(a / b)),
        ("_+_", [String(a), String(b)]) => Ok(format!("{a}{b}").into()),
        ("_+_", [Bytes(a), Bytes(b)]) => Ok(Bytes([&**a, &**b].concat().into())),
        ("_+_", [List(a), List(b)]) => Ok([&**a, &**b].concat().into()),
        ("_+_", [Timestamp(at), Duration(by)]) | ("_+_", [Duration(by), Timestamp(at)]) => {
            at.checked_add(*by).map(Timestamp).map_err(|_| overflow("timestamp"))
        }
        ("_-_", [Timestamp(at), Duration(by)]) => at.checked_sub(*by).map(Timestamp).map_err(|_| overflow("timestamp")),
        ("_-_", [Timestamp(a), Timestamp(b)]) => Ok(Duration(a.duration_since(*b))),
        ("_+_", [Duration(a), Duration(b)]) => a.checked_add(*b).map(Duration).ok_or_else(|| overflow("duration")),
        ("_-_", [Duration(a), Duration(b)]) => a.checked_sub(*b).map(Duration).ok_or_else(|| overflow("duration")),
        ("@in", [value, List(items)]) => Ok(items.contains(value).into()),
        ("@in", [value, Map(map)]) => Ok(value.key().is_some_and(|key| map.contains_key(&key)).into()),
        ("_[_]", [List(items), index]) => {
            index_of(index).and_then(|at| items.get(at)).cloned().ok_or_else(|| out_of_bounds(index))
        }
        ("_[_]", [Map(map), key]) => {
            let found = key.key().and_then(|key| map.get(&key)).cloned();
            found.ok_or_else(|| failed(format!("no such key: {}", shown(key))))
        }
        ("_[_]" | "_[?_]", [Optional(None), _]) => Ok(Optional(None)),
        ("_[_]" | "_[?_]", [Optional(Some(inner)), index]) => {
            return call("_[?_]", &[(**inner).clone(), index.clone()]);
        }
        ("_[?_]", [List(items), index]) => Ok(Value::optional(index_of(index).and_then(|at| items.get(at)).cloned())),
        ("_[?_]", [Map(map), key]) => Ok(Value::optional(key.key().and_then(|key| map.get(&key)).cloned())),
        ("size", [value @ (String(_) | Bytes(_) | List(_) | Map(_))]) => {
            Ok(Int(i64::try_from(value.size()).unwrap_or(i64::MAX)))
        }
        ("type", [value]) => Ok(Value::Type(value.type_name().into())),
        ("dyn", [value]) => Ok(value.clone()),
        ("bool" | "int" | "uint" | "double" | "string" | "bytes" | "duration" | "timestamp", [value]) => {
            convert(function, value)?
        }
        ("optional.of", [value]) => Ok(Value::optional(Some(value.clone()))),
        ("optional.none", []) => Ok(Optional(None)),
        ("optional.ofNonZeroValue", [value]) => {
            Ok(Value::optional(Some(value.clone()).filter(|value| !is_zero(value))))
        }
        ("hasValue", [Optional(value)]) => Ok(value.is_some().into()),
        ("value", [Optional(value)]) => value.as_deref().cloned().ok_or_else(|| failed("optional.none() dereference")),
        _ => return None,
    })
}

fn compared(function: &str, a: &Value, b: &Value) -> Option<Evaluated> {
    use Value::{Bool, Bytes, Duration, String, Timestamp};
    let order = match (a, b) {
        (Bool(a), Bool(b)) => Some(a.cmp(b)),
        (String(a), String(b)) => Some(a.cmp(b)),
        (Bytes(a), Bytes(b)) => Some(a.cmp(b)),
        (Timestamp(a), Timestamp(b)) => Some(a.cmp(b)),
        (Duration(a), Duration(b)) => Some(a.cmp(b)),
        (Value::Int(_) | Value::Uint(_) | Value::Double(_), Value::Int(_) | Value::Uint(_) | Value::Double(_)) => {
            match compare_numbers(a, b) {
                Some(order) => Some(order),
                None => return Some(Err(failed("NaN values cannot be ordered"))),
            }
        }
        _ => None,
    };
    Some(Ok(Bool(match (function, order?) {
        ("_<_", order) => order == Ordering::Less,
        ("_<=_", order) => order != Ordering::Greater,
        ("_>_", order) => order == Ordering::Greater,
        (_, order) => order != Ordering::Less,
    })))
}

/// How two values of one kind are ordered, as lists ask.
pub(crate) fn order(a: &Value, b: &Value) -> Option<Ordering> {
    let is = |function: &str| matches!(compared(function, a, b), Some(Ok(Value::Bool(true))));
    match (is("_<_"), is("_>_"), is("_<=_")) {
        (true, ..) => Some(Ordering::Less),
        (_, true, _) => Some(Ordering::Greater),
        (.., true) => Some(Ordering::Equal),
        _ => None,
    }
}

fn index_of(index: &Value) -> Option<usize> {
    match index {
        Value::Int(n) => usize::try_from(*n).ok(),
        Value::Uint(n) => usize::try_from(*n).ok(),
        Value::Double(n) if n.fract() == 0.0 && *n >= 0.0 && *n < 1e15 => Some(*n as usize),
        _ => None,
    }
}

fn out_of_bounds(index: &Value) -> crate::eval::Failure {
    failed(format!("index out of bounds: {}", shown(index)))
}

/// A value inside of a message.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.to_string(),
        Value::Int(n) => n.to_string(),
        Value::Uint(n) => n.to_string(),
        Value::Double(n) => n.to_string(),
        Value::Bool(flag) => flag.to_string(),
        other => other.type_name().to_owned(),
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) | Value::Int(0) | Value::Uint(0) | Value::Optional(None) => true,
        Value::Double(n) => *n == 0.0,
        Value::String(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_) => value.size() == 0,
        Value::Duration(by) => by.is_zero(),
        Value::Timestamp(at) => *at == Timestamp::UNIX_EPOCH,
        _ => false,
    }
}

fn convert(to: &str, value: &Value) -> Option<Evaluated> {
    use Value::{Bool, Bytes, Double, Duration, Int, String, Uint};
    let range = |kind: &str| failed(format!("{kind} overflow"));
    let text_error = |text: &str| failed(format!("type conversion error from 'string' to '{to}': {text}"));
    Some(match (to, value) {
        ("bool", Bool(_))
        | ("int", Int(_))
        | ("uint", Uint(_))
        | ("double", Double(_))
        | ("string", String(_))
        | ("bytes", Bytes(_)) => Ok(value.clone()),
        ("duration", Duration(_)) | ("timestamp", Value::Timestamp(_)) => Ok(value.clone()),
        ("bool", String(text)) => match &**text {
            "true" | "True" | "TRUE" | "t" | "T" | "1" => Ok(Bool(true)),
            "false" | "False" | "FALSE" | "f" | "F" | "0" => Ok(Bool(false)),
            other => Err(text_error(other)),
        },
        ("int", Uint(n)) => i64::try_from(*n).map(Int).map_err(|_| range("integer")),
        ("int", Double(n)) if n.is_finite() && n.abs() < 9.223_372_036_854_775e18 => Ok(Int(n.trunc() as i64)),
        ("int", Double(_)) => Err(range("integer")),
        ("int", String(text)) => text.parse().map(Int).map_err(|_| text_error(text)),
        ("int", Value::Timestamp(at)) => Ok(Int(at.as_second())),
        ("int", Duration(by)) => i64::try_from(by.as_nanos()).map(Int).map_err(|_| range("integer")),
        ("uint", Int(n)) => u64::try_from(*n).map(Uint).map_err(|_| range("unsigned integer")),
        ("uint", Double(n)) if n.is_finite() && *n >= 0.0 && *n < 1.844_674_407_370_955e19 => {
            Ok(Uint(n.trunc() as u64))
        }
        ("uint", Double(_)) => Err(range("unsigned integer")),
        ("uint", String(text)) => text.parse().map(Uint).map_err(|_| text_error(text)),
        ("double", Int(n)) => Ok(Double(*n as f64)),
        ("double", Uint(n)) => Ok(Double(*n as f64)),
        ("double", String(text)) => text.parse().map(Double).map_err(|_| text_error(text)),
        ("string", Bytes(bytes)) => match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.into()),
            Err(_) => Err(failed("invalid UTF-8 in bytes, cannot convert to string")),
        },
        ("string", Bool(_) | Int(_) | Uint(_) | Double(_)) => Ok(shown(value).into()),
        ("string", Value::Timestamp(at)) => Ok(at.to_string().into()),
        ("string", Duration(by)) => Ok(time::seconds(*by).into()),
        ("string", Value::Ip(ip)) => Ok(ip.to_string().into()),
        ("string", Value::Cidr(ip, bits)) => Ok(format!("{ip}/{bits}").into()),
        ("bytes", String(text)) => Ok(Bytes(Arc::from(text.as_bytes()))),
        ("duration", String(text)) => time::parse_duration(text).map(Duration).ok_or_else(|| text_error(text)),
        ("timestamp", String(text)) => text.parse().map(Value::Timestamp).map_err(|_| text_error(text)),
        ("timestamp", Int(seconds)) => {
            let at = Timestamp::UNIX_EPOCH.checked_add(SignedDuration::from_secs(*seconds));
            at.map(Value::Timestamp).map_err(|_| range("timestamp"))
        }
        _ => return None,
    })
}

/// The keys of a map, as `format` prints them.
pub(crate) fn entries(map: &std::collections::BTreeMap<crate::value::Key, Value>) -> Vec<(Value, &Value)> {
    map.iter().map(|(key, value)| (of_key(key), value)).collect()
}
