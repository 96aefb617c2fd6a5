//! The rules of volumes.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::containers;
use crate::errors::{Errors, Path};
use crate::kinds::{persistent_volume_claim, storage};
use crate::names;
use crate::value::Look as _;

/// Volumes by name, as far as they could be told apart.
pub(crate) type Known<'a> = HashMap<&'a str, &'a Value>;

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

pub(crate) fn validate<'a>(volumes: &'a [Value], path: &Path<'_>, errors: &mut Errors) -> Known<'a> {
    let mut known = Known::new();
    for (at, volume) in volumes.iter().enumerate() {
        let item = path.index(at);
        let before = errors.len();
        source(volume, &item, errors);
        let name = volume.text("name");
        if name.is_empty() {
            errors.required(&item.child("name"), "");
        } else {
            errors.all_invalid(&item.child("name"), name, names::label(name));
        }
        if known.contains_key(name) {
            errors.duplicate(&item.child("name"), name);
        }
        if errors.len() == before {
            known.insert(name, volume);
        }
    }
    known
}

pub(crate) fn source(volume: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mut found = false;
    for (kind, source) in volume.as_object().into_iter().flatten().filter(|(k, _)| *k != "name") {
        let here = path.child(kind);
        if found {
            errors.forbidden(&here, "may not specify more than 1 volume type");
            continue;
        }
        found = true;
        if kind == "quobyte" && !source.text("registry").contains(':') {
            errors.required(&here.child("registry"), "must be a host:port pair or multiple pairs separated by commas");
        }
        if kind == "quobyte" && source.text("volume").is_empty() {
            errors.required(&here.child("volume"), "");
        }
        for field in REQUIRED.iter().filter(|(k, _)| k == kind).flat_map(|(_, fields)| *fields) {
            if source.text(field).is_empty() && source.items(field).is_empty() && !source.look(field).is_object() {
                errors.required(&here.child(field), "");
            }
        }
        match kind.as_str() {
            "hostPath" => host_path(source, &here, errors),
            "nfs" => nfs(source, &here, errors),
            "secret" | "configMap" => {
                mode(source.look("defaultMode"), &here.child("defaultMode"), errors);
                keys_to_paths(source.items("items"), &here.child("items"), errors);
            }
            "downwardAPI" => {
                mode(source.look("defaultMode"), &here.child("defaultMode"), errors);
                downward(source.items("items"), &here, errors);
            }
            "projected" => projected(source, &here, errors),
            "emptyDir" if source.text("sizeLimit").starts_with('-') => {
                errors.forbidden(&here.child("sizeLimit"), "SizeLimit field must be a valid resource quantity");
            }
            "iscsi" => {
                if let Some(lun) = source.int("lun").filter(|n| !(0..=255).contains(n)) {
                    errors.invalid(&here.child("lun"), lun, "must be between 0 and 255, inclusive");
                }
            }
            "gitRepo" => {
                let directory = source.text("directory");
                no_backsteps(directory, &here.child("directory"), errors);
            }
            "gcePersistentDisk" => {
                let disk = path.child("persistentDisk");
                if source.text("pdName").is_empty() {
                    errors.required(&disk.child("pdName"), "");
                }
                if let Some(number) = source.int("partition").filter(|n| !(0..=255).contains(n)) {
                    errors.invalid(&disk.child("partition"), number, "must be between 1 and 255, inclusive");
                }
            }
            "azureDisk" => {
                const URI: &str = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd";
                let uri = source.text("diskURI");
                if source.text("kind") != "Managed" && !uri.starts_with("https://") {
                    errors.not_supported(&here.child("diskURI"), uri, &[URI]);
                }
            }
            "image" => {
                if source.text("reference").is_empty() {
                    errors.required(&here.child("reference"), "");
                }
                let policy = source.text("pullPolicy");
                if !policy.is_empty() && !containers::PULLS.contains(&policy) {
                    errors.not_supported(&here.child("pullPolicy"), policy, containers::PULLS);
                }
            }
            "csi" => storage::driver(source.text("driver"), &here.child("driver"), errors),
            "fc" => fibre_channel(source, &here, errors),
            "flocker" => flocker(source, &here, errors),
            "ephemeral" if source.has("volumeClaimTemplate") => {
                let template = here.child("volumeClaimTemplate");
                let spec = source.look("volumeClaimTemplate.spec");
                persistent_volume_claim::spec(spec, &template.child("spec"), errors);
            }
            _ => {}
        }
    }
    if !found {
        errors.required(path, "must specify a volume type");
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
    } else if !target.starts_with('/') {
        errors.invalid(&path.child("path"), target, "must be an absolute path");
    }
}

fn mode(value: &Value, path: &Path<'_>, errors: &mut Errors) {
    if let Some(mode) = value.as_i64().filter(|m| !(0..=0o777).contains(m)) {
        errors.invalid(path, mode, "must be a number between 0 and 0777 (octal), both inclusive");
    }
}

/// No part of a path is `..`.
pub(crate) fn no_backsteps(text: &str, path: &Path<'_>, errors: &mut Errors) {
    if text.split('/').any(|part| part == "..") {
        errors.invalid(path, text, "must not contain '..'");
    }
}

/// A path below a volume's root that cannot leave it or clash with how it is written.
fn descending(text: &str, path: &Path<'_>, errors: &mut Errors) {
    if text.is_empty() {
        errors.required(path, "");
        return;
    }
    if text.starts_with('/') {
        errors.invalid(path, text, "must be a relative path");
    }
    no_backsteps(text, path, errors);
    if text.starts_with("..") && !text.starts_with("../") && text != ".." {
        errors.invalid(path, text, "must not start with '..'");
    }
}

fn keys_to_paths(items: &[Value], path: &Path<'_>, errors: &mut Errors) {
    for (at, entry) in items.iter().enumerate() {
        let item = path.index(at);
        let key = entry.text("key");
        if key.is_empty() {
            errors.required(&item.child("key"), "");
        }
        descending(entry.text("path"), &item.child("path"), errors);
        mode(entry.look("mode"), &item.child("mode"), errors);
    }
}

fn downward(items: &[Value], path: &Path<'_>, errors: &mut Errors) {
    const FIELDS: &[&str] =
        &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
    for entry in items {
        descending(entry.text("path"), &path.child("path"), errors);
        match (entry.has("fieldRef"), entry.has("resourceFieldRef")) {
            (true, true) => {
                errors.invalid(path, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously");
            }
            (true, false) => {
                containers::downward_field(entry.look("fieldRef"), FIELDS, &path.child("fieldRef"), errors)
            }
            (false, true) => {
                let here = path.child("resourceFieldRef");
                if entry.text("resourceFieldRef.containerName").is_empty() {
                    errors.required(&here.child("containerName"), "");
                }
                containers::downward_amount(entry.look("resourceFieldRef"), &here, errors);
            }
            (false, false) => {
                errors.required(path, "one of fieldRef and resourceFieldRef is required");
            }
        }
        mode(entry.look("mode"), &path.child("mode"), errors);
    }
}

fn projected(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    mode(source.look("defaultMode"), &path.child("defaultMode"), errors);
    let list = path.child("sources");
    let mut seen = HashSet::new();
    let mut place = |text: &str, shown: &str, errors: &mut Errors| {
        if !text.is_empty() && !seen.insert(text.to_owned()) {
            errors.invalid(path, shown, "conflicting duplicate paths");
        }
    };
    for (at, part) in source.items("sources").iter().enumerate() {
        let item = list.index(at);
        if part.as_object().is_some_and(|p| p.len() > 1) {
            errors.forbidden(&item, "may not specify more than 1 volume type");
        }
        for kind in ["secret", "configMap"] {
            let inner = part.look(kind);
            if inner.is_null() {
                continue;
            }
            let here = item.child(kind);
            if inner.text("name").is_empty() {
                errors.required(&here.child("name"), "");
            }
            keys_to_paths(inner.items("items"), &here, errors);
            let name = inner.text("name");
            inner.items("items").iter().for_each(|i| place(i.text("path"), name, errors));
        }
        let inner = part.look("downwardAPI");
        downward(inner.items("items"), &item.child("downwardAPI"), errors);
        inner.items("items").iter().for_each(|i| place(i.text("path"), i.text("path"), errors));
        let token = part.look("serviceAccountToken");
        if token.is_object() {
            let here = item.child("serviceAccountToken");
            let seconds = token.int("expirationSeconds").unwrap_or(0);
            if seconds < 600 {
                let why = "may not specify a duration less than 10 minutes";
                errors.invalid(&here.child("expirationSeconds"), seconds, why);
            }
            if seconds > 1 << 32 {
                let why = "may not specify a duration larger than 2^32 seconds";
                errors.invalid(&here.child("expirationSeconds"), seconds, why);
            }
            let target = token.text("path");
            if target.is_empty() {
                errors.required(&path.child("path"), "");
            } else {
                descending(target, &path.child("path"), errors);
                place(target, target, errors);
            }
        }
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
            super::source(&source, &Path::root("v"), &mut errors);
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
