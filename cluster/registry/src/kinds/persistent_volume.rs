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
        metadata_checks: (0, 2),
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
        validate,
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
    spec.fill("volumeMode", "Filesystem");
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
    if modes.contains(&"ReadWriteOncePod") && modes.iter().any(|m| *m != "ReadWriteOncePod" && SORTED.contains(m)) {
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

/// Where a volume's specification stands: in a volume of this name, or inline in an attachment, where less may be said.
#[derive(Clone, Copy)]
pub(crate) enum In<'a> {
    Object(&'a str),
    Attachment,
}

const INLINE: &str = "may not be specified in the context of inline volumes";

pub(crate) fn spec(spec: &Value, place: In<'_>, path: &Path<'_>, errors: &mut Errors) {
    const POLICIES: &[&str] = &["Delete", "Recycle", "Retain"];
    let (inline, name) = match place {
        In::Object(name) => (false, name),
        In::Attachment => (true, ""),
    };
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
        errors.forbidden(&here, "may only be Retain in the context of inline volumes");
    }
    let nodes = path.child("nodeAffinity");
    if inline && spec.has("nodeAffinity") {
        errors.forbidden(&nodes, INLINE);
    } else {
        node_affinity(spec.look("nodeAffinity"), &nodes, errors);
    }
    sources(spec, name, spec.has("nodeAffinity") && !inline, path, errors);
    if policy == "Recycle" && is_root(spec.text("hostPath.path")) {
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
    } else if spec.look("volumeMode").as_str().is_some_and(|mode| mode != "Filesystem") {
        let why = "may not specify volumeMode other than Filesystem in the context of inline volumes";
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

fn validate(volume: &Value, errors: &mut Errors) {
    spec(volume.look("spec"), In::Object(volume.text("metadata.name")), &Path::root("spec"), errors);
}

/// Whether a path comes to `/` once its steps are taken.
fn is_root(path: &str) -> bool {
    let depth = path.split('/').fold(0_usize, |depth, part| match part {
        "" | "." => depth,
        ".." => depth.saturating_sub(1),
        _ => depth + 1,
    });
    path.starts_with('/') && depth == 0
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
        basic(amount, &path.key(name), errors);
        positive(amount, &path.key(name), errors);
    }
}

pub(crate) fn basic(amount: &Value, path: &Path<'_>, errors: &mut Errors) {
    let amount = parse(amount);
    if amount.is_negative() {
        errors.invalid(path, amount.value(), "must be a valid resource quantity");
    }
}

fn node_affinity(affinity: &Value, path: &Path<'_>, errors: &mut Errors) {
    match affinity.look("required") {
        _ if affinity.is_null() => {}
        Value::Null => errors.required(&path.child("required"), "must specify required node constraints"),
        required => affinity::tolerant_node_selector(required, &path.child("required"), errors),
    }
}

/// In the order in which upstream looks for them.
const SOURCES: &[&str] = &[
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "flocker",
    "nfs",
    "rbd",
    "quobyte",
    "cephfs",
    "iscsi",
    "cinder",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "scaleIO",
    "local",
    "storageos",
    "csi",
];

fn sources(spec: &Value, name: &str, nodes: bool, path: &Path<'_>, errors: &mut Errors) {
    let given: Vec<&str> = SOURCES.iter().copied().filter(|kind| spec.has(kind)).collect();
    if given.is_empty() {
        errors.required(path, "must specify a volume type");
    }
    for (at, kind) in given.into_iter().enumerate() {
        // One of these is never too many.
        if at > 0 && kind != "flexVolume" {
            volumes::second(kind, path, errors);
            continue;
        }
        one(kind, spec.look(kind), name, path, errors);
        if kind == "local" && !nodes {
            errors.required(&path.child("nodeAffinity"), "Local volume requires node affinity");
        }
    }
}

/// What a volume that stands alone says differently than a pod's.
fn one(kind: &str, source: &Value, volume: &str, path: &Path<'_>, errors: &mut Errors) {
    let here = path.child(kind);
    match kind {
        "local" => match source.text("path") {
            "" => errors.required(&here.child("path"), ""),
            text => volumes::no_backsteps(text, &here.child("path"), errors),
        },
        "csi" => csi(source, &here, errors),
        "iscsi" => iscsi(source, volume, &here, errors),
        "storageos" => {
            if source.text("volumeName").is_empty() {
                errors.required(&here.child("volumeName"), "");
            }
            volumes::storage_os(source, &here, errors);
            volumes::secret(source, "secretRef", &["name", "namespace"], &here, errors);
        }
        "cinder" => {
            if source.text("volumeID").is_empty() {
                errors.required(&here.child("volumeID"), "");
            }
            volumes::secret(source, "secretRef", &["name", "namespace"], &here, errors);
        }
        _ => volumes::check(kind, source, path, errors),
    }
    let namespace = here.child("endpointsNamespace");
    match (kind, source.look("endpointsNamespace").as_str(), source.look("secretNamespace").as_str()) {
        ("glusterfs", Some(""), _) => {
            errors.invalid(&namespace, "", "if the endpointnamespace is set, it must be a valid namespace name");
        }
        ("glusterfs", Some(text), _) => errors.all_invalid(&namespace, text, names::label(text)),
        ("azureFile", _, Some("")) => errors.required(&here.child("secretNamespace"), ""),
        _ => {}
    }
}

fn iscsi(source: &Value, volume: &str, path: &Path<'_>, errors: &mut Errors) {
    let portal = source.text("targetPortal");
    if portal.is_empty() {
        errors.required(&path.child("targetPortal"), "");
    }
    if source.has("initiatorName") && volumes::is_long(volume, source) {
        errors.invalid(&path.child("targetportal"), portal, volumes::LONG);
    }
    if source.text("iqn").is_empty() {
        errors.required(&path.child("iqn"), "");
    }
    // The secret's name is looked for before the initiator's is read.
    let mut rest = source.clone();
    let initiator = rest.cut("initiatorName");
    volumes::iscsi(&rest, FORM, path, errors);
    volumes::secret(source, "secretRef", &["name"], path, errors);
    if let Some(initiator) = initiator {
        volumes::iscsi(&json!({"initiatorName": initiator}), FORM, path, errors);
    }
}

const FORM: &str = "must be valid format";

fn csi(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    const SECRETS: [&str; 4] =
        ["controllerPublishSecretRef", "controllerExpandSecretRef", "nodePublishSecretRef", "nodeExpandSecretRef"];
    const PARTS: [(&str, names::Check); 2] = [("name", names::subdomain), ("namespace", names::label)];
    storage::driver(source.text("driver"), &path.child("driver"), errors);
    if source.text("volumeHandle").is_empty() {
        errors.required(&path.child("volumeHandle"), "");
    }
    for secret in SECRETS.iter().filter(|secret| source.has(secret)) {
        let here = path.child(secret);
        for (part, check) in PARTS {
            match source.look(secret).text(part) {
                "" => errors.required(&here.child(part), ""),
                text => errors.all_invalid(&here.child(part), text, check(text)),
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
    validate(new, errors);
    let before = source(old.look("spec"));
    let mut now = source(new.look("spec"));
    // The secret for growing may still be given.
    const SECRET: &str = "csi.controllerExpandSecretRef";
    if before.has("csi") && !before.has(SECRET) {
        now.cut(SECRET);
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
    if !before.is_null() && now != before && now != &with_newer_labels(before, now) {
        let why = "field is immutable, except for updating from beta label to GA";
        let shown = if now.is_null() { "null".into() } else { golang::show(now, "VolumeNodeAffinity") };
        errors.invalid_json(&Path::root("nodeAffinity"), &shown, why);
    }
    if old.has("spec.volumeAttributesClassName") && !new.has("spec.volumeAttributesClassName") {
        let why = "update from non-nil value to nil is forbidden";
        errors.forbidden(&Path::root("spec.volumeAttributesClassName"), why);
    }
}

/// As it was, but for keys of labels that are called by their newer names now.
fn with_newer_labels(had: &Value, now: &Value) -> Value {
    const TERMS: &str = "required.nodeSelectorTerms";
    let mut had = had.clone();
    for (term, now) in had.items_mut(TERMS).iter_mut().zip(now.items(TERMS)) {
        for (expression, now) in term.items_mut("matchExpressions").iter_mut().zip(now.items("matchExpressions")) {
            if pod_warnings::renamed(expression.text("key")) == now.text("key") {
                expression.set("key", now.text("key"));
            }
        }
    }
    had
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
        let path = format!("spec.nodeAffinity.required.nodeSelectorTerms[{at}]");
        pod_warnings::selector_term(term, &path, false, &mut said);
    }
    said.extend(pod_warnings::fraction(volume.look("spec.capacity.storage"), "spec.capacity[storage]"));
    pod_warnings::sources(volume.look("spec"), "spec", &mut said);
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::cases;

    #[test]
    fn sources_and_the_rest() {
        let volume = json!({"metadata": {"name": "v"}, "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}});
        let base = |source: Value| {
            let mut spec = volume["spec"].clone();
            spec.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
            spec
        };
        let mut whole = volume.clone();
        whole["spec"]["hostPath"] = json!({"path": "/x"});
        const SECRET: &str = "spec.csi.nodeExpandSecretRef.namespace: Invalid value: \"A\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
        cases::created(
            &row(),
            &whole,
            &[
                ("/spec", base(json!({})), &["spec: Required value: must specify a volume type"]),
                (
                    "/spec",
                    base(json!({"hostPath": {"path": "/x"}, "csi": {"driver": "d"}, "flexVolume": {}})),
                    &[
                        "spec.flexVolume.driver: Required value",
                        "spec.csi: Forbidden: may not specify more than 1 volume type",
                    ],
                ),
                (
                    "/spec",
                    base(json!({"csi": {"driver": "d", "nodeExpandSecretRef": {"namespace": "A"}}})),
                    &[
                        "spec.csi.volumeHandle: Required value",
                        "spec.csi.nodeExpandSecretRef.name: Required value",
                        SECRET,
                    ],
                ),
                (
                    "/spec",
                    base(json!({"glusterfs": {"endpoints": "e", "path": "p", "endpointsNamespace": ""}})),
                    &[
                        "spec.glusterfs.endpointsNamespace: Invalid value: \"\": if the endpointnamespace is set, it must be a valid namespace name",
                    ],
                ),
                (
                    "/spec",
                    base(json!({"azureFile": {"secretName": "s", "secretNamespace": ""}})),
                    &["spec.azureFile.shareName: Required value", "spec.azureFile.secretNamespace: Required value"],
                ),
                (
                    "/spec",
                    base(
                        json!({"iscsi": {"targetPortal": "x".repeat(64), "iqn": "a", "initiatorName": "b", "secretRef": {}}}),
                    ),
                    &[
                        &format!(
                            "spec.iscsi.targetportal: Invalid value: \"{}\": Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.",
                            "x".repeat(64)
                        ),
                        "spec.iscsi.iqn: Invalid value: \"a\": must be valid format",
                        "spec.iscsi.secretRef.name: Required value",
                        "spec.iscsi.initiatorname: Invalid value: \"b\": must be valid format",
                    ],
                ),
                (
                    "/spec",
                    base(json!({"cinder": {"secretRef": {}}})),
                    &[
                        "spec.cinder.volumeID: Required value",
                        "spec.cinder.secretRef.name: Required value",
                        "spec.cinder.secretRef.namespace: Required value",
                    ],
                ),
                (
                    "/spec",
                    base(json!({"local": {"path": "/a/.."}})),
                    &[
                        "spec.local.path: Invalid value: \"/a/..\": must not contain '..'",
                        "spec.nodeAffinity: Required value: Local volume requires node affinity",
                    ],
                ),
                (
                    "/spec/capacity",
                    json!({"storage": "-1"}),
                    &[
                        "spec.capacity[storage]: Invalid value: -1: must be a valid resource quantity",
                        "spec.capacity[storage]: Invalid value: \"-1\": must be greater than zero",
                    ],
                ),
                (
                    "/spec/accessModes",
                    json!(["ReadWriteOncePod", "x"]),
                    &[
                        "spec.accessModes: Unsupported value: \"x\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \"ReadWriteOnce\", \"ReadWriteOncePod\"",
                    ],
                ),
            ],
        );
        assert!(is_root("/a/..") && is_root("//.") && !is_root("..") && !is_root("/a"));
    }

    #[test]
    fn what_may_change() {
        let expression = |key: &str| json!({"matchExpressions": [{"key": key, "operator": "In", "values": ["a"]}]});
        let affinity = |key: &str| json!({"required": {"nodeSelectorTerms": [expression(key), expression("x")]}});
        let old = json!({"metadata": {"name": "v"}, "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
            "csi": {"driver": "d", "volumeHandle": "h"}, "nodeAffinity": affinity("beta.kubernetes.io/os")}});
        let secret = json!({"name": "s", "namespace": "n"});
        const SOURCE: &str =
            "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation";
        cases::updated(
            &row(),
            &old,
            &[
                ("/spec/csi/controllerExpandSecretRef", secret.clone(), &[]),
                ("/spec/csi/nodeExpandSecretRef", secret, &[SOURCE]),
                ("/spec/nodeAffinity", affinity("kubernetes.io/os"), &[]),
                ("/spec/volumeMode", json!("Block"), &["volumeMode: Invalid value: \"Block\": field is immutable"]),
            ],
        );
    }
}
