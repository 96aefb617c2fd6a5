//! The rules of volumes.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::containers;
use super::spec::In;
use crate::errors::{Errors, Late, Path};
use crate::names;
use crate::value::Look as _;

mod sources;

pub(crate) use sources::{LONG, check, is_long, iscsi, second, secret, source, storage_os};

/// Volumes by name, as far as they could be told apart.
pub(crate) type Known<'a> = HashMap<&'a str, &'a Value>;

pub(crate) fn validate<'a>(volumes: &'a [Value], place: In<'_>, path: &Path<'_>, errors: &mut Errors) -> Known<'a> {
    let made: HashSet<String> = match place {
        In::Pod(metadata) if !metadata.text("name").is_empty() => {
            let own = volumes.iter().filter(|volume| volume.has("ephemeral"));
            own.map(|volume| format!("{}-{}", metadata.text("name"), volume.text("name"))).collect()
        }
        _ => HashSet::new(),
    };
    let mut known = Known::new();
    for (at, volume) in volumes.iter().enumerate() {
        let item = path.index(at);
        let before = errors.len();
        source(volume, place, &item, errors);
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
        let claim = volume.text("persistentVolumeClaim.claimName");
        if made.contains(claim) {
            let why = "must not reference a PVC that gets created for an ephemeral volume";
            errors.invalid(&item.child("persistentVolumeClaim.claimName"), claim, why);
        }
    }
    known
}

/// Of a pod without an account, none projects a token of it.
pub(crate) fn no_tokens(volumes: &[Value], path: &Path<'_>, errors: &mut Errors) {
    const WHY: &str = "must not be specified when serviceAccountName is not set";
    for (at, volume) in volumes.iter().enumerate() {
        let item = path.index(at);
        let sources = item.child("projected.sources");
        let all = volume.items("projected.sources").iter().enumerate();
        for (at, _) in all.filter(|(_, source)| source.has("serviceAccountToken")) {
            let source = sources.index(at);
            errors.forbidden(&source.child("serviceAccountToken"), WHY);
        }
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

/// A path that stays below where it begins.
pub(crate) fn relative(text: &str, path: &Path<'_>, errors: &mut Errors) {
    if text.starts_with('/') {
        errors.invalid(path, text, "must be a relative path");
    }
    no_backsteps(text, path, errors);
}

/// A path below a volume's root that cannot leave it or clash with how it is written.
pub(crate) fn descending(text: &str, path: &Path<'_>, errors: &mut Errors) {
    if text.is_empty() {
        errors.required(path, "");
        return;
    }
    relative(text, path, errors);
    if text.starts_with("..") && !text.starts_with("../") {
        errors.invalid(path, text, "must not start with '..'");
    }
}

/// `each` sees every path after its own rules, before the next one's.
fn keys_to_paths(items: &[Value], path: &Path<'_>, mut each: impl FnMut(&str, &mut Errors), errors: &mut Errors) {
    for (at, entry) in items.iter().enumerate() {
        let item = path.index(at);
        let key = entry.text("key");
        if key.is_empty() {
            errors.required(&item.child("key"), "");
        }
        descending(entry.text("path"), &item.child("path"), errors);
        mode(entry.look("mode"), &item.child("mode"), errors);
        each(entry.text("path"), errors);
    }
}

/// One file of what a pod knows of itself.
fn downward(file: &Value, path: &Path<'_>, errors: &mut Errors) {
    const FIELDS: &[&str] =
        &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
    descending(file.text("path"), &path.child("path"), errors);
    if file.has("fieldRef") {
        containers::downward_field(file.look("fieldRef"), FIELDS, &path.child("fieldRef"), errors);
        if file.has("resourceFieldRef") {
            errors.invalid(path, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously");
        }
    } else if file.has("resourceFieldRef") {
        containers::downward_amount(file.look("resourceFieldRef"), &path.child("resourceFieldRef"), errors);
    } else {
        errors.required(path, "one of fieldRef and resourceFieldRef is required");
    }
    mode(file.look("mode"), &path.child("mode"), errors);
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
        for kind in ["secret", "configMap"] {
            let inner = part.look(kind);
            if inner.is_null() {
                continue;
            }
            let here = item.child(kind);
            let name = inner.text("name");
            if name.is_empty() {
                errors.required(&here.child("name"), "");
            }
            keys_to_paths(inner.items("items"), &here.child("items"), |text, errors| place(text, name, errors), errors);
        }
        for file in part.items("downwardAPI.items") {
            downward(file, &item.child("downwardAPI"), errors);
            place(file.text("path"), file.text("path"), errors);
        }
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
            let path = path.child("path");
            match token.text("path") {
                "" => errors.required(&path, ""),
                text => errors.late(Late::TokenPath, |errors| descending(text, &path, errors)),
            }
        }
        if part.as_object().is_some_and(|p| p.len() > 1) {
            errors.forbidden(&item, "may not specify more than 1 volume type per source");
        }
    }
}
