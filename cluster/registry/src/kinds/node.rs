//! Node.

use std::borrow::Cow;
use std::collections::HashSet;

use kedge_api::resource::{Column, Subresource};
use kedge_api::{Resource, Verb};
use serde_json::{Value, json};

use super::{STATUS, address, columns, resource};
use crate::errors::{Errors, Path, ordered};
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
        status: true,
        keeps_status_on_create: true,
        default,
        validate,
        validate_update,
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
    if new.has("spec.configSource") {
        said.push("spec.configSource: the feature is no longer available".to_owned());
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
    let root = Path::root("spec.podCIDRs");
    let networks = node.items("spec.podCIDRs");
    for (at, network) in networks.iter().enumerate() {
        address::cidr(network.as_str().unwrap_or_default(), &root.index(at), errors);
    }
    if let (Some(first), Some(one)) = (networks.first(), node.look("spec.podCIDR").as_str())
        && first != one
    {
        errors.invalid(&Path::root("spec.podCIDR"), one, "must match the first value of podCIDRs");
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
    let set = |path: &str| !old.text(path).is_empty() && old.text(path) != new.text(path);
    if set("spec.providerID") {
        errors.forbidden(
            &Path::root("spec.providerID"),
            "node updates may not change providerID except from \"\" to valid",
        );
    }
    if !old.items("spec.podCIDRs").is_empty() && old.look("spec.podCIDRs") != new.look("spec.podCIDRs") {
        errors.forbidden(&Path::root("spec.podCIDRs"), "node updates may not change podCIDR except from \"\" to valid");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
