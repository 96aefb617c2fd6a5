//! Schemas of custom resources, as their definitions wrote them, in the dress of the built-in ones.

use kedge_api::Resource;
use serde_json::{Map, Value, json};

use super::texts::Texts;
use super::types::{META, reference, with};
use super::{Edition, Entry};
use crate::wire::set;

const CONVENTIONS: &str = "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md";
const PRESERVES: &str = "x-kubernetes-preserve-unknown-fields";
const EMBEDDED: &str = "x-kubernetes-embedded-resource";

/// The kind and its list.
pub fn schemas(row: &Resource, edition: Edition, texts: &Texts) -> Vec<Entry> {
    let Some(custom) = &row.custom else { return Vec::new() };
    let dress = Dress { edition, texts };
    let mut own = match &custom.schema {
        // Of what may have any fields kubectl would refuse all that are not named: none are.
        Value::Object(schema) if edition == Edition::V3 || !is(schema, PRESERVES) => {
            let mut own = custom.schema.clone();
            if edition == Edition::V2 {
                older(&mut own);
            }
            if let Some(own) = own.as_object_mut() {
                members(own).for_each(|inner| dress.embedded(inner));
                dress.properties(own, "ObjectMeta", texts.of_any("metadata"));
            }
            own
        }
        _ => json!({"type": "object"}),
    };
    let list_kind = row.list_kind();
    let text = format!("List of {}. More info: {CONVENTIONS}", row.id.resource);
    let items = json!({"type": "array", "items": reference(&row.schema, edition), "description": text});
    let mut list = Map::new();
    list.insert("type".to_owned(), "object".into());
    list.insert("description".to_owned(), format!("{list_kind} is a list of {}", row.kind).into());
    list.insert("required".to_owned(), json!(["items"]));
    list.insert("properties".to_owned(), json!({"items": items}));
    dress.properties(&mut list, "ListMeta", texts.of_list());
    let mut list = Value::Object(list);
    let selectable: Vec<Value> = custom.selectable.iter().map(|path| json!({"fieldPath": path})).collect();
    for (schema, kind) in [(&mut own, &*row.kind), (&mut list, &*list_kind)] {
        let kind = json!([{"group": row.id.group.as_str(), "version": row.version, "kind": kind}]);
        set(schema, "x-kubernetes-group-version-kind", kind);
        if !selectable.is_empty() {
            set(schema, "x-kubernetes-selectable-fields", selectable.clone());
        }
    }
    vec![(row.schema.to_string(), own), (list_name(row), list)]
}

/// What the list is called: as its kind, with `List` behind.
pub fn list_name(row: &Resource) -> String {
    let space = row.schema.strip_suffix(&*row.kind).unwrap_or(&row.schema);
    format!("{space}{}", row.list_kind())
}

struct Dress<'a> {
    edition: Edition,
    texts: &'a Texts,
}

impl Dress<'_> {
    /// Gives an object what each kind has.
    fn properties(&self, schema: &mut Map<String, Value>, metadata: &str, text: Option<String>) {
        let properties = schema.entry("properties").or_insert_with(|| Map::new().into());
        let about =
            |text: Option<String>| text.map(|text| ("description".to_owned(), text.into())).into_iter().collect();
        let metadata = reference(&format!("{META}{metadata}"), self.edition);
        set(properties, "metadata", with(metadata, about(text), self.edition));
        for name in ["apiVersion", "kind"] {
            set(properties, name, with(json!({"type": "string"}), about(self.texts.of_any(name)), self.edition));
        }
    }

    /// An object within an object has them, too, where the definition says that it is one.
    fn embedded(&self, schema: &mut Value) {
        let Some(schema) = schema.as_object_mut() else { return };
        members(schema).for_each(|inner| self.embedded(inner));
        if !is(schema, EMBEDDED) || (self.edition == Edition::V2 && is(schema, PRESERVES)) {
            return;
        }
        self.properties(schema, "ObjectMeta", self.texts.of_any("metadata"));
        let required = schema.entry("required").or_insert_with(|| json!([]));
        if let Some(required) = required.as_array_mut() {
            for name in ["kind", "apiVersion"] {
                if !required.iter().any(|known| known == name) {
                    required.push(name.into());
                }
            }
        }
    }
}

fn is(schema: &Map<String, Value>, flag: &str) -> bool {
    schema.get(flag) == Some(&Value::Bool(true))
}

/// The schemas right below a schema.
fn members(schema: &mut Map<String, Value>) -> impl Iterator<Item = &mut Value> {
    schema.iter_mut().flat_map(|(name, value)| match (name.as_str(), value) {
        ("properties", Value::Object(properties)) => properties.values_mut().collect::<Vec<_>>(),
        ("items" | "additionalProperties", inner) => vec![inner],
        _ => Vec::new(),
    })
}

/// Version 2 knows no compositions and no null, and kubectl reads it as if what is not named were forbidden.
fn older(schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else { return };
    for part in ["allOf", "anyOf", "oneOf", "not"] {
        schema.remove(part);
    }
    let nullable = schema.remove("nullable") == Some(Value::Bool(true));
    if nullable || is(schema, PRESERVES) {
        schema.remove("items");
        schema.remove("properties");
    }
    let kind = schema.get("type").and_then(Value::as_str).unwrap_or_default();
    let untyped = match kind {
        "array" => !schema.contains_key("items"),
        "object" => is(schema, PRESERVES),
        _ => false,
    };
    if nullable || untyped {
        schema.remove("type");
    }
    // What may be null may be left out.
    let may_be_null = |inner: &Value| inner.get("nullable") == Some(&Value::Bool(true));
    let properties = schema.get("properties").and_then(Value::as_object);
    let optional: Vec<String> =
        properties.into_iter().flatten().filter(|p| may_be_null(p.1)).map(|p| p.0.clone()).collect();
    if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|name| !optional.iter().any(|optional| name == optional.as_str()));
        if required.is_empty() {
            schema.remove("required");
        }
    }
    members(schema).for_each(older);
}
