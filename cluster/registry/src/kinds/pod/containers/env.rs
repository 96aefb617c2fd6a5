//! Environment variables.

use serde_json::Value;

use crate::errors::{Errors, Path};
use crate::kinds::pod::volumes::no_backsteps;
use crate::names;
use crate::value::Look as _;

/// What a variable may take from its pod.
const FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

const AMOUNTS: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

const SOURCES: &[&str] = &["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];

pub(crate) fn env(list: &[Value], path: &Path<'_>, errors: &mut Errors) {
    for (at, variable) in list.iter().enumerate() {
        let item = path.index(at);
        let name = variable.text("name");
        if name.is_empty() {
            errors.required(&item.child("name"), "");
        } else {
            errors.all_invalid(&item.child("name"), name, names::env_var(name));
        }
        if variable.has("valueFrom") {
            source(variable, &item.child("valueFrom"), errors);
        }
    }
}

fn source(variable: &Value, path: &Path<'_>, errors: &mut Errors) {
    let from = variable.look("valueFrom");
    let count = SOURCES.iter().filter(|s| from.has(s)).count();
    if from.has("fieldRef") {
        field(from.look("fieldRef"), FIELDS, &path.child("fieldRef"), errors);
    }
    if from.has("resourceFieldRef") {
        amount(from.look("resourceFieldRef"), &path.child("resourceFieldRef"), errors);
    }
    for kind in ["configMapKeyRef", "secretKeyRef"] {
        if from.has(kind) {
            key(from.look(kind), &path.child(kind), errors);
        }
    }
    if from.has("fileKeyRef") {
        file(from.look("fileKeyRef"), &path.child("fileKeyRef"), errors);
    }
    if count == 0 {
        let why =
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        errors.invalid(path, "", why);
    } else if !variable.text("value").is_empty() {
        errors.invalid(path, "", "may not be specified when `value` is not empty");
    } else if count > 1 {
        errors.invalid(path, "", "may not have more than one field specified at a time");
    }
}

fn key(reference: &Value, path: &Path<'_>, errors: &mut Errors) {
    let name = reference.text("name");
    errors.all_invalid(&path.child("name"), name, names::subdomain(name));
    let key = reference.text("key");
    if key.is_empty() {
        errors.required(&path.child("key"), "");
    } else {
        errors.all_invalid(&path.child("key"), key, names::config_key(key));
    }
}

/// A variable in a file of a volume.
fn file(reference: &Value, path: &Path<'_>, errors: &mut Errors) {
    for field in ["key", "volumeName", "path"] {
        let (text, here) = (reference.text(field), path.child(field));
        match field {
            _ if text.is_empty() => errors.required(&here, ""),
            "key" => errors.all_invalid(&here, text, names::env_var(text)),
            "volumeName" => errors.all_invalid(&here, text, names::label(text)),
            _ => no_backsteps(text, &here, errors),
        }
    }
}

/// A path into the pod: one of `fields`, or one label or annotation.
pub(crate) fn field(reference: &Value, fields: &[&str], path: &Path<'_>, errors: &mut Errors) {
    if reference.text("apiVersion").is_empty() {
        errors.required(&path.child("apiVersion"), "");
        return;
    }
    let wanted = reference.text("fieldPath");
    let here = path.child("fieldPath");
    if wanted.is_empty() {
        errors.required(&here, "");
        return;
    }
    if let Some((map, rest)) = wanted.split_once("['") {
        let Some(key) = rest.strip_suffix("']") else {
            errors.invalid(&here, wanted, "error converting fieldPath: invalid path");
            return;
        };
        match map {
            "metadata.annotations" => {
                errors.all_invalid(path, &key.to_lowercase(), names::qualified(&key.to_lowercase()))
            }
            "metadata.labels" => errors.all_invalid(path, key, names::qualified(key)),
            other => errors.invalid(path, other, "does not support subscript"),
        }
        return;
    }
    let known = FIELDS.contains(&wanted) || ["metadata.labels", "metadata.annotations"].contains(&wanted);
    if !known {
        let why = format!("error converting fieldPath: field label not supported: {wanted}");
        errors.invalid(&here, wanted, &why);
    } else if !fields.contains(&wanted) {
        errors.not_supported(&here, wanted, fields);
    }
}

pub(crate) fn amount(reference: &Value, path: &Path<'_>, errors: &mut Errors) {
    let wanted = reference.text("resource");
    if wanted.is_empty() {
        errors.required(&path.child("resource"), "");
    } else if !AMOUNTS.contains(&wanted) && !wanted.contains(".hugepages-") {
        errors.not_supported(&path.child("resource"), wanted, AMOUNTS);
    }
}

pub(crate) fn from(list: &[Value], path: &Path<'_>, errors: &mut Errors) {
    for (at, source) in list.iter().enumerate() {
        let item = path.index(at);
        let prefix = source.text("prefix");
        if !prefix.is_empty() {
            errors.all_invalid(&item.child("prefix"), prefix, names::env_var(prefix));
        }
        let mut count = 0;
        for kind in ["configMapRef", "secretRef"] {
            if source.has(kind) {
                count += 1;
                if source.look(kind).text("name").is_empty() {
                    let reference = item.child(kind);
                    errors.required(&reference.child("name"), "");
                }
            }
        }
        match count {
            0 => errors.invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"),
            1 => {}
            _ => errors.invalid(path, "", "may not have more than one field specified at a time"),
        }
    }
}
