//! MutatingWebhookConfiguration and ValidatingWebhookConfiguration: servers that are asked before an object is stored.

use std::borrow::Cow;
use std::collections::HashSet;

use kedge_api::Resource;
use kedge_api::resource::Column;
use serde_json::{Value, json};

use super::admission_rule::{self as rule, FAILURE_POLICIES, GROUP, REINVOCATION_POLICIES};
use super::{API_EXTENSIONS, cluster_resource, columns};
use crate::errors::{Errors, Path};
use crate::expressions::{Sees, environment};
use crate::names;
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

const COLUMNS: &[Column] = &[columns::number("Webhooks", |o| o.items("webhooks").len().into()), columns::AGE];

const SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun"];
const REVIEW_VERSIONS: &[&str] = &["v1", "v1beta1"];
const MOST_SECONDS: i64 = 30;

pub(crate) fn mutating_row() -> Row {
    let schema = "io.k8s.api.admissionregistration.v1.MutatingWebhookConfiguration";
    let (plural, singular) = ("mutatingwebhookconfigurations", "mutatingwebhookconfiguration");
    let default = |configuration: &mut Value| {
        default(configuration);
        for webhook in configuration.items_mut("webhooks") {
            webhook.fill("reinvocationPolicy", "Never");
        }
    };
    row(cluster_resource(GROUP, plural, singular, "MutatingWebhookConfiguration", schema, COLUMNS), default)
}

pub(crate) fn validating_row() -> Row {
    let schema = "io.k8s.api.admissionregistration.v1.ValidatingWebhookConfiguration";
    let (plural, singular) = ("validatingwebhookconfigurations", "validatingwebhookconfiguration");
    row(cluster_resource(GROUP, plural, singular, "ValidatingWebhookConfiguration", schema, COLUMNS), default)
}

fn row(base: Resource, default: fn(&mut Value)) -> Row {
    let resource = Resource { categories: Cow::Borrowed(API_EXTENSIONS), ..base };
    let strategy = Strategy { generation: true, unconditional_update: false, default, validate, ..Strategy::PLAIN };
    Row::new(resource, strategy)
}

fn default(configuration: &mut Value) {
    for webhook in configuration.items_mut("webhooks") {
        webhook.fill("failurePolicy", "Fail");
        webhook.fill("timeoutSeconds", 10);
        webhook.fill("clientConfig", json!({}));
        if webhook.has("clientConfig.service") {
            webhook.fill("clientConfig.service.port", 443);
        }
        rule::default_match(webhook);
        rule::default_rules(webhook, "rules");
    }
}

fn validate(configuration: &Value, errors: &mut Errors) {
    let root = Path::root("webhooks");
    let mut seen = HashSet::new();
    for (at, webhook) in configuration.items("webhooks").iter().enumerate() {
        let path = root.index(at);
        let name = webhook.text("name");
        validate_name(name, &path.child("name"), errors);
        validate_webhook(webhook, &path, errors);
        let versions = webhook.items("admissionReviewVersions");
        validate_review_versions(
            versions,
            "must specify one of v1, v1beta1",
            &path.child("admissionReviewVersions"),
            errors,
        );
        if !name.is_empty() && !seen.insert(name) {
            errors.duplicate(&path.child("name"), name);
        }
    }
}

fn validate_name(name: &str, path: &Path<'_>, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(path, "");
        return;
    }
    let wrong = names::subdomain(name);
    if !wrong.is_empty() {
        errors.invalid(path, name, &wrong.join(","));
    } else if name.split('.').count() < 3 {
        errors.invalid(path, name, "should be a domain with at least three segments separated by dots");
    }
}

fn validate_webhook(webhook: &Value, path: &Path<'_>, errors: &mut Errors) {
    let rules = path.child("rules");
    for (at, item) in webhook.items("rules").iter().enumerate() {
        rule::validate_rule(item, &rules.index(at), errors);
    }
    rule::validate_choice(webhook, "failurePolicy", FAILURE_POLICIES, path, errors);
    rule::validate_match_policy(webhook, path, errors);
    if !webhook.has("sideEffects") {
        errors.required(&path.child("sideEffects"), "must specify one of None, NoneOnDryRun");
    }
    rule::validate_choice(webhook, "sideEffects", SIDE_EFFECTS, path, errors);
    if let Some(seconds) = webhook.int("timeoutSeconds").filter(|s| !(1..=MOST_SECONDS).contains(s)) {
        let why = "the timeout value must be between 1 and 30 seconds";
        errors.invalid(&path.child("timeoutSeconds"), seconds, why);
    }
    rule::validate_selectors(webhook, path, errors);
    rule::validate_choice(webhook, "reinvocationPolicy", REINVOCATION_POLICIES, path, errors);
    validate_client(webhook.look("clientConfig"), &path.child("clientConfig"), errors);
    let environment = environment(Sees::condition(false), None);
    rule::validate_conditions(webhook, &environment, path, errors);
}

/// Where a webhook is, of admission or of conversion.
pub(super) fn validate_client(client: &Value, path: &Path<'_>, errors: &mut Errors) {
    match (client.look("url").as_str(), client.look("service")) {
        (Some(url), Value::Null) => validate_url(url, &path.child("url"), errors),
        (None, service) if !service.is_null() => validate_service(service, &path.child("service"), errors),
        _ => errors.required(path, "exactly one of url or service is required"),
    }
}

/// The versions in which a webhook reads what it is asked; `missing` is what is said where there are none.
pub(super) fn validate_review_versions(versions: &[Value], missing: &str, path: &Path<'_>, errors: &mut Errors) {
    let versions: Vec<_> = versions.iter().filter_map(Value::as_str).collect();
    if versions.is_empty() {
        return errors.required(path, missing);
    }
    let mut seen = HashSet::new();
    for (at, version) in versions.iter().enumerate() {
        let path = path.index(at);
        if seen.insert(version) {
            errors.all_invalid(&path, version, names::old_label(version));
        } else {
            errors.invalid(&path, *version, "duplicate version");
        }
    }
    if !versions.iter().any(|v| REVIEW_VERSIONS.contains(v)) {
        errors.invalid(path, versions, "must include at least one of v1, v1beta1");
    }
}

fn validate_url(url: &str, path: &Path<'_>, errors: &mut Errors) {
    const FORM: &str = "; desired format: https://host[/path]";
    let (rest, fragment) = url.split_once('#').unwrap_or((url, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (scheme, rest) = rest.split_once("://").unwrap_or(("", ""));
    let authority = rest.split('/').next().unwrap_or_default();
    let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    if scheme != "https" {
        errors.invalid(path, scheme, &format!("'https' is the only allowed URL scheme{FORM}"));
    }
    if host.is_empty() {
        errors.invalid(path, host, &format!("host must be specified{FORM}"));
    }
    if let Some(user) = user {
        errors.invalid(path, user, "user information is not permitted in the URL");
    }
    for (part, what) in [(fragment, "fragments"), (query, "query parameters")] {
        if !part.is_empty() {
            errors.invalid(path, part, &format!("{what} are not permitted in the URL"));
        }
    }
}

/// A service that answers: also that of a conversion or an aggregated API would be named so.
fn validate_service(service: &Value, path: &Path<'_>, errors: &mut Errors) {
    for field in ["name", "namespace"] {
        if service.text(field).is_empty() {
            errors.required(&path.child(field), "");
        }
    }
    let port = service.int("port").unwrap_or(0);
    for why in names::port_number(port) {
        errors.invalid(&path.child("port"), port, &format!("port is not valid: {why}"));
    }
    let (text, path) = (service.text("path"), path.child("path"));
    match text {
        "" | "/" => return,
        "//" => {
            errors.invalid(&path, text, "segment[0] may not be empty");
            return;
        }
        _ => {}
    }
    if !text.starts_with('/') {
        errors.invalid(&path, text, "must start with a '/'");
    }
    // As upstream: the first character is left out, whatever it is.
    let checked = text.char_indices().nth(1).and_then(|(at, _)| text.get(at..)).unwrap_or_default();
    let checked = checked.strip_suffix('/').unwrap_or(checked);
    for (at, step) in checked.split('/').enumerate() {
        if step.is_empty() {
            errors.invalid(&path, text, &format!("segment[{at}] may not be empty"));
            continue;
        }
        for why in names::subdomain(step) {
            errors.invalid(&path, text, &format!("segment[{at}]: {why}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(check: impl Fn(&Path<'_>, &mut Errors)) -> usize {
        let mut errors = Errors::default();
        check(&Path::root("x"), &mut errors);
        errors.len()
    }

    #[test]
    fn addresses_are_plain_https() {
        for (url, wrong) in [
            ("https://h", 0),
            ("https://h:8443/p/q", 0),
            ("http://h/p", 1),
            ("https:///p", 1),
            ("https://u:p@h/p?q#f", 3),
            ("h/p", 2),
        ] {
            assert_eq!(count(|path, errors| validate_url(url, path, errors)), wrong, "{url}");
        }
    }

    #[test]
    fn paths_of_services_have_no_empty_steps() {
        for (text, wrong) in
            [("", 0), ("/", 0), ("/a/b", 0), ("/a/", 0), ("//", 1), ("x//", 3), ("/a//b", 1), ("/A", 1)]
        {
            let service = json!({"name": "n", "namespace": "n", "port": 443, "path": text});
            assert_eq!(count(|path, errors| validate_service(&service, path, errors)), wrong, "{text}");
        }
    }

    #[test]
    fn names_have_three_parts() {
        for (name, wrong) in [("a.b.c", 0), ("a.b", 1), ("A.b.c", 1), ("", 1)] {
            assert_eq!(count(|path, errors| validate_name(name, path, errors)), wrong, "{name}");
        }
    }
}
