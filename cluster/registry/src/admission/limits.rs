//! A namespace's limit ranges: what a container gets that asks for nothing, and how much one container, pod or claim may ask for.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::PodSpec;
use kedge_api::placement::{Amounts, pod_limits, pod_requests};
use kedge_api::quantity::Quantity;
use kedge_api::resource::known;
use kedge_api::{Object, Status, quota};
use serde::Deserialize as _;
use serde_json::{Map, Value};

use super::Attributes;
use crate::strategy::Scope;
use crate::value::{Fill as _, Look as _};

/// Tells whoever looks at a pod where its amounts come from.
const NOTE: &str = "kubernetes.io/limit-ranger";
/// Larger amounts are compared in whole units, all others in thousandths.
const MOST_IN_MILLI: i64 = i64::MAX / 1000;

/// The lists of containers, and what upstream calls each of theirs.
const CONTAINERS: [(&str, &str); 2] = [("spec.containers", "container"), ("spec.initContainers", "init container")];

pub(super) fn default(scope: &Scope<'_>, attributes: &Attributes<'_>, pod: &mut Value) -> Result<(), Status> {
    if attributes.resource.id != known::PODS || is_settled(attributes) {
        return Ok(());
    }
    for range in ranges(scope, attributes)? {
        let mut notes = Vec::new();
        for (list, word) in CONTAINERS {
            for container in pod.items_mut(list) {
                let name = container.text("name").to_owned();
                for (from, into) in [("defaultRequest", "requests"), ("default", "limits")] {
                    let set = fill(container, &range, from, into);
                    if !set.is_empty() {
                        notes.push(format!("{} {} for {word} {name}", set.join(", "), into.trim_end_matches('s')));
                    }
                }
            }
        }
        if !notes.is_empty() {
            let annotations = pod.slot("metadata.annotations");
            if !annotations.is_object() {
                *annotations = Value::Object(Map::new());
            }
            if let Some(annotations) = annotations.map_mut() {
                annotations.insert(NOTE.to_owned(), format!("LimitRanger plugin set: {}", notes.join("; ")).into());
            }
        }
    }
    Ok(())
}

/// Gives a container what the range's defaults have and it lacks; the names of these amounts.
fn fill(container: &mut Value, range: &Value, from: &str, into: &str) -> Vec<String> {
    let path = format!("resources.{into}");
    let mut amounts = container.look(&path).as_object().cloned().unwrap_or_default();
    let mut set = BTreeSet::new();
    for limit in range.items("spec.limits").iter().filter(|limit| limit.text("type") == "Container") {
        for (name, amount) in limit.entries(from).filter(|(name, _)| !amounts.contains_key(*name)).collect::<Vec<_>>() {
            amounts.insert(name.clone(), amount.clone());
            set.insert(name.clone());
        }
    }
    if !set.is_empty() {
        container.set(&path, amounts);
    }
    set.into_iter().collect()
}

/// A pod's amounts are fixed once it is made, unless it is resized; what is being deleted is left alone.
fn is_settled(attributes: &Attributes<'_>) -> bool {
    attributes.old.is_some_and(|old| {
        let fixed = attributes.resource.id == known::PODS && attributes.subresource.is_empty();
        fixed || old.has("metadata.deletionTimestamp")
    })
}

fn ranges(scope: &Scope<'_>, attributes: &Attributes<'_>) -> Result<Vec<Value>, Status> {
    scope.snapshot.list(&known::LIMIT_RANGES, attributes.namespace).map(|range| Object::decode(range)).collect()
}

pub(super) fn check(
    scope: &Scope<'_>,
    attributes: &Attributes<'_>,
    object: &Value,
    _: &mut Vec<String>,
) -> Result<(), Status> {
    if is_settled(attributes) {
        return Ok(());
    }
    for range in ranges(scope, attributes)? {
        let mut wrong = Vec::new();
        for limit in range.items("spec.limits") {
            judge(limit, attributes, object, &mut wrong);
        }
        match wrong.as_slice() {
            [] => {}
            [one] => return Err(attributes.forbidden(object, one)),
            many => return Err(attributes.forbidden(object, &format!("[{}]", many.join(", ")))),
        }
    }
    Ok(())
}

fn judge(limit: &Value, attributes: &Attributes<'_>, object: &Value, wrong: &mut Vec<String>) {
    let is_pod = attributes.resource.id == known::PODS;
    match limit.text("type") {
        "Container" if is_pod => {
            for container in CONTAINERS.iter().flat_map(|(list, _)| object.items(list)) {
                let of = |list: &str| quota::amounts(container, &format!("/resources/{list}"));
                compare(limit, &of("requests"), Some(&of("limits")), wrong);
            }
        }
        "Pod" if is_pod => {
            let spec = PodSpec::deserialize(object.look("spec")).unwrap_or_default();
            // What the sandbox takes is not the pod's to limit.
            let spec = PodSpec { overhead: None, ..spec };
            compare(limit, &pod_requests(&spec), Some(&pod_limits(&spec)), wrong);
        }
        "PersistentVolumeClaim" if !is_pod => {
            compare(limit, &quota::amounts(object, "/spec/resources/requests"), None, wrong);
        }
        _ => {}
    }
}

/// The bounds of one limit, in the order of upstream's messages. A claim has no limits at all.
fn compare(limit: &Value, requests: &Amounts, limits: Option<&Amounts>, wrong: &mut Vec<String>) {
    let kind = limit.text("type");
    let of = |name: &str| (requests.get(name), limits.and_then(|limits| limits.get(name)));
    for (name, least) in quota::amounts(limit, "/min") {
        let (request, limit) = of(&name);
        let say = |what: &str| format!("minimum {name} usage per {kind} is {least}{what}");
        wrong.extend(match (request, limit) {
            (None, _) => Some(say(".  No request is specified")),
            (Some(request), _) if *request < least => Some(say(&format!(", but request is {request}"))),
            (_, Some(limit)) if *limit < least => Some(say(&format!(", but limit is {limit}"))),
            _ => None,
        });
    }
    for (name, most) in quota::amounts(limit, "/max") {
        let (request, limit) = of(&name);
        let say = |what: &str| format!("maximum {name} usage per {kind} is {most}{what}");
        wrong.extend(match (request, limit) {
            (_, None) if limits.is_some() => Some(say(".  No limit is specified")),
            (None, None) => Some(say(".  No request is specified")),
            (_, Some(limit)) if *limit > most => Some(say(&format!(", but limit is {limit}"))),
            (Some(request), _) if *request > most => Some(say(&format!(", but request is {request}"))),
            _ => None,
        });
    }
    if limits.is_some() {
        for (name, ratio) in quota::amounts(limit, "/maxLimitRequestRatio") {
            let (request, limit) = of(&name);
            let say = |what: &str| format!("{name} max limit to request ratio per {kind} is {ratio}, but {what}");
            wrong.extend(match (request.filter(|r| !r.is_zero()), limit.filter(|l| !l.is_zero())) {
                (None, _) => Some(say("no request is specified or request is 0")),
                (_, None) => Some(say("no limit is specified or limit is 0")),
                (Some(request), Some(limit)) => {
                    let given = times(*request, *limit, ratio);
                    (given > ratio.as_f64()).then(|| say(&format!("provided ratio is {given:.6}")))
                }
            });
        }
    }
}

fn times(request: Quantity, limit: Quantity, ratio: Quantity) -> f64 {
    let fine = [request, limit, ratio].iter().all(|amount| amount.value() < MOST_IN_MILLI);
    let number = |amount: Quantity| Quantity::from_units(if fine { amount.milli() } else { amount.value() }).as_f64();
    number(limit) / number(request)
}

#[cfg(test)]
mod tests {
    use kedge_api::GroupResource;
    use serde_json::json;

    use super::super::testing::World;
    use super::*;

    fn world(about: &GroupResource, limits: Value) -> World {
        World::new(
            about,
            &[(known::LIMIT_RANGES, json!({"metadata": {"namespace": "n", "name": "l"}, "spec": {"limits": limits}}))],
        )
    }

    #[test]
    fn containers_get_what_they_lack() {
        let limits = json!([{"type": "Container", "default": {"cpu": "500m", "memory": "1Gi"}, "defaultRequest": {"cpu": "100m"}}]);
        let pod = json!({"metadata": {"name": "p"}, "spec": {
            "containers": [{"name": "c", "resources": {"limits": {"cpu": "1"}}}],
            "initContainers": [{"name": "i", "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "1", "memory": "2"}}}]}});
        let world = world(&known::PODS, limits);
        let filled = world.admit(default, None, pod.clone()).unwrap();
        assert_eq!(
            filled["spec"]["containers"][0]["resources"],
            json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m"}})
        );
        assert_eq!(filled["spec"]["initContainers"], pod["spec"]["initContainers"]);
        assert_eq!(
            filled["metadata"]["annotations"][NOTE],
            "LimitRanger plugin set: cpu request for container c; memory limit for container c"
        );
        assert_eq!(world.admit(default, Some(&pod), pod.clone()), Ok(pod), "an update changes nothing");
    }

    #[test]
    fn bounds_are_kept() {
        let limit = |kind: &str, bounds: Value| {
            let mut limit = bounds;
            limit.set("type", kind);
            json!([limit])
        };
        let pod = |resources: Value| {
            let container = json!({"name": "c", "resources": resources});
            json!({"metadata": {"name": "p"}, "spec": {"containers": [container, container]}})
        };
        let small = json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "1"}});
        for (limits, resources, why) in [
            (
                limit(
                    "Container",
                    json!({"min": {"cpu": "50m"}, "max": {"cpu": "1"}, "maxLimitRequestRatio": {"cpu": "10"}}),
                ),
                small.clone(),
                "",
            ),
            (
                limit("Pod", json!({"min": {"cpu": "1"}})),
                small.clone(),
                "minimum cpu usage per Pod is 1, but request is 200m",
            ),
            (
                limit("Pod", json!({"min": {"memory": "1"}})),
                small.clone(),
                "minimum memory usage per Pod is 1.  No request is specified",
            ),
            (
                limit("Pod", json!({"max": {"memory": "1"}})),
                small.clone(),
                "maximum memory usage per Pod is 1.  No limit is specified",
            ),
            (
                limit("Container", json!({"max": {"cpu": "500m"}})),
                small.clone(),
                "[maximum cpu usage per Container is 500m, but limit is 1, maximum cpu usage per Container is 500m, but limit is 1]",
            ),
            (
                limit("Pod", json!({"maxLimitRequestRatio": {"cpu": "3"}})),
                small.clone(),
                "cpu max limit to request ratio per Pod is 3, but provided ratio is 10.000000",
            ),
            (
                limit("Pod", json!({"maxLimitRequestRatio": {"memory": "3"}})),
                small,
                "memory max limit to request ratio per Pod is 3, but no request is specified or request is 0",
            ),
        ] {
            let said = world(&known::PODS, limits).validate(check, None, &pod(resources));
            let expected = if why.is_empty() { Ok(vec![]) } else { Err(format!("pods \"p\" is forbidden: {why}")) };
            assert_eq!(said, expected);
        }
    }

    #[test]
    fn claims_have_requests_only() {
        let limits = json!([{"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}}]);
        let world = world(&known::PERSISTENT_VOLUME_CLAIMS, limits);
        let claim =
            |size: &str| json!({"metadata": {"name": "a"}, "spec": {"resources": {"requests": {"storage": size}}}});
        let said = |size: &str| world.validate(check, None, &claim(size)).err();
        let refused = |why: &str| Some(format!("persistentvolumeclaims \"a\" is forbidden: {why}"));
        assert_eq!(said("1Gi"), None);
        assert_eq!(said("1Mi"), refused("minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 1Mi"));
        assert_eq!(said("3Gi"), refused("maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"));
        let nothing = json!({"metadata": {"name": "a"}, "spec": {}});
        assert!(world.validate(check, None, &nothing).unwrap_err().contains("No request is specified"));
    }
}
