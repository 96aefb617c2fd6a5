//! What the scheduler writes: bindings, and in status and event why a pod waits.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Binding, ObjectReference, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kedge_api::event::{Note, Recorder, Severity, whole_seconds};
use kedge_api::resource::known::PODS;
use kedge_api::{Client, ClientExt, Options, Reason, Status, Verb};
use serde_json::json;

use crate::pod::PodInfo;

pub enum Outcome {
    Bound,
    BindFailed { uid: String, why: Status },
    Noted,
}

fn about(pod: &PodInfo) -> ObjectReference {
    let key = &pod.object.key;
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        namespace: Some(key.namespace.to_string()),
        name: Some(key.name.to_string()),
        uid: Some(pod.uid().to_owned()),
        resource_version: Some(pod.object.revision.to_string()),
        field_path: None,
    }
}

async fn tell(recorder: &Recorder, pod: &PodInfo, severity: Severity, reason: &str, message: String) {
    let note = Note { about: about(pod), severity, reason: reason.to_owned(), message };
    if let Err(status) = recorder.record(&note, Timestamp::now()).await {
        tracing::debug!(reason, error = %status, "event not recorded");
    }
}

pub async fn bind(client: Arc<dyn Client>, recorder: Arc<Recorder>, pod: Arc<PodInfo>, node: String) -> Outcome {
    let key = &pod.object.key;
    let failed = |why| Outcome::BindFailed { uid: pod.uid().to_owned(), why };
    let binding = Binding {
        metadata: ObjectMeta {
            namespace: Some(key.namespace.to_string()),
            name: Some(key.name.to_string()),
            uid: Some(pod.uid().to_owned()),
            ..ObjectMeta::default()
        },
        target: ObjectReference { kind: Some("Node".into()), name: Some(node.clone()), ..ObjectReference::default() },
    };
    let body = match serde_json::to_value(&binding) {
        Ok(body) => body,
        Err(e) => return failed(Status::internal(format!("encoding a binding: {e}"))),
    };
    let at = (&*key.namespace, &*key.name, "binding");
    match client.verb(Verb::Create, &PODS, at, Options::default(), body.into()).await {
        Ok(_) => {
            let message = format!("Successfully assigned {}/{} to {node}", key.namespace, key.name);
            tell(&recorder, &pod, Severity::Normal, "Scheduled", message).await;
            Outcome::Bound
        }
        Err(why) => {
            // Gone or bound by someone else: its change is on the way and needs no telling.
            if !why.is(Reason::NotFound) && !why.is(Reason::Conflict) {
                let message = format!("binding rejected: running Bind plugin \"DefaultBinder\": {why}");
                tell(&recorder, &pod, Severity::Warning, "FailedScheduling", message).await;
            }
            failed(why)
        }
    }
}

/// Notes in the pod's status and in an event why it waits.
pub async fn note(client: Arc<dyn Client>, recorder: Arc<Recorder>, pod: Arc<PodInfo>, message: String) -> Outcome {
    if let Err(status) = set_condition(&*client, &pod, &message).await {
        tracing::debug!(pod = %pod.object.key, error = %status, "condition PodScheduled not set");
    }
    tell(&recorder, &pod, Severity::Warning, "FailedScheduling", message).await;
    Outcome::Noted
}

async fn set_condition(client: &dyn Client, pod: &PodInfo, message: &str) -> Result<(), Status> {
    const KIND: &str = "PodScheduled";
    let whole: Pod = pod.object.decode()?;
    let mut conditions = whole.status.and_then(|status| status.conditions).unwrap_or_default();
    let old = conditions.iter().position(|condition| condition.type_ == KIND).map(|at| conditions.remove(at));
    let was_false = old.as_ref().is_some_and(|old| old.status == "False");
    if was_false && old.as_ref().is_some_and(|old| old.message.as_deref() == Some(message)) {
        return Ok(());
    }
    let since = old.filter(|_| was_false).and_then(|old| old.last_transition_time);
    conditions.push(PodCondition {
        type_: KIND.into(),
        status: "False".into(),
        reason: Some("Unschedulable".into()),
        message: Some(message.to_owned()),
        last_transition_time: since.or_else(|| Some(Time(whole_seconds(Timestamp::now())))),
        observed_generation: pod.object.meta.generation,
        ..PodCondition::default()
    });
    let key = &pod.object.key;
    let revision = pod.object.revision.to_string();
    let patch =
        json!({"metadata": {"uid": pod.uid(), "resourceVersion": revision}, "status": {"conditions": conditions}});
    client.merge(&PODS, (&key.namespace, &key.name, "status"), patch).await.map(drop)
}
