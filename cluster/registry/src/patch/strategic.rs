//! Strategic merge patch: lists merge by key where the schema says so; `$patch`, `$retainKeys`, `$deleteFromPrimitiveList` and
//! `$setElementOrder` direct it. Source: "Strategic Merge Patch" of the API conventions' community document.

use kedge_api::schema::{Field, Shape, Type};
use serde_json::{Map, Value};

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Error {
    /// The result cannot be an object of the type.
    Refused(String),
    /// The directives contradict themselves.
    Malformed(String),
    /// A directive is none.
    Bad(&'static str),
}

const PATCH: &str = "$patch";
const RETAIN: &str = "$retainKeys";
const DELETE: &str = "$deleteFromPrimitiveList/";
const ORDER: &str = "$setElementOrder/";

pub(crate) fn apply(t: Option<Type>, current: &Value, patch: &Map<String, Value>) -> Result<Value, Error> {
    let current = current.as_object().cloned().unwrap_or_default();
    map(t, current, patch).map(Value::Object)
}

fn map(
    t: Option<Type>,
    mut current: Map<String, Value>,
    patch: &Map<String, Value>,
) -> Result<Map<String, Value>, Error> {
    match patch.get(PATCH).map(|d| d.as_str().unwrap_or_default()) {
        None | Some("merge") => {}
        Some("delete") => return Ok(Map::new()),
        // What replaces is merged into nothing, so that directives inside it are obeyed and not kept.
        Some("replace") => current = Map::new(),
        Some(other) => {
            let shown = go_value(&Value::Object(patch.clone()));
            return Err(Error::Malformed(format!("unknown patch type: {other} in map: {shown}")));
        }
    }
    if let Some(retain) = patch.get(RETAIN) {
        const BAD: Error = Error::Bad("invalid patch format of retainKeys");
        let keys = retain.as_array().ok_or(BAD)?;
        let mut own = patch.iter().filter(|(name, value)| !name.starts_with('$') && !value.is_null());
        if own.any(|(name, _)| !keys.iter().any(|key| key == name.as_str())) {
            return Err(BAD);
        }
        current.retain(|name, _| keys.iter().any(|k| k == name));
    }
    for (name, change) in patch.iter().filter(|(name, _)| !name.starts_with('$')) {
        if change.is_null() {
            current.remove(name);
            continue;
        }
        let old = current.remove(name);
        let field = t.and_then(|t| t.field(name));
        let order = patch.get(&format!("{ORDER}{name}"));
        let delete = patch.get(&format!("{DELETE}{name}"));
        current.insert(name.clone(), value(field, old, change, order, delete)?);
    }
    // Lists of which only order or deletions are patched.
    for (directive, argument) in patch {
        let (name, order, delete) = if let Some(name) = directive.strip_prefix(ORDER) {
            (name, Some(argument), patch.get(&format!("{DELETE}{name}")))
        } else if let Some(name) = directive.strip_prefix(DELETE) {
            (name, patch.get(&format!("{ORDER}{name}")), Some(argument))
        } else {
            continue;
        };
        if patch.contains_key(name) {
            continue;
        }
        if let Some(Value::Array(items)) = current.get(name).cloned() {
            let key = t.and_then(|t| t.field(name)).and_then(Field::merge_key);
            let items = remove_listed(items, delete);
            let items = arrange(&items, items.clone(), key, order, &[])?;
            current.insert(name.to_owned(), Value::Array(items));
        }
    }
    Ok(current)
}

fn value(
    field: Option<Field>,
    old: Option<Value>,
    change: &Value,
    order: Option<&Value>,
    delete: Option<&Value>,
) -> Result<Value, Error> {
    let shape = field.map(Field::shape);
    match change {
        Value::Object(patch) => {
            let t = match shape {
                Some(Shape::Type(t)) if t.alias().is_none() => Some(t),
                Some(Shape::List(_)) => return Err(Error::Refused("cannot restore slice from map".into())),
                _ => None,
            };
            let old = match old {
                Some(Value::Object(old)) => old,
                _ => Map::new(),
            };
            if let Some(Shape::Map(item)) = shape
                && let Shape::Type(inner) = item.shape()
                && inner.alias().is_none()
            {
                return map_of_objects(inner, old, patch).map(Value::Object);
            }
            if field.is_some_and(Field::patch_replaces) {
                return Ok(change.clone());
            }
            map(t, old, patch).map(Value::Object)
        }
        Value::Array(patch) => {
            if matches!(shape, Some(Shape::Map(_))) || matches!(shape, Some(Shape::Type(t)) if t.alias().is_none()) {
                return Err(Error::Refused("cannot restore map from slice".into()));
            }
            let old = match old {
                Some(Value::Array(old)) => old,
                _ => Vec::new(),
            };
            list(field, old, patch, order, delete).map(Value::Array)
        }
        other => Ok(other.clone()),
    }
}

fn map_of_objects(
    t: Type,
    mut old: Map<String, Value>,
    patch: &Map<String, Value>,
) -> Result<Map<String, Value>, Error> {
    for (name, change) in patch.iter().filter(|(name, _)| !name.starts_with('$')) {
        match change {
            Value::Null => {
                old.remove(name);
            }
            Value::Object(change) => {
                let inner = old.remove(name).and_then(|v| if let Value::Object(m) = v { Some(m) } else { None });
                old.insert(name.clone(), Value::Object(map(Some(t), inner.unwrap_or_default(), change)?));
            }
            other => {
                old.insert(name.clone(), other.clone());
            }
        }
    }
    Ok(old)
}

fn list(
    field: Option<Field>,
    old: Vec<Value>,
    patch: &[Value],
    order: Option<&Value>,
    delete: Option<&Value>,
) -> Result<Vec<Value>, Error> {
    let key = field.and_then(Field::merge_key);
    let item = field.and_then(|f| if let Shape::List(item) = f.shape() { Some(item.shape()) } else { None });
    let t = item.and_then(|s| if let Shape::Type(t) = s { Some(t).filter(|t| t.alias().is_none()) } else { None });
    if !field.is_some_and(Field::patch_merges) || (key.is_none() && t.is_some()) {
        return patch.iter().map(|v| value(None, None, v, None, None)).collect();
    }
    let Some(key) = key else {
        // Primitives: what the patch has and the list has not.
        let kept = remove_listed(old.clone(), delete);
        let mut merged = kept;
        for new in patch {
            if !merged.contains(new) {
                merged.push(new.clone());
            }
        }
        return arrange(&old, merged, None, order, patch);
    };
    let directive = |v: &Value| v.get(PATCH).and_then(Value::as_str).map(str::to_owned);
    let replace = patch.iter().any(|v| directive(v).as_deref() == Some("replace"));
    let mut merged = if replace { Vec::new() } else { old.clone() };
    for change in patch {
        let Value::Object(fields) = change else {
            return Err(Error::Refused(format!("an item of a list merged by {key} must be an object")));
        };
        let how = directive(change);
        if how.as_deref() == Some("replace") {
            continue;
        }
        let Some(id) = fields.get(key) else {
            let shown = go_value(change);
            return Err(Error::Malformed(format!("map: {shown} does not contain declared merge key: {key}")));
        };
        let at = merged.iter().position(|m| m.get(key) == Some(id));
        match (how.as_deref(), at) {
            (Some("delete"), _) => merged.retain(|m| m.get(key) != Some(id)),
            (None | Some("merge"), Some(at)) => {
                let old = match merged.get(at) {
                    Some(Value::Object(old)) => old.clone(),
                    _ => Map::new(),
                };
                let new = Value::Object(map(t, old, fields)?);
                if let Some(slot) = merged.get_mut(at) {
                    *slot = new;
                }
            }
            (None | Some("merge"), None) => merged.push(Value::Object(map(t, Map::new(), fields)?)),
            (Some(other), _) => {
                return Err(Error::Malformed(format!("unknown patch type: {other} in map: {}", go_value(change))));
            }
        }
    }
    let named: Vec<Value> =
        patch.iter().filter(|v| !matches!(directive(v).as_deref(), Some("delete" | "replace"))).cloned().collect();
    arrange(&old, merged, Some(key), order, &named)
}

fn remove_listed(mut items: Vec<Value>, delete: Option<&Value>) -> Vec<Value> {
    if let Some(Value::Array(gone)) = delete {
        items.retain(|item| !gone.contains(item));
    }
    items
}

/// Puts merged items in order. What the patch names (in `$setElementOrder`, or by having it) keeps the patch's order; the server's other
/// items keep theirs and go in front of the first named item that the server had after them.
fn arrange(
    server: &[Value],
    merged: Vec<Value>,
    key: Option<&str>,
    order: Option<&Value>,
    patch: &[Value],
) -> Result<Vec<Value>, Error> {
    let id = |v: &Value| -> Value { key.map_or_else(|| v.clone(), |k| v.get(k).cloned().unwrap_or_default()) };
    let place = |list: &[Value], v: &Value| list.iter().position(|other| id(other) == id(v));
    let order = match order {
        Some(Value::Array(order)) => {
            let mut places = patch.iter().map(|v| place(order, v));
            if places.any(|p| p.is_none()) || !patch.iter().filter_map(|v| place(order, v)).is_sorted() {
                return Err(Error::Malformed(format!(
                    "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
                    go_value(&Value::Array(patch.to_vec())),
                    go_value(&Value::Array(order.clone()))
                )));
            }
            order.as_slice()
        }
        Some(other) => {
            let found = go_type(other);
            return Err(Error::Malformed(format!("expected a []interface {{}}, but received a {found}")));
        }
        None => patch,
    };
    let (mut named, mut others): (Vec<Value>, Vec<Value>) = merged.into_iter().partition(|v| place(order, v).is_some());
    named.sort_by_key(|v| place(order, v));
    others.sort_by_key(|v| place(server, v));
    let mut from = 0;
    for other in others {
        let mine = place(server, &other);
        let before = named.iter().skip(from).position(|n| {
            let theirs = place(server, n);
            mine.is_some() && theirs.is_some() && mine < theirs
        });
        let at = before.map_or(named.len(), |n| from + n);
        named.insert(at, other);
        from = at + 1;
    }
    Ok(named)
}

/// Go's type of a decoded value.
fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "%!s(<nil>)",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// As Go prints a decoded value with `%v`.
pub(crate) fn go_value(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(go_value).collect::<Vec<_>>().join(" "))
        }
        Value::Object(map) => {
            let fields: Vec<_> = map.iter().map(|(k, v)| format!("{k}:{}", go_value(v))).collect();
            format!("map[{}]", fields.join(" "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn run(t: &str, current: Value, patch: Value) -> Result<Value, Error> {
        apply(kedge_api::schema::get(t), &current, patch.as_object().unwrap())
    }

    const SPEC: &str = "io.k8s.api.core.v1.PodSpec";
    const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

    #[test]
    fn lists_merge_by_key_and_keep_the_servers_order() {
        let current = json!({"containers": [{"name": "a", "image": "1", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}, {"name": "b"}]});
        let patch =
            json!({"containers": [{"name": "a", "env": [{"name": "B", "value": "3"}, {"name": "C"}], "args": ["x"]}]});
        let patched = run(SPEC, current.clone(), patch).unwrap();
        assert_eq!(
            patched,
            json!({"containers": [{"name": "a", "image": "1", "args": ["x"],
                     "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "3"}, {"name": "C"}]}, {"name": "b"}]})
        );
        let deleted = run(SPEC, current.clone(), json!({"containers": [{"name": "a", "$patch": "delete"}]})).unwrap();
        assert_eq!(deleted, json!({"containers": [{"name": "b"}]}));
        let replaced =
            run(SPEC, current.clone(), json!({"containers": [{"$patch": "replace"}, {"name": "z"}]})).unwrap();
        assert_eq!(replaced, json!({"containers": [{"name": "z"}]}));
        let ordered = json!({"$setElementOrder/containers": [{"name": "n"}, {"name": "b"}, {"name": "a"}], "containers": [{"name": "n"}]});
        let names: Vec<_> = run(SPEC, current, ordered).unwrap()["containers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c["name"].clone())
            .collect();
        assert_eq!(names, ["n", "b", "a"]);
    }

    #[test]
    fn new_items_come_before_those_only_the_server_has() {
        let patched =
            run(SPEC, json!({"imagePullSecrets": [{"name": "a"}]}), json!({"imagePullSecrets": [{"name": "b"}]}))
                .unwrap();
        assert_eq!(patched, json!({"imagePullSecrets": [{"name": "b"}, {"name": "a"}]}));
        let patched =
            run(SPEC, json!({"tolerations": [{"key": "a"}]}), json!({"tolerations": [{"key": "b"}]})).unwrap();
        assert_eq!(patched, json!({"tolerations": [{"key": "b"}]}), "an atomic list is replaced");
    }

    #[test]
    fn primitive_lists_are_sets_with_directives() {
        let finalizers =
            |patch: Value| run(META, json!({"finalizers": ["d", "c", "b"]}), patch).unwrap()["finalizers"].clone();
        assert_eq!(finalizers(json!({"finalizers": ["e"]})), json!(["e", "d", "c", "b"]));
        assert_eq!(
            finalizers(json!({"$deleteFromPrimitiveList/finalizers": ["b", "zz"], "finalizers": ["e"]})),
            json!(["e", "d", "c"])
        );
        assert_eq!(finalizers(json!({"$deleteFromPrimitiveList/finalizers": ["c"]})), json!(["d", "b"]));
        assert_eq!(finalizers(json!({"$setElementOrder/finalizers": ["b", "c", "d"]})), json!(["b", "c", "d"]));
        assert_eq!(finalizers(json!({"finalizers": null})), json!(null));
    }

    #[test]
    fn maps_obey_their_directives() {
        let labels = |patch: Value| {
            run(META, json!({"labels": {"a": "1", "b": "2"}}), json!({"labels": patch})).unwrap()["labels"].clone()
        };
        assert_eq!(labels(json!({"c": "3", "a": null})), json!({"b": "2", "c": "3"}));
        assert_eq!(labels(json!({"$patch": "replace", "c": "3"})), json!({"c": "3"}));
        assert_eq!(labels(json!({"$patch": "delete"})), json!({}));
        assert_eq!(labels(json!({"$retainKeys": ["b"], "b": "4"})), json!({"b": "4"}));
        let new =
            run(SPEC, json!({}), json!({"securityContext": {"$patch": "replace", "runAsUser": 1, "fsGroup": null}}))
                .unwrap();
        assert_eq!(new, json!({"securityContext": {"runAsUser": 1}}));
    }

    #[test]
    fn contradictions_are_told() {
        let error = run(META, json!({}), json!({"labels": {"$patch": "nope"}})).unwrap_err();
        assert_eq!(error, Error::Malformed("unknown patch type: nope in map: map[$patch:nope]".into()));
        let error =
            run(META, json!({}), json!({"$setElementOrder/finalizers": ["a"], "finalizers": ["b"]})).unwrap_err();
        assert_eq!(
            error,
            Error::Malformed("The order in patch list:\n[b]\n doesn't match $setElementOrder list:\n[a]\n".into())
        );
        let error = run(META, json!({}), json!({"labels": [1]})).unwrap_err();
        assert_eq!(error, Error::Refused("cannot restore map from slice".into()));
        assert!(run(SPEC, json!({}), json!({"containers": [{"image": "x"}]})).is_err());
        assert!(run(SPEC, json!({}), json!({"containers": ["x"]})).is_err());
    }

    fn env() -> impl Strategy<Value = Vec<Value>> {
        prop::collection::btree_map("[A-F]", "[0-9]", 0..6)
            .prop_map(|m| m.into_iter().map(|(n, v)| json!({"name": n, "value": v})).collect::<Vec<_>>())
            .prop_shuffle()
    }

    const CONTAINER: &str = "io.k8s.api.core.v1.Container";

    proptest! {
        /// A merged list holds each key once, with the patch's value if it has one; applying twice is applying once.
        #[test]
        fn merging_lists_keeps_keys_unique_and_is_idempotent(old in env(), patch in env()) {
            let change = json!({"env": patch});
            let once = run(CONTAINER, json!({"env": old}), change.clone()).unwrap();
            let items = once["env"].as_array().unwrap();
            let mut names: Vec<_> = items.iter().map(|v| v["name"].as_str().unwrap()).collect();
            names.sort_unstable();
            names.dedup();
            prop_assert_eq!(names.len(), items.len());
            for item in patch.iter().chain(old.iter().filter(|o| patch.iter().all(|p| p["name"] != o["name"]))) {
                prop_assert!(items.contains(item));
            }
            // The patch's own order holds.
            let places: Vec<_> = patch.iter().map(|p| items.iter().position(|i| i == p).unwrap()).collect();
            prop_assert!(places.is_sorted());
            prop_assert_eq!(run(CONTAINER, once.clone(), change).unwrap(), once);
        }

        /// With $setElementOrder naming all, the result is in exactly that order.
        #[test]
        fn an_order_that_names_all_is_the_order(all in env()) {
            let sorted = { let mut s = all.clone(); s.sort_by_key(|v| v["name"].as_str().unwrap().to_owned()); s };
            let patch = json!({"$setElementOrder/env": sorted});
            let found = run(CONTAINER, json!({"env": all}), patch).unwrap();
            prop_assert_eq!(&found["env"], &json!(sorted));
        }
    }
}
