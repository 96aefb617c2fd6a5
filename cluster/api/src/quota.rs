//! What an object takes of a ResourceQuota, and which quotas it counts against.
//!
//! Owns the arithmetic that admission, which charges, and the controller, which counts, must agree on; never changes a quota.
//! Source: "Resource Quotas" of Kubernetes' documentation.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::PodSpec;
use serde::Deserialize as _;
use serde_json::Value;

use crate::placement::{Amounts, pod_limits, pod_requests};
use crate::quantity::Quantity;
use crate::resource::{GroupResource, known};
use crate::selector::Operator;

const CLAIMS: GroupResource = known::PERSISTENT_VOLUME_CLAIMS;
/// What a quota names a storage class's share by: `CLASS.storageclass.storage.k8s.io/requests.storage`.
const CLASS_SUFFIX: &str = ".storageclass.storage.k8s.io/";
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

/// Resources whose objects are counted under their bare name, too.
const COUNTED: &[GroupResource] =
    &[known::CONFIG_MAPS, known::SECRETS, known::REPLICATION_CONTROLLERS, known::RESOURCE_QUOTAS];

/// Amounts of a pod that a quota names as such; all others it names `requests.NAME` or `limits.NAME`.
const BARE: &[&str] = &["cpu", "memory", "ephemeral-storage"];
/// What every container must state where a quota limits it.
const STATED: &[&str] = &["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

/// A field of an object by its JSON pointer.
fn field<'a>(object: &'a Value, pointer: &str) -> Option<&'a Value> {
    object.pointer(pointer).filter(|value| !value.is_null())
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    field(object, pointer).and_then(Value::as_str).unwrap_or_default()
}

fn items<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    field(object, pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The amounts of a map, e.g. a quota's `/status/hard`. What cannot be read counts as nothing: validation has refused it before.
pub fn amounts(object: &Value, pointer: &str) -> Amounts {
    let map = field(object, pointer).and_then(Value::as_object);
    map.into_iter().flatten().filter_map(|(name, v)| Some((name.clone(), v.as_str()?.parse().ok()?))).collect()
}

/// By which name a quota counts the objects of a resource, e.g. `count/deployments.apps`.
pub fn count_name(resource: &GroupResource) -> String {
    format!("count/{resource}")
}

/// Whether a change of such an object, beside its creation, can take more.
pub fn changes(resource: &GroupResource, subresource: &str) -> bool {
    match subresource {
        "resize" => *resource == known::PODS,
        "" => *resource == known::SERVICES || *resource == CLAIMS,
        _ => false,
    }
}

/// What one object takes.
pub fn usage(resource: &GroupResource, object: &Value, now: Timestamp) -> Amounts {
    let one = Quantity::from_units(1);
    let mut used = Amounts::from([(count_name(resource), one)]);
    if *resource == known::PODS {
        if counts(object, now) {
            used.insert("pods".into(), one);
            let (requests, limits) = pod_amounts(object);
            used.extend(computed(&requests, &limits));
        }
    } else if *resource == known::SERVICES {
        used.insert("services".into(), one);
        let ports = items(object, "/spec/ports");
        let count = |n: usize| Quantity::from_units(i64::try_from(n).unwrap_or(i64::MAX));
        match text(object, "/spec/type") {
            "NodePort" => {
                used.insert("services.nodeports".into(), count(ports.len()));
            }
            "LoadBalancer" => {
                let all = field(object, "/spec/allocateLoadBalancerNodePorts") != Some(&Value::Bool(false));
                let taken = ports.iter().filter(|p| all || field(p, "/nodePort").is_some()).count();
                used.insert("services.nodeports".into(), count(taken));
                used.insert("services.loadbalancers".into(), one);
            }
            _ => {}
        }
    } else if *resource == CLAIMS {
        let asked = amounts(object, "/spec/resources/requests").get("storage").copied();
        let allocated = amounts(object, "/status/allocatedResources").get("storage").copied();
        let size = asked.max(allocated);
        let class = match text(object, &format!("/metadata/annotations/{}", CLASS_ANNOTATION.replace('/', "~1"))) {
            "" => text(object, "/spec/storageClassName"),
            beta => beta,
        };
        let prefixes = ["".to_owned(), format!("{class}{CLASS_SUFFIX}")];
        for prefix in prefixes.iter().take(if class.is_empty() { 1 } else { 2 }) {
            used.insert(format!("{prefix}persistentvolumeclaims"), one);
            used.extend(size.map(|size| (format!("{prefix}requests.storage"), size)));
        }
    } else if COUNTED.contains(resource) {
        used.insert(resource.to_string(), one);
    }
    used
}

/// A pod that has ended, or whose time to end is over, takes nothing but its place among the objects.
fn counts(pod: &Value, now: Timestamp) -> bool {
    if ["Failed", "Succeeded"].contains(&text(pod, "/status/phase")) {
        return false;
    }
    let deleted = text(pod, "/metadata/deletionTimestamp").parse::<Timestamp>().ok();
    let grace = field(pod, "/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64);
    deleted
        .zip(grace)
        .is_none_or(|(at, grace)| now <= at.saturating_add(SignedDuration::from_secs(grace)).unwrap_or(at))
}

fn pod_amounts(pod: &Value) -> (Amounts, Amounts) {
    let spec = field(pod, "/spec").and_then(|spec| PodSpec::deserialize(spec).ok()).unwrap_or_default();
    let requests = pod_requests(&spec);
    let mut limits = pod_limits(&spec);
    // Overhead raises a limit, but makes none.
    let bare = PodSpec { overhead: None, ..spec };
    let stated = pod_limits(&bare);
    limits.retain(|name, _| stated.contains_key(name));
    (requests, limits)
}

/// Requests and limits under the names by which quotas know them.
fn computed(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut used = Amounts::new();
    for (name, amount) in requests {
        let huge = name.starts_with("hugepages-");
        if BARE.contains(&name.as_str()) || huge {
            used.insert(name.clone(), *amount);
        }
        if BARE.contains(&name.as_str()) || huge || is_extended(name) {
            used.insert(format!("requests.{name}"), *amount);
        }
    }
    let limited = limits.iter().filter(|(name, _)| BARE.contains(&name.as_str()));
    used.extend(limited.map(|(name, amount)| (format!("limits.{name}"), *amount)));
    used
}

fn is_extended(name: &str) -> bool {
    name.split_once('/').is_some_and(|(domain, _)| !domain.contains("kubernetes.io"))
}

/// Whether a quota's resource of this name is about objects of `resource`.
pub fn is_about(resource: &GroupResource, name: &str) -> bool {
    if name == count_name(resource) {
        return true;
    }
    if *resource == known::PODS {
        let bare = |name: &str| BARE.contains(&name);
        let request = name.strip_prefix("requests.");
        return name == "pods"
            || bare(name)
            || name.starts_with("hugepages-")
            || request.is_some_and(|n| bare(n) || n.starts_with("hugepages-") || is_extended(n))
            || name.strip_prefix("limits.").is_some_and(bare);
    }
    if *resource == known::SERVICES {
        return ["services", "services.nodeports", "services.loadbalancers"].contains(&name);
    }
    if *resource == CLAIMS {
        let plain = name.rsplit_once(CLASS_SUFFIX).map_or(name, |(_, plain)| plain);
        return ["persistentvolumeclaims", "requests.storage"].contains(&plain);
    }
    COUNTED.contains(resource) && name == resource.to_string()
}

/// Whether the object is in all of the quota's scopes.
pub fn in_scope(quota: &Value, resource: &GroupResource, object: &Value) -> bool {
    let plain = items(quota, "/spec/scopes").iter().filter_map(Value::as_str);
    let mut scopes = plain.map(|scope| (scope, Some(Operator::Exists), Vec::new())).chain(
        items(quota, "/spec/scopeSelector/matchExpressions").iter().map(|term| {
            let values = items(term, "/values").iter().filter_map(Value::as_str).map(str::to_owned).collect();
            (text(term, "/scopeName"), Operator::parse(text(term, "/operator")), values)
        }),
    );
    scopes.all(|(scope, operator, values)| {
        let named = |name: &'static str| {
            let value = Some(text(object, name)).filter(|name| !name.is_empty());
            operator.is_some_and(|operator| operator.holds(value, &values))
        };
        if *resource == CLAIMS {
            return scope == "VolumeAttributesClass" && named("/spec/volumeAttributesClassName");
        }
        if *resource != known::PODS {
            return false;
        }
        let terminating = field(object, "/spec/activeDeadlineSeconds").and_then(Value::as_i64).is_some_and(|s| s >= 0);
        match scope {
            "Terminating" => terminating,
            "NotTerminating" => !terminating,
            "BestEffort" => is_best_effort(object),
            "NotBestEffort" => !is_best_effort(object),
            "PriorityClass" => named("/spec/priorityClassName"),
            "CrossNamespacePodAffinity" => crosses_namespaces(object),
            _ => false,
        }
    })
}

fn is_best_effort(pod: &Value) -> bool {
    let asks = |holder: &Value| {
        ["/resources/requests", "/resources/limits"].iter().any(|list| {
            amounts(holder, list).iter().any(|(name, n)| ["cpu", "memory"].contains(&name.as_str()) && !n.is_zero())
        })
    };
    let containers = ["/spec/containers", "/spec/initContainers"].iter().flat_map(|list| items(pod, list));
    !field(pod, "/spec").is_some_and(asks) && !containers.into_iter().any(asks)
}

fn crosses_namespaces(pod: &Value) -> bool {
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let base = format!("/spec/affinity/{kind}");
        let required = items(pod, &format!("{base}/requiredDuringSchedulingIgnoredDuringExecution")).iter();
        let preferred = items(pod, &format!("{base}/preferredDuringSchedulingIgnoredDuringExecution")).iter();
        required
            .chain(preferred.filter_map(|weighted| field(weighted, "/podAffinityTerm")))
            .any(|term| !items(term, "/namespaces").is_empty() || field(term, "/namespaceSelector").is_some())
    })
}

/// What containers leave unsaid that the quota's `limited` names demand of them, as upstream words it.
pub fn unstated(resource: &GroupResource, object: &Value, limited: &[&str]) -> Option<String> {
    if *resource != known::PODS {
        return None;
    }
    let of = |holder: &Value, at: &str| {
        computed(&amounts(holder, &format!("{at}/requests")), &amounts(holder, &format!("{at}/limits")))
    };
    let whole = of(object, "/spec/resources");
    let containers: Vec<_> = ["/spec/containers", "/spec/initContainers"]
        .iter()
        .flat_map(|list| items(object, list))
        .map(|container| (text(container, "/name"), of(container, "/resources")))
        .collect();
    let demanded = limited.iter().filter(|name| STATED.contains(name) && !whole.contains_key(**name));
    let missing = demanded.filter_map(|name| {
        let mut silent: Vec<_> =
            containers.iter().filter(|(_, stated)| !stated.contains_key(*name)).map(|(name, _)| *name).collect();
        silent.sort_unstable();
        silent.dedup();
        (!silent.is_empty()).then(|| format!("{name} for: {}", silent.join(",")))
    });
    let missing: Vec<_> = missing.collect();
    (!missing.is_empty()).then(|| format!("must specify {}", missing.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn used(resource: &GroupResource, object: Value) -> Vec<String> {
        let now = "2026-01-01T00:01:00Z".parse().unwrap();
        usage(resource, &object, now).iter().map(|(name, amount)| format!("{name}={amount}")).collect()
    }

    #[test]
    fn each_kind_takes_its_own() {
        let container = json!({"name": "c", "resources": {"requests": {"cpu": "1", "x.io/gpu": "2"}, "limits": {"memory": "1Gi", "x.io/gpu": "2"}}});
        assert_eq!(
            used(&known::PODS, json!({"spec": {"containers": [container], "overhead": {"cpu": "50m"}}})),
            ["count/pods=1", "cpu=1050m", "limits.memory=1Gi", "pods=1", "requests.cpu=1050m", "requests.x.io/gpu=2"]
        );
        let over = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 30}, "spec": {"containers": []}});
        assert_eq!(used(&known::PODS, over), ["count/pods=1"]);
        assert_eq!(used(&known::PODS, json!({"status": {"phase": "Failed"}})), ["count/pods=1"]);
        let balanced = json!({"spec": {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": [{"port": 1, "nodePort": 30000}, {"port": 2}]}});
        assert_eq!(
            used(&known::SERVICES, balanced),
            ["count/services=1", "services=1", "services.loadbalancers=1", "services.nodeports=1"]
        );
        let claim = json!({"spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "2Gi"}}}, "status": {"allocatedResources": {"storage": "3Gi"}}});
        assert_eq!(
            used(&CLAIMS, claim),
            [
                "count/persistentvolumeclaims=1",
                "fast.storageclass.storage.k8s.io/persistentvolumeclaims=1",
                "fast.storageclass.storage.k8s.io/requests.storage=3Gi",
                "persistentvolumeclaims=1",
                "requests.storage=3Gi"
            ]
        );
        assert_eq!(used(&known::SECRETS, json!({})), ["count/secrets=1", "secrets=1"]);
        assert_eq!(used(&known::DEPLOYMENTS, json!({})), ["count/deployments.apps=1"]);
    }

    #[test]
    fn names_belong_to_resources() {
        for (resource, name, about) in [
            (known::PODS, "requests.x.io/gpu", true),
            (known::PODS, "limits.memory", true),
            (known::PODS, "requests.storage", false),
            (known::PODS, "count/pods", true),
            (CLAIMS, "requests.storage", true),
            (CLAIMS, "a.storageclass.storage.k8s.io/requests.storage", true),
            (known::SERVICES, "services.nodeports", true),
            (known::SECRETS, "secrets", true),
            (known::SECRETS, "configmaps", false),
            (known::DEPLOYMENTS, "count/deployments.apps", true),
            (known::DEPLOYMENTS, "deployments.apps", false),
        ] {
            assert_eq!(is_about(&resource, name), about, "{resource} {name}");
        }
    }

    #[test]
    fn scopes_choose_pods() {
        let term = |scope: &str, operator: &str, values: Value| json!({"spec": {"scopeSelector": {"matchExpressions": [{"scopeName": scope, "operator": operator, "values": values}]}}});
        let scopes = |list: Value| json!({"spec": {"scopes": list}});
        let idle = json!({"spec": {"containers": [{"name": "c"}]}});
        let busy = json!({"spec": {"activeDeadlineSeconds": 5, "priorityClassName": "high", "containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}],
            "affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"namespaceSelector": {}}]}}}});
        for (quota, of_idle, of_busy) in [
            (scopes(json!([])), true, true),
            (scopes(json!(["BestEffort"])), true, false),
            (scopes(json!(["NotBestEffort", "Terminating"])), false, true),
            (scopes(json!(["NotTerminating"])), true, false),
            (scopes(json!(["CrossNamespacePodAffinity"])), false, true),
            (term("PriorityClass", "In", json!(["high"])), false, true),
            (term("PriorityClass", "NotIn", json!(["high"])), true, false),
            (term("PriorityClass", "Exists", json!([])), false, true),
        ] {
            assert_eq!(in_scope(&quota, &known::PODS, &idle), of_idle, "{quota}");
            assert_eq!(in_scope(&quota, &known::PODS, &busy), of_busy, "{quota}");
        }
        assert!(!in_scope(&scopes(json!(["BestEffort"])), &known::SERVICES, &json!({})));
    }

    #[test]
    fn what_is_limited_must_be_stated() {
        let pod =
            json!({"spec": {"containers": [{"name": "b"}, {"name": "a", "resources": {"requests": {"cpu": "1"}}}]}});
        assert_eq!(
            unstated(&known::PODS, &pod, &["limits.memory", "pods", "requests.cpu"]).as_deref(),
            Some("must specify limits.memory for: a,b; requests.cpu for: b")
        );
        assert_eq!(unstated(&known::PODS, &pod, &["pods", "requests.x.io/gpu"]), None);
        let whole = json!({"spec": {"resources": {"requests": {"cpu": "1"}}, "containers": [{"name": "b"}]}});
        assert_eq!(unstated(&known::PODS, &whole, &["requests.cpu"]), None);
    }
}
