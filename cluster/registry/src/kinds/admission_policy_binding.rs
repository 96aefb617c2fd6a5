//! ValidatingAdmissionPolicyBinding and MutatingAdmissionPolicyBinding: where a policy holds, and with which parameters.

use std::borrow::Cow;
use std::collections::HashSet;

use kedge_api::Resource;
use kedge_api::resource::Column;
use serde_json::{Value, json};

use super::admission_rule::{self as rule, GROUP};
use super::pod::affinity::label_selector;
use super::{API_EXTENSIONS, cluster_resource, columns};
use crate::errors::{Errors, Path};
use crate::names;
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

const COLUMNS: &[Column] = &[
    columns::text("PolicyName", |o| o.text("spec.policyName").into()),
    columns::text("ParamRef", |o| param_ref(o.look("spec.paramRef")).into()),
    columns::AGE,
];

const ACTIONS: &[&str] = &["Audit", "Deny", "Warn"];
const NOT_FOUND_ACTIONS: &[&str] = &["Deny", "Allow"];

pub(crate) fn validating_row() -> Row {
    let schema = "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicyBinding";
    let (plural, singular) = ("validatingadmissionpolicybindings", "validatingadmissionpolicybinding");
    let base = cluster_resource(GROUP, plural, singular, "ValidatingAdmissionPolicyBinding", schema, COLUMNS);
    row(base, |binding, errors| {
        validate(binding, errors);
        validate_actions(binding, errors);
    })
}

pub(crate) fn mutating_row() -> Row {
    let schema = "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicyBinding";
    let (plural, singular) = ("mutatingadmissionpolicybindings", "mutatingadmissionpolicybinding");
    let base = cluster_resource(GROUP, plural, singular, "MutatingAdmissionPolicyBinding", schema, COLUMNS);
    row(Resource { stored_in: Some((GROUP, "v1beta1")), ..base }, |binding, errors| {
        validate(binding, errors);
        let path = Path::root("spec.matchResources");
        rule::validate_mutable(binding.look("spec.matchResources"), &path, errors);
    })
}

fn row(base: Resource, validate: fn(&Value, &mut Errors)) -> Row {
    let resource = Resource { categories: Cow::Borrowed(API_EXTENSIONS), ..base };
    let strategy = Strategy { generation: true, unconditional_update: false, default, validate, ..Strategy::PLAIN };
    Row::new(resource, strategy)
}

fn param_ref(reference: &Value) -> String {
    let (namespace, name) = (reference.text("namespace"), reference.text("name"));
    match (namespace.is_empty(), name.is_empty()) {
        (true, false) => name.to_owned(),
        (false, false) => format!("{namespace}/{name}"),
        (_, true) if reference.has("selector") => in_go(reference.look("selector")),
        (_, true) => "<unset>".into(),
    }
}

/// A selector as Go's generated code writes it, which is what upstream shows.
fn in_go(selector: &Value) -> String {
    let words = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let labels: String = selector.entries("matchLabels").map(|(k, v)| format!("{k}: {},", words(v))).collect();
    let expression = |e: &Value| {
        let values: Vec<_> = e.items("values").iter().map(words).collect();
        let (key, operator) = (e.text("key"), e.text("operator"));
        format!("LabelSelectorRequirement{{Key:{key},Operator:{operator},Values:[{}],}},", values.join(" "))
    };
    let expressions: String = selector.items("matchExpressions").iter().map(expression).collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )
}

fn default(binding: &mut Value) {
    binding.fill("spec", json!({}));
    rule::default_resources(binding, "spec.matchResources");
}

fn validate(binding: &Value, errors: &mut Errors) {
    let path = Path::root("spec");
    let (name, here) = (binding.text("spec.policyName"), path.child("policyName"));
    if name.is_empty() {
        errors.required(&here, "");
    } else {
        errors.all_invalid(&here, name, names::subdomain(name));
    }
    if binding.has("spec.paramRef") {
        validate_param_ref(binding.look("spec.paramRef"), &path.child("paramRef"), errors);
    }
    if binding.has("spec.matchResources") {
        rule::validate_resources(binding.look("spec.matchResources"), &path.child("matchResources"), errors);
    }
}

fn validate_param_ref(reference: &Value, path: &Path<'_>, errors: &mut Errors) {
    const EITHER: &str = "name and selector are mutually exclusive";
    let (name, selector) = (reference.text("name"), reference.look("selector"));
    errors.all_invalid(&path.child("name"), name, names::path_segment(name));
    let both = !name.is_empty() && !selector.is_null();
    if both {
        errors.forbidden(&path.child("name"), EITHER);
    }
    label_selector(selector, &path.child("selector"), errors);
    if both {
        errors.forbidden(&path.child("selector"), EITHER);
    }
    if name.is_empty() && selector.is_null() {
        errors.required(path, "one of name or selector must be specified");
    }
    if reference.text("parameterNotFoundAction").is_empty() {
        errors.required(&path.child("parameterNotFoundAction"), "");
    } else {
        rule::validate_choice(reference, "parameterNotFoundAction", NOT_FOUND_ACTIONS, path, errors);
    }
}

fn validate_actions(binding: &Value, errors: &mut Errors) {
    let path = Path::root("spec.validationActions");
    let all = binding.look("spec.validationActions");
    let mut seen = HashSet::new();
    for (at, action) in binding.items("spec.validationActions").iter().filter_map(Value::as_str).enumerate() {
        if !ACTIONS.contains(&action) {
            errors.not_supported(&path.index(at), action, ACTIONS);
        }
        if !seen.insert(action) {
            errors.duplicate(&path.index(at), action);
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        let why = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and \
                   headers serves no purpose)";
        errors.invalid(&path, all.clone(), why);
    }
    if seen.is_empty() {
        errors.required(&path, "at least one validation action is required");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_one_cell() {
        assert_eq!(param_ref(&json!(null)), "<unset>");
        assert_eq!(param_ref(&json!({"name": "n", "namespace": "s"})), "s/n");
        let selector = json!({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "k", "operator": "In", "values": ["x", "y"]}]});
        assert_eq!(
            param_ref(&json!({ "selector": selector })),
            "&LabelSelector{MatchLabels:map[string]string{a: b,},MatchExpressions:[]LabelSelectorRequirement{\
             LabelSelectorRequirement{Key:k,Operator:In,Values:[x y],},},}"
        );
    }

    #[test]
    fn actions_do_not_repeat_each_other() {
        for (actions, wrong) in [
            (json!(["Deny"]), 0),
            (json!(["Warn", "Audit"]), 0),
            (json!(["Deny", "Warn"]), 1),
            (json!(["Deny", "Deny"]), 1),
            (json!(["Log"]), 1),
            (json!([]), 1),
        ] {
            let mut errors = Errors::default();
            validate_actions(&json!({"spec": {"validationActions": actions}}), &mut errors);
            assert_eq!(errors.len(), wrong, "{actions}");
        }
    }
}
