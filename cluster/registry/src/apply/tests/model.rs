//! Applies and updates by several, against the plainest model of them: each leaf of an object has a value, and each who wrote has the leaves
//! that are theirs.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

type Leaves = BTreeMap<String, Value>;

/// What an object holds, as field sets name it; of a list's item also that it is there.
fn leaves(object: &Value) -> Leaves {
    fn walk(field: &str, at: &str, value: &Value, out: &mut Leaves) {
        match (field, value) {
            (_, Value::Null) => {}
            ("args" | "tolerations" | "nodeSelector", _) => {
                out.insert(at.to_owned(), value.clone());
            }
            ("containers" | "env", Value::Array(items)) => {
                for item in items {
                    let at = format!("{at}[name={}]", item["name"]);
                    out.insert(at.clone(), Value::Null);
                    walk("", &at, item, out);
                }
            }
            ("finalizers", Value::Array(items)) => {
                out.extend(items.iter().map(|item| (format!("{at}[={item}]"), Value::Null)));
            }
            (_, Value::Object(members)) => {
                members.iter().for_each(|(name, value)| walk(name, &format!("{at}.{name}"), value, out));
            }
            _ => {
                out.insert(at.to_owned(), value.clone());
            }
        }
    }
    let mut out = Leaves::new();
    walk("", "", object, &mut out);
    out.retain(|path, _| ![".apiVersion", ".kind", ".metadata.name"].contains(&path.as_str()));
    out
}

/// A manager, and whether it applies.
type Who = (usize, bool);

#[derive(Default)]
struct Model {
    values: Leaves,
    owners: BTreeMap<Who, BTreeSet<String>>,
}

impl Model {
    fn owned_by_others(&self, who: Who, path: &str) -> bool {
        self.owners.iter().any(|(other, set)| *other != who && set.contains(path))
    }

    /// A list's item goes with all that it holds.
    fn remove(&mut self, path: &str) {
        let inside =
            |other: &str| other.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
        self.values.retain(|other, _| !inside(other));
        self.owners.values_mut().for_each(|set| set.retain(|other| !inside(other)));
    }

    fn apply(&mut self, manager: usize, config: &Leaves, force: bool) -> Result<(), BTreeSet<String>> {
        let who = (manager, true);
        let differs = |path: &String, value: &Value| self.values.get(path).is_some_and(|old| old != value);
        let taken = config.iter().filter(|(path, value)| differs(path, value) && self.owned_by_others(who, path));
        let taken: BTreeSet<String> = taken.map(|(path, _)| path.clone()).collect();
        if !taken.is_empty() && !force {
            return Err(taken);
        }
        self.owners.values_mut().for_each(|set| set.retain(|path| !taken.contains(path)));
        let last = self.owners.remove(&who).unwrap_or_default();
        for path in last.iter().filter(|path| !config.contains_key(*path)) {
            if !self.owned_by_others(who, path) {
                self.remove(path);
            }
        }
        self.values.extend(config.clone());
        self.owners.insert(who, config.keys().cloned().collect());
        Ok(())
    }

    fn update(&mut self, manager: usize, new: &Leaves) {
        let written: BTreeSet<String> =
            new.iter().filter(|(path, value)| self.values.get(*path) != Some(value)).map(|(p, _)| p.clone()).collect();
        for set in self.owners.values_mut() {
            set.retain(|path| new.contains_key(path) && !written.contains(path));
        }
        self.owners.entry((manager, false)).or_default().extend(written);
        self.values = new.clone();
    }
}

/// A deployment, or as much of one as someone may care for: with lists that merge by key, sets, and what is whole.
fn deployments() -> impl Strategy<Value = Value> {
    let value = || prop::sample::select(vec!["x", "y"]);
    let env = prop::collection::btree_map("[EF]", value(), 0..3);
    let container = (prop::option::of(value()), env, prop::option::of(prop::collection::vec(value(), 1..3)));
    let containers = prop::collection::btree_map("[cd]", container, 0..3);
    let finalizers = prop::collection::btree_set("[pq]", 0..3);
    let labels = prop::collection::btree_map("[ab]", value(), 0..3);
    let rest = (prop::option::of(1..3), prop::option::of(value()), prop::option::of(value()));
    (containers, finalizers, labels, rest).prop_map(
        |(containers, finalizers, labels, (replicas, selector, toleration))| {
            let containers = containers.into_iter().map(|(name, (image, env, args))| {
                let env: Vec<Value> =
                    env.into_iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
                let env = if env.is_empty() { Value::Null } else { env.into() };
                json!({"name": name, "image": image, "env": env, "args": args})
            });
            let tolerations = toleration.map(|key| json!([{"key": key}]));
            let selector = selector.map(|value| json!({"disk": value}));
            let pod = json!({"containers": containers.collect::<Vec<_>>(), "tolerations": tolerations, "nodeSelector": selector});
            without_empty(json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "d", "labels": labels, "finalizers": finalizers},
            "spec": {"replicas": replicas, "template": {"spec": pod}}}))
        },
    )
}

/// As `tidy`, and without empty lists.
fn without_empty(value: Value) -> Value {
    let empty =
        |v: &Value| v.is_null() || v.as_object().is_some_and(Map::is_empty) || v.as_array().is_some_and(Vec::is_empty);
    match value {
        Value::Object(map) => {
            map.into_iter().map(|(name, value)| (name, without_empty(value))).filter(|(_, v)| !empty(v)).collect()
        }
        Value::Array(items) => items.into_iter().map(without_empty).collect(),
        other => other,
    }
}

#[derive(Clone, Debug)]
enum Write {
    Apply { force: bool },
    Update,
}

fn writes() -> impl Strategy<Value = Vec<(usize, Write, Value)>> {
    let write = prop_oneof![3 => any::<bool>().prop_map(|force| Write::Apply { force }), 1 => Just(Write::Update)];
    prop::collection::vec((0usize..3, write, deployments()), 1..8)
}

fn named(manager: usize) -> String {
    format!("m{manager}")
}

/// Of what is there, what an entry owns.
fn owned_leaves(entries: &[Entry], who: Who, there: &Leaves) -> BTreeSet<String> {
    let mine = entries.iter().filter(|e| (e.manager.name == named(who.0)) && e.manager.applies == who.1);
    mine.flat_map(|e| e.set().paths()).filter(|path| there.contains_key(path)).collect()
}

proptest! {
    /// Conflicts are where a field of another gets another value, and nowhere else; what is owned, stays and goes is as the model has it.
    #[test]
    fn whoever_writes_the_model_knows_what_becomes_of_it(writes in writes()) {
        let (mut model, mut entries, mut live) = (Model::default(), Vec::new(), json!({}));
        for (manager, write, config) in writes {
            let wanted = leaves(&config);
            match write {
                Write::Apply { force } => {
                    let mut after = entries.clone();
                    let applied = apply_as(deployment(), &named(manager), &live, &mut after, &config, force);
                    match (applied, model.apply(manager, &wanted, force)) {
                        (Ok(object), Ok(())) => (live, entries) = (without_empty(object), after),
                        (Err(found), meant) => {
                            // Who made a map or a list by an update owns it as such, and still does when it is gone and another
                            // brings it back: the model knows leaves only.
                            let (leaves, parents): (BTreeSet<_>, BTreeSet<_>) = found.into_iter().partition(|path| wanted.contains_key(path));
                            match meant {
                                Err(meant) => prop_assert_eq!(leaves, meant),
                                Ok(()) => {
                                    prop_assert!(leaves.is_empty() && !parents.is_empty(), "{:?}", leaves);
                                    return Ok(());
                                }
                            }
                        }
                        (Ok(object), Err(meant)) => prop_assert!(false, "{:?} is taken from others in {}", meant, object),
                    }
                }
                Write::Update => {
                    update_as(deployment(), &named(manager), &live, &mut entries, &config);
                    model.update(manager, &wanted);
                    live = config;
                }
            }
            prop_assert_eq!(&leaves(&live), &model.values);
            for (who, meant) in &model.owners {
                prop_assert_eq!(&owned_leaves(&entries, *who, &model.values), meant, "{:?}", who);
            }
            // What is kept of it is what comes back.
            let kept = managed::encode(entries.clone()).unwrap_or_default();
            let read = managed::decode(kept.clone()).unwrap();
            prop_assert_eq!(managed::encode(read).unwrap_or_default(), kept);
        }
    }

    /// Two who do not contradict each other get the same, whoever comes first.
    #[test]
    fn appliers_commute(a in deployments(), b in deployments()) {
        let both = |first: (&str, &Value), second: (&str, &Value)| {
            let mut entries = Vec::new();
            let live = apply_as(deployment(), first.0, &json!({}), &mut entries, first.1, false).unwrap();
            let live = apply_as(deployment(), second.0, &live, &mut entries, second.1, false)?;
            Ok::<_, Vec<String>>((leaves(&live), owned(&entries, "one"), owned(&entries, "two")))
        };
        match (both(("one", &a), ("two", &b)), both(("two", &b), ("one", &a))) {
            (Err(x), Err(y)) => prop_assert_eq!(x, y),
            (x, y) => prop_assert_eq!(x, y),
        }
    }

    /// Applying what is there already changes nothing, and gives its applier a share of it.
    #[test]
    fn what_is_there_can_be_applied_by_anyone(config in deployments()) {
        let mut entries = Vec::new();
        let live = apply_as(deployment(), "one", &json!({}), &mut entries, &config, false).unwrap();
        let again = apply_as(deployment(), "two", &live, &mut entries, &config, false).unwrap();
        prop_assert_eq!(&again, &live);
        prop_assert_eq!(owned(&entries, "one"), owned(&entries, "two"));
        let left = apply_as(deployment(), "one", &live, &mut entries, &json!({"metadata": {"name": "d"}}), false).unwrap();
        prop_assert_eq!(left, live);
    }
}
