//! The rules of affinity and of the label selectors in it.

use serde_json::{Value, json};

use crate::errors::{Errors, Path};
use crate::names;
use crate::value::{Fill as _, Look as _};

pub(crate) fn validate(affinity: &Value, path: &Path<'_>, errors: &mut Errors) {
    let node = affinity.look("nodeAffinity");
    if node.is_object() {
        node_affinity(node, &path.child("nodeAffinity"), errors);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let here = path.child(kind);
        let terms = affinity.look(kind);
        let required = here.child("requiredDuringSchedulingIgnoredDuringExecution");
        for (at, term) in terms.items("requiredDuringSchedulingIgnoredDuringExecution").iter().enumerate() {
            pod_term(term, &required.index(at), errors);
        }
        let preferred = here.child("preferredDuringSchedulingIgnoredDuringExecution");
        for (at, term) in terms.items("preferredDuringSchedulingIgnoredDuringExecution").iter().enumerate() {
            let item = preferred.index(at);
            weight(term, &item, errors);
            pod_term(term.look("podAffinityTerm"), &item.child("podAffinityTerm"), errors);
        }
    }
}

fn weight(term: &Value, path: &Path<'_>, errors: &mut Errors) {
    let weight = term.int("weight").unwrap_or(0);
    if !(1..=100).contains(&weight) {
        errors.invalid(&path.child("weight"), weight, "must be in the range 1-100");
    }
}

fn node_affinity(node: &Value, path: &Path<'_>, errors: &mut Errors) {
    let required = node.look("requiredDuringSchedulingIgnoredDuringExecution");
    if required.is_object() {
        node_selector(required, &path.child("requiredDuringSchedulingIgnoredDuringExecution"), errors);
    }
    let list = path.child("preferredDuringSchedulingIgnoredDuringExecution");
    for (at, term) in node.items("preferredDuringSchedulingIgnoredDuringExecution").iter().enumerate() {
        let item = list.index(at);
        weight(term, &item, errors);
        node_term(term.look("preference"), &item.child("preference"), errors);
    }
}

/// Which nodes: any that one of the terms fits.
pub(crate) fn node_selector(selector: &Value, path: &Path<'_>, errors: &mut Errors) {
    let list = path.child("nodeSelectorTerms");
    let terms = selector.items("nodeSelectorTerms");
    if terms.is_empty() {
        errors.required(&list, "must have at least one node selector term");
    }
    for (at, term) in terms.iter().enumerate() {
        node_term(term, &list.index(at), errors);
    }
}

fn node_term(term: &Value, path: &Path<'_>, errors: &mut Errors) {
    let list = path.child("matchExpressions");
    for (at, expression) in term.items("matchExpressions").iter().enumerate() {
        let item = list.index(at);
        operator(expression, &item, errors);
        let key = expression.text("key");
        errors.all_invalid(&item.child("key"), key, names::qualified(key));
    }
    let list = path.child("matchFields");
    for (at, field) in term.items("matchFields").iter().enumerate() {
        let item = list.index(at);
        let (key, values) = (field.text("key"), field.items("values"));
        match field.text("operator") {
            "In" | "NotIn" => {
                if values.len() != 1 {
                    let why = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                    errors.required(&item.child("values"), why);
                }
            }
            other => errors.invalid(&item.child("operator"), other, "not a valid selector operator"),
        }
        if key != "metadata.name" {
            errors.invalid(&item.child("key"), key, "not a valid field selector key");
        }
    }
}

fn operator(expression: &Value, path: &Path<'_>, errors: &mut Errors) {
    let count = expression.items("values").len();
    match expression.text("operator") {
        "In" | "NotIn" if count == 0 => {
            errors.required(&path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if count > 0 => {
            errors
                .forbidden(&path.child("values"), "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
        }
        "Gt" | "Lt" if count != 1 => {
            errors.required(&path.child("values"), "must be specified single value when `operator` is 'Lt' or 'Gt'");
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
    }
}

fn pod_term(term: &Value, path: &Path<'_>, errors: &mut Errors) {
    label_selector(term.look("labelSelector"), &path.child("labelSelector"), errors);
    label_selector(term.look("namespaceSelector"), &path.child("namespaceSelector"), errors);
    let list = path.child("namespace");
    for name in term.items("namespaces") {
        let text = name.as_str().unwrap_or_default();
        errors.all_invalid(&list, text, names::label(text));
    }
    let keys = term.items("mismatchLabelKeys");
    let list = path.child("matchLabelKeys");
    for (at, key) in term.items("matchLabelKeys").iter().enumerate() {
        if keys.contains(key) {
            errors.invalid(&list.index(at), key.clone(), "exists in both matchLabelKeys and mismatchLabelKeys");
        }
    }
    let key = term.text("topologyKey");
    if key.is_empty() {
        errors.required(&path.child("topologyKey"), "can not be empty");
    }
    errors.all_invalid(&path.child("topologyKey"), key, names::qualified(key));
}

/// The rules of `matchLabels` and `matchExpressions`, wherever they stand.
pub(crate) fn label_selector(selector: &Value, path: &Path<'_>, errors: &mut Errors) {
    crate::metadata::labels(selector.look("matchLabels"), &path.child("matchLabels"), errors);
    let list = path.child("matchExpressions");
    for (at, expression) in selector.items("matchExpressions").iter().enumerate() {
        let item = list.index(at);
        let values = expression.items("values");
        match expression.text("operator") {
            "In" | "NotIn" if values.is_empty() => {
                errors.required(&item.child("values"), "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                errors.forbidden(
                    &item.child("values"),
                    "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                );
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.invalid(&item.child("operator"), other, "not a valid selector operator"),
        }
        let key = expression.text("key");
        errors.all_invalid(&item.child("key"), key, names::qualified(key));
        let list = item.child("values");
        for (at, value) in values.iter().enumerate() {
            let text = value.as_str().unwrap_or_default();
            errors.all_invalid(&list.index(at), text, kedge_api::selector::label_value_error(text));
        }
    }
}

/// `matchLabelKeys` and `mismatchLabelKeys` become requirements on the values that the new pod itself has.
pub(crate) fn merge_label_keys(pod: &mut Value) {
    let labels = pod.look("metadata.labels").clone();
    for kind in ["podAffinity", "podAntiAffinity"] {
        let path = format!("spec.affinity.{kind}");
        for term in pod.items_mut(&format!("{path}.requiredDuringSchedulingIgnoredDuringExecution")) {
            merge_into(term, &labels);
        }
        for weighted in pod.items_mut(&format!("{path}.preferredDuringSchedulingIgnoredDuringExecution")) {
            if let Some(term) = weighted.find_mut("podAffinityTerm") {
                merge_into(term, &labels);
            }
        }
    }
}

fn merge_into(term: &mut Value, labels: &Value) {
    if term.look("labelSelector").is_null() {
        return;
    }
    let mut expressions = term.items("labelSelector.matchExpressions").to_vec();
    let before = expressions.len();
    for (list, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        for key in term.items(list).iter().filter_map(Value::as_str) {
            if let Some(value) = labels.get(key) {
                expressions.push(json!({"key": key, "operator": operator, "values": [value]}));
            }
        }
    }
    if expressions.len() > before {
        term.set("labelSelector.matchExpressions", expressions);
    }
}
