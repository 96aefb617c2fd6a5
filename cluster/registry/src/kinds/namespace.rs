//! Namespace: goes only when its content is gone, which `spec.finalizers` says.

use std::borrow::Cow;

use kedge_api::resource::{Column, Subresource};
use kedge_api::{Resource, Verb};
use serde_json::{Value, json};

use super::{STATUS, columns, resource};
use crate::errors::{Errors, Path};
use crate::metadata;
use crate::names;
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

const COLUMNS: &[Column] = &[columns::text("Status", |o| o.text("status.phase").into()), columns::AGE];

const VERBS: &[Verb] = &[Verb::Create, Verb::Delete, Verb::Get, Verb::List, Verb::Patch, Verb::Update, Verb::Watch];

const FINALIZE: Subresource = Subresource { name: "finalize", kind: "", group_version: None, verbs: &[Verb::Update] };

const NAME_LABEL: &str = "kubernetes.io/metadata.name";

pub(crate) fn row() -> Row {
    let base = resource("", "namespaces", "namespace", "Namespace", "io.k8s.api.core.v1.Namespace", COLUMNS);
    let resource = Resource {
        short_names: Cow::Borrowed(&["ns"]),
        namespaced: false,
        verbs: VERBS,
        subresources: &[FINALIZE, STATUS],
        selectable: &["status.phase"],
        ..base
    };
    let strategy = Strategy {
        metadata_checks: (1, 1),
        name: names::label,
        status: true,
        default,
        prepare_create,
        prepare_update,
        validate,
        validate_status,
        held: |ns| !ns.items("spec.finalizers").is_empty(),
        on_delete: |ns| ns.set("status.phase", "Terminating"),
        marks_grace: false,
        may_delete,
        ..Strategy::PLAIN
    };
    Row::new(resource, strategy)
}

fn default(ns: &mut Value) {
    let name = ns.text("metadata.name").to_owned();
    if !name.is_empty() {
        label(ns, &name);
    }
    ns.fill("spec", json!({}));
}

fn label(ns: &mut Value, name: &str) {
    let labels = ns.slot("metadata.labels");
    if !labels.is_object() {
        *labels = json!({});
    }
    if let Some(map) = labels.map_mut() {
        map.insert(NAME_LABEL.into(), name.into());
    }
}

fn prepare_create(ns: &mut Value) {
    let name = ns.text("metadata.name").to_owned();
    label(ns, &name);
    let mut finalizers = ns.items("spec.finalizers").to_vec();
    if !finalizers.iter().any(|f| f == "kubernetes") {
        finalizers.push("kubernetes".into());
    }
    ns.set("spec.finalizers", finalizers);
    ns.set("status", json!({"phase": "Active"}));
}

/// Only `finalize` changes the finalizers of the specification.
fn prepare_update(new: &mut Value, old: &Value) {
    new.set("spec", old.look("spec").clone());
}

fn validate(ns: &Value, errors: &mut Errors) {
    let path = Path::root("spec.finalizers");
    ns.items("spec.finalizers").iter().for_each(|name| finalizer(name, &path, errors));
}

/// What `finalize` may set.
pub(crate) fn validate_finalize(ns: &Value, errors: &mut Errors) {
    let list = Path::root("spec.finalizers");
    for (at, name) in ns.items("spec.finalizers").iter().enumerate() {
        finalizer(name, &list.index(at), errors);
    }
}

fn finalizer(name: &Value, path: &Path<'_>, errors: &mut Errors) {
    let text = name.as_str().unwrap_or_default();
    errors.all_invalid(path, text, names::qualified(text));
    if metadata::is_foreign(text) {
        errors.invalid(path, text, "name is neither a standard finalizer name nor is it fully qualified");
    }
}

fn validate_status(new: &Value, _: &Value, errors: &mut Errors) {
    let phase = new.text("status.phase");
    let path = Path::root("status.Phase");
    match new.has("metadata.deletionTimestamp") {
        false if phase != "Active" => {
            errors.invalid(&path, phase, "may only be 'Active' if `deletionTimestamp` is empty");
        }
        true if phase != "Terminating" => {
            errors.invalid(&path, phase, "may only be 'Terminating' if `deletionTimestamp` is not empty");
        }
        _ => {}
    }
}

fn may_delete(name: &str) -> Result<(), String> {
    match name {
        "default" | "kube-system" | "kube-public" => {
            Err(format!("namespaces \"{name}\" is forbidden: this namespace may not be deleted"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::cases;

    #[test]
    fn finalizers_and_phases() {
        let ns = json!({"metadata": {"name": "n"}, "status": {"phase": "Active"}});
        const WHY: &str = "name is neither a standard finalizer name nor is it fully qualified";
        cases::created(
            &row(),
            &ns,
            &[(
                "/spec/finalizers",
                json!(["a", "orphan", "b.c/d"]),
                &[&format!("spec.finalizers: Invalid value: \"a\": {WHY}")],
            )],
        );
        let finalized = json!({"spec": {"finalizers": ["kubernetes", "a"]}});
        assert_eq!(
            cases::told(|errors| validate_finalize(&finalized, errors)),
            [format!("spec.finalizers[1]: Invalid value: \"a\": {WHY}")]
        );
        cases::reported(
            &row(),
            &ns,
            &[
                (
                    "/status/phase",
                    json!("Terminating"),
                    &[
                        "status.Phase: Invalid value: \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty",
                    ],
                ),
                (
                    "/metadata/deletionTimestamp",
                    json!("2024-01-01T00:00:00Z"),
                    &[
                        "status.Phase: Invalid value: \"Active\": may only be 'Terminating' if `deletionTimestamp` is not empty",
                    ],
                ),
            ],
        );
    }
}
