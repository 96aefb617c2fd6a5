//! PersistentVolumeClaim: a wish for a volume. Also its specification, which templates of workloads and pods share.

use std::borrow::Cow;

use kedge_api::Resource;
use kedge_api::resource::Column;
use serde_json::{Value, json};

use super::pod::affinity;
use super::pod::resources::parse;
use super::pod::warnings::fraction;
use super::{STATUS, columns, persistent_volume as volume, resource};
use crate::errors::{Errors, Path};
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
    spec.fill_text("volumeMode", "Filesystem");
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
    affinity::label_selector(spec.look("selector"), &path.child("selector"), errors);
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
        group => errors.all_invalid(&path.child("apiGroup"), group, names::subdomain(group)),
    }
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
    if !old.has("spec.storageClassName")
        && !old.look("metadata.annotations").as_object().is_some_and(|a| a.contains_key(volume::CLASS))
    {
        keep("storageClassName");
    }
    if new.text("status.phase") == "Bound" {
        keep("resources.requests.storage");
    }
    if old.text("status.phase") == "Bound" {
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
    if !old.text("spec.volumeAttributesClassName").is_empty() {
        match new.look("spec.volumeAttributesClassName").as_str() {
            None => errors.forbidden(&class, "update from non-nil value to nil is forbidden"),
            Some("") => errors.forbidden(&class, "update from non-nil value to an empty string is forbidden"),
            Some(_) => {}
        }
    }
}

fn validate_status(new: &Value, _: &Value, errors: &mut Errors) {
    let status = Path::root("status");
    resizing(new, &status.child("allocatedResourceStatuses"), errors);
    for list in ["capacity", "allocatedResources"] {
        let here = status.child(list);
        for (name, amount) in new.look("status").entries(list) {
            let amount = parse(amount);
            if amount.is_negative() {
                errors.invalid(&here.key(name), amount.value(), "must be a valid resource quantity");
            }
        }
    }
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
        let wrong = names::qualified(name);
        let native = !name.contains('/') || name.starts_with("kubernetes.io/");
        if wrong.is_empty() && native && name != "storage" {
            errors.not_supported(path, name.as_str(), &["storage"]);
        }
        errors.all_invalid(path, name, wrong);
        if !STATES.contains(&state.as_str().unwrap_or_default()) {
            errors.not_supported(path, name.as_str(), STATES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
