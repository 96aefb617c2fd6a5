//! IngressClass: who makes Ingresses of this class work.

use kedge_api::resource::Column;
use serde_json::{Value, json};

use super::ingress::validate_reference;
use super::{cluster_resource, columns, workload};
use crate::errors::{Errors, Path};
use crate::names;
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

const LONGEST_CONTROLLER: usize = 250;
const SCOPES: &[&str] = &["Cluster", "Namespace"];

const COLUMNS: &[Column] = &[
    columns::text("Controller", |o| o.text("spec.controller").into()),
    columns::text("Parameters", |o| parameters(o.look("spec.parameters")).into()),
    columns::AGE,
];

pub(crate) fn row() -> Row {
    let schema = "io.k8s.api.networking.v1.IngressClass";
    let resource =
        cluster_resource("networking.k8s.io", "ingressclasses", "ingressclass", "IngressClass", schema, COLUMNS);
    let strategy = Strategy {
        generation: true,
        default,
        validate_create: validate,
        validate_update: |new, old, errors| {
            workload::immutable(new, old, "spec.controller", errors);
            validate(new, errors);
        },
        ..Strategy::PLAIN
    };
    Row::new(resource, strategy)
}

fn parameters(parameters: &Value) -> String {
    match (parameters.is_null(), parameters.look("apiGroup").as_str()) {
        (true, _) => columns::or_none(""),
        (false, None) => format!("{}/{}", parameters.text("kind"), parameters.text("name")),
        (false, Some(group)) => format!("{}.{group}/{}", parameters.text("kind"), parameters.text("name")),
    }
}

fn default(class: &mut Value) {
    class.fill("spec", json!({}));
    if class.has("spec.parameters") {
        class.fill("spec.parameters.scope", "Cluster");
    }
}

fn validate(class: &Value, errors: &mut Errors) {
    let spec = Path::root("spec");
    let controller = class.text("spec.controller");
    let path = spec.child("controller");
    if controller.len() > LONGEST_CONTROLLER {
        errors.too_long(&path, LONGEST_CONTROLLER);
    }
    domain_path(controller, &path, errors);
    let parameters = class.look("spec.parameters");
    if !parameters.is_null() {
        validate_parameters(parameters, &spec.child("parameters"), errors);
    }
}

/// A path that begins with the domain of whoever chose it.
pub(super) fn domain_path(text: &str, path: &Path<'_>, errors: &mut Errors) {
    if text.is_empty() {
        errors.required(path, "");
        return;
    }
    let parts = text.split_once('/').filter(|(host, rest)| !host.is_empty() && !rest.is_empty());
    let Some((host, rest)) = parts else {
        errors.invalid(path, text, "must be a domain-prefixed path (such as \"acme.io/foo\")");
        return;
    };
    errors.all_invalid(path, host, names::subdomain(host));
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b);
    if !rest.bytes().all(fits) {
        let why = "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
        errors.invalid(path, rest, why);
    }
}

fn validate_parameters(parameters: &Value, path: &Path<'_>, errors: &mut Errors) {
    validate_reference(parameters, path, errors);
    let here = path.child("namespace");
    let namespace = parameters.look("namespace").as_str();
    match (parameters.text("scope"), namespace) {
        ("Cluster", None) => {}
        ("Cluster", Some(_)) => errors.forbidden(&here, "`parameters.scope` is set to 'Cluster'"),
        ("Namespace", None) => errors.required(&here, "`parameters.scope` is set to 'Namespace'"),
        ("Namespace", Some(namespace)) => errors.all_invalid(&here, namespace, names::label(namespace)),
        (other, _) => errors.not_supported(&path.child("scope"), other, SCOPES),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_have_a_domain() {
        for (text, wrong) in [("a.b/c", 0), ("a/b/c:d", 0), ("a", 1), ("/a", 1), ("a/", 1), ("A_/b", 1), ("a.b/c d", 1)]
        {
            let mut errors = Errors::default();
            domain_path(text, &Path::root("controller"), &mut errors);
            assert_eq!(errors.len(), wrong, "{text}");
        }
    }

    #[test]
    fn parameters_are_one_cell() {
        assert_eq!(parameters(&json!(null)), "<none>");
        assert_eq!(parameters(&json!({"kind": "K", "name": "n"})), "K/n");
        assert_eq!(parameters(&json!({"apiGroup": "g.io", "kind": "K", "name": "n"})), "K.g.io/n");
    }
}
