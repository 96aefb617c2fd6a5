//! What each kind of volume needs.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use super::{downward, keys_to_paths, mode, no_backsteps, projected, relative};
use crate::errors::{Errors, Path, quote};
use crate::kinds::pod::containers;
use crate::kinds::pod::spec::In;
use crate::kinds::{persistent_volume_claim, storage};
use crate::names;
use crate::value::Look as _;

/// In the order in which upstream looks for them, the first that is there being the volume's; and the names of those that it calls
/// something else where they come second.
const KINDS: &[&str] = &[
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "projected",
    "scaleIO",
    "csi",
    "ephemeral",
    "image",
];
const SECOND: &[(&str, &str)] = &[("cephfs", "cephFS"), ("downwardAPI", "downwarAPI")];

/// Fields that a source cannot do without. Sources that need more have their own function.
const REQUIRED: &[(&str, &[&str])] = &[
    ("secret", &["secretName"]),
    ("configMap", &["name"]),
    ("persistentVolumeClaim", &["claimName"]),
    ("iscsi", &["targetPortal", "iqn"]),
    ("rbd", &["monitors", "image"]),
    ("glusterfs", &["endpoints", "path"]),
    ("flexVolume", &["driver"]),
    ("cephfs", &["monitors"]),
    ("cinder", &["volumeID"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("azureFile", &["secretName", "shareName"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("vsphereVolume", &["volumePath"]),
    ("portworxVolume", &["volumeID"]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("storageos", &["volumeName"]),
    ("gitRepo", &["repository"]),
    ("photonPersistentDisk", &["pdID"]),
    ("ephemeral", &["volumeClaimTemplate"]),
];

pub(crate) fn source(volume: &Value, place: In<'_>, path: &Path<'_>, errors: &mut Errors) {
    let mut found = false;
    for kind in KINDS {
        let source = volume.look(kind);
        if source.is_null() {
            continue;
        }
        if found {
            second(kind, path, errors);
        } else {
            found = true;
            check(kind, source, path, errors);
            if let ("ephemeral", In::Pod(metadata)) = (*kind, place) {
                made_claim(metadata.text("name"), volume.text("name"), path, errors);
            }
            // A template may leave it to whoever makes pods from it.
            if let ("image", In::Pod(_), "") = (*kind, place, source.text("reference")) {
                errors.required(&path.child("image.reference"), "");
            }
        }
        if *kind == "iscsi" && source.has("initiatorName") {
            let name = volume.text("name");
            if is_long(name, source) {
                errors.invalid(&path.child("name"), name, LONG);
            }
        }
    }
    if !found {
        errors.required(path, "must specify a volume type");
    }
}

/// One that is there beside another.
pub(crate) fn second(kind: &str, path: &Path<'_>, errors: &mut Errors) {
    let shown = SECOND.iter().find(|(k, _)| *k == kind).map_or(kind, |(_, shown)| *shown);
    errors.forbidden(&path.child(shown), "may not specify more than 1 volume type");
}

/// The claim that a pod's own volume is made by has the name of both.
fn made_claim(pod: &str, volume: &str, path: &Path<'_>, errors: &mut Errors) {
    if pod.is_empty() || volume.is_empty() {
        return;
    }
    let claim = format!("{pod}-{volume}");
    for why in names::subdomain(&claim) {
        errors.invalid(&path.child("name"), volume, &format!("PVC name {}: {why}", quote(&claim)));
    }
}

/// The rules of one source; `path` is that of the volume.
pub(crate) fn check(kind: &str, source: &Value, path: &Path<'_>, errors: &mut Errors) {
    let here = path.child(kind);
    for field in REQUIRED.iter().filter(|(k, _)| *k == kind).flat_map(|(_, fields)| *fields) {
        if source.text(field).is_empty() && source.items(field).is_empty() && !source.look(field).is_object() {
            errors.required(&here.child(field), "");
        }
    }
    match kind {
        "hostPath" => host_path(source, &here, errors),
        "nfs" => nfs(source, &here, errors),
        "secret" | "configMap" => {
            mode(source.look("defaultMode"), &here.child("defaultMode"), errors);
            keys_to_paths(source.items("items"), &here.child("items"), |_, _| {}, errors);
        }
        "downwardAPI" => {
            mode(source.look("defaultMode"), &here.child("defaultMode"), errors);
            source.items("items").iter().for_each(|file| downward(file, &here, errors));
        }
        "projected" => projected(source, &here, errors),
        "emptyDir" if source.text("sizeLimit").starts_with('-') => {
            errors.forbidden(&here.child("sizeLimit"), "SizeLimit field must be a valid resource quantity");
        }
        "iscsi" => iscsi(source, "must be valid format starting with iqn, eui, or naa", &here, errors),
        "quobyte" => quobyte(source, &here, errors),
        "flexVolume" => flex(source, &here, errors),
        "awsElasticBlockStore" => partition(source, &here, errors),
        "storageos" => {
            storage_os(source, &here, errors);
            secret(source, "secretRef", &["name"], &here, errors);
        }
        "cinder" => secret(source, "secretRef", &["name"], &here, errors),
        "gitRepo" => relative(source.text("directory"), &here.child("directory"), errors),
        "gcePersistentDisk" => {
            let disk = path.child("persistentDisk");
            if source.text("pdName").is_empty() {
                errors.required(&disk.child("pdName"), "");
            }
            partition(source, &disk, errors);
        }
        "azureDisk" => azure_disk(source, &here, errors),
        "image" => {
            let policy = source.text("pullPolicy");
            if !policy.is_empty() && !containers::PULLS.contains(&policy) {
                errors.not_supported(&here.child("pullPolicy"), policy, containers::PULLS);
            }
        }
        "csi" => {
            storage::driver(source.text("driver"), &here.child("driver"), errors);
            let name = source.text("nodePublishSecretRef.name");
            secret(source, "nodePublishSecretRef", &["name"], &here, errors);
            if !name.is_empty() {
                errors.all_invalid(&here.child("name"), name, names::subdomain(name));
            }
        }
        "fc" => fibre_channel(source, &here, errors),
        "flocker" => flocker(source, &here, errors),
        "ephemeral" if source.has("volumeClaimTemplate") => {
            let template = here.child("volumeClaimTemplate");
            metadata(source.look("volumeClaimTemplate.metadata"), &template.child("metadata"), errors);
            let spec = source.look("volumeClaimTemplate.spec");
            persistent_volume_claim::spec(spec, &template.child("spec"), errors);
        }
        _ => {}
    }
}

fn fibre_channel(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    let (targets, ids) = (source.items("targetWWNs"), source.items("wwids"));
    let here = path.child("targetWWNs");
    match (targets.is_empty(), ids.is_empty()) {
        (true, true) => errors.required(&here, "must specify either targetWWNs or wwids, but not both"),
        (false, false) => {
            let why = "targetWWNs and wwids can not be specified simultaneously";
            errors.invalid(&here, targets.to_vec(), why);
        }
        _ => {}
    }
    let unit = path.child("lun");
    match source.int("lun") {
        None if !targets.is_empty() => errors.required(&unit, "lun is required if targetWWNs is specified"),
        Some(number) if !targets.is_empty() && !(0..=255).contains(&number) => {
            errors.invalid(&unit, number, "must be between 0 and 255, inclusive");
        }
        _ => {}
    }
}

fn flocker(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    let (name, id) = (source.text("datasetName"), source.text("datasetUUID"));
    match (name.is_empty(), id.is_empty()) {
        (true, true) => errors.required(path, "one of datasetName and datasetUUID is required"),
        (false, false) => {
            let why = "datasetName and datasetUUID can not be specified simultaneously";
            errors.invalid(path, "resource", why);
        }
        _ => {}
    }
    if name.contains('/') {
        errors.invalid(&path.child("datasetName"), name, "must not contain '/'");
    }
}

fn host_path(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    const TYPES: &[&str] =
        &["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
    let target = source.text("path");
    if target.is_empty() {
        errors.required(&path.child("path"), "");
        return;
    }
    no_backsteps(target, &path.child("path"), errors);
    if let Some(kind) = source.look("type").as_str().filter(|k| !TYPES.contains(k)) {
        errors.not_supported(&path.child("type"), kind, TYPES);
    }
}

fn nfs(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    if source.text("server").is_empty() {
        errors.required(&path.child("server"), "");
    }
    let target = source.text("path");
    if target.is_empty() {
        errors.required(&path.child("path"), "");
    }
    if !target.starts_with('/') {
        errors.invalid(&path.child("path"), target, "must be an absolute path");
    }
}

/// Names by which initiators and targets of iSCSI are known.
static NAMES: LazyLock<[(&str, Option<Regex>); 3]> = LazyLock::new(|| {
    let of = |pattern: &str| Regex::new(pattern).ok();
    [
        ("iqn", of(r"iqn\.\d{4}-\d{2}\.([[:alnum:]-.]+)(:[^,;*&$|\s]+)$")),
        ("eui", of("^eui.[[:alnum:]]{16}$")),
        ("naa", of("^naa.[[:alnum:]]{32}$")),
    ]
});

pub(crate) const LONG: &str = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";

/// Whether an initiator's name is too long with the portal's, which together are one name.
pub(crate) fn is_long(volume: &str, source: &Value) -> bool {
    volume.len() + 1 + source.text("targetPortal").len() > 64
}

/// `unknown` is said of names of no known kind.
pub(crate) fn iscsi(source: &Value, unknown: &str, path: &Path<'_>, errors: &mut Errors) {
    let name =
        |text: &str, shown: &str, errors: &mut Errors| match NAMES.iter().find(|(kind, _)| text.starts_with(kind)) {
            None => errors.invalid(&path.child(shown), text, unknown),
            Some((_, pattern)) if !pattern.as_ref().is_some_and(|p| p.is_match(text)) => {
                errors.invalid(&path.child(shown), text, "must be valid format");
            }
            Some(_) => {}
        };
    // That it is missing is told already.
    if !source.text("iqn").is_empty() {
        name(source.text("iqn"), "iqn", errors);
    }
    if let Some(lun) = source.int("lun").filter(|n| !(0..=255).contains(n)) {
        errors.invalid(&path.child("lun"), lun, "must be between 0 and 255, inclusive");
    }
    if (source.flag("chapAuthDiscovery") || source.flag("chapAuthSession")) && !source.has("secretRef") {
        errors.required(&path.child("secretRef"), "");
    }
    if let Some(initiator) = source.look("initiatorName").as_str() {
        name(initiator, "initiatorname", errors);
    }
}

fn quobyte(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    const WHY: &str = "must be a host:port pair or multiple pairs separated by commas";
    let registry = source.text("registry");
    if registry.is_empty() {
        errors.required(&path.child("registry"), WHY);
    } else if source.text("tenant").len() >= 65 {
        let why = "must be a UUID and may not exceed a length of 64 characters";
        errors.required(&path.child("tenant"), why);
    } else {
        for _ in registry.split(',').filter(|pair| pair.matches(':').count() != 1) {
            errors.invalid(&path.child("registry"), registry, WHY);
        }
    }
    if source.text("volume").is_empty() {
        errors.required(&path.child("volume"), "");
    }
}

fn flex(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    let options = path.child("options");
    for (key, _) in source.entries("options") {
        let domain = format!(".{}", key.split_once('/').map_or(&**key, |(domain, _)| domain).to_lowercase());
        if domain.ends_with(".kubernetes.io") || domain.ends_with(".k8s.io") {
            let why = "kubernetes.io and k8s.io namespaces are reserved";
            errors.invalid(&options.key(key), key.as_str(), why);
        }
    }
}

fn partition(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    if let Some(number) = source.int("partition").filter(|n| !(0..=255).contains(n)) {
        errors.invalid(&path.child("partition"), number, "must be between 1 and 255, inclusive");
    }
}

fn azure_disk(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    const MANAGED: &str =
        "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}";
    const BLOB: &str = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd";
    const FIELDS: &[(&str, &[&str])] =
        &[("cachingMode", &["None", "ReadOnly", "ReadWrite"]), ("kind", &["Dedicated", "Managed", "Shared"])];
    for (field, known) in FIELDS {
        if let Some(text) = source.look(field).as_str().filter(|text| !known.contains(text)) {
            errors.not_supported(&path.child(field), text, known);
        }
    }
    let uri = source.text("diskURI");
    let (prefix, form) = match source.text("kind") {
        "Managed" => ("/subscriptions/", MANAGED),
        _ => ("https://", BLOB),
    };
    if !uri.starts_with(prefix) {
        errors.not_supported(&path.child("diskURI"), uri, &[form]);
    }
}

pub(crate) fn storage_os(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    for field in ["volumeName", "volumeNamespace"] {
        let text = source.text(field);
        if !text.is_empty() {
            errors.all_invalid(&path.child(field), text, names::label(text));
        }
    }
}

/// A reference to a secret has all its parts.
pub(crate) fn secret(source: &Value, field: &str, parts: &[&str], path: &Path<'_>, errors: &mut Errors) {
    let here = path.child(field);
    for part in parts.iter().filter(|part| source.has(field) && source.look(field).text(part).is_empty()) {
        errors.required(&here.child(part), "");
    }
}

/// Fields of metadata that are nothing for a template, in upstream's order, and what it calls those that it calls something else.
const NOT_OF_TEMPLATES: &[(&str, &str)] = &[
    ("name", "name"),
    ("generateName", "generateName"),
    ("namespace", "namespace"),
    ("selfLink", "selfLink"),
    ("uid", "uID"),
    ("resourceVersion", "resourceVersion"),
    ("generation", "generation"),
    ("creationTimestamp", "creationTimestamp"),
    ("deletionTimestamp", "deletionTimestamp"),
    ("deletionGracePeriodSeconds", "deletionGracePeriodSeconds"),
    ("ownerReferences", "ownerReferences"),
    ("finalizers", "finalizers"),
    ("managedFields", "managedFields"),
];

/// A template that objects are made from brings labels and annotations along, and nothing else.
fn metadata(metadata: &Value, path: &Path<'_>, errors: &mut Errors) {
    crate::metadata::annotations(metadata.look("annotations"), &path.child("annotations"), errors);
    crate::metadata::labels(metadata.look("labels"), &path.child("labels"), errors);
    for (_, shown) in NOT_OF_TEMPLATES.iter().filter(|(field, _)| metadata.has(field)) {
        errors.forbidden(&path.child(shown), "cannot be set");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sources_that_need_one_of_two_take_exactly_one() {
        let wrong = |source: Value| {
            let mut errors = Errors::default();
            super::source(&source, In::Template, &Path::root("v"), &mut errors);
            errors.len()
        };
        for (kind, one, other) in [
            ("fc", json!({"targetWWNs": ["a"], "lun": 1}), json!({"wwids": ["b"]})),
            ("flocker", json!({"datasetName": "a"}), json!({"datasetUUID": "b"})),
        ] {
            assert_eq!((wrong(json!({kind: one})), wrong(json!({kind: other}))), (0, 0), "{kind}");
            let mut both = one.clone();
            both.as_object_mut().unwrap().extend(other.as_object().unwrap().clone());
            assert_eq!((wrong(json!({kind: both})), wrong(json!({kind: {}}))), (1, 1), "{kind}");
        }
        assert_eq!(wrong(json!({"fc": {"targetWWNs": ["a"], "lun": 300}})), 1);
        assert_eq!(wrong(json!({"ephemeral": {"volumeClaimTemplate": {"spec": {}}}})), 2);
    }
}
