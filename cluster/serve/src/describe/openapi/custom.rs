//! Schemas of custom resources, as their definitions wrote them, in the dress of the built-in ones.

use kedge_api::Resource;
use serde_json::{Map, Value, json};

use super::types::{META, reference};
use super::{Edition, Entry};
use crate::wire::set;

const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to \
                           the latest internal value, and may reject unrecognized values. More info: \
                           https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const KIND: &str = "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the \
                    client submits requests to. Cannot be updated. In CamelCase. More info: \
                    https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const METADATA: &str = "Standard object's metadata. More info: \
                        https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

/// The kind and its list.
pub fn schemas(row: &Resource, edition: Edition) -> Vec<Entry> {
    let Some(custom) = &row.custom else { return Vec::new() };
    let mut own = match &custom.schema {
        Value::Object(_) => custom.schema.clone(),
        _ => json!({"type": "object"}),
    };
    if edition == Edition::V2 {
        older(&mut own);
    }
    dress(&mut own, row, &row.kind, "ObjectMeta", edition);
    let list_kind = row.list_kind();
    let items = json!({"type": "array", "items": reference(&row.schema, edition), "description": format!("List of {}. More info: \
        https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md", row.id.resource)});
    let mut list = json!({"type": "object", "required": ["items"], "properties": {"items": items},
        "description": format!("{list_kind} is a list of {}", row.kind)});
    dress(&mut list, row, &list_kind, "ListMeta", edition);
    vec![(row.schema.to_string(), own), (list_name(row), list)]
}

/// What the list is called: as its kind, with `List` behind.
pub fn list_name(row: &Resource) -> String {
    let space = row.schema.strip_suffix(&*row.kind).unwrap_or(&row.schema);
    format!("{space}{}", row.list_kind())
}

fn dress(schema: &mut Value, row: &Resource, kind: &str, metadata: &str, edition: Edition) {
    let group = json!([{"group": row.id.group.as_str(), "version": row.version, "kind": kind}]);
    set(schema, "x-kubernetes-group-version-kind", group);
    let Some(schema) = schema.as_object_mut() else { return };
    let properties = schema.entry("properties").or_insert_with(|| Map::new().into());
    let mut metadata = reference(&format!("{META}{metadata}"), edition);
    set(&mut metadata, "description", METADATA);
    set(properties, "metadata", metadata);
    for (name, text) in [("apiVersion", API_VERSION), ("kind", KIND)] {
        set(properties, name, json!({"type": "string", "description": text}));
    }
}

/// Version 2 knows no compositions and no null; what may be null may then be anything.
fn older(schema: &mut Value) {
    let Some(map) = schema.as_object_mut() else { return };
    for part in ["allOf", "anyOf", "oneOf", "not"] {
        map.remove(part);
    }
    if map.remove("nullable") == Some(Value::Bool(true)) {
        for part in ["type", "items", "properties", "additionalProperties"] {
            map.remove(part);
        }
    }
    if map.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
        map.remove("type");
    }
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        properties.values_mut().for_each(older);
    }
    for part in ["items", "additionalProperties"] {
        if let Some(inner) = map.get_mut(part) {
            older(inner);
        }
    }
}
