//! Where volumes appear in a container.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use crate::errors::{Errors, Path};
use crate::kinds::pod::volumes::{Known, relative};
use crate::value::Look as _;

fn places<'a>(container: &'a Value, list: &str, place: &str) -> HashMap<&'a str, &'a str> {
    container.items(list).iter().map(|m| (m.text("name"), m.look(place).as_str().unwrap_or_default())).collect()
}

pub(crate) fn mounts(container: &Value, known: &Known<'_>, path: &Path<'_>, errors: &mut Errors) {
    let list = path.child("volumeMounts");
    let devices = places(container, "volumeDevices", "devicePath");
    let mut seen = HashSet::new();
    for (at, mount) in container.items("volumeMounts").iter().enumerate() {
        let item = list.index(at);
        let (name, target) = (mount.text("name"), mount.text("mountPath"));
        if name.is_empty() {
            errors.required(&item.child("name"), "");
        }
        if !known.contains_key(name) {
            errors.not_found(&item.child("name"), name);
        }
        if target.is_empty() {
            errors.required(&item.child("mountPath"), "");
        }
        if !seen.insert(target) {
            errors.invalid(&item.child("mountPath"), target, "must be unique");
        }
        if devices.contains_key(name) {
            errors.invalid(&item.child("name"), name, "must not already exist in volumeDevices");
        }
        if devices.values().any(|d| *d == target) {
            errors.invalid(&item.child("mountPath"), target, "must not already exist as a path in volumeDevices");
        }
        let (sub, expression) = (mount.text("subPath"), mount.text("subPathExpr"));
        if !sub.is_empty() {
            relative(sub, &list.child("subPath"), errors);
        }
        if !expression.is_empty() {
            if !sub.is_empty() {
                let why = "subPathExpr and subPath are mutually exclusive";
                errors.invalid(&item.child("subPathExpr"), expression, why);
            }
            relative(expression, &list.child("subPathExpr"), errors);
        }
        propagation(mount, container, &list, errors);
        recursion(mount, &list.child("recursiveReadOnly"), errors);
    }
}

fn propagation(mount: &Value, container: &Value, path: &Path<'_>, errors: &mut Errors) {
    const MODES: &[&str] = &["Bidirectional", "HostToContainer", "None"];
    let Some(mode) = mount.look("mountPropagation").as_str() else { return };
    let here = path.child("mountPropagation");
    if !MODES.contains(&mode) {
        errors.not_supported(&here, mode, MODES);
    }
    if mode == "Bidirectional" && !container.flag("securityContext.privileged") {
        errors.forbidden(&here, "Bidirectional mount propagation is available only to privileged containers");
    }
}

/// Whether what is mounted below is to be read-only, too.
fn recursion(mount: &Value, path: &Path<'_>, errors: &mut Errors) {
    const KINDS: &[&str] = &["Disabled", "Enabled", "IfPossible"];
    match mount.look("recursiveReadOnly").as_str() {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if !mount.flag("readOnly") {
                errors.forbidden(path, "may only be specified when readOnly is true");
            }
            if !["", "None"].contains(&mount.text("mountPropagation")) {
                errors.forbidden(path, "may only be specified when mountPropagation is None or not specified");
            }
        }
        Some(other) => errors.not_supported(path, other, KINDS),
    }
}

pub(crate) fn devices(container: &Value, known: &Known<'_>, path: &Path<'_>, errors: &mut Errors) {
    let list = path.child("volumeDevices");
    let mounted = places(container, "volumeMounts", "mountPath");
    let mut seen = HashSet::new();
    for (at, device) in container.items("volumeDevices").iter().enumerate() {
        let item = list.index(at);
        let (name, target) = (device.text("name"), device.text("devicePath"));
        if name.is_empty() {
            errors.required(&item.child("name"), "");
        }
        if !name.is_empty() && !seen.insert(("name", name)) {
            errors.invalid(&item.child("name"), name, "must be unique");
        }
        match known.get(name) {
            None => errors.not_found(&item.child("name"), name),
            Some(volume)
                if !volume.has("persistentVolumeClaim") && !volume.has("ephemeral") && !mounted.contains_key(name) =>
            {
                let why = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.invalid(&item.child("name"), name, why);
            }
            Some(_) => {}
        }
        if target.is_empty() {
            errors.required(&item.child("devicePath"), "");
        } else {
            if !seen.insert(("path", target)) {
                errors.invalid(&item.child("devicePath"), target, "must be unique");
            }
            if target.split('/').any(|part| part == "..") {
                errors.invalid(&item.child("devicePath"), target, "can not contain backsteps ('..')");
            }
        }
        if mounted.contains_key(name) {
            errors.invalid(&item.child("name"), name, "must not already exist in volumeMounts");
        }
        if !target.is_empty() && mounted.values().any(|m| *m == target) {
            errors.invalid(&item.child("devicePath"), target, "must not already exist as a path in volumeMounts");
        }
    }
}
