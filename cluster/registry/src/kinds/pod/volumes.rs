//! The rules of volumes.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::containers;
use crate::errors::{Errors, Path};
use crate::names;
use crate::value::Look as _;

mod sources;

pub(crate) use sources::source;

/// Volumes by name, as far as they could be told apart.
pub(crate) type Known<'a> = HashMap<&'a str, &'a Value>;

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
        for kind in ["secret", "configMap"] {
            let inner = part.look(kind);
            if inner.is_null() {
                continue;
            }
            let here = item.child(kind);
            if inner.text("name").is_empty() {
                errors.required(&here.child("name"), "");
            }
            keys_to_paths(inner.items("items"), &here.child("items"), errors);
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
            descending(token.text("path"), &path.child("path"), errors);
        }
        if part.as_object().is_some_and(|p| p.len() > 1) {
            errors.forbidden(&item, "may not specify more than 1 volume type per source");
        }
    }
}
