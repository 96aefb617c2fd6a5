//! The condition `Dangling` of every FlowSchema: whether the level that it leads to is missing.

use std::time::Duration;

use futures::StreamExt as _;
use kedge_api::resource::known::{FLOW_SCHEMAS, PRIORITY_LEVELS};
use kedge_api::{Body, Client, ClientExt as _, Informer, Key, Object, Options, PatchType, Reason, Snapshot, Verb};
use serde_json::{Value, json};

use crate::clock::Clock;

/// Who is noted to manage the condition: upstream's name.
const MANAGER: &str = "api-priority-and-fairness-config-consumer-v1";
/// Between two rounds of writing, whoever else writes.
const PAUSE: Duration = Duration::from_secs(1);

/// Keeps all conditions right. Never ends.
pub async fn run(informer: &dyn Informer, client: &dyn Client, clock: &Clock) {
    loop {
        let (mut snapshot, changes) = informer.subscribe(&[FLOW_SCHEMAS, PRIORITY_LEVELS]);
        let mut changes = changes.ready_chunks(1024);
        loop {
            for (name, condition) in wrong(&snapshot, &clock.text(Duration::ZERO)) {
                write(client, &name, condition).await;
            }
            tokio::time::sleep(PAUSE).await;
            if changes.next().await.is_none() {
                break;
            }
            snapshot = informer.snapshot();
        }
    }
}

async fn write(client: &dyn Client, name: &str, condition: Value) {
    let patch = json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema", "metadata": {"name": name},
        "status": {"conditions": [condition]}});
    let options = Options { field_manager: Some(MANAGER.to_owned()), force: Some(true), ..Options::default() };
    let body = Body::Patch(PatchType::Apply, patch);
    match client.verb(Verb::Patch, &FLOW_SCHEMAS, ("", name, "status"), options, body).await {
        Err(error) if !error.is(Reason::NotFound) => {
            tracing::warn!(schema = name, ?error, "a condition was not written")
        }
        Ok(_) | Err(_) => {}
    }
}

/// The schemas whose condition is not what it should be, and what it should be.
fn wrong(snapshot: &Snapshot, now: &str) -> Vec<(String, Value)> {
    let one = |object: &std::sync::Arc<Object>| {
        let value: Value = object.decode().ok()?;
        let level = value.pointer("/spec/priorityLevelConfiguration/name").and_then(Value::as_str).unwrap_or_default();
        let there = snapshot.get(&Key::new(PRIORITY_LEVELS, "", level)).is_some();
        let named = format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?}");
        let (status, reason, message) = match there {
            true => ("False", "Found", format!("{named} and it exists")),
            false => ("True", "NotFound", format!("{named} but there is no such object")),
        };
        let conditions = value.pointer("/status/conditions").and_then(Value::as_array);
        let right = conditions.into_iter().flatten().any(|condition| {
            let is = |field: &str, want: &str| condition.get(field).and_then(Value::as_str) == Some(want);
            is("type", "Dangling") && is("status", status) && is("reason", reason) && is("message", &message)
        });
        let condition = json!({"type": "Dangling", "status": status, "reason": reason, "message": message,
            "lastTransitionTime": now});
        (!right).then(|| (object.key.name.to_string(), condition))
    };
    snapshot.list(&FLOW_SCHEMAS, "").filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Objects;

    #[test]
    fn a_schema_without_its_level_dangles() {
        let objects = Objects::default();
        objects.put(
            FLOW_SCHEMAS,
            json!({"metadata": {"name": "s"}, "spec": {"priorityLevelConfiguration": {"name": "l"}}}),
        );
        let told = wrong(&objects.snapshot(), "now");
        assert_eq!(
            (&*told[0].0, &told[0].1["status"], &told[0].1["reason"]),
            ("s", &json!("True"), &json!("NotFound"))
        );
        objects.put(PRIORITY_LEVELS, json!({"metadata": {"name": "l"}}));
        let (_, found) = wrong(&objects.snapshot(), "now").remove(0);
        let message = "This FlowSchema references the PriorityLevelConfiguration object named \"l\" and it exists";
        assert_eq!((&found["status"], &found["message"]), (&json!("False"), &json!(message)));
        let right = json!({"metadata": {"name": "s"}, "spec": {"priorityLevelConfiguration": {"name": "l"}}, "status": {"conditions": [found]}});
        objects.put(FLOW_SCHEMAS, right);
        assert!(wrong(&objects.snapshot(), "later").is_empty());
    }
}
