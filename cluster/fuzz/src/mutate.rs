//! Inputs made of inputs: a little of one changed, or put together with another.
//!
//! What is JSON is mostly changed as a tree, so that it stays JSON and reaches what is behind the parser; all else as bytes or as words.

use serde_json::{Map, Number, Value};

use crate::random::Random;

/// Longer ones find nothing that shorter ones do not, and take their time.
pub const LONGEST: usize = 16 << 10;

/// Texts that mean something to some parser.
const WORDS: &[&str] = &[
    "",
    "null",
    "true",
    "-1",
    "0",
    "1",
    "255",
    "65536",
    "2147483648",
    "4294967296",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551616",
    "1e400",
    "1.5",
    "NaN",
    ".",
    "..",
    "/",
    "//",
    "~",
    "~0",
    "~1",
    "*",
    "**",
    "-",
    "--",
    "\u{0}",
    "\u{e9}",
    "\u{1f600}",
    "\\",
    "\"",
    "'",
    "`",
    "%",
    "%s",
    "%00",
    "$",
    "${",
    "$(x)",
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    "{{",
    "!",
    "!=",
    "==",
    "in",
    "notin",
    ",",
    ";",
    ":",
    "a=b",
    "default",
    "name",
    "kube-system",
    "v1",
    "10Gi",
    "100m",
    "1Ki",
    "0.5",
    "1e3",
    "Ki",
    "2026-01-01T00:00:00Z",
    "2026-01-01T00:00:00.000001Z",
    "0000-00-00T00:00:00Z",
    "9999-12-31T23:59:60Z",
    "1h30m",
    "10.0.0.1",
    "10.0.0.0/8",
    "::1",
    "::/0",
    "::ffff:1.2.3.4",
    "80",
    "http",
    "0644",
    "$patch",
    "replace",
    "delete",
    "merge",
    "$retainKeys",
    "$setElementOrder/containers",
    "$deleteFromPrimitiveList/finalizers",
    "metadata",
    "spec",
    "status",
    "managedFields",
    "f:spec",
    ".",
    "k:{\"name\":\"a\"}",
    "v:\"x\"",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-int-or-string",
    "type",
    "object",
    "string",
    "integer",
    "^(a+)+$",
    "[a-z",
    "a{1000}",
    "self",
    "self.a",
    "has(self.a)",
    "self.all(x, x > 0)",
    "oldSelf",
    "*/5 * * * *",
    "@every 1s",
    "0 0 31 2 *",
    "&a",
    "*a",
    "<<",
    "- ",
    "a: b",
    "---",
    "...",
    "!!binary",
    "|",
    ">",
];

/// A new input from `seeds`.
pub fn fresh(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut input = random.pick(seeds).cloned().unwrap_or_default();
    for _ in 0..=random.below(4) {
        let other = random.pick(seeds).cloned().unwrap_or_default();
        input = once(random, &input, &other);
    }
    input.truncate(LONGEST);
    input
}

/// `input` with one thing changed; `other` is what parts may be taken from.
pub fn once(random: &mut Random, input: &[u8], other: &[u8]) -> Vec<u8> {
    if !random.once_in(4)
        && let Ok(mut tree) = serde_json::from_slice::<Value>(input)
    {
        let part = serde_json::from_slice::<Value>(other).ok();
        change(random, &mut tree, part.as_ref());
        return tree.to_string().into_bytes();
    }
    match (random.once_in(2), std::str::from_utf8(input)) {
        (true, Ok(text)) => words(random, text, std::str::from_utf8(other).unwrap_or_default()).into_bytes(),
        _ => bytes(random, input, other),
    }
}

/// Changes one value somewhere in the tree.
fn change(random: &mut Random, tree: &mut Value, other: Option<&Value>) {
    let count = count(tree);
    let at = random.below(count);
    let donor = other.filter(|_| random.once_in(3)).unwrap_or(&*tree);
    let donated = random.below(self::count(donor));
    let donated = nth(donor, &mut { donated }).cloned().unwrap_or_default();
    if let Some(place) = nth_mut(tree, &mut { at }) {
        alter(random, place, donated);
    }
}

fn alter(random: &mut Random, place: &mut Value, donated: Value) {
    match (random.below(8), place) {
        (0, place) => *place = donated,
        (1, place) => *place = scalar(random),
        (2, place) => *place = Value::Array(vec![std::mem::take(place); 1 + random.below(3)]),
        (3, place) => {
            let name = word(random);
            *place = Map::from_iter([(name, std::mem::take(place))]).into();
        }
        (4, Value::Object(map)) => {
            let name = if random.once_in(2) { map.keys().nth(random.below(map.len())).cloned() } else { None };
            let name = name.unwrap_or_else(|| word(random));
            map.insert(name, donated);
        }
        (_, Value::Object(map)) => {
            let Some(name) = map.keys().nth(random.below(map.len())).cloned() else { return };
            let value = map.remove(&name).unwrap_or_default();
            if random.once_in(2) {
                map.insert(word(random), value);
            }
        }
        (4, Value::Array(items)) => items.insert(random.below(items.len() + 1), donated),
        (5, Value::Array(items)) => items.extend_from_within(..),
        (_, Value::Array(items)) if !items.is_empty() => {
            items.remove(random.below(items.len()));
        }
        (_, Value::String(text)) => {
            let other = word(random);
            *text = words(random, text, &other);
        }
        (_, Value::Number(number)) => *number = self::number(random, number),
        (_, place) => *place = scalar(random),
    }
}

fn scalar(random: &mut Random) -> Value {
    match random.below(6) {
        0 => Value::Null,
        1 => random.once_in(2).into(),
        2 => self::number(random, &0.into()).into(),
        _ => word(random).into(),
    }
}

fn word(random: &mut Random) -> String {
    random.pick(WORDS).copied().unwrap_or_default().to_owned()
}

fn number(random: &mut Random, old: &Number) -> Number {
    const EDGES: &[i64] =
        &[0, 1, -1, 127, 128, 255, 65535, 65536, i32::MAX as i64, i32::MIN as i64, 1 << 32, i64::MAX, i64::MIN];
    match random.below(4) {
        0 => Number::from_f64(f64::from_bits(random.number())).unwrap_or_else(|| 0.into()),
        1 => Number::from(random.number()),
        2 => Number::from(old.as_i64().unwrap_or_default().wrapping_add(random.below(3) as i64 - 1)),
        _ => Number::from(random.pick(EDGES).copied().unwrap_or_default()),
    }
}

fn count(tree: &Value) -> usize {
    1 + match tree {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(map) => map.values().map(count).sum(),
        _ => 0,
    }
}

fn nth<'a>(tree: &'a Value, left: &mut usize) -> Option<&'a Value> {
    if *left == 0 {
        return Some(tree);
    }
    *left -= 1;
    match tree {
        Value::Array(items) => items.iter().find_map(|item| nth(item, left)),
        Value::Object(map) => map.values().find_map(|value| nth(value, left)),
        _ => None,
    }
}

fn nth_mut<'a>(tree: &'a mut Value, left: &mut usize) -> Option<&'a mut Value> {
    if *left == 0 {
        return Some(tree);
    }
    *left -= 1;
    match tree {
        Value::Array(items) => items.iter_mut().find_map(|item| nth_mut(item, left)),
        Value::Object(map) => map.values_mut().find_map(|value| nth_mut(value, left)),
        _ => None,
    }
}

/// Text cut at the borders of its words, and put together anew.
fn words(random: &mut Random, text: &str, other: &str) -> String {
    let mut parts = split(text);
    let at = random.below(parts.len() + 1);
    let foreign = split(other);
    match random.below(6) {
        0 => parts.insert(at, random.pick(WORDS).copied().unwrap_or_default()),
        1 => parts.insert(at, random.pick(&foreign).copied().unwrap_or_default()),
        2 if at < parts.len() => {
            parts.remove(at);
        }
        3 if at < parts.len() => {
            let again = parts.get(at).copied().unwrap_or_default();
            parts.splice(at..at, std::iter::repeat_n(again, 1 + random.below(40)));
        }
        4 => parts.truncate(at),
        _ => {
            let with = random.below(parts.len());
            if at < parts.len() {
                parts.swap(at, with);
            }
        }
    }
    parts.concat()
}

/// Runs of letters and digits, and each other character.
fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = if first.is_alphanumeric() {
            rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        let (part, after) = rest.split_at(end);
        parts.push(part);
        rest = after;
    }
    parts
}

fn bytes(random: &mut Random, input: &[u8], other: &[u8]) -> Vec<u8> {
    let mut out = input.to_vec();
    let at = random.below(out.len() + 1);
    let end = (at + 1 + random.below(16)).min(out.len());
    match random.below(8) {
        0 | 1 => {
            if let Some(byte) = out.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        2 => {
            if let Some(byte) = out.get_mut(at) {
                *byte = *random.pick(&[0, 1, 0x7f, 0x80, 0xff, b'"', b'\n', b' ']).unwrap_or(&0);
            }
        }
        3 => drop(out.drain(at..end)),
        4 => {
            let again = out.get(at..end).unwrap_or_default().to_vec();
            out.splice(at..at, again.repeat(1 + random.below(64)));
        }
        5 => {
            let from = random.below(other.len() + 1);
            let to = (from + random.below(64)).min(other.len());
            out.splice(at..at, other.get(from..to).unwrap_or_default().iter().copied());
        }
        6 => drop(out.splice(at..at, word(random).into_bytes())),
        _ => {
            out.truncate(at);
            out.extend_from_slice(other.get(random.below(other.len() + 1)..).unwrap_or_default());
        }
    }
    out
}
