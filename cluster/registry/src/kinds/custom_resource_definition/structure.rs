//! What makes a schema structural: each field's type is said once, outside of `allOf`, `anyOf`, `oneOf` and `not`.

use serde_json::{Value, json};

use super::regex;
use super::validate::map;
use crate::errors::{Errors, Path};
use crate::value::Look as _;

/// Parts that only the structure may have, and what is said of them elsewhere.
const OUTSIDE: [(&str, &str); 13] = [
    ("title", "must be empty to be structural"),
    ("description", "must be empty to be structural"),
    ("type", "must be empty to be structural"),
    ("default", "must be undefined to be structural"),
    ("additionalProperties", "must be undefined to be structural"),
    ("nullable", "must be false to be structural"),
    ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
    ("x-kubernetes-embedded-resource", "must be false to be structural"),
    ("x-kubernetes-int-or-string", "must be false to be structural"),
    ("x-kubernetes-list-map-keys", "must be empty to be structural"),
    ("x-kubernetes-list-type", "must be undefined to be structural"),
    ("x-kubernetes-map-type", "must be undefined to be structural"),
    ("x-kubernetes-validations", "must be empty to be structural"),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Field,
    Item,
}

pub(super) fn validate(schema: &Value, path: &Path<'_>, errors: &mut Errors) {
    node(schema, path, Level::Root, errors);
    for_each_composed(schema, path, &mut |inner, at| complete(inner, at, schema, path, errors));
}

fn node(schema: &Value, path: &Path<'_>, level: Level, errors: &mut Errors) {
    let kind = schema.text("type");
    let (items, additional) = (schema.look("items"), schema.look("additionalProperties"));
    if items.is_object() {
        node(items, &path.child("items"), Level::Item, errors);
    }
    let properties = path.child("properties");
    for (name, property) in map(schema, "properties").into_iter().flatten() {
        node(property, &properties.key(name), Level::Field, errors);
    }
    if !additional.is_null() {
        if level == Level::Root {
            errors.forbidden(&path.child("additionalProperties"), "must not be used at the root");
        }
        if additional.is_object() {
            node(additional, &path.child("additionalProperties"), Level::Field, errors);
        }
    }
    if kind == "array" && !items.is_object() {
        errors.required(&path.child("items"), "must be specified");
    }
    let flag = |name: &str| schema.flag(&format!("x-kubernetes-{name}"));
    let (either, keeps, embedded) = (flag("int-or-string"), flag("preserve-unknown-fields"), flag("embedded-resource"));
    for (set, name) in [(keeps, "preserve-unknown-fields"), (embedded, "embedded-resource")] {
        if either && set {
            let name = format!("x-kubernetes-{name}");
            errors.invalid(&path.child(&name), true, "must be false if x-kubernetes-int-or-string is true");
        }
    }
    values(schema, is_either(schema.look("anyOf")), first_is_either(schema), path, errors);
    let at = path.child("type");
    match kind {
        "object" => {}
        _ if embedded => {
            let detail = "must be object if x-kubernetes-embedded-resource is true";
            if kind.is_empty() { errors.required(&at, detail) } else { errors.invalid(&at, kind, detail) }
        }
        "" if !either && !keeps => {
            let what = match level {
                Level::Root => "at the root",
                Level::Field => "for specified object fields",
                Level::Item => "for specified array items",
            };
            errors.required(&at, &format!("must not be empty {what}"));
        }
        "" => {}
        _ if level == Level::Root => errors.invalid(&at, kind, "must be object at the root"),
        _ => {}
    }
    if embedded && !additional.is_null() {
        errors.forbidden(
            &path.child("additionalProperties"),
            "must not be used if x-kubernetes-embedded-resource is set",
        );
    }
    let resource = level == Level::Root || embedded;
    for name in ["kind", "apiVersion"] {
        if let Some(property) = schema.look("properties").get(name).filter(|p| resource && p.text("type") != "string") {
            errors.invalid(&properties.key(name).child("type"), property.text("type"), "must be string");
        }
    }
    if let Some(metadata) = schema.look("properties").get("metadata").filter(|_| resource) {
        self::metadata(metadata, level, &properties.key("metadata"), errors);
    }
    if embedded && !keeps && map(schema, "properties").is_none_or(serde_json::Map::is_empty) {
        let detail =
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        errors.required(&path.child("properties"), detail);
    }
}

/// Every resource's metadata is known; a schema may say something of names only.
fn metadata(schema: &Value, level: Level, path: &Path<'_>, errors: &mut Errors) {
    if schema.text("type") != "object" {
        errors.invalid(&path.child("type"), schema.text("type"), "must be object");
    }
    let known = ["type", "default", "properties"];
    let other = schema.as_object().is_some_and(|fields| fields.keys().any(|name| !known.contains(&name.as_str())));
    let fields = map(schema, "properties").into_iter().flatten();
    let more = fields.map(|(name, _)| name).any(|name| !["name", "generateName"].contains(&name.as_str()));
    if level == Level::Root && (other || more) {
        let detail = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        errors.forbidden(path, detail);
    }
}

type Composed<'v> = &'v mut dyn FnMut(&Value, &Path<'_>);

/// The schemas that are composed at a node.
fn for_each_composed(schema: &Value, path: &Path<'_>, each: Composed<'_>) {
    for part in ["allOf", "anyOf", "oneOf"] {
        let at = path.child(part);
        for (index, inner) in schema.items(part).iter().enumerate() {
            each(inner, &at.index(index));
        }
    }
    if schema.look("not").is_object() {
        each(schema.look("not"), &path.child("not"));
    }
}

/// The one pattern in which types may stand in `anyOf`: what `x-kubernetes-int-or-string` means, written out.
fn is_either(any_of: &Value) -> bool {
    *any_of == json!([{"type": "integer"}, {"type": "string"}])
}

/// The same as the first of `allOf`.
fn first_is_either(schema: &Value) -> bool {
    schema.items("allOf").first().is_some_and(|first| is_either(first.look("anyOf")))
}

/// What restricts values. That pattern is let be where it may stand: in `anyOf`, or in that of the first of `allOf`.
fn values(schema: &Value, skip_any: bool, skip_first: bool, path: &Path<'_>, errors: &mut Errors) {
    for part in ["anyOf", "allOf", "oneOf"].into_iter().filter(|part| *part != "anyOf" || !skip_any) {
        let at = path.child(part);
        for (index, inner) in schema.items(part).iter().enumerate() {
            bare(inner, skip_first && part == "allOf" && index == 0, &at.index(index), errors);
        }
    }
    if schema.look("not").is_object() {
        bare(schema.look("not"), false, &path.child("not"), errors);
    }
    let pattern = schema.text("pattern");
    if let Some(why) = regex::wrong(pattern) {
        let detail = format!("must be a valid regular expression, but isn't: {why}");
        errors.invalid(&path.child("pattern"), pattern, &detail);
    }
}

/// Below a composition only values are restricted.
fn bare(schema: &Value, skip_any: bool, path: &Path<'_>, errors: &mut Errors) {
    values(schema, skip_any, false, path, errors);
    for (part, detail) in OUTSIDE {
        if schema.has(part) && *schema.look(part) != Value::Bool(false) {
            errors.forbidden(&path.child(part), detail);
        }
    }
    let properties = path.child("properties");
    for (name, property) in map(schema, "properties").into_iter().flatten() {
        bare(property, false, &properties.key(name), errors);
    }
    if schema.look("properties").get("metadata").is_some() {
        errors.forbidden(&properties.key("metadata"), "must not be specified in a nested context");
    }
    if schema.look("items").is_object() {
        bare(schema.look("items"), false, &path.child("items"), errors);
    }
}

/// What a composition restricts must be part of the structure.
fn complete(inner: &Value, at: &Path<'_>, schema: &Value, path: &Path<'_>, errors: &mut Errors) {
    let (properties, at_properties) = (path.child("properties"), at.child("properties"));
    for (name, property) in map(inner, "properties").into_iter().flatten() {
        let at = at_properties.key(name);
        match schema.look("properties").get(name) {
            Some(known) => complete(property, &at, known, &properties.key(name), errors),
            None if schema.look("additionalProperties").is_object() => {
                let known = schema.look("additionalProperties");
                complete(property, &at, known, &path.child("additionalProperties"), errors);
            }
            None => errors.required(&properties.key(name), &format!("because it is defined in {at}")),
        }
    }
    let items = inner.look("items");
    if items.is_object() {
        let at = at.child("items");
        match schema.look("items") {
            known if known.is_object() => complete(items, &at, known, &path.child("items"), errors),
            _ => errors.required(&path.child("items"), &format!("because it is defined in {at}")),
        }
    }
    for_each_composed(inner, at, &mut |inner, at| complete(inner, at, schema, path, errors));
}
