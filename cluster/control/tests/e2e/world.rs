//! A cluster in memory: just enough of an API server for controllers and scheduler to work against, with a watch cache that may lag
//! behind the writes, and a node agent that runs every pod bound to it at once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use json_patch::merge;
use kedge_api::request::Payload;
use kedge_api::resource::known::*;
use kedge_api::status::Cause;
use kedge_api::{
    Answer, Body, Change, Client, GroupResource, Informer, Key, Object, Reason, Request, Revision, Snapshot, Status,
    User, Verb,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

#[derive(Default)]
struct State {
    revision: u64,
    serial: u64,
    truth: BTreeMap<Key, Value>,
    visible: Snapshot,
    listeners: Vec<mpsc::UnboundedSender<Change>>,
    log: Vec<String>,
    refuse: Vec<(&'static str, GroupResource, Status)>,
}

pub struct World {
    state: Arc<Mutex<State>>,
    writes: mpsc::UnboundedSender<Change>,
    /// New pods become ready by themselves.
    pub healthy: AtomicBool,
}

fn now() -> String {
    jiff::Timestamp::from_second(jiff::Timestamp::now().as_second()).unwrap().to_string()
}

impl World {
    /// Changes become visible `lag` after they were written.
    pub fn new(lag: Duration) -> Arc<Self> {
        let (writes, mut written) = mpsc::unbounded_channel::<Change>();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        tokio::spawn(async move {
            while let Some(change) = written.recv().await {
                if !lag.is_zero() {
                    tokio::time::sleep(lag).await;
                }
                let mut state = shared.lock().unwrap();
                match &change.after {
                    Some(object) => state.visible.insert(object.clone()),
                    None => drop(state.visible.remove(&change.key, change.revision)),
                }
                state.listeners.retain(|listener| listener.send(change.clone()).is_ok());
            }
        });
        Arc::new(Self { state, writes, healthy: AtomicBool::new(true) })
    }

    pub fn refuse(&self, verb: &'static str, resource: GroupResource, status: Status) {
        self.state.lock().unwrap().refuse.push((verb, resource, status));
    }

    pub fn forgive(&self) {
        self.state.lock().unwrap().refuse.clear();
    }

    /// Every write so far, e.g. `create pods`.
    pub fn log(&self) -> Vec<String> {
        self.state.lock().unwrap().log.clone()
    }

    pub fn list(&self, resource: &GroupResource) -> Vec<Value> {
        self.state
            .lock()
            .unwrap()
            .truth
            .iter()
            .filter(|(key, _)| key.resource == *resource)
            .map(|(_, v)| v.clone())
            .collect()
    }

    pub fn get(&self, resource: &GroupResource, namespace: &str, name: &str) -> Option<Value> {
        self.state.lock().unwrap().truth.get(&Key::new(resource.clone(), namespace, name)).cloned()
    }

    pub async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        for _ in 0..1500 {
            if holds(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let events: Vec<_> = self.list(&EVENTS).iter().map(|e| format!("{} {}", e["reason"], e["message"])).collect();
        panic!("never: {what}\nevents: {events:#?}\nlog: {:#?}", self.log());
    }

    pub async fn put(&self, resource: GroupResource, object: Value) -> Value {
        self.write(Verb::Create, resource, "", object).await
    }

    pub async fn patch(
        &self,
        resource: GroupResource,
        namespace: &str,
        name: &str,
        subresource: &str,
        patch: Value,
    ) -> Value {
        let body = Body::Patch(kedge_api::PatchType::Merge, patch);
        self.ask(Verb::Patch, resource, (namespace, name, subresource), body).await.unwrap()
    }

    pub async fn delete(&self, resource: GroupResource, namespace: &str, name: &str, options: Value) {
        self.ask(Verb::Delete, resource, (namespace, name, ""), options.into()).await.unwrap();
    }

    async fn write(&self, verb: Verb, resource: GroupResource, subresource: &str, object: Value) -> Value {
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
        self.ask(verb, resource, (&namespace, "", subresource), object.into()).await.unwrap()
    }

    async fn ask(
        &self,
        verb: Verb,
        resource: GroupResource,
        at: (&str, &str, &str),
        body: Body,
    ) -> Result<Value, Status> {
        let (namespace, name, subresource) = at;
        let target = kedge_api::Target {
            resource,
            version: String::new(),
            namespace: namespace.into(),
            name: name.into(),
            subresource: subresource.into(),
        };
        let request = Request { who: User::new("tester", &[]), verb, target, options: Default::default(), body };
        match self.call(request).await?.payload {
            Payload::Value(value) => Ok(value),
            other => panic!("{other:?}"),
        }
    }

    fn commit(&self, state: &mut State, key: Key, mut value: Option<Value>) -> Value {
        state.revision += 1;
        let before = state.truth.get(&key).map(|v| object(&key, v));
        if let Some(value) = &mut value {
            value["metadata"]["resourceVersion"] = state.revision.to_string().into();
            state.truth.insert(key.clone(), value.clone());
        } else {
            state.truth.remove(&key);
        }
        let after = value.as_ref().map(|v| object(&key, v));
        let _ = self.writes.send(Change { revision: Revision(state.revision), key, before, after });
        value.unwrap_or_else(|| json!({"kind": "Status", "status": "Success"}))
    }

    fn create(
        &self,
        state: &mut State,
        resource: GroupResource,
        namespace: &str,
        mut value: Value,
    ) -> Result<Value, Status> {
        state.serial += 1;
        let serial = state.serial;
        let terminating = state
            .truth
            .get(&Key::new(NAMESPACES, "", namespace))
            .is_some_and(|ns| !ns["metadata"]["deletionTimestamp"].is_null());
        let meta = &mut value["metadata"];
        if meta["name"].is_null() {
            let prefix = meta["generateName"].as_str().expect("a name or a prefix").to_owned();
            meta["name"] = format!("{prefix}{serial:05}").into();
        }
        let name = meta["name"].as_str().unwrap().to_owned();
        meta["uid"] = format!("uid-{serial}").into();
        meta["creationTimestamp"] = now().into();
        meta["generation"] = 1.into();
        let key = Key::new(resource.clone(), namespace, &name);
        if state.truth.contains_key(&key) {
            return Err(Status::already_exists(&resource, &name));
        }
        if terminating {
            let mut status = Status::about(Reason::Forbidden, &resource, &name, "namespace is being terminated".into());
            let cause = Cause {
                reason: "NamespaceTerminating".into(),
                message: String::new(),
                field: "metadata.namespace".into(),
            };
            status.details.as_mut().unwrap().causes.push(cause);
            return Err(status);
        }
        if resource == PODS {
            value["status"] = json!({"phase": "Pending"});
        }
        Ok(self.commit(state, key, Some(value)))
    }

    fn change(&self, state: &mut State, key: Key, subresource: &str, next: Value) -> Result<Value, Status> {
        let old = state.truth.get(&key).ok_or_else(|| Status::not_found(&key.resource, &key.name))?.clone();
        for field in ["resourceVersion", "uid"] {
            let expected = &next["metadata"][field];
            if !expected.is_null() && *expected != old["metadata"][field] {
                return Err(Status::conflict(&key.resource, &key.name, "the object has been modified"));
            }
        }
        let mut new = old.clone();
        match subresource {
            "status" => new["status"] = next["status"].clone(),
            "finalize" => new["spec"]["finalizers"] = next["spec"]["finalizers"].clone(),
            _ => {
                let status = old["status"].clone();
                new = next;
                new["status"] = status;
                if new["spec"] != old["spec"] {
                    new["metadata"]["generation"] = (old["metadata"]["generation"].as_i64().unwrap_or(0) + 1).into();
                }
            }
        }
        if new["status"].is_null() {
            new.as_object_mut().unwrap().remove("status");
        }
        new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
        if new == old {
            return Ok(old);
        }
        if !new["metadata"]["deletionTimestamp"].is_null() && !held(&new) && key.resource != PODS {
            return Ok(self.commit(state, key, None));
        }
        Ok(self.commit(state, key, Some(new)))
    }

    fn remove(&self, state: &mut State, key: Key, options: &Value) -> Result<Value, Status> {
        let mut value = state.truth.get(&key).ok_or_else(|| Status::not_found(&key.resource, &key.name))?.clone();
        let uid = &options["preconditions"]["uid"];
        if !uid.is_null() && *uid != value["metadata"]["uid"] {
            return Err(Status::conflict(&key.resource, &key.name, "the uid differs"));
        }
        let finalizer = match options["propagationPolicy"].as_str() {
            Some("Foreground") => Some("foregroundDeletion"),
            Some("Orphan") => Some("orphan"),
            _ => None,
        };
        if let Some(finalizer) = finalizer {
            let mut all = value["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
            all.push(finalizer.into());
            value["metadata"]["finalizers"] = all.into();
        }
        let graceful = key.resource == PODS
            && !value["spec"]["nodeName"].is_null()
            && options["gracePeriodSeconds"].as_i64() != Some(0)
            && !matches!(value["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        if !held(&value) && !graceful {
            return Ok(self.commit(state, key, None));
        }
        if value["metadata"]["deletionTimestamp"].is_null() {
            value["metadata"]["deletionTimestamp"] = now().into();
            return Ok(self.commit(state, key, Some(value)));
        }
        Ok(value)
    }

    /// A node agent: what is bound runs, what is told to stop is gone.
    pub async fn run_agent(self: Arc<Self>) {
        let (snapshot, changes) = self.subscribe(&[PODS]);
        let initial: Vec<_> = snapshot.list(&PODS, "").cloned().collect();
        let mut changes = futures::stream::iter(initial).chain(changes.filter_map(|c| std::future::ready(c.after)));
        while let Some(pod) = changes.next().await {
            let key = pod.key.clone();
            let value: Value = pod.decode().unwrap();
            if value["spec"]["nodeName"].is_null() {
                continue;
            }
            if pod.is_deleting() {
                if pod.meta.finalizers.iter().flatten().next().is_none() {
                    let mut state = self.state.lock().unwrap();
                    if state.truth.get(&key).is_some_and(|v| v["metadata"]["uid"] == value["metadata"]["uid"]) {
                        self.commit(&mut state, key, None);
                    }
                }
            } else if let (Some(outcome), "Pending") =
                (value["metadata"]["annotations"]["outcome"].as_str(), value["status"]["phase"].as_str().unwrap())
            {
                let patch = json!({"status": {"phase": outcome}});
                let body = Body::Patch(kedge_api::PatchType::Merge, patch);
                let _ = self.ask(Verb::Patch, PODS, (&key.namespace, &key.name, "status"), body).await;
            } else if value["status"]["phase"] == "Pending" && self.healthy.load(Ordering::Relaxed) {
                let condition = json!({"type": "Ready", "status": "True", "lastTransitionTime": now()});
                let ip = format!("10.42.0.{}", value["metadata"]["uid"].as_str().unwrap().trim_start_matches("uid-"));
                let patch = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [condition]}});
                let body = Body::Patch(kedge_api::PatchType::Merge, patch);
                let _ = self.ask(Verb::Patch, PODS, (&key.namespace, &key.name, "status"), body).await;
            }
        }
    }
}

fn held(value: &Value) -> bool {
    value["metadata"]["finalizers"].as_array().is_some_and(|f| !f.is_empty())
        || value["spec"]["finalizers"].as_array().is_some_and(|f| !f.is_empty())
}

fn object(key: &Key, value: &Value) -> Arc<Object> {
    let meta: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta =
        serde_json::from_value(value["metadata"].clone()).unwrap();
    let revision = Revision(meta.resource_version.as_deref().unwrap().parse().unwrap());
    Arc::new(Object { key: key.clone(), revision, meta, json: serde_json::to_vec(value).unwrap().into() })
}

#[async_trait]
impl Client for World {
    async fn call(&self, request: Request) -> Result<Answer, Status> {
        let mut state = self.state.lock().unwrap();
        let state = &mut *state;
        let Request { verb, target, body, .. } = request;
        let key = Key::new(target.resource.clone(), &target.namespace, &target.name);
        let line = format!("{} {}/{}", verb.as_str(), target.resource, target.subresource);
        state.log.push(line.trim_end_matches('/').to_owned());
        if let Some((.., status)) = state.refuse.iter().find(|(v, r, _)| *v == verb.as_str() && *r == target.resource) {
            return Err(status.clone());
        }
        let sub = target.subresource.as_str();
        let value = match (verb, body) {
            (Verb::Create, Body::Object { value, .. }) if sub == "binding" => {
                let mut pod = state.truth.get(&key).ok_or_else(|| Status::not_found(&PODS, &target.name))?.clone();
                if !pod["spec"]["nodeName"].is_null() {
                    return Err(Status::conflict(&PODS, &target.name, "already assigned"));
                }
                pod["spec"]["nodeName"] = value["target"]["name"].clone();
                self.commit(state, key, Some(pod))
            }
            (Verb::Create, Body::Object { value, .. }) => {
                self.create(state, target.resource, &target.namespace, value)?
            }
            (Verb::Update, Body::Object { value, .. }) => self.change(state, key, sub, value)?,
            (Verb::Patch, Body::Patch(_, patch)) => {
                let mut next =
                    state.truth.get(&key).ok_or_else(|| Status::not_found(&key.resource, &key.name))?.clone();
                merge(&mut next, &patch);
                self.change(state, key, sub, next)?
            }
            (Verb::Delete, Body::Object { value, .. }) => self.remove(state, key, &value)?,
            (verb, body) => panic!("{verb:?} {body:?}"),
        };
        Ok(Answer { code: 200, warnings: Vec::new(), payload: Payload::Value(value) })
    }

    fn user(&self) -> User {
        User::new("system:kedge", &[])
    }
}

impl Informer for World {
    fn snapshot(&self) -> Snapshot {
        self.state.lock().unwrap().visible.clone()
    }

    fn subscribe(&self, resources: &[GroupResource]) -> (Snapshot, BoxStream<'static, Change>) {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let mut state = self.state.lock().unwrap();
        state.listeners.push(sender);
        let resources = resources.to_vec();
        let stream = futures::stream::poll_fn(move |cx| receiver.poll_recv(cx)).filter(move |change: &Change| {
            let wanted = resources.is_empty() || resources.contains(&change.key.resource);
            std::future::ready(wanted)
        });
        (state.visible.clone(), stream.boxed())
    }
}
