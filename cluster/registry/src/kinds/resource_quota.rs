//! ResourceQuota: how much all objects of a namespace may take together.

use std::borrow::Cow;
use std::collections::BTreeSet;

use kedge_api::Resource;
use kedge_api::resource::Column;
use serde_json::{Value, json};

use super::pod::resources;
use super::{STATUS, columns, resource, workload};
use crate::errors::{Errors, Path};
use crate::golang;
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

const COLUMNS: &[Column] = &[
    columns::text("Request", |o| used(o, false).into()),
    columns::text("Limit", |o| used(o, true).into()),
    columns::AGE,
];

const PODS: &[&str] = &["pods"];
const CLAIMS: &[&str] = &["persistentvolumeclaims", "requests.storage"];
const COMPUTE: &[&str] = &["pods", "cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];

/// Scopes, and the resources that each of them can narrow.
const SCOPES: &[(&str, &[&str])] = &[
    ("Terminating", COMPUTE),
    ("NotTerminating", COMPUTE),
    ("BestEffort", PODS),
    ("NotBestEffort", COMPUTE),
    ("PriorityClass", COMPUTE),
    ("CrossNamespacePodAffinity", COMPUTE),
    ("VolumeAttributesClass", CLAIMS),
];

/// Scopes that are there or not, without values to choose from.
const PLAIN: &[&str] = &["BestEffort", "NotBestEffort", "Terminating", "NotTerminating", "CrossNamespacePodAffinity"];
const OPPOSITES: [[&str; 2]; 2] = [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]];

pub(crate) fn row() -> Row {
    let base =
        resource("", "resourcequotas", "resourcequota", "ResourceQuota", "io.k8s.api.core.v1.ResourceQuota", COLUMNS);
    let resource = Resource { short_names: Cow::Borrowed(&["quota"]), subresources: &[STATUS], ..base };
    let strategy = Strategy {
        status: true,
        returns_deleted: true,
        default: |quota| {
            quota.fill("spec", json!({}));
            quota.fill("status", json!({}));
        },
        prepare_create: |quota| quota.set("status", json!({})),
        validate,
        validate_update: |new, old, errors| {
            let scopes =
                |quota: &Value| quota.items("spec.scopes").iter().map(Value::to_string).collect::<BTreeSet<_>>();
            if scopes(new) != scopes(old) {
                workload::immutable(new, old, "spec.scopes", errors);
            }
        },
        validate_status,
        ..Strategy::PLAIN
    };
    Row::new(resource, strategy)
}

/// What is used of what there is, of limits or of all else.
fn used(quota: &Value, limits: bool) -> String {
    let hard = quota.entries("status.hard").filter(|(name, _)| name.starts_with("limits.") == limits);
    let line = |(name, hard): (&String, &Value)| {
        let used = quota.look("status.used").get(name).and_then(Value::as_str).unwrap_or("0");
        format!("{name}: {used}/{}", hard.as_str().unwrap_or_default())
    };
    hard.map(line).collect::<Vec<_>>().join(", ")
}

fn amounts(list: &Value, path: &Path<'_>, errors: &mut Errors) {
    for (name, amount) in list.as_object().into_iter().flatten() {
        let item = path.key(name);
        resources::resource(name, &item, errors);
        if !name.contains('/') && !is_quota(name) {
            errors.invalid(&item, name.as_str(), "must be a standard resource for quota");
        }
        resources::quantity(name, amount, &item, errors);
    }
}

fn is_quota(name: &str) -> bool {
    resources::is_standard(name) && name != "storage"
}

fn validate(quota: &Value, errors: &mut Errors) {
    let spec = Path::root("spec");
    amounts(quota.look("spec.hard"), &spec.child("hard"), errors);
    scopes(quota, &spec.child("scopes"), errors);
    selector(quota, &spec, errors);
}

/// Of all that the quota limits, whether the scope can narrow it. Of a scope that is none nothing more is said.
fn fits(quota: &Value, scope: &str) -> impl Iterator<Item = bool> {
    let resources = SCOPES.iter().find(|(name, _)| *name == scope).map(|(_, resources)| *resources);
    let hard = quota.entries("spec.hard").map(|(name, _)| name.as_str()).filter(|name| is_quota(name));
    hard.map(move |name| resources.is_none_or(|resources| resources.contains(&name)))
}

fn scopes(quota: &Value, path: &Path<'_>, errors: &mut Errors) {
    let scopes: Vec<&str> = quota.items("spec.scopes").iter().filter_map(Value::as_str).collect();
    let shown = || quota.look("spec.scopes").clone();
    for scope in &scopes {
        if !SCOPES.iter().any(|(name, _)| name == scope) {
            errors.invalid(path, shown(), "unsupported scope");
        }
        fits(quota, scope)
            .filter(|fits| !fits)
            .for_each(|_| errors.invalid(path, shown(), "unsupported scope applied to resource"));
    }
    for pair in OPPOSITES {
        if pair.iter().all(|scope| scopes.contains(scope)) {
            errors.invalid(path, shown(), "conflicting scopes");
        }
    }
}

fn selector(quota: &Value, spec: &Path<'_>, errors: &mut Errors) {
    let selector = spec.child("scopeSelector");
    let path = selector.child("matchExpressions");
    let terms = quota.items("spec.scopeSelector.matchExpressions");
    for term in terms {
        let (scope, operator, values) = (term.text("scopeName"), term.text("operator"), term.items("values"));
        if !SCOPES.iter().any(|(name, _)| *name == scope) {
            errors.invalid(&path.child("scopeName"), scope, "unsupported scope");
        }
        for _ in fits(quota, scope).filter(|fits| !fits) {
            let shown = golang::show(quota.look("spec.scopeSelector"), "ScopeSelector");
            errors.invalid_json(&path, &shown, "unsupported scope applied to resource");
        }
        if PLAIN.contains(&scope) && operator != "Exists" {
            let why = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, \
                       ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
            errors.invalid(&path.child("operator"), operator, why);
        }
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                let why = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.required(&path.child("values"), why);
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let why = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                errors.invalid(&path.child("values"), values.to_vec(), why);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
        }
    }
    for pair in OPPOSITES {
        if pair.iter().all(|scope| terms.iter().any(|t| t.text("scopeName") == *scope)) {
            errors.invalid(&path, quota.look("spec.scopes").clone(), "conflicting scopes");
        }
    }
}

fn validate_status(new: &Value, _: &Value, errors: &mut Errors) {
    let status = Path::root("status");
    for list in ["hard", "used"] {
        amounts(new.look("status").look(list), &status.child(list), errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::cases;

    #[test]
    fn cells_tell_requests_from_limits() {
        let quota =
            json!({"status": {"hard": {"limits.cpu": "2", "pods": "10", "requests.cpu": "1"}, "used": {"pods": "3"}}});
        assert_eq!(used(&quota, false), "pods: 3/10, requests.cpu: 0/1");
        assert_eq!(used(&quota, true), "limits.cpu: 0/2");
    }

    #[test]
    fn scopes_fit_what_they_narrow() {
        let count = |spec: Value| {
            let mut errors = Errors::default();
            validate(&json!({"spec": spec}), &mut errors);
            errors.len()
        };
        assert_eq!(count(json!({"hard": {"pods": "1"}, "scopes": ["BestEffort"]})), 0);
        assert_eq!(count(json!({"hard": {"cpu": "1"}, "scopes": ["BestEffort"]})), 1);
        assert_eq!(count(json!({"hard": {"pods": "1"}, "scopes": ["BestEffort", "NotBestEffort"]})), 1);
        assert_eq!(count(json!({"hard": {"requests.storage": "1Gi"}, "scopes": ["VolumeAttributesClass"]})), 0);
        assert_eq!(count(json!({"hard": {"count/pods": "1500m", "foo": "1"}})), 3);
    }

    #[test]
    fn scopes_and_names() {
        let quota = json!({"spec": {"hard": {"cpu": "1"}}});
        let term = |scope: &str, operator: &str, values: Value| json!({"matchExpressions": [{"scopeName": scope, "operator": operator, "values": values}]});
        cases::created(
            &row(),
            &quota,
            &[
                ("/spec/scopes", json!(["Nowhere"]), &["spec.scopes: Invalid value: [\"Nowhere\"]: unsupported scope"]),
                (
                    "/spec/scopes",
                    json!(["BestEffort"]),
                    &["spec.scopes: Invalid value: [\"BestEffort\"]: unsupported scope applied to resource"],
                ),
                (
                    "/spec/hard",
                    json!({"x": "1", "pods": "1500m"}),
                    &[
                        "spec.hard[pods]: Invalid value: \"1500m\": must be an integer",
                        "spec.hard[x]: Invalid value: \"x\": must be a standard resource type or fully qualified",
                        "spec.hard[x]: Invalid value: \"x\": must be a standard resource for quota",
                    ],
                ),
                (
                    "/spec/scopeSelector",
                    term("Terminating", "In", json!([])),
                    &[
                        "spec.scopeSelector.matchExpressions.operator: Invalid value: \"In\": must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity",
                        "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
                    ],
                ),
            ],
        );
    }
}
