//! Nothing is made in a namespace that is missing or going away.

use kedge_api::resource::known;
use kedge_api::status::Cause;
use kedge_api::{Key, Resource, Status};
use serde_json::Value;

use super::forbidden;
use crate::strategy::Scope;
use crate::value::Look as _;

pub(super) fn lifecycle(scope: &Scope<'_>, resource: &Resource, object: &mut Value) -> Result<(), Status> {
    if !resource.namespaced {
        return Ok(());
    }
    let namespace = object.text("metadata.namespace");
    let key = Key::new(known::NAMESPACES, "", namespace);
    let Some(found) = scope.snapshot.get(&key) else {
        return Err(Status::not_found(&known::NAMESPACES, namespace));
    };
    if !found.is_deleting() {
        return Ok(());
    }
    let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
    let mut status = forbidden(resource, object.text("metadata.name"), &why);
    if let Some(details) = &mut status.details {
        details.causes.push(Cause {
            reason: "NamespaceTerminating".into(),
            message: format!("namespace {namespace} is being terminated"),
            field: "metadata.namespace".into(),
        });
    }
    Err(status)
}
