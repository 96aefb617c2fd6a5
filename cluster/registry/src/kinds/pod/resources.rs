//! The rules of resource amounts.

use std::collections::{BTreeSet, HashSet};

use kedge_api::quantity::Quantity;
use serde_json::Value;

use crate::errors::{Errors, Late, Path};
use crate::names;
use crate::value::Look as _;

const AMOUNTS: [&str; 2] = ["limits", "requests"];
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
    named(resources, container_resource, claims, path, errors);
}

/// The same of a pod as a whole.
pub(crate) fn of_pod(resources: &Value, claims: &[Value], path: &Path<'_>, errors: &mut Errors) {
    named(resources, pod_resource, claims, path, errors);
}

type NameCheck = fn(&str, &Path<'_>, &mut Errors);

fn named(resources: &Value, check: NameCheck, claims: &[Value], path: &Path<'_>, errors: &mut Errors) {
    let (limits, requests) = (path.child("limits"), path.child("requests"));
    for (name, amount) in resources.entries("limits") {
        let item = limits.key(name);
        check(name, &item, errors);
        quantity(name, amount, &item, errors);
        whole_pages(name, amount, &item, errors);
    }
    for (name, request) in resources.entries("requests") {
        let item = requests.key(name);
        check(name, &item, errors);
        quantity(name, request, &item, errors);
        within(name, request, resources.look("limits").get(name), path, errors);
        whole_pages(name, request, &item, errors);
    }
    let of = |has: fn(&str) -> bool| AMOUNTS.iter().any(|list| resources.entries(list).any(|(name, _)| has(name)));
    if of(is_huge) && !of(|name| ["cpu", "memory"].contains(&name)) {
        errors.forbidden(path, "HugePages require cpu or memory");
    }
    let names: BTreeSet<&str> = claims.iter().map(|c| c.text("name")).filter(|name| !name.is_empty()).collect();
    named_claims(resources.items("claims"), &names, &path.child("claims"), errors);
}

/// A request is at most the limit; of what cannot be shared out twice, it is the limit.
fn within(name: &str, request: &Value, limit: Option<&Value>, path: &Path<'_>, errors: &mut Errors) {
    let shared = is_overcommitted(name);
    let Some(limit) = limit else {
        if !shared {
            errors.required(&path.child("limits"), "Limit must be set for non overcommitable resources");
        }
        return;
    };
    let (least, most) = (parse(request), parse(limit));
    let must = match shared {
        false if least != most => "equal to",
        _ if least > most => "less than or equal to",
        _ => return,
    };
    let why = format!("must be {must} {name} limit of {}", limit.as_str().unwrap_or_default());
    errors.invalid(&path.child("requests"), request.clone(), &why);
}

/// Pages are asked for whole.
fn whole_pages(name: &str, amount: &Value, path: &Path<'_>, errors: &mut Errors) {
    let Some(size) = name.strip_prefix("hugepages-") else { return };
    let size = size.parse().unwrap_or(Quantity::ZERO);
    let fits = size > Quantity::ZERO && size.milli() % 1000 == 0 && parse(amount).value() % size.value() == 0;
    if !fits {
        let shown = amount.as_str().unwrap_or_default();
        let why = format!("{shown} is not positive integer multiple of {name}");
        errors.late(Late::WholePages, |errors| errors.invalid(path, shown, &why));
    }
}

/// Claims are the pod's, and each of their requests is named once.
fn named_claims(list: &[Value], names: &BTreeSet<&str>, path: &Path<'_>, errors: &mut Errors) {
    let mut seen: HashSet<(&str, &str)> = HashSet::new();
    for (at, claim) in list.iter().enumerate() {
        let (name, request) = (claim.text("name"), claim.text("request"));
        let item = path.index(at);
        if name.is_empty() {
            errors.required(&item, "");
            continue;
        }
        if seen.contains(&(name, "")) {
            errors.duplicate(&item, name);
        } else if request.is_empty() {
            // All of a claim of which a part was named before.
            seen.iter().filter(|(other, _)| *other == name).for_each(|_| errors.duplicate(&item, name));
            seen.insert((name, ""));
        } else {
            errors.all_invalid(&item.child("request"), request, names::label(request));
            if !seen.insert((name, request)) {
                errors.duplicate(&item, format!("{name}/{request}"));
            }
        }
        if !names.contains(name) {
            const WHY: &str = "must be one of the names in pod.spec.resourceClaims";
            let all: Vec<_> = names.iter().copied().collect();
            let known = if all.is_empty() { " which is empty".to_owned() } else { format!(": {}", all.join(", ")) };
            errors.not_found_because(&item, name, &format!("{WHY}{known}"));
        }
    }
}

/// An amount is no debt, and of what is counted there are no fractions.
pub(crate) fn quantity(name: &str, amount: &Value, path: &Path<'_>, errors: &mut Errors) {
    negative(amount, path, errors);
    if is_counted(name) && parse(amount).milli() % 1000 != 0 {
        errors.invalid(path, amount.clone(), "must be an integer");
    }
}

/// A name that needs no domain.
pub(crate) fn is_standard(name: &str) -> bool {
    let huge = ["hugepages-", "requests.hugepages-"].iter().any(|prefix| name.starts_with(prefix));
    huge || KNOWN.iter().any(|(known, _)| *known == name)
}

/// Something of which there are no fractions: objects and devices.
pub(crate) fn is_counted(name: &str) -> bool {
    is_extended(name) || KNOWN.iter().any(|(known, whole)| *known == name && *whole)
}

pub(crate) fn is_overcommitted(name: &str) -> bool {
    is_native(name) && !is_huge(name)
}

fn is_huge(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// Without a domain, or of Kubernetes' own.
pub(crate) fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Something outside Kubernetes' own domain, a device, of whose name a quota can be made.
fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.") && names::qualified(&format!("requests.{name}")).is_empty()
}

/// The name of any resource.
pub(crate) fn resource(name: &str, path: &Path<'_>, errors: &mut Errors) {
    let wrong = names::qualified(name);
    if wrong.is_empty() && !name.contains('/') && !is_standard(name) {
        errors.invalid(path, name, "must be a standard resource type or fully qualified");
    }
    errors.all_invalid(path, name, wrong);
}

/// The name of a resource that a container can have.
pub(crate) fn container_resource(name: &str, path: &Path<'_>, errors: &mut Errors) {
    resource(name, path, errors);
    if !name.contains('/') {
        if !STANDARD.contains(&name) && !is_huge(name) {
            errors.invalid(path, name, "must be a standard resource for containers");
        }
    } else if !is_native(name) && !is_extended(name) {
        errors.invalid(path, name, "doesn't follow extended resource name standard");
    }
}

/// The name of a resource that a pod as a whole can have.
fn pod_resource(name: &str, path: &Path<'_>, errors: &mut Errors) {
    const KINDS: &[&str] = &["cpu", "hugepages-", "memory"];
    let before = errors.len();
    resource(name, path, errors);
    if errors.len() == before && !["cpu", "memory"].contains(&name) && !is_huge(name) {
        errors.not_supported(path, name, KINDS);
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(resources: Value, claims: Value) -> Vec<String> {
        let mut errors = Errors::default();
        requirements(&resources, claims.as_array().unwrap(), &Path::root("r"), &mut errors);
        errors.told()
    }

    #[test]
    fn names_are_of_what_a_container_can_have() {
        let of = |name: &str| told(json!({"limits": {name: "1"}}), json!([]));
        for name in ["cpu", "ephemeral-storage", "x.io/a", "kubernetes.io/a", "a.kubernetes.io/b"] {
            assert_eq!(of(name), [""; 0], "{name}");
        }
        assert_eq!(of("pods"), ["r.limits[pods]: Invalid value: \"pods\": must be a standard resource for containers"]);
        assert_eq!(
            of("x"),
            [
                "r.limits[x]: Invalid value: \"x\": must be a standard resource type or fully qualified",
                "r.limits[x]: Invalid value: \"x\": must be a standard resource for containers",
            ]
        );
        assert_eq!(
            of("requests.x.io/a"),
            [
                "r.limits[requests.x.io/a]: Invalid value: \"requests.x.io/a\": doesn't follow extended resource name standard"
            ]
        );
        assert_eq!(of("a b").len(), 2);
    }

    #[test]
    fn huge_pages_are_whole_and_not_alone() {
        let of = |amount: &str| {
            let list = json!({"hugepages-2Mi": amount, "cpu": "1"});
            told(json!({"limits": list, "requests": list}), json!([]))
        };
        assert_eq!(of("4Mi"), [""; 0]);
        let why = "Invalid value: \"3Mi\": 3Mi is not positive integer multiple of hugepages-2Mi";
        assert_eq!(of("3Mi"), ["limits", "requests"].map(|list| format!("r.{list}[hugepages-2Mi]: {why}")));
        assert_eq!(
            told(json!({"limits": {"hugepages-2Mi": "2Mi"}}), json!([])),
            ["r: Forbidden: HugePages require cpu or memory"]
        );
        assert_eq!(
            told(json!({"limits": {"cpu": "1"}, "requests": {"hugepages-2Mi": "2Mi"}}), json!([])),
            ["r.limits: Required value: Limit must be set for non overcommitable resources"]
        );
    }

    #[test]
    fn each_request_of_a_claim_is_named_once() {
        let of = |claims: Value| told(json!({"claims": claims}), json!([{"name": "b"}, {"name": "a"}]));
        assert_eq!(of(json!([{"name": "a", "request": "x"}, {"name": "a", "request": "y"}, {"name": "b"}])), [""; 0]);
        assert_eq!(of(json!([{"name": "a"}, {"name": "a", "request": "x"}])), ["r.claims[1]: Duplicate value: \"a\""]);
        assert_eq!(
            of(json!([{"name": "a", "request": "x"}, {"name": "a", "request": "x"}, {"name": "a"}, {}])),
            [
                "r.claims[1]: Duplicate value: \"a/x\"",
                "r.claims[2]: Duplicate value: \"a\"",
                "r.claims[3]: Required value",
            ]
        );
        assert_eq!(
            of(json!([{"name": "c"}])),
            ["r.claims[0]: Not found: \"c\": must be one of the names in pod.spec.resourceClaims: a, b"]
        );
    }
}
