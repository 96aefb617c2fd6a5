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
            Some(volume) if !volume.has("persistentVolumeClaim") && !volume.has("ephemeral") => {
                let why = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.invalid(&item.child("name"), name, why);
            }
            Some(_) => {}
        }
        if target.is_empty() {
            errors.required(&item.child("devicePath"), "");
        }
        if seen.contains(&("path", target)) {
            errors.invalid(&item.child("devicePath"), target, "must be unique");
        }
        if target.split('/').any(|part| part == "..") {
            errors.invalid(&item.child("devicePath"), target, "can not contain backsteps ('..')");
        } else {
            seen.insert(("path", target));
        }
        if mounted.contains_key(name) {
            errors.invalid(&item.child("name"), name, "must not already exist in volumeMounts");
        }
        if mounted.values().any(|m| *m == target) {
            errors.invalid(&item.child("devicePath"), target, "must not already exist as a path in volumeMounts");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_device_is_a_claims_and_stands_at_a_path_of_its_own() {
        let volumes = [
            json!({"name": "c", "persistentVolumeClaim": {"claimName": "x"}}),
            json!({"name": "d", "ephemeral": {}}),
            json!({"name": "e", "emptyDir": {}}),
        ];
        let known: Known<'_> = volumes.iter().map(|volume| (volume.text("name"), volume)).collect();
        let told = |list: Value, mounts: Value| {
            let mut errors = Errors::default();
            let container = json!({"volumeDevices": list, "volumeMounts": mounts});
            devices(&container, &known, &Path::root("c"), &mut errors);
            errors.told()
        };
        let device = |name: &str, path: &str| json!({"name": name, "devicePath": path});
        assert_eq!(told(json!([device("c", "/a"), device("d", "/b")]), json!([])), [""; 0]);
        let at = |n: usize, what: &str| format!("c.volumeDevices[{n}].{what}");
        assert_eq!(
            told(
                json!([device("c", ""), device("c", ""), device("d", "/../a"), device("d", "/../a")]),
                json!([{"name": "d", "mountPath": "/../a"}])
            ),
            [
                at(0, "devicePath: Required value"),
                at(1, "name: Invalid value: \"c\": must be unique"),
                at(1, "devicePath: Required value"),
                at(1, "devicePath: Invalid value: \"\": must be unique"),
                at(2, "devicePath: Invalid value: \"/../a\": can not contain backsteps ('..')"),
                at(2, "name: Invalid value: \"d\": must not already exist in volumeMounts"),
                at(2, "devicePath: Invalid value: \"/../a\": must not already exist as a path in volumeMounts"),
                at(3, "name: Invalid value: \"d\": must be unique"),
                at(3, "devicePath: Invalid value: \"/../a\": can not contain backsteps ('..')"),
                at(3, "name: Invalid value: \"d\": must not already exist in volumeMounts"),
                at(3, "devicePath: Invalid value: \"/../a\": must not already exist as a path in volumeMounts"),
            ]
        );
        let why = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
        assert_eq!(
            told(json!([device("e", "/a")]), json!([{"name": "e", "mountPath": "/m"}])),
            [
                at(0, &format!("name: Invalid value: \"e\": {why}")),
                at(0, "name: Invalid value: \"e\": must not already exist in volumeMounts"),
            ]
        );
    }
}
