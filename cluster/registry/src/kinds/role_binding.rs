//! RoleBinding, and what it shares with ClusterRoleBinding: subjects, and a role that cannot be changed.

use kedge_api::resource::Column;
use serde_json::Value;

use super::role::{GROUP, STRATEGY};
use super::{columns, resource};
use crate::errors::{Errors, Path, quote};
use crate::names;
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

const ROLE: &str = "Role";
pub(super) const CLUSTER_ROLE: &str = "ClusterRole";
const ACCOUNT: &str = "ServiceAccount";
const USER: &str = "User";
const PEOPLE: &str = "Group";

pub(super) const COLUMNS: &[Column] = &[
    columns::text("Role", |o| format!("{}/{}", o.text("roleRef.kind"), o.text("roleRef.name")).into()),
    columns::AGE,
    columns::wide("Users", |o| subjects(o, USER)),
    columns::wide("Groups", |o| subjects(o, PEOPLE)),
    columns::wide("ServiceAccounts", |o| subjects(o, ACCOUNT)),
];

pub(super) const BINDING: Strategy = Strategy { default, validate_update, ..STRATEGY };

pub(crate) fn row() -> Row {
    let schema = "io.k8s.api.rbac.v1.RoleBinding";
    let resource = resource(GROUP, "rolebindings", "rolebinding", "RoleBinding", schema, COLUMNS);
    Row::new(resource, Strategy { validate: |b, errors| binding(b, &[ROLE, CLUSTER_ROLE], true, errors), ..BINDING })
}

fn subjects(binding: &Value, kind: &str) -> Value {
    let named = binding.items("subjects").iter().filter(|s| s.text("kind") == kind).map(|s| match kind {
        ACCOUNT => format!("{}/{}", s.text("namespace"), s.text("name")),
        _ => s.text("name").to_owned(),
    });
    named.collect::<Vec<_>>().join(", ").into()
}

fn default(binding: &mut Value) {
    binding.fill_text("roleRef.apiGroup", GROUP);
    for field in ["roleRef.kind", "roleRef.name"] {
        binding.fill(field, "");
    }
    for subject in binding.items_mut("subjects") {
        if [USER, PEOPLE].contains(&subject.text("kind")) {
            subject.fill_text("apiGroup", GROUP);
        }
    }
}

/// `roles` are the kinds that may be bound.
pub(super) fn binding(binding: &Value, roles: &[&str], namespaced: bool, errors: &mut Errors) {
    let (path, role) = (Path::root("roleRef"), binding.look("roleRef"));
    if role.text("apiGroup") != GROUP {
        errors.not_supported(&path.child("apiGroup"), role.text("apiGroup"), &[GROUP]);
    }
    if !roles.contains(&role.text("kind")) {
        errors.not_supported(&path.child("kind"), role.text("kind"), roles);
    }
    match role.text("name") {
        "" => errors.required(&path.child("name"), ""),
        name => errors.all_invalid(&path.child("name"), name, names::path_segment(name)),
    }
    let path = Path::root("subjects");
    for (at, item) in binding.items("subjects").iter().enumerate() {
        subject(item, namespaced, &path.index(at), errors);
    }
}

fn subject(subject: &Value, namespaced: bool, path: &Path<'_>, errors: &mut Errors) {
    let (kind, name, group) = (subject.text("kind"), subject.text("name"), subject.text("apiGroup"));
    if name.is_empty() {
        errors.required(&path.child("name"), "");
    }
    match kind {
        ACCOUNT => {
            if !name.is_empty() {
                errors.all_invalid(&path.child("name"), name, names::subdomain(name));
            }
            if !group.is_empty() {
                errors.not_supported(&path.child("apiGroup"), group, &[""]);
            }
            if !namespaced && subject.text("namespace").is_empty() {
                errors.required(&path.child("namespace"), "");
            }
        }
        USER | PEOPLE if group != GROUP => errors.not_supported(&path.child("apiGroup"), group, &[GROUP]),
        USER | PEOPLE => {}
        _ => errors.not_supported(&path.child("kind"), kind, &[ACCOUNT, USER, PEOPLE]),
    }
}

fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    let role = new.look("roleRef");
    if role != old.look("roleRef") {
        let field = |name: &str| quote(role.text(name));
        let shown =
            format!("{{\"APIGroup\":{},\"Kind\":{},\"Name\":{}}}", field("apiGroup"), field("kind"), field("name"));
        errors.invalid_json(&Path::root("roleRef"), &shown, "cannot change roleRef");
    }
}
