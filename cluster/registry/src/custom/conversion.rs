//! Conversion between versions by a webhook, which knows what each field of one is called in the other.
//!
//! Source: "Versions in CustomResourceDefinitions" of Kubernetes' documentation.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kedge_api::{Reason, Status};
use serde_json::{Value, json};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;

use crate::value::{Fill as _, Look as _};
use crate::webhooks::Webhooks;

const TIMEOUT: Duration = Duration::from_secs(30);
/// Objects of one question: an answer has an end.
const BATCH: usize = 1000;
/// Who makes a thread wait for a webhook at the same time. Threads are few, and a webhook that hangs must not take those that others need.
static WAITING: Semaphore = Semaphore::const_new(6);

/// Who converts the objects of a definition, and how to ask.
#[derive(Clone)]
pub(super) struct Conversion {
    webhooks: Option<Arc<dyn Webhooks>>,
    config: Value,
    /// Of the review, the first that the webhook knows and we do.
    version: String,
}

impl fmt::Debug for Conversion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Conversion({})", self.config)
    }
}

impl Conversion {
    /// None where versions differ in their name alone.
    pub(super) fn of(definition: &Value, webhooks: Option<&Arc<dyn Webhooks>>) -> Option<Self> {
        let conversion = definition.look("spec.conversion");
        let known = conversion.items("webhook.conversionReviewVersions").iter().filter_map(Value::as_str);
        let version = known.into_iter().find(|version| ["v1", "v1beta1"].contains(version)).unwrap_or("v1").to_owned();
        (conversion.text("strategy") == "Webhook").then(|| Self {
            webhooks: webhooks.cloned(),
            config: conversion.look("webhook.clientConfig").clone(),
            version,
        })
    }

    /// The objects, alike in kind, in the version `to`: asked for at once.
    pub(super) async fn convert_all(&self, objects: &[&Value], to: &str) -> Result<Vec<Value>, Status> {
        let mut made = Vec::with_capacity(objects.len());
        for objects in objects.chunks(BATCH) {
            made.append(&mut self.ask(objects, to).await.map_err(|why| failed(objects, &why))?);
        }
        Ok(made)
    }

    /// One object, for who decides purely and cannot wait, but here must: who owns the fields of another version, what a policy says of one.
    /// The thread waits, after it has given its other tasks away.
    pub(super) fn convert_here(&self, object: &Value, to: &str) -> Result<Value, Status> {
        let objects = [object];
        let Ok(_turn) = WAITING.try_acquire() else {
            return Err(failed(&objects, "too many wait for conversions"));
        };
        let made = match Handle::try_current() {
            Ok(handle) if handle.runtime_flavor() == RuntimeFlavor::MultiThread => {
                tokio::task::block_in_place(|| handle.block_on(self.ask(&objects, to)))
            }
            Ok(_) | Err(_) => Err("this thread has no others to give its tasks to".to_owned()),
        };
        made.map(|mut made| made.pop().unwrap_or_default()).map_err(|why| failed(&objects, &why))
    }

    /// As many as were given.
    async fn ask(&self, objects: &[&Value], to: &str) -> Result<Vec<Value>, String> {
        let uid = uuid::Uuid::new_v4().to_string();
        let review = json!({"apiVersion": format!("apiextensions.k8s.io/{}", self.version), "kind": "ConversionReview",
            "request": {"uid": uid, "desiredAPIVersion": to, "objects": objects}});
        let webhooks = self.webhooks.as_ref().ok_or("this server does not call webhooks")?;
        let answer = webhooks.call(&self.config, TIMEOUT, &review).await?;
        converted(objects, to, &uid, &answer)
    }
}

fn failed(objects: &[&Value], why: &str) -> Status {
    let told = |field: &str| objects.first().map(|object| object.text(field)).unwrap_or_default();
    let (from, kind) = (told("apiVersion"), told("kind"));
    Status::new(Reason::Unknown, format!("conversion webhook for {from}, Kind={kind} failed: {why}"))
}

/// What an answer makes of the objects.
fn converted(objects: &[&Value], to: &str, uid: &str, answer: &Value) -> Result<Vec<Value>, String> {
    let response = answer.look("response");
    if response.text("uid") != uid {
        return Err(format!("expected response.uid={uid:?}, got {:?}", response.text("uid")));
    }
    if response.text("result.status") != "Success" {
        let why = response.text("result.message");
        return Err(if why.is_empty() { "Internal error occurred: no message".to_owned() } else { why.to_owned() });
    }
    let made = response.items("convertedObjects");
    if made.len() != objects.len() {
        return Err(format!("webhook returned {} objects, expected {}", made.len(), objects.len()));
    }
    objects.iter().zip(made).enumerate().map(|(at, (object, made))| converted_one(at, object, made, to)).collect()
}

/// Of metadata labels and annotations may change.
fn converted_one(at: usize, object: &Value, made: &Value, to: &str) -> Result<Value, String> {
    for (field, want) in [("apiVersion", to), ("kind", object.text("kind"))] {
        if made.text(field) != want {
            return Err(format!(
                "returned invalid converted object at index {at}: invalid {field} (expected {want}, received {})",
                made.text(field)
            ));
        }
    }
    for field in ["name", "namespace", "uid"] {
        let path = format!("metadata.{field}");
        if made.text(&path) != object.text(&path) {
            let what = format!("invalid metadata.{field} in converted object at index {at}");
            return Err(format!("{what} (expected {:?}, received {:?})", object.text(&path), made.text(&path)));
        }
    }
    let mut result = made.clone();
    let mut metadata = object.look("metadata").clone();
    for field in ["labels", "annotations"] {
        match made.look("metadata").look(field) {
            Value::Null => {
                metadata.cut(field);
            }
            value => metadata.set(field, value.clone()),
        }
    }
    result.set("metadata", metadata);
    Ok(result)
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;

    /// Calls a field by another name.
    struct Renames;

    #[async_trait]
    impl Webhooks for Renames {
        async fn call(&self, config: &Value, _: Duration, review: &Value) -> Result<Value, String> {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let objects = review["request"]["objects"].as_array().unwrap();
            let made = objects.iter().map(|object| {
                let mut object = object.clone();
                object["apiVersion"] = review["request"]["desiredAPIVersion"].clone();
                let host = object["hostPort"].take();
                object["host"] = host;
                object["metadata"]["labels"] = json!({"by": config["url"], "of": objects.len().to_string()});
                object["metadata"]["generation"] = 99.into();
                object
            });
            let made: Vec<Value> = made.collect();
            let uid = &review["request"]["uid"];
            Ok(json!({"response": {"uid": uid, "result": {"status": "Success"}, "convertedObjects": made}}))
        }
    }

    fn conversion() -> Conversion {
        let definition = json!({"spec": {"conversion": {"strategy": "Webhook",
            "webhook": {"clientConfig": {"url": "https://c"}, "conversionReviewVersions": ["v7", "v1beta1"]}}}});
        let webhooks: Arc<dyn Webhooks> = Arc::new(Renames);
        Conversion::of(&definition, Some(&webhooks)).unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_webhook_makes_one_version_of_another() {
        let object = json!({"apiVersion": "e.com/v1", "kind": "K", "metadata": {"name": "a", "generation": 1}, "hostPort": "h:1"});
        let made = conversion().convert_here(&object, "e.com/v2").unwrap();
        assert_eq!(made["metadata"], json!({"name": "a", "generation": 1, "labels": {"by": "https://c", "of": "1"}}));
        assert_eq!((&made["apiVersion"], &made["host"]), (&json!("e.com/v2"), &json!("h:1")));
        let other = json!({"apiVersion": "e.com/v1", "kind": "K", "metadata": {"name": "b"}, "hostPort": "h:2"});
        let made = conversion().convert_all(&[&object, &other], "e.com/v2").await.unwrap();
        let told: Vec<_> = made.iter().map(|made| (made.text("host"), made.text("metadata.labels.of"))).collect();
        assert_eq!(told, [("h:1", "2"), ("h:2", "2")]);
        assert_eq!(conversion().version, "v1beta1");
        assert!(Conversion::of(&json!({"spec": {"conversion": {"strategy": "None"}}}), None).is_none());
    }

    #[test]
    fn answers_are_not_taken_at_their_word() {
        let object = json!({"apiVersion": "e.com/v1", "kind": "K", "metadata": {"name": "a"}});
        let answer = |made: Value| json!({"response": {"uid": "u", "result": {"status": "Success"}, "convertedObjects": [made]}});
        let good = json!({"apiVersion": "e.com/v2", "kind": "K", "metadata": {"name": "a"}});
        assert!(converted(&[&object], "e.com/v2", "u", &answer(good.clone())).is_ok());
        assert!(converted(&[&object], "e.com/v2", "other", &answer(good.clone())).is_err());
        assert!(converted(&[&object], "e.com/v3", "u", &answer(good)).is_err());
        let renamed = json!({"apiVersion": "e.com/v2", "kind": "K", "metadata": {"name": "b"}});
        assert!(converted(&[&object], "e.com/v2", "u", &answer(renamed)).is_err());
        let refused = json!({"response": {"uid": "u", "result": {"status": "Failed", "message": "no way"}}});
        assert_eq!(converted(&[&object], "e.com/v2", "u", &refused), Err("no way".to_owned()));
    }
}
