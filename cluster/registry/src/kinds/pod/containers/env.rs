//! Environment variables.

use serde_json::Value;

use crate::errors::{Errors, Path};
use crate::kinds::pod::resources;
use crate::kinds::pod::volumes::no_backsteps;
use crate::names;
use crate::value::Look as _;

/// What a variable may take from its pod. Sorted, as upstream lists them.
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

/// Labels of fields that can be read, of which not every place takes every one.
const READABLE: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.phase",
    "status.podIP",
    "status.podIPs",
];
/// A field's older name, and its own.
const RENAMED: (&str, &str) = ("spec.host", "spec.nodeName");

const AMOUNTS: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// Resources, what they are called where their divisor is wrong, the divisors that they have, and how those are told of.
const DIVISORS: &[(&str, &str, &[&str], &str)] = &[
    ("cpu", "cpu", &["1m", "1"], "1m and 1"),
    ("memory", "memory", SIZES, SIZES_TOLD),
    ("ephemeral-storage", "local ephemeral storage", SIZES, SIZES_TOLD),
    ("hugepages-", "hugepages", SIZES, SIZES_TOLD),
];
const SIZES: &[&str] = &["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
const SIZES_TOLD: &str = "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei";

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
        amount(from.look("resourceFieldRef"), false, &path.child("resourceFieldRef"), errors);
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
    let unreadable = |why: String, errors: &mut Errors| {
        errors.invalid(&here, wanted, &format!("error converting fieldPath: {why}"));
    };
    let version = reference.text("apiVersion");
    if version != "v1" {
        unreadable(format!("unsupported pod version: {version}"), errors);
        return;
    }
    if let Some((map, key)) = subscripted(wanted) {
        match map {
            "metadata.annotations" => {
                errors.all_invalid(path, &key.to_lowercase(), names::qualified(&key.to_lowercase()))
            }
            "metadata.labels" => errors.all_invalid(path, key, names::qualified(key)),
            _ => unreadable(format!("field label does not support subscript: {wanted}"), errors),
        }
        return;
    }
    let label = if wanted == RENAMED.0 { RENAMED.1 } else { wanted };
    if !READABLE.contains(&label) {
        unreadable(format!("field label not supported: {wanted}"), errors);
    } else if !fields.contains(&label) {
        errors.not_supported(&here, label, fields);
    }
}

/// `map['key']` as map and key; neither the bracket before nor the one after is taken for a part of a key.
fn subscripted(path: &str) -> Option<(&str, &str)> {
    let (map, key) = path.strip_suffix("']")?.split_once("['")?;
    (!map.is_empty()).then_some((map, key))
}

/// An amount of a container: of the variable's own, or, in a file, of one that is named.
pub(crate) fn amount(reference: &Value, in_file: bool, path: &Path<'_>, errors: &mut Errors) {
    let wanted = reference.text("resource");
    if in_file && reference.text("containerName").is_empty() {
        errors.required(&path.child("containerName"), "");
    } else if wanted.is_empty() {
        errors.required(&path.child("resource"), "");
    } else if !AMOUNTS.contains(&wanted) && !is_huge(wanted) {
        errors.not_supported(&path.child("resource"), wanted, AMOUNTS);
    }
    divisor(reference, path, errors);
}

fn is_huge(amount: &str) -> bool {
    ["limits.hugepages-", "requests.hugepages-"].iter().any(|prefix| amount.starts_with(prefix))
}

/// What an amount is counted in.
fn divisor(reference: &Value, path: &Path<'_>, errors: &mut Errors) {
    let divisor = resources::parse(reference.look("divisor"));
    let wanted = reference.text("resource");
    let Some(name) = ["limits.", "requests."].iter().find_map(|list| wanted.strip_prefix(list)) else { return };
    let is = |known: &str| if known.ends_with('-') { name.starts_with(known) } else { name == known };
    let Some((_, what, divisors, told)) = DIVISORS.iter().find(|(known, ..)| is(known)) else { return };
    if !divisor.is_zero() && !divisors.contains(&divisor.to_string().as_str()) {
        let why = format!("only divisor's values {told} are supported with the {what} resource");
        errors.invalid(&path.child("divisor"), wanted, &why);
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
                let reference = item.child(kind);
                match source.look(kind).text("name") {
                    "" => errors.required(&reference.child("name"), ""),
                    name => errors.all_invalid(&reference.child("name"), name, names::prefix(names::subdomain, name)),
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(check: impl FnOnce(&mut Errors)) -> Vec<String> {
        let mut errors = Errors::default();
        check(&mut errors);
        errors.told()
    }

    #[test]
    fn fields_are_those_of_v1_that_a_variable_can_hold() {
        let of = |version: &str, path: &str| {
            let reference = json!({"apiVersion": version, "fieldPath": path});
            told(|errors| field(&reference, FIELDS, &Path::root("f"), errors))
        };
        for path in ["metadata.name", "spec.host", "metadata.labels['a']", "metadata.annotations['A.b/C']"] {
            assert_eq!(of("v1", path), [""; 0], "{path}");
        }
        let unreadable = |path: &str, why: &str| {
            [format!("f.fieldPath: Invalid value: {path:?}: error converting fieldPath: {why}")]
        };
        assert_eq!(of("v2", "metadata.name"), unreadable("metadata.name", "unsupported pod version: v2"));
        for path in ["spec.x", "metadata.labels['a", "metadata.labels[a]", "['a']"] {
            assert_eq!(of("v1", path), unreadable(path, &format!("field label not supported: {path}")));
        }
        let path = "metadata.name['a']";
        assert_eq!(of("v1", path), unreadable(path, &format!("field label does not support subscript: {path}")));
        for path in ["status.phase", "spec.restartPolicy", "spec.schedulerName", "metadata.labels"] {
            let all: Vec<_> = FIELDS.iter().map(|field| format!("{field:?}")).collect();
            let want = format!("f.fieldPath: Unsupported value: {path:?}: supported values: {}", all.join(", "));
            assert_eq!(of("v1", path), [want]);
        }
        assert_eq!(of("v1", "metadata.labels['a b']").len(), 1);
    }

    #[test]
    fn amounts_are_counted_in_units_of_their_own() {
        let of = |resource: &str, divisor: &str| {
            let reference = json!({"resource": resource, "divisor": divisor});
            told(|errors| amount(&reference, false, &Path::root("r"), errors))
        };
        for (resource, divisor) in [
            ("limits.cpu", "0"),
            ("requests.cpu", "1m"),
            ("limits.memory", "1Mi"),
            ("requests.hugepages-2Mi", "1Gi"),
            ("limits.ephemeral-storage", "1k"),
        ] {
            assert_eq!(of(resource, divisor), [""; 0], "{resource} {divisor}");
        }
        let wrong = |resource: &str, told: &str, what: &str| {
            [format!(
                "r.divisor: Invalid value: {resource:?}: only divisor's values {told} are supported with the {what} resource"
            )]
        };
        assert_eq!(of("limits.cpu", "2"), wrong("limits.cpu", "1m and 1", "cpu"));
        assert_eq!(of("requests.memory", "2Mi"), wrong("requests.memory", SIZES_TOLD, "memory"));
        assert_eq!(
            of("requests.ephemeral-storage", "1m"),
            wrong("requests.ephemeral-storage", SIZES_TOLD, "local ephemeral storage")
        );
        assert_eq!(of("limits.hugepages-1Gi", "3"), wrong("limits.hugepages-1Gi", SIZES_TOLD, "hugepages"));
        assert_eq!(of("x.hugepages-1Gi", "0").len(), 1);
        assert_eq!(
            told(|errors| amount(&json!({"resource": "x"}), true, &Path::root("r"), errors)),
            ["r.containerName: Required value"]
        );
    }

    #[test]
    fn what_variables_are_taken_from_has_a_name() {
        let told = |name: &str| {
            let list = [json!({"configMapRef": {"name": name}})];
            told(|errors| from(&list, &Path::root("e"), errors))
        };
        // The end of a name is taken for one that is not complete yet.
        assert_eq!((told("a"), told("a-")), (vec![], vec![]));
        assert_eq!(told(""), ["e[0].configMapRef.name: Required value"]);
        assert_eq!(told("A").len(), 1);
    }
}
