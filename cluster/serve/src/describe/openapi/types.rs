//! Types of `kedge_api::schema` as OpenAPI schemas.

use std::collections::BTreeSet;
use std::sync::Arc;

use kedge_api::Resource;
use kedge_api::schema::{self, Field, List, Shape, Type};
use serde_json::{Map, Value, json};

use super::Edition;

pub const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";

/// Every type that the rows' operations name, and all that those refer to.
pub fn closure(rows: &[Arc<Resource>]) -> BTreeSet<Type> {
    let mut found = BTreeSet::new();
    let mut open: Vec<Type> = Vec::new();
    for row in rows {
        open.extend(
            [row.schema.to_string(), format!("{}List", row.schema)].iter().filter_map(|name| schema::get(name)),
        );
        if row.custom.is_some() {
            open.extend(["ObjectMeta", "ListMeta"].iter().filter_map(|name| schema::get(&format!("{META}{name}"))));
        }
        open.extend(row.subresources.iter().filter_map(|sub| subresource_type(row, sub.kind, sub.group_version)));
    }
    if !rows.is_empty() {
        let common = ["DeleteOptions", "Status", "WatchEvent", "Patch"];
        open.extend(common.iter().filter_map(|name| schema::get(&format!("{META}{name}"))));
    }
    while let Some(t) = open.pop() {
        if found.insert(t) {
            open.extend(t.fields().filter_map(|field| leaf(field.shape())));
        }
    }
    found
}

/// The type that a subresource takes and gives, where it is not the resource's own.
pub fn subresource_type(row: &Resource, kind: &str, group_version: Option<(&str, &str)>) -> Option<Type> {
    if kind.is_empty() {
        return schema::get(&row.schema);
    }
    let (group, version) = group_version.unwrap_or((row.id.group.as_str(), &row.version));
    by_kind(group, version, kind)
}

pub fn by_kind(group: &str, version: &str, kind: &str) -> Option<Type> {
    let short = group.split('.').next().unwrap_or_default();
    let package = if group.is_empty() { "core" } else { short };
    let known = schema::get(&format!("io.k8s.api.{package}.{version}.{kind}"));
    known.or_else(|| schema::types().find(|t| t.kinds().any(|gvk| gvk == (group, version, kind))))
}

fn leaf(shape: Shape) -> Option<Type> {
    match shape {
        Shape::Type(t) => Some(t),
        Shape::List(item) | Shape::Map(item) => leaf(item.shape()),
        Shape::String
        | Shape::Bytes
        | Shape::Time
        | Shape::Int32
        | Shape::Int64
        | Shape::Number
        | Shape::Boolean
        | Shape::Any
        | Shape::Object
        | Shape::Quantity
        | Shape::IntOrString => None,
    }
}

pub fn reference(name: &str, edition: Edition) -> Value {
    json!({"$ref": format!("{}{name}", edition.schema_prefix())})
}

/// The schema of one type.
pub fn schema(t: Type, edition: Edition) -> Value {
    let mut out = match t.alias() {
        Some(alias) => shape(alias, edition),
        None => object(t, edition),
    };
    let kinds: Vec<Value> =
        t.kinds().map(|(group, version, kind)| json!({"group": group, "version": version, "kind": kind})).collect();
    if let Some(out) = out.as_object_mut() {
        if t.is_atomic() {
            out.insert("x-kubernetes-map-type".to_owned(), "atomic".into());
        }
        if !kinds.is_empty() {
            out.insert("x-kubernetes-group-version-kind".to_owned(), kinds.into());
        }
    }
    out
}

fn object(t: Type, edition: Edition) -> Value {
    let mut out = json!({"type": "object"});
    let properties: Map<String, Value> = t.fields().map(|f| (f.name().to_owned(), field(f, edition))).collect();
    let required: Vec<&str> = t.fields().filter(|f| f.required()).map(|f| f.name()).collect();
    if let Some(out) = out.as_object_mut() {
        if !properties.is_empty() {
            out.insert("properties".to_owned(), properties.into());
        }
        if !required.is_empty() {
            out.insert("required".to_owned(), json!(required));
        }
    }
    out
}

fn field(field: Field, edition: Edition) -> Value {
    let mut out = shape(field.shape(), edition);
    let mut extra = Map::new();
    // What is no JSON is no default.
    if let Some(default) = field.default().and_then(|text| serde_json::from_str::<Value>(text).ok()) {
        extra.insert("default".to_owned(), default);
    }
    if let Some(list) = field.list() {
        let name = match list {
            List::Atomic => "atomic",
            List::Set => "set",
            List::Map => "map",
        };
        extra.insert("x-kubernetes-list-type".to_owned(), name.into());
    }
    let keys: Vec<&str> = field.map_keys().collect();
    if !keys.is_empty() {
        extra.insert("x-kubernetes-list-map-keys".to_owned(), json!(keys));
    }
    if let Some(map) = field.map_type() {
        extra.insert("x-kubernetes-map-type".to_owned(), map.into());
    }
    if let Some(key) = field.merge_key() {
        extra.insert("x-kubernetes-patch-merge-key".to_owned(), key.into());
    }
    let strategies = [
        (field.patch_merges(), "merge"),
        (field.patch_retains_keys(), "retainKeys"),
        (field.patch_replaces(), "replace"),
    ];
    let strategies: Vec<&str> = strategies.into_iter().filter(|(is, _)| *is).map(|(_, name)| name).collect();
    if !strategies.is_empty() {
        extra.insert("x-kubernetes-patch-strategy".to_owned(), strategies.join(",").into());
    }
    if extra.is_empty() {
        return out;
    }
    // Beside a reference nothing else may stand in version 3.
    if edition == Edition::V3 && out.get("$ref").is_some() {
        out = json!({"allOf": [out]});
    }
    if let Some(out) = out.as_object_mut() {
        out.extend(extra);
    }
    out
}

fn shape(shape: Shape, edition: Edition) -> Value {
    match shape {
        Shape::String => json!({"type": "string"}),
        Shape::Quantity if edition == Edition::V2 => json!({"type": "string"}),
        Shape::Quantity => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        Shape::Bytes => json!({"type": "string", "format": "byte"}),
        Shape::Time => json!({"type": "string", "format": "date-time"}),
        Shape::Int32 => json!({"type": "integer", "format": "int32"}),
        Shape::Int64 => json!({"type": "integer", "format": "int64"}),
        Shape::Number => json!({"type": "number", "format": "double"}),
        Shape::Boolean => json!({"type": "boolean"}),
        Shape::Any => json!({}),
        Shape::Object => json!({"type": "object"}),
        Shape::IntOrString if edition == Edition::V2 => json!({"type": "string", "format": "int-or-string"}),
        Shape::IntOrString => json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]}),
        Shape::Type(t) => reference(t.name(), edition),
        Shape::List(item) => json!({"type": "array", "items": self::shape(item.shape(), edition)}),
        Shape::Map(item) => json!({"type": "object", "additionalProperties": self::shape(item.shape(), edition)}),
    }
}
