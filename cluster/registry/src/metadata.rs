//! The rules of `metadata`: what is checked on every object of every kind, and what only the server may set.

use std::collections::{BTreeSet, HashSet};

use jiff::Timestamp;
use kedge_api::{Resource, selector};
use serde_json::Value;

use crate::errors::{Errors, Path, ordered};
use crate::names;
use crate::strategy::Strategy;
use crate::value::{Fill as _, Look as _};

/// All annotations together.
const ANNOTATION_BYTES: usize = 256 << 10;

/// What a client may not choose on a new object.
pub(crate) fn prepare_create(object: &mut Value, strategy: &Strategy, now: Timestamp) {
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion"] {
        object.cut(&format!("metadata.{field}"));
    }
    object.set("metadata.uid", uuid::Uuid::new_v4().to_string());
    object.set("metadata.creationTimestamp", stamp(now));
    if strategy.generation {
        object.set("metadata.generation", 1);
    }
    if object.text("metadata.name").is_empty() && !object.text("metadata.generateName").is_empty() {
        let name = names::generate(object.text("metadata.generateName"));
        object.set("metadata.name", name);
    }
    unique_owners(object);
}

/// What an update cannot change, whatever it says. A subresource that counts the generation itself `keeps_generation`.
pub(crate) fn prepare_update(new: &mut Value, old: &Value, keeps_generation: bool) {
    for field in ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"] {
        if field == "generation" && keeps_generation {
            continue;
        }
        let path = format!("metadata.{field}");
        match old.look(&path) {
            Value::Null => {
                new.cut(&path);
            }
            value => new.set(&path, value.clone()),
        }
    }
    new.cut("metadata.selfLink");
    // As upstream: the name that generated it once is kept by clients, not by the server.
    unique_owners(new);
}

/// Later duplicates of an owner are dropped; `duplicate_owners` warned of them.
fn unique_owners(object: &mut Value) {
    if let Some(Value::Array(owners)) = object.find_mut("metadata.ownerReferences") {
        let mut seen: Vec<Value> = Vec::new();
        owners.retain(|owner| {
            let new = !seen.contains(owner);
            if new {
                seen.push(owner.clone());
            }
            new
        });
    }
}

/// The warning for duplicate owners, if there are any.
pub(crate) fn duplicate_owners(object: &Value) -> Option<String> {
    let mut seen = HashSet::new();
    let twice: Vec<_> = object
        .items("metadata.ownerReferences")
        .iter()
        .map(|o| o.text("uid"))
        .filter(|uid| !seen.insert(*uid))
        .collect();
    let uids = twice.join(", ");
    (!twice.is_empty()).then(|| {
        format!(
            ".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and may reject such \
             requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {uids}"
        )
    })
}

pub(crate) fn stamp(now: Timestamp) -> String {
    format!("{now:.0}")
}

pub(crate) fn validate(object: &Value, resource: &Resource, strategy: &Strategy, errors: &mut Errors) {
    let meta = Path::root("metadata");
    let generate = object.text("metadata.generateName");
    if !generate.is_empty() {
        // A prefix may end as a whole name may not.
        let as_whole = format!("{}a", generate.trim_end_matches('-'));
        errors.all_invalid(&meta.child("generateName"), generate, (strategy.name)(&as_whole));
    }
    let name = object.text("metadata.name");
    if name.is_empty() {
        errors.required(&meta.child("name"), "name or generateName is required");
    } else {
        errors.all_invalid(&meta.child("name"), name, (strategy.name)(name));
    }
    let namespace = object.text("metadata.namespace");
    if resource.namespaced {
        if namespace.is_empty() {
            errors.required(&meta.child("namespace"), "");
        } else {
            errors.all_invalid(&meta.child("namespace"), namespace, names::label(namespace));
        }
    } else if !namespace.is_empty() {
        errors.forbidden(&meta.child("namespace"), "not allowed on this type");
    }
    body(object, errors);
    finalizers(object.look("metadata.finalizers"), &meta.child("finalizers"), errors);
    own_finalizers(object, resource, errors);
}

/// What is looked at whenever metadata is.
fn body(object: &Value, errors: &mut Errors) {
    let meta = Path::root("metadata");
    labels(object.look("metadata.labels"), &meta.child("labels"), errors);
    annotations(object.look("metadata.annotations"), &meta.child("annotations"), errors);
    owners(object.look("metadata.ownerReferences"), &meta.child("ownerReferences"), errors);
}

fn own_finalizers(object: &Value, resource: &Resource, errors: &mut Errors) {
    if resource.custom.is_some() || GENERIC.contains(&resource.id.group.as_str()) {
        return;
    }
    let list = Path::root("metadata.finalizers");
    for (at, name) in names_of(object.look("metadata.finalizers")).enumerate().filter(|(_, name)| is_foreign(name)) {
        let why = "name is neither a standard finalizer name nor is it fully qualified";
        errors.invalid(&list.index(at), name, why);
    }
}

/// Groups whose metadata passes the rules of every API alone, not those of Kubernetes' own kinds beside.
const GENERIC: &[&str] =
    &["admissionregistration.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io", "coordination.k8s.io"];

/// One without a domain should be one of Kubernetes' own.
pub(crate) fn is_foreign(finalizer: &str) -> bool {
    !finalizer.contains('/') && !["orphan", "foregroundDeletion", "kubernetes"].contains(&finalizer)
}

/// What custom resources are warned of, whose finalizers may be called as they like.
pub(crate) fn finalizer_warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let had: HashSet<_> = old.into_iter().flat_map(|old| names_of(old.look("metadata.finalizers"))).collect();
    let added: BTreeSet<_> =
        names_of(new.look("metadata.finalizers")).filter(|name| is_foreign(name) && !had.contains(name)).collect();
    let told = |name: &str| {
        let path = if name.contains('.') { " including a path (/)" } else { "" };
        format!(
            "metadata.finalizers: {name:?}: prefer a domain-qualified finalizer name{path} to avoid accidental conflicts with other \
             finalizer writers"
        )
    };
    added.into_iter().map(told).collect()
}

fn names_of(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// A changed object's metadata: the store holds it against the rules that all share, whole and as a change; then the kind's own rules do,
/// to which its status is no more than a change.
pub(crate) fn validate_update(
    new: &Value,
    old: &Value,
    resource: &Resource,
    strategy: &Strategy,
    only_status: bool,
    errors: &mut Errors,
) {
    body(new, errors);
    finalizers(new.look("metadata.finalizers"), &Path::root("metadata.finalizers"), errors);
    change(new, old, errors);
    let (changes, wholes) = if only_status { (1, 0) } else { strategy.metadata_checks };
    for _ in 0..changes {
        change(new, old, errors);
        own_finalizers(new, resource, errors);
    }
    for _ in 0..wholes {
        validate(new, resource, strategy, errors);
    }
}

fn change(new: &Value, old: &Value, errors: &mut Errors) {
    let meta = Path::root("metadata");
    if old.has("metadata.deletionTimestamp") {
        let had: HashSet<_> = names_of(old.look("metadata.finalizers")).collect();
        let added = names_of(new.look("metadata.finalizers")).filter(|name| !had.contains(name));
        let added: Vec<_> = added.map(crate::errors::quote).collect();
        if !added.is_empty() {
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                added.join(", ")
            );
            errors.forbidden(&meta.child("finalizers"), &detail);
        }
    }
    for field in ["name", "namespace"] {
        let path = format!("metadata.{field}");
        if new.text(&path) != old.text(&path) {
            errors.invalid(&meta.child(field), new.text(&path), "field is immutable");
        }
    }
    body(new, errors);
}

/// Said by the store's rules, and as often as the kind's look at what changed.
pub(crate) fn immutable(field: &str, value: &str, strategy: &Strategy, errors: &mut Errors) {
    let meta = Path::root("metadata");
    for _ in 0..=strategy.metadata_checks.0 {
        errors.invalid(&meta.child(field), value, "field is immutable");
    }
}

pub(crate) fn labels(labels: &Value, path: &Path<'_>, errors: &mut Errors) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        errors.all_invalid(path, key, names::qualified(key));
        let value = value.as_str().unwrap_or_default();
        errors.all_invalid(path, value, selector::label_value_error(value));
    }
}

pub(crate) fn annotations(annotations: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mut bytes = 0;
    for (key, value) in annotations.as_object().into_iter().flatten() {
        errors.all_invalid(path, key, names::qualified(&key.to_lowercase()));
        bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    if bytes > ANNOTATION_BYTES {
        errors.too_long(path, ANNOTATION_BYTES);
    }
}

const OWNER: &[&str] = &["apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion"];

fn owners(owners: &Value, path: &Path<'_>, errors: &mut Errors) {
    let list = owners.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut controller: Option<&Value> = None;
    for owner in list {
        let (group, version) = match owner.text("apiVersion").split_once('/') {
            Some((group, version)) => (group, version),
            None => ("", owner.text("apiVersion")),
        };
        if version.is_empty() {
            errors.invalid(&path.child("apiVersion"), owner.text("apiVersion"), "version must not be empty");
        }
        for field in ["kind", "name", "uid"] {
            if owner.text(field).is_empty() {
                errors.invalid(&path.child(field), "", "must not be empty");
            }
        }
        if (group, version, owner.text("kind")) == ("", "v1", "Event") {
            let detail = format!("{group}/{version}, Kind=Event is disallowed from being an owner");
            errors.invalid_json(path, &ordered(owner, OWNER), &detail);
        }
        if owner.flag("controller") {
            if let Some(first) = controller {
                let detail = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {}/{} and {}/{}",
                    first.text("kind"),
                    first.text("name"),
                    owner.text("kind"),
                    owner.text("name")
                );
                let shown: Vec<_> = list.iter().map(|o| ordered(o, OWNER)).collect();
                errors.invalid_json(path, &format!("[{}]", shown.join(",")), &detail);
            } else {
                controller = Some(owner);
            }
        }
    }
}

fn finalizers(finalizers: &Value, path: &Path<'_>, errors: &mut Errors) {
    let names: Vec<_> = names_of(finalizers).collect();
    for name in &names {
        errors.all_invalid(path, name, names::qualified(name));
    }
    if names.contains(&"orphan") && names.contains(&"foregroundDeletion") {
        errors.invalid(path, finalizers.clone(), "finalizer orphan and foregroundDeletion cannot be both set");
    }
}
