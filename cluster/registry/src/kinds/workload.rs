//! What the workloads share: a selector, and a template of pods.

use kedge_api::selector::Selector;
use serde_json::{Value, json};

use super::pod::{affinity, default, spec, warnings as pod_warnings};
use crate::errors::{Errors, Path};
use crate::value::{Fill as _, Look as _};

/// Defaults of `spec.template`.
pub(crate) fn default_template(object: &mut Value) {
    if !object.look("spec").is_object() {
        object.set("spec", json!({}));
    }
    object.fill("spec.template.metadata", json!({}));
    default::spec(object.slot("spec.template.spec"));
}

/// The selector: there, not empty, well formed.
pub(crate) fn selector(object: &Value, empty: &str, errors: &mut Errors) {
    let path = Path::root("spec.selector");
    let selector = object.look("spec.selector");
    if selector.is_null() {
        errors.required(&path, "");
        return;
    }
    affinity::label_selector(selector, &path, errors);
    if selector.entries("matchLabels").count() + selector.items("matchExpressions").len() == 0 {
        errors.invalid(&path, selector.clone(), empty);
    }
}

/// Times that upstream's types always write, of each element of a list.
pub(crate) fn null_times(object: &mut Value, list: &str, fields: &[&str]) {
    for item in object.items_mut(list) {
        for field in fields {
            item.fill(field, Value::Null);
        }
    }
}

/// Whether the selector is one that objects can be chosen by.
fn parse(selector: &Value) -> Option<Selector> {
    let typed = serde_json::from_value(selector.clone()).ok()?;
    Selector::from_label_selector(Some(&typed)).ok()
}

/// The template: chosen by the selector, and a pod that may be made.
pub(crate) fn template(object: &Value, restarts: &[&str], errors: &mut Errors) {
    let template = object.look("spec.template");
    let path = Path::root("spec.template");
    let labels = template.look("metadata.labels");
    let chosen = match parse(object.look("spec.selector")) {
        Some(_) if object.look("spec.selector").is_null() => false,
        Some(selector) => {
            let map = labels.as_object().into_iter().flatten();
            let map: std::collections::BTreeMap<String, String> =
                map.map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().to_owned())).collect();
            selector.matches(&map)
        }
        None if object.look("spec.selector").is_null() => false,
        None => {
            let selector = object.look("spec.selector");
            errors.invalid(&Path::root("spec.selector"), selector.clone(), "invalid label selector");
            true
        }
    };
    let meta = path.child("metadata");
    if !chosen {
        errors.invalid(&meta.child("labels"), labels.clone(), "`selector` does not match template `labels`");
    }
    pod_template(template, &path, errors);
    let policy = template.text("spec.restartPolicy");
    let inner = path.child("spec");
    if !restarts.is_empty() && !restarts.contains(&policy) {
        errors.not_supported(&inner.child("restartPolicy"), policy, restarts);
    }
    if restarts == ["Always"] && object.text("kind") != "DaemonSet" && template.has("spec.activeDeadlineSeconds") {
        // Also a deployment's pods are made by a replica set.
        let why = "activeDeadlineSeconds in ReplicaSet is not Supported";
        errors.forbidden(&inner.child("activeDeadlineSeconds"), why);
    }
}

pub(crate) fn pod_template(template: &Value, path: &Path<'_>, errors: &mut Errors) {
    let meta = path.child("metadata");
    crate::metadata::labels(template.look("metadata.labels"), &meta.child("labels"), errors);
    crate::metadata::annotations(template.look("metadata.annotations"), &meta.child("annotations"), errors);
    spec::validate(template.look("spec"), &path.child("spec"), spec::In::Template, errors);
}

pub(crate) fn warnings(new: &Value, _: Option<&Value>) -> Vec<String> {
    pod_warnings::template(new.look("spec.template"))
}

/// Fields that must not be negative.
pub(crate) fn counts(object: &Value, fields: &[&str], errors: &mut Errors) {
    for field in fields {
        if let Some(number) = object.int(field).filter(|n| *n < 0) {
            errors.invalid(&Path::root(field), number, "must be greater than or equal to 0");
        }
    }
}

pub(crate) fn immutable(new: &Value, old: &Value, field: &str, errors: &mut Errors) {
    if new.look(field) != old.look(field) {
        errors.invalid(&Path::root(field), new.look(field).clone(), "field is immutable");
    }
}

/// A number, or a percentage of the whole.
pub(crate) fn int_or_percent(value: &Value, path: &Path<'_>, errors: &mut Errors) {
    match value {
        Value::String(text) => {
            let digits = text.strip_suffix('%').filter(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit()));
            if digits.is_none() {
                let why = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
                errors.invalid(path, text.as_str(), why);
            }
        }
        Value::Number(n) if n.as_i64().is_some_and(|n| n < 0) => {
            errors.invalid(path, value.clone(), "must be greater than or equal to 0");
        }
        _ => {}
    }
}

/// Zero, or zero percent.
pub(crate) fn is_zero(value: &Value) -> bool {
    match value {
        Value::String(text) => text.trim_end_matches('%').bytes().all(|b| b == b'0'),
        other => other.as_i64().unwrap_or(0) == 0,
    }
}

pub(crate) fn not_over_hundred(value: &Value, path: &Path<'_>, errors: &mut Errors) {
    let percent = value.as_str().and_then(|t| t.strip_suffix('%')).and_then(|d| d.parse::<u64>().ok());
    if percent.is_some_and(|p| p > 100) {
        errors.invalid(path, value.clone(), "must not be greater than 100%");
    }
}
