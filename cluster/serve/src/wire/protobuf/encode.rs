//! JSON to the wire. What does not fit its shape is left out: the objects are our own, checked when they were written.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::Timestamp;
use kedge_api::schema::{Shape, Type};
use serde_json::{Map, Value};

use super::table::{Either, Step, fields, knows};
use super::writer::{bytes, double, integer, key, varint};
use super::{MAGIC, MAX_DEPTH, type_of};

/// A list's bytes are held in pieces of about this size.
const CHUNK: usize = 64 * 1024;
/// Encoding and type of the content, behind it: none other than this.
const END: &[u8] = &[3 << 3 | 2, 0, 4 << 3 | 2, 0];
/// In every list's message.
const ITEMS: u32 = 2;

pub fn envelope(object: &Value) -> Option<Vec<u8>> {
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let of = type_of(api_version, kind).filter(|of| knows(*of))?;
    let mut raw = Vec::new();
    message(&mut raw, of, &[], object.as_object()?, 0);
    let mut out = begin(api_version, kind, raw.len());
    out.append(&mut raw);
    out.extend_from_slice(END);
    Some(out)
}

/// Everything before `length` bytes of content.
fn begin(api_version: &str, kind: &str, length: usize) -> Vec<u8> {
    let mut meta = Vec::new();
    bytes(&mut meta, 1, api_version.as_bytes());
    bytes(&mut meta, 2, kind.as_bytes());
    let mut out = MAGIC.to_vec();
    bytes(&mut out, 1, &meta);
    key(&mut out, 2, 2);
    varint(&mut out, length as u64);
    out
}

/// A list whose items are made one after another: nothing is held but its bytes, since their number comes first. `head` is the list
/// without them; `None` where it or its items have no numbers.
pub fn list<E>(head: &Value, items: impl Iterator<Item = Result<Value, E>>) -> Option<Result<Vec<Bytes>, E>> {
    let text = |key: &str| head.get(key).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let of = type_of(api_version, kind).filter(|of| knows(*of))?;
    let item = fields(of).iter().find(|numbered| numbered.field.name() == "items")?;
    let (Some(Step::Field(ITEMS)), Shape::List(item)) = (item.after(&[]), item.field.shape().resolve()) else {
        return None;
    };
    let mut chunk = Vec::new();
    message(&mut chunk, of, &[], head.as_object()?, 0);
    let (mut length, mut chunks) = (0, vec![Bytes::new()]);
    for value in items {
        match value {
            Ok(value) => single(&mut chunk, ITEMS, item.shape(), &value, 0),
            Err(error) => return Some(Err(error)),
        }
        if chunk.len() >= CHUNK {
            length += chunk.len();
            chunks.push(Bytes::copy_from_slice(&chunk));
            chunk.clear();
        }
    }
    length += chunk.len();
    chunk.extend_from_slice(END);
    chunks.push(chunk.into());
    if let Some(first) = chunks.first_mut() {
        *first = begin(api_version, kind, length).into();
    }
    Some(Ok(chunks))
}

/// A `WatchEvent` with four bytes of length before it.
pub fn event(kind: &str, object: &[u8]) -> Vec<u8> {
    let (mut raw, mut message) = (Vec::with_capacity(object.len() + 8), Vec::with_capacity(object.len() + 32));
    bytes(&mut raw, 1, object);
    bytes(&mut message, 1, kind.as_bytes());
    bytes(&mut message, 2, &raw);
    let mut out = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
    out.append(&mut message);
    out
}

fn message(out: &mut Vec<u8>, of: Type, prefix: &[u32], object: &Map<String, Value>, depth: usize) {
    let mut inside = Vec::new();
    for numbered in fields(of) {
        match numbered.after(prefix) {
            Some(Step::Field(number)) => {
                if let Some(value) = object.get(numbered.field.name()).filter(|v| !v.is_null()) {
                    field(out, number, numbered.field.shape(), value, depth);
                }
            }
            Some(Step::Inside(number)) if !inside.contains(&number) => {
                inside.push(number);
                let deeper: Vec<u32> = prefix.iter().copied().chain([number]).collect();
                let mut inner = Vec::new();
                message(&mut inner, of, &deeper, object, depth);
                // Go's decoder makes an embedded struct whole without it.
                if !inner.is_empty() {
                    bytes(out, number, &inner);
                }
            }
            Some(Step::Inside(_)) | None => {}
        }
    }
}

fn field(out: &mut Vec<u8>, number: u32, shape: Shape, value: &Value, depth: usize) {
    match (shape.resolve(), value) {
        (Shape::List(item), Value::Array(items)) => {
            items.iter().for_each(|v| single(out, number, item.shape(), v, depth + 1))
        }
        (Shape::Map(item), Value::Object(members)) => {
            for (name, value) in members {
                let mut entry = Vec::new();
                bytes(&mut entry, 1, name.as_bytes());
                match item.shape().resolve() {
                    Shape::List(_) => {
                        let mut inner = Vec::new();
                        field(&mut inner, 1, item.shape(), value, depth);
                        bytes(&mut entry, 2, &inner);
                    }
                    _ => single(&mut entry, 2, item.shape(), value, depth + 1),
                }
                bytes(out, number, &entry);
            }
        }
        _ => single(out, number, shape, value, depth),
    }
}

fn single(out: &mut Vec<u8>, number: u32, shape: Shape, value: &Value, depth: usize) {
    if depth > MAX_DEPTH {
        return;
    }
    let mut inner = Vec::new();
    if let Some(either) = Either::of(shape) {
        let (schema, item) = either.shapes();
        match value {
            Value::Bool(allows) => integer(&mut inner, either.other(), i64::from(*allows)),
            Value::Array(items) => items.iter().for_each(|v| single(&mut inner, either.other(), item, v, depth + 2)),
            value => {
                if either == Either::Bool {
                    integer(&mut inner, either.other(), 1);
                }
                single(&mut inner, either.schema(), schema, value, depth);
            }
        }
        return bytes(out, number, &inner);
    }
    match (shape.resolve(), value) {
        (Shape::Boolean, Value::Bool(b)) => return integer(out, number, i64::from(*b)),
        (Shape::Int32 | Shape::Int64, Value::Number(n)) => return integer(out, number, n.as_i64().unwrap_or_default()),
        (Shape::Number, Value::Number(n)) => {
            return double(out, number, n.as_f64().unwrap_or_default());
        }
        (Shape::String, Value::String(text)) => return bytes(out, number, text.as_bytes()),
        (Shape::Bytes, Value::String(text)) => return bytes(out, number, &STANDARD.decode(text).unwrap_or_default()),
        (Shape::Quantity, Value::String(text)) => bytes(&mut inner, 1, text.as_bytes()),
        (Shape::Quantity, Value::Number(n)) => bytes(&mut inner, 1, n.to_string().as_bytes()),
        (Shape::IntOrString, Value::String(text)) => {
            integer(&mut inner, 1, 1);
            integer(&mut inner, 2, 0);
            bytes(&mut inner, 3, text.as_bytes());
        }
        (Shape::IntOrString, Value::Number(n)) => {
            integer(&mut inner, 1, 0);
            integer(&mut inner, 2, n.as_i64().unwrap_or_default());
            bytes(&mut inner, 3, b"");
        }
        (Shape::Time, Value::String(text)) => {
            if let Ok(at) = text.parse::<Timestamp>() {
                integer(&mut inner, 1, at.as_second());
                integer(&mut inner, 2, i64::from(at.subsec_nanosecond()));
            }
        }
        (Shape::Object, _) if matches!(shape, Shape::Type(of) if knows(of)) => {}
        (Shape::Object | Shape::Any, value) => bytes(&mut inner, 1, value.to_string().as_bytes()),
        (Shape::Type(of), Value::Object(object)) => message(&mut inner, of, &[], object, depth + 1),
        _ => return,
    }
    bytes(out, number, &inner);
}
