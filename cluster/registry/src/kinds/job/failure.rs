//! What the failure of a pod means for its job.

use serde_json::Value;

use crate::errors::{Errors, Path};
use crate::names;
use crate::value::Look as _;

const ACTIONS: &[&str] = &["Count", "FailIndex", "FailJob", "Ignore"];
const OPERATORS: &[&str] = &["In", "NotIn"];
const STATES: &[&str] = &["False", "True", "Unknown"];
const MOST_RULES: usize = 20;
const MOST_PATTERNS: usize = 20;
const MOST_CODES: usize = 255;

pub(super) fn policy(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let list = path.child("rules");
    let rules = spec.items("podFailurePolicy.rules");
    if rules.len() > MOST_RULES {
        errors.too_many(&list, rules.len(), MOST_RULES);
    }
    for (at, one) in rules.iter().enumerate() {
        rule(one, spec, &list.index(at), errors);
    }
}

fn rule(rule: &Value, spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let action = rule.text("action");
    if action == "FailIndex" {
        if !spec.has("backoffLimitPerIndex") {
            errors.invalid(&path.child("action"), action, "requires the backoffLimitPerIndex to be set");
        }
    } else {
        one_of(rule, "action", ACTIONS, path, errors);
    }
    let codes = rule.look("onExitCodes");
    if codes.is_object() {
        on_codes(codes, spec, &path.child("onExitCodes"), errors);
    }
    let patterns = rule.items("onPodConditions");
    on_conditions(patterns, &path.child("onPodConditions"), errors);
    match (codes.is_object(), !patterns.is_empty()) {
        (true, true) => {
            errors.invalid_unshown(path, "specifying both OnExitCodes and OnPodConditions is not supported");
        }
        (false, false) => {
            errors.invalid_unshown(path, "specifying one of OnExitCodes and OnPodConditions is required");
        }
        _ => {}
    }
}

/// A word that must be there and be one of those known.
fn one_of(object: &Value, field: &str, known: &[&str], path: &Path<'_>, errors: &mut Errors) {
    let word = object.text(field);
    let path = path.child(field);
    if word.is_empty() {
        let known: Vec<String> = known.iter().map(|word| format!("{word:?}")).collect();
        errors.required(&path, &format!("valid values: [{}]", known.join(" ")));
    } else if !known.contains(&word) {
        errors.not_supported(&path, word, known);
    }
}

fn on_codes(codes: &Value, spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    one_of(codes, "operator", OPERATORS, path, errors);
    if let Some(name) = codes.look("containerName").as_str() {
        let containers = ["template.spec.containers", "template.spec.initContainers"];
        if !containers.iter().flat_map(|list| spec.items(list)).any(|container| container.text("name") == name) {
            let why = "must be one of the container or initContainer names in the pod template";
            errors.invalid(&path.child("containerName"), name, why);
        }
    }
    let list = path.child("values");
    let values = codes.items("values");
    if values.is_empty() {
        errors.invalid(&list, codes.look("values").clone(), "at least one value is required");
    } else if values.len() > MOST_CODES {
        errors.too_many(&list, values.len(), MOST_CODES);
    }
    let mut seen = std::collections::BTreeSet::new();
    for (at, value) in values.iter().enumerate() {
        let code = value.as_i64().unwrap_or(0);
        if codes.text("operator") == "In" && code == 0 {
            errors.invalid(&list.index(at), 0, "must not be 0 for the In operator");
        }
        if !seen.insert(code) {
            errors.duplicate(&list.index(at), code);
        }
    }
    if !values.is_sorted_by_key(|value| value.as_i64().unwrap_or(0)) {
        errors.invalid(&list, codes.look("values").clone(), "must be ordered");
    }
}

fn on_conditions(patterns: &[Value], list: &Path<'_>, errors: &mut Errors) {
    if patterns.len() > MOST_PATTERNS {
        errors.too_many(list, patterns.len(), MOST_PATTERNS);
    }
    for (at, pattern) in patterns.iter().enumerate() {
        let path = list.index(at);
        let kind = pattern.text("type");
        errors.all_invalid(&path.child("type"), kind, names::qualified(kind));
        one_of(pattern, "status", STATES, &path, errors);
    }
}
