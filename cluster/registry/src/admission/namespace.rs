//! Nothing is made or changed in a namespace that is missing, and nothing made in one that is going away.

use kedge_api::resource::known;
use kedge_api::status::Cause;
use kedge_api::{Key, Status};
use serde_json::Value;

use super::{Attributes, Operation};
use crate::strategy::Scope;

pub(super) fn lifecycle(scope: &Scope<'_>, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
    if !attributes.resource.namespaced {
        return Ok(());
    }
    let namespace = attributes.namespace;
    let key = Key::new(known::NAMESPACES, "", namespace);
    let Some(found) = scope.snapshot.get(&key) else {
        return Err(Status::not_found(&known::NAMESPACES, namespace));
    };
    if !found.is_deleting() || attributes.operation != Operation::Create {
        return Ok(());
    }
    let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
    let mut status = attributes.forbidden(object, &why);
    if let Some(details) = &mut status.details {
        details.causes.push(Cause {
            reason: "NamespaceTerminating".into(),
            message: format!("namespace {namespace} is being terminated"),
            field: "metadata.namespace".into(),
        });
    }
    Err(status)
}
