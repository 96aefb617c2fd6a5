//! What a pod's status may say.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::{annotations, security};
use crate::errors::{Errors, Path};
use crate::kinds::address;
use crate::names;
use crate::value::Look as _;

const LISTS: [(&str, &str); 3] = [
    ("containerStatuses", "containers"),
    ("initContainerStatuses", "initContainers"),
    ("ephemeralContainerStatuses", "ephemeralContainers"),
];

pub(crate) fn validate(new: &Value, old: &Value, errors: &mut Errors) {
    annotations::update(new, old, errors);
    let path = Path::root("status");
    let status = new.look("status");
    conditions(status.items("conditions"), &path.child("conditions"), errors);
    nominated(new, old, &path.child("nominatedNodeName"), errors);
    whole_number(status, &path, errors);
    if old.text("status.qosClass") != status.text("qosClass") {
        errors.invalid(&path.child("qosClass"), status.text("qosClass"), "field is immutable");
    }
    for (list, containers) in LISTS {
        ended(status, old, list, containers, &path.child(list), errors);
    }
    claims(new, &path.child("resourceClaimStatuses"), errors);
    extended_claim(new, &path.child("extendedResourceClaimStatus"), errors);
    addresses(status.items("podIPs"), old.items("status.podIPs"), &path.child("podIPs"), errors);
    let hosts = path.child("hostIPs");
    if let Some(first) = status.items("hostIPs").first().map(|first| first.text("ip"))
        && first != status.text("hostIP")
    {
        let first_path = hosts.index(0);
        errors.invalid(&first_path.child("ip"), first, "must be equal to `hostIP`");
    }
    addresses(status.items("hostIPs"), old.items("status.hostIPs"), &hosts, errors);
    for (list, _) in LISTS {
        users(new, list, &path.child(list), errors);
    }
    for (list, containers) in LISTS {
        devices(status, new.look("spec").items(containers), list, &path.child(list), errors);
    }
}

fn whole_number(holder: &Value, path: &Path<'_>, errors: &mut Errors) {
    if let Some(number) = holder.int("observedGeneration").filter(|n| *n < 0) {
        errors.invalid(&path.child("observedGeneration"), number, "must be a non-negative integer");
    }
}

fn conditions(conditions: &[Value], path: &Path<'_>, errors: &mut Errors) {
    for (at, condition) in conditions.iter().enumerate() {
        let item = path.index(at);
        whole_number(condition, &item, errors);
        let kind = condition.text("type");
        errors.all_invalid(&item.child("Type"), kind, names::qualified(kind));
    }
}

fn nominated(new: &Value, old: &Value, path: &Path<'_>, errors: &mut Errors) {
    let node = new.text("status.nominatedNodeName");
    if node.is_empty() || node == old.text("status.nominatedNodeName") {
        return;
    }
    errors.all_invalid(path, node, names::subdomain(node));
    if !old.text("spec.nodeName").is_empty() {
        errors.forbidden(path, "may not be set on pods that are already bound to a node");
    }
}

/// What has ended for good does not begin again.
fn ended(status: &Value, old: &Value, list: &str, containers: &str, path: &Path<'_>, errors: &mut Errors) {
    let spec = old.look("spec");
    let rules = |container: &Value| {
        container.items("restartPolicyRules").iter().any(|rule| rule.text("action") == "RestartAllContainers")
    };
    let restarted = ["containers", "initContainers"].iter().any(|list| spec.items(list).iter().any(rules));
    let ephemeral = containers == "ephemeralContainers";
    if restarted && !ephemeral {
        return;
    }
    for (at, before) in old.look("status").items(list).iter().enumerate() {
        let Some(terminated) = before.look("state").get("terminated") else { continue };
        let name = before.text("name");
        let begins = |now: &Value| now.text("name") == name && !now.has("state.terminated");
        let may = || {
            let found = spec.items(containers).iter().find(|container| container.text("name") == name);
            found.is_some_and(|container| restarts(container, spec, terminated.int("exitCode").unwrap_or(0)))
        };
        if status.items(list).iter().any(begins) && (ephemeral || !may()) {
            let item = path.index(at);
            errors.forbidden(&item.child("state"), "may not be transitioned to non-terminated state");
        }
    }
}

fn restarts(container: &Value, spec: &Value, code: i64) -> bool {
    let own = container.look("restartPolicy").as_str();
    let fits = |rule: &Value| {
        let among = rule.items("exitCodes.values").iter().any(|value| value.as_i64() == Some(code));
        rule.text("action") == "Restart" && among == (rule.text("exitCodes.operator") == "In")
    };
    if own.is_some() && container.items("restartPolicyRules").iter().any(fits) {
        return true;
    }
    match own.unwrap_or_else(|| spec.text("restartPolicy")) {
        "Always" => true,
        "OnFailure" => code != 0,
        _ => false,
    }
}

fn claims(pod: &Value, path: &Path<'_>, errors: &mut Errors) {
    let known: HashSet<&str> = pod.items("spec.resourceClaims").iter().map(|claim| claim.text("name")).collect();
    let mut seen = HashSet::new();
    for (at, status) in pod.items("status.resourceClaimStatuses").iter().enumerate() {
        let item = path.index(at);
        let name = status.text("name");
        if !known.contains(name) {
            let why = "must match the name of an entry in `spec.resourceClaims`";
            errors.invalid(&item.child("name"), name, why);
        }
        if !seen.insert(name) {
            errors.duplicate(&item.child("name"), name);
        }
        if let Some(claim) = status.look("resourceClaimName").as_str() {
            errors.all_invalid(&item.child("resourceClaimName"), claim, names::subdomain(claim));
        }
    }
}

/// The claim that was made for devices which containers ask for by name.
fn extended_claim(pod: &Value, path: &Path<'_>, errors: &mut Errors) {
    let status = pod.look("status.extendedResourceClaimStatus");
    if status.is_null() {
        return;
    }
    let list = path.child("requestMappings");
    if status.items("requestMappings").is_empty() {
        errors.required(&list, "at least one request mapping is required");
    }
    // Of two with a name, the later one counts.
    let containers = || pod.items("spec.containers").iter().rev().chain(pod.items("spec.initContainers").iter().rev());
    let mut seen = HashSet::new();
    for (at, mapping) in status.items("requestMappings").iter().enumerate() {
        let item = list.index(at);
        let [container, resource, request] = ["containerName", "resourceName", "requestName"].map(|f| mapping.text(f));
        match containers().find(|known| known.text("name") == container) {
            None => {
                let why = "must match the name of an entry in spec.initContainers.name or spec.containers.name";
                errors.invalid(&item.child("containerName"), container, why);
            }
            Some(known) if known.look("resources.requests").get(resource).is_none() => {
                let why = "must match the extended resource name of an entry in spec.initContainers.resources.requests or spec.containers.resources.requests";
                errors.invalid(&item.child("resourceName"), resource, why);
            }
            Some(_) => {}
        }
        errors.all_invalid(&path.child("requestName"), request, names::label(request));
        if !seen.insert((container, resource, request)) {
            for (field, value) in [("containerName", container), ("resourceName", resource), ("requestName", request)] {
                errors.duplicate(&item.child(field), value);
            }
        }
    }
    let here = path.child("resourceClaimName");
    match status.text("resourceClaimName") {
        "" => errors.required(&here, ""),
        claim => errors.all_invalid(&here, claim, names::subdomain(claim)),
    }
}

/// One of each family at most; what was there may stay.
fn addresses(list: &[Value], had: &[Value], path: &Path<'_>, errors: &mut Errors) {
    let mut families = Vec::new();
    for (at, entry) in list.iter().enumerate() {
        let text = entry.text("ip");
        let kept = had.iter().any(|had| had.text("ip") == text);
        let parsed = if kept { address::sloppy(text) } else { address::ip(text, &path.index(at), errors) };
        families.extend(parsed.map(|ip| ip.is_ipv4()));
    }
    if list.len() > 1 && (list.len() > 2 || families.len() < 2 || families.first() == families.last()) {
        let shown: Vec<Value> = list.iter().map(|ip| json!({"IP": ip.text("ip")})).collect();
        errors.invalid(path, shown, "may specify no more than one IP for each IP family");
    }
}

fn users(pod: &Value, list: &str, path: &Path<'_>, errors: &mut Errors) {
    for (at, status) in pod.look("status").items(list).iter().enumerate() {
        let user = status.look("user.linux");
        let item = path.index(at);
        let here = item.child("user.linux");
        if user.is_null() {
            continue;
        }
        if pod.text("spec.os.name") == "windows" {
            errors.forbidden(&here, "cannot be set for a windows pod");
            continue;
        }
        for field in ["uid", "gid"] {
            security::id(user.look(field), &here.child(field), errors);
        }
        let groups = here.child("supplementalGroups");
        for (at, group) in user.items("supplementalGroups").iter().enumerate() {
            security::id(group, &groups.index(at), errors);
        }
    }
}

/// Bytes that may be said of a device's health.
const MESSAGE: usize = 1024;

/// How the devices are that a container was given.
fn devices(status: &Value, containers: &[Value], list: &str, path: &Path<'_>, errors: &mut Errors) {
    const HEALTH: &[&str] = &["Healthy", "Unhealthy", "Unknown"];
    for (at, status) in status.items(list).iter().enumerate() {
        let item = path.index(at);
        let here = item.child("allocatedResourcesStatus");
        let given = status.items("allocatedResourcesStatus");
        if list == "ephemeralContainerStatuses" {
            if !given.is_empty() {
                errors.forbidden(&here, "must not be specified in container status");
            }
            continue;
        }
        let container = containers.iter().find(|container| container.text("name") == status.text("name"));
        for (at, resource) in given.iter().enumerate() {
            let item = here.index(at);
            if let Some(why) = container.and_then(|container| unknown(resource.text("name"), container)) {
                errors.invalid(&item.child("name"), resource.text("name"), why);
            }
            let mut seen = HashSet::new();
            let resources = item.child("resources");
            for (at, one) in resource.items("resources").iter().enumerate() {
                let item = resources.index(at);
                if !HEALTH.contains(&one.text("health")) {
                    errors.not_supported(&item.child("health"), one.text("health"), HEALTH);
                }
                match one.look("message").as_str() {
                    Some("") => errors.required(&item.child("message"), "must be non-empty if specified"),
                    Some(text) if text.len() > MESSAGE => errors.too_long(&item.child("message"), MESSAGE),
                    _ => {}
                }
                if !seen.insert(one.text("resourceID")) {
                    errors.duplicate(&item.child("resourceID"), one.text("resourceID"));
                }
            }
        }
    }
}

/// Why a name is none of what the container asked for.
fn unknown(name: &str, container: &Value) -> Option<&'static str> {
    let Some(claim) = name.strip_prefix("claim:") else {
        let known = container.look("resources.requests").get(name).is_some();
        return (!known).then_some("must match one of the container's resource requests");
    };
    let is = |known: &Value| match (known.text("name"), known.text("request")) {
        (known, "") => known == claim,
        (known, request) => claim.split_once('/') == Some((known, request)),
    };
    let known = container.items("resources.claims").iter().any(is);
    (!known).then_some(
        "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' or 'claim:<claimName>' if request is empty",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(spec: Value, old: Value, new: Value) -> Vec<String> {
        let mut errors = Errors::default();
        validate(&json!({"spec": spec, "status": new}), &json!({"spec": spec, "status": old}), &mut errors);
        errors.told()
    }

    #[test]
    fn what_ended_stays_so_unless_its_policy_starts_it_again() {
        let ended = |name: &str, code: i64| json!({"name": name, "state": {"terminated": {"exitCode": code}}});
        let runs = |name: &str| json!({"name": name, "state": {"running": {}}});
        let spec = json!({"restartPolicy": "Never", "containers": [
            {"name": "a"}, {"name": "b", "restartPolicy": "OnFailure"},
            {"name": "c", "restartPolicy": "Never", "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [7]}}]},
        ], "initContainers": [{"name": "s", "restartPolicy": "Always"}], "ephemeralContainers": [{"name": "e"}]});
        const WHY: &str = "state: Forbidden: may not be transitioned to non-terminated state";
        let old = json!({"containerStatuses": [ended("c", 7), ended("b", 1), ended("a", 1)], "initContainerStatuses": [ended("s", 0)],
            "ephemeralContainerStatuses": [ended("e", 0)]});
        let new = json!({"containerStatuses": [runs("a"), runs("b"), runs("c")], "initContainerStatuses": [runs("s")],
            "ephemeralContainerStatuses": [runs("e")]});
        assert_eq!(
            told(spec.clone(), old, new),
            [format!("status.containerStatuses[2].{WHY}"), format!("status.ephemeralContainerStatuses[0].{WHY}")]
        );
        let other_code = json!({"containerStatuses": [ended("c", 8)]});
        assert_eq!(
            told(spec, other_code, json!({"containerStatuses": [runs("c")]})),
            [format!("status.containerStatuses[0].{WHY}")]
        );
    }

    #[test]
    fn addresses_are_one_of_each_family() {
        let why = "may specify no more than one IP for each IP family";
        let ips =
            |field: &str, list: &[&str]| json!({field: list.iter().map(|ip| json!({"ip": ip})).collect::<Vec<_>>()});
        let told = |new| told(json!({}), json!({}), new);
        assert_eq!(told(ips("podIPs", &["10.0.0.1", "fd00::1"])), [""; 0]);
        assert_eq!(
            told(ips("podIPs", &["10.0.0.1", "10.0.0.2"])),
            [format!("status.podIPs: Invalid value: [{{\"IP\":\"10.0.0.1\"}},{{\"IP\":\"10.0.0.2\"}}]: {why}")]
        );
        assert_eq!(
            told(ips("hostIPs", &["10.0.0.1"])),
            ["status.hostIPs[0].ip: Invalid value: \"10.0.0.1\": must be equal to `hostIP`"]
        );
    }

    #[test]
    fn a_bound_pod_is_not_nominated_and_conditions_have_names() {
        let spec = json!({"nodeName": "n"});
        let new = json!({"nominatedNodeName": "m", "conditions": [{"type": "Ready"}, {"type": "a b", "observedGeneration": -1}]});
        let name = names::qualified("a b").remove(0);
        assert_eq!(
            told(spec.clone(), json!({}), new.clone()),
            [
                "status.conditions[1].observedGeneration: Invalid value: -1: must be a non-negative integer".to_owned(),
                format!("status.conditions[1].Type: Invalid value: \"a b\": {name}"),
                "status.nominatedNodeName: Forbidden: may not be set on pods that are already bound to a node"
                    .to_owned(),
            ]
        );
        assert_eq!(told(spec, new.clone(), new).len(), 2);
    }

    #[test]
    fn claims_and_devices_are_what_was_asked_for() {
        let spec = json!({"resourceClaims": [{"name": "r"}], "containers": [
            {"name": "c", "resources": {"requests": {"x.io/a": "1"}, "claims": [{"name": "r", "request": "q"}]}},
        ]});
        let resource = |name: &str| json!({"name": name, "resources": [{"resourceID": "1", "health": "Healthy"}]});
        let new = json!({
            "resourceClaimStatuses": [{"name": "r"}, {"name": "r"}, {"name": "s"}],
            "containerStatuses": [{"name": "c", "user": {"linux": {"uid": -1, "gid": 0}}, "allocatedResourcesStatus": [
                resource("x.io/a"), resource("claim:r/q"), resource("x.io/b"),
                {"name": "x.io/a", "resources": [{"resourceID": "1", "health": "?"}, {"resourceID": "1", "health": "Unknown"}]},
            ]}],
        });
        const LIST: &str = "status.containerStatuses[0]";
        assert_eq!(
            told(spec, json!({}), new),
            [
                "status.resourceClaimStatuses[1].name: Duplicate value: \"r\"".to_owned(),
                "status.resourceClaimStatuses[2].name: Invalid value: \"s\": must match the name of an entry in `spec.resourceClaims`".to_owned(),
                format!("{LIST}.user.linux.uid: Invalid value: -1: must be between 0 and 2147483647, inclusive"),
                format!("{LIST}.allocatedResourcesStatus[2].name: Invalid value: \"x.io/b\": must match one of the container's resource requests"),
                format!("{LIST}.allocatedResourcesStatus[3].resources[0].health: Unsupported value: \"?\": supported values: \"Healthy\", \"Unhealthy\", \"Unknown\""),
                format!("{LIST}.allocatedResourcesStatus[3].resources[1].resourceID: Duplicate value: \"1\""),
            ]
        );
    }
}
