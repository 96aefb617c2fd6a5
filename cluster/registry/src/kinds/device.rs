//! Devices that pods share (dynamic resource allocation): what there is, what is asked for, and who got it.

pub(crate) mod claim;
pub(crate) mod class;
pub(crate) mod slice;

mod capacity;
mod expression;
mod request;
mod status;

use std::collections::HashSet;

use serde_json::Value;

use super::storage::driver as validate_driver;
use crate::errors::{Errors, Path};
use crate::names;
use crate::value::Look as _;

const GROUP: &str = "resource.k8s.io";
/// The most that most lists hold: requests, constraints, configurations, selectors, results.
const MOST_ITEMS: usize = 32;
const LONGEST_POOL: usize = 253;
const LONGEST_IDENTIFIER: usize = 32;
/// Bytes of an expression, and of what a driver keeps for itself.
const LONGEST_TEXT: usize = 10 * 1024;
const EFFECTS: &[&str] = &["NoExecute", "NoSchedule", "None"];

type Check = fn(&Value, &Path<'_>, &mut Errors);

/// Each item of a list, unless there are too many.
fn each(
    list: &[Value],
    most: usize,
    path: &Path<'_>,
    errors: &mut Errors,
    mut check: impl FnMut(&Value, &Path<'_>, &mut Errors),
) {
    if list.len() > most {
        errors.too_many(path, list.len(), most);
        return;
    }
    for (at, item) in list.iter().enumerate() {
        check(item, &path.index(at), errors);
    }
}

/// What is there twice, by the text that `key` makes of it.
fn unique<'a>(list: &'a [Value], path: &Path<'_>, errors: &mut Errors, key: impl Fn(&'a Value) -> &'a str) {
    let mut seen = HashSet::new();
    for (at, key) in list.iter().map(key).enumerate() {
        if !seen.insert(key) {
            errors.duplicate(&path.index(at), key);
        }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn validate_label(name: &str, path: &Path<'_>, errors: &mut Errors) {
    errors.all_invalid(path, name, names::label(name));
}

fn validate_pool_name(name: &str, path: &Path<'_>, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(path, "");
        return;
    }
    if name.len() > LONGEST_POOL {
        errors.too_long(path, LONGEST_POOL);
    }
    for part in name.split('/') {
        errors.all_invalid(path, part, names::subdomain(part));
    }
}

/// The name of an attribute or a capacity: an identifier, perhaps with the domain of whoever gave it its meaning.
fn validate_qualified(name: &str, path: &Path<'_>, errors: &mut Errors) {
    match name.split('/').collect::<Vec<_>>().as_slice() {
        [id] => validate_identifier(id, path, errors),
        [domain, id] => {
            if domain.is_empty() {
                errors.invalid(path, "", "the domain must not be empty");
            } else {
                validate_driver(domain, path, errors);
            }
            if id.is_empty() {
                errors.invalid(path, "", "the name must not be empty");
            } else {
                validate_identifier(id, path, errors);
            }
        }
        _ => errors.invalid(path, name, "must not contain more than one slash"),
    }
}

fn validate_fully_qualified(name: &str, path: &Path<'_>, errors: &mut Errors) {
    validate_qualified(name, path, errors);
    if !name.contains('/') {
        errors.invalid(path, name, "a fully qualified name must be a domain and a name separated by a slash");
    }
}

fn validate_identifier(id: &str, path: &Path<'_>, errors: &mut Errors) {
    if id.len() > LONGEST_IDENTIFIER {
        errors.too_long(path, LONGEST_IDENTIFIER);
    }
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if id.is_empty() || id.starts_with(|c: char| c.is_ascii_digit()) || !id.bytes().all(fits) {
        let why = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or \
                   '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')";
        errors.invalid(path, id, why);
    }
}

/// Expressions in CEL that a device must fulfil.
fn validate_selectors(place: &Value, path: &Path<'_>, errors: &mut Errors) {
    each(place.items("selectors"), MOST_ITEMS, &path.child("selectors"), errors, |selector, path, errors| {
        if !selector.has("cel") {
            errors.required(&path.child("cel"), "");
        } else if selector.text("cel.expression").len() > LONGEST_TEXT {
            errors.too_long(&path.child("cel.expression"), LONGEST_TEXT);
        } else {
            expression::validate(selector.text("cel.expression"), &path.child("cel.expression"), errors);
        }
    });
}

/// What is meant for a driver only.
fn validate_opaque(place: &Value, path: &Path<'_>, errors: &mut Errors) {
    let here = path.child("opaque");
    let opaque = place.look("opaque");
    if opaque.is_null() {
        errors.required(&here, "");
        return;
    }
    validate_driver(opaque.text("driver"), &here.child("driver"), errors);
    validate_raw(opaque.look("parameters"), &here.child("parameters"), errors);
}

fn validate_raw(raw: &Value, path: &Path<'_>, errors: &mut Errors) {
    if raw.is_null() {
        errors.required(path, "");
    } else if raw.to_string().len() > LONGEST_TEXT {
        errors.too_long(path, LONGEST_TEXT);
    } else if !raw.is_object() {
        errors.invalid(path, "<value omitted>", "must be a valid JSON object");
    }
}

fn validate_toleration(toleration: &Value, path: &Path<'_>, errors: &mut Errors) {
    let (key, value) = (toleration.text("key"), toleration.text("value"));
    if !key.is_empty() {
        errors.all_invalid(&path.child("key"), key, names::qualified(key));
    }
    match toleration.text("operator") {
        "Exists" if !value.is_empty() => {
            errors.invalid(&path.child("value"), value, "must be empty for operator `Exists`");
        }
        "Exists" => {}
        "Equal" => validate_label_value(value, &path.child("value"), errors),
        "" => errors.required(&path.child("operator"), ""),
        other => errors.not_supported(&path.child("operator"), other, &["Equal", "Exists"]),
    }
    let effect = toleration.text("effect");
    if !effect.is_empty() && !EFFECTS.contains(&effect) {
        errors.not_supported(&path.child("effect"), effect, EFFECTS);
    }
}

fn validate_label_value(value: &str, path: &Path<'_>, errors: &mut Errors) {
    errors.all_invalid(path, value, kedge_api::selector::label_value_error(value));
}

/// Conditions that a device's driver sets before a pod that got it may start, and those that say that it cannot.
fn validate_binding(place: &Value, path: &Path<'_>, errors: &mut Errors) {
    const MOST: usize = 4;
    let (good, bad) = (place.items("bindingConditions"), place.items("bindingFailureConditions"));
    let (good_path, bad_path) = (path.child("bindingConditions"), path.child("bindingFailureConditions"));
    let name: Check = |item, path, errors| errors.all_invalid(path, text(item), names::qualified(text(item)));
    each(good, MOST, &good_path, errors, name);
    each(bad, MOST, &bad_path, errors, name);
    unique(good, &good_path, errors, text);
    unique(bad, &bad_path, errors, text);
    for (at, condition) in bad.iter().enumerate().filter(|(_, condition)| good.contains(condition)) {
        let why = "bindingFailureConditions must not overlap with bindingConditions";
        errors.invalid(&bad_path.index(at), condition.clone(), why);
    }
    match (good.is_empty(), bad.is_empty()) {
        (true, false) => {
            let why = "bindingConditions are required to use bindingFailureConditions";
            errors.invalid(&good_path, Value::Null, why);
        }
        (false, true) => {
            let why = "bindingFailureConditions are required to use bindingConditions";
            errors.invalid(&bad_path, Value::Null, why);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    pub(super) fn count(check: impl FnOnce(&Path<'_>, &mut Errors)) -> usize {
        let mut errors = Errors::default();
        check(&Path::root("x"), &mut errors);
        errors.len()
    }

    #[test]
    fn names_of_attributes_are_identifiers() {
        for (name, wrong) in
            [("a", 0), ("d.example.com/a_1", 0), ("1a", 1), ("a-b", 1), ("/a", 1), ("d/", 1), ("a/b/c", 1), ("", 1)]
        {
            assert_eq!(count(|path, errors| validate_qualified(name, path, errors)), wrong, "{name}");
        }
        assert_eq!(count(|path, errors| validate_fully_qualified("a", path, errors)), 1);
    }

    #[test]
    fn conditions_of_binding_come_in_pairs() {
        for (good, bad, wrong) in [
            (json!([]), json!([]), 0),
            (json!(["a"]), json!(["b"]), 0),
            (json!(["a"]), json!(["a"]), 1),
            (json!(["a", "a"]), json!(["b"]), 1),
            (json!(["a"]), json!([]), 1),
        ] {
            let device = json!({"bindingConditions": good, "bindingFailureConditions": bad});
            assert_eq!(count(|path, errors| validate_binding(&device, path, errors)), wrong, "{device}");
        }
    }

    #[test]
    fn parameters_are_an_object() {
        for (raw, wrong) in [(json!({"a": 1}), 0), (json!(null), 1), (json!([]), 1), (json!("x"), 1)] {
            let config = json!({"opaque": {"driver": "d.example.com", "parameters": raw}});
            assert_eq!(count(|path, errors| validate_opaque(&config, path, errors)), wrong, "{config}");
        }
    }
}
