//! JSON to the wire. What does not fit its shape is left out: the objects are our own, checked when they were written.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::Timestamp;
use kedge_api::schema::Shape;
use serde_json::Value;

use super::node::Node;
use super::table::{Either, Known, Step, known, knows};
use super::writer::{bytes, double, integer, key, nested, varint};
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
    let of = known(type_of(api_version, kind)?)?;
    let Node::Map(members) = Node::from(object) else { return None };
    let mut raw = Vec::new();
    message(&mut raw, of, &members, 0);
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

/// A list whose items are read one after another: nothing is held but its bytes, since their number comes first. `head` is the list
/// without them, an item its JSON; `None` where it or its items have no numbers.
pub fn list<'a>(head: &Value, items: impl Iterator<Item = &'a [u8]>) -> Option<Result<Vec<Bytes>, serde_json::Error>> {
    let text = |key: &str| head.get(key).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let of = known(type_of(api_version, kind)?)?;
    let item = of.fields.iter().find(|numbered| numbered.field.name() == "items")?;
    let (Some(Step::Field(ITEMS)), Shape::List(item)) = (item.after(&[]), item.field.shape().resolve()) else {
        return None;
    };
    let Node::Map(members) = Node::from(head) else { return None };
    let mut chunk = Vec::new();
    message(&mut chunk, of, &members, 0);
    let (mut length, mut chunks) = (0, vec![Bytes::new()]);
    for json in items {
        match serde_json::from_slice(json) {
            Ok(node) => single(&mut chunk, ITEMS, item.shape(), &node, 0),
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

type Members<'a> = [(Cow<'a, str>, Node<'a>)];

fn message(out: &mut Vec<u8>, of: &Known, members: &Members<'_>, depth: usize) {
    // In the order of their numbers, as Go writes them.
    let mut present: Vec<(usize, &Node<'_>)> = members
        .iter()
        .filter(|(_, value)| !value.is_null())
        .filter_map(|(name, value)| Some((of.by_name(name)?, value)))
        .collect();
    present.sort_unstable_by_key(|(at, _)| *at);
    inside(out, of, &[], &present, depth);
}

/// Those of the fields that `prefix` leads to.
fn inside(out: &mut Vec<u8>, of: &Known, prefix: &[u32], present: &[(usize, &Node<'_>)], depth: usize) {
    let mut done = Vec::new();
    for (at, value) in present {
        let Some(numbered) = of.fields.get(*at) else { continue };
        match numbered.after(prefix) {
            Some(Step::Field(number)) => field(out, number, numbered.field.shape(), value, depth),
            // Go's decoder makes an embedded struct whole without it.
            Some(Step::Inside(number)) if !done.contains(&number) => {
                done.push(number);
                let deeper: Vec<u32> = prefix.iter().copied().chain([number]).collect();
                nested(out, number, |out| inside(out, of, &deeper, present, depth));
            }
            Some(Step::Inside(_)) | None => {}
        }
    }
}

fn field(out: &mut Vec<u8>, number: u32, shape: Shape, value: &Node<'_>, depth: usize) {
    match (shape.resolve(), value) {
        (Shape::List(item), Node::List(items)) => {
            items.iter().for_each(|v| single(out, number, item.shape(), v, depth + 1))
        }
        (Shape::Map(item), Node::Map(members)) => {
            for (name, value) in members {
                nested(out, number, |out| {
                    bytes(out, 1, name.as_bytes());
                    match item.shape().resolve() {
                        Shape::List(_) => nested(out, 2, |out| field(out, 1, item.shape(), value, depth)),
                        _ => single(out, 2, item.shape(), value, depth + 1),
                    }
                });
            }
        }
        _ => single(out, number, shape, value, depth),
    }
}

fn single(out: &mut Vec<u8>, number: u32, shape: Shape, value: &Node<'_>, depth: usize) {
    if depth > MAX_DEPTH {
        return;
    }
    if let Some(either) = Either::of(shape) {
        let (schema, item) = either.shapes();
        return nested(out, number, |out| match value {
            Node::Bool(allows) => integer(out, either.other(), i64::from(*allows)),
            Node::List(items) => items.iter().for_each(|v| single(out, either.other(), item, v, depth + 2)),
            value => {
                if either == Either::Bool {
                    integer(out, either.other(), 1);
                }
                single(out, either.schema(), schema, value, depth);
            }
        });
    }
    match (shape.resolve(), value) {
        (Shape::Boolean, Node::Bool(b)) => integer(out, number, i64::from(*b)),
        (Shape::Int32 | Shape::Int64, Node::Number(n)) => integer(out, number, n.as_i64().unwrap_or_default()),
        (Shape::Number, Node::Number(n)) => double(out, number, n.as_f64().unwrap_or_default()),
        (Shape::String, Node::Text(text)) => bytes(out, number, text.as_bytes()),
        (Shape::Bytes, Node::Text(text)) => bytes(out, number, &STANDARD.decode(&**text).unwrap_or_default()),
        (Shape::Quantity, Node::Text(text)) => nested(out, number, |out| bytes(out, 1, text.as_bytes())),
        (Shape::Quantity, Node::Number(n)) => nested(out, number, |out| bytes(out, 1, n.to_string().as_bytes())),
        (Shape::IntOrString, Node::Text(text)) => nested(out, number, |out| {
            integer(out, 1, 1);
            integer(out, 2, 0);
            bytes(out, 3, text.as_bytes());
        }),
        (Shape::IntOrString, Node::Number(n)) => nested(out, number, |out| {
            integer(out, 1, 0);
            integer(out, 2, n.as_i64().unwrap_or_default());
            bytes(out, 3, b"");
        }),
        (Shape::Time, Node::Text(text)) => nested(out, number, |out| {
            if let Ok(at) = text.parse::<Timestamp>() {
                integer(out, 1, at.as_second());
                integer(out, 2, i64::from(at.subsec_nanosecond()));
            }
        }),
        (Shape::Object, _) if matches!(shape, Shape::Type(of) if knows(of)) => nested(out, number, |_| {}),
        (Shape::Object | Shape::Any, value) => nested(out, number, |out| {
            // What was read can be written.
            bytes(out, 1, &serde_json::to_vec(value).unwrap_or_default());
        }),
        (Shape::Type(of), Node::Map(members)) => nested(out, number, |out| {
            if let Some(of) = known(of) {
                message(out, of, members, depth + 1);
            }
        }),
        _ => {}
    }
}
