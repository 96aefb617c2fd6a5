//! Bringing a custom resource into the form of its schema: what the schema does not know goes, what it defaults comes.

use std::fmt::Write as _;

use kedge_api::findings::Findings;
use kedge_api::schema;
use serde_json::{Map, Value};

use super::schema::Schema;
use crate::structure;

/// The fields that every resource has, at the root and wherever a schema embeds one.
const TYPED: [&str; 3] = ["apiVersion", "kind", "metadata"];
const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// Takes out what the schema does not know; gives the paths of what went, e.g. `spec.a[0].b`.
pub(crate) fn prune(value: &mut Value, schema: &Schema, root: bool) -> Vec<String> {
    let mut gone = Findings::default();
    walk(value, schema, root, &mut String::new(), &mut gone);
    gone.into_texts()
}

fn walk(value: &mut Value, schema: &Schema, resource: bool, path: &mut String, gone: &mut Findings) {
    let length = path.len();
    match value {
        Value::Object(map) => map.retain(|name, value| {
            let own = resource && TYPED.contains(&name.as_str());
            let separator = if length == 0 { "" } else { "." };
            // Writing to a string cannot fail.
            let _written = write!(path, "{separator}{name}");
            let kept = match schema.field(name) {
                Some(_) if own => true,
                Some(inner) => {
                    walk(value, inner, inner.embedded, path, gone);
                    true
                }
                None => own || schema.preserves,
            };
            if !kept {
                gone.note(&*path);
            }
            path.truncate(length);
            kept
        }),
        Value::Array(items) => {
            let Some(inner) = &schema.items else { return };
            for (at, item) in items.iter_mut().enumerate() {
                let _written = write!(path, "[{at}]");
                walk(item, inner, inner.embedded, path, gone);
                path.truncate(length);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Fills in defaults where a field is absent, or null without being allowed to be; takes out the nulls that have none.
pub(crate) fn default(value: &mut Value, schema: &Schema) {
    match value {
        Value::Object(map) => {
            for (name, inner) in &schema.properties {
                match (&inner.default, map.get(name)) {
                    (Some(default), None) => {
                        map.insert(name.clone(), default.clone());
                    }
                    (Some(default), Some(found)) if inner.drops(found) => {
                        map.insert(name.clone(), default.clone());
                    }
                    (None, Some(found)) if inner.drops(found) => {
                        map.remove(name);
                    }
                    (Some(_) | None, Some(_)) | (None, None) => {}
                }
            }
            map.retain(|name, value| {
                let Some(inner) = schema.field(name) else { return true };
                replace(value, inner);
                !inner.drops(value)
            });
        }
        Value::Array(items) => {
            let Some(inner) = &schema.items else { return };
            items.iter_mut().for_each(|item| replace(item, inner));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn replace(value: &mut Value, schema: &Schema) {
    if let Some(default) = schema.default.as_ref().filter(|_| schema.drops(value)) {
        *value = default.clone();
    }
    default(value, schema);
}

/// Makes `metadata`, and that of every embedded resource, what metadata is; gives the paths of what went.
pub(crate) fn metadata(value: &mut Value, schema: &Schema, root: bool) -> Result<Vec<String>, String> {
    let mut gone = Findings::default();
    coerce(value, schema, root, "", &mut gone)?;
    Ok(gone.into_texts())
}

fn coerce(value: &mut Value, schema: &Schema, resource: bool, path: &str, gone: &mut Findings) -> Result<(), String> {
    match value {
        Value::Object(map) => {
            if resource {
                own_metadata(map, path, gone)?;
            }
            for (name, value) in map.iter_mut() {
                if let Some(inner) = schema.field(name).filter(|inner| inner.holds_resources()) {
                    coerce(value, inner, inner.embedded, &format!("{path}{name}."), gone)?;
                }
            }
            Ok(())
        }
        Value::Array(items) => {
            let Some(inner) = schema.items.as_ref().filter(|inner| inner.holds_resources()) else { return Ok(()) };
            let path = path.trim_end_matches('.');
            let mut items = items.iter_mut().enumerate();
            items.try_for_each(|(at, item)| coerce(item, inner, inner.embedded, &format!("{path}[{at}]."), gone))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

fn own_metadata(map: &mut Map<String, Value>, path: &str, gone: &mut Findings) -> Result<(), String> {
    let (Some(metadata), Some(t)) = (map.get_mut("metadata"), schema::get(OBJECT_META)) else { return Ok(()) };
    let unknown = structure::conform(t, metadata)?;
    unknown.iter().for_each(|name| gone.note(format_args!("{path}metadata.{name}")));
    Ok(())
}

impl Schema {
    /// Whether a resource is embedded here or below.
    fn holds_resources(&self) -> bool {
        self.embedded
            || self.properties.values().any(Self::holds_resources)
            || [&self.additional, &self.items].into_iter().flatten().any(|inner| inner.holds_resources())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn schema() -> Schema {
        Schema::of(&json!({"type": "object", "properties": {
            "a": {"type": "integer", "default": 7},
            "n": {"type": "string", "nullable": true, "default": "x"},
            "o": {"type": "object", "default": {}, "properties": {"b": {"type": "string", "default": "bb"}, "c": {"type": "string"}}},
            "l": {"type": "array", "items": {"type": "object", "properties": {"b": {"type": "string", "default": "in"}}}},
            "m": {"type": "object", "additionalProperties": {"type": "object", "properties": {"c": {"type": "integer"}}}},
            "p": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"o": {"type": "object"}}},
            "e": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
        }}))
    }

    #[test]
    fn unknown_fields_go_and_are_named() {
        let mut value = json!({"apiVersion": "v", "kind": "K", "metadata": {"name": "n"}, "z": 1, "o": {"b": "1", "q": 1},
            "l": [{"b": "1", "x": {}}], "m": {"k": {"c": 1, "d": 2}}, "p": {"any": {"x": 1}, "o": {"y": 1}}});
        let gone = prune(&mut value, &schema(), true);
        assert_eq!(gone, ["l[0].x", "m.k.d", "o.q", "p.o.y", "z"]);
        assert_eq!(
            value,
            json!({"apiVersion": "v", "kind": "K", "metadata": {"name": "n"}, "o": {"b": "1"}, "l": [{"b": "1"}],
                "m": {"k": {"c": 1}}, "p": {"any": {"x": 1}, "o": {}}})
        );
    }

    #[test]
    fn defaults_come_where_nothing_is() {
        let mut value = json!({"a": null, "n": null, "l": [{}, {"b": "own"}], "o": {"c": null}});
        default(&mut value, &schema());
        assert_eq!(value, json!({"a": 7, "n": null, "l": [{"b": "in"}, {"b": "own"}], "o": {"b": "bb"}}));
        let mut empty = json!({});
        default(&mut empty, &schema());
        assert_eq!(empty, json!({"a": 7, "n": "x", "o": {"b": "bb"}}));
    }

    #[test]
    fn embedded_metadata_is_metadata() {
        let mut value = json!({"metadata": {"name": "a", "nope": 1}, "e": {"metadata": {"labels": {"a": "b"}, "x": {}}, "spec": 1}});
        assert_eq!(metadata(&mut value, &schema(), true), Ok(vec!["metadata.nope".into(), "e.metadata.x".into()]));
        assert_eq!(value, json!({"metadata": {"name": "a"}, "e": {"metadata": {"labels": {"a": "b"}}, "spec": 1}}));
        assert!(metadata(&mut json!({"metadata": {"labels": 1}}), &schema(), true).is_err());
    }

    fn tree() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(json!(null)), Just(json!(1)), Just(json!("s")), Just(json!(true))];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
                prop::collection::btree_map("[abcelmnopz]", inner, 0..5)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// Whatever comes: a second time changes nothing, and pruning leaves nothing unknown behind.
        #[test]
        fn pruning_and_defaulting_are_idempotent(value in tree()) {
            let schema = schema();
            let mut once = value;
            prune(&mut once, &schema, false);
            default(&mut once, &schema);
            let mut twice = once.clone();
            prop_assert_eq!(prune(&mut twice, &schema, false), Vec::<String>::new());
            default(&mut twice, &schema);
            prop_assert_eq!(once, twice);
        }
    }
}
