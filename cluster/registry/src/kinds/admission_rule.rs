//! What webhooks and admission policies share: which requests they are about, and on which conditions.

use std::collections::HashSet;

use kedge_cel::{Environment, Type};
use serde_json::{Value, json};

use super::pod::affinity::{label_selector, tolerant_label_selector};
use crate::errors::{Errors, Path};
use crate::expressions::compile;
use crate::names;
use crate::value::{Fill as _, Look as _};

pub(super) const GROUP: &str = "admissionregistration.k8s.io";
pub(super) const FAILURE_POLICIES: &[&str] = &["Fail", "Ignore"];
pub(super) const REINVOCATION_POLICIES: &[&str] = &["IfNeeded", "Never"];
const MATCH_POLICIES: &[&str] = &["Equivalent", "Exact"];
const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const SCOPES: &[&str] = &["*", "Cluster", "Namespaced"];
const MOST_CONDITIONS: usize = 64;

/// The empty selectors, which choose everything, and the matching policy.
pub(super) fn default_match(place: &mut Value) {
    place.fill("matchPolicy", "Equivalent");
    for field in ["namespaceSelector", "objectSelector"] {
        place.fill(field, json!({}));
    }
}

pub(super) fn default_rules(place: &mut Value, list: &str) {
    for rule in place.items_mut(list) {
        rule.fill("scope", "*");
    }
}

/// Defaults of the `MatchResources` at `path`, if there are any.
pub(super) fn default_resources(object: &mut Value, path: &str) {
    if let Some(resources) = object.find_mut(path) {
        default_match(resources);
        for list in ["resourceRules", "excludeResourceRules"] {
            default_rules(resources, list);
        }
    }
}

/// One of a few words, if there is any.
pub(super) fn validate_choice(place: &Value, field: &str, choices: &[&str], path: &Path<'_>, errors: &mut Errors) {
    if let Some(text) = place.look(field).as_str().filter(|text| !choices.contains(text)) {
        errors.not_supported(&path.child(field), text, choices);
    }
}

pub(super) fn validate_match_policy(place: &Value, path: &Path<'_>, errors: &mut Errors) {
    validate_choice(place, "matchPolicy", MATCH_POLICIES, path, errors);
}

const SELECTORS: [&str; 2] = ["namespaceSelector", "objectSelector"];

/// Of a webhook, of which some were stored before there was a rule for what they compare with.
pub(super) fn validate_selectors(place: &Value, path: &Path<'_>, errors: &mut Errors) {
    for field in SELECTORS {
        tolerant_label_selector(place.look(field), &path.child(field), errors);
    }
}

pub(super) fn validate_resources(resources: &Value, path: &Path<'_>, errors: &mut Errors) {
    validate_match_policy(resources, path, errors);
    for field in SELECTORS {
        label_selector(resources.look(field), &path.child(field), errors);
    }
    for list in ["resourceRules", "excludeResourceRules"] {
        let here = path.child(list);
        for (at, rule) in resources.items(list).iter().enumerate() {
            let path = here.index(at);
            validate_names(rule, &path.child("resourceNames"), errors);
            validate_rule(rule, &path, errors);
        }
    }
}

fn validate_names(rule: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for (at, name) in rule.items("resourceNames").iter().filter_map(Value::as_str).enumerate() {
        errors.all_invalid(&path.index(at), name, names::path_segment(name));
        if !seen.insert(name) {
            errors.duplicate(&path.index(at), name);
        }
    }
}

/// Operations and what they are done to.
pub(super) fn validate_rule(rule: &Value, path: &Path<'_>, errors: &mut Errors) {
    let texts = |field: &str| -> Vec<&str> { rule.items(field).iter().filter_map(Value::as_str).collect() };
    // All, or some by name.
    let all_or_some = |field: &str, what: &str, errors: &mut Errors| {
        let all = texts(field);
        let here = path.child(field);
        if all.is_empty() {
            errors.required(&here, "");
        }
        if all.len() > 1 && all.contains(&"*") {
            let why = format!("if '*' is present, must not specify other {what}");
            errors.invalid(&here, rule.look(field).clone(), &why);
        }
    };
    all_or_some("operations", "operations", errors);
    let here = path.child("operations");
    for (at, operation) in texts("operations").into_iter().enumerate().filter(|(_, o)| !OPERATIONS.contains(o)) {
        errors.not_supported(&here.index(at), operation, OPERATIONS);
    }
    all_or_some("apiGroups", "API groups", errors);
    all_or_some("apiVersions", "API versions", errors);
    let here = path.child("apiVersions");
    for (at, _) in texts("apiVersions").iter().enumerate().filter(|(_, version)| version.is_empty()) {
        errors.required(&here.index(at), "");
    }
    validate_plurals(&texts("resources"), rule.look("resources"), &path.child("resources"), errors);
    validate_choice(rule, "scope", SCOPES, path, errors);
}

/// Resources and subresources: `pods`, `pods/log`, `pods/*`, `*/scale`, `*`, `*/*`.
fn validate_plurals(all: &[&str], shown: &Value, path: &Path<'_>, errors: &mut Errors) {
    if all.is_empty() {
        errors.required(path, "");
    }
    let (mut any_sub_of, mut sub_of_any) = (HashSet::new(), HashSet::new());
    let mut names_one = false;
    for (at, text) in all.iter().enumerate() {
        let here = path.index(at);
        if text.is_empty() {
            errors.required(&here, "");
            continue;
        }
        let Some((resource, sub)) = text.split_once('/') else {
            // As upstream: only the last one counts.
            names_one = *text != "*";
            continue;
        };
        if any_sub_of.contains(resource) {
            errors.invalid(&here, *text, &format!("if '{resource}/*' is present, must not specify {text}"));
        }
        if sub_of_any.contains(sub) {
            errors.invalid(&here, *text, &format!("if '*/{sub}' is present, must not specify {text}"));
        }
        if sub == "*" {
            any_sub_of.insert(resource);
        }
        if resource == "*" {
            sub_of_any.insert(sub);
        }
    }
    if all.len() > 1 && all.contains(&"*/*") {
        errors.invalid(path, shown.clone(), "if '*/*' is present, must not specify other resources");
    }
    if names_one && all.contains(&"*") {
        let why = "if '*' is present, must not specify other resources without subresources";
        errors.invalid(path, shown.clone(), why);
    }
}

/// `environment` is what the expressions may name.
pub(super) fn validate_conditions(place: &Value, environment: &Environment, path: &Path<'_>, errors: &mut Errors) {
    let conditions = place.items("matchConditions");
    let list = path.child("matchConditions");
    if conditions.len() > MOST_CONDITIONS {
        errors.too_many(&list, conditions.len(), MOST_CONDITIONS);
    }
    let mut seen = HashSet::new();
    for (at, condition) in conditions.iter().enumerate() {
        let path = list.index(at);
        let expected = Expected { environment, types: &[Type::Bool], missing: "" };
        expected.validate(condition.text("expression").trim(), &path.child("expression"), errors);
        let name = condition.text("name");
        let here = path.child("name");
        if name.is_empty() {
            errors.required(&here, "");
            continue;
        }
        errors.all_invalid(&here, name, names::qualified(name));
        if !seen.insert(name) {
            errors.duplicate(&here, name);
        }
    }
}

/// What an expression must be.
pub(super) struct Expected<'a> {
    pub(super) environment: &'a Environment,
    /// It gives one of these, or anything if none is named.
    pub(super) types: &'a [Type],
    /// What is said where it is not there.
    pub(super) missing: &'static str,
}

impl Expected<'_> {
    /// The type of what the expression gives, unless it is wrong.
    pub(super) fn validate(&self, text: &str, path: &Path<'_>, errors: &mut Errors) -> Option<Type> {
        if text.trim().is_empty() {
            errors.required(path, self.missing);
            return None;
        }
        match compile(text, self.environment, self.types) {
            Ok(program) => Some(program.result().clone()),
            Err(why) => {
                errors.invalid(path, text, &why);
                None
            }
        }
    }
}

/// Policies that mutate are for what is stored or connected to; each other operation is told without its place.
pub(super) fn validate_mutable(resources: &Value, path: &Path<'_>, errors: &mut Errors) {
    const MUTABLE: &[&str] = &["*", "CONNECT", "CREATE", "UPDATE"];
    let place = path.child("resourceRules.operations");
    let rules = resources.items("resourceRules").iter();
    let operations = rules.flat_map(|rule| rule.items("operations")).filter_map(Value::as_str);
    for operation in operations.filter(|operation| !MUTABLE.contains(operation)) {
        errors.not_supported(&place, operation, MUTABLE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expressions::Sees;

    #[test]
    fn all_excludes_some() {
        for (resources, wrong) in [
            (vec!["pods", "pods/log"], 0),
            (vec!["*", "pods/log"], 0),
            (vec!["*", "pods"], 1),
            (vec!["*/*", "pods"], 1),
            (vec!["pods/*", "pods/log"], 1),
            (vec!["*/scale", "deployments/scale"], 1),
            (vec![""], 1),
            (vec![], 1),
        ] {
            let rule =
                json!({"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": resources});
            let mut errors = Errors::default();
            validate_rule(&rule, &Path::root("rule"), &mut errors);
            assert_eq!(errors.len(), wrong, "{rule}");
        }
    }

    #[test]
    fn conditions_are_told_apart_by_name() {
        let wrong = |conditions: Value| {
            let mut errors = Errors::default();
            let environment = crate::expressions::environment(Sees::condition(false), None);
            validate_conditions(
                &json!({ "matchConditions": conditions }),
                &environment,
                &Path::root("spec"),
                &mut errors,
            );
            errors.len()
        };
        assert_eq!(wrong(json!([{"name": "a", "expression": "true"}, {"name": "b", "expression": "true"}])), 0);
        assert_eq!(wrong(json!([{"name": "a", "expression": "true"}, {"name": "a", "expression": " "}])), 2);
        assert_eq!(wrong(json!([{"name": "", "expression": ""}])), 2);
    }
}
