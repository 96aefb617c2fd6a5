//! What is done to a pod beside editing it: binding, resizing, adding a container to look inside.

use std::sync::Arc;

use kedge_api::request::Payload;
use kedge_api::resource::known;
use kedge_api::{Answer, Body, GroupResource, PatchType, Reason, Request, Status, Target};
use serde_json::{Value, json};

use super::super::incoming::{self, Expected, Incoming, Strictness};
use super::super::write::How;
use super::super::{answer, get, options, update};
use super::success;
use crate::Registry;
use crate::admission::{self, Operation, Writer};
use crate::apply::Author;
use crate::errors::{Errors, Path};
use crate::kinds::pod::{resize, update as rules};
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

const BINDING: Expected<'_> =
    Expected { group: "", version: "v1", kind: "Binding", schema: "io.k8s.api.core.v1.Binding" };

fn conformed(request: &mut Request, expected: &Expected<'_>) -> Result<Incoming, Status> {
    let (value, duplicates) = incoming::body(request);
    incoming::conform(value, duplicates, expected, Strictness::of(&request.options))
}

/// Gives a pod its node.
pub(super) async fn bind(registry: &Registry, row: &Arc<Row>, mut request: Request) -> Result<Answer, Status> {
    let dry_run = options::write(&request.options, "CreateOptions")?;
    let Incoming { value: mut binding, warnings, .. } = conformed(&mut request, &BINDING)?;
    let mut outer = Writer::of(&request, dry_run).of_kind(BINDING);
    admission::mutate(registry, row, &mut outer, &mut binding, None).await?;
    let name = binding.text("metadata.name");
    if !name.is_empty() && name != request.target.name {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    check_target(&binding)?;
    admission::validate(registry, row, &mut outer, Operation::Create, &binding, None).await?;
    let warnings = warnings.into_iter().chain(outer.warnings).collect();
    let request = Request { target: pod_of(&request.target), ..request };
    let row = registry.table().get(&known::PODS).ok_or_else(crate::no_resource)?.clone();
    let row = &row;
    let node = binding.text("target.name").to_owned();
    let uid = binding.text("metadata.uid").to_owned();
    let mut writer = Writer::of(&request, dry_run).admitted();
    update::modify(registry, row, How::Special, &mut writer, |object, pod| {
        super::super::write::check_uid(row, object, &uid)?;
        let bindings = GroupResource::of("", "pods/binding");
        let conflict = |why: String| Err(Status::conflict(&bindings, &object.key.name, &why));
        if object.is_deleting() {
            return conflict(format!("pod {} is being deleted, cannot be assigned to a host", object.key.name));
        }
        if !pod.text("spec.nodeName").is_empty() {
            let had = pod.text("spec.nodeName");
            return conflict(format!("pod {} is already assigned to node {had:?}", object.key.name));
        }
        if !pod.items("spec.schedulingGates").is_empty() {
            return conflict(format!("pod {} has non-empty .spec.schedulingGates", object.key.name));
        }
        pod.set("spec.nodeName", node.as_str());
        for part in ["labels", "annotations"] {
            let path = format!("metadata.{part}");
            for (key, value) in binding.entries(&path) {
                let slot = pod.slot(&path);
                if !slot.is_object() {
                    *slot = json!({});
                }
                if let Some(map) = slot.map_mut() {
                    map.insert(key.clone(), value.clone());
                }
            }
        }
        scheduled(pod, (registry.options.now)());
        Ok(())
    })
    .await?;
    Ok(answer(201, warnings, Payload::Value(success())))
}

fn check_target(binding: &Value) -> Result<(), Status> {
    let mut errors = Errors::default();
    let kind = binding.text("target.kind");
    if !["", "Node"].contains(&kind) {
        errors.not_supported(&Path::root("target.kind"), kind, &["Node", "<empty>"]);
    }
    if binding.text("target.name").is_empty() {
        errors.required(&Path::root("target.name"), "");
    }
    // Upstream takes it for a fault of no kind.
    if errors.is_empty() { Ok(()) } else { Err(Status::new(Reason::Unknown, errors.summary())) }
}

/// The condition that says so.
fn scheduled(pod: &mut Value, now: jiff::Timestamp) {
    let mut conditions = pod.items("status.conditions").to_vec();
    conditions.retain(|c| c.text("type") != "PodScheduled");
    let time = crate::metadata::stamp(now);
    conditions
        .push(json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": time}));
    pod.set("status.conditions", conditions);
}

/// `ephemeralcontainers` and `resize`: of what the body says, only their own part counts.
pub(super) async fn change(registry: &Registry, row: &Arc<Row>, mut request: Request) -> Result<Answer, Status> {
    let dry_run = options::change(&request)?;
    let author = Author::of(registry, row, &request);
    let resizes = request.target.subresource == "resize";
    let body = std::mem::take(&mut request.body);
    let mut writer = Writer::of(&request, dry_run);
    let written = update::modify(registry, row, How::Special, &mut writer, |object, pod| {
        let incoming = match &body {
            Body::Patch(PatchType::Apply, config) => {
                let applied = author.apply(Some(pod), config, request.options.force.unwrap_or(false))?;
                incoming::conform(applied, Vec::new(), &Expected::of(&row.resource), Strictness::Ignore)?
            }
            Body::Patch(kind, patch) => {
                let patched = crate::patch::patch(*kind, &row.resource, &pod.clone(), patch)?;
                update::accept(row, patched, patch, &[], &request.options)?
            }
            Body::Object { value, duplicates } => {
                let expected = Expected::of(&row.resource);
                incoming::conform(value.clone(), duplicates.clone(), &expected, Strictness::of(&request.options))?
            }
            Body::None => return Err(Status::bad_request("the request must have a body")),
        };
        let mut wanted = incoming.value;
        (row.strategy.default)(&mut wanted);
        update::check_version(row, object, update::wanted_version(&wanted)?)?;
        let before = pod.clone();
        let mut errors = Errors::default();
        if resizes {
            resize::take(&wanted, pod);
            resize::validate(pod, &before, &mut errors);
        } else {
            match wanted.items("spec.ephemeralContainers") {
                [] => {
                    pod.cut("spec.ephemeralContainers");
                }
                some => pod.set("spec.ephemeralContainers", some.to_vec()),
            }
            rules::ephemeral(pod, &before, &mut errors);
        }
        errors.of(&row.resource, &object.key.name)?;
        if pod.look("spec") != before.look("spec") {
            let generation = before.int("metadata.generation").unwrap_or(0) + 1;
            pod.set("metadata.generation", generation);
        }
        if matches!(body, Body::Patch(PatchType::Apply, _)) {
            pod.set("metadata.managedFields", wanted.look("metadata.managedFields").clone());
        } else {
            author.track(Some(&before), pod)?;
        }
        Ok(())
    })
    .await?;
    Ok(answer(200, writer.warnings, written.payload(row).await?))
}

/// `bindings` themselves: the pod is named by the body.
pub(crate) async fn create_binding(
    registry: &Registry,
    row: &Arc<Row>,
    mut request: Request,
) -> Result<Answer, Status> {
    if let Body::Object { value, .. } = &request.body {
        request.target.name = value.text("metadata.name").to_owned();
    }
    let pods = registry.table().get(&known::PODS).ok_or_else(crate::no_resource)?.clone();
    get::find(registry, &pods, &pod_of(&request.target))?;
    bind(registry, row, request).await
}

/// The pod that a binding, which may be a resource of its own, is about.
fn pod_of(target: &Target) -> Target {
    Target { resource: known::PODS, ..target.clone() }
}
