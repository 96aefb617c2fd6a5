//! The rules of resource amounts.

use std::collections::HashSet;

use kedge_api::quantity::Quantity;
use serde_json::Value;

use crate::errors::{Errors, Path};
use crate::names;
use crate::value::Look as _;

const STANDARD: &[&str] = &["cpu", "memory", "ephemeral-storage"];
const KNOWN: &[&str] = &["cpu", "memory", "ephemeral-storage", "storage", "pods"];

pub(crate) fn parse(value: &Value) -> Quantity {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or(Quantity::ZERO)
}

/// Of a container: names, amounts, and requests within limits.
pub(crate) fn requirements(resources: &Value, claims: &[Value], path: &Path<'_>, errors: &mut Errors) {
    let (limits, requests) = (path.child("limits"), path.child("requests"));
    for (list, here) in [("limits", &limits), ("requests", &requests)] {
        for (name, amount) in resources.entries(list) {
            let item = here.key(name);
            container_resource(name, &item, errors);
            negative(amount, &item, errors);
            if is_extended(name) && parse(amount).milli() % 1000 != 0 {
                errors.invalid(&item, amount.clone(), "must be an integer");
            }
        }
    }
    for (name, request) in resources.entries("requests") {
        match resources.look("limits").get(name) {
            Some(limit) => {
                let same = !is_overcommitted(name);
                if same && parse(request) != parse(limit) {
                    let why = format!("must be equal to {name} limit of {}", limit.as_str().unwrap_or_default());
                    errors.invalid(&requests, request.clone(), &why);
                } else if parse(request) > parse(limit) {
                    let why =
                        format!("must be less than or equal to {name} limit of {}", limit.as_str().unwrap_or_default());
                    errors.invalid(&requests, request.clone(), &why);
                }
            }
            None if !is_overcommitted(name) => {
                errors.required(&limits, "Limit must be set for non overcommitable resources");
            }
            None => {}
        }
    }
    let names: HashSet<&str> = claims.iter().map(|c| c.text("name")).collect();
    let list = path.child("claims");
    for (at, claim) in resources.items("claims").iter().enumerate() {
        let name = claim.text("name");
        let item = list.index(at);
        if name.is_empty() {
            errors.required(&item, "");
        } else if names.is_empty() {
            errors.not_found_because(&item, name, "must be one of the names in pod.spec.resourceClaims which is empty");
        } else if !names.contains(name) {
            let mut all: Vec<_> = names.iter().copied().collect();
            all.sort_unstable();
            let why = format!("must be one of the names in pod.spec.resourceClaims: {}", all.join(", "));
            errors.not_found_because(&item, name, &why);
        }
    }
}

fn is_overcommitted(name: &str) -> bool {
    !is_extended(name) && !name.starts_with("hugepages-")
}

/// Something outside Kubernetes' own domain: a device.
fn is_extended(name: &str) -> bool {
    name.split_once('/').is_some_and(|(domain, _)| domain != "kubernetes.io" && !domain.ends_with(".kubernetes.io"))
}

fn container_resource(name: &str, path: &Path<'_>, errors: &mut Errors) {
    errors.all_invalid(path, name, names::qualified(name));
    if !name.contains('/') {
        let huge = name.starts_with("hugepages-");
        if !KNOWN.contains(&name) && !huge {
            errors.invalid(path, name, "must be a standard resource type or fully qualified");
        }
        if !STANDARD.contains(&name) && !huge {
            errors.invalid(path, name, "must be a standard resource for containers");
        }
    }
}

fn negative(amount: &Value, path: &Path<'_>, errors: &mut Errors) {
    if parse(amount).is_negative() {
        errors.invalid(path, amount.clone(), "must be greater than or equal to 0");
    }
}

/// What containers request together.
pub(crate) fn total(containers: &[Value], name: &str) -> Quantity {
    let amounts = containers.iter().filter_map(|c| c.look("resources.requests").get(name));
    amounts.map(parse).sum()
}

/// Of a plain list of amounts.
pub(crate) fn amounts(list: &Value, path: &Path<'_>, errors: &mut Errors) {
    for (name, amount) in list.as_object().into_iter().flatten() {
        container_resource(name, &path.key(name), errors);
        negative(amount, &path.key(name), errors);
    }
}
