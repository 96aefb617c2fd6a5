//! Ingress: which requests from outside go to which service.

use std::borrow::Cow;

use kedge_api::Resource;
use kedge_api::resource::Column;
use serde_json::{Value, json};

use super::{STATUS, address, columns, resource};
use crate::errors::{Errors, Path};
use crate::names;
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

/// How a class was named before there was a field for it.
const CLASS: &str = "kubernetes.io/ingress.class";

const COLUMNS: &[Column] = &[
    columns::text("Class", |o| columns::or_none(o.text("spec.ingressClassName")).into()),
    columns::text("Hosts", |o| hosts(o.items("spec.rules")).into()),
    columns::text("Address", |o| addresses(o).into()),
    columns::text("Ports", |o| if o.items("spec.tls").is_empty() { "80".into() } else { "80, 443".into() }),
    columns::AGE,
];

pub(crate) fn row() -> Row {
    let schema = "io.k8s.api.networking.v1.Ingress";
    let base = resource("networking.k8s.io", "ingresses", "ingress", "Ingress", schema, COLUMNS);
    let resource = Resource { short_names: Cow::Borrowed(&["ing"]), subresources: &[STATUS], ..base };
    let strategy = Strategy {
        default,
        prepare_create: |ingress| ingress.set("status", json!({"loadBalancer": {}})),
        validate_create,
        validate_update: |new, old, errors| validate(new, Tolerated::of(old), errors),
        validate_status,
        warnings,
        ..Strategy::SPEC
    };
    Row::new(resource, strategy)
}

const SHOWN: usize = 3;

fn hosts(rules: &[Value]) -> String {
    let named = || rules.iter().map(|rule| rule.text("host")).filter(|host| !host.is_empty());
    let list: Vec<_> = named().take(SHOWN).collect();
    // Whether there is more is asked of the rules, not of the hosts among them.
    let third = rules.iter().enumerate().filter(|(_, r)| !r.text("host").is_empty()).nth(SHOWN - 1).map(|(at, _)| at);
    match (list.is_empty(), third.filter(|at| at + 1 < rules.len())) {
        (true, _) => "*".into(),
        (false, None) => list.join(","),
        (false, Some(_)) => format!("{} + {} more...", list.join(","), rules.len() - SHOWN),
    }
}

fn addresses(ingress: &Value) -> String {
    let one = |i: &Value| if i.text("ip").is_empty() { i.text("hostname").to_owned() } else { i.text("ip").to_owned() };
    let mut all: Vec<_> = ingress.items("status.loadBalancer.ingress").iter().map(one).collect();
    all.retain(|a| !a.is_empty());
    all.sort_unstable();
    all.dedup();
    all.join(",")
}

fn default(ingress: &mut Value) {
    ingress.fill("spec", json!({}));
    ingress.fill("status.loadBalancer", json!({}));
    // The empty list was kept to be shown in an error; there will be none.
    if ingress.has("spec.defaultBackend") && ingress.items("spec.rules").is_empty() {
        ingress.cut("spec.rules");
    }
    let port = |backend: Option<&mut Value>| {
        if let Some(service) = backend.and_then(|b| b.get_mut("service")) {
            service.fill("port", json!({}));
        }
    };
    port(ingress.find_mut("spec.defaultBackend"));
    for rule in ingress.items_mut("spec.rules") {
        for path in rule.items_mut("http.paths") {
            path.fill("backend", json!({}));
            port(path.get_mut("backend"));
        }
    }
}

/// What may stay wrong because it was before: older servers let it in.
#[derive(Clone, Copy, Default)]
struct Tolerated {
    secret_names: bool,
    wildcard_rules: bool,
}

impl Tolerated {
    fn of(old: &Value) -> Self {
        let wrong = |secret: &str| !secret.is_empty() && !names::subdomain(secret).is_empty();
        let broken = |rule: &Value| {
            let mut errors = Errors::default();
            validate_paths(rule, &Path::root("rule"), &mut errors);
            rule.text("host").contains('*') && !errors.is_empty()
        };
        Self {
            secret_names: old.items("spec.tls").iter().any(|tls| wrong(tls.text("secretName"))),
            wildcard_rules: old.items("spec.rules").iter().any(broken),
        }
    }
}

fn validate(ingress: &Value, tolerated: Tolerated, errors: &mut Errors) {
    let spec = Path::root("spec");
    let rules = ingress.look("spec.rules");
    let backend = ingress.look("spec.defaultBackend");
    if ingress.items("spec.rules").is_empty() && backend.is_null() {
        errors.invalid(&spec, rules.clone(), "either `defaultBackend` or `rules` must be specified");
    }
    if !backend.is_null() {
        validate_backend(backend, &spec.child("defaultBackend"), errors);
    }
    let list = spec.child("rules");
    for (at, rule) in ingress.items("spec.rules").iter().enumerate() {
        validate_rule(rule, tolerated, &list.index(at), errors);
    }
    let list = spec.child("tls");
    for (at, tls) in ingress.items("spec.tls").iter().enumerate() {
        let path = list.index(at);
        let hosts = path.child("hosts");
        for (at, host) in tls.items("hosts").iter().enumerate() {
            validate_host(host.as_str().unwrap_or_default(), &hosts.index(at), errors);
        }
        let secret = tls.text("secretName");
        if !secret.is_empty() && !tolerated.secret_names {
            errors.all_invalid(&path.child("secretName"), secret, names::subdomain(secret));
        }
    }
    if let Some(class) = ingress.look("spec.ingressClassName").as_str() {
        errors.all_invalid(&spec.child("ingressClassName"), class, names::subdomain(class));
    }
}

fn validate_host(host: &str, path: &Path<'_>, errors: &mut Errors) {
    let check = if host.contains('*') { names::wildcard_subdomain } else { names::subdomain };
    errors.all_invalid(path, host, check(host));
}

fn validate_rule(rule: &Value, tolerated: Tolerated, path: &Path<'_>, errors: &mut Errors) {
    let host = rule.text("host");
    if !host.is_empty() {
        let path = path.child("host");
        if address::sloppy(host).is_some() {
            errors.invalid(&path, host, "must be a DNS name, not an IP address");
        }
        validate_host(host, &path, errors);
    }
    if !host.contains('*') || !tolerated.wildcard_rules {
        validate_paths(rule, path, errors);
    }
}

fn validate_paths(rule: &Value, path: &Path<'_>, errors: &mut Errors) {
    if !rule.has("http") {
        return;
    }
    let paths = path.child("http.paths");
    if rule.items("http.paths").is_empty() {
        errors.required(&paths, "");
    }
    for (at, item) in rule.items("http.paths").iter().enumerate() {
        validate_path(item, &paths.index(at), errors);
    }
}

const PATH_TYPES: &[&str] = &["Exact", "ImplementationSpecific", "Prefix"];
const NOT_WITHIN: &[&str] = &["//", "/./", "/../", "%2f", "%2F"];
const NOT_AT_END: &[&str] = &["/..", "/."];

fn validate_path(item: &Value, path: &Path<'_>, errors: &mut Errors) {
    let text = item.text("path");
    let here = path.child("path");
    match item.look("pathType").as_str() {
        None => {
            errors.required(&path.child("pathType"), "pathType must be specified");
            return;
        }
        Some("Exact" | "Prefix") => {
            if !text.starts_with('/') {
                errors.invalid(&here, text, "must be an absolute path");
            }
            for part in NOT_WITHIN.iter().filter(|part| text.contains(**part)) {
                errors.invalid(&here, text, &format!("must not contain '{part}'"));
            }
            for end in NOT_AT_END.iter().filter(|end| text.ends_with(**end)) {
                errors.invalid(&here, text, &format!("cannot end with '{end}'"));
            }
        }
        Some("ImplementationSpecific") => {
            if !text.is_empty() && !text.starts_with('/') {
                errors.invalid(&here, text, "must be an absolute path");
            }
        }
        Some(other) => errors.not_supported(&path.child("pathType"), other, PATH_TYPES),
    }
    validate_backend(item.look("backend"), &path.child("backend"), errors);
}

fn validate_backend(backend: &Value, path: &Path<'_>, errors: &mut Errors) {
    match (backend.has("resource"), backend.has("service")) {
        (true, true) => errors.invalid(path, "", "cannot set both resource and service backends"),
        (true, false) => validate_reference(backend.look("resource"), &path.child("resource"), errors),
        (false, true) => validate_service(backend.look("service"), path, errors),
        (false, false) => errors.invalid(path, "", "resource or service backend is required"),
    }
}

fn validate_service(service: &Value, path: &Path<'_>, errors: &mut Errors) {
    let here = path.child("service");
    let name = service.text("name");
    if name.is_empty() {
        errors.required(&here.child("name"), "");
    } else {
        errors.all_invalid(&here.child("name"), name, names::label(name));
    }
    let port = here.child("port");
    let (name, number) = (service.text("port.name"), service.int("port.number").unwrap_or(0));
    match (name.is_empty(), number) {
        (true, 0) => errors.required(path, "port name or number is required"),
        (true, number) => {
            for why in names::port_number(number) {
                errors.invalid(&port.child("number"), number, &why);
            }
        }
        (false, 0) => errors.all_invalid(&port.child("name"), name, names::port(name)),
        (false, _) => errors.invalid(path, "", "cannot set both port name & port number"),
    }
}

/// An object of another kind, in the same namespace or in the cluster.
pub(super) fn validate_reference(reference: &Value, path: &Path<'_>, errors: &mut Errors) {
    if let Some(group) = reference.look("apiGroup").as_str() {
        errors.all_invalid(&path.child("apiGroup"), group, names::subdomain(group));
    }
    for field in ["kind", "name"] {
        validate_segment(reference.text(field), &path.child(field), errors);
    }
}

pub(super) fn validate_segment(text: &str, path: &Path<'_>, errors: &mut Errors) {
    if text.is_empty() {
        errors.required(path, "");
    } else {
        errors.all_invalid(path, text, names::path_segment(text));
    }
}

fn class_annotation(ingress: &Value) -> Option<&str> {
    ingress.look("metadata.annotations").get(CLASS).and_then(Value::as_str)
}

fn validate_create(ingress: &Value, errors: &mut Errors) {
    validate(ingress, Tolerated::default(), errors);
    if let (Some(annotation), Some(class)) = (class_annotation(ingress), ingress.look("spec.ingressClassName").as_str())
        && annotation != class
    {
        let why = "must match `ingressClassName` when both are specified";
        errors.invalid(&Path::root("annotations").child(CLASS), annotation, why);
    }
}

fn validate_status(new: &Value, old: &Value, errors: &mut Errors) {
    const LIST: &str = "status.loadBalancer.ingress";
    let root = Path::root(LIST);
    let had: Vec<&str> = old.items(LIST).iter().map(|ingress| ingress.text("ip")).collect();
    for (at, ingress) in new.items(LIST).iter().enumerate() {
        address::load_balancer(ingress, &had, &root.index(at), |_| {}, errors);
    }
}

fn warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let warning = || format!("annotation {CLASS:?} is deprecated, please use 'spec.ingressClassName' instead");
    class_annotation(new).filter(|_| old.is_none()).map(|_| warning()).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_hosts_are_shown() {
        let rules = |hosts: &[&str]| -> Vec<Value> { hosts.iter().map(|h| json!({"host": h})).collect() };
        assert_eq!(hosts(&[]), "*");
        assert_eq!(hosts(&rules(&["", ""])), "*");
        assert_eq!(hosts(&rules(&["a", "", "b", "c"])), "a,b,c");
        assert_eq!(hosts(&rules(&["a", "b", "c", "d", "e"])), "a,b,c + 2 more...");
    }

    #[test]
    fn what_was_wrong_before_may_stay_so() {
        let ingress = |host: &str, path: &str, secret: &str| {
            let backend = json!({"service": {"name": "s", "port": {"number": 80}}});
            let paths = json!([{"path": path, "pathType": "Exact", "backend": backend}]);
            json!({"spec": {"rules": [{"host": host, "http": {"paths": paths}}], "tls": [{"secretName": secret}]}})
        };
        for (old, new, wrong) in [
            (ingress("*.a.b", "x", "A"), ingress("*.a.b", "y", "B"), 0),
            (ingress("*.a.b", "x", "A"), ingress("a.b", "y", "B"), 1),
            (ingress("*.a.b", "/x", "a"), ingress("*.a.b", "y", "B"), 2),
            (ingress("a.b", "x", "a"), ingress("*.a.b", "y", "a"), 1),
        ] {
            let mut errors = Errors::default();
            validate(&new, Tolerated::of(&old), &mut errors);
            assert_eq!(errors.len(), wrong, "{old} -> {new}: {:?}", errors.told());
        }
    }

    #[test]
    fn a_backend_is_one_thing_with_one_port() {
        let count = |backend: Value| {
            let mut errors = Errors::default();
            validate_backend(&backend, &Path::root("backend"), &mut errors);
            errors.len()
        };
        assert_eq!(count(json!({"service": {"name": "s", "port": {"number": 80}}})), 0);
        assert_eq!(count(json!({"resource": {"kind": "K", "name": "n"}})), 0);
        assert_eq!(count(json!({})), 1);
        assert_eq!(count(json!({"service": {"name": "s", "port": {"number": 80, "name": "http"}}})), 1);
        assert_eq!(count(json!({"service": {"name": "", "port": {}}})), 2);
        assert_eq!(count(json!({"service": {"name": "s"}, "resource": {}})), 1);
    }
}
