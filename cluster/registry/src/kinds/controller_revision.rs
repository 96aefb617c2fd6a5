//! ControllerRevision: what a workload's template was.

use kedge_api::resource::Column;
use serde_json::Value;

use super::{columns, resource, workload};
use crate::errors::{Errors, Path};
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

const COLUMNS: &[Column] = &[
    columns::text("Controller", |o| controller(o).into()),
    columns::text("Revision", |o| columns::count(o, "revision").into()),
    columns::AGE,
];

pub(crate) fn row() -> Row {
    let schema = "io.k8s.api.apps.v1.ControllerRevision";
    let resource = resource("apps", "controllerrevisions", "controllerrevision", "ControllerRevision", schema, COLUMNS);
    let strategy = Strategy {
        default: |revision| revision.fill("revision", 0),
        metadata_checks: (1, 1),
        validate: |revision, errors| workload::counts(revision, &["revision"], errors),
        validate_create: data,
        validate_update: |new, old, errors| workload::immutable(new, old, "data", errors),
        ..Strategy::PLAIN
    };
    Row::new(resource, strategy)
}

/// Whose revision it is, e.g. `statefulset.apps/web`.
fn controller(revision: &Value) -> String {
    let Some(owner) = revision.items("metadata.ownerReferences").iter().find(|o| o.flag("controller")) else {
        return columns::or_none("");
    };
    let kind = owner.text("kind").to_lowercase();
    let name = owner.text("name");
    match owner.text("apiVersion").split_once('/') {
        Some((group, _)) => format!("{kind}.{group}/{name}"),
        None => format!("{kind}/{name}"),
    }
}

/// Whatever a controller finds its template in again; once there, it stays.
fn data(revision: &Value, errors: &mut Errors) {
    let path = Path::root("data");
    match revision.look("data") {
        Value::Null => errors.required(&path, "data is mandatory"),
        Value::Object(_) => {}
        _ => errors.required(&path, "data must be a valid JSON object"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_controller_is_named_by_its_kind() {
        let of = |version: &str| {
            json!({"metadata": {"ownerReferences": [{"name": "o"},
                {"apiVersion": version, "kind": "StatefulSet", "name": "web", "controller": true}]}})
        };
        assert_eq!(controller(&of("apps/v1")), "statefulset.apps/web");
        assert_eq!(controller(&of("v1")), "statefulset/web");
        assert_eq!(controller(&json!({})), "<none>");
    }
}
