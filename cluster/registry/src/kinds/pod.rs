//! Pod: defaults and rules of its specification (which templates of workloads share), and its own behaviour.

pub(crate) mod affinity;
pub(crate) mod annotations;
pub(crate) mod cells;
pub(crate) mod containers;
pub(crate) mod default;
mod image;
mod os;
pub(crate) mod qos;
pub(crate) mod resize;
pub(crate) mod resources;
mod security;
pub(crate) mod spec;
mod status;
#[cfg(test)]
mod tests;
pub(crate) mod update;
pub(crate) mod volumes;
pub(crate) mod warnings;

use std::borrow::Cow;

use kedge_api::resource::Subresource;
use kedge_api::{Resource, Verb};
use serde_json::{Value, json};

use super::{READ_WRITE, STATUS, resource};
use crate::errors::{Errors, Path};
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

const fn connect(name: &'static str, kind: &'static str) -> Subresource {
    Subresource { name, kind, group_version: None, verbs: &[Verb::Create, Verb::Get] }
}

const SUBRESOURCES: &[Subresource] = &[
    connect("attach", "PodAttachOptions"),
    Subresource { name: "binding", kind: "Binding", group_version: None, verbs: &[Verb::Create] },
    Subresource { name: "ephemeralcontainers", kind: "", group_version: None, verbs: READ_WRITE },
    Subresource { name: "eviction", kind: "Eviction", group_version: Some(("policy", "v1")), verbs: &[Verb::Create] },
    connect("exec", "PodExecOptions"),
    Subresource { name: "log", kind: "", group_version: None, verbs: &[Verb::Get] },
    connect("portforward", "PodPortForwardOptions"),
    Subresource {
        name: "proxy",
        kind: "PodProxyOptions",
        group_version: None,
        verbs: &[Verb::Create, Verb::Delete, Verb::Get, Verb::Patch, Verb::Update],
    },
    Subresource { name: "resize", kind: "", group_version: None, verbs: READ_WRITE },
    STATUS,
];

const SELECTABLE: &[&str] = &[
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.podIPs",
    "status.nominatedNodeName",
];

pub(crate) fn row() -> Row {
    let base = resource("", "pods", "pod", "Pod", "io.k8s.api.core.v1.Pod", cells::COLUMNS);
    let resource = Resource {
        short_names: Cow::Borrowed(&["po"]),
        categories: Cow::Borrowed(&["all"]),
        subresources: SUBRESOURCES,
        selectable: SELECTABLE,
        ..base
    };
    let strategy = Strategy {
        metadata_checks: (1, 1),
        returns_deleted: true,
        default: default::pod,
        prepare_create,
        prepare_status: update::prepare_status,
        validate,
        validate_update: update::validate,
        validate_status: status::validate,
        validate_create,
        prepare_update: update::prepare,
        warnings: warnings::pod,
        status_warnings: warnings::status,
        grace: Some(grace),
        field,
        status_resets: &["spec", "metadata.deletionTimestamp", "metadata.ownerReferences"],
        ..Strategy::SPEC
    };
    Row::new(resource, strategy)
}

fn prepare_create(pod: &mut Value) {
    pod.set("status", json!({"phase": "Pending", "qosClass": qos::class(pod)}));
    let now = pod.look("metadata.creationTimestamp").clone();
    affinity::merge_label_keys(pod);
    annotations::to_fields(pod);
    let gated = !pod.items("spec.schedulingGates").is_empty();
    if gated {
        let why = "Scheduling is blocked due to non-empty scheduling gates";
        pod.set(
            "status.conditions",
            json!([{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "message": why, "lastProbeTime": null, "lastTransitionTime": now}]),
        );
    }
}

fn validate_create(pod: &Value, errors: &mut Errors) {
    let spec = Path::root("spec");
    if !pod.items("spec.ephemeralContainers").is_empty() {
        errors.forbidden(&spec.child("ephemeralContainers"), "cannot be set on create");
    }
    if !pod.text("spec.nodeName").is_empty() && !pod.items("spec.schedulingGates").is_empty() {
        errors.forbidden(&spec.child("nodeName"), "cannot be set until all schedulingGates have been cleared");
    }
    annotations::agree(pod, &spec, errors);
}

pub(crate) fn validate(pod: &Value, errors: &mut Errors) {
    let path = Path::root("spec");
    annotations::validate(pod, &Path::root("metadata.annotations"), errors);
    spec::validate(pod.look("spec"), &path, spec::In::Pod(pod.look("metadata")), errors);
    if pod.text("spec.serviceAccountName").is_empty() {
        volumes::no_tokens(pod.items("spec.volumes"), &path.child("volumes"), errors);
    }
    containers::images(pod.look("spec"), &path, errors);
}

/// What is not running anywhere has no time to wait for.
fn grace(pod: &Value, wanted: Option<i64>) -> i64 {
    let done = matches!(pod.text("status.phase"), "Failed" | "Succeeded");
    if pod.text("spec.nodeName").is_empty() || done {
        return 0;
    }
    match wanted.or_else(|| pod.int("spec.terminationGracePeriodSeconds")).unwrap_or(0) {
        negative if negative < 0 => 1,
        seconds => seconds,
    }
}

fn field(json: &[u8], field: &str) -> String {
    let text = crate::pick::pick(json, field);
    match field {
        "spec.hostNetwork" if text.is_empty() => "false".into(),
        "status.podIPs" => {
            let list: Vec<Value> = serde_json::from_str(&text).unwrap_or_default();
            list.iter().map(|ip| ip.text("ip")).collect::<Vec<_>>().join(",")
        }
        _ => text,
    }
}
