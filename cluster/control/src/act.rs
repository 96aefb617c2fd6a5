//! Carries a plan's steps out through the client.
//!
//! Owns slow start, preconditions and the telling of results; never decides. What it wrote comes back as a [`Receipt`], by which the
//! runner knows when the snapshot has caught up with the writes.

use std::sync::Arc;

use futures::future::join_all;
use jiff::Timestamp;
use kedge_api::event::{Note, Recorder, Severity};
use kedge_api::request::Payload;
use kedge_api::resource::known::PODS;
use kedge_api::{
    Body, Client, GroupResource, Key, Options, PatchType, Reason, Request, Revision, Snapshot, Status, Target, Verb,
};
use serde_json::{Value, json};

use crate::controller::{Step, Told, Victim};

pub struct Actor {
    pub client: Arc<dyn Client>,
    pub recorder: Recorder,
}

/// What a plan wrote. Until a snapshot shows it all, the key is not planned again: so nothing is done twice.
#[derive(Clone, Debug, Default)]
pub struct Receipt {
    pub revision: Revision,
    /// Deleted objects by key and uid; an answer to a deletion need not carry its revision.
    pub deleted: Vec<(Key, String)>,
}

impl Receipt {
    pub fn shown_by(&self, snapshot: &Snapshot) -> bool {
        snapshot.revision >= self.revision
            && self
                .deleted
                .iter()
                .all(|(key, uid)| snapshot.get(key).is_none_or(|object| object.uid() != uid || object.is_deleting()))
    }

    pub fn is_empty(&self) -> bool {
        self.revision == Revision::default() && self.deleted.is_empty()
    }
}

impl Actor {
    /// Carries out all steps, or those before the first that fails.
    pub async fn carry_out(&self, steps: Vec<Step>, receipt: &mut Receipt) -> Result<(), Status> {
        for step in steps {
            match step {
                Step::Create { resource, objects, told } => {
                    self.create(&resource, objects, told.as_ref(), receipt).await?
                }
                Step::Update { resource, subresource, object } => {
                    let at = |field: &str| text(&object, field).to_owned();
                    let (namespace, name) = (at("namespace"), at("name"));
                    let target = target(&resource, &namespace, &name, subresource);
                    self.call(Verb::Update, target, Options::default(), object.into(), receipt).await?;
                }
                Step::Patch { resource, namespace, name, subresource, patch } => {
                    let target = target(&resource, &namespace, &name, subresource);
                    let body = Body::Patch(PatchType::Merge, patch);
                    self.call(Verb::Patch, target, Options::default(), body, receipt).await?;
                }
                Step::Apply { resource, subresource, object, manager } => {
                    let at = |field: &str| text(&object, field).to_owned();
                    let (namespace, name) = (at("namespace"), at("name"));
                    let target = target(&resource, &namespace, &name, subresource);
                    let options =
                        Options { field_manager: Some(manager.to_owned()), force: Some(true), ..Options::default() };
                    let body = Body::Patch(PatchType::Apply, object);
                    self.call(Verb::Patch, target, options, body, receipt).await?;
                }
                Step::Delete { resource, targets, told } => {
                    self.delete(&resource, targets, told.as_ref(), receipt).await?
                }
                Step::Evict { targets } => self.evict(targets).await?,
                Step::Tell(note) => self.tell(note).await,
            }
        }
        Ok(())
    }

    async fn create(
        &self,
        resource: &GroupResource,
        objects: Vec<Value>,
        told: Option<&Told>,
        receipt: &mut Receipt,
    ) -> Result<(), Status> {
        let mut objects = objects.into_iter();
        let mut size = 1;
        loop {
            let batch: Vec<_> = objects.by_ref().take(size).collect();
            if batch.is_empty() {
                return Ok(());
            }
            let answers = join_all(batch.into_iter().map(|object| async move {
                let namespace = text(&object, "namespace").to_owned();
                let mut own = Receipt::default();
                let target = target(resource, &namespace, "", "");
                let answer = self.call(Verb::Create, target, Options::default(), object.into(), &mut own).await;
                (answer, own)
            }))
            .await;
            let mut refused = None;
            for (answer, own) in answers {
                receipt.revision = receipt.revision.max(own.revision);
                match answer {
                    Ok(name) => self.told(told, true, "SuccessfulCreate", || format!("Created pod: {name}")).await,
                    Err(status) => {
                        // Nobody needs to hear that a namespace on its way out takes nothing new.
                        if !is_terminating(&status) {
                            self.told(told, false, "FailedCreate", || format!("Error creating: {status}")).await;
                        }
                        refused = Some(status);
                    }
                }
            }
            if let Some(status) = refused {
                return Err(status);
            }
            size *= 2;
        }
    }

    async fn delete(
        &self,
        resource: &GroupResource,
        targets: Vec<Victim>,
        told: Option<&Told>,
        receipt: &mut Receipt,
    ) -> Result<(), Status> {
        let answers = join_all(targets.iter().map(|victim| async move {
            let mut body = json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": victim.uid}});
            if let Value::Object(body) = &mut body {
                if !victim.propagation.is_empty() {
                    body.insert("propagationPolicy".into(), victim.propagation.into());
                }
                if let Some(seconds) = victim.grace_seconds {
                    body.insert("gracePeriodSeconds".into(), seconds.into());
                }
            }
            let options = Options {
                propagation_policy: Some(victim.propagation.to_owned()).filter(|policy| !policy.is_empty()),
                grace_period_seconds: victim.grace_seconds,
                ..Options::default()
            };
            let target = target(resource, &victim.namespace, &victim.name, "");
            self.call(Verb::Delete, target, options, body.into(), &mut Receipt::default()).await
        }))
        .await;
        let mut refused = None;
        for (victim, answer) in targets.into_iter().zip(answers) {
            match answer {
                Ok(_) => {
                    self.told(told, true, "SuccessfulDelete", || format!("Deleted pod: {}", victim.name)).await;
                    receipt.deleted.push((Key::new(resource.clone(), &victim.namespace, &victim.name), victim.uid));
                }
                // Gone, or replaced by another of the same name: what was wanted.
                Err(status) if status.is(Reason::NotFound) || status.is(Reason::Conflict) => {}
                Err(status) => {
                    self.told(told, false, "FailedDelete", || format!("Error deleting: {status}")).await;
                    refused = Some(status);
                }
            }
        }
        refused.map_or(Ok(()), Err)
    }

    async fn evict(&self, targets: Vec<Victim>) -> Result<(), Status> {
        let answers = join_all(targets.iter().map(|victim| async move {
            let options = json!({"preconditions": {"uid": victim.uid}});
            let meta = json!({"name": victim.name, "namespace": victim.namespace});
            let body =
                json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": meta, "deleteOptions": options});
            let target = target(&PODS, &victim.namespace, &victim.name, "eviction");
            self.call(Verb::Create, target, Options::default(), body.into(), &mut Receipt::default()).await
        }))
        .await;
        let mut refused = None;
        for (victim, answer) in targets.into_iter().zip(answers) {
            match answer {
                // An answer is no promise: of a pod with several budgets nothing is deleted.
                Ok(_) => {}
                Err(status)
                    if [Reason::TooManyRequests, Reason::NotFound, Reason::Conflict].contains(&status.reason) =>
                {
                    tracing::debug!(pod = victim.name, error = %status, "not evicted");
                }
                Err(status) => refused = Some(status),
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// One call; answers the object's name.
    async fn call(
        &self,
        verb: Verb,
        target: Target,
        options: Options,
        body: Body,
        receipt: &mut Receipt,
    ) -> Result<String, Status> {
        let request = Request { who: self.client.user(), verb, target, options, body };
        let (revision, name) = match self.client.call(request).await?.payload {
            Payload::Stored(object) => (object.revision, object.key.name.to_string()),
            Payload::Value(value) => {
                let revision = text(&value, "resourceVersion").parse().map(Revision).unwrap_or_default();
                (revision, text(&value, "name").to_owned())
            }
            Payload::List { .. } | Payload::Watch(_) => (Revision::default(), String::new()),
        };
        receipt.revision = receipt.revision.max(revision);
        Ok(name)
    }

    async fn told(&self, told: Option<&Told>, success: bool, reason: &str, message: impl FnOnce() -> String) {
        let Some(told) = told.filter(|told| told.successes || !success) else { return };
        let severity = if success { Severity::Normal } else { Severity::Warning };
        let note = Note { about: told.about.clone(), severity, reason: reason.to_owned(), message: message() };
        self.tell(note).await;
    }

    async fn tell(&self, note: Note) {
        if let Err(status) = self.recorder.record(&note, Timestamp::now()).await {
            tracing::debug!(reason = note.reason, error = %status, "event not recorded");
        }
    }
}

/// Whether a refusal is due to the namespace going away.
pub fn is_terminating(status: &Status) -> bool {
    status.details.as_ref().is_some_and(|d| d.causes.iter().any(|cause| cause.reason == "NamespaceTerminating"))
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object.get("metadata").and_then(|meta| meta.get(field)).and_then(Value::as_str).unwrap_or_default()
}

fn target(resource: &GroupResource, namespace: &str, name: &str, subresource: &str) -> Target {
    Target {
        resource: resource.clone(),
        version: String::new(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        subresource: subresource.to_owned(),
    }
}
