//! The documents as protobuf: messages of gnostic's `OpenAPIv2.proto` and `OpenAPIv3.proto`, which older clients ask for.
//!
//! `v2.txt` and `v3.txt` are facts of those files, of as much as is written here: a line a message, `name=NUMBER:KIND`. A kind is another
//! message, `string`, `bool`, `int`, `double` or `any` (YAML in a string), in brackets if there may be several. For names: `*` is every other
//! name and `x-` every extension, both as pairs of name and value; `.` is the value itself. A message behind `?` is one of several: of
//! `$ref`, if there is one, of a property's value (`in~body`), of a JSON type, or `else`.
//!
//! A document may come in parts: where a part is a message again, readers join its fields.

use std::collections::HashMap;

use bytes::Bytes;
use serde_json::Value;

use super::Edition;
use crate::wire::protobuf::writer::{bytes, double, integer};

#[derive(Clone, Copy)]
struct Field {
    name: &'static str,
    number: u32,
    kind: &'static str,
}

enum Message {
    /// With fields.
    Of(Vec<Field>),
    /// One of several.
    One(Vec<Field>),
}

pub struct Writer(HashMap<&'static str, Message>);

impl Writer {
    pub fn new(edition: Edition) -> Self {
        let table = match edition {
            Edition::V2 => include_str!("v2.txt"),
            Edition::V3 => include_str!("v3.txt"),
        };
        let field = |word: &'static str| {
            let (name, rest) = word.split_once('=')?;
            let (number, kind) = rest.split_once(':')?;
            Some(Field { name, number: number.parse().ok()?, kind })
        };
        let message = |line: &'static str| {
            let mut words = line.split(' ');
            let name = words.next()?;
            let fields = words.filter_map(field).collect();
            Some(match name.strip_prefix('?') {
                Some(name) => (name, Message::One(fields)),
                None => (name, Message::Of(fields)),
            })
        };
        Self(table.lines().filter_map(message).collect())
    }

    /// A part of a document.
    pub fn part(&self, document: &Value) -> Bytes {
        self.message("Document", document).into()
    }

    fn message(&self, name: &str, value: &Value) -> Vec<u8> {
        let mut out = Vec::new();
        match self.0.get(name) {
            Some(Message::One(cases)) => {
                if let Some(field) = cases.iter().find(|case| fits(case.name, value)) {
                    self.value(&mut out, *field, value);
                }
            }
            Some(Message::Of(fields)) => match (fields.as_slice(), value) {
                ([field], value) if field.name == "." => self.field(&mut out, *field, value),
                (fields, Value::Object(members)) => {
                    for (key, value) in members {
                        if let Some(field) = fields.iter().find(|field| field.name == key) {
                            self.field(&mut out, *field, value);
                        } else if let Some(field) = fields.iter().find(|field| takes(field.name, key)) {
                            let mut pair = Vec::new();
                            bytes(&mut pair, 1, key.as_bytes());
                            self.value(&mut pair, Field { number: 2, ..*field }, value);
                            bytes(&mut out, field.number, &pair);
                        }
                    }
                }
                _ => {}
            },
            None => {}
        }
        out
    }

    /// A field that may stand several times.
    fn field(&self, out: &mut Vec<u8>, field: Field, value: &Value) {
        let Some(kind) = field.kind.strip_prefix('[').and_then(|kind| kind.strip_suffix(']')) else {
            return self.value(out, field, value);
        };
        let one = Field { kind, ..field };
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.value(out, one, item)),
            only => self.value(out, one, only),
        }
    }

    fn value(&self, out: &mut Vec<u8>, Field { number, kind, .. }: Field, value: &Value) {
        match (kind, value) {
            ("string", Value::String(text)) => bytes(out, number, text.as_bytes()),
            ("bool", Value::Bool(flag)) => integer(out, number, i64::from(*flag)),
            ("int", Value::Number(n)) => integer(out, number, n.as_i64().unwrap_or_default()),
            ("double", Value::Number(n)) => double(out, number, n.as_f64().unwrap_or_default()),
            ("string" | "bool" | "int" | "double", _) => {}
            ("any", value) => {
                let mut any = Vec::new();
                // JSON is YAML.
                let yaml = serde_yaml::to_string(value).unwrap_or_else(|_| value.to_string());
                bytes(&mut any, 2, yaml.as_bytes());
                bytes(out, number, &any);
            }
            (message, value) => bytes(out, number, &self.message(message, value)),
        }
    }
}

fn takes(name: &str, key: &str) -> bool {
    match name {
        "*" => true,
        "x-" => key.starts_with("x-"),
        _ => false,
    }
}

fn fits(case: &str, value: &Value) -> bool {
    match case.split_once('~') {
        Some((key, want)) => value.get(key).is_some_and(|found| found == want),
        None => match case {
            "else" => true,
            "bool" => value.is_boolean(),
            "number" => value.is_number(),
            "string" => value.is_string(),
            key => value.get(key).is_some(),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_message_named_is_there() {
        for edition in [Edition::V2, Edition::V3] {
            let writer = Writer::new(edition);
            for (name, message) in &writer.0 {
                let (Message::Of(fields) | Message::One(fields)) = message;
                assert!(!fields.is_empty(), "{name}");
                for field in fields {
                    let kind = field.kind.trim_matches(['[', ']']);
                    let plain = ["string", "bool", "int", "double", "any"].contains(&kind);
                    assert!(plain || writer.0.contains_key(kind), "{name}.{}", field.name);
                    let same = fields.iter().filter(|other| other.number == field.number).count();
                    assert_eq!(same, 1, "{name}: {}", field.number);
                }
            }
        }
    }

    #[test]
    fn a_schema_is_bytes() {
        let schema = json!({"description": "d", "type": "object", "x-kubernetes-map-type": "atomic",
            "properties": {"a": {"$ref": "#/definitions/B"}}, "additionalProperties": true});
        let got = Writer::new(Edition::V2).part(&json!({"definitions": {"N": schema}}));
        let inner: &[&[u8]] = &[
            b"\xaa\x01\x02\x10\x01",
            b"\x22\x01d",
            b"\xca\x01\x18\x0a\x16\x0a\x01a\x12\x11\x0a\x0f#/definitions/B",
            b"\xb2\x01\x08\x0a\x06object",
            b"\xfa\x01\x22\x0a\x15x-kubernetes-map-type\x12\x09\x12\x07atomic\n",
        ];
        let inner = inner.concat();
        let mut want = vec![0x0a, 1, b'N', 0x12, inner.len() as u8];
        want.extend(&inner);
        let want = [&[0x4a, want.len() as u8 + 2, 0x0a, want.len() as u8][..], &want].concat();
        assert_eq!(got.to_vec(), want);
        assert_eq!(
            Writer::new(Edition::V3).part(&json!({"paths": {"x-y": 1}})).to_vec(),
            b"\x22\x0d\x12\x0b\x0a\x03x-y\x12\x04\x12\x021\n"
        );
    }
}
