//! Node.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};

use kedge_api::resource::{Column, Subresource};
use kedge_api::{Resource, Verb};
use serde_json::{Value, json};

use super::pod::resources::quantity;
use super::{STATUS, address, columns, resource};
use crate::errors::{Errors, Path, ordered, quote};
use crate::names;
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

const COLUMNS: &[Column] = &[
    columns::text("Status", |o| status(o).into()),
    columns::text("Roles", |o| roles(o).into()),
    columns::AGE,
    columns::text("Version", |o| o.text("status.nodeInfo.kubeletVersion").into()),
    columns::wide("Internal-IP", |o| address_of(o, "InternalIP").into()),
    columns::wide("External-IP", |o| address_of(o, "ExternalIP").into()),
    columns::wide("OS-Image", |o| or_unknown(o.text("status.nodeInfo.osImage")).into()),
    columns::wide("Kernel-Version", |o| or_unknown(o.text("status.nodeInfo.kernelVersion")).into()),
    columns::wide("Container-Runtime", |o| or_unknown(o.text("status.nodeInfo.containerRuntimeVersion")).into()),
];

const PROXY: Subresource = Subresource {
    name: "proxy",
    kind: "NodeProxyOptions",
    group_version: None,
    verbs: &[Verb::Create, Verb::Delete, Verb::Get, Verb::Patch, Verb::Update],
};

pub(crate) fn row() -> Row {
    let base = resource("", "nodes", "node", "Node", "io.k8s.api.core.v1.Node", COLUMNS);
    let resource = Resource {
        short_names: Cow::Borrowed(&["no"]),
        namespaced: false,
        subresources: &[PROXY, STATUS],
        selectable: &["spec.unschedulable"],
        ..base
    };
    let strategy = Strategy {
        metadata_checks: (1, 1),
        status: true,
        keeps_status_on_create: true,
        default,
        validate,
        validate_update,
        validate_status: validate_update,
        warnings,
        field: |json, field| match crate::pick::pick(json, field).as_str() {
            "" => "false".into(),
            set => set.into(),
        },
        ..Strategy::PLAIN
    };
    Row::new(resource, strategy)
}

fn warnings(new: &Value, _: Option<&Value>) -> Vec<String> {
    let mut said = Vec::new();
    if !new.text("spec.externalID").is_empty() {
        said.push("spec.externalID: this field is deprecated, and is unused by Kubernetes".to_owned());
    }
    said
}

fn or_unknown(text: &str) -> String {
    if text.is_empty() { "<unknown>".into() } else { text.into() }
}

fn status(node: &Value) -> String {
    let ready = node.items("status.conditions").iter().find(|c| c.text("type") == "Ready");
    let mut words = vec![match ready.map(|c| c.text("status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }];
    if node.flag("spec.unschedulable") {
        words.push("SchedulingDisabled");
    }
    words.join(",")
}

fn roles(node: &Value) -> String {
    let labels = node.entries("metadata.labels");
    let mut roles: Vec<&str> = labels
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) if !role.is_empty() => Some(role),
            _ if key == "kubernetes.io/role" => value.as_str().filter(|v| !v.is_empty()),
            _ => None,
        })
        .collect();
    roles.sort_unstable();
    columns::or_none(&roles.join(","))
}

fn address_of(node: &Value, kind: &str) -> String {
    let found = node.items("status.addresses").iter().find(|a| a.text("type") == kind);
    columns::or_none(found.map(|a| a.text("address")).unwrap_or_default())
}

fn default(node: &mut Value) {
    node.fill("spec", json!({}));
    // Settings come from elsewhere since 1.24.
    node.cut("spec.configSource");
    node.cut("status.config");
    // Of the two fields the older one counts, for those that know no other.
    let (one, first) = (node.look("spec.podCIDR").clone(), node.items("spec.podCIDRs").first().cloned());
    match (one.as_str().unwrap_or_default(), first) {
        ("", Some(first)) => node.set("spec.podCIDR", first),
        ("", None) => {}
        (_, first) if first.as_ref() == Some(&one) => {}
        _ => node.set("spec.podCIDRs", json!([one])),
    }
    node.fill("status.daemonEndpoints.kubeletEndpoint.Port", 0);
    for name in [
        "machineID",
        "systemUUID",
        "bootID",
        "kernelVersion",
        "osImage",
        "containerRuntimeVersion",
        "kubeletVersion",
        "kubeProxyVersion",
        "operatingSystem",
        "architecture",
    ] {
        node.fill(&format!("status.nodeInfo.{name}"), "");
    }
    if node.has("status.capacity") && !node.has("status.allocatable") {
        let capacity = node.look("status.capacity").clone();
        node.set("status.allocatable", capacity);
    }
    for condition in node.items_mut("status.conditions") {
        for time in ["lastHeartbeatTime", "lastTransitionTime"] {
            condition.fill(time, Value::Null);
        }
    }
}

fn validate(node: &Value, errors: &mut Errors) {
    taints(node.items("spec.taints"), errors);
    amounts(node, errors);
    let swap = "status.nodeInfo.swap.capacity";
    if let Some(bytes) = node.int(swap).filter(|bytes| *bytes <= 0) {
        errors.invalid(&Path::root("metadata.nodeSwapStatus.capacity"), bytes, "must be greater than zero");
    }
    features(node.items("status.declaredFeatures"), errors);
    let root = Path::root("spec.podCIDRs");
    let networks = node.items("spec.podCIDRs");
    let texts = || networks.iter().map(|network| network.as_str().unwrap_or_default());
    for (at, network) in texts().enumerate() {
        address::cidr(network, &[], &root.index(at), errors);
    }
    let families: BTreeSet<bool> = texts().map(|network| network.contains(':')).collect();
    if networks.len() > 2 || networks.len() != families.len() {
        let why = "may specify no more than one CIDR for each IP family";
        errors.invalid(&root, node.look("spec.podCIDRs").clone(), why);
    }
}

fn amounts(node: &Value, errors: &mut Errors) {
    let status = Path::root("status");
    for list in ["capacity", "allocatable"] {
        let here = status.child(list);
        for (name, amount) in node.look("status").entries(list) {
            quantity(name, amount, &here.child(name), errors);
        }
    }
}

/// Names of what a node can do, in their order.
fn features(list: &[Value], errors: &mut Errors) {
    let path = Path::root("status.declaredFeatures");
    let all: Vec<&str> = list.iter().map(|name| name.as_str().unwrap_or_default()).collect();
    for (at, name) in all.iter().enumerate() {
        if let Some(why) = wrong_feature(name) {
            errors.invalid(&path.index(at), *name, &format!("invalid feature name {}: {why}", quote(name)));
        }
        match all.get(at + 1) {
            Some(next) if next == name => errors.duplicate(&path.index(at + 1), *next),
            Some(next) if next < name => {
                errors.invalid(&path.index(at + 1), *next, "list must be sorted alphabetically");
            }
            _ => {}
        }
    }
}

fn wrong_feature(name: &str) -> Option<&'static str> {
    let part = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric());
    let fine = name.starts_with(|c: char| c.is_ascii_uppercase()) && name.split('/').all(part);
    match name.len() > 253 {
        true => Some("must be no more than 253 characters"),
        false if !fine => Some(
            "must start with an UpperCamelCase segment, with subsequent segments separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes",
        ),
        false => None,
    }
}

fn taints(taints: &[Value], errors: &mut Errors) {
    const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];
    let root = Path::root("metadata.taints");
    let mut seen = HashSet::new();
    for (at, taint) in taints.iter().enumerate() {
        let path = root.index(at);
        let (key, effect) = (taint.text("key"), taint.text("effect"));
        errors.all_invalid(&path.child("key"), key, names::qualified(key));
        let value = taint.text("value");
        errors.all_invalid(&path.child("value"), value, kedge_api::selector::label_value_error(value));
        if effect.is_empty() {
            errors.required(&path.child("effect"), "");
        } else if !EFFECTS.contains(&effect) {
            errors.not_supported(&path.child("effect"), effect, EFFECTS);
        }
        if !effect.is_empty() && !seen.insert((key, effect)) {
            let shown = json!({"Key": key, "Value": value, "Effect": effect, "TimeAdded": taint.look("timeAdded")});
            let shown = ordered(&shown, &["Key", "Value", "Effect", "TimeAdded"]);
            errors.duplicate_json(&path, &shown, "taints must be unique by key and effect pair");
        }
    }
}

fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    amounts(new, errors);
    features(new.items("status.declaredFeatures"), errors);
    let list = Path::root("status.addresses");
    let mut seen = HashSet::new();
    for (at, address) in new.items("status.addresses").iter().enumerate() {
        if !seen.insert((address.text("type"), address.text("address"))) {
            let shown = json!({"Type": address.text("type"), "Address": address.text("address")});
            errors.duplicate_json(&list.index(at), &ordered(&shown, &["Type", "Address"]), "");
        }
    }
    let (now, had) = (new.items("spec.podCIDRs"), old.items("spec.podCIDRs"));
    if !had.is_empty() {
        let changed = match now.len() == had.len() {
            true => now.iter().zip(had).filter(|(now, had)| now != had).count(),
            false => 1,
        };
        let why = "node updates may not change podCIDR except from \"\" to valid";
        (0..changed).for_each(|_| errors.forbidden(&Path::root("spec.podCIDRs"), why));
    }
    let provider = old.text("spec.providerID");
    if !provider.is_empty() && provider != new.text("spec.providerID") {
        errors.forbidden(
            &Path::root("spec.providerID"),
            "node updates may not change providerID except from \"\" to valid",
        );
    }
    taints(new.items("spec.taints"), errors);
    if new.text("spec.externalID") != old.text("spec.externalID") {
        errors.forbidden(&Path::root("spec.externalID"), "may not be updated");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::cases;

    #[test]
    fn cells_say_what_kubectl_says() {
        let node = json!({"metadata": {"labels": {"node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/control-plane": ""}},
            "spec": {"unschedulable": true}, "status": {"conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}});
        assert_eq!(status(&node), "Ready,SchedulingDisabled");
        assert_eq!(roles(&node), "control-plane,worker");
        assert_eq!(address_of(&node, "InternalIP"), "10.0.0.1");
        assert_eq!(address_of(&node, "ExternalIP"), "<none>");
        assert_eq!(status(&json!({})), "Unknown");
    }

    #[test]
    fn what_nodes_say_of_themselves() {
        let node = json!({"metadata": {"name": "n"}});
        const FEATURE: &str = "must start with an UpperCamelCase segment, with subsequent segments separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes";
        let cases_of_all: &[cases::Case<'_>] = &[
            (
                "/status/capacity",
                json!({"cpu": "-1", "pods": "1500m"}),
                &[
                    "status.capacity.cpu: Invalid value: \"-1\": must be greater than or equal to 0",
                    "status.capacity.pods: Invalid value: \"1500m\": must be an integer",
                    "status.allocatable.cpu: Invalid value: \"-1\": must be greater than or equal to 0",
                    "status.allocatable.pods: Invalid value: \"1500m\": must be an integer",
                ],
            ),
            (
                "/status/declaredFeatures",
                json!(["B", "A", "A", "b"]),
                &[
                    "status.declaredFeatures[1]: Invalid value: \"A\": list must be sorted alphabetically",
                    "status.declaredFeatures[2]: Duplicate value: \"A\"",
                    &format!("status.declaredFeatures[3]: Invalid value: \"b\": invalid feature name \"b\": {FEATURE}"),
                ],
            ),
        ];
        cases::created(&row(), &node, cases_of_all);
        cases::reported(&row(), &node, cases_of_all);
        cases::created(
            &row(),
            &node,
            &[
                (
                    "/status/nodeInfo/swap",
                    json!({"capacity": 0}),
                    &["metadata.nodeSwapStatus.capacity: Invalid value: 0: must be greater than zero"],
                ),
                (
                    "/spec/podCIDRs",
                    json!(["10.0.0.1/8", "11.0.0.0/8"]),
                    &[
                        "spec.podCIDRs[0]: Invalid value: \"10.0.0.1/8\": must not have bits set beyond the prefix length",
                        "spec.podCIDRs: Invalid value: [\"10.0.0.1/8\",\"11.0.0.0/8\"]: may specify no more than one CIDR for each IP family",
                    ],
                ),
            ],
        );
        let old = json!({"metadata": {"name": "n"}, "spec": {"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24"], "providerID": "a"}});
        cases::updated(
            &row(),
            &old,
            &[
                ("/spec/podCIDRs", json!(["10.0.1.0/24"]), &[]),
                (
                    "/spec/podCIDR",
                    json!("10.0.1.0/24"),
                    &["spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid"],
                ),
                (
                    "/spec/providerID",
                    json!("b"),
                    &["spec.providerID: Forbidden: node updates may not change providerID except from \"\" to valid"],
                ),
                ("/spec/externalID", json!("b"), &["spec.externalID: Forbidden: may not be updated"]),
                ("/spec/configSource", json!({"configMap": {"uid": "u", "namespace": "n", "name": "m"}}), &[]),
                (
                    "/status/addresses",
                    json!([{"type": "a", "address": "b"}, {"type": "a", "address": "b"}]),
                    &["status.addresses[1]: Duplicate value: {\"Type\":\"a\",\"Address\":\"b\"}"],
                ),
            ],
        );
    }
}
