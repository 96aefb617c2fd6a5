//! Compares an answer with what a case expects of it: placeholders, subsets, lists in any order.
//!
//! In an expectation `"<uid>"`, `"<time>"`, `"<rv>"`, `"<any>"`, `"<ip>"` and `"<int>"` stand for any value of that form, alone or within a
//! longer text. `{"<subset>": {…}}` looks at the keys given only, `{"<unordered>": […]}` at no order, `{"<contains>": […]}` at some
//! elements. Everything else is exact: a key that the expectation lacks must be absent.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value};

const PLACES: [(&str, &str); 6] = [
    ("<uid>", "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
    ("<time>", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)"),
    ("<rv>", r"\d+"),
    ("<any>", r"(?s:.*?)"),
    ("<ip>", r"(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9a-fA-F:]*:[0-9a-fA-F:]+)"),
    ("<int>", r"-?\d+"),
];

static PLACE: LazyLock<Regex> = LazyLock::new(|| Regex::new("<(?:uid|time|rv|any|ip|int)>").unwrap());

/// Every difference, as a line to read.
pub fn differences(want: &Value, got: Option<&Value>, path: &str) -> Vec<String> {
    let mut found = Vec::new();
    compare(want, got, path, &mut found);
    found
}

fn compare(want: &Value, got: Option<&Value>, path: &str, found: &mut Vec<String>) {
    let Some(got) = got else { return differ(found, path, want, "(absent)") };
    match want {
        Value::String(text) => {
            if !fits(text, got) {
                differ(found, path, want, &got.to_string());
            }
        }
        Value::Object(fields) => {
            if let Some((rule, inner)) = only(fields) {
                match (rule, inner, got) {
                    ("<subset>", Value::Object(fields), Value::Object(_)) => {
                        for (name, value) in fields {
                            compare(value, got.get(name), &format!("{path}.{name}"), found);
                        }
                    }
                    ("<unordered>" | "<contains>", Value::Array(items), Value::Array(all)) => {
                        any_order(items, all, path, rule == "<contains>", found);
                    }
                    _ => differ(found, path, want, &got.to_string()),
                }
                return;
            }
            let Value::Object(given) = got else { return differ(found, path, want, &got.to_string()) };
            for (name, value) in fields {
                compare(value, given.get(name), &format!("{path}.{name}"), found);
            }
            for (name, value) in given.iter().filter(|(name, _)| !fields.contains_key(*name)) {
                found.push(format!("{path}.{name}: want it absent, got {value}"));
            }
        }
        Value::Array(items) => {
            let Value::Array(given) = got else { return differ(found, path, want, &got.to_string()) };
            for at in 0..items.len().max(given.len()) {
                let path = format!("{path}[{at}]");
                match items.get(at) {
                    Some(item) => compare(item, given.get(at), &path, found),
                    None => found.push(format!("{path}: want it absent, got {}", given[at])),
                }
            }
        }
        Value::Number(number) => {
            if number.as_f64() != got.as_f64() {
                differ(found, path, want, &got.to_string());
            }
        }
        Value::Bool(_) | Value::Null => {
            if want != got {
                differ(found, path, want, &got.to_string());
            }
        }
    }
}

fn differ(found: &mut Vec<String>, path: &str, want: &Value, got: &str) {
    found.push(format!("{path}: want {want}, got {got}"));
}

/// The one key of an object that is a rule instead of an object.
fn only(fields: &Map<String, Value>) -> Option<(&str, &Value)> {
    let (name, value) = fields.iter().next()?;
    (fields.len() == 1 && ["<subset>", "<unordered>", "<contains>"].contains(&name.as_str())).then_some((name, value))
}

fn fits(want: &str, got: &Value) -> bool {
    match (want, got) {
        ("<any>", _) => true,
        ("<int>", Value::Number(n)) => n.is_i64() || n.is_u64(),
        (_, Value::String(got)) => got == want || PLACE.is_match(want) && pattern(want).is_match(got),
        _ => false,
    }
}

fn pattern(want: &str) -> Regex {
    let (mut text, mut at) = (String::from("^"), 0);
    for place in PLACE.find_iter(want) {
        text.push_str(&regex::escape(&want[at..place.start()]));
        text.push_str(PLACES.iter().find(|(name, _)| *name == place.as_str()).unwrap().1);
        at = place.end();
    }
    text.push_str(&regex::escape(&want[at..]));
    text.push('$');
    Regex::new(&text).unwrap()
}

/// Each element given takes one that matches it, else the one that comes nearest by its name, so that the difference can be read.
fn any_order(items: &[Value], all: &[Value], path: &str, more: bool, found: &mut Vec<String>) {
    let mut left: Vec<usize> = (0..all.len()).collect();
    for (at, item) in items.iter().enumerate() {
        let tries = left.iter().map(|n| (*n, differences(item, Some(&all[*n]), &format!("{path}[{at}~{n}]"))));
        let near = |(n, lines): &(usize, Vec<String>)| lines.is_empty() || same_name(item, &all[*n]);
        match tries.filter(near).min_by_key(|(_, lines)| lines.len()) {
            Some((n, lines)) => {
                left.retain(|l| *l != n);
                found.extend(lines);
            }
            None => differ(found, &format!("{path}[{at}]"), item, "(absent)"),
        }
    }
    if !more {
        found.extend(left.iter().map(|n| format!("{path}[~{n}]: want it absent, got {}", all[*n])));
    }
}

fn same_name(want: &Value, got: &Value) -> bool {
    let want = want.get("<subset>").unwrap_or(want);
    ["/metadata/name", "/name", "/groupVersion", "/type", "/field", "/manager"]
        .iter()
        .any(|path| want.pointer(path).is_some_and(|name| name.is_string() && Some(name) == got.pointer(path)))
}

/// Without what is never compared: who manages what, except where that is the matter, and descriptions.
pub fn tidy(value: &mut Value, area: &str, path: &str) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| tidy(item, area, path)),
        Value::Object(fields) => {
            if let Some(Value::Object(metadata)) = fields.get_mut("metadata") {
                match metadata.get_mut("managedFields") {
                    Some(Value::Array(entries)) if area == "apply" => entries.sort_by_key(entry),
                    Some(_) if area != "apply" => {
                        metadata.remove("managedFields");
                    }
                    _ => {}
                }
            }
            if path.starts_with("/openapi") && fields.get("description").is_some_and(Value::is_string) {
                fields.remove("description");
            }
            if let Some(Value::Array(columns)) = fields.get_mut("columnDefinitions") {
                for column in columns.iter_mut().filter_map(Value::as_object_mut) {
                    column.remove("description");
                }
            }
            fields.values_mut().for_each(|value| tidy(value, area, path));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// By what managers' entries are ordered, since two writes may fall into one second or not.
fn entry(entry: &Value) -> [String; 4] {
    ["operation", "manager", "subresource", "apiVersion"].map(|name| entry[name].to_string())
}
