//! The in-process client: requests that enter at authorization, so that controllers pass the same gates as anyone.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::{Metadata, Resource as K8sResource, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::request::{Answer, Body, Options, PatchType, Payload, Request, Target};
use crate::resource::{GroupResource, Verb};
use crate::status::{Reason, Status};

/// An authenticated identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub name: Arc<str>,
    pub uid: Arc<str>,
    pub groups: Arc<[String]>,
    /// What else the authenticator knows, e.g. the pod that a token is bound to.
    pub extra: Arc<BTreeMap<String, Vec<String>>>,
}

impl User {
    pub fn new(name: &str, groups: &[&str]) -> Self {
        Self {
            name: name.into(),
            uid: "".into(),
            groups: groups.iter().map(|g| (*g).to_owned()).collect(),
            extra: Arc::default(),
        }
    }
}

/// Whoever carries out requests: authorization, admission, registry.
#[async_trait]
pub trait Client: Send + Sync {
    async fn call(&self, request: Request) -> Result<Answer, Status>;

    /// The identity that [`ClientExt`] calls with.
    fn user(&self) -> User;
}

/// Typed calls for controllers, scheduler and agent.
#[async_trait]
pub trait ClientExt: Client {
    async fn verb(
        &self,
        verb: Verb,
        resource: &GroupResource,
        at: (&str, &str, &str),
        options: Options,
        body: Body,
    ) -> Result<Value, Status> {
        let (namespace, name, subresource) = at;
        let target = Target {
            resource: resource.clone(),
            version: String::new(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            subresource: subresource.to_owned(),
        };
        let answer = self.call(Request { who: self.user(), verb, target, options, body }).await?;
        match answer.payload {
            Payload::Stored(object) => object.decode(),
            Payload::Value(value) => Ok(value),
            Payload::List { .. } | Payload::Watch(_) => {
                Err(Status::internal(format!("{} of {resource} answered a list or watch", verb.as_str())))
            }
        }
    }

    async fn create<T>(&self, resource: &GroupResource, object: &T) -> Result<T, Status>
    where
        T: K8sResource + Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned + Sync,
    {
        let namespace = object.metadata().namespace.clone().unwrap_or_default();
        let body = encode(object)?;
        decode(self.verb(Verb::Create, resource, (&namespace, "", ""), Options::default(), body).await?)
    }

    /// Replaces the object, or its `subresource` if not empty. A `resourceVersion` in it is the compare-and-swap expectation.
    async fn update<T>(&self, resource: &GroupResource, subresource: &str, object: &T) -> Result<T, Status>
    where
        T: K8sResource + Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned + Sync,
    {
        let meta = object.metadata();
        let (namespace, name) = (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
        let body = encode(object)?;
        decode(self.verb(Verb::Update, resource, (&namespace, &name, subresource), Options::default(), body).await?)
    }

    /// A JSON merge patch.
    async fn merge(&self, resource: &GroupResource, at: (&str, &str, &str), patch: Value) -> Result<Value, Status> {
        self.verb(Verb::Patch, resource, at, Options::default(), Body::Patch(PatchType::Merge, patch)).await
    }

    /// Creates the object, or lays it over the one that is there; an equal one stays as it is.
    async fn put(&self, resource: &GroupResource, namespace: &str, name: &str, object: Value) -> Result<(), Status> {
        let made =
            self.verb(Verb::Create, resource, (namespace, "", ""), Options::default(), object.clone().into()).await;
        match made {
            Err(status) if status.is(Reason::AlreadyExists) => {}
            other => return other.map(drop),
        }
        self.merge(resource, (namespace, name, ""), object).await.map(drop)
    }

    /// Deletes; with a uid only that very object.
    async fn delete(
        &self,
        resource: &GroupResource,
        namespace: &str,
        name: &str,
        uid: Option<&str>,
        options: Options,
    ) -> Result<(), Status> {
        // A body makes the query's options void, so all of them go into it.
        let mut body = serde_json::Map::new();
        if let Some(uid) = uid {
            body.insert("preconditions".into(), serde_json::json!({"uid": uid}));
        }
        if let Some(seconds) = options.grace_period_seconds {
            body.insert("gracePeriodSeconds".into(), seconds.into());
        }
        if let Some(policy) = &options.propagation_policy {
            body.insert("propagationPolicy".into(), policy.as_str().into());
        }
        let body = if body.is_empty() { Body::None } else { Value::Object(body).into() };
        self.verb(Verb::Delete, resource, (namespace, name, ""), options, body).await.map(drop)
    }
}

impl<C: Client + ?Sized> ClientExt for C {}

fn encode<T: Serialize>(object: &T) -> Result<Body, Status> {
    serde_json::to_value(object).map(Body::from).map_err(|e| Status::internal(format!("encoding a request: {e}")))
}

/// Reads a borrowed value, as everyone does: each way to read a type is one more copy of its code in the binary.
fn decode<T: DeserializeOwned>(value: Value) -> Result<T, Status> {
    T::deserialize(&value).map_err(|e| Status::internal(format!("decoding an answer: {e}")))
}
