//! Types of `kedge_api::schema` as OpenAPI schemas.

use std::collections::BTreeSet;
use std::sync::Arc;

use kedge_api::Resource;
use kedge_api::schema::{self, Field, Item, List, Shape, Type};
use serde_json::{Map, Value, json};

use super::Edition;
use super::plain::Plain;
use super::texts::Texts;
use crate::wire::set;

pub const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";

/// Every type that the operations name, and all that those refer to.
pub fn closure(rows: &[Arc<Resource>], plain: &[Plain]) -> BTreeSet<Type> {
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
    open.extend(plain.iter().filter_map(|path| path.answer).filter_map(schema::get));
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

/// Which field says what of the others may be set (`x-kubernetes-unions`), and what it then says: type, deciding field, fields.
type Union = (&'static str, Option<&'static str>, &'static [(&'static str, &'static str)]);
const UNIONS: &[Union] = &[
    ("io.k8s.api.core.v1.AppArmorProfile", Some("type"), &[("localhostProfile", "LocalhostProfile")]),
    ("io.k8s.api.core.v1.PodSchedulingGroup", None, &[("podGroupName", "PodGroupName")]),
    ("io.k8s.api.core.v1.SeccompProfile", Some("type"), &[("localhostProfile", "LocalhostProfile")]),
    ("io.k8s.api.flowcontrol.v1.LimitResponse", Some("type"), &[("queuing", "Queuing")]),
    (
        "io.k8s.api.flowcontrol.v1.PriorityLevelConfigurationSpec",
        Some("type"),
        &[("exempt", "Exempt"), ("limited", "Limited")],
    ),
    (
        "io.k8s.api.flowcontrol.v1.Subject",
        Some("kind"),
        &[("group", "Group"), ("serviceAccount", "ServiceAccount"), ("user", "User")],
    ),
];

/// The schema of one type.
pub fn schema(t: Type, edition: Edition, texts: &Texts) -> Value {
    let out = match t.alias() {
        Some(alias) => shape(alias, edition),
        None => object(t, edition, texts),
    };
    let mut extra = Map::new();
    if let Some(text) = texts.of_type(t.name()) {
        extra.insert("description".to_owned(), text.into());
    }
    if t.is_atomic() {
        extra.insert("x-kubernetes-map-type".to_owned(), "atomic".into());
    }
    let kinds: Vec<Value> =
        t.kinds().map(|(group, version, kind)| json!({"group": group, "version": version, "kind": kind})).collect();
    if !kinds.is_empty() {
        extra.insert("x-kubernetes-group-version-kind".to_owned(), kinds.into());
    }
    if let Some((_, decides, fields)) = UNIONS.iter().find(|(name, ..)| *name == t.name()) {
        let fields: Map<String, Value> = fields.iter().map(|(f, says)| ((*f).to_owned(), (*says).into())).collect();
        let mut union = json!({"fields-to-discriminateBy": fields});
        if let Some(field) = decides {
            set(&mut union, "discriminator", *field);
        }
        extra.insert("x-kubernetes-unions".to_owned(), json!([union]));
    }
    with(out, extra, edition)
}

fn object(t: Type, edition: Edition, texts: &Texts) -> Value {
    let mut out = json!({"type": "object"});
    let properties: Map<String, Value> =
        t.fields().map(|f| (f.name().to_owned(), field(t, f, edition, texts))).collect();
    let required: Vec<&str> = t.fields().filter(|f| f.required()).map(|f| f.name()).collect();
    if !properties.is_empty() {
        set(&mut out, "properties", properties);
    }
    if !required.is_empty() {
        set(&mut out, "required", json!(required));
    }
    out
}

fn field(of: Type, field: Field, edition: Edition, texts: &Texts) -> Value {
    let mut out = shape(field.shape(), edition);
    let mut extra = Map::new();
    if let Some(text) = texts.of_field(of.name(), field.name()) {
        extra.insert("description".to_owned(), text.into());
    }
    // Version 2 is published without defaults.
    if let Some(default) = default(field).filter(|_| edition == Edition::V3) {
        extra.insert("default".to_owned(), default);
    }
    let choices: Vec<&str> = field.choices().collect();
    if !choices.is_empty() {
        match out.get_mut("items") {
            Some(items) => set(items, "enum", json!(choices)),
            None => set(&mut out, "enum", json!(choices)),
        }
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
    with(out, extra, edition)
}

/// The published default: the one that is declared, or what a field holds that upstream's Go types cannot leave out.
fn default(field: Field) -> Option<Value> {
    // What is no JSON is no default.
    if let Some(declared) = field.default() {
        return serde_json::from_str(declared).ok();
    }
    match field.shape() {
        Shape::Type(t) if field.keeps_zero() || t.name() == format!("{META}ListMeta") => Some(json!({})),
        Shape::Type(_) => None,
        plain => zero(plain).filter(|_| field.required()),
    }
}

/// What a value of Go is before anything is put into it, where that can be told from its shape.
fn zero(shape: Shape) -> Option<Value> {
    match shape {
        Shape::String => Some("".into()),
        Shape::Int32 | Shape::Int64 | Shape::Number => Some(0.into()),
        Shape::Boolean => Some(false.into()),
        Shape::Type(t) if t.alias().is_none() => Some(json!({})),
        Shape::Type(_)
        | Shape::Bytes
        | Shape::Time
        | Shape::Any
        | Shape::Object
        | Shape::IntOrString
        | Shape::Quantity
        | Shape::List(_)
        | Shape::Map(_) => None,
    }
}

/// Adds to a schema what else is known of the place where it stands.
pub fn with(mut schema: Value, extra: Map<String, Value>, edition: Edition) -> Value {
    if extra.is_empty() {
        return schema;
    }
    // Beside a reference nothing else may stand in version 3.
    if edition == Edition::V3 && schema.get("$ref").is_some() {
        schema = json!({"allOf": [schema]});
    }
    if let Some(members) = schema.as_object_mut() {
        members.extend(extra);
    }
    schema
}

/// An element of a list, or a value of a map.
fn element(item: Item, edition: Edition) -> Value {
    let zero = zero(item.shape()).filter(|_| edition == Edition::V3);
    let extra = zero.map(|value| ("default".to_owned(), value)).into_iter().collect();
    with(shape(item.shape(), edition), extra, edition)
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
        Shape::List(item) => json!({"type": "array", "items": element(item, edition)}),
        Shape::Map(item) => json!({"type": "object", "additionalProperties": element(item, edition)}),
    }
}
