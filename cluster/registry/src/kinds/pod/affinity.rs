//! The rules of affinity and of the label selectors in it.

use serde_json::{Value, json};

use crate::errors::{Errors, Late, Path};
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
        let path = path.child("requiredDuringSchedulingIgnoredDuringExecution");
        tolerant_node_selector(required, &path, errors);
    }
    let list = path.child("preferredDuringSchedulingIgnoredDuringExecution");
    for (at, term) in node.items("preferredDuringSchedulingIgnoredDuringExecution").iter().enumerate() {
        let item = list.index(at);
        weight(term, &item, errors);
        node_term(term.look("preference"), Told::NoValues, &item.child("preference"), errors);
    }
}

/// What of a term is looked at.
#[derive(Clone, Copy, PartialEq)]
enum Told {
    /// Not what it compares labels with: what would be nice has always been taken as it came.
    NoValues,
    Values,
    /// … those with toleration for such as were stored.
    StoredValues,
}

/// Which nodes: any that one of the terms fits.
pub(crate) fn node_selector(selector: &Value, path: &Path<'_>, errors: &mut Errors) {
    node_terms(selector, Told::Values, path, errors);
}

pub(crate) fn tolerant_node_selector(selector: &Value, path: &Path<'_>, errors: &mut Errors) {
    node_terms(selector, Told::StoredValues, path, errors);
}

fn node_terms(selector: &Value, told: Told, path: &Path<'_>, errors: &mut Errors) {
    let list = path.child("nodeSelectorTerms");
    let terms = selector.items("nodeSelectorTerms");
    if terms.is_empty() {
        errors.required(&list, "must have at least one node selector term");
    }
    for (at, term) in terms.iter().enumerate() {
        node_term(term, told, &list.index(at), errors);
    }
}

fn node_term(term: &Value, told: Told, path: &Path<'_>, errors: &mut Errors) {
    let list = path.child("matchExpressions");
    for (at, expression) in term.items("matchExpressions").iter().enumerate() {
        let item = list.index(at);
        operator(expression, &item, errors);
        let key = expression.text("key");
        errors.all_invalid(&item.child("key"), key, names::qualified(key));
        let values = item.child("values");
        match told {
            Told::NoValues => {}
            Told::Values => label_values(expression, &values, errors),
            Told::StoredValues => {
                errors.late(Late::SelectedNodeValues, |errors| label_values(expression, &values, errors));
            }
        }
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
            continue;
        }
        let list = item.child("values");
        for (at, name) in values.iter().enumerate().map(|(at, name)| (at, name.as_str().unwrap_or_default())) {
            errors.all_invalid(&list.index(at), name, names::subdomain(name));
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
    for field in ["labelSelector", "namespaceSelector"] {
        tolerant_label_selector(term.look(field), &path.child(field), errors);
    }
    let list = path.child("namespace");
    for name in term.items("namespaces") {
        let text = name.as_str().unwrap_or_default();
        errors.all_invalid(&list, text, names::label(text));
    }
    label_keys(term, path, errors);
    let key = term.text("topologyKey");
    if key.is_empty() {
        errors.required(&path.child("topologyKey"), "can not be empty");
    }
    errors.all_invalid(&path.child("topologyKey"), key, names::qualified(key));
}

/// The rules of `matchLabels` and `matchExpressions`.
pub(crate) fn label_selector(selector: &Value, path: &Path<'_>, errors: &mut Errors) {
    requirements(selector, label_values, path, errors);
}

/// The same where selectors with values that no label can have may be stored.
pub(crate) fn tolerant_label_selector(selector: &Value, path: &Path<'_>, errors: &mut Errors) {
    let values = |expression: &Value, path: &Path<'_>, errors: &mut Errors| {
        errors.late(Late::SelectedValues, |errors| label_values(expression, path, errors));
    };
    requirements(selector, values, path, errors);
}

fn requirements(selector: &Value, values: fn(&Value, &Path<'_>, &mut Errors), path: &Path<'_>, errors: &mut Errors) {
    let check_values = values;
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
        check_values(expression, &item.child("values"), errors);
    }
}

fn label_values(expression: &Value, path: &Path<'_>, errors: &mut Errors) {
    for (at, value) in expression.items("values").iter().enumerate() {
        let text = value.as_str().unwrap_or_default();
        errors.all_invalid(&path.index(at), text, kedge_api::selector::label_value_error(text));
    }
}

/// The rules of `matchLabelKeys` and `mismatchLabelKeys` beside the selector that they add to.
pub(crate) fn label_keys(term: &Value, path: &Path<'_>, errors: &mut Errors) {
    let selector = term.look("labelSelector");
    let matched = term.items("matchLabelKeys");
    for field in ["matchLabelKeys", "mismatchLabelKeys"] {
        let list = path.child(field);
        let keys = term.items(field);
        if !keys.is_empty() && selector.is_null() {
            errors.forbidden(&list, "must not be specified when labelSelector is not set");
            continue;
        }
        for (at, key) in keys.iter().enumerate().map(|(at, key)| (at, key.as_str().unwrap_or_default())) {
            errors.all_invalid(&list.index(at), key, names::qualified(key));
        }
    }
    // What `merge_label_keys` added stands last, so a key seen before was the user's.
    let mut seen: Vec<&str> = selector.entries("matchLabels").map(|(key, _)| key.as_str()).collect();
    for key in selector.items("matchExpressions").iter().map(|expression| expression.text("key")) {
        if let Some(at) = matched.iter().rposition(|k| k == key).filter(|_| seen.contains(&key)) {
            errors.invalid(&path.index(at), key, "exists in both matchLabelKeys and labelSelector");
        }
        seen.push(key);
    }
    let list = path.child("matchLabelKeys");
    for (at, key) in matched.iter().enumerate().filter(|(_, key)| term.items("mismatchLabelKeys").contains(key)) {
        errors.invalid(&list.index(at), key.clone(), "exists in both matchLabelKeys and mismatchLabelKeys");
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
    for constraint in pod.items_mut("spec.topologySpreadConstraints") {
        merge_into(constraint, &labels);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_hold_compares_with_what_labels_and_nodes_can_be() {
        let term = |values: &Value| json!({"matchExpressions": [{"key": "k", "operator": "In", "values": values}]});
        let node = json!({"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                term(&json!(["fine", "a b"])), {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["A"]}]},
            ]},
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": term(&json!(["a b"]))}],
        }});
        let mut errors = Errors::default();
        validate(&node, &Path::root("a"), &mut errors);
        const LIST: &str = "a.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
        let [label, name] = [kedge_api::selector::label_value_error("a b").unwrap(), names::subdomain("A").remove(0)];
        assert_eq!(
            errors.told(),
            [
                format!("{LIST}[0].matchExpressions[0].values[1]: Invalid value: \"a b\": {label}"),
                format!("{LIST}[1].matchFields[0].values[0]: Invalid value: \"A\": {name}"),
            ]
        );
    }

    #[test]
    fn keys_of_labels_go_with_a_selector_and_say_something_new() {
        let told = |term: Value| {
            let mut errors = Errors::default();
            label_keys(&term, &Path::root("t"), &mut errors);
            errors.told()
        };
        assert_eq!(
            told(json!({"matchLabelKeys": ["a"]})),
            ["t.matchLabelKeys: Forbidden: must not be specified when labelSelector is not set"]
        );
        let mut pod = json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"topologySpreadConstraints": [
            {"matchLabelKeys": ["a", "b"], "labelSelector": {"matchLabels": {"a": "1"}}},
        ]}});
        merge_label_keys(&mut pod);
        let constraint = pod["spec"]["topologySpreadConstraints"][0].clone();
        assert_eq!(constraint["labelSelector"]["matchExpressions"].as_array().unwrap().len(), 2);
        assert_eq!(told(constraint), ["t[0]: Invalid value: \"a\": exists in both matchLabelKeys and labelSelector"]);
        assert_eq!(
            told(json!({"matchLabelKeys": ["a"], "mismatchLabelKeys": ["a"], "labelSelector": {}})),
            ["t.matchLabelKeys[0]: Invalid value: \"a\": exists in both matchLabelKeys and mismatchLabelKeys"]
        );
    }
}
