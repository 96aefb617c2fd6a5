//! What is applied, laid over what is there; and fields taken out again.

use serde_json::{Map, Value};

use super::element::Element;
use super::place::{Form, Place};
use super::set::Set;

/// `live` with all that `config` says.
pub(crate) fn merge(root: Place<'_>, live: &Value, config: &Value) -> Value {
    place(root, Some(live), Some(config)).unwrap_or_default()
}

fn place(at: Place<'_>, live: Option<&Value>, config: Option<&Value>) -> Option<Value> {
    let form = at.form_of_both(live, config);
    let whole = || config.or(live).cloned();
    match form {
        Form::Struct(_) | Form::Map(_) => {
            let (a, b) = (live.and_then(Value::as_object), config.and_then(Value::as_object));
            if a.is_none_or(Map::is_empty) && b.is_none_or(Map::is_empty) {
                return whole();
            }
            let names = a.into_iter().chain(b).flat_map(Map::keys);
            let out: Map<String, Value> = names
                .filter_map(|name| {
                    let (x, y) = (a.and_then(|a| a.get(name)), b.and_then(|b| b.get(name)));
                    let merged = match form.member(name) {
                        Some(below) => place(below, x, y),
                        None => y.or(x).cloned(),
                    };
                    merged.map(|value| (name.clone(), value))
                })
                .collect();
            (!out.is_empty()).then(|| out.into())
        }
        Form::Keyed(item, _) | Form::Set(item) => {
            let (a, b) = (super::compare::list(live), super::compare::list(config));
            if a.is_empty() && b.is_empty() {
                return whole();
            }
            let out = items(form, item, a, b);
            (!out.is_empty()).then(|| out.into())
        }
        Form::Scalar(_) | Form::AtomicStruct(_) | Form::AtomicMap(_) | Form::AtomicList(_) | Form::Opaque => whole(),
    }
}

/// Items that only the live list has stay where they are; those that both have are in the order of what is applied.
fn items(form: Form<'_>, item: Place<'_>, live: &[Value], config: &[Value]) -> Vec<Value> {
    let keyed = |list: &[Value]| -> Vec<Element> { list.iter().filter_map(|item| form.element(item).ok()).collect() };
    let (left, right) = (keyed(live), keyed(config));
    if left.len() != live.len() || right.len() != config.len() {
        return config.to_vec();
    }
    let one_of = |keys: &[Element], list: &[Value], key: &Element| -> Option<Value> {
        let mut found = keys.iter().zip(list).filter(|(other, _)| *other == key).map(|(_, value)| value);
        // What stands twice is merged with nothing.
        match (found.next(), found.next()) {
            (Some(one), None) => Some(one.clone()),
            _ => None,
        }
    };
    let both = |key: &Element| place(item, one_of(&left, live, key).as_ref(), one_of(&right, config, key).as_ref());
    let mut shared = right.iter().filter(|key| left.contains(key)).peekable();
    let mut out = Vec::with_capacity(left.len().max(right.len()));
    let mut merged: Vec<&Element> = Vec::with_capacity(right.len());
    let (mut l, mut r) = (left.iter().zip(live).peekable(), right.iter().peekable());
    loop {
        match (l.peek().copied(), r.peek().copied()) {
            (None, None) => return out,
            (Some((key, _)), Some(other)) if key == other => {
                merged.push(key);
                out.extend(both(key));
                l.next();
                r.next();
                shared.next();
            }
            // Its turn comes when what is applied gets there.
            (Some((key, _)), Some(_)) if right.contains(key) && shared.peek().is_some_and(|next| *next != key) => {
                l.next();
            }
            (Some((key, value)), _) if !right.contains(key) => {
                out.push(value.clone());
                l.next();
            }
            (here, next) => {
                if here.is_some_and(|(key, _)| merged.contains(&key)) {
                    l.next();
                }
                if let Some(key) = next {
                    merged.push(key);
                    out.extend(both(key));
                    r.next();
                    shared.next_if_eq(&key);
                }
            }
        }
    }
}

/// `value` without the fields and items of the set.
pub(crate) fn remove(root: Place<'_>, value: &Value, set: &Set) -> Value {
    without(root, value, set)
}

fn without(at: Place<'_>, value: &Value, set: &Set) -> Value {
    let form = at.form(Some(value));
    match (form, value) {
        (Form::Struct(_) | Form::Map(_), Value::Object(members)) => {
            let rest: Map<String, Value> = members
                .iter()
                .filter_map(|(name, value)| {
                    let element = Element::Field(name.clone().into());
                    if set.has(&element) {
                        return None;
                    }
                    let value = match (set.below(&element), form.member(name)) {
                        (Some(set), Some(below)) => without(below, value, set),
                        _ => value.clone(),
                    };
                    Some((name.clone(), value))
                })
                .collect();
            if rest.is_empty() { Value::Null } else { rest.into() }
        }
        (Form::Keyed(item, _) | Form::Set(item), Value::Array(items)) => {
            let rest: Vec<Value> = items
                .iter()
                .filter_map(|value| match form.element(value) {
                    Ok(element) if set.has(&element) => None,
                    Ok(element) => {
                        Some(set.below(&element).map_or_else(|| value.clone(), |set| without(item, value, set)))
                    }
                    Err(_) => Some(value.clone()),
                })
                .collect();
            if rest.is_empty() { Value::Null } else { rest.into() }
        }
        _ => value.clone(),
    }
}

/// The set with each field of a known type in it of which something is: who owns a part of a struct keeps the struct.
pub(crate) fn named(root: Place<'_>, set: &Set) -> Set {
    with_structs(root, set)
}

fn with_structs(at: Place<'_>, set: &Set) -> Set {
    let form = at.form(None);
    set.map(|element, member, below| {
        let (declared, inner) = match (form, element) {
            (Form::Struct(_) | Form::AtomicStruct(_), Element::Field(name)) => {
                let inner = form.member(name);
                (inner.is_some(), inner)
            }
            (Form::Map(_) | Form::AtomicMap(_), Element::Field(name)) => (false, form.member(name)),
            (Form::Keyed(item, _) | Form::Set(item) | Form::AtomicList(item), _) => (false, Some(item)),
            _ => (false, None),
        };
        let below = inner.map_or_else(|| below.clone(), |inner| with_structs(inner, below));
        (member || (declared && !below.is_empty()), below)
    })
}

#[cfg(test)]
mod tests {
    use super::super::compare::fields;
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn container() -> Place<'static> {
        Place::root(kedge_api::schema::get("io.k8s.api.core.v1.Container").unwrap())
    }

    fn names(env: &Value) -> Vec<&str> {
        env["env"].as_array().unwrap().iter().map(|e| e["name"].as_str().unwrap()).collect()
    }

    fn env(names: &str) -> Value {
        json!({"env": names.chars().map(|n| json!({"name": n.to_string(), "value": "1"})).collect::<Vec<_>>()})
    }

    #[test]
    fn shared_items_follow_what_is_applied_and_others_stay() {
        for (live, config, want) in [
            ("abc", "c", "abc"),
            ("abc", "cb", "acb"),
            ("abc", "xcb", "axcb"),
            ("ab", "xyba", "xyba"),
            ("abcd", "xb", "axbcd"),
            ("", "ba", "ba"),
            ("ba", "", "ba"),
        ] {
            let merged = merge(container(), &env(live), &env(config));
            assert_eq!(names(&merged).concat(), want, "{live} + {config}");
        }
    }

    #[test]
    fn nulls_clear_what_is_whole_and_nothing_else() {
        let live = json!({"image": "x", "env": [{"name": "a"}], "args": ["y"]});
        let merged = merge(container(), &live, &json!({"image": null, "env": null, "args": null}));
        assert_eq!(merged, json!({"image": null, "env": [{"name": "a"}], "args": null}));
    }

    #[test]
    fn what_is_removed_leaves_nothing_empty() {
        let live = json!({"name": "c", "env": [{"name": "a", "value": "1"}, {"name": "b"}], "resources": {"limits": {"cpu": "1"}}});
        let item = |name: &str, below| {
            let mut set = Set::default();
            set.put(Element::Key(vec![("name".into(), json!(name))]), Set::is_empty(&below), below);
            set
        };
        let at = |field: &'static str, below: Set| {
            let mut set = Set::default();
            set.put(Element::Field(field.into()), below.is_empty(), below);
            set
        };
        let cut = |set: Set| remove(container(), &live, &set);
        assert_eq!(cut(at("env", item("b", Set::default())))["env"], json!([{"name": "a", "value": "1"}]));
        assert_eq!(cut(at("env", item("a", Set::of_fields(&["value"]))))["env"], json!([{"name": "a"}, {"name": "b"}]));
        assert_eq!(cut(Set::of_fields(&["resources.limits.cpu"]))["resources"], json!({"limits": null}));
        assert_eq!(cut(fields(container(), &live)), json!({"env": null, "resources": {"limits": null}}));
        assert_eq!(cut(named(container(), &fields(container(), &live))), Value::Null);
    }

    fn configs() -> impl Strategy<Value = Value> {
        let env = prop::collection::btree_map("[a-e]", "[0-9]", 0..5)
            .prop_map(|m| m.into_iter().map(|(n, v)| json!({"name": n, "value": v})).collect::<Vec<_>>())
            .prop_shuffle();
        let limits = prop::collection::btree_map("[a-c]", "[0-9]", 1..3);
        (env, prop::option::of("[xy]"), prop::option::of(limits)).prop_map(|(env, image, limits)| {
            let mut out = json!({"name": "c"});
            if !env.is_empty() {
                out["env"] = env.into();
            }
            if let Some(image) = image {
                out["image"] = image.into();
            }
            if let Some(limits) = limits {
                out["resources"] = json!({"limits": limits});
            }
            out
        })
    }

    proptest! {
        #[test]
        fn merging_is_idempotent_and_keeps_every_key_once(live in configs(), config in configs()) {
            let once = merge(container(), &live, &config);
            prop_assert_eq!(merge(container(), &once, &config), once.clone());
            prop_assert_eq!(merge(container(), &live, &live), live.clone());
            let all = fields(container(), &live).union(&fields(container(), &config));
            prop_assert_eq!(fields(container(), &once), all);
        }
    }
}
