//! Whole requests, against a registry that holds an object of each kind that many others are like. Writes are dry runs, so every input finds
//! the same: what is asked goes all the way through decoding, defaults, admission, validation, patches and managed fields, but not into the
//! store.

use std::sync::{Arc, LazyLock};

use futures::StreamExt as _;
use http::Method;
use kedge_api::client::User;
use kedge_api::request::Payload;
use kedge_api::{Body, Reason, Request, schema};
use kedge_registry::Registry;
use kedge_serve::wire::media::Format;
use kedge_serve::wire::path::{About, parse};
use kedge_serve::wire::query::Query;
use kedge_serve::wire::{body, protobuf};
use kedge_store::{Memory, Store};
use kedge_watch::Cache;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use crate::objects::object;
use crate::random::Random;

struct World {
    runtime: Runtime,
    registry: Registry,
}

static WORLD: LazyLock<Option<World>> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread().enable_time().build().ok()?;
    let registry = runtime.block_on(async {
        let store: Arc<dyn Store> = Arc::new(Memory::new());
        let cache = Cache::start(store.clone()).await.ok()?;
        let registry = Registry::new(store, cache, kedge_registry::Options::default());
        kedge_registry::bootstrap(&registry).await.ok()?;
        Some(registry)
    })?;
    let world = World { runtime, registry };
    for (path, body) in there() {
        let made = world.ask(&Method::POST, path, Some(body), None);
        assert!(made.is_some_and(|code| code == 201), "{path}: {made:?}");
    }
    Some(world)
});

/// What is there to be read, changed and deleted.
fn there() -> [(&'static str, Value); 9] {
    let pod = json!({"containers": [{"name": "c", "image": "i", "env": [{"name": "A", "value": "1"}], "ports": [{"containerPort": 80}]}]});
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": pod});
    let workload = json!({"selector": {"matchLabels": {"a": "b"}}, "template": template, "replicas": 2});
    let crd = json!({"metadata": {"name": "things.e.com"}, "spec": {"group": "e.com", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object",
            "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}}]}});
    let named =
        |spec: Value| json!({"metadata": {"name": "a", "labels": {"a": "b"}, "annotations": {"k": "v"}}, "spec": spec});
    [
        ("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}})),
        (
            "/api/v1/namespaces/default/configmaps",
            json!({"metadata": {"name": "a", "finalizers": ["e.com/f"]}, "data": {"k": "v"}}),
        ),
        ("/api/v1/namespaces/default/pods", named(pod)),
        ("/apis/apps/v1/namespaces/default/deployments", named(workload)),
        (
            "/api/v1/namespaces/default/services",
            named(json!({"ports": [{"port": 80, "name": "x"}], "selector": {"a": "b"}})),
        ),
        (
            "/apis/batch/v1/namespaces/default/jobs",
            named(
                json!({"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}),
            ),
        ),
        (
            "/apis/networking.k8s.io/v1/namespaces/default/ingresses",
            named(json!({"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}})),
        ),
        (
            "/apis/rbac.authorization.k8s.io/v1/clusterroles",
            json!({"metadata": {"name": "a"}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}),
        ),
        ("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd),
    ]
}

const PATCHES: [(&str, kedge_api::PatchType); 4] = [
    ("json", kedge_api::PatchType::Json),
    ("merge", kedge_api::PatchType::Merge),
    ("strategic", kedge_api::PatchType::Strategic),
    ("apply", kedge_api::PatchType::Apply),
];

impl World {
    /// The answer's code; nothing if that was no request.
    fn ask(
        &self,
        method: &Method,
        path: &str,
        body: Option<Value>,
        patch: Option<kedge_api::PatchType>,
    ) -> Option<u16> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let query = Query::parse(query);
        let About::Resource(asked) = parse(method, path, &query).ok()?.about else { return None };
        let options = query.options().ok()?;
        let body = match (body, patch) {
            (Some(value), Some(kind)) => Body::Patch(kind, value),
            (Some(value), None) => value.into(),
            (None, _) => Body::None,
        };
        let who = User::new("admin", &["system:masters"]);
        let request = Request { who, verb: asked.verb, target: asked.target, options, body };
        Some(self.runtime.block_on(self.answer(request)))
    }

    async fn answer(&self, request: Request) -> u16 {
        let (shown, signs) = (format!("{request:?}"), request.target.subresource == "token");
        match self.registry.carry_out(request).await {
            Ok(answer) => {
                match answer.payload {
                    Payload::Stored(object) => readable(&object.json),
                    Payload::Value(value) => readable(value.to_string().as_bytes()),
                    Payload::List { items, .. } => items.iter().for_each(|object| readable(&object.json)),
                    // Whatever is there already comes at once.
                    Payload::Watch(mut events) => {
                        drop(tokio::time::timeout(std::time::Duration::ZERO, events.next()).await)
                    }
                }
                answer.code
            }
            Err(refused) => {
                let code = refused.reason.code();
                // To sign tokens is another's, whom there is none of here; else nothing is the server's fault.
                let ours = refused.is(Reason::InternalError) && !signs;
                assert!(!ours, "{refused:?} to {shown}");
                code
            }
        }
    }
}

/// What is answered can be read, in JSON and in the form that the server itself writes for others.
fn readable(json: &[u8]) {
    let read = body::decode(json, Format::Json, true);
    assert!(read.as_ref().is_ok_and(|read| read.duplicates.is_empty()), "{read:?}");
    if let Some(bytes) = read.ok().and_then(|read| protobuf::encode(&read.value)) {
        let back = protobuf::decode(&bytes, None);
        assert!(back.is_ok(), "{back:?} of {}", String::from_utf8_lossy(json));
    }
}

/// `{"method": …, "path": …, "patch": TYPE, "body": …}`
pub fn request(data: &[u8]) {
    let (Some(world), Ok(input)) = (&*WORLD, serde_json::from_slice::<Value>(data)) else { return };
    let text = |name: &str| input.get(name).and_then(Value::as_str).unwrap_or_default();
    let Ok(method) = text("method").parse::<Method>() else { return };
    let mut path = text("path").to_owned();
    if method != Method::GET {
        path.push_str(if path.contains('?') { "&dryRun=All" } else { "?dryRun=All" });
    }
    let patch = PATCHES.iter().find(|(name, _)| *name == text("patch")).map(|(_, kind)| *kind);
    if (method == Method::PATCH) != patch.is_some() {
        return;
    }
    let _code = world.ask(&method, &path, input.get("body").cloned(), patch);
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut random = Random::named("request");
    let seed = |method: &str, path: &str, patch: &str, body: Value| {
        json!({"method": method, "path": path, "patch": patch, "body": body}).to_string().into_bytes()
    };
    let mut seeds: Vec<Vec<u8>> = there().into_iter().map(|(path, body)| seed("POST", path, "", body)).collect();
    // Objects of each kind, made along its schema.
    let resources = WORLD.as_ref().map(|world| world.registry.table().resources());
    for resource in resources.iter().flat_map(|resources| resources.iter()) {
        let root = match resource.id.group.as_str() {
            "" => format!("/api/{}", resource.version),
            group => format!("/apis/{group}/{}", resource.version),
        };
        let within = if resource.namespaced { "/namespaces/default" } else { "" };
        let made = schema::get(&resource.schema).and_then(|of| object(&mut random, of));
        seeds.extend(made.map(|body| seed("POST", &format!("{root}{within}/{}", resource.id.resource), "", body)));
    }
    let map = "/api/v1/namespaces/default/configmaps/a";
    let deployment = "/apis/apps/v1/namespaces/default/deployments/a";
    seeds.extend([
        seed("PUT", map, "", json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "managedFields": [{"manager": "m", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {".": {}, "f:k": {}}}}]}})),
        seed("PATCH", deployment, "json", json!([{"op": "replace", "path": "/spec/replicas", "value": 3}, {"op": "add", "path": "/metadata/labels/x~1y", "value": "z"}])),
        seed("PATCH", deployment, "merge", json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "j"}]}}}, "metadata": {"annotations": null}})),
        seed("PATCH", deployment, "strategic", json!({"spec": {"template": {"spec": {"$setElementOrder/containers": [{"name": "d"}, {"name": "c"}], "containers": [{"name": "d", "image": "i"}]}}}})),
        seed("PATCH", &format!("{deployment}?fieldManager=m&force=true&fieldValidation=Strict"), "apply", json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": {"replicas": 5, "template": {"spec": {"containers": [{"name": "c", "image": "k", "ports": [{"containerPort": 81}]}]}}}})),
        seed("PATCH", &format!("{deployment}/status"), "merge", json!({"status": {"replicas": 1, "conditions": [{"type": "Available", "status": "True"}]}})),
        seed("PATCH", &format!("{deployment}/scale"), "merge", json!({"spec": {"replicas": 7}})),
        seed("PUT", &format!("{deployment}/scale"), "", json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "a"}, "spec": {"replicas": 1}})),
        seed("POST", "/api/v1/namespaces/default/pods/a/eviction", "", json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "a"}})),
        seed("POST", "/api/v1/namespaces/default/pods/a/binding", "", json!({"target": {"kind": "Node", "name": "n"}})),
        seed("PATCH", "/api/v1/namespaces/default/pods/a/resize", "strategic", json!({"spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "1"}}}]}})),
        seed("PATCH", "/api/v1/namespaces/default/pods/a/ephemeralcontainers", "strategic", json!({"spec": {"ephemeralContainers": [{"name": "e", "image": "i"}]}})),
        seed("DELETE", map, "", json!({"kind": "DeleteOptions", "propagationPolicy": "Foreground", "gracePeriodSeconds": 5, "preconditions": {"resourceVersion": "7"}})),
        seed("DELETE", "/api/v1/namespaces/default/configmaps?labelSelector=a%3Db&limit=1", "", Value::Null),
        seed("GET", "/api/v1/configmaps?limit=1&continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6LTEsInN0YXJ0IjoiZGVmYXVsdC9hXHUwMDAwIn0&fieldSelector=metadata.name%3Da", "", Value::Null),
        seed("GET", "/api/v1/namespaces/default/pods?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true", "", Value::Null),
    ]);
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A target that refuses all that it is given would find nothing.
    #[test]
    fn seeds_reach_what_they_are_for() {
        let world = WORLD.as_ref().unwrap();
        let codes: Vec<u16> = seeds()
            .iter()
            .filter_map(|seed| {
                let input: Value = serde_json::from_slice(seed).unwrap();
                let text = |name: &str| input.get(name).and_then(Value::as_str).unwrap();
                let patch = PATCHES.iter().find(|(name, _)| *name == text("patch")).map(|(_, kind)| *kind);
                let join = if text("path").contains('?') { "&" } else { "?" };
                let path = format!("{}{join}{}", text("path"), if text("method") == "GET" { "" } else { "dryRun=All" });
                world.ask(&text("method").parse().unwrap(), &path, input.get("body").cloned(), patch)
            })
            .collect();
        let count = |from: u16, to: u16| codes.iter().filter(|code| (from..to).contains(*code)).count();
        assert!(count(200, 300) >= 12 && count(422, 423) >= 20 && count(404, 406) <= 5, "{codes:?}");
    }
}
