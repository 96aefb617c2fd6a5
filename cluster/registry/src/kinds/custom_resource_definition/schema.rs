//! The rules of a version's schema, beyond its being structural.

use std::collections::HashSet;

use serde_json::Value;

use super::validate::map;
use super::{rules, structure};
use crate::custom::schema::Schema;
use crate::custom::{shape, validate as check};
use crate::errors::{Errors, Path};
use crate::value::Look as _;

/// Parts of JSON Schema that Kubernetes has no use for.
const UNSUPPORTED: [(&str, &str); 6] = [
    ("id", "id is not supported"),
    ("additionalItems", "additionalItems is not supported"),
    ("patternProperties", "patternProperties is not supported"),
    ("definitions", "definitions is not supported"),
    ("dependencies", "dependencies is not supported"),
    ("$ref", "$ref is not supported"),
];

/// What may stand at the root beside `properties` where status is taken out of it.
const AT_ROOT: [&str; 22] = [
    "description",
    "type",
    "format",
    "title",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "minItems",
    "uniqueItems",
    "multipleOf",
    "required",
    "items",
    "properties",
    "externalDocs",
    "example",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
];

/// `old` is the schema that the version had, if there was one.
pub(super) fn validate(version: &Value, old: Option<&Value>, status: bool, path: &Path<'_>, errors: &mut Errors) {
    let schema = version.look("schema.openAPIV3Schema");
    if !schema.is_object() {
        return;
    }
    let at = path.child("openAPIV3Schema");
    if status {
        at_root(schema, &at, errors);
    }
    if schema.flag("nullable") {
        errors.forbidden(&at.child("nullable"), "nullable cannot be true at the root");
    }
    let mut found = Errors::default();
    structure::validate(schema, &at, &mut found);
    found.sort();
    if found.is_empty() {
        defaults(schema, &at, true, &mut found);
    }
    let structural = found.is_empty();
    errors.append(found);
    let mut spoiled = HashSet::new();
    node(schema, &at, Place::Root, &mut spoiled, errors);
    if structural {
        rules::meaning(schema, &at, &spoiled, old == Some(schema), errors);
    }
}

fn at_root(schema: &Value, path: &Path<'_>, errors: &mut Errors) {
    if !matches!(schema.text("type"), "" | "object") {
        let detail =
            "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
        return errors.invalid(&path.child("type"), schema.text("type"), detail);
    }
    let odd = |name: &String| !AT_ROOT.contains(&name.as_str());
    if schema.as_object().is_some_and(|fields| fields.keys().any(odd)) {
        let allowed = "[Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength MinLength Pattern \
                       MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example \
                       XPreserveUnknownFields XValidations]";
        let detail =
            format!("only {allowed} fields are allowed at the root of the schema if the status subresource is enabled");
        errors.invalid(path, schema.clone(), &detail);
    }
}

/// Where in a schema a node stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Root,
    Inside,
    /// In what a resource inside has of its kind, version and metadata.
    Embedded,
    /// In what the whole has of these: with the reason why it has no defaults.
    Whole(&'static str),
}

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// `spoiled` are the places where, or below which, something is wrong.
fn node(schema: &Value, path: &Path<'_>, place: Place, spoiled: &mut HashSet<String>, errors: &mut Errors) {
    let before = errors.len();
    let kind = schema.text("type");
    if !kind.is_empty() && !TYPES.contains(&kind) {
        errors.not_supported(&path.child("type"), kind, &TYPES);
    }
    if let (Place::Whole(reason), true) = (place, schema.has("default")) {
        errors.forbidden(&path.child("default"), &format!("must not be set {reason}"));
    }
    for (part, detail) in UNSUPPORTED {
        if schema.has(part) {
            errors.forbidden(&path.child(part), detail);
        }
    }
    if kind == "null" {
        errors.forbidden(&path.child("type"), "type cannot be set to null, use nullable as an alternative");
    }
    if schema.look("items").is_array() || schema.has("items.JSONSchemas") {
        errors.forbidden(&path.child("items"), "items must be a schema object and not an array");
    }
    if matches!(place, Place::Embedded | Place::Whole(_)) && schema.flag("x-kubernetes-embedded-resource") {
        errors.forbidden(&path.child("x-kubernetes-embedded-resource"), "must not be used inside of resource meta");
    }
    if schema.flag("uniqueItems") {
        let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.forbidden(&path.child("uniqueItems"), detail);
    }
    children(schema, path, place, spoiled, errors);
    extensions(schema, path, errors);
    rules::form(schema, path, errors);
    if errors.len() > before {
        spoiled.insert(path.to_string());
    }
}

fn children(schema: &Value, path: &Path<'_>, place: Place, spoiled: &mut HashSet<String>, errors: &mut Errors) {
    let additional = schema.look("additionalProperties");
    if map(schema, "properties").is_some_and(|p| !p.is_empty())
        && (additional.is_object() || *additional == Value::Bool(false))
    {
        errors
            .forbidden(&path.child("additionalProperties"), "additionalProperties and properties are mutual exclusive");
    }
    let inner = if place == Place::Root { Place::Inside } else { place };
    if additional.is_object() {
        let inner = match inner {
            Place::Embedded | Place::Whole(_) => {
                Place::Whole("inside additionalProperties applying to object metadata")
            }
            Place::Root | Place::Inside => inner,
        };
        node(additional, &path.child("additionalProperties"), inner, spoiled, errors);
    }
    let properties = path.child("properties");
    for (name, property) in map(schema, "properties").into_iter().flatten() {
        let place = match (place, name.as_str()) {
            (Place::Root, "metadata") => Place::Whole("in top-level metadata"),
            (Place::Root, "kind") => Place::Whole("in top-level kind"),
            (Place::Root, "apiVersion") => Place::Whole("in top-level apiVersion"),
            (Place::Inside, "metadata" | "kind" | "apiVersion") if schema.flag("x-kubernetes-embedded-resource") => {
                Place::Embedded
            }
            _ => inner,
        };
        node(property, &properties.key(name), place, spoiled, errors);
    }
    if schema.look("not").is_object() {
        node(schema.look("not"), &path.child("not"), inner, spoiled, errors);
    }
    for part in ["allOf", "oneOf", "anyOf"] {
        let at = path.child(part);
        for (index, inner_schema) in schema.items(part).iter().enumerate() {
            node(inner_schema, &at.index(index), inner, spoiled, errors);
        }
    }
    if schema.look("items").is_object() {
        node(schema.look("items"), &path.child("items"), inner, spoiled, errors);
    }
}

fn extensions(schema: &Value, path: &Path<'_>, errors: &mut Errors) {
    if schema.look("x-kubernetes-preserve-unknown-fields") == &Value::Bool(false) {
        errors.invalid(&path.child("x-kubernetes-preserve-unknown-fields"), false, "must be true or undefined");
    }
    for (part, kind, known) in [
        ("x-kubernetes-map-type", "object", &["atomic", "granular"][..]),
        ("x-kubernetes-list-type", "array", &["atomic", "set", "map"]),
    ] {
        let Some(text) = schema.look(part).as_str() else { continue };
        let detail = format!("must be {kind} if {part} is specified");
        match schema.text("type") {
            "" => errors.required(&path.child("type"), &detail),
            "array" if text == "set" => set_list(schema.look("items"), &path.child("items"), errors),
            same if same == kind => {}
            other => errors.invalid(&path.child("type"), other, &detail),
        }
        if !known.contains(&text) {
            errors.not_supported(&path.child(part), text, known);
        }
    }
    let (list, keys) = (schema.look("x-kubernetes-list-type"), schema.items("x-kubernetes-list-map-keys"));
    let at_list = path.child("x-kubernetes-list-type");
    match list.as_str() {
        None if !keys.is_empty() => errors.required(&at_list, "must be map if x-kubernetes-list-map-keys is non-empty"),
        Some(other) if other != "map" && !keys.is_empty() => {
            errors.invalid(&at_list, other, "must be map if x-kubernetes-list-map-keys is non-empty");
        }
        Some("map") => map_list(schema, keys, path, errors),
        Some(_) | None => {}
    }
    let items = schema.look("items");
    if let Some(list @ ("set" | "map")) = list.as_str().filter(|_| items.is_object()) {
        let at = path.child("items");
        if items.flag("nullable") {
            let detail = format!("cannot be nullable when x-kubernetes-list-type is {list}");
            errors.forbidden(&at.child("nullable"), &detail);
        }
        if list == "map" {
            map_keys(items, keys, &at.child("properties"), errors);
        }
    }
}

fn map_list(schema: &Value, keys: &[Value], path: &Path<'_>, errors: &mut Errors) {
    let at_keys = path.child("x-kubernetes-list-map-keys");
    let (items, at_items) = (schema.look("items"), path.child("items"));
    if keys.is_empty() {
        errors.required(&at_keys, "must not be empty if x-kubernetes-list-type is map");
    }
    if items.is_null() {
        errors.required(&at_items, "must have a schema if x-kubernetes-list-type is map");
    }
    if !items.is_object() {
        return;
    }
    let kind = items.text("type");
    if kind != "object" {
        let detail = "must be object if parent array's x-kubernetes-list-type is map";
        return errors.invalid(&at_items.child("type"), kind, detail);
    }
    let at_properties = at_items.child("properties");
    for (index, key) in keys.iter().enumerate() {
        let name = key.as_str().unwrap_or_default();
        match items.look("properties").get(name) {
            Some(property) if matches!(property.text("type"), "array" | "object") => {
                let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                // As upstream, which shows the type of the item.
                errors.invalid(&at_properties.key(name).child("type"), kind, detail);
            }
            Some(_) => {}
            None => errors.invalid(&at_keys, keys.to_vec(), "entries must all be names of item properties"),
        }
        if keys.iter().take(index).any(|known| known == key) {
            errors.invalid(&at_keys, keys.to_vec(), "must not contain duplicate entries");
        }
    }
}

/// What items are told apart by is always there.
fn map_keys(items: &Value, keys: &[Value], path: &Path<'_>, errors: &mut Errors) {
    for name in keys.iter().filter_map(Value::as_str) {
        let Some(property) = items.look("properties").get(name) else { continue };
        let at = path.key(name);
        if property.get("default").is_none() && !items.items("required").iter().any(|required| required == name) {
            let detail =
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.required(&at.child("default"), detail);
        }
        if property.flag("nullable") {
            let detail = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.forbidden(&at.child("nullable"), detail);
        }
    }
}

/// Members of a set are compared whole.
fn set_list(items: &Value, at: &Path<'_>, errors: &mut Errors) {
    const DETAIL: &str = "must be atomic as item of a list with x-kubernetes-list-type=set";
    // As upstream, which shows the list's type of either.
    let list = items.look("x-kubernetes-list-type");
    match items.text("type") {
        "array" if !list.is_null() && list != "atomic" => {
            errors.invalid(&at.child("x-kubernetes-list-type"), list.clone(), DETAIL);
        }
        "object" if items.text("x-kubernetes-map-type") != "atomic" => {
            errors.invalid(&at.child("x-kubernetes-map-type"), list.clone(), DETAIL);
        }
        _ => {}
    }
}

/// A default must be a value that its schema takes as it is.
fn defaults(schema: &Value, path: &Path<'_>, root: bool, errors: &mut Errors) {
    if let Some(default) = schema.get("default") {
        let at = path.child("default");
        let compiled = Schema::at(schema, root);
        let mut pruned = default.clone();
        if !shape::prune(&mut pruned, &compiled, compiled.embedded).is_empty() {
            errors.invalid(&at, default.clone(), "must not have unknown fields");
        }
        shape::default(&mut pruned, &compiled);
        check::at_default(&pruned, &compiled, &at, errors);
    }
    // As upstream: not below `additionalProperties`.
    if schema.look("items").is_object() {
        defaults(schema.look("items"), &path.child("items"), false, errors);
    }
    let properties = path.child("properties");
    for (name, property) in map(schema, "properties").into_iter().flatten() {
        defaults(property, &properties.key(name), false, errors);
    }
}
