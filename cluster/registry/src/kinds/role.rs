//! Role, and what it shares with ClusterRole: rules.

use kedge_api::resource::Column;
use serde_json::Value;

use super::resource;
use crate::errors::{Errors, Path};
use crate::names;
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

pub(super) const GROUP: &str = kedge_api::rbac::GROUP;

pub(super) const COLUMNS: &[Column] = &[Column {
    name: "Created At",
    r#type: "date",
    format: "",
    priority: 0,
    cell: |o| o.look("metadata.creationTimestamp").clone(),
}];

/// A name is one segment of a path, with any characters beside: `system:kube-dns`.
pub(super) const STRATEGY: Strategy =
    Strategy { name: names::path_segment, create_on_update: true, default, ..Strategy::PLAIN };

pub(crate) fn row() -> Row {
    let resource = resource(GROUP, "roles", "role", "Role", "io.k8s.api.rbac.v1.Role", COLUMNS);
    Row::new(resource, Strategy { validate: |role, errors| rules(role, true, errors), ..STRATEGY })
}

/// Upstream's type always writes the list.
fn default(role: &mut Value) {
    role.fill("rules", Value::Null);
}

pub(super) fn rules(role: &Value, namespaced: bool, errors: &mut Errors) {
    let path = Path::root("rules");
    for (at, policy) in role.items("rules").iter().enumerate() {
        rule(policy, namespaced, &path.index(at), errors);
    }
}

fn rule(rule: &Value, namespaced: bool, path: &Path<'_>, errors: &mut Errors) {
    let empty = |field: &str| rule.items(field).is_empty();
    if empty("verbs") {
        errors.required(&path.child("verbs"), "verbs must contain at least one value");
    }
    if !empty("nonResourceURLs") {
        let (urls, path) = (rule.look("nonResourceURLs"), path.child("nonResourceURLs"));
        if namespaced {
            errors.invalid(&path, urls.clone(), "namespaced rules cannot apply to non-resource URLs");
        }
        if !["apiGroups", "resources", "resourceNames"].into_iter().all(empty) {
            errors.invalid(&path, urls.clone(), "rules cannot apply to both regular resources and non-resource URLs");
        }
        return;
    }
    if empty("apiGroups") {
        errors.required(&path.child("apiGroups"), "resource rules must supply at least one api group");
    }
    if empty("resources") {
        errors.required(&path.child("resources"), "resource rules must supply at least one resource");
    }
}
