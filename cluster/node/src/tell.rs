//! What a pod's worker writes to the API.

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kedge_api::resource::known::PODS;
use kedge_api::{ClientExt, Options, Reason, Status};
use serde_json::json;

use crate::site::Site;

/// Tells the API how a pod is.
pub async fn status(site: &Site, pod: &Pod, status: &PodStatus) -> Result<(), Status> {
    let meta = &pod.metadata;
    let (namespace, name) = (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
    let mut value = serde_json::to_value(status).map_err(|e| Status::internal(format!("encoding a status: {e}")))?;
    if let Some(fields) = value.as_object_mut() {
        // What is absent now may have been there before.
        for field in ["reason", "message", "podIP", "podIPs"] {
            fields.entry(field).or_insert(serde_json::Value::Null);
        }
    }
    let patch = json!({"metadata": {"uid": meta.uid}, "status": value});
    site.client.merge(&PODS, (namespace, name, "status"), patch).await.map(drop)
}

/// The last that is told of a pod: its final status, then that it may be deleted. A pod that is gone already is success.
pub async fn last(site: &Site, pod: &Pod, status: &PodStatus) -> Result<(), Status> {
    let meta = &pod.metadata;
    let (namespace, name) = (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
    let gone = |e: &Status| e.is(Reason::NotFound) || e.is(Reason::Conflict);
    match self::status(site, pod, status).await {
        Err(error) if gone(&error) => return Ok(()),
        other => other?,
    }
    let options = Options { grace_period_seconds: Some(0), ..Options::default() };
    match site.client.delete(&PODS, namespace, name, meta.uid.as_deref(), options).await {
        Err(error) if gone(&error) => Ok(()),
        other => other,
    }
}
