//! What servers that extend the API describe in OpenAPI 2: kept to what they answer for here, and joined with what this one describes.
//!
//! As upstream joins them: a definition that is there already and says the same is shared, one that says something else gets another name,
//! and which kinds it describes is told of all together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Entry, hex};

const KINDS: &str = "x-kubernetes-group-version-kind";
const DEFINITIONS: &str = "#/definitions/";
const PARAMETERS: &str = "#/parameters/";

/// A server's document.
#[derive(Debug)]
pub struct Spec {
    /// Of the text that it was read from.
    pub tag: String,
    paths: Map<String, Value>,
    definitions: Map<String, Value>,
}

impl Spec {
    /// Keeps the paths below `prefix`, and the definitions but for those that only other paths need.
    pub fn read(text: &[u8], prefix: &str) -> Option<Self> {
        let mut document: Value = serde_json::from_slice(text).ok()?;
        let mut part = |name: &str| match document.get_mut(name).map(Value::take) {
            Some(Value::Object(part)) => part,
            _ => Map::new(),
        };
        let (mut paths, mut definitions, parameters) = (part("paths"), part("definitions"), part("parameters"));
        let before = used(&paths, &definitions);
        paths.retain(|path, _| path.starts_with(prefix));
        let after = used(&paths, &definitions);
        definitions.retain(|name, _| after.contains(name) || !before.contains(name));
        for path in paths.values_mut() {
            // This server's own documents have none that are shared.
            replace(path, &|name| parameters.get(name.strip_prefix(PARAMETERS)?).cloned());
        }
        Some(Self { tag: hex(text), paths, definitions })
    }
}

/// The definitions that paths refer to, and what these refer to.
fn used(paths: &Map<String, Value>, definitions: &Map<String, Value>) -> BTreeSet<String> {
    let (mut found, mut open) = (BTreeSet::new(), Vec::new());
    paths.values().for_each(|path| references(path, &mut open));
    while let Some(name) = open.pop() {
        if let Some(definition) = definitions.get(&name)
            && found.insert(name)
        {
            references(definition, &mut open);
        }
    }
    found
}

fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            let name = map.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix(DEFINITIONS));
            found.extend(name.map(str::to_owned));
            map.values().for_each(|inner| references(inner, found));
        }
        Value::Array(items) => items.iter().for_each(|inner| references(inner, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Puts in the place of each reference what it stands for.
fn replace(value: &mut Value, by: &impl Fn(&str) -> Option<Value>) {
    match value {
        Value::Object(map) => match map.get("$ref").and_then(Value::as_str).and_then(by) {
            Some(found) => *value = found,
            None => map.values_mut().for_each(|inner| replace(inner, by)),
        },
        Value::Array(items) => items.iter_mut().for_each(|inner| replace(inner, by)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// What comes to this server's own document.
#[derive(Default)]
pub struct Joined {
    pub paths: Vec<Entry>,
    pub definitions: BTreeMap<String, Value>,
    /// Further kinds of its own definitions.
    kinds: BTreeMap<String, Vec<Value>>,
}

/// `own` knows this server's definitions.
pub fn join(specs: &[Arc<Spec>], own: impl Fn(&str) -> Option<Value>) -> Joined {
    let mut joined = Joined::default();
    for spec in specs {
        joined.add(spec, &own);
    }
    joined
}

impl Joined {
    fn add(&mut self, spec: &Spec, own: &impl Fn(&str) -> Option<Value>) {
        let known = |joined: &Self, name: &str| joined.definitions.get(name).cloned().or_else(|| own(name));
        let mut renamed: BTreeMap<&str, String> = BTreeMap::new();
        for (name, definition) in &spec.definitions {
            let same = |other: &Value| without_kinds(other) == without_kinds(definition);
            if known(self, name).is_none_or(|other| same(&other)) {
                continue;
            }
            let free = (2_u32..).map(|nth| format!("{name}_v{nth}")).find(|new| match known(self, new) {
                Some(other) => same(&other),
                None => !spec.definitions.contains_key(new) && !renamed.values().any(|taken| taken == new),
            });
            renamed.extend(free.map(|new| (name.as_str(), new)));
        }
        let moved = |mut value: Value| {
            replace(&mut value, &|reference| {
                let new = renamed.get(reference.strip_prefix(DEFINITIONS)?)?;
                Some(Value::Object(Map::from_iter([("$ref".to_owned(), format!("{DEFINITIONS}{new}").into())])))
            });
            value
        };
        for (name, definition) in &spec.definitions {
            let name = renamed.get(name.as_str()).unwrap_or(name);
            match self.definitions.get_mut(name) {
                Some(known) => add_kinds(known, kinds(definition)),
                None if own(name).is_some() => {
                    self.kinds.entry(name.clone()).or_default().extend(kinds(definition).iter().cloned());
                }
                None => drop(self.definitions.insert(name.clone(), moved(definition.clone()))),
            }
        }
        for (path, item) in &spec.paths {
            if !self.paths.iter().any(|(known, _)| known == path) {
                self.paths.push((path.clone(), moved(item.clone())));
            }
        }
    }

    /// A definition of this server's own, with the kinds that others give it.
    pub fn with_kinds(&self, (name, mut definition): Entry) -> Entry {
        if let Some(more) = self.kinds.get(&name) {
            add_kinds(&mut definition, more);
        }
        (name, definition)
    }
}

fn kinds(definition: &Value) -> &[Value] {
    definition.get(KINDS).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn without_kinds(definition: &Value) -> Value {
    let mut definition = definition.clone();
    if let Some(map) = definition.as_object_mut() {
        map.remove(KINDS);
    }
    definition
}

/// All of both, each once, in the order of their names.
fn add_kinds(definition: &mut Value, more: &[Value]) {
    let mut all = kinds(definition).to_vec();
    let known = all.len();
    for kind in more {
        if !all.contains(kind) {
            all.push(kind.clone());
        }
    }
    if all.len() == known {
        return;
    }
    let part = |kind: &Value, name: &str| kind.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    all.sort_by_cached_key(|kind| format!("{}/{}.{}", part(kind, "group"), part(kind, "version"), part(kind, "kind")));
    if let Some(map) = definition.as_object_mut() {
        map.insert(KINDS.to_owned(), all.into());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refers(name: &str) -> Value {
        json!({"get": {"parameters": [{"$ref": "#/parameters/pretty"}], "responses": {"200": {"schema": {"$ref": format!("{DEFINITIONS}{name}")}}}}})
    }

    fn kind(group: &str) -> Value {
        json!({"group": group, "version": "v1", "kind": "K"})
    }

    fn spec(paths: Value, definitions: Value) -> Arc<Spec> {
        let parameters = json!({"pretty": {"in": "query", "name": "pretty"}});
        let document = json!({"paths": paths, "definitions": definitions, "parameters": parameters});
        Arc::new(Spec::read(document.to_string().as_bytes(), "/apis/b.io/v1/").unwrap())
    }

    #[test]
    fn of_a_document_only_what_its_server_answers_is_kept() {
        let spec = spec(
            json!({"/apis/b.io/v1/boats": refers("Boat"), "/apis/b.io/v10/boats": refers("Old"), "/healthz": refers("Health")}),
            json!({"Boat": {"properties": {"sail": {"$ref": "#/definitions/Sail"}}}, "Sail": {}, "Old": {}, "Health": {}, "Unused": {}}),
        );
        assert_eq!(spec.paths.keys().collect::<Vec<_>>(), ["/apis/b.io/v1/boats"]);
        assert_eq!(spec.definitions.keys().collect::<Vec<_>>(), ["Boat", "Sail", "Unused"]);
        let parameter = &spec.paths["/apis/b.io/v1/boats"]["get"]["parameters"][0];
        assert_eq!(*parameter, json!({"in": "query", "name": "pretty"}));
        assert!(Spec::read(b"no document", "/").is_none());
    }

    #[test]
    fn what_differs_gets_another_name_and_what_is_the_same_more_kinds() {
        let own = |name: &str| match name {
            "Meta" => Some(json!({"type": "object", KINDS: [kind("a.io")]})),
            "Other" => Some(json!({"type": "string"})),
            _ => None,
        };
        let path = json!({"/apis/b.io/v1/boats": refers("Boat")});
        let boat = |more: &str| {
            json!({"Boat": {"description": more, "properties": {"m": {"$ref": "#/definitions/Meta"}, "o": {"$ref": "#/definitions/Other"}}},
                "Meta": {"type": "object", KINDS: [kind("b.io"), kind("a.io")]}, "Other": {"type": "object"}})
        };
        let joined = join(&[spec(path.clone(), boat("one")), spec(path, boat("two"))], own);
        assert_eq!(joined.paths.len(), 1, "who comes first answers");
        assert_eq!(joined.definitions.keys().collect::<Vec<_>>(), ["Boat", "Boat_v2", "Other_v2"]);
        let boat = &joined.definitions["Boat"]["properties"];
        assert_eq!(boat["o"]["$ref"], "#/definitions/Other_v2");
        assert_eq!(boat["m"]["$ref"], "#/definitions/Meta");
        let (_, meta) = joined.with_kinds(("Meta".to_owned(), own("Meta").unwrap()));
        assert_eq!(meta[KINDS], json!([kind("a.io"), kind("b.io")]));
    }
}
