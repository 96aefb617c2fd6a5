//! The wire to JSON: what Go's decoder would give if it then wrote JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use kedge_api::schema::{Field, Shape, Type};
use serde::de::DeserializeSeed as _;
use serde_json::{Map, Value};

use super::table::{Either, Step, fields, knows};
use super::{MAGIC, MAX_DEPTH, ProtobufError as Error, type_of};
use crate::wire::walk::{MAX_NODES, Path, Seed, State};

/// One field on the wire.
#[derive(Clone, Copy)]
enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Fixed(u64),
}

/// Walks the fields of a message.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn varint(&mut self) -> Result<u64, Error> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first().ok_or(Error::Truncated)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Error::Truncated)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let (head, rest) = self.0.split_at_checked(count).ok_or(Error::Truncated)?;
        self.0 = rest;
        Ok(head)
    }

    fn next(&mut self) -> Result<Option<(u32, Wire<'a>)>, Error> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).map_err(|_| Error::Truncated)?;
        let wire = match key & 7 {
            0 => Wire::Number(self.varint()?),
            1 => Wire::Fixed(self.take(8)?.try_into().map(u64::from_le_bytes).map_err(|_| Error::Truncated)?),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Error::Truncated)?;
                Wire::Bytes(self.take(length)?)
            }
            5 => Wire::Fixed(
                self.take(4)?.try_into().map(u32::from_le_bytes).map(u64::from).map_err(|_| Error::Truncated)?,
            ),
            _ => return Err(Error::Wire(number.to_string())),
        };
        Ok(Some((number, wire)))
    }
}

/// The field `number` of a message that has few.
fn one<'a>(message: &'a [u8], number: u32) -> Result<Option<Wire<'a>>, Error> {
    let (mut reader, mut found) = (Reader(message), None);
    while let Some((at, wire)) = reader.next()? {
        if at == number {
            found = Some(wire);
        }
    }
    Ok(found)
}

fn bytes_of(message: &[u8], number: u32) -> Result<&[u8], Error> {
    match one(message, number)? {
        Some(Wire::Bytes(bytes)) => Ok(bytes),
        None => Ok(&[]),
        Some(Wire::Number(_) | Wire::Fixed(_)) => Err(Error::Wire(number.to_string())),
    }
}

pub fn envelope(bytes: &[u8], default: Option<Type>) -> Result<Value, Error> {
    let unknown = bytes.strip_prefix(MAGIC).ok_or(Error::Magic)?;
    let meta = bytes_of(unknown, 1)?;
    let (api_version, kind) = (text("apiVersion", bytes_of(meta, 1)?)?, text("kind", bytes_of(meta, 2)?)?);
    let of = if kind.is_empty() { default } else { type_of(&api_version, &kind) };
    // Numbers known: else an empty object would stand for a whole one.
    let of = of
        .filter(|of| knows(*of))
        .ok_or_else(|| Error::Unknown { api_version: api_version.clone(), kind: kind.clone() })?;
    let walk = Walk { values: State::new(None) };
    let mut out = Map::new();
    walk.message(of, &[], bytes_of(unknown, 2)?, &mut out, 0)?;
    for (key, value) in [("apiVersion", api_version), ("kind", kind)] {
        if !value.is_empty() {
            out.insert(key.to_owned(), value.into());
        }
    }
    Ok(out.into())
}

struct Walk {
    values: State,
}

impl Walk {
    /// Reads a message of type `of`, or one inside it that JSON has no name for, into the object `out`.
    fn message(
        &self,
        of: Type,
        prefix: &[u32],
        bytes: &[u8],
        out: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(Error::Deep);
        }
        let mut reader = Reader(bytes);
        while let Some((number, wire)) = reader.next()? {
            let found = fields(of).iter().find_map(|f| {
                f.after(prefix)
                    .filter(|step| matches!(*step, Step::Field(n) | Step::Inside(n) if n == number))
                    .map(|step| (f.field, step))
            });
            match (found, wire) {
                // Of a later version of the API.
                (None, _) => {}
                (Some((_, Step::Inside(_))), Wire::Bytes(inner)) => {
                    let deeper: Vec<u32> = prefix.iter().copied().chain([number]).collect();
                    self.message(of, &deeper, inner, out, depth + 1)?;
                }
                (Some((field, Step::Inside(_))), _) => return Err(Error::Wire(field.name().to_owned())),
                (Some((field, Step::Field(_))), wire) => self.field(field, wire, out, depth)?,
            }
        }
        Ok(())
    }

    fn field(&self, field: Field, wire: Wire<'_>, out: &mut Map<String, Value>, depth: usize) -> Result<(), Error> {
        let name = field.name();
        match field.shape().resolve() {
            Shape::List(item) => {
                let list = out.entry(name).or_insert_with(|| Value::Array(Vec::new()));
                let Value::Array(list) = list else { return Err(Error::Wire(name.to_owned())) };
                self.items(name, item.shape(), wire, list, depth + 1)
            }
            Shape::Map(item) => {
                let map = out.entry(name).or_insert_with(|| Value::Object(Map::new()));
                let (Value::Object(map), Wire::Bytes(entry)) = (map, wire) else {
                    return Err(Error::Wire(name.to_owned()));
                };
                let key = text(name, bytes_of(entry, 1)?)?;
                let value = match item.shape().resolve() {
                    // A list cannot be a map's value: there is a message around it.
                    Shape::List(inner) => {
                        let (mut list, mut reader) = (Vec::new(), Reader(bytes_of(entry, 2)?));
                        while let Some((1, wire)) = reader.next()? {
                            self.items(name, inner.shape(), wire, &mut list, depth + 1)?;
                        }
                        Some(Value::Array(list))
                    }
                    _ => self.value(name, item.shape(), one(entry, 2)?.unwrap_or(Wire::Bytes(&[])), depth + 1)?,
                };
                map.insert(key, value.unwrap_or_default());
                Ok(())
            }
            _ => {
                let value = self.value(name, field.shape(), wire, depth)?.filter(|value| written(field, value));
                match value {
                    Some(value) => out.insert(name.to_owned(), value),
                    None => out.remove(name),
                };
                Ok(())
            }
        }
    }

    fn items(
        &self,
        name: &str,
        shape: Shape,
        wire: Wire<'_>,
        list: &mut Vec<Value>,
        depth: usize,
    ) -> Result<(), Error> {
        // Numbers may come packed.
        if let (Shape::Int32 | Shape::Int64, Wire::Bytes(packed)) = (shape.resolve(), wire) {
            let mut reader = Reader(packed);
            while !reader.0.is_empty() {
                list.push(self.value(name, shape, Wire::Number(reader.varint()?), depth)?.unwrap_or_default());
            }
            return Ok(());
        }
        list.push(self.value(name, shape, wire, depth)?.unwrap_or_default());
        Ok(())
    }

    /// As Go writes it: the array if it has elements, else the schema, else whether anything is allowed.
    fn either(&self, name: &str, either: Either, bytes: &[u8], depth: usize) -> Result<Value, Error> {
        let (schema, item) = either.shapes();
        let (mut found, mut items, mut reader) = (Value::Null, Vec::new(), Reader(bytes));
        if either == Either::Bool {
            found = (number(bytes, either.other())? != 0).into();
        }
        while let Some((at, wire)) = reader.next()? {
            if at == either.schema() {
                found = self.value(name, schema, wire, depth)?.unwrap_or_default();
            } else if at == either.other() && either != Either::Bool {
                self.items(name, item, wire, &mut items, depth + 1)?;
            }
        }
        Ok(if items.is_empty() { found } else { items.into() })
    }

    /// `None` is a time that is not set.
    fn value(&self, name: &str, shape: Shape, wire: Wire<'_>, depth: usize) -> Result<Option<Value>, Error> {
        if !self.values.has_room() {
            return Err(Error::Many(MAX_NODES));
        }
        let wrong = || Error::Wire(name.to_owned());
        if let Some(either) = Either::of(shape) {
            let Wire::Bytes(bytes) = wire else { return Err(wrong()) };
            return self.either(name, either, bytes, depth).map(Some);
        }
        Ok(Some(match (shape.resolve(), wire) {
            (Shape::Boolean, Wire::Number(n)) => (n != 0).into(),
            // Both are written as 64 bits, negative ones with their sign; Go keeps of each as many as it has room for.
            (Shape::Int32, Wire::Number(n)) => (n.cast_signed() as i32).into(),
            (Shape::Int64, Wire::Number(n)) => n.cast_signed().into(),
            (Shape::Number, Wire::Fixed(n)) => f64::from_bits(n).into(),
            (Shape::String, Wire::Bytes(bytes)) => text(name, bytes)?.into(),
            (Shape::Bytes, Wire::Bytes(bytes)) => STANDARD.encode(bytes).into(),
            (Shape::Quantity, Wire::Bytes(bytes)) => text(name, bytes_of(bytes, 1)?)?.into(),
            (Shape::IntOrString, Wire::Bytes(bytes)) => match one(bytes, 1)? {
                Some(Wire::Number(1)) => text(name, bytes_of(bytes, 3)?)?.into(),
                _ => (number(bytes, 2)? as i32).into(),
            },
            (Shape::Time, Wire::Bytes(bytes)) => return time(name, shape, bytes),
            (Shape::Object, Wire::Bytes(_)) if matches!(shape, Shape::Type(of) if knows(of)) => {
                Value::Object(Map::new())
            }
            (Shape::Object | Shape::Any, Wire::Bytes(bytes)) => {
                let raw = bytes_of(bytes, 1)?;
                if raw.is_empty() {
                    return Ok(None);
                }
                let mut parser = serde_json::Deserializer::from_slice(raw);
                let read = Seed { state: &self.values, path: Path::Root }.deserialize(&mut parser);
                read.and_then(|value| parser.end().map(|()| value))
                    .map_err(|e| Error::Value(name.to_owned(), e.to_string()))?
            }
            (Shape::Type(of), Wire::Bytes(bytes)) => {
                let mut out = Map::new();
                self.message(of, &[], bytes, &mut out, depth + 1)?;
                out.into()
            }
            _ => return Err(wrong()),
        }))
    }
}

/// Whether JSON would hold the field: Go leaves zero values out where the type says so.
fn written(field: Field, value: &Value) -> bool {
    match value {
        Value::String(text) if text.is_empty() => field.required() || field.keeps_empty(),
        Value::Bool(false) => !field.drops_zero(),
        Value::Number(n) if n.as_f64() == Some(0.0) => !field.drops_zero(),
        _ => true,
    }
}

fn text(name: &str, bytes: &[u8]) -> Result<String, Error> {
    let text = std::str::from_utf8(bytes).map_err(|_| Error::Value(name.to_owned(), "not UTF-8".to_owned()))?;
    Ok(text.to_owned())
}

fn number(message: &[u8], at: u32) -> Result<i64, Error> {
    match one(message, at)? {
        Some(Wire::Number(n)) => Ok(n.cast_signed()),
        None => Ok(0),
        Some(Wire::Bytes(_) | Wire::Fixed(_)) => Err(Error::Wire(at.to_string())),
    }
}

/// Go's zero time, the first of January of the year 1.
const ZERO_TIME: i64 = -62_135_596_800;

fn time(name: &str, shape: Shape, bytes: &[u8]) -> Result<Option<Value>, Error> {
    let (seconds, nanos) = (number(bytes, 1)?, number(bytes, 2)?);
    if bytes.is_empty() || seconds == ZERO_TIME {
        return Ok(None);
    }
    let micro = matches!(shape, Shape::Type(of) if of.short_name() == "MicroTime");
    let nanos = i32::try_from(nanos).unwrap_or_default();
    let at = Timestamp::new(seconds, nanos).map_err(|e| Error::Value(name.to_owned(), e.to_string()))?;
    let format = if micro { "%Y-%m-%dT%H:%M:%S.%6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" };
    Ok(Some(at.strftime(format).to_string().into()))
}
