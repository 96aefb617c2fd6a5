//! What the workloads share: a selector, and a template of pods.

use kedge_api::selector::Selector;
use serde_json::{Value, json};

use super::pod::{affinity, annotations, default, spec, warnings as pod_warnings};
use crate::errors::{Errors, Path, ordered};
use crate::names;
use crate::value::{Fill as _, Look as _};

/// Defaults of `spec.template`.
pub(crate) fn default_template(object: &mut Value) {
    if !object.look("spec").is_object() {
        object.set("spec", json!({}));
    }
    default_pods(object.slot("spec.template"));
}

/// Defaults of a template of pods.
pub(crate) fn default_pods(template: &mut Value) {
    template.fill("metadata", json!({}));
    default::spec(template.slot("spec"));
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
        errors.invalid_json(&path, &shown(selector), empty);
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

/// A selector as upstream shows it.
pub(crate) fn shown(selector: &Value) -> String {
    let is_some = |part: &Value| {
        part.as_object().is_some_and(|map| !map.is_empty()) || part.as_array().is_some_and(|list| !list.is_empty())
    };
    let parts: Vec<&str> =
        ["matchLabels", "matchExpressions"].into_iter().filter(|part| is_some(selector.look(part))).collect();
    ordered(selector, &parts)
}

/// Whom a workload chooses, it chooses for ever.
pub(crate) fn same_selector(new: &Value, old: &Value, errors: &mut Errors) {
    let selector = new.look("spec.selector");
    if selector == old.look("spec.selector") {
        return;
    }
    let (path, why) = (Path::root("spec.selector"), "field is immutable");
    if selector.is_null() {
        errors.invalid(&path, Value::Null, why);
    } else {
        errors.invalid_json(&path, &shown(selector), why);
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
    if !chosen(object, "invalid label selector", errors) {
        return;
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

/// That the selector chooses the pods that the template makes; `unfit` says what is wrong with one that cannot choose at all: then the
/// answer is no, and the template is not looked at.
pub(crate) fn chosen(object: &Value, unfit: &str, errors: &mut Errors) -> bool {
    let labels = object.look("spec.template.metadata.labels");
    let path = Path::root("spec.template");
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
            errors.invalid_json(&Path::root("spec.selector"), &shown(selector), unfit);
            return false;
        }
    };
    let meta = path.child("metadata");
    if !chosen {
        errors.invalid(&meta.child("labels"), labels.clone(), "`selector` does not match template `labels`");
    }
    true
}

/// The same, said of no selector that cannot be read: what is wrong with it is told already.
pub(crate) fn chosen_if_read(object: &Value, errors: &mut Errors) {
    let selector = object.look("spec.selector");
    if selector.is_null() || parse(selector).is_some() {
        chosen(object, "", errors);
    }
}

pub(crate) fn pod_template(template: &Value, path: &Path<'_>, errors: &mut Errors) {
    template_metadata(template, path, errors);
    let spec = path.child("spec");
    spec::validate(template.look("spec"), &spec, spec::In::Template, errors);
    annotations::agree(template, &spec, errors);
    if !template.items("spec.ephemeralContainers").is_empty() {
        errors.forbidden(&spec.child("ephemeralContainers"), "ephemeral containers not allowed in pod template");
    }
}

pub(crate) fn template_metadata(template: &Value, path: &Path<'_>, errors: &mut Errors) {
    crate::metadata::labels(template.look("metadata.labels"), &path.child("labels"), errors);
    crate::metadata::annotations(template.look("metadata.annotations"), &path.child("annotations"), errors);
    annotations::validate(template, &path.child("annotations"), errors);
}

/// Of the template, if it is new or anything about it is.
pub(crate) fn warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    if old.is_some_and(|old| old.look("spec") == new.look("spec")) {
        return Vec::new();
    }
    warnings_at(new, "spec.template")
}

pub(crate) fn warnings_at(object: &Value, template: &str) -> Vec<String> {
    pod_warnings::template(object.look(template), template)
}

/// Of a workload whose name becomes a part of its pods' names.
pub(crate) fn warnings_of_named(new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut said = name_warning(new, old, "Pod names and hostnames");
    said.extend(warnings(new, old));
    said
}

/// A name that is no DNS label is allowed, but does not fit where it is used.
pub(crate) fn name_warning(new: &Value, old: Option<&Value>, used: &str) -> Vec<String> {
    let wrong = names::label(new.text("metadata.name"));
    if old.is_some() || wrong.is_empty() {
        return Vec::new();
    }
    vec![format!(
        "metadata.name: this is used in {used}, which can result in surprising behavior; a DNS label is recommended: [{}]",
        wrong.join(" ")
    )]
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
        // What is neither counts as nothing.
        Value::String(text) => text.strip_suffix('%').unwrap_or(text).parse::<i64>().unwrap_or(0) == 0,
        other => other.as_i64().unwrap_or(0) == 0,
    }
}

pub(crate) fn not_over_hundred(value: &Value, path: &Path<'_>, errors: &mut Errors) {
    let percent = value.as_str().and_then(|t| t.strip_suffix('%')).and_then(|d| d.parse::<u64>().ok());
    if percent.is_some_and(|p| p > 100) {
        errors.invalid(path, value.clone(), "must not be greater than 100%");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::cases;

    #[test]
    fn a_template_is_not_looked_at_if_nothing_can_choose_its_pods() {
        let set = json!({"metadata": {"name": "s"}, "spec": {"selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
        let shown = "{\"matchExpressions\":[{\"key\":\"a\",\"operator\":\"Near\"}]}";
        let broken = json!({"selector": {"matchExpressions": [{"key": "a", "operator": "Near"}]},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": []}}});
        let operator =
            "spec.selector.matchExpressions[0].operator: Invalid value: \"Near\": not a valid selector operator";
        cases::created(
            &crate::kinds::deployment::row(),
            &set,
            &[(
                "/spec",
                broken.clone(),
                &[operator, &format!("spec.selector: Invalid value: {shown}: invalid label selector")],
            )],
        );
        cases::created(
            &crate::kinds::stateful_set::row(),
            &set,
            &[("/spec", broken.clone(), &[operator, &format!("spec.selector: Invalid value: {shown}")])],
        );
        // Of these each node has one, however they are chosen.
        cases::created(
            &crate::kinds::daemon_set::row(),
            &set,
            &[("/spec", broken, &[operator, "spec.template.spec.containers: Required value"])],
        );
    }
}
