//! IPAddress: an address of the service network that is taken, and by whom.

use std::borrow::Cow;

use kedge_api::resource::Column;
use kedge_api::{Resource, Status};
use serde_json::{Value, json};

use super::ingress::validate_segment;
use super::{address, cluster_resource, columns};
use crate::errors::{Errors, Path};
use crate::golang;
use crate::names;
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

const GROUP: &str = "networking.k8s.io";
const KIND: &str = "IPAddress";

/// Upstream shows no age.
const COLUMNS: &[Column] = &[columns::text("ParentRef", |o| parent(o.look("spec.parentRef")).into())];

pub(crate) fn row() -> Row {
    let schema = "io.k8s.api.networking.v1.IPAddress";
    let base = cluster_resource(GROUP, "ipaddresses", "ipaddress", KIND, schema, COLUMNS);
    let resource = Resource { short_names: Cow::Borrowed(&["ip"]), ..base };
    let strategy = Strategy {
        name: address::strict_ip,
        default: |address| address.fill("spec", json!({})),
        validate_create: validate,
        validate_update,
        ..Strategy::PLAIN
    };
    Row::new(resource, strategy)
}

fn parent(reference: &Value) -> String {
    if reference.is_null() {
        return columns::or_none("");
    }
    let group = reference.text("group");
    let plural = reference.text("resource");
    let resource = if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") }.to_lowercase();
    let name = reference.text("name");
    match reference.text("namespace") {
        "" => format!("{resource}/{name}"),
        namespace => format!("{resource}/{namespace}/{name}"),
    }
}

/// Whether there may be such an address.
pub(super) fn check(address: &Value) -> Result<(), Status> {
    let mut errors = Errors::default();
    validate(address, &mut errors);
    errors.into_result(GROUP, KIND, address.text("metadata.name"))
}

fn validate(address: &Value, errors: &mut Errors) {
    let path = Path::root("spec.parentRef");
    let reference = address.look("spec.parentRef");
    if reference.is_null() {
        errors.required(&path, "");
        return;
    }
    // The core group has no name, so the group cannot be asked for.
    let group = reference.text("group");
    if !group.is_empty() {
        errors.all_invalid(&path.child("group"), group, names::subdomain(group));
    }
    for field in ["resource", "name"] {
        validate_segment(reference.text(field), &path.child(field), errors);
    }
    let namespace = reference.text("namespace");
    errors.all_invalid(&path.child("namespace"), namespace, names::path_segment(namespace));
}

/// Of the parent nothing is said but that it stays.
fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    let parent = new.look("spec.parentRef");
    if parent != old.look("spec.parentRef") {
        let shown = if parent.is_null() { "null".into() } else { golang::show(parent, "ParentReference") };
        errors.invalid_json(&Path::root("spec.parentRef"), &shown, "field is immutable");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_are_written_as_paths() {
        let reference = json!({"group": "G.io", "resource": "services", "namespace": "n", "name": "s"});
        assert_eq!(parent(&reference), "services.g.io/n/s");
        assert_eq!(parent(&json!({"resource": "r", "name": "s"})), "r/s");
        assert_eq!(parent(&json!(null)), "<none>");
    }
}
