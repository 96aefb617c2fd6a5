//! PersistentVolumeClaim: a wish for a volume. Also its specification, which templates of workloads and pods share.

use std::borrow::Cow;

use kedge_api::Resource;
use kedge_api::resource::Column;
use serde_json::{Value, json};

use super::pod::affinity;
use super::pod::resources::{is_native, parse};
use super::pod::warnings::fraction;
use super::{STATUS, columns, persistent_volume as volume, resource};
use crate::errors::{Errors, Late, Path};
use crate::golang;
use crate::names;
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

const COLUMNS: &[Column] = &[
    columns::text("Status", |o| volume::phase(o).into()),
    columns::text("Volume", |o| o.text("spec.volumeName").into()),
    columns::text("Capacity", |o| capacity(o).into()),
    columns::text("Access Modes", |o| modes(o).into()),
    columns::text("StorageClass", |o| volume::class(o).into()),
    columns::text("VolumeAttributesClass", |o| volume::or_unset(o.text("spec.volumeAttributesClassName")).into()),
    columns::AGE,
    columns::wide("VolumeMode", |o| volume::or_unset(o.text("spec.volumeMode")).into()),
];

const SNAPSHOTS: &str = "snapshot.storage.k8s.io";
const CLAIM: &str = "PersistentVolumeClaim";
const REQUEST: &str = "spec.resources.requests.storage";

pub(crate) fn row() -> Row {
    let schema = "io.k8s.api.core.v1.PersistentVolumeClaim";
    let base = resource("", "persistentvolumeclaims", "persistentvolumeclaim", CLAIM, schema, COLUMNS);
    let resource = Resource { short_names: Cow::Borrowed(&["pvc"]), subresources: &[STATUS], ..base };
    let strategy = Strategy {
        metadata_checks: (1, 1),
        status: true,
        returns_deleted: true,
        default,
        prepare_create: |claim| {
            claim.set("status", json!({"phase": "Pending"}));
            sources(claim);
        },
        prepare_update: |new, _| sources(new),
        validate: |claim, errors| spec(claim.look("spec"), &Path::root("spec"), errors),
        validate_update,
        validate_status,
        warnings: |new, _| warnings(new.look("spec"), "spec"),
        ..Strategy::PLAIN
    };
    Row::new(resource, strategy)
}

fn capacity(claim: &Value) -> String {
    match claim.text("spec.volumeName") {
        "" => String::new(),
        _ => parse(claim.look("status.capacity.storage")).to_string(),
    }
}

fn modes(claim: &Value) -> String {
    match claim.text("spec.volumeName") {
        "" => String::new(),
        _ => volume::modes(claim.items("status.accessModes")),
    }
}

pub(crate) fn default(claim: &mut Value) {
    default_spec(claim.slot("spec"));
    claim.fill_text("status.phase", "Pending");
    super::workload::null_times(claim, "status.conditions", &["lastProbeTime", "lastTransitionTime"]);
}

pub(crate) fn default_spec(spec: &mut Value) {
    spec.fill("volumeMode", "Filesystem");
    spec.fill("resources", json!({}));
    for field in ["dataSource", "dataSourceRef"] {
        if let Some(source) = spec.find_mut(field) {
            source.fill("apiGroup", Value::Null);
        }
    }
}

/// The older field takes claims and snapshots only, and says the same as the newer one.
fn sources(claim: &mut Value) {
    if claim.has("spec.dataSourceRef.namespace") {
        // Belongs to a feature that is off by default upstream.
        claim.cut("spec.dataSourceRef");
    }
    let (old, new) = (claim.look("spec.dataSource").clone(), claim.look("spec.dataSourceRef").clone());
    match (old.is_null(), new.is_null()) {
        (false, true) => match (old.text("kind"), old.text("apiGroup")) {
            (CLAIM, "") | ("VolumeSnapshot", SNAPSHOTS) => claim.set("spec.dataSourceRef", old),
            _ => {
                claim.cut("spec.dataSource");
            }
        },
        (true, false) => claim.set("spec.dataSource", new),
        _ => {}
    }
}

pub(crate) fn warnings(spec: &Value, path: &str) -> Vec<String> {
    let request = spec.look("resources.requests.storage");
    fraction(request, &format!("{path}.resources.requests[storage]")).into_iter().collect()
}

pub(crate) fn spec(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    if spec.items("accessModes").is_empty() {
        errors.required(&path.child("accessModes"), "at least 1 access mode is required");
    }
    affinity::tolerant_label_selector(spec.look("selector"), &path.child("selector"), errors);
    volume::access_modes(spec, path, errors);
    let resources = path.child("resources");
    let storage = resources.key("storage");
    match spec.look("resources.requests.storage") {
        Value::Null => errors.required(&storage, ""),
        amount => volume::positive(amount, &storage, errors),
    }
    let class = spec.text("storageClassName");
    if !class.is_empty() {
        errors.all_invalid(&path.child("storageClassName"), class, names::subdomain(class));
    }
    volume::mode(spec, path, errors);
    let (old, new) = (spec.look("dataSource"), spec.look("dataSourceRef"));
    for (source, field) in [(old, "dataSource"), (new, "dataSourceRef")] {
        data_source(source, &path.child(field), errors);
    }
    let same = |field: &str| old.look(field) == new.look(field);
    if old.is_object() && new.is_object() && !["kind", "name", "apiGroup"].iter().all(|f| same(f)) {
        errors.invalid(path, json!({}), "must match dataSourceRef");
    }
    let class = spec.text("volumeAttributesClassName");
    if !class.is_empty() {
        errors.all_invalid(&path.child("volumeAttributesClassName"), class, names::subdomain(class));
    }
}

fn data_source(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    if source.is_null() {
        return;
    }
    for field in ["name", "kind"] {
        if source.text(field).is_empty() {
            errors.required(&path.child(field), "");
        }
    }
    match source.text("apiGroup") {
        "" if source.text("kind") != CLAIM => {
            let why = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            errors.invalid(path, source.text("kind"), why);
        }
        "" => {}
        group => errors.late(Late::SourceGroup, |errors| {
            errors.all_invalid(&path.child("apiGroup"), group, names::subdomain(group));
        }),
    }
    let namespace = source.text("namespace");
    if !namespace.is_empty() {
        errors.all_invalid(&path.child("namespace"), namespace, names::label(namespace));
    }
}

/// The class as the older annotation names it.
fn annotated(claim: &Value) -> Option<&str> {
    claim.look("metadata.annotations").get(volume::CLASS)?.as_str()
}

fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    const WHY: &str =
        "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
    let mut same = new.look("spec").clone();
    let mut keep = |field: &str| match old.look("spec").look(field) {
        Value::Null => {
            same.cut(field);
        }
        value => same.set(field, value.clone()),
    };
    if old.text("spec.volumeName").is_empty() {
        keep("volumeName");
    }
    // A class may still be named, where none was, and must be that of the annotation.
    let (class, had) = (new.look("spec.storageClassName").as_str(), annotated(old));
    let named = class.is_some() && !old.has("spec.storageClassName");
    let moved = named && had.is_some() && class == had && annotated(new).is_none_or(|now| Some(now) == had);
    if !moved && annotated(new).unwrap_or_default() != had.unwrap_or_default() {
        let annotations = Path::root("metadata.annotations");
        errors.invalid(&annotations.child(volume::CLASS), annotated(new).unwrap_or_default(), "field is immutable");
    }
    if named && had.is_none_or(|had| class == Some(had)) {
        keep("storageClassName");
    }
    if new.text("status.phase") == "Bound" {
        if new.has("spec.resources.requests") {
            keep("resources.requests.storage");
        }
        keep("volumeAttributesClassName");
    }
    let path = Path::root("spec");
    if &same != old.look("spec") {
        errors.forbidden(
            &path,
            &format!("{WHY}\n{}", golang::difference(old.look("spec"), &same, "PersistentVolumeClaimSpec")),
        );
    }
    let (now, before) = (parse(new.look(REQUEST)), parse(old.look(REQUEST)));
    if now < before && now <= parse(old.look("status.capacity.storage")) {
        errors.forbidden(&Path::root(REQUEST), "field can not be less than status.capacity");
    }
    if new.look("spec.volumeMode") != old.look("spec.volumeMode") {
        errors.invalid(&Path::root("volumeMode"), new.look("spec.volumeMode").clone(), "field is immutable");
    }
    let class = path.child("volumeAttributesClassName");
    let now = new.look("spec.volumeAttributesClassName");
    if now != old.look("spec.volumeAttributesClassName") && old.has("status.currentVolumeAttributesClassName") {
        let what = match now.as_str() {
            None => "nil",
            Some("") => "empty string",
            Some(_) => return,
        };
        let why = format!("update to {what} is forbidden when status.currentVolumeAttributesClassName is not nil");
        errors.forbidden(&class, &why);
    }
}

fn validate_status(new: &Value, _: &Value, errors: &mut Errors) {
    if new.items("spec.accessModes").is_empty() {
        errors.required(&Path::root("Spec.accessModes"), "");
    }
    let status = Path::root("status");
    let here = status.child("capacity");
    for (name, amount) in new.entries("status.capacity") {
        volume::basic(amount, &here.key(name), errors);
    }
    resizing(new, &status.child("allocatedResourceStatuses"), errors);
    let here = status.child("allocatedResources");
    for (name, amount) in new.entries("status.allocatedResources") {
        if resource_key(name, &here, errors) {
            volume::basic(amount, &here.key(name), errors);
        }
    }
}

/// Of Kubernetes' own names, a claim has only storage.
fn resource_key(name: &str, path: &Path<'_>, errors: &mut Errors) -> bool {
    let before = errors.len();
    let wrong = names::qualified(name);
    if wrong.is_empty() && is_native(name) && name != "storage" {
        errors.not_supported(path, name, &["storage"]);
    }
    errors.all_invalid(path, name, wrong);
    errors.len() == before
}

/// How far a change of an amount has come.
fn resizing(claim: &Value, path: &Path<'_>, errors: &mut Errors) {
    const STATES: &[&str] = &[
        "ControllerResizeInProgress",
        "ControllerResizeInfeasible",
        "NodeResizeInProgress",
        "NodeResizeInfeasible",
        "NodeResizePending",
    ];
    for (name, state) in claim.entries("status.allocatedResourceStatuses") {
        resource_key(name, path, errors);
        if !STATES.contains(&state.as_str().unwrap_or_default()) {
            errors.not_supported(path, name.as_str(), STATES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::cases;

    #[test]
    fn both_fields_of_a_source_say_the_same() {
        let after = |spec: Value| {
            let mut claim = json!({"spec": spec});
            sources(&mut claim);
            claim["spec"].clone()
        };
        let claim = json!({"apiGroup": null, "kind": CLAIM, "name": "x"});
        let other = json!({"apiGroup": "e.com", "kind": "Foo", "name": "x"});
        assert_eq!(after(json!({"dataSource": claim})), json!({"dataSource": claim, "dataSourceRef": claim}));
        assert_eq!(after(json!({"dataSourceRef": other})), json!({"dataSource": other, "dataSourceRef": other}));
        assert_eq!(after(json!({"dataSource": other})), json!({}));
    }

    #[test]
    fn only_a_bound_claim_may_grow() {
        let claim = |phase: &str, size: &str| {
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}, "volumeMode": "Filesystem"},
                   "status": {"phase": phase, "capacity": {"storage": "1Gi"}}})
        };
        let wrong = |new: Value, old: Value| {
            let mut errors = Errors::default();
            validate_update(&new, &old, &mut errors);
            errors.len()
        };
        assert_eq!(wrong(claim("Bound", "2Gi"), claim("Bound", "1Gi")), 0);
        assert_eq!(wrong(claim("Pending", "2Gi"), claim("Pending", "1Gi")), 1);
        assert_eq!(wrong(claim("Bound", "1Gi"), claim("Bound", "2Gi")), 1);
        assert_eq!(wrong(claim("Bound", "2Gi"), claim("Bound", "3Gi")), 0);
    }

    #[test]
    fn classes_and_amounts() {
        let claim = json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
        cases::created(
            &row(),
            &claim,
            &[
                (
                    "/spec/resources/requests/storage",
                    json!("-1"),
                    &["spec.resources[storage]: Invalid value: \"-1\": must be greater than zero"],
                ),
                (
                    "/spec/dataSourceRef",
                    json!({"kind": "Pod", "name": "x", "namespace": "n"}),
                    &[
                        "spec.dataSourceRef: Invalid value: \"Pod\": must be 'PersistentVolumeClaim' when referencing the default apiGroup",
                    ],
                ),
            ],
        );
        const WHY: &str = "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        let mut annotated = claim.clone();
        annotated["metadata"]["annotations"] = json!({volume::CLASS: "a"});
        cases::updated(
            &row(),
            &claim,
            &[
                ("/spec/storageClassName", json!("a"), &[]),
                ("/spec/accessModes", json!(["ReadOnlyMany"]), &[WHY]),
                (
                    "/metadata/annotations",
                    json!({volume::CLASS: "b"}),
                    &[
                        "metadata.annotations.volume.beta.kubernetes.io/storage-class: Invalid value: \"b\": field is immutable",
                    ],
                ),
            ],
        );
        cases::updated(
            &row(),
            &annotated,
            &[("/spec/storageClassName", json!("a"), &[]), ("/spec/storageClassName", json!("b"), &[WHY])],
        );
        let mut bound = claim;
        bound["status"] =
            json!({"phase": "Bound", "capacity": {"storage": "1Gi"}, "currentVolumeAttributesClassName": "v"});
        bound["spec"]["volumeAttributesClassName"] = json!("v");
        cases::updated(
            &row(),
            &bound,
            &[
                ("/spec/volumeAttributesClassName", json!("w"), &[]),
                (
                    "/spec/volumeAttributesClassName",
                    json!(""),
                    &[
                        "spec.volumeAttributesClassName: Forbidden: update to empty string is forbidden when status.currentVolumeAttributesClassName is not nil",
                    ],
                ),
                (
                    "/spec/volumeAttributesClassName",
                    Value::Null,
                    &[
                        "spec.volumeAttributesClassName: Forbidden: update to nil is forbidden when status.currentVolumeAttributesClassName is not nil",
                    ],
                ),
            ],
        );
        cases::reported(
            &row(),
            &bound,
            &[
                (
                    "/status/allocatedResources",
                    json!({"cpu": "-1", "storage": "-1"}),
                    &[
                        "status.allocatedResources: Unsupported value: \"cpu\": supported values: \"storage\"",
                        "status.allocatedResources[storage]: Invalid value: -1: must be a valid resource quantity",
                    ],
                ),
                (
                    "/status/capacity/storage",
                    json!("-1"),
                    &["status.capacity[storage]: Invalid value: -1: must be a valid resource quantity"],
                ),
            ],
        );
    }
}
