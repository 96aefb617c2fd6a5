//! The rules of resource amounts.

use std::collections::HashSet;

use kedge_api::quantity::Quantity;
use serde_json::Value;

use crate::errors::{Errors, Path};
use crate::names;
use crate::value::Look as _;

const STANDARD: &[&str] = &["cpu", "memory", "ephemeral-storage"];
/// All names without a domain, and of what only whole numbers are counted.
const KNOWN: &[(&str, bool)] = &[
    ("cpu", false),
    ("memory", false),
    ("ephemeral-storage", false),
    ("requests.cpu", false),
    ("requests.memory", false),
    ("requests.ephemeral-storage", false),
    ("requests.storage", false),
    ("limits.cpu", false),
    ("limits.memory", false),
    ("limits.ephemeral-storage", false),
    ("storage", false),
    ("pods", true),
    ("resourcequotas", true),
    ("services", true),
    ("replicationcontrollers", true),
    ("secrets", true),
    ("configmaps", true),
    ("persistentvolumeclaims", true),
    ("services.nodeports", true),
    ("services.loadbalancers", true),
];

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

/// A name that needs no domain.
pub(crate) fn is_standard(name: &str) -> bool {
    let huge = ["hugepages-", "requests.hugepages-"].iter().any(|prefix| name.starts_with(prefix));
    huge || KNOWN.iter().any(|(known, _)| *known == name)
}

/// Something of which there are no fractions: objects and devices.
pub(crate) fn is_counted(name: &str) -> bool {
    (is_extended(name) && !name.starts_with("requests.")) || KNOWN.iter().any(|(known, whole)| *known == name && *whole)
}

pub(crate) fn is_overcommitted(name: &str) -> bool {
    !is_extended(name) && !name.starts_with("hugepages-")
}

/// Something outside Kubernetes' own domain: a device.
fn is_extended(name: &str) -> bool {
    name.split_once('/').is_some_and(|(domain, _)| domain != "kubernetes.io" && !domain.ends_with(".kubernetes.io"))
}

/// The name of any resource.
pub(crate) fn resource(name: &str, path: &Path<'_>, errors: &mut Errors) {
    errors.all_invalid(path, name, names::qualified(name));
    if !name.contains('/') && !is_standard(name) {
        errors.invalid(path, name, "must be a standard resource type or fully qualified");
    }
}

/// The name of a resource that a container can have.
pub(crate) fn container_resource(name: &str, path: &Path<'_>, errors: &mut Errors) {
    resource(name, path, errors);
    if !name.contains('/') && !STANDARD.contains(&name) && !name.starts_with("hugepages-") {
        errors.invalid(path, name, "must be a standard resource for containers");
    }
}

pub(crate) fn negative(amount: &Value, path: &Path<'_>, errors: &mut Errors) {
    if parse(amount).is_negative() {
        errors.invalid(path, amount.clone(), "must be greater than or equal to 0");
    }
}

/// What a pod's containers have together of a list of amounts: those that run side by side, or one that comes first with what runs
/// beside it by then, if that is more.
pub(crate) fn together(spec: &Value, list: &str, name: &str) -> Quantity {
    let of = |container: &Value| container.look("resources").look(list).get(name).map_or(Quantity::ZERO, parse);
    let (mut beside, mut most) = (Quantity::ZERO, Quantity::ZERO);
    for container in spec.items("initContainers") {
        let then: Quantity = [beside, of(container)].into_iter().sum();
        most = most.max(then);
        if container.text("restartPolicy") == "Always" {
            beside = then;
        }
    }
    let running: Quantity = spec.items("containers").iter().map(of).chain([beside]).sum();
    running.max(most)
}
