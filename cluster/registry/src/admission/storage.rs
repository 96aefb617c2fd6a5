//! Volumes, claims and classes of attributes are not deleted while they are in use: a finalizer that a controller takes away.

use kedge_api::resource::known;
use kedge_api::{GroupResource, Resource, Status};
use serde_json::Value;

use crate::strategy::Scope;
use crate::value::{Fill as _, Look as _};

const FINALIZERS: &[(GroupResource, &str)] = &[
    (known::PERSISTENT_VOLUMES, "kubernetes.io/pv-protection"),
    (known::PERSISTENT_VOLUME_CLAIMS, "kubernetes.io/pvc-protection"),
    (known::VOLUME_ATTRIBUTES_CLASSES, "kubernetes.io/vac-protection"),
];

pub(super) fn protect(_: &Scope<'_>, resource: &Resource, object: &mut Value) -> Result<(), Status> {
    let Some((_, finalizer)) = FINALIZERS.iter().find(|(id, _)| *id == resource.id) else { return Ok(()) };
    let mut finalizers = object.items("metadata.finalizers").to_vec();
    if !finalizers.iter().any(|f| f == finalizer) {
        finalizers.push((*finalizer).into());
        object.set("metadata.finalizers", finalizers);
    }
    Ok(())
}
