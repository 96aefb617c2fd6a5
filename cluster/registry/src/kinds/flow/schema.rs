//! FlowSchema: to which priority level a request belongs.

use kedge_api::Resource;
use kedge_api::resource::Column;
use serde_json::{Value, json};

use super::{EXEMPT, GROUP, STRATEGY, bootstrap, validate_conditions};
use crate::errors::{Errors, Path};
use crate::golang;
use crate::kinds::{STATUS, cluster_resource, columns};
use crate::names;
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

const COLUMNS: &[Column] = &[
    columns::text("PriorityLevel", |o| columns::or_none(o.text("spec.priorityLevelConfiguration.name")).into()),
    columns::text("MatchingPrecedence", |o| columns::count(o, "spec.matchingPrecedence").into()),
    columns::text("DistinguisherMethod", |o| columns::or_none(o.text("spec.distinguisherMethod.type")).into()),
    columns::AGE,
    columns::text("MissingPL", |o| missing(o).into()),
];

const LAST: i64 = 10_000;
const METHODS: &[&str] = &["ByNamespace", "ByUser"];
/// Kinds of subjects: kind, the field that names it.
const SUBJECTS: &[(&str, &str)] = &[("Group", "group"), ("ServiceAccount", "serviceAccount"), ("User", "user")];
const VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];

pub(crate) fn row() -> Row {
    let schema = "io.k8s.api.flowcontrol.v1.FlowSchema";
    let base = cluster_resource(GROUP, "flowschemas", "flowschema", "FlowSchema", schema, COLUMNS);
    Row::new(Resource { subresources: &[STATUS], ..base }, Strategy { default, validate, ..STRATEGY })
}

fn missing(schema: &Value) -> String {
    let conditions = schema.items("status.conditions");
    let dangling = conditions.iter().find(|c| c.text("type") == "Dangling");
    dangling.map_or("?", |condition| condition.text("status")).to_owned()
}

fn default(schema: &mut Value) {
    super::default(schema);
    schema.fill("spec.priorityLevelConfiguration", json!({"name": ""}));
    if schema.int("spec.matchingPrecedence").unwrap_or(0) == 0 {
        schema.set("spec.matchingPrecedence", 1000);
    }
    for rule in schema.items_mut("spec.rules") {
        rule.fill("subjects", Value::Null);
        for rule in rule.items_mut("resourceRules") {
            rule.fill("namespaces", Value::Null);
        }
    }
}

fn validate(schema: &Value, errors: &mut Errors) {
    let path = Path::root("spec");
    let name = schema.text("metadata.name");
    let (precedence, here) = (columns::count(schema, "spec.matchingPrecedence"), path.child("matchingPrecedence"));
    if precedence <= 0 {
        errors.invalid(&here, precedence, "must be a positive value");
    }
    if precedence > LAST {
        errors.invalid(&here, precedence, &format!("must not be greater than {LAST}"));
    }
    if precedence == 1 && name != EXEMPT {
        errors.invalid(&here, precedence, "only the schema named 'exempt' may have matchingPrecedence 1");
    }
    let method = schema.look("spec.distinguisherMethod");
    if !method.is_null() && !METHODS.contains(&method.text("type")) {
        let shown = golang::show(method, "FlowDistinguisherMethod");
        errors.not_supported_json(&path.child("distinguisherMethod.type"), &shown, METHODS);
    }
    let (level, here) =
        (schema.text("spec.priorityLevelConfiguration.name"), path.child("priorityLevelConfiguration.name"));
    if level.is_empty() {
        errors.required(&here, "must reference a priority level");
    } else {
        errors.all_invalid(&here, level, names::subdomain(level));
    }
    let list = path.child("rules");
    for (at, rule) in schema.items("spec.rules").iter().enumerate() {
        validate_rule(rule, &list.index(at), errors);
    }
    let fixed = bootstrap::mandatory_schema(name);
    if fixed.is_some_and(|fixed| fixed.look("spec") != schema.look("spec")) {
        let why = format!("spec of '{name}' must equal the fixed value");
        errors.invalid_json(&path, &golang::show(schema.look("spec"), "FlowSchemaSpec"), &why);
    }
    validate_conditions(schema, errors);
}

fn validate_rule(rule: &Value, path: &Path<'_>, errors: &mut Errors) {
    let list = path.child("subjects");
    if rule.items("subjects").is_empty() {
        errors.required(&list, "subjects must contain at least one value");
    }
    for (at, subject) in rule.items("subjects").iter().enumerate() {
        validate_subject(subject, &list.index(at), errors);
    }
    let (resources, others) = (rule.items("resourceRules"), rule.items("nonResourceRules"));
    if resources.is_empty() && others.is_empty() {
        errors.required(path, "at least one of resourceRules and nonResourceRules has to be non-empty");
    }
    let list = path.child("resourceRules");
    for (at, rule) in resources.iter().enumerate() {
        validate_resource_rule(rule, &list.index(at), errors);
    }
    let list = path.child("nonResourceRules");
    for (at, rule) in others.iter().enumerate() {
        validate_path_rule(rule, &list.index(at), errors);
    }
}

fn validate_subject(subject: &Value, path: &Path<'_>, errors: &mut Errors) {
    let kind = subject.text("kind");
    let Some((_, own)) = SUBJECTS.iter().find(|(name, _)| *name == kind) else {
        let names: Vec<_> = SUBJECTS.iter().map(|(name, _)| *name).collect();
        errors.not_supported(&path.child("kind"), kind, &names);
        return;
    };
    let here = path.child(own);
    match subject.look(own) {
        Value::Null => errors.required(&here, &format!("{own} is required when subject kind is '{kind}'")),
        named => validate_named(named, kind == "ServiceAccount", &here, errors),
    }
    // The other two, as upstream orders them.
    for (other, field) in [SUBJECTS.get(1), SUBJECTS.get(2), SUBJECTS.first()].into_iter().flatten() {
        if field != own && subject.has(field) {
            errors.forbidden(&path.child(field), &format!("{field} is forbidden when subject kind is not '{other}'"));
        }
    }
}

fn validate_named(named: &Value, account: bool, path: &Path<'_>, errors: &mut Errors) {
    let name = named.text("name");
    if name.is_empty() {
        errors.required(&path.child("name"), "");
    } else if account && name != "*" {
        errors.all_invalid(&path.child("name"), name, names::subdomain(name));
    }
    let namespace = named.text("namespace");
    if account && namespace.is_empty() {
        errors.required(&path.child("namespace"), "must specify namespace for service account");
    } else if account {
        errors.all_invalid(&path.child("namespace"), namespace, names::label(namespace));
    }
}

fn texts<'a>(rule: &'a Value, field: &str) -> Vec<&'a str> {
    rule.items(field).iter().filter_map(Value::as_str).collect()
}

/// All, or some by name: then whether `all` stands beside others is told, and whether names are to be looked at.
fn validate_all_or_some(rule: &Value, field: &str, what: &str, path: &Path<'_>, errors: &mut Errors) -> bool {
    let all = texts(rule, field);
    if all.len() > 1 && all.contains(&"*") {
        let why = format!("if '*' is present, must not specify other {what}");
        errors.invalid(&path.child(field), rule.look(field).clone(), &why);
    }
    !all.contains(&"*")
}

fn validate_verbs(rule: &Value, path: &Path<'_>, errors: &mut Errors) {
    let verbs = texts(rule, "verbs");
    if verbs.is_empty() {
        errors.required(&path.child("verbs"), "verbs must contain at least one value");
    }
    let named = validate_all_or_some(rule, "verbs", "verbs", path, errors);
    if named && verbs.iter().any(|verb| !VERBS.contains(verb)) {
        errors.not_supported(&path.child("verbs"), rule.look("verbs").clone(), VERBS);
    }
}

fn validate_resource_rule(rule: &Value, path: &Path<'_>, errors: &mut Errors) {
    validate_verbs(rule, path, errors);
    for (field, what, one) in [("apiGroups", "api groups", "api group"), ("resources", "resources", "resource")] {
        if rule.items(field).is_empty() {
            errors.required(&path.child(field), &format!("resource rules must supply at least one {one}"));
        }
        validate_all_or_some(rule, field, what, path, errors);
    }
    let (namespaces, list) = (texts(rule, "namespaces"), path.child("namespaces"));
    if namespaces.is_empty() && !rule.flag("clusterScope") {
        let why = "resource rules that are not cluster scoped must supply at least one namespace";
        errors.required(&list, why);
    }
    if validate_all_or_some(rule, "namespaces", "namespaces", path, errors) {
        for (at, namespace) in namespaces.into_iter().enumerate() {
            let either = |why: String| format!("each member of this list must be '*' or a DNS-1123 label; {why}");
            errors.all_invalid(&list.index(at), namespace, names::label(namespace).into_iter().map(either));
        }
    }
}

fn validate_path_rule(rule: &Value, path: &Path<'_>, errors: &mut Errors) {
    validate_verbs(rule, path, errors);
    let (paths, list) = (texts(rule, "nonResourceURLs"), path.child("nonResourceURLs"));
    if paths.is_empty() {
        errors.required(&list, "nonResourceURLs must contain at least one value");
    }
    if validate_all_or_some(rule, "nonResourceURLs", "non-resource URLs", path, errors) {
        for (at, text) in paths.into_iter().enumerate() {
            if let Some(why) = wrong_path(text) {
                errors.invalid(&list.index(at), text, why);
            }
        }
    }
}

/// A path, or the beginning of paths: `/healthz`, `/openapi/*`.
fn wrong_path(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        Some("must not be empty")
    } else if !text.starts_with('/') {
        Some("must start with slash")
    } else if text.contains(' ') {
        Some("must not contain white-space")
    } else if text.contains("//") {
        Some("must not contain double slash")
    } else if text.trim_end_matches("/*").contains('*') || text.matches('*').count() > 1 {
        Some("wildcard can only do suffix matching")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_may_end_in_a_wildcard() {
        for right in ["/", "/healthz", "/openapi/*"] {
            assert_eq!(wrong_path(right), None, "{right}");
        }
        for wrong in ["", "x", "/a b", "/a//b", "/a*", "/a*b", "/*/*"] {
            assert!(wrong_path(wrong).is_some(), "{wrong}");
        }
    }

    #[test]
    fn the_fixed_schemas_are_right_and_stay_as_they_are() {
        for mut fixed in bootstrap::schemas() {
            default(&mut fixed);
            let mut errors = Errors::default();
            validate(&fixed, &mut errors);
            assert!(errors.is_empty(), "{fixed}: {errors:?}");
        }
        let mut changed = bootstrap::mandatory_schema("exempt").unwrap();
        changed.set("spec.matchingPrecedence", 2);
        let mut errors = Errors::default();
        validate(&changed, &mut errors);
        assert_eq!(errors.len(), 1);
    }

    #[test]
    fn a_subject_is_of_one_kind() {
        let wrong = |subject: Value| {
            let mut errors = Errors::default();
            validate_subject(&subject, &Path::root("s"), &mut errors);
            errors.len()
        };
        assert_eq!(wrong(json!({"kind": "User", "user": {"name": "u"}})), 0);
        assert_eq!(wrong(json!({"kind": "ServiceAccount", "serviceAccount": {"name": "*", "namespace": "n"}})), 0);
        assert_eq!(wrong(json!({"kind": "User", "group": {"name": "g"}})), 2);
        assert_eq!(wrong(json!({"kind": "ServiceAccount", "serviceAccount": {"name": "A"}})), 2);
        assert_eq!(wrong(json!({"kind": "Machine"})), 1);
    }
}
