//! Holding a custom resource against its schema, in the words of Kubernetes' OpenAPI validator.
//!
//! An update is held against what was there: what has not changed is let be, even where the schema has become stricter since
//! (KEP-4008, ratcheting).

use serde_json::{Map, Value};

use super::formats;
use super::schema::Schema;
use crate::errors::{Errors, Path};

/// Where no field is: the object itself.
pub(crate) const ROOT: Path<'static> = Path::root("<nil>");

/// A place in the object; none is the object itself.
pub(crate) type At<'a> = Option<&'a Path<'a>>;

pub(crate) fn child<'a>(at: At<'a>, name: &'a str) -> Path<'a> {
    at.map_or_else(|| Path::root(name), |at| at.child(name))
}

fn text(at: At<'_>) -> String {
    at.map(ToString::to_string).unwrap_or_default()
}

pub(crate) fn place<'a>(at: At<'a>) -> Path<'a> {
    at.copied().unwrap_or(ROOT)
}

/// All that is wrong with a value. `old` is what stood in its place.
pub(crate) fn value(value: &Value, old: Option<&Value>, schema: &Schema, at: At<'_>, errors: &mut Errors) {
    if old == Some(value) {
        return;
    }
    if value.is_null() && schema.nullable {
        return;
    }
    let before = errors.len();
    types(value, schema, at, errors);
    let fits = errors.len() == before;
    composed(value, old, schema, at, errors);
    match value {
        Value::String(found) => string(found, schema, at, errors),
        Value::Number(found) => number(found, value, schema, at, errors),
        Value::Array(found) => array(found, old, schema, at, errors),
        Value::Null | Value::Bool(_) | Value::Object(_) => {}
    }
    if !schema.allowed.is_empty() && !schema.allowed.iter().any(|allowed| same(allowed, value)) {
        let allowed: Vec<String> =
            schema.allowed.iter().map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)).collect();
        let allowed: Vec<&str> = allowed.iter().map(String::as_str).collect();
        errors.not_supported(&place(at), value.clone(), &allowed);
    }
    if let Value::Object(found) = value
        && fits
    {
        object(found, old, schema, at, errors);
    }
}

/// As `value`, of a default: a value of its own, whose place in the schema `path` names, while texts speak of it as an object.
pub(crate) fn at_default(found: &Value, schema: &Schema, path: &Path<'_>, errors: &mut Errors) {
    let mut own = Errors::default();
    value(found, None, schema, None, &mut own);
    lists(found, schema, None, &mut own);
    errors.append(own.below(path));
}

/// Numbers are the same however they are written.
fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

pub(crate) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn types(value: &Value, schema: &Schema, at: At<'_>, errors: &mut Errors) {
    let kinds = if schema.int_or_string { "integer,string" } else { schema.kind.as_str() };
    if kinds.is_empty() {
        return;
    }
    let found = type_of(value);
    let whole = found == "number" && value.as_f64().is_some_and(|n| n.fract() == 0.0);
    let fits = kinds
        .split(',')
        .any(|kind| kind == found || kind == "number" && found == "integer" || kind == "integer" && whole);
    if !fits {
        // A format stands for its type where the value is no text.
        let wanted = if schema.format.is_empty() || matches!(value, Value::String(_) | Value::Array(_)) {
            kinds
        } else {
            &schema.format
        };
        let detail = format!("{} in body must be of type {wanted}: {found:?}", text(at));
        errors.type_invalid(&place(at), found, &detail);
    }
}

fn string(found: &str, schema: &Schema, at: At<'_>, errors: &mut Errors) {
    let invalid = |errors: &mut Errors, detail: String| {
        errors.invalid(&place(at), found, &format!("{} in body {detail}", text(at)));
    };
    let length = i64::try_from(found.chars().count()).unwrap_or(i64::MAX);
    match (&schema.bounds, &schema.pattern) {
        (bounds, _) if bounds.max_length.is_some_and(|most| length > most) => {
            errors.too_long(&place(at), usize::try_from(bounds.max_length.unwrap_or(0)).unwrap_or(0));
        }
        (bounds, _) if bounds.min_length.is_some_and(|least| length < least) => {
            invalid(errors, format!("should be at least {} chars long", bounds.min_length.unwrap_or(0)));
        }
        (_, Some((pattern, regex))) if !regex.is_match(found) => invalid(errors, format!("should match '{pattern}'")),
        _ => {}
    }
    if schema.kind == "string" && !formats::is(&schema.format, found) {
        let detail = format!("{} in body must be of type {}: {found:?}", text(at), schema.format);
        errors.type_invalid(&place(at), found, &detail);
    }
}

fn number(found: &serde_json::Number, value: &Value, schema: &Schema, at: At<'_>, errors: &mut Errors) {
    let Some(number) = found.as_f64() else { return };
    let mut invalid = |detail: String| {
        errors.invalid(&place(at), value.clone(), &format!("{} in body {detail}", text(at)));
    };
    let bounds = &schema.bounds;
    if let Some(step) = bounds.multiple_of.filter(|step| *step != 0.0)
        && (number / step).fract() != 0.0
    {
        invalid(format!("should be a multiple of {step}"));
    }
    match bounds.maximum {
        Some(most) if bounds.exclusive_maximum && number >= most => invalid(format!("should be less than {most}")),
        Some(most) if number > most => invalid(format!("should be less than or equal to {most}")),
        Some(_) | None => {}
    }
    match bounds.minimum {
        Some(least) if bounds.exclusive_minimum && number <= least => {
            invalid(format!("should be greater than {least}"));
        }
        Some(least) if number < least => invalid(format!("should be greater than or equal to {least}")),
        Some(_) | None => {}
    }
}

/// What stood in an item's place before: only in lists that tell their items apart by keys.
pub(crate) fn counterpart<'a>(schema: &Schema, old: Option<&'a Value>, item: &Value) -> Option<&'a Value> {
    if schema.list != "map" {
        return None;
    }
    let identity = schema.identity(item);
    let mut found = old?.as_array()?.iter().filter(|old| schema.identity(old) == identity);
    found.next().filter(|_| found.next().is_none())
}

fn array(found: &[Value], old: Option<&Value>, schema: &Schema, at: At<'_>, errors: &mut Errors) {
    if let Some(inner) = &schema.items {
        for (index, item) in found.iter().enumerate() {
            let list = place(at);
            value(item, counterpart(schema, old, item), inner, Some(&list.index(index)), errors);
        }
    }
    let bounds = &schema.bounds;
    let count = i64::try_from(found.len()).unwrap_or(i64::MAX);
    if let Some(least) = bounds.min_items.filter(|least| count < *least) {
        let detail = format!("{} in body should have at least {least} items", text(at));
        errors.invalid(&place(at), count, &detail);
    }
    if let Some(most) = bounds.max_items.filter(|most| count > *most) {
        errors.too_many(&place(at), found.len(), usize::try_from(most).unwrap_or(0));
    }
}

fn object(found: &Map<String, Value>, old: Option<&Value>, schema: &Schema, at: At<'_>, errors: &mut Errors) {
    let bounds = &schema.bounds;
    let count = i64::try_from(found.len()).unwrap_or(i64::MAX);
    if let Some(least) = bounds.min_properties.filter(|least| count < *least) {
        let detail = format!("{} in body should have at least {least} properties", text(at));
        return errors.invalid(&place(at), count, &detail);
    }
    if let Some(most) = bounds.max_properties.filter(|most| count > *most) {
        return errors.too_many(&place(at), found.len(), usize::try_from(most).unwrap_or(0));
    }
    for (name, inner) in found {
        if let Some(schema) = schema.field(name) {
            let path = child(at, name);
            value(inner, old.and_then(|old| old.get(name)), schema, Some(&path), errors);
        }
    }
    for name in schema.required.iter().filter(|name| !found.contains_key(*name)) {
        errors.required(&child(at, name), "");
    }
}

/// `allOf`, `anyOf`, `oneOf` and `not`. What is wrong with the whole is told without a place, as upstream tells it.
fn composed(found: &Value, old: Option<&Value>, schema: &Schema, at: At<'_>, errors: &mut Errors) {
    let tried = |schema: &Schema| {
        let mut errors = Errors::default();
        value(found, old, schema, at, &mut errors);
        errors
    };
    let path = text(at);
    let fewest = |tries: Vec<Errors>| tries.into_iter().min_by_key(Errors::len).unwrap_or_default();
    if !schema.any_of.is_empty() {
        let tries: Vec<Errors> = schema.any_of.iter().map(tried).collect();
        if !tries.iter().any(Errors::is_empty) {
            errors.invalid(&ROOT, "", &format!("{path:?} must validate at least one schema (anyOf)"));
            errors.append(fewest(tries));
        }
    }
    if !schema.one_of.is_empty() {
        let tries: Vec<Errors> = schema.one_of.iter().map(tried).collect();
        match tries.iter().filter(|errors| errors.is_empty()).count() {
            1 => {}
            0 => {
                let detail = format!("{path:?} must validate one and only one schema (oneOf). Found none valid");
                errors.invalid(&ROOT, "", &detail);
                errors.append(fewest(tries));
            }
            many => {
                let detail =
                    format!("{path:?} must validate one and only one schema (oneOf). Found {many} valid alternatives");
                errors.invalid(&ROOT, "", &detail);
            }
        }
    }
    if !schema.all_of.is_empty() {
        let tries: Vec<Errors> = schema.all_of.iter().map(tried).collect();
        let (good, all) = (tries.iter().filter(|errors| errors.is_empty()).count(), tries.len());
        tries.into_iter().for_each(|tried| errors.append(tried));
        if good < all {
            let none = if good == 0 { ". None validated" } else { "" };
            errors.invalid(&ROOT, "", &format!("{path:?} must validate all the schemas (allOf){none}"));
        }
    }
    if schema.not.as_deref().is_some_and(|not| tried(not).is_empty()) {
        errors.invalid(&ROOT, "", &format!("{path:?} must not validate the schema (not)"));
    }
}

/// That sets hold nothing twice, and maps no two items of the same keys.
pub(crate) fn lists(found: &Value, schema: &Schema, at: At<'_>, errors: &mut Errors) {
    match found {
        Value::Object(map) => {
            for (name, inner) in map {
                if let Some(schema) = schema.field(name) {
                    lists(inner, schema, Some(&child(at, name)), errors);
                }
            }
        }
        Value::Array(items) => {
            let path = place(at);
            match schema.list.as_str() {
                "set" => twice(items.iter(), |at, item| errors.duplicate(&path.index(at), (*item).clone())),
                "map" => twice(items.iter().map(|item| schema.identity(item)), |at, identity| {
                    let keys = schema.map_keys.iter().cloned().zip(identity.iter().map(|v| (*v).clone()));
                    let keys: Map<String, Value> = keys.filter(|(_, value)| !value.is_null()).collect();
                    errors.duplicate(&path.index(at), keys);
                }),
                _ => {}
            }
            for (index, item) in items.iter().enumerate() {
                if let Some(inner) = &schema.items {
                    lists(item, inner, Some(&path.index(index)), errors);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Tells of each value that stood before, once.
fn twice<T: PartialEq + Clone>(values: impl Iterator<Item = T>, mut tell: impl FnMut(usize, &T)) {
    let mut seen: Vec<(T, bool)> = Vec::new();
    for (at, value) in values.enumerate() {
        match seen.iter_mut().find(|(known, _)| *known == value) {
            Some((_, told @ false)) => {
                *told = true;
                tell(at, &value);
            }
            Some(_) => {}
            None => seen.push((value, false)),
        }
    }
}

/// That embedded resources say what they are.
pub(crate) fn embedded(found: &Value, schema: &Schema, at: At<'_>, root: bool, errors: &mut Errors) {
    match found {
        Value::Object(map) => {
            if schema.embedded && !root {
                for field in ["apiVersion", "kind"] {
                    match map.get(field).and_then(Value::as_str) {
                        None | Some("") => errors.required(&child(at, field), "must not be empty"),
                        Some(_) => {}
                    }
                }
            }
            for (name, inner) in map {
                if let Some(schema) = schema.field(name) {
                    embedded(inner, schema, Some(&child(at, name)), false, errors);
                }
            }
        }
        Value::Array(items) => {
            let path = place(at);
            for (index, item) in items.iter().enumerate() {
                if let Some(inner) = &schema.items {
                    embedded(item, inner, Some(&path.index(index)), false, errors);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wrong(schema: Value, found: Value, old: Option<Value>) -> Vec<String> {
        let mut errors = Errors::default();
        let schema = Schema::of(&schema);
        value(&found, old.as_ref(), &schema, None, &mut errors);
        lists(&found, &schema, None, &mut errors);
        embedded(&found, &schema, None, true, &mut errors);
        match errors.into_result("", "T", "t") {
            Ok(()) => Vec::new(),
            Err(status) => {
                status.details.unwrap().causes.into_iter().map(|c| format!("{}: {}", c.field, c.message)).collect()
            }
        }
    }

    fn of(field: Value, value: Value) -> Vec<String> {
        wrong(json!({"type": "object", "properties": {"a": field}}), json!({"a": value}), None)
    }

    #[test]
    fn words_are_upstreams() {
        for (schema, value, message) in [
            (
                json!({"type": "integer"}),
                json!("x"),
                "a: Invalid value: \"string\": a in body must be of type integer: \"string\"",
            ),
            (
                json!({"type": "integer"}),
                json!(1.5),
                "a: Invalid value: \"number\": a in body must be of type integer: \"number\"",
            ),
            (json!({"type": "string", "maxLength": 2}), json!("abc"), "a: Too long: may not be more than 2 bytes"),
            (
                json!({"type": "string", "minLength": 2}),
                json!("a"),
                "a: Invalid value: \"a\": a in body should be at least 2 chars long",
            ),
            (
                json!({"type": "string", "pattern": "^b"}),
                json!("a"),
                "a: Invalid value: \"a\": a in body should match '^b'",
            ),
            (
                json!({"type": "string", "enum": ["x", "y"]}),
                json!("a"),
                "a: Unsupported value: \"a\": supported values: \"x\", \"y\"",
            ),
            (
                json!({"type": "integer", "minimum": 3}),
                json!(1),
                "a: Invalid value: 1: a in body should be greater than or equal to 3",
            ),
            (
                json!({"type": "integer", "maximum": 3}),
                json!(4),
                "a: Invalid value: 4: a in body should be less than or equal to 3",
            ),
            (
                json!({"type": "integer", "multipleOf": 2}),
                json!(3),
                "a: Invalid value: 3: a in body should be a multiple of 2",
            ),
            (
                json!({"type": "array", "items": {"type": "string"}, "maxItems": 1}),
                json!(["a", "b"]),
                "a: Too many: 2: must have at most 1 item",
            ),
            (
                json!({"type": "array", "items": {"type": "string"}}),
                json!([1]),
                "a[0]: Invalid value: \"integer\": a[0] in body must be of type string: \"integer\"",
            ),
            (json!({"type": "object", "required": ["k"]}), json!({}), "a.k: Required value"),
            (
                json!({"type": "string", "format": "ipv4"}),
                json!("x"),
                "a: Invalid value: \"x\": a in body must be of type ipv4: \"x\"",
            ),
            (
                json!({"x-kubernetes-int-or-string": true}),
                json!(true),
                "a: Invalid value: \"boolean\": a in body must be of type integer,string: \"boolean\"",
            ),
            (
                json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}}),
                json!(["x", "x", "x"]),
                "a[1]: Duplicate value: \"x\"",
            ),
            (
                json!({"type": "object", "x-kubernetes-embedded-resource": true}),
                json!({"kind": "K"}),
                "a.apiVersion: Required value: must not be empty",
            ),
            (
                json!({"type": "integer", "not": {"minimum": 3}}),
                json!(4),
                "<nil>: Invalid value: \"\": \"a\" must not validate the schema (not)",
            ),
        ] {
            assert_eq!(of(schema.clone(), value.clone()), [message], "{schema} {value}");
        }
        assert_eq!(of(json!({"type": "string", "nullable": true}), json!(null)), Vec::<String>::new());
        assert_eq!(of(json!({"type": "number"}), json!(1)), Vec::<String>::new());
        assert_eq!(of(json!({"type": "integer"}), json!(1.0)), Vec::<String>::new());
        assert_eq!(
            of(json!({"type": "integer", "anyOf": [{"minimum": 3}, {"maximum": 1}]}), json!(2))[0],
            "<nil>: Invalid value: \"\": \"a\" must validate at least one schema (anyOf)"
        );
    }

    #[test]
    fn what_has_not_changed_is_let_be() {
        let schema = json!({"type": "object", "properties": {"a": {"type": "string", "maxLength": 1}, "b": {"type": "integer"},
            "l": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                  "items": {"type": "object", "required": ["v"], "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}}}}});
        let old = json!({"a": "long", "b": 1, "l": [{"k": "x"}]});
        let changed = json!({"a": "long", "b": 2, "l": [{"k": "y", "v": 1}, {"k": "x"}]});
        assert_eq!(wrong(schema.clone(), changed, Some(old.clone())), Vec::<String>::new());
        let worse = json!({"a": "longer", "b": 2, "l": [{"k": "y"}]});
        let want = ["a: Too long: may not be more than 1 byte", "l[0].v: Required value"];
        assert_eq!(wrong(schema, worse, Some(old)), want);
    }
}
