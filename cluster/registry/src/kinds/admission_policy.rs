//! ValidatingAdmissionPolicy and MutatingAdmissionPolicy: rules in CEL about what may be stored, and changes to it.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use kedge_api::Resource;
use kedge_api::resource::Column;
use kedge_cel::names::is_identifier;
use kedge_cel::{Environment, Type};
use serde_json::{Value, json};

use super::admission_rule::{self as rule, Expected, FAILURE_POLICIES, GROUP, REINVOCATION_POLICIES};
use super::{API_EXTENSIONS, STATUS, cluster_resource, columns, conditions};
use crate::custom::json_path::JsonPath;
use crate::errors::{Errors, Path};
use crate::expressions::{self, Sees, compile, composed, environment};
use crate::names;
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

const VALIDATING_COLUMNS: &[Column] = &[
    columns::number("Validations", |o| o.items("spec.validations").len().into()),
    columns::text("ParamKind", |o| param_kind(o.look("spec.paramKind")).into()),
    columns::AGE,
];
const MUTATING_COLUMNS: &[Column] = &[
    columns::number("Mutations", |o| o.items("spec.mutations").len().into()),
    columns::text("ParamKind", |o| param_kind(o.look("spec.paramKind")).into()),
    columns::AGE,
];

/// Types of variables, by name.
type Variables = BTreeMap<String, Type>;

const MISSING: &str = "expression is not specified";
const REASONS: &[&str] = &["Forbidden", "Invalid", "RequestEntityTooLarge"];
const MOST_ANNOTATIONS: usize = 20;
/// Less than an annotation may be long: what joins texts gives more than it is.
const LONGEST_VALUE: usize = 5 * 1024;

pub(crate) fn validating_row() -> Row {
    let schema = "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicy";
    let (plural, singular) = ("validatingadmissionpolicies", "validatingadmissionpolicy");
    let base = cluster_resource(GROUP, plural, singular, "ValidatingAdmissionPolicy", schema, VALIDATING_COLUMNS);
    let resource = Resource { categories: Cow::Borrowed(API_EXTENSIONS), subresources: &[STATUS], ..base };
    let strategy = Strategy {
        unconditional_update: false,
        default: |policy| {
            default(policy);
            policy.fill("status", json!({}));
        },
        prepare_create: |policy| policy.set("status", json!({})),
        validate: |policy, errors| {
            let variables = validate(policy, errors);
            // As upstream: without one, there is no place where it would be looked for.
            validate_validating(policy, Some(variables).filter(|some| !some.is_empty()), errors);
        },
        validate_status,
        ..Strategy::SPEC
    };
    Row::new(resource, strategy)
}

pub(crate) fn mutating_row() -> Row {
    let schema = "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicy";
    let (plural, singular) = ("mutatingadmissionpolicies", "mutatingadmissionpolicy");
    let base = cluster_resource(GROUP, plural, singular, "MutatingAdmissionPolicy", schema, MUTATING_COLUMNS);
    // Upstream's first version of this kind in which others than itself can still read it.
    let resource = Resource { categories: Cow::Borrowed(API_EXTENSIONS), stored_in: Some((GROUP, "v1beta1")), ..base };
    let strategy = Strategy {
        generation: true,
        unconditional_update: false,
        default,
        validate: |policy, errors| {
            let variables = validate(policy, errors);
            validate_mutating(policy, variables, errors);
        },
        ..Strategy::PLAIN
    };
    Row::new(resource, strategy)
}

fn param_kind(kind: &Value) -> String {
    if kind.is_null() { "<unset>".into() } else { format!("{}/{}", kind.text("apiVersion"), kind.text("kind")) }
}

fn default(policy: &mut Value) {
    policy.fill("spec.failurePolicy", "Fail");
    rule::default_resources(policy, "spec.matchConstraints");
}

/// What both have: failure policy, parameters, constraints, conditions and variables. Gives the variables' types.
fn validate(policy: &Value, errors: &mut Errors) -> Variables {
    let path = Path::root("spec");
    let spec = policy.look("spec");
    rule::validate_choice(spec, "failurePolicy", FAILURE_POLICIES, &path, errors);
    if spec.has("paramKind") {
        validate_param_kind(spec.look("paramKind"), &path.child("paramKind"), errors);
    }
    let here = path.child("matchConstraints");
    match spec.look("matchConstraints") {
        Value::Null => errors.required(&here, ""),
        constraints => {
            rule::validate_resources(constraints, &here, errors);
            if constraints.items("resourceRules").is_empty() {
                errors.required(&here.child("resourceRules"), "");
            }
            if policy.text("kind") == "MutatingAdmissionPolicy" {
                rule::validate_mutable(constraints, &here, errors);
            }
        }
    }
    let sees = Sees::condition(spec.has("paramKind"));
    rule::validate_conditions(spec, &environment(sees, None), &path, errors);
    let mut types = Variables::new();
    let list = path.child("variables");
    for (at, variable) in spec.items("variables").iter().enumerate() {
        let path = list.index(at);
        let name = variable.text("name");
        if name.trim().is_empty() {
            errors.required(&path.child("name"), "name is not specified");
        } else if !is_identifier(name) {
            errors.invalid(&path.child("name"), name, "must be a valid CEL identifier");
        }
        let named = environment(sees, Some(types.clone()));
        let expected = Expected { environment: &named, types: &[], missing: MISSING };
        let found = expected.validate(variable.text("expression"), &path.child("expression"), errors);
        types.insert(name.to_owned(), found.as_ref().map_or(Type::Dyn, composed));
    }
    types
}

fn validate_param_kind(kind: &Value, path: &Path<'_>, errors: &mut Errors) {
    let (text, here) = (kind.text("apiVersion"), path.child("apiVersion"));
    let (group, version) = text.split_once('/').unwrap_or(("", text));
    if text.is_empty() {
        errors.required(&here, "");
    } else if version.contains('/') {
        errors.invalid(&here, text, &format!("unexpected GroupVersion string: {text}"));
    } else {
        let mut joined = |part: &str, wrong: Vec<String>| {
            if !wrong.is_empty() {
                errors.invalid(&here, part, &wrong.join(","));
            }
        };
        if !group.is_empty() {
            joined(group, names::subdomain(group));
        }
        if version.is_empty() {
            joined(text, vec!["version must be specified".into()]);
        } else {
            joined(version, names::old_label(version));
        }
    }
    let (text, here) = (kind.text("kind"), path.child("kind"));
    let wrong = names::old_label(&text.to_lowercase());
    if text.is_empty() {
        errors.required(&here, "");
    } else if !wrong.is_empty() {
        let why = format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
        errors.invalid(&here, text, &why);
    }
}

fn validate_validating(policy: &Value, variables: Option<Variables>, errors: &mut Errors) {
    let sees = Sees::condition(policy.has("spec.paramKind"));
    let messages = environment(Sees { authorizer: false, ..sees }, variables.clone());
    let environment = environment(sees, variables);
    let path = Path::root("spec");
    let (validations, annotations) = (policy.items("spec.validations"), policy.items("spec.auditAnnotations"));
    if validations.is_empty() && annotations.is_empty() {
        for field in ["validations", "auditAnnotations"] {
            let why = "validations or auditAnnotations must contain at least one item";
            errors.required(&path.child(field), why);
        }
        return;
    }
    let list = path.child("validations");
    for (at, validation) in validations.iter().enumerate() {
        validate_validation(validation, &environment, &messages, &list.index(at), errors);
    }
    let list = path.child("auditAnnotations");
    if annotations.len() > MOST_ANNOTATIONS {
        let why = format!("must not have more than {MOST_ANNOTATIONS} auditAnnotations");
        errors.invalid(&list, annotations.to_vec(), &why);
    }
    let name = policy.text("metadata.name");
    let mut seen = HashSet::new();
    for (at, annotation) in annotations.iter().enumerate() {
        let path = list.index(at);
        let (key, here) = (annotation.text("key"), path.child("key"));
        if name.is_empty() {
            errors.invalid(&here, key, "requires metadata.name be non-empty");
        } else {
            let whole = format!("{name}/{key}");
            errors.all_invalid(&here, &whole, names::qualified(&whole));
        }
        validate_value(annotation.text("valueExpression"), &environment, &path.child("valueExpression"), errors);
        if !seen.insert(key) {
            errors.duplicate(&here, key);
        }
    }
}

/// What an annotation is to hold.
fn validate_value(text: &str, environment: &Environment, path: &Path<'_>, errors: &mut Errors) {
    let trimmed = text.trim();
    if trimmed.is_empty() {
        errors.required(path, "valueExpression is not specified");
    } else if trimmed.len() > LONGEST_VALUE {
        errors.required(path, &format!("must not exceed {LONGEST_VALUE} bytes in length"));
    } else if let Err(why) = compile(trimmed, environment, &[Type::String, Type::Null]) {
        errors.invalid(path, text, &why);
    }
}

/// `messages` is what the expression of a message may name.
fn validate_validation(
    validation: &Value,
    environment: &Environment,
    messages: &Environment,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    let expected = Expected { environment, types: &[Type::Bool], missing: MISSING };
    expected.validate(validation.text("expression"), &path.child("expression"), errors);
    let message = validation.text("messageExpression");
    if !message.trim().is_empty() {
        let expected = Expected { environment: messages, types: &[Type::String], missing: "" };
        expected.validate(message, &path.child("messageExpression"), errors);
    }
    for field in ["messageExpression", "message"] {
        let text = validation.text(field);
        if !text.is_empty() && text.trim().is_empty() {
            errors.invalid(&path.child(field), text, "must be non-empty if specified");
        } else if field == "message" && text.trim().contains(['\n', '\r']) {
            errors.invalid(&path.child(field), text, "must not contain line breaks");
        }
    }
    rule::validate_choice(validation, "reason", REASONS, path, errors);
}

/// Where a mutation of each type has its expression.
const PATCHES: &[(&str, &str)] = &[("ApplyConfiguration", "applyConfiguration"), ("JSONPatch", "jsonPatch")];

fn validate_mutating(policy: &Value, variables: Variables, errors: &mut Errors) {
    let sees = Sees { patches: true, ..Sees::condition(policy.has("spec.paramKind")) };
    let environment = environment(sees, Some(variables));
    let path = Path::root("spec");
    let list = path.child("mutations");
    if policy.items("spec.mutations").is_empty() {
        errors.required(&list, "mutations must contain at least one item");
    }
    for (at, mutation) in policy.items("spec.mutations").iter().enumerate() {
        validate_mutation(mutation, &environment, &list.index(at), errors);
    }
    if policy.text("spec.reinvocationPolicy").is_empty() {
        return errors.required(&path.child("reinvocationPolicy"), "");
    }
    rule::validate_choice(policy.look("spec"), "reinvocationPolicy", REINVOCATION_POLICIES, &path, errors);
}

fn validate_mutation(mutation: &Value, environment: &Environment, path: &Path<'_>, errors: &mut Errors) {
    let kind = mutation.text("patchType");
    let Some((_, own)) = PATCHES.iter().find(|(name, _)| *name == kind) else {
        let here = path.child("patchType");
        if kind.is_empty() {
            errors.required(&here, "");
        } else {
            errors.not_supported(&here, kind, &PATCHES.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        }
        return;
    };
    match mutation.look(own) {
        Value::Null => errors.required(&path.child(own), &format!("must be specified when patchType is {kind}")),
        patch => {
            let expected = Expected { environment, types: &[expressions::mutation(kind)], missing: "" };
            expected.validate(patch.text("expression").trim(), &path.child(own).child("expression"), errors);
        }
    }
    for (_, other) in PATCHES.iter().filter(|(_, field)| field != own && mutation.has(field)) {
        let why = format!("must not be specified when patchType is {kind}");
        errors.invalid(&path.child(other), format!("{{{other}}}"), &why);
    }
}

fn validate_status(new: &Value, _: &Value, errors: &mut Errors) {
    let path = Path::root("status");
    let list = path.child("typeChecking.expressionWarnings");
    for (at, warning) in new.items("status.typeChecking.expressionWarnings").iter().enumerate() {
        let path = list.index(at);
        if warning.text("warning").is_empty() {
            errors.required(&path.child("warning"), "");
        }
        let (place, here) = (warning.text("fieldRef").trim(), path.child("fieldRef"));
        if place.is_empty() {
            errors.required(&here, "");
        } else if let Err(why) = JsonPath::parse(place) {
            errors.invalid(&here, place, &format!("invalid JSONPath: {why}"));
        }
    }
    conditions::validate(new.items("status.conditions"), &path.child("conditions"), errors);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_cels() {
        for (name, right) in
            [("a", true), ("_a1", true), ("1a", false), ("a-b", false), ("in", false), ("\u{e4}", false)]
        {
            assert_eq!(is_identifier(name), right, "{name}");
        }
    }

    #[test]
    fn parameters_are_of_a_versioned_kind() {
        for (version, kind, wrong) in
            [("v1", "ConfigMap", 0), ("g.io/v1", "K", 0), ("g/v/x", "K", 1), ("G/v1", "K_", 2), ("g/", "", 2)]
        {
            let mut errors = Errors::default();
            validate_param_kind(&json!({"apiVersion": version, "kind": kind}), &Path::root("k"), &mut errors);
            assert_eq!(errors.len(), wrong, "{version} {kind}");
        }
    }

    #[test]
    fn a_mutation_has_what_its_type_says() {
        for (mutation, wrong) in [
            (json!({"patchType": "JSONPatch", "jsonPatch": {"expression": "[JSONPatch{}]"}}), 0),
            (json!({"patchType": "JSONPatch", "applyConfiguration": {"expression": "Object{}"}}), 2),
            (json!({"patchType": "ApplyConfiguration", "applyConfiguration": {}}), 1),
            (json!({"patchType": "Merge"}), 1),
            (json!({}), 1),
        ] {
            let mut errors = Errors::default();
            let sees = Sees { patches: true, ..Sees::condition(false) };
            let environment = environment(sees, Some(Variables::new()));
            validate_mutation(&mutation, &environment, &Path::root("m"), &mut errors);
            assert_eq!(errors.len(), wrong, "{mutation}");
        }
    }
}
