//! Creating, changing, deleting.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use kedge_api::request::{Body, Options, PatchType, Payload};
use kedge_api::resource::known;
use kedge_api::{GroupResource, Key, Object, Reason, Revision, Verb};
use kedge_registry::Registry;
use kedge_store::{Commit, Error as StoreError, Event, Expect, Listing, Memory, Range, Store, Summary, Write};
use kedge_watch::Cache;
use serde_json::json;

use crate::world::{At, World, at, least, revision, value};

#[tokio::test]
async fn namespaces_guard_their_content() {
    let world = World::new().await;
    let body = || json!({"metadata": {"name": "c"}});
    let missing = world.create(&known::CONFIG_MAPS, "nowhere", body()).await.unwrap_err();
    assert_eq!(missing.message, "namespaces \"nowhere\" not found");
    world.create(&known::NAMESPACES, "", json!({"metadata": {"name": "going"}})).await.unwrap();
    world.delete(&known::NAMESPACES, "", "going", json!({})).await.unwrap();
    let late = world.create(&known::CONFIG_MAPS, "going", body()).await.unwrap_err();
    assert!(late.is(Reason::Forbidden) && late.message.contains("because it is being terminated"), "{late}");
    let kept = world.delete(&known::NAMESPACES, "", "default", json!({})).await.unwrap_err();
    assert_eq!(kept.message, "namespaces \"default\" is forbidden: this namespace may not be deleted");
}

#[tokio::test]
async fn a_pod_gets_its_account_token_and_patience_and_is_bound_once() {
    let world = World::new().await;
    let mut pod = least("Pod");
    pod["metadata"] = json!({"generateName": "p-"});
    let made = world.create(&known::PODS, "default", pod).await.unwrap();
    let name = made["metadata"]["name"].as_str().unwrap().to_owned();
    assert!(name.starts_with("p-") && name.len() == 7, "{name}");
    assert_eq!(made["spec"]["serviceAccountName"], "default");
    let volume = made["spec"]["volumes"][0]["name"].as_str().unwrap();
    assert!(volume.starts_with("kube-api-access-"));
    assert_eq!(made["spec"]["containers"][0]["volumeMounts"][0]["name"], volume);
    assert_eq!(made["spec"]["tolerations"].as_array().unwrap().len(), 2);
    assert_eq!(made["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));

    let binding = || json!({"metadata": {"name": name}, "target": {"kind": "Node", "name": "n1"}});
    let place = At { subresource: "binding", ..at(&known::PODS, "default", &name) };
    world.value(Verb::Create, place.clone(), binding().into()).await.unwrap();
    let bound = world.get(&known::PODS, "default", &name).await.unwrap();
    assert_eq!(bound["spec"]["nodeName"], "n1");
    assert_eq!(bound["metadata"]["generation"], 1);
    let twice = world.value(Verb::Create, place, binding().into()).await.unwrap_err();
    assert!(twice.is(Reason::Conflict), "{twice}");

    // Scheduled: it waits for its agent, which lets it go.
    let dying = world.delete(&known::PODS, "default", &name, json!({})).await.unwrap();
    assert_eq!(dying["metadata"]["deletionGracePeriodSeconds"], 30);
    assert_eq!(dying["metadata"]["generation"], 2);
    let uid = made["metadata"]["uid"].clone();
    let wrong =
        world.delete(&known::PODS, "default", &name, json!({"preconditions": {"uid": "other"}})).await.unwrap_err();
    assert!(
        wrong.is(Reason::Conflict) && wrong.message.contains("Precondition failed: UID in precondition: other"),
        "{wrong}"
    );
    let last = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": uid}});
    world.delete(&known::PODS, "default", &name, last).await.unwrap();
    assert!(world.get(&known::PODS, "default", &name).await.is_err());
}

#[tokio::test]
async fn status_and_specification_are_written_through_their_own_doors() {
    let world = World::new().await;
    let mut object = least("Deployment");
    object["metadata"] = json!({"name": "d"});
    object["status"] = json!({"replicas": 7});
    let made = world.create(&known::DEPLOYMENTS, "default", object).await.unwrap();
    assert_eq!(made["status"], json!({}));
    let place = at(&known::DEPLOYMENTS, "default", "d");
    let patch = json!({"spec": {"replicas": 3}, "status": {"replicas": 3}});
    let main = world.merge(place.clone(), patch.clone()).await.unwrap();
    assert_eq!(
        (&main["spec"]["replicas"], &main["status"], &main["metadata"]["generation"]),
        (&json!(3), &json!({}), &json!(2))
    );
    let patch = json!({"spec": {"replicas": 9}, "status": {"replicas": 3}});
    let status = world.merge(At { subresource: "status", ..place.clone() }, patch).await.unwrap();
    assert_eq!(
        (&status["spec"]["replicas"], &status["status"]["replicas"], &status["metadata"]["generation"]),
        (&json!(3), &json!(3), &json!(2))
    );
    let scale = At { subresource: "scale", ..place.clone() };
    let scaled = world.merge(scale.clone(), json!({"spec": {"replicas": 5}})).await.unwrap();
    assert_eq!(scaled["spec"]["replicas"], 5);
    assert_eq!(scaled["status"], json!({"replicas": 3, "selector": "a=b"}));
    let refused = world.merge(scale, json!({"spec": {"replicas": -1}})).await.unwrap_err();
    assert_eq!(
        refused.message,
        "Scale.autoscaling \"d\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0"
    );
    assert_eq!(world.get(&known::DEPLOYMENTS, "default", "d").await.unwrap()["metadata"]["generation"], 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_and_ports_are_given_once_also_to_many_at_once_and_after_a_restart() {
    let world = Arc::new(World::new().await);
    let make = |world: Arc<World>, n: usize| async move {
        let object =
            json!({"metadata": {"name": format!("s{n}")}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
        let made = world.create(&known::SERVICES, "default", object).await.unwrap();
        (made["spec"]["clusterIP"].as_str().unwrap().to_owned(), made["spec"]["ports"][0]["nodePort"].as_i64().unwrap())
    };
    let mut given: Vec<_> = futures::future::join_all((0..20).map(|n| make(world.clone(), n))).await;
    // Another registry over the same store knows what is taken from nothing but the objects.
    let cache = Cache::start(world.store.clone()).await.unwrap();
    let registry = Arc::new(Registry::new(world.store.clone(), cache, kedge_registry::Options::default()));
    let after = Arc::new(World { registry, store: world.store.clone() });
    given.push(make(after.clone(), 20).await);
    let addresses: std::collections::BTreeSet<_> = given.iter().map(|(a, _)| a).collect();
    let ports: std::collections::BTreeSet<_> = given.iter().map(|(_, p)| p).collect();
    assert_eq!((addresses.len(), ports.len()), (21, 21));
    let (address, port) = given[0].clone();
    let object = json!({"metadata": {"name": "t"}, "spec": {"clusterIP": address, "ports": [{"port": 80}]}});
    let taken = after.create(&known::SERVICES, "default", object).await.unwrap_err();
    assert!(taken.message.contains("provided IP is already allocated"), "{taken}");
    let object =
        json!({"metadata": {"name": "t"}, "spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]}});
    let taken = after.create(&known::SERVICES, "default", object).await.unwrap_err();
    assert!(taken.message.contains("provided port is already allocated"), "{taken}");
    after.delete(&known::SERVICES, "default", "s0", json!({})).await.unwrap();
    let object = json!({"metadata": {"name": "t"}, "spec": {"clusterIP": address, "ports": [{"port": 80}]}});
    after.create(&known::SERVICES, "default", object).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn patches_at_once_all_take_effect() {
    let world = Arc::new(World::new().await);
    world.create(&known::CONFIG_MAPS, "default", json!({"metadata": {"name": "c"}})).await.unwrap();
    let patches = (0..8).map(|n| {
        let world = world.clone();
        async move {
            let patch = json!({"data": {format!("k{n}"): "v"}});
            // A patch that meets others too often is told to come again.
            while let Err(again) = world.merge(at(&known::CONFIG_MAPS, "default", "c"), patch.clone()).await {
                assert!(again.is(Reason::Conflict), "{again}");
            }
        }
    });
    futures::future::join_all(patches).await;
    let data = world.get(&known::CONFIG_MAPS, "default", "c").await.unwrap();
    assert_eq!(data["data"].as_object().unwrap().len(), 8);
}

#[tokio::test]
async fn a_dry_run_answers_and_leaves_no_trace() {
    let world = World::new().await;
    let dry = || Options { dry_run: vec!["All".into()], ..Options::default() };
    let before = revision(&world);
    let mut service = least("Service");
    service["metadata"] = json!({"name": "s"});
    let made = world.call(Verb::Create, at(&known::SERVICES, "default", ""), dry(), service.into()).await.unwrap();
    let made = value(made).unwrap();
    assert!(made["spec"]["clusterIP"].is_string() && made["metadata"].get("resourceVersion").is_none());
    world.call(Verb::Delete, at(&known::NAMESPACES, "", "kube-node-lease"), dry(), Body::None).await.unwrap();
    assert_eq!(revision(&world), before);
    let wrong = Options { dry_run: vec!["Nope".into()], ..Options::default() };
    let refused =
        world.call(Verb::Create, at(&known::CONFIG_MAPS, "default", ""), wrong, json!({}).into()).await.unwrap_err();
    assert_eq!(
        refused.message,
        "CreateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"Nope\"]: supported values: \"All\""
    );
}

#[tokio::test]
async fn unknown_fields_are_warned_of_refused_or_ignored_as_asked() {
    let world = World::new().await;
    let call = async |mode: &str, name: &str| {
        let options = Options { field_validation: Some(mode.into()), ..Options::default() };
        let body = json!({"metadata": {"name": name, "labls": {}}, "data": {"k": "v"}, "nope": 1});
        world.call(Verb::Create, at(&known::CONFIG_MAPS, "default", ""), options, body.into()).await
    };
    let refused = call("Strict", "a").await.unwrap_err();
    assert_eq!(
        refused.message,
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"metadata.labls\", unknown field \"nope\""
    );
    let warned = call("Warn", "b").await.unwrap();
    assert_eq!(warned.warnings, ["unknown field \"metadata.labls\"", "unknown field \"nope\""]);
    assert!(value(warned).unwrap().get("nope").is_none());
    assert!(call("Ignore", "c").await.unwrap().warnings.is_empty());
}

#[tokio::test]
async fn both_faces_of_an_event_show_one_object() {
    let world = World::new().await;
    let newer = GroupResource::of("events.k8s.io", "events");
    let event = json!({"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"}, "message": "m", "source": {"component": "c"}});
    world.create(&known::EVENTS, "default", event).await.unwrap();
    let shown = world.get(&newer, "default", "e").await.unwrap();
    assert_eq!((&shown["note"], &shown["regarding"]["name"]), (&json!("m"), &json!("p")));
    let patched = world.merge(at(&newer, "default", "e"), json!({"metadata": {"labels": {"a": "b"}}})).await;
    // The newer form demands a time only of events that are made through it.
    assert_eq!(patched.unwrap()["metadata"]["labels"]["a"], "b");
    let told = json!({"metadata": {"name": "n"}, "regarding": {"kind": "Pod", "namespace": "default", "name": "q"}, "type": "Normal", "reason": "r",
        "action": "a", "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "c.io/c", "reportingInstance": "i"});
    world.create(&newer, "default", told).await.unwrap();
    // Each face has names of its own for what events are chosen by.
    for (face, selector, found) in [
        (&known::EVENTS, "involvedObject.name=p,source=c", Some(1)),
        (&known::EVENTS, "reportingComponent=c.io/c", Some(1)),
        (&known::EVENTS, "regarding.name=p", None),
        (&newer, "regarding.name=q,reportingController=c.io/c,type=Normal", Some(1)),
        (&newer, "reportingController=other", Some(0)),
        (&newer, "involvedObject.name=p", None),
    ] {
        let select = Options { field_selector: Some(selector.into()), ..Options::default() };
        let answer = world.call(Verb::List, at(face, "default", ""), select, Body::None).await;
        let items = answer.ok().map(|answer| match answer.payload {
            Payload::List { items, .. } => items.len(),
            other => panic!("{other:?}"),
        });
        assert_eq!(items, found, "{face} {selector}");
    }
    world.delete(&newer, "default", "e", json!({})).await.unwrap();
    assert!(world.get(&known::EVENTS, "default", "e").await.is_err());
}

/// A store whose pods are deleted at once by an agent that sees that no time is left.
struct Hasty(Arc<dyn Store>);

#[async_trait]
impl Store for Hasty {
    async fn get(&self, key: &Key) -> Result<Option<Arc<Object>>, StoreError> {
        self.0.get(key).await
    }

    async fn list(&self, range: &Range) -> Result<Listing, StoreError> {
        self.0.list(range).await
    }

    async fn commit(&self, expect: Expect, write: Write) -> Result<Commit, StoreError> {
        let commit = self.0.commit(expect, write).await?;
        let gone = commit.object.as_ref().filter(|object| object.key.resource == known::PODS && object.is_deleting());
        if let Some(object) = gone {
            self.0.commit(Expect::Revision(object.revision), Write::Delete(object.key.clone())).await?;
        }
        Ok(commit)
    }

    async fn watch(&self, after: Revision) -> Result<BoxStream<'static, Event>, StoreError> {
        self.0.watch(after).await
    }

    async fn snapshot(&self, to: &Path) -> Result<Summary, StoreError> {
        self.0.snapshot(to).await
    }

    async fn check(&self) -> Result<Summary, StoreError> {
        self.0.check().await
    }
}

#[tokio::test]
async fn who_deletes_a_finished_pod_is_not_told_that_its_agent_was_quicker() {
    let world = World::over(Arc::new(Hasty(Arc::new(Memory::new())))).await;
    let mut pod = least("Pod");
    pod["metadata"] = json!({"name": "done"});
    let made = world.create(&known::PODS, "default", pod).await.unwrap();
    let status = Body::Patch(PatchType::Merge, json!({"status": {"phase": "Succeeded"}}));
    let place = At { subresource: "status", ..at(&known::PODS, "default", "done") };
    world.value(Verb::Patch, place, status).await.unwrap();
    let last = world.delete(&known::PODS, "default", "done", json!({"gracePeriodSeconds": 1})).await.unwrap();
    assert_eq!(last["metadata"]["uid"], made["metadata"]["uid"]);
    let again = world.delete(&known::PODS, "default", "done", json!({})).await.unwrap_err();
    assert!(again.is(Reason::NotFound), "{again}");
}
