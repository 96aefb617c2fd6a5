//! The laws of applying, over whole objects.

mod model;

use proptest::prelude::*;
use serde_json::json;

use super::managed::Entry;
use super::update::{applied, updated};
use super::*;

fn map() -> Place<'static> {
    place::of_type("io.k8s.api.core.v1.ConfigMap")
}

fn deployment() -> Place<'static> {
    place::of_type("io.k8s.api.apps.v1.Deployment")
}

/// Applies as `name`; the object after, or the conflicting fields.
fn apply_as(
    root: Place<'_>,
    name: &str,
    live: &Value,
    entries: &mut Vec<Entry>,
    config: &Value,
    force: bool,
) -> Result<Value, Vec<String>> {
    let manager = Manager { name: name.into(), applies: true, api_version: "v1".into(), subresource: String::new() };
    let ignored = Set::default();
    let terms = Terms { root, manager: &manager, ignored: &ignored, convert: &|_, _| Ok(None) };
    match applied(&terms, live, config, entries, force).unwrap() {
        Applied::Same => Ok(live.clone()),
        Applied::Changed(object) => Ok(object),
        Applied::Conflicts(conflicts) => Err(conflicts.iter().flat_map(|c| c.fields.paths()).collect()),
    }
}

fn update_as(root: Place<'_>, name: &str, old: &Value, entries: &mut Vec<Entry>, new: &Value) {
    let manager = Manager { name: name.into(), applies: false, api_version: "v1".into(), subresource: String::new() };
    let ignored = Set::default();
    let terms = Terms { root, manager: &manager, ignored: &ignored, convert: &|_, _| Ok(None) };
    updated(&terms, old, new, entries, "2026-01-01T00:00:00Z").unwrap();
}

fn owned(entries: &[Entry], name: &str) -> Vec<String> {
    entries.iter().filter(|e| e.manager.name == name).flat_map(|e| e.set().paths()).collect()
}

#[test]
fn ownership_moves_by_force_and_by_update_only() {
    let mut entries = Vec::new();
    let config = json!({"data": {"k": "v", "l": "1"}});
    let live = apply_as(map(), "a", &json!({}), &mut entries, &config, false).unwrap();
    let other = json!({"data": {"k": "w"}});
    assert_eq!(apply_as(map(), "b", &live, &mut entries.clone(), &other, false), Err(vec![".data.k".to_owned()]));
    let live = apply_as(map(), "b", &live, &mut entries, &other, true).unwrap();
    assert_eq!((owned(&entries, "a"), owned(&entries, "b")), (vec![".data.l".into()], vec![".data.k".into()]));
    let mut new = live.clone();
    new["data"]["l"] = json!("2");
    update_as(map(), "u", &live, &mut entries, &new);
    assert_eq!((owned(&entries, "a"), owned(&entries, "u")), (vec![], vec![".data.l".into()]));
}

#[test]
fn an_item_that_two_own_stays_until_the_last_lets_go() {
    let config = |containers: Value| json!({"spec": {"template": {"spec": {"containers": containers}}}});
    let names = |live: &Value| -> Vec<String> {
        let items = live.pointer("/spec/template/spec/containers").and_then(Value::as_array).cloned();
        items.unwrap_or_default().iter().map(|c| c["name"].as_str().unwrap().to_owned()).collect()
    };
    let mut entries = Vec::new();
    let both = config(json!([{"name": "a", "image": "x"}, {"name": "b", "image": "y"}]));
    let live = apply_as(deployment(), "one", &json!({}), &mut entries, &both, false).unwrap();
    let live = apply_as(deployment(), "two", &live, &mut entries, &config(json!([{"name": "b"}])), false).unwrap();
    let live = apply_as(deployment(), "one", &live, &mut entries, &config(json!([{"name": "a"}])), false).unwrap();
    assert_eq!(live, config(json!([{"name": "a"}, {"name": "b"}])), "the images were its own");
    let live = apply_as(deployment(), "two", &live, &mut entries, &json!({}), false).unwrap();
    assert_eq!(names(&live), ["a"]);
}

#[test]
fn conflicts_are_told_as_upstream_tells_them() {
    let manager = |name: &str, applies, subresource: &str| Manager {
        name: name.into(),
        applies,
        api_version: "v1".into(),
        subresource: subresource.into(),
    };
    let conflict = |manager, fields| Conflict { manager, fields: Set::of_fields(fields) };
    let one = conflicted(&[conflict(manager("m", false, "scale"), &["spec.replicas"])]);
    assert_eq!(
        one.message,
        "Apply failed with 1 conflict: conflict with \"m\" with subresource \"scale\" using v1: .spec.replicas"
    );
    let many = conflicted(&[
        conflict(manager("z", true, ""), &["data.a", "data.b"]),
        conflict(manager("m", true, ""), &["data.c"]),
    ]);
    assert_eq!(
        many.message,
        "Apply failed with 3 conflicts: conflicts with \"m\":\n- .data.c\nconflicts with \"z\":\n- .data.a\n- .data.b"
    );
    assert_eq!(many.details.unwrap().causes.len(), 3);
}

#[test]
fn what_has_no_type_merges_member_by_member() {
    let mut entries = Vec::new();
    let config = json!({"metadata": {"name": "x", "finalizers": ["a"]}, "spec": {"a": {"b": 1, "l": [1]}}});
    let live = apply_as(place::of_type("none"), "one", &json!({}), &mut entries, &config, false).unwrap();
    assert_eq!(owned(&entries, "one"), [".metadata.finalizers[=\"a\"]", ".spec.a", ".spec.a.b", ".spec.a.l"]);
    let config = json!({"metadata": {"finalizers": ["b"]}, "spec": {"a": {"c": 2}}});
    let live = apply_as(place::of_type("none"), "two", &live, &mut entries, &config, false).unwrap();
    assert_eq!(live["spec"], json!({"a": {"b": 1, "c": 2, "l": [1]}}));
    assert_eq!(live["metadata"]["finalizers"], json!(["a", "b"]));
    let clash = json!({"spec": {"a": {"l": [2], "b": {"now": "an object"}}}});
    let refused = apply_as(place::of_type("none"), "two", &live, &mut entries.clone(), &clash, false);
    assert_eq!(refused, Err(vec![".spec.a.b".to_owned(), ".spec.a.l".to_owned()]));
    let live = apply_as(place::of_type("none"), "one", &live, &mut entries, &json!({}), false).unwrap();
    assert_eq!(live, json!({"metadata": {"name": "x", "finalizers": ["b"]}, "spec": {"a": {"c": 2}}}));
}

#[test]
fn kubectl_takes_over_what_it_noted_itself() {
    let note = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"k": "v", "l": "old"}}).to_string();
    let live = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"k": "v", "l": "new"},
        "metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": note}}});
    let allowed = last_applied::allowed(map(), &live, "v1").unwrap();
    assert_eq!(allowed.paths(), [".apiVersion", ".kind", ".data.k"]);
    assert_eq!(last_applied::allowed(map(), &live, "v2"), None);
    let mut object = live.clone();
    last_applied::renew(&mut object, &json!({"kind": "ConfigMap"}));
    let written = &object["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"];
    assert_eq!(written, "{\"kind\":\"ConfigMap\"}\n");
    let mut plain = json!({"metadata": {}});
    last_applied::renew(&mut plain, &json!({}));
    assert_eq!(plain, json!({"metadata": {}}));
}

fn configs() -> impl Strategy<Value = Value> {
    let data = prop::collection::btree_map("[a-d]", "[xy]", 1..4);
    let finalizers = prop::collection::btree_set("[pqr]", 1..3).prop_map(|s| s.into_iter().collect::<Vec<_>>());
    let labels = prop::collection::btree_map("[m-o]", "[xy]", 1..3);
    (prop::option::of(data), prop::option::of(finalizers), prop::option::of(labels)).prop_map(
        |(data, finalizers, labels)| {
            let mut out = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
            for (at, value) in [("/data", data.map(|v| json!(v))), ("/binaryData", None)] {
                if let (Some(value), Some(map)) = (value, out.as_object_mut()) {
                    map.insert(at.trim_start_matches('/').into(), value);
                }
            }
            for (name, value) in [("finalizers", finalizers.map(|v| json!(v))), ("labels", labels.map(|v| json!(v)))] {
                if let Some(value) = value {
                    out["metadata"][name] = value;
                }
            }
            out
        },
    )
}

/// Without nulls and empty objects and lists, which no object keeps.
fn tidy(value: Value) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .map(|(name, value)| (name, tidy(value)))
            .filter(|(_, v)| !v.is_null() && v.as_object().is_none_or(|m| !m.is_empty()))
            .collect(),
        other => other,
    }
}

proptest! {
    #[test]
    fn applying_twice_is_applying_once(first in configs(), config in configs()) {
        let mut entries = Vec::new();
        let live = apply_as(map(), "other", &json!({}), &mut entries, &first, false).unwrap();
        let once = apply_as(map(), "me", &live, &mut entries, &config, true).unwrap();
        let owners = (owned(&entries, "me"), owned(&entries, "other"));
        let twice = apply_as(map(), "me", &once, &mut entries, &config, false).unwrap();
        prop_assert_eq!(twice, once);
        prop_assert_eq!((owned(&entries, "me"), owned(&entries, "other")), owners);
    }

    /// What only I own and no longer apply is gone; all that others own stays.
    #[test]
    fn a_single_owner_has_exactly_what_it_applies(first in configs(), then in configs(), other in configs()) {
        let mut entries = Vec::new();
        let live = apply_as(map(), "me", &json!({}), &mut entries, &first, false).unwrap();
        let live = tidy(apply_as(map(), "me", &live, &mut entries, &then, false).unwrap());
        prop_assert_eq!(&live, &then);
        let with = apply_as(map(), "other", &live, &mut entries, &other, true).unwrap();
        let alone = tidy(apply_as(map(), "me", &with, &mut entries, &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}), false).unwrap());
        prop_assert_eq!(alone, other);
    }

    /// Whoever writes owns what it wrote, no one owns what is not there, and no field has a new value under an old owner.
    #[test]
    fn every_field_written_has_its_writer(old in configs(), new in configs()) {
        let mut entries = Vec::new();
        update_as(map(), "one", &json!({}), &mut entries, &old);
        update_as(map(), "two", &old, &mut entries, &new);
        let has = compare::fields(map(), &new);
        let diff = compare::compare(map(), &old, &new);
        for entry in &entries {
            let leaves = entry.set().intersection(&compare::fields(map(), &old));
            prop_assert!(leaves.difference(&has).is_empty());
            if entry.manager.name == "one" {
                prop_assert!(entry.set().intersection(&diff.written()).is_empty());
            }
        }
        let two = entries.iter().find(|e| e.manager.name == "two").map(|e| e.set()).unwrap_or_default();
        prop_assert_eq!(two, diff.written().difference(unowned()));
    }

    #[test]
    fn an_update_back_and_forth_ends_where_it_began(old in configs(), new in configs()) {
        let mut entries = Vec::new();
        update_as(map(), "one", &json!({}), &mut entries, &old);
        let before = owned(&entries, "one");
        update_as(map(), "one", &old, &mut entries, &new);
        update_as(map(), "one", &new, &mut entries, &old);
        let after = owned(&entries, "one");
        // An emptied map stays owned as such.
        prop_assert!(before.iter().all(|path| after.contains(path)));
    }
}
