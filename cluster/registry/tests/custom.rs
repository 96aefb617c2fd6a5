//! Custom resources from their definition to their end, against the memory store.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests and their helpers")]

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use kedge_api::client::User;
use kedge_api::request::{Answer, Body, Options, PatchType, Payload, Request, Target, WatchEvent};
use kedge_api::{GroupResource, Reason, Status, Verb};
use kedge_registry::{Registry, bootstrap};
use kedge_store::{Memory, Store};
use kedge_watch::Cache;
use serde_json::{Value, json};

const DEFINITIONS: GroupResource = GroupResource::of("apiextensions.k8s.io", "customresourcedefinitions");
const THINGS: GroupResource = GroupResource::of("e.com", "things");

struct World {
    registry: Arc<Registry>,
}

impl World {
    async fn new() -> Self {
        Self::with(kedge_registry::Options::default()).await
    }

    async fn with(options: kedge_registry::Options) -> Self {
        let store: Arc<dyn Store> = Arc::new(Memory::new());
        let cache = Cache::start(store.clone()).await.unwrap();
        let registry = Arc::new(Registry::new(store, cache, options));
        bootstrap(&registry).await.unwrap();
        tokio::spawn(kedge_registry::follow(registry.clone()));
        Self { registry }
    }

    /// `path` is `VERSION/NAME/SUBRESOURCE`, as far as it is needed.
    async fn call(
        &self,
        verb: Verb,
        of: &GroupResource,
        path: &str,
        options: Options,
        body: Body,
    ) -> Result<Answer, Status> {
        let mut parts = path.split('/').map(str::to_owned);
        let mut part = || parts.next().unwrap_or_default();
        let namespace = if *of == THINGS { "default" } else { "" }.to_owned();
        let target = Target { resource: of.clone(), version: part(), namespace, name: part(), subresource: part() };
        let who = User::new("admin", &["system:masters"]);
        self.registry.carry_out(Request { who, verb, target, options, body }).await
    }

    async fn value(&self, verb: Verb, of: &GroupResource, path: &str, body: Body) -> Result<Value, Status> {
        match self.call(verb, of, path, Options::default(), body).await?.payload {
            Payload::Stored(object) => object.decode(),
            Payload::Value(value) => Ok(value),
            other => panic!("{other:?}"),
        }
    }

    async fn merge(&self, of: &GroupResource, path: &str, patch: Value) -> Result<Value, Status> {
        self.value(Verb::Patch, of, path, Body::Patch(PatchType::Merge, patch)).await
    }

    /// The definition, once it is as wanted.
    async fn settled(&self, name: &str, wanted: impl Fn(&Result<Value, Status>) -> bool) -> Result<Value, Status> {
        self.until(&DEFINITIONS, name, wanted).await
    }

    async fn until(
        &self,
        of: &GroupResource,
        name: &str,
        wanted: impl Fn(&Result<Value, Status>) -> bool,
    ) -> Result<Value, Status> {
        for _ in 0..200 {
            let found = self.value(Verb::Get, of, &format!("v1/{name}"), Body::None).await;
            if wanted(&found) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{name} did not settle")
    }

    async fn define(&self, definition: Value) -> Value {
        let name = definition["metadata"]["name"].as_str().unwrap().to_owned();
        let made = self.value(Verb::Create, &DEFINITIONS, "v1", definition.into()).await.unwrap();
        assert_eq!(made["status"]["conditions"], Value::Null);
        self.settled(&name, |found| is(found.as_ref().unwrap(), "NamesAccepted").is_some()).await.unwrap()
    }
}

fn is(definition: &Value, condition: &str) -> Option<bool> {
    let conditions = definition["status"]["conditions"].as_array()?;
    Some(conditions.iter().find(|c| c["type"] == condition)?["status"] == "True")
}

fn things() -> Value {
    let spec = json!({"type": "object", "properties": {"a": {"type": "integer", "default": 1, "maximum": 9}, "replicas": {"type": "integer"}}});
    let newer = json!({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}});
    let version = |name: &str, storage: bool, spec: &Value| {
        json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": {"type": "object",
            "properties": {"spec": spec, "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}},
            "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}}})
    };
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "things.e.com"},
        "spec": {"group": "e.com", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing", "shortNames": ["th"]},
            "versions": [version("v1", true, &spec), version("v2", false, &newer)]}})
}

fn thing(version: &str, spec: Value) -> Body {
    json!({"apiVersion": format!("e.com/{version}"), "kind": "Thing", "metadata": {"name": "t"}, "spec": spec}).into()
}

#[tokio::test]
async fn a_kind_is_defined_used_and_removed_with_all_that_is_of_it() {
    let world = World::new().await;
    let early = world.value(Verb::Create, &THINGS, "v1", thing("v1", json!({}))).await.unwrap_err();
    assert!(early.is(Reason::NotFound), "{early}");
    let defined = world.define(things()).await;
    assert_eq!((is(&defined, "Established"), &defined["spec"]["names"]["listKind"]), (Some(true), &json!("ThingList")));

    let made = world.value(Verb::Create, &THINGS, "v1", thing("v1", json!({"x": 1}))).await.unwrap();
    assert_eq!(made["spec"], json!({"a": 1}));
    let refused = world.merge(&THINGS, "v1/t", json!({"spec": {"a": 10}})).await.unwrap_err();
    assert!(
        refused.message.contains("spec.a: Invalid value: 10: spec.a in body should be less than or equal to 9"),
        "{refused}"
    );
    let held = world.merge(&THINGS, "v1/t", json!({"metadata": {"finalizers": ["e.com/f"]}})).await.unwrap();
    assert_eq!(held["metadata"]["generation"], 1);
    let status =
        world.merge(&THINGS, "v1/t/status", json!({"status": {"replicas": 2}, "spec": {"a": 5}})).await.unwrap();
    assert_eq!((&status["spec"]["a"], &status["status"]["replicas"]), (&json!(1), &json!(2)));
    let scaled = world.merge(&THINGS, "v1/t/scale", json!({"spec": {"replicas": 3}})).await.unwrap();
    assert_eq!((&scaled["spec"], &scaled["status"]), (&json!({"replicas": 3}), &json!({"replicas": 2})));
    assert_eq!(world.value(Verb::Get, &THINGS, "v2/t", Body::None).await.unwrap()["spec"], json!({"a": 1}));
    let other = world.merge(&THINGS, "v2/t", json!({"spec": {"b": "x", "a": 4}})).await.unwrap();
    assert_eq!((&other["apiVersion"], &other["spec"]), (&json!("e.com/v2"), &json!({"a": 4})));

    let marked = world.value(Verb::Delete, &DEFINITIONS, "v1/things.e.com", Body::None).await.unwrap();
    assert_eq!((is(&marked, "Terminating"), &marked["metadata"]["generation"]), (Some(true), &json!(1)));
    world
        .settled("things.e.com", |found| {
            found.as_ref().unwrap()["status"].to_string().contains("InstanceDeletionInProgress")
        })
        .await
        .unwrap();
    let late = world.value(Verb::Create, &THINGS, "v1", thing("v1", json!({}))).await.unwrap_err();
    assert!(late.is(Reason::MethodNotAllowed), "{late}");
    world.merge(&THINGS, "v1/t", json!({"metadata": {"finalizers": null}})).await.unwrap();
    assert!(world.settled("things.e.com", Result::is_err).await.is_err());
    let gone = world.value(Verb::Get, &THINGS, "v1/t", Body::None).await.unwrap_err();
    assert!(gone.is(Reason::NotFound), "{gone}");
}

#[tokio::test]
async fn a_watch_ends_when_what_it_watches_is_no_more() {
    let world = World::new().await;
    world.define(things()).await;
    world.value(Verb::Create, &THINGS, "v1", thing("v1", json!({}))).await.unwrap();
    let mut watches = Vec::new();
    for version in ["v1", "v2"] {
        match world.call(Verb::Watch, &THINGS, version, Options::default(), Body::None).await.unwrap().payload {
            Payload::Watch(events) => watches.push(events),
            other => panic!("{other:?}"),
        }
    }
    world.value(Verb::Delete, &DEFINITIONS, "v1/things.e.com", Body::None).await.unwrap();
    for events in watches {
        let events: Vec<_> = tokio::time::timeout(Duration::from_secs(60), events.collect()).await.unwrap();
        let deleted = |event: &Result<WatchEvent, Status>| matches!(event, Ok(WatchEvent::Object(change)) if change.after.is_none());
        assert!(events.last().is_some_and(deleted), "{events:?}");
    }
}

#[tokio::test]
async fn unknown_fields_are_told_as_the_request_wants() {
    let world = World::new().await;
    world.define(things()).await;
    let with =
        |mode: &str| Options { field_validation: Some(mode.into()), dry_run: vec!["All".into()], ..Options::default() };
    let odd = || thing("v1", json!({"x": 1}));
    let warned = world.call(Verb::Create, &THINGS, "v1", with("Warn"), odd()).await.unwrap();
    assert_eq!(warned.warnings, ["unknown field \"spec.x\""]);
    let refused = world.call(Verb::Create, &THINGS, "v1", with("Strict"), odd()).await.unwrap_err();
    assert_eq!(
        refused.message,
        "Thing in version \"v1\" cannot be handled as a Thing: strict decoding error: unknown field \"spec.x\""
    );
    let silent = world.call(Verb::Create, &THINGS, "v1", with("Ignore"), odd()).await.unwrap();
    assert_eq!(silent.warnings, Vec::<String>::new());
}

#[tokio::test]
async fn finalizers_of_custom_resources_are_called_as_they_like() {
    let world = World::new().await;
    world.define(things()).await;
    let with = |finalizers: Value| -> Body {
        json!({"apiVersion": "e.com/v1", "kind": "Thing", "metadata": {"name": "t", "finalizers": finalizers}}).into()
    };
    let (world, options) = (&world, Options::default);
    let call = |verb, path: &'static str, body| async move { world.call(verb, &THINGS, path, options(), body).await };
    let made = call(Verb::Create, "v1", with(json!(["plain", "e.com/f", "dotted.e.com"]))).await.unwrap();
    let prefer = |name: &str, path: &str| {
        format!(
            "metadata.finalizers: \"{name}\": prefer a domain-qualified finalizer name{path} to avoid accidental conflicts with other finalizer writers"
        )
    };
    assert_eq!(made.warnings, [prefer("dotted.e.com", " including a path (/)"), prefer("plain", "")]);
    let patch = Body::Patch(PatchType::Merge, json!({"metadata": {"finalizers": ["plain", "new"]}}));
    assert_eq!(call(Verb::Patch, "v1/t", patch).await.unwrap().warnings, [prefer("new", "")]);
    let refused = call(Verb::Create, "v1", with(json!(["not qualified"]))).await.unwrap_err();
    assert!(
        refused.message.contains("metadata.finalizers: Invalid value: \"not qualified\": name part must"),
        "{refused}"
    );
}

#[tokio::test]
async fn what_is_stored_can_be_read_however_deep_it_is() {
    let world = World::new().await;
    let mut open = things();
    open["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"] =
        json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    world.define(open).await;
    let nested = |levels: usize| (0..levels).fold(json!({}), |inner, _| json!({"a": inner}));
    let mut stored = 0;
    for levels in (40..126).step_by(5) {
        let mut body = json!({"apiVersion": "e.com/v1", "kind": "Thing", "spec": nested(levels)});
        body["metadata"] = json!({"name": format!("t{levels}")});
        match world.call(Verb::Create, &THINGS, "v1", Options::default(), body.clone().into()).await {
            Ok(Answer { payload: Payload::Stored(object), .. }) => {
                stored += 1;
                let read: Value = object.decode().unwrap();
                assert_eq!(read["spec"], body["spec"]);
                kedge_store::decode(object.key.clone(), object.revision, object.json.clone()).unwrap();
            }
            Ok(other) => panic!("{:?}", other.payload),
            Err(refused) => assert_eq!(refused.message, "things.e.com is nested deeper than 100 levels"),
        }
    }
    assert_eq!(stored, 12);
}

#[tokio::test]
async fn what_is_built_in_is_not_defined_anew() {
    let world = World::new().await;
    let mut leases = things();
    leases["metadata"] =
        json!({"name": "leases.coordination.k8s.io", "annotations": {"api-approved.kubernetes.io": "unapproved"}});
    leases["spec"]["group"] = "coordination.k8s.io".into();
    leases["spec"]["names"] = json!({"plural": "leases", "kind": "Thing"});
    leases["spec"]["versions"][0]["name"] = "v9".into();
    world.define(leases).await;
    let id = GroupResource::of("coordination.k8s.io", "leases");
    let missing = world.value(Verb::Get, &id, "v9/x", Body::None).await.unwrap_err();
    assert_eq!(missing.message, "the server could not find the requested resource");
}

#[tokio::test]
async fn of_two_that_want_a_name_the_second_waits_until_the_first_is_gone() {
    let world = World::new().await;
    world.define(things()).await;
    let mut second = things();
    second["metadata"]["name"] = "stuffs.e.com".into();
    second["spec"]["names"]["plural"] = "stuffs".into();
    let waiting = world.define(second).await;
    assert_eq!((is(&waiting, "NamesAccepted"), is(&waiting, "Established")), (Some(false), Some(false)));
    world.value(Verb::Delete, &DEFINITIONS, "v1/things.e.com", Body::None).await.unwrap();
    world.settled("stuffs.e.com", |found| is(found.as_ref().unwrap(), "Established") == Some(true)).await.unwrap();
}

#[tokio::test]
async fn an_api_service_stands_for_each_version() {
    const SERVICES: GroupResource = GroupResource::of("apiregistration.k8s.io", "apiservices");
    let world = World::new().await;
    world.define(things()).await;
    let label = "kube-aggregator.kubernetes.io/automanaged";
    let made = world.until(&SERVICES, "v2.e.com", Result::is_ok).await.unwrap();
    let spec = json!({"group": "e.com", "version": "v2", "groupPriorityMinimum": 1000, "versionPriority": 100});
    assert_eq!((&made["metadata"]["labels"][label], &made["spec"]), (&json!("true"), &spec));
    assert_eq!(made["status"]["conditions"][0]["reason"], "Local");
    // What is changed or deleted comes back.
    world.merge(&SERVICES, "v1/v2.e.com", json!({"spec": {"versionPriority": 7}})).await.unwrap();
    let is_back = |found: &Result<Value, Status>| found.as_ref().is_ok_and(|found| found["spec"] == spec);
    let uid = world.until(&SERVICES, "v2.e.com", is_back).await.unwrap()["metadata"]["uid"].clone();
    world.value(Verb::Delete, &SERVICES, "v1/v2.e.com", Body::None).await.unwrap();
    let is_new = |found: &Result<Value, Status>| found.as_ref().is_ok_and(|found| found["metadata"]["uid"] != uid);
    world.until(&SERVICES, "v2.e.com", is_new).await.unwrap();
    // One that somebody has taken over is theirs.
    world.merge(&SERVICES, "v1/v1.e.com", json!({"metadata": {"labels": {label: null}}})).await.unwrap();
    world.value(Verb::Delete, &DEFINITIONS, "v1/things.e.com", Body::None).await.unwrap();
    world.until(&SERVICES, "v2.e.com", Result::is_err).await.unwrap_err();
    assert!(world.until(&SERVICES, "v1.e.com", Result::is_ok).await.is_ok());
}

#[tokio::test]
async fn a_watch_ends_when_what_it_watches_is_shown_in_another_way() {
    let world = World::new().await;
    world.define(things()).await;
    let Payload::Watch(events) =
        world.call(Verb::Watch, &THINGS, "v1", Options::default(), Body::None).await.unwrap().payload
    else {
        panic!("no watch")
    };
    let mut versions = things()["spec"]["versions"].clone();
    versions[0]["schema"]["openAPIV3Schema"]["properties"]["more"] = json!({"type": "string"});
    world.merge(&DEFINITIONS, "v1/things.e.com", json!({"spec": {"versions": versions}})).await.unwrap();
    let events: Vec<_> = tokio::time::timeout(Duration::from_secs(60), events.collect()).await.unwrap();
    assert!(events.is_empty(), "{events:?}");
}

#[tokio::test]
async fn a_write_that_changes_nothing_keeps_the_defaults_of_its_time() {
    let world = World::new().await;
    let mut plain = things();
    let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/a/default";
    *plain.pointer_mut(spec).unwrap() = Value::Null;
    plain["spec"]["versions"].as_array_mut().unwrap().truncate(1);
    world.define(plain.clone()).await;
    let made = world.value(Verb::Create, &THINGS, "v1", thing("v1", json!({}))).await.unwrap();
    *plain.pointer_mut(spec).unwrap() = 7.into();
    world
        .merge(&DEFINITIONS, "v1/things.e.com", json!({"spec": {"versions": plain["spec"]["versions"]}}))
        .await
        .unwrap();
    let read = world.until(&THINGS, "t", |found| found.as_ref().unwrap()["spec"]["a"] == 7).await.unwrap();
    assert_eq!(read["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    // Now the default is stored, and so outlives its schema; what has it already is left alone.
    let kept = world.value(Verb::Update, &THINGS, "v1/t", read.clone().into()).await.unwrap();
    assert_ne!(kept["metadata"]["resourceVersion"], read["metadata"]["resourceVersion"]);
    assert_eq!(kept["metadata"]["generation"], 1);
    assert_eq!(world.value(Verb::Update, &THINGS, "v1/t", kept.clone().into()).await.unwrap(), kept);
    *plain.pointer_mut(spec).unwrap() = Value::Null;
    world
        .merge(&DEFINITIONS, "v1/things.e.com", json!({"spec": {"versions": plain["spec"]["versions"]}}))
        .await
        .unwrap();
    let fresh = |name: &str| json!({"apiVersion": "e.com/v1", "kind": "Thing", "metadata": {"name": name}, "spec": {}});
    for at in 0.. {
        let other = world.value(Verb::Create, &THINGS, "v1", fresh(&format!("f{at}")).into()).await.unwrap();
        if other["spec"] == json!({}) {
            break;
        }
    }
    assert_eq!(world.value(Verb::Get, &THINGS, "v1/t", Body::None).await.unwrap()["spec"], json!({"a": 7}));
}

/// Two versions that name the same by other words.
struct Renames;

#[async_trait::async_trait]
impl kedge_registry::Webhooks for Renames {
    async fn call(&self, _: &Value, _: Duration, review: &Value) -> Result<Value, String> {
        let request = &review["request"];
        let to = &request["desiredAPIVersion"];
        let (old, new) = if to == "e.com/v2" { ("hostPort", "host") } else { ("host", "hostPort") };
        let made = request["objects"].as_array().unwrap().iter().map(|object| {
            let mut object = object.clone();
            object["apiVersion"] = to.clone();
            object[new] = object.as_object_mut().unwrap().remove(old).unwrap_or_default();
            object
        });
        let made: Vec<Value> = made.collect();
        Ok(json!({"response": {"uid": request["uid"], "result": {"status": "Success"}, "convertedObjects": made}}))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_in_an_older_version_keeps_what_only_that_version_knows() {
    let options = kedge_registry::Options { webhooks: Some(Arc::new(Renames)), ..Default::default() };
    let world = World::with(options).await;
    let version = |name: &str, field: &str, stored: &str| {
        json!({"name": name, "served": true, "storage": name == stored,
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {field: {"type": "string"}}}}})
    };
    let versions = |stored: &str| json!([version("v1", "hostPort", stored), version("v2", "host", stored)]);
    let mut definition = things();
    definition["spec"]["versions"] = versions("v1");
    definition["spec"]["conversion"] = json!({"strategy": "Webhook",
        "webhook": {"clientConfig": {"url": "https://c.example"}, "conversionReviewVersions": ["v1"]}});
    world.define(definition).await;
    let body = |version: &str, name: &str, field: &str| -> Body {
        json!({"apiVersion": format!("e.com/{version}"), "kind": "Thing", "metadata": {"name": name}, field: "h:1"})
            .into()
    };
    world.value(Verb::Create, &THINGS, "v1", body("v1", "old", "hostPort")).await.unwrap();
    world.merge(&DEFINITIONS, "v1/things.e.com", json!({"spec": {"versions": versions("v2")}})).await.unwrap();
    let stored = |definition: &Result<Value, Status>| {
        definition.as_ref().is_ok_and(|d| d["status"]["storedVersions"] == json!(["v1", "v2"]))
    };
    world.settled("things.e.com", stored).await.unwrap();
    world.value(Verb::Create, &THINGS, "v2", body("v2", "new", "host")).await.unwrap();
    for (version, field) in [("v1", "hostPort"), ("v2", "host")] {
        let answer = world.call(Verb::List, &THINGS, version, Options::default(), Body::None).await.unwrap();
        let Payload::List { items, .. } = answer.payload else { panic!("no list") };
        let told: Vec<Value> = items.iter().map(|object| object.decode().unwrap()).collect();
        assert!(told.iter().all(|object| object[field] == "h:1"), "{told:?}");
        assert_eq!(told.len(), 2);
        for name in ["old", "new"] {
            let one = world.value(Verb::Get, &THINGS, &format!("{version}/{name}"), Body::None).await.unwrap();
            assert_eq!(one[field], "h:1", "{one}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_version_is_selected_by_its_own_fields() {
    let options = kedge_registry::Options { webhooks: Some(Arc::new(Renames)), ..Default::default() };
    let world = World::with(options).await;
    let version = |name: &str, field: &str| {
        json!({"name": name, "served": true, "storage": name == "v1", "selectableFields": [{"jsonPath": format!(".{field}")}],
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {field: {"type": "string"}}}}})
    };
    let mut definition = things();
    definition["spec"]["versions"] = json!([version("v1", "hostPort"), version("v2", "host")]);
    definition["spec"]["conversion"] = json!({"strategy": "Webhook",
        "webhook": {"clientConfig": {"url": "https://c.example"}, "conversionReviewVersions": ["v1"]}});
    world.define(definition).await;
    let chosen = |field: &str| Options { field_selector: Some(format!("{field}=h:1")), ..Options::default() };
    let watched = world.call(Verb::Watch, &THINGS, "v2", chosen("host"), Body::None).await.unwrap();
    let Payload::Watch(mut events) = watched.payload else { panic!("no watch") };
    for (name, host) in [("other", "h:2"), ("one", "h:1")] {
        let body = json!({"apiVersion": "e.com/v2", "kind": "Thing", "metadata": {"name": name}, "host": host});
        world.value(Verb::Create, &THINGS, "v2", body.into()).await.unwrap();
    }
    for (version, field) in [("v1", "hostPort"), ("v2", "host")] {
        let answer = world.call(Verb::List, &THINGS, version, chosen(field), Body::None).await.unwrap();
        let Payload::List { items, .. } = answer.payload else { panic!("no list") };
        assert_eq!(items.iter().map(|o| &*o.key.name).collect::<Vec<_>>(), ["one"], "{version}");
    }
    let Some(Ok(WatchEvent::Object(change))) = events.next().await else { panic!("no event") };
    assert_eq!(&*change.key.name, "one");
    let gone = world.call(Verb::DeleteCollection, &THINGS, "v2", chosen("host"), Body::None).await;
    assert!(gone.is_ok(), "{gone:?}");
    let Some(Ok(WatchEvent::Object(change))) = events.next().await else { panic!("no event") };
    assert!(change.after.is_none());
    assert!(world.value(Verb::Get, &THINGS, "v1/other", Body::None).await.is_ok());
}

/// Does not answer while the test runs.
struct Hangs(tokio::sync::watch::Receiver<bool>);

#[async_trait::async_trait]
impl kedge_registry::Webhooks for Hangs {
    async fn call(&self, _: &Value, _: Duration, _: &Value) -> Result<Value, String> {
        let _ = self.0.clone().wait_for(|over| *over).await;
        Err("over".to_owned())
    }
}

/// On one thread: whoever waits for the webhook leaves it to others.
#[tokio::test]
async fn a_webhook_that_never_answers_holds_up_its_own_definition_alone() {
    let (over, hangs) = tokio::sync::watch::channel(false);
    let options = kedge_registry::Options { webhooks: Some(Arc::new(Hangs(hangs))), ..Default::default() };
    let world = Arc::new(World::with(options).await);
    let mut definition = things();
    definition["spec"]["conversion"] = json!({"strategy": "Webhook",
        "webhook": {"clientConfig": {"url": "https://c.example"}, "conversionReviewVersions": ["v1"]}});
    world.define(definition.clone()).await;
    world.value(Verb::Create, &THINGS, "v1", thing("v1", json!({}))).await.unwrap();
    let readers = (0..50).map(|_| {
        let world = Arc::clone(&world);
        tokio::spawn(async move { world.value(Verb::Get, &THINGS, "v2/t", Body::None).await })
    });
    let readers: Vec<_> = readers.collect();
    let mut versions = definition["spec"]["versions"].clone();
    versions[0]["storage"] = false.into();
    versions[1]["storage"] = true.into();
    world.merge(&DEFINITIONS, "v1/things.e.com", json!({"spec": {"versions": versions}})).await.unwrap();
    world.value(Verb::Delete, &DEFINITIONS, "v1/things.e.com", Body::None).await.unwrap();
    let mut other = things();
    other["metadata"]["name"] = "others.e.com".into();
    other["spec"]["names"] = json!({"plural": "others", "kind": "Other"});
    world.define(other).await;
    world.value(Verb::Delete, &DEFINITIONS, "v1/others.e.com", Body::None).await.unwrap();
    assert!(world.settled("others.e.com", Result::is_err).await.is_err());
    assert!(world.value(Verb::Get, &DEFINITIONS, "v1/things.e.com", Body::None).await.is_ok());
    assert!(readers.iter().all(|reader| !reader.is_finished()));
    over.send(true).unwrap();
    for reader in readers {
        let told = reader.await.unwrap().unwrap_err().message;
        assert_eq!(told, "conversion webhook for e.com/v1, Kind=Thing failed: over");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_owns_what_is_not_forgotten_because_a_webhook_fails() {
    let (over, hangs) = tokio::sync::watch::channel(false);
    let options = kedge_registry::Options { webhooks: Some(Arc::new(Hangs(hangs))), ..Default::default() };
    let world = World::with(options).await;
    let mut definition = things();
    definition["spec"]["conversion"] = json!({"strategy": "Webhook",
        "webhook": {"clientConfig": {"url": "https://c.example"}, "conversionReviewVersions": ["v1"]}});
    world.define(definition).await;
    let made = world.value(Verb::Create, &THINGS, "v1", thing("v1", json!({"a": 2}))).await.unwrap();
    let mut owners = made["metadata"]["managedFields"].clone();
    owners[0]["apiVersion"] = "e.com/v2".into();
    over.send(true).unwrap();
    let patch = json!({"metadata": {"managedFields": owners}, "spec": {"a": 3}});
    let failed = world.merge(&THINGS, "v1/t", patch).await.unwrap_err();
    assert_eq!(failed.message, "conversion webhook for e.com/v1, Kind=Thing failed: over");
    assert_eq!(world.value(Verb::Get, &THINGS, "v1/t", Body::None).await.unwrap(), made);
}
