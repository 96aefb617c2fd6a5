//! PersistentVolume, and what it shares with claims.

use std::borrow::Cow;

use jiff::Timestamp;
use kedge_api::Resource;
use kedge_api::resource::Column;
use serde_json::{Map, Value, json};

use super::pod::resources::parse;
use super::pod::{affinity, default, volumes, warnings as pod_warnings};
use super::{STATUS, columns, resource, storage};
use crate::errors::{Errors, Path};
use crate::golang;
use crate::names;
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

const COLUMNS: &[Column] = &[
    columns::text("Capacity", |o| parse(o.look("spec.capacity.storage")).to_string().into()),
    columns::text("Access Modes", |o| modes(o.items("spec.accessModes")).into()),
    columns::text("Reclaim Policy", |o| o.text("spec.persistentVolumeReclaimPolicy").into()),
    columns::text("Status", |o| phase(o).into()),
    columns::text("Claim", |o| claim(o).into()),
    columns::text("StorageClass", |o| class(o).into()),
    columns::text("VolumeAttributesClass", |o| or_unset(o.text("spec.volumeAttributesClassName")).into()),
    columns::text("Reason", |o| o.text("status.reason").into()),
    columns::AGE,
    columns::wide("VolumeMode", |o| or_unset(o.text("spec.volumeMode")).into()),
];

/// The class before it was a field.
pub(crate) const CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const MOUNT_OPTIONS: &str = "volume.beta.kubernetes.io/mount-options";

const MODES: &[(&str, &str)] =
    &[("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];

/// The fields of the specification that are no source.
const PLAIN: &[&str] = &[
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

pub(crate) fn row() -> Row {
    let schema = "io.k8s.api.core.v1.PersistentVolume";
    let base = resource("", "persistentvolumes", "persistentvolume", "PersistentVolume", schema, COLUMNS);
    let resource = Resource { short_names: Cow::Borrowed(&["pv"]), namespaced: false, subresources: &[STATUS], ..base };
    let strategy = Strategy {
        status: true,
        returns_deleted: true,
        default: |volume| {
            default_spec(volume.slot("spec"));
            volume.fill_text("status.phase", "Pending");
        },
        prepare_create: |volume| {
            let now = volume.look("metadata.creationTimestamp").clone();
            volume.set("status", json!({"phase": "Pending", "lastPhaseTransitionTime": now}));
        },
        prepare_status,
        validate: |volume, errors| spec(volume.look("spec"), In::Object, &Path::root("spec"), errors),
        validate_update,
        warnings,
        ..Strategy::PLAIN
    };
    Row::new(resource, strategy)
}

pub(crate) fn or_unset(text: &str) -> &str {
    if text.is_empty() { "<unset>" } else { text }
}

pub(crate) fn phase(object: &Value) -> &str {
    if object.has("metadata.deletionTimestamp") { "Terminating" } else { object.text("status.phase") }
}

pub(crate) fn modes(modes: &[Value]) -> String {
    let given = MODES.iter().filter(|(mode, _)| modes.iter().any(|m| m == mode));
    given.map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

pub(crate) fn class(object: &Value) -> &str {
    let older = object.look("metadata.annotations").get(CLASS).and_then(Value::as_str);
    older.unwrap_or_else(|| object.text("spec.storageClassName"))
}

fn claim(volume: &Value) -> String {
    match volume.look("spec.claimRef") {
        Value::Null => String::new(),
        claim => format!("{}/{}", claim.text("namespace"), claim.text("name")),
    }
}

fn default_spec(spec: &mut Value) {
    spec.fill_text("persistentVolumeReclaimPolicy", "Retain");
    spec.fill_text("volumeMode", "Filesystem");
    default::source(spec);
}

/// Notes when the phase changes, unless whoever changes it says so.
fn prepare_status(new: &mut Value, old: &Value) {
    const TIME: &str = "status.lastPhaseTransitionTime";
    if new.text("status.phase") != old.text("status.phase") && new.look(TIME) == old.look(TIME) {
        new.set(TIME, crate::metadata::stamp(Timestamp::now()));
    }
}

pub(crate) fn access_modes(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    const SORTED: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
    let here = path.child("accessModes");
    let modes: Vec<&str> = spec.items("accessModes").iter().filter_map(Value::as_str).collect();
    for mode in modes.iter().filter(|m| !SORTED.contains(m)) {
        errors.not_supported(&here, *mode, SORTED);
    }
    if modes.contains(&"ReadWriteOncePod") && modes.iter().any(|m| *m != "ReadWriteOncePod") {
        errors.forbidden(&here, "may not use ReadWriteOncePod with other access modes");
    }
}

pub(crate) fn mode(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    const SORTED: &[&str] = &["Block", "Filesystem"];
    if let Some(mode) = spec.look("volumeMode").as_str().filter(|m| !SORTED.contains(m)) {
        errors.not_supported(&path.child("volumeMode"), mode, SORTED);
    }
}

pub(crate) fn positive(amount: &Value, path: &Path<'_>, errors: &mut Errors) {
    let amount_is = parse(amount);
    if amount_is.is_negative() || amount_is.is_zero() {
        errors.invalid(path, amount.clone(), "must be greater than zero");
    }
}

/// Where a volume's specification stands: alone, or inline in an attachment, where less may be said.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum In {
    Object,
    Attachment,
}

const INLINE: &str = "may not be specified in the context of inline volumes";

pub(crate) fn spec(spec: &Value, place: In, path: &Path<'_>, errors: &mut Errors) {
    const POLICIES: &[&str] = &["Delete", "Recycle", "Retain"];
    let inline = place == In::Attachment;
    if inline {
        for field in ["claimRef", "capacity"] {
            if spec.has(field) {
                errors.forbidden(&path.child(field), INLINE);
            }
        }
        if !spec.has("csi") {
            errors.required(&path.child("csi"), "has to be specified in the context of inline volumes");
        }
    }
    if spec.items("accessModes").is_empty() {
        errors.required(&path.child("accessModes"), "");
    }
    access_modes(spec, path, errors);
    let policy = spec.text("persistentVolumeReclaimPolicy");
    let here = path.child("persistentVolumeReclaimPolicy");
    if !inline {
        capacity(spec.look("capacity"), &path.child("capacity"), errors);
        if !policy.is_empty() && !POLICIES.contains(&policy) {
            errors.not_supported(&here, policy, POLICIES);
        }
    } else if !["", "Retain"].contains(&policy) {
        errors.forbidden(&here, "may only be \"Retain\" in the context of inline volumes");
    }
    let nodes = node_affinity(spec.look("nodeAffinity"), &path.child("nodeAffinity"), errors);
    sources(spec, nodes, path, errors);
    let root = spec.text("hostPath.path");
    if policy == "Recycle" && !root.is_empty() && root.bytes().all(|b| b == b'/' || b == b'.') {
        errors.forbidden(&here, "may not be 'recycle' for a hostPath mount of '/'");
    }
    let class = spec.text("storageClassName");
    let at = path.child("storageClassName");
    match (class.is_empty(), inline) {
        (true, _) => {}
        (false, true) => errors.forbidden(&at, INLINE),
        (false, false) => errors.all_invalid(&at, class, names::subdomain(class)),
    }
    if !inline {
        mode(spec, path, errors);
    } else if !["", "Filesystem"].contains(&spec.text("volumeMode")) {
        let why = "may not specify volumeMode other than \"Filesystem\" in the context of inline volumes";
        errors.forbidden(&path.child("volumeMode"), why);
    }
    if let Some(class) = spec.look("volumeAttributesClassName").as_str() {
        let at = path.child("volumeAttributesClassName");
        match class {
            "" => errors.required(&at, "an empty string is disallowed"),
            class => errors.all_invalid(&at, class, names::subdomain(class)),
        }
        if !spec.has("csi") {
            errors.required(&path.child("csi"), "has to be specified when using volumeAttributesClassName");
        }
    }
}

fn capacity(capacity: &Value, path: &Path<'_>, errors: &mut Errors) {
    let amounts = capacity.as_object();
    if amounts.is_none_or(Map::is_empty) {
        errors.required(path, "");
    }
    if amounts.is_none_or(|a| a.len() != 1 || !a.contains_key("storage")) {
        let shown = if capacity.is_null() { "null".to_owned() } else { capacity.to_string() };
        errors.not_supported_json(path, &shown, &["storage"]);
    }
    for (name, amount) in amounts.into_iter().flatten() {
        positive(amount, &path.key(name), errors);
    }
}

/// Whether there is one.
fn node_affinity(affinity: &Value, path: &Path<'_>, errors: &mut Errors) -> bool {
    if affinity.is_null() {
        return false;
    }
    match affinity.look("required") {
        Value::Null => errors.required(&path.child("required"), "must specify required node constraints"),
        required => affinity::node_selector(required, &path.child("required"), errors),
    }
    true
}

fn sources(spec: &Value, nodes: bool, path: &Path<'_>, errors: &mut Errors) {
    let given = spec.as_object().into_iter().flatten().filter(|(name, _)| !PLAIN.contains(&name.as_str()));
    let given: Map<String, Value> = given.map(|(name, value)| (name.clone(), value.clone())).collect();
    let of_pods: Map<String, Value> =
        given.iter().filter(|(n, _)| *n != "csi" && *n != "local").map(|(n, v)| (n.clone(), v.clone())).collect();
    if !of_pods.is_empty() || given.is_empty() {
        volumes::source(&Value::Object(of_pods.clone()), path, errors);
    }
    let mut found = !of_pods.is_empty();
    for name in ["local", "csi"] {
        let Some(source) = given.get(name) else { continue };
        let here = path.child(name);
        if found {
            errors.forbidden(&here, "may not specify more than 1 volume type");
        } else if name == "csi" {
            csi(source, &here, errors);
        } else {
            match source.text("path") {
                "" => errors.required(&here.child("path"), ""),
                text => volumes::no_backsteps(text, &here.child("path"), errors),
            }
            if !nodes {
                errors.required(&path.child("nodeAffinity"), "Local volume requires node affinity");
            }
        }
        found = true;
    }
}

fn csi(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    storage::driver(source.text("driver"), &path.child("driver"), errors);
    if source.text("volumeHandle").is_empty() {
        errors.required(&path.child("volumeHandle"), "");
    }
    for secret in
        ["controllerPublishSecretRef", "controllerExpandSecretRef", "nodePublishSecretRef", "nodeExpandSecretRef"]
    {
        let here = path.child(secret);
        for field in ["name", "namespace"] {
            if source.has(secret) && source.look(secret).text(field).is_empty() {
                errors.required(&here.child(field), "");
            }
        }
    }
}

/// The source, as one value.
fn source(spec: &Value) -> Value {
    let fields = spec.as_object().into_iter().flatten().filter(|(name, _)| !PLAIN.contains(&name.as_str()));
    fields.map(|(name, value)| (name.clone(), value.clone())).collect::<Map<_, _>>().into()
}

fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    // Upstream checks all of it a second time.
    spec(new.look("spec"), In::Object, &Path::root("spec"), errors);
    let mut before = source(old.look("spec"));
    let now = source(new.look("spec"));
    // A secret for growing may still be given.
    for secret in ["csi.controllerExpandSecretRef", "csi.nodeExpandSecretRef"] {
        if before.has("csi") && !before.has(secret) && now.has(secret) {
            before.set(secret, now.look(secret).clone());
        }
    }
    if now != before {
        let why = "spec.persistentvolumesource is immutable after creation";
        let why = format!("{why}\n{}", golang::difference(&before, &now, "PersistentVolumeSource"));
        errors.forbidden(&Path::root("spec.persistentvolumesource"), &why);
    }
    if new.look("spec.volumeMode") != old.look("spec.volumeMode") {
        errors.invalid(&Path::root("volumeMode"), new.look("spec.volumeMode").clone(), "field is immutable");
    }
    let (now, before) = (new.look("spec.nodeAffinity"), old.look("spec.nodeAffinity"));
    if !before.is_null() && now != before && now != &with_newer_labels(before) {
        let why = "field is immutable, except for updating from beta label to GA";
        let shown = if now.is_null() { "null".into() } else { golang::show(now, "VolumeNodeAffinity") };
        errors.invalid_json(&Path::root("nodeAffinity"), &shown, why);
    }
    if old.has("spec.volumeAttributesClassName") && !new.has("spec.volumeAttributesClassName") {
        let why = "update from non-nil value to nil is forbidden";
        errors.forbidden(&Path::root("spec.volumeAttributesClassName"), why);
    }
}

fn with_newer_labels(affinity: &Value) -> Value {
    let mut affinity = affinity.clone();
    for term in affinity.items_mut("required.nodeSelectorTerms") {
        for expression in term.items_mut("matchExpressions") {
            let key = pod_warnings::renamed(expression.text("key")).to_owned();
            expression.set("key", key);
        }
    }
    affinity
}

fn warnings(volume: &Value, _: Option<&Value>) -> Vec<String> {
    const RECYCLE: &str = "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach \
                           is to use dynamic provisioning.";
    let mut said = Vec::new();
    for (key, since, field) in [(CLASS, "v1.8", "storageClassName"), (MOUNT_OPTIONS, "v1.31", "mountOptions")] {
        if volume.look("metadata.annotations").get(key).is_some() {
            said.push(format!(
                "metadata.annotations[{key}]: deprecated since {since}; use {field:?} attribute instead"
            ));
        }
    }
    if volume.text("spec.persistentVolumeReclaimPolicy") == "Recycle" {
        said.push(RECYCLE.to_owned());
    }
    for (at, term) in volume.items("spec.nodeAffinity.required.nodeSelectorTerms").iter().enumerate() {
        for (nth, expression) in term.items("matchExpressions").iter().enumerate() {
            let key = expression.text("key");
            let path = format!("spec.nodeAffinity.required.nodeSelectorTerms[{at}].matchExpressions[{nth}].key");
            said.extend(pod_warnings::label(key).map(|why| format!("{path}: {key} is {why}")));
        }
    }
    said.extend(pod_warnings::fraction(volume.look("spec.capacity.storage"), "spec.capacity[storage]"));
    pod_warnings::sources(volume.look("spec"), "spec", &mut said);
    said
}
