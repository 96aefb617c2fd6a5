//! The verbs over the whole table, against the memory store: every kind lives its life; lists, watches and deletions keep their promises.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests and their helpers")]

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt as _;
use kedge_api::client::User;
use kedge_api::request::{Answer, Body, Options, PatchType, Payload, Request, Target, WatchEvent};
use kedge_api::resource::known;
use kedge_api::{GroupResource, Reason, Revision, Status, Verb};
use kedge_registry::{Registry, bootstrap};
use kedge_store::{Memory, Store};
use kedge_watch::Cache;
use proptest::prelude::*;
use serde_json::{Value, json};

struct World {
    registry: Arc<Registry>,
    store: Arc<dyn Store>,
}

#[derive(Clone)]
struct At<'a> {
    resource: GroupResource,
    /// Empty: the preferred one.
    version: &'a str,
    namespace: &'a str,
    name: &'a str,
    subresource: &'a str,
}

fn at<'a>(resource: &GroupResource, namespace: &'a str, name: &'a str) -> At<'a> {
    At { resource: resource.clone(), version: "", namespace, name, subresource: "" }
}

impl World {
    async fn new() -> Self {
        let store: Arc<dyn Store> = Arc::new(Memory::new());
        let cache = Cache::start(store.clone()).await.unwrap();
        let registry = Arc::new(Registry::new(store.clone(), cache, kedge_registry::Options::default()));
        bootstrap(&registry).await.unwrap();
        let world = Self { registry, store };
        let account = json!({"metadata": {"name": "default"}});
        world.create(&known::SERVICE_ACCOUNTS, "default", account).await.unwrap();
        world
    }

    async fn call(&self, verb: Verb, at: At<'_>, options: Options, body: Body) -> Result<Answer, Status> {
        let target = Target {
            resource: at.resource,
            version: at.version.into(),
            namespace: at.namespace.into(),
            name: at.name.into(),
            subresource: at.subresource.into(),
        };
        let who = User::new("admin", &["system:masters"]);
        self.registry.carry_out(Request { who, verb, target, options, body }).await
    }

    async fn value(&self, verb: Verb, at: At<'_>, body: Body) -> Result<Value, Status> {
        value(self.call(verb, at, Options::default(), body).await?)
    }

    async fn create(&self, resource: &GroupResource, namespace: &str, object: Value) -> Result<Value, Status> {
        self.value(Verb::Create, at(resource, namespace, ""), object.into()).await
    }

    async fn get(&self, resource: &GroupResource, namespace: &str, name: &str) -> Result<Value, Status> {
        self.value(Verb::Get, at(resource, namespace, name), Body::None).await
    }

    async fn merge(&self, place: At<'_>, patch: Value) -> Result<Value, Status> {
        self.value(Verb::Patch, place, Body::Patch(PatchType::Merge, patch)).await
    }

    async fn delete(
        &self,
        resource: &GroupResource,
        namespace: &str,
        name: &str,
        wish: Value,
    ) -> Result<Value, Status> {
        self.value(Verb::Delete, at(resource, namespace, name), wish.into()).await
    }
}

fn value(answer: Answer) -> Result<Value, Status> {
    match answer.payload {
        Payload::Stored(object) => object.decode(),
        Payload::Value(value) => Ok(value),
        other => panic!("{other:?}"),
    }
}

/// A certificate request of `CN=joe, O=team`.
const REQUEST: &str = concat!(
    "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlIWU1IOENBUUF3SFRFTU1Bb0dBMVVFQXd3RGFtOWxNUTB3Q3dZRFZRUUtEQVIw",
    "WldGdE1Ga3dFd1lIS29aSQp6ajBDQVFZSUtvWkl6ajBEQVFjRFFnQUV1N29lU3JaaUF1SElsVm9oeDJKdmpLdi9uM2F1M2pwcDFwR3VMMkVNCnRw",
    "WHkzQ0RoUmRRYTlRSGNKU01Nc0MzeHlueTNsdkJpZ0Y0TUJ0dEdHU1M2aWFBQU1Bb0dDQ3FHU000OUJBTUMKQTBrQU1FWUNJUUQxZU9MMkYrOTI1",
    "cVVZYXg1UVB5T2RMUE16emhCUGhlcDZnWE4vc2JWYlJ3SWhBSTVrUXAyVgp4YUIycHQvSnB0TStEZUhyMUgzWSs3K2Rua3B2K1d1TXJjMFQKLS0t",
    "LS1FTkQgQ0VSVElGSUNBVEUgUkVRVUVTVC0tLS0tCg=="
);

/// Which requests an admission policy is about.
fn matched() -> Value {
    let rule = json!({"apiGroups": ["g"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["foos"]});
    json!({ "resourceRules": [rule] })
}

/// The least that each kind can be made of.
fn least(kind: &str) -> Value {
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let workload = json!({"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}});
    match kind {
        "Pod" => json!({"spec": {"containers": [{"name": "c", "image": "i"}]}}),
        "Service" => json!({"spec": {"ports": [{"port": 80}]}}),
        "Deployment" | "ReplicaSet" | "DaemonSet" | "StatefulSet" => workload,
        "ReplicationController" => json!({"spec": {"template": template}}),
        "PodTemplate" => json!({"template": template}),
        "ControllerRevision" => json!({"revision": 1, "data": {}}),
        "CronJob" => {
            let template = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}});
            json!({"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": template}}}})
        }
        "HorizontalPodAutoscaler" => {
            json!({"spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}}})
        }
        "PersistentVolumeClaim" => {
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}})
        }
        "PersistentVolume" => {
            json!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}}})
        }
        "RuntimeClass" => json!({"handler": "h"}),
        "PriorityClass" => json!({"value": 1}),
        "StorageClass" => json!({"provisioner": "p"}),
        "CSIStorageCapacity" => json!({"storageClassName": "s"}),
        "VolumeAttributesClass" => json!({"driverName": "d", "parameters": {"a": "b"}}),
        "VolumeAttachment" => {
            json!({"spec": {"attacher": "a", "nodeName": "n", "source": {"persistentVolumeName": "v"}}})
        }
        "Job" => {
            json!({"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}})
        }
        "CertificateSigningRequest" => {
            json!({"spec": {"request": REQUEST, "signerName": "example.com/s", "usages": ["client auth"]}})
        }
        "FlowSchema" => json!({"spec": {"priorityLevelConfiguration": {"name": "exempt"}}}),
        "PriorityLevelConfiguration" => {
            json!({"spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}}})
        }
        "APIService" => {
            let service = json!({"name": "s", "namespace": "n"});
            json!({"spec": {"group": "example.com", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1, "service": service}})
        }
        "ResourceSlice" => {
            let pool = json!({"name": "p", "generation": 1, "resourceSliceCount": 1});
            json!({"spec": {"driver": "d.example.com", "nodeName": "n", "pool": pool, "devices": [{"name": "d"}]}})
        }
        "Ingress" => json!({"spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}}),
        "IngressClass" => json!({"spec": {"controller": "example.com/c"}}),
        "IPAddress" => json!({"spec": {"parentRef": {"resource": "services", "name": "s"}}}),
        "ServiceCIDR" => json!({"spec": {"cidrs": ["198.18.0.0/24"]}}),
        "ValidatingAdmissionPolicy" => {
            json!({"spec": {"matchConstraints": matched(), "validations": [{"expression": "true"}]}})
        }
        "MutatingAdmissionPolicy" => {
            let mutation = json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{}"}});
            json!({"spec": {"matchConstraints": matched(), "reinvocationPolicy": "Never", "mutations": [mutation]}})
        }
        "ValidatingAdmissionPolicyBinding" => json!({"spec": {"policyName": "p", "validationActions": ["Deny"]}}),
        "MutatingAdmissionPolicyBinding" => json!({"spec": {"policyName": "p"}}),
        "EndpointSlice" => json!({"addressType": "IPv4", "endpoints": []}),
        "Event" => {
            json!({"regarding": {"namespace": "default"}, "involvedObject": {"namespace": "default"}, "reason": "R", "note": "n",
            "type": "Normal", "action": "A", "reportingController": "e.com/c", "reportingInstance": "i", "eventTime": "2024-01-01T00:00:00.000001Z"})
        }
        "RoleBinding" | "ClusterRoleBinding" => json!({"roleRef": {"kind": "ClusterRole", "name": "r"}}),
        _ => json!({}),
    }
}

/// Some kinds' names mean something.
fn name_of(kind: &str) -> &'static str {
    match kind {
        "IPAddress" => "198.51.100.7",
        "APIService" => "v1.example.com",
        _ => "thing",
    }
}

#[tokio::test]
async fn every_kind_is_created_watched_updated_patched_and_deleted() {
    let world = World::new().await;
    let table = world.registry.table();
    assert_eq!(table.rows().len(), 62);
    // Definitions live another life: `custom.rs` has it.
    let watched = |row: &&Arc<kedge_registry::Row>| row.resource.verbs.contains(&Verb::Watch);
    for row in table.rows().filter(watched).filter(|row| row.resource.kind != "CustomResourceDefinition") {
        let id = &row.resource.id;
        assert_eq!(
            table.by_path(id.group.as_str(), &row.resource.version, id.resource.as_str()).unwrap().resource.id,
            *id
        );
        let namespace = if row.resource.namespaced { "default" } else { "" };
        let at = |id: &GroupResource, namespace, name| At { version: &row.resource.version, ..at(id, namespace, name) };
        let mut object = least(&row.resource.kind);
        let known = kedge_api::schema::get(&row.resource.schema).unwrap();
        object.as_object_mut().unwrap().retain(|field, _| known.field(field).is_some());
        let name = name_of(&row.resource.kind);
        object["metadata"] = json!({"name": name});

        let watch = Options { resource_version: Some(revision(&world)), ..Options::default() };
        let Payload::Watch(mut events) =
            world.call(Verb::Watch, at(id, namespace, ""), watch, Body::None).await.unwrap().payload
        else {
            panic!("{id}: no watch")
        };
        let create = || world.value(Verb::Create, at(id, namespace, ""), object.clone().into());
        let get = || world.value(Verb::Get, at(id, namespace, name), Body::None);
        let made = create().await.unwrap_or_else(|e| panic!("{id}: {e}"));
        assert_eq!(made["kind"], *row.resource.kind, "{id}");
        assert_eq!(made["apiVersion"], row.resource.api_version(), "{id}");
        assert!(made["metadata"]["uid"].is_string() && made["metadata"]["creationTimestamp"].is_string(), "{id}");
        let again = create().await.unwrap_err();
        assert!(again.is(Reason::AlreadyExists), "{id}: {again}");
        assert_eq!(get().await.unwrap(), made, "{id}");

        // A put of what was read changes nothing, and is no write.
        let same = world
            .value(Verb::Update, at(id, namespace, name), made.clone().into())
            .await
            .unwrap_or_else(|e| panic!("{id}: {e}"));
        assert_eq!(same, made, "{id}");
        let mut changed = made.clone();
        changed["metadata"]["annotations"] = json!({"n": "1"});
        let updated = world.value(Verb::Update, at(id, namespace, name), changed.clone().into()).await.unwrap();
        assert_eq!(updated["metadata"]["annotations"]["n"], "1", "{id}");
        let stale = world.value(Verb::Update, at(id, namespace, name), changed.into()).await.unwrap_err();
        assert!(stale.is(Reason::Conflict), "{id}: {stale}");
        for kind in [PatchType::Merge, PatchType::Strategic] {
            let patch = json!({"metadata": {"labels": {"p": format!("{kind:?}")}}});
            let patched = world.value(Verb::Patch, at(id, namespace, name), Body::Patch(kind, patch)).await.unwrap();
            assert_eq!(patched["metadata"]["labels"]["p"], format!("{kind:?}"), "{id}");
        }
        let patch = json!([{"op": "remove", "path": "/metadata/labels/p"}]);
        world.value(Verb::Patch, at(id, namespace, name), Body::Patch(PatchType::Json, patch)).await.unwrap();

        let wish = json!({"gracePeriodSeconds": 0, "propagationPolicy": "Background"});
        world.value(Verb::Delete, at(id, namespace, name), wish.into()).await.unwrap();
        // What protects it while it is used goes last.
        let protected = made["metadata"]["finalizers"].is_array();
        if protected {
            let patch = Body::Patch(PatchType::Merge, json!({"metadata": {"finalizers": null}}));
            world.value(Verb::Patch, at(id, namespace, name), patch).await.unwrap();
        }
        if row.resource.kind == "Namespace" {
            let mut done = get().await.unwrap();
            assert_eq!(done["status"]["phase"], "Terminating");
            done["spec"] = json!({});
            let finalize = At { subresource: "finalize", ..at(id, "", name) };
            world.value(Verb::Update, finalize, done.into()).await.unwrap();
        }
        let gone = get().await.unwrap_err();
        assert!(gone.is(Reason::NotFound), "{id}: {gone}");

        // The watch saw exactly the writes: created, updated, patched thrice, (marked and) deleted.
        let mut seen = Vec::new();
        while seen.last() != Some(&"deleted") {
            let WatchEvent::Object(change) = events.next().await.unwrap().unwrap() else { continue };
            let shown = change.after.clone().or(change.before.clone()).unwrap();
            assert_eq!(shown.decode::<Value>().unwrap()["apiVersion"], row.resource.api_version(), "{id}");
            assert_eq!(shown.meta.resource_version, Some(change.revision.to_string()), "{id}");
            seen.push(match (change.before.is_some(), change.after.is_some()) {
                (false, _) => "added",
                (true, true) => "modified",
                (true, false) => "deleted",
            });
        }
        // A pod is shown without grace before it goes.
        let marked = if protected || ["Namespace", "Pod"].contains(&&*row.resource.kind) { 5 } else { 4 };
        let mut expected = vec!["modified"; marked];
        expected.insert(0, "added");
        expected.push("deleted");
        assert_eq!(seen, expected, "{id}");
    }
}

fn revision(world: &World) -> String {
    world.registry.cache().snapshot().revision.to_string()
}

async fn page(world: &World, options: Options) -> Result<(Vec<Value>, Option<String>, Option<u64>, Revision), Status> {
    let answer = world.call(Verb::List, at(&known::CONFIG_MAPS, "", ""), options, Body::None).await?;
    let Payload::List { items, r#continue, remaining, revision, .. } = answer.payload else { panic!("no list") };
    Ok((items.iter().map(|o| o.decode().unwrap()).collect(), r#continue, remaining, revision))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// However it is cut into pages, and whatever is written between them, a list shows one moment.
    #[test]
    fn pages_together_are_the_whole_list(
        names in prop::collection::btree_set(("[ab]", "[a-d]{1,2}"), 0..12),
        limit in 1u64..5,
        selector in prop::option::of(Just("even=yes".to_owned())),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let world = World::new().await;
            for ns in ["a", "b"] {
                world.create(&known::NAMESPACES, "", json!({"metadata": {"name": ns}})).await.unwrap();
            }
            for (ns, name) in &names {
                let even = if name.len() == 2 { "yes" } else { "no" };
                let object = json!({"metadata": {"name": name, "labels": {"even": even}}});
                world.create(&known::CONFIG_MAPS, ns, object).await.unwrap();
            }
            let whole = page(&world, Options { label_selector: selector.clone(), ..Options::default() }).await.unwrap();
            let mut collected = Vec::new();
            let mut token = None;
            let mut rounds = 0;
            loop {
                let options = Options { limit: Some(limit), r#continue: token, label_selector: selector.clone(), ..Options::default() };
                let (items, next, remaining, revision) = page(&world, options).await.unwrap();
                assert!(items.len() as u64 <= limit);
                collected.extend(items);
                assert_eq!(revision, whole.3, "another moment");
                if selector.is_none() && next.is_some() {
                    assert_eq!(remaining, Some((whole.0.len() - collected.len()) as u64));
                }
                // Someone writes in between.
                rounds += 1;
                world.create(&known::CONFIG_MAPS, "a", json!({"metadata": {"name": format!("zz{rounds}"), "labels": {"even": "yes"}}})).await.unwrap();
                if let Some((ns, name)) = names.iter().nth(rounds) {
                    let _gone = world.delete(&known::CONFIG_MAPS, ns, name, json!({})).await;
                }
                match next {
                    Some(next) => token = Some(next),
                    None => break,
                }
            }
            assert_eq!(collected, whole.0);
        });
    }

    /// A watch with a selector, replayed onto a list with the same selector, gives the later list.
    #[test]
    fn a_selected_watch_replays_to_the_selected_list(
        writes in prop::collection::vec((0u8..4, prop::option::of(0u8..3)), 1..30),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let world = World::new().await;
            let selected = |extra: Options| Options { label_selector: Some("l in (0,1)".into()), ..extra };
            let from = revision(&world);
            let options = selected(Options { resource_version: Some(from), ..Options::default() });
            let Payload::Watch(mut events) = world.call(Verb::Watch, at(&known::CONFIG_MAPS, "default", ""), options, Body::None).await.unwrap().payload else {
                panic!("no watch")
            };
            for (n, label) in writes {
                let name = format!("c{n}");
                match label {
                    Some(label) => {
                        let body = json!({"metadata": {"name": name, "labels": {"l": label.to_string()}}});
                        if world.create(&known::CONFIG_MAPS, "default", body.clone()).await.is_err() {
                            world.merge(at(&known::CONFIG_MAPS, "default", &name), body).await.unwrap();
                        }
                    }
                    None => {
                        let _missing = world.delete(&known::CONFIG_MAPS, "default", &name, json!({})).await;
                    }
                }
            }
            let end = json!({"metadata": {"name": "end", "labels": {"l": "0"}}});
            world.create(&known::CONFIG_MAPS, "default", end).await.unwrap();
            let mut state = BTreeMap::new();
            while !state.contains_key("end") {
                let WatchEvent::Object(change) = events.next().await.unwrap().unwrap() else { continue };
                let name = change.key.name.to_string();
                assert_eq!(state.contains_key(&name), change.before.is_some(), "{name} came or went unseen");
                match change.after {
                    Some(object) => state.insert(name, object.decode::<Value>().unwrap()),
                    None => state.remove(&name),
                };
            }
            let (listed, ..) = page(&world, selected(Options::default())).await.unwrap();
            let listed: BTreeMap<_, _> = listed.into_iter().map(|o| (o["metadata"]["name"].as_str().unwrap().to_owned(), o)).collect();
            assert_eq!(state, listed);
        });
    }
}

#[tokio::test]
async fn a_continue_token_outlives_nothing_it_should_not() {
    let world = World::new().await;
    for n in 0..3 {
        world.create(&known::CONFIG_MAPS, "default", json!({"metadata": {"name": format!("c{n}")}})).await.unwrap();
    }
    let first = page(&world, Options { limit: Some(1), ..Options::default() }).await.unwrap();
    for n in 0..20 {
        world.create(&known::CONFIG_MAPS, "default", json!({"metadata": {"name": format!("d{n}")}})).await.unwrap();
        page(&world, Options { limit: Some(1), ..Options::default() }).await.unwrap();
    }
    let late = page(&world, Options { limit: Some(1), r#continue: first.1, ..Options::default() }).await.unwrap_err();
    assert!(late.is(Reason::Expired), "{late}");
    for bad in ["garbage", "e30", "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiIuLi8uLi9hIn0"] {
        let refused = page(&world, Options { r#continue: Some(bad.into()), ..Options::default() }).await.unwrap_err();
        assert!(refused.is(Reason::BadRequest), "{bad}: {refused}");
    }
}

#[tokio::test]
async fn initial_events_and_their_end_come_before_anything_new() {
    let world = World::new().await;
    world.create(&known::CONFIG_MAPS, "default", json!({"metadata": {"name": "old"}})).await.unwrap();
    let options = Options {
        send_initial_events: Some(true),
        resource_version_match: Some("NotOlderThan".into()),
        allow_watch_bookmarks: true,
        ..Options::default()
    };
    let Payload::Watch(mut events) =
        world.call(Verb::Watch, at(&known::CONFIG_MAPS, "default", ""), options, Body::None).await.unwrap().payload
    else {
        panic!("no watch")
    };
    world.create(&known::CONFIG_MAPS, "default", json!({"metadata": {"name": "new"}})).await.unwrap();
    let mut names = Vec::new();
    for _ in 0..3 {
        names.push(match events.next().await.unwrap().unwrap() {
            WatchEvent::Object(change) => change.key.name.to_string(),
            WatchEvent::Bookmark { initial_end, .. } => format!("bookmark {initial_end}"),
        });
    }
    assert_eq!(names, ["old", "bookmark true", "new"]);
}

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
    // The newer form demands an eventTime that this one has not.
    assert!(patched.unwrap_err().message.contains("eventTime: Required value"));
    let select = Options { field_selector: Some("involvedObject.name=p,source=c".into()), ..Options::default() };
    let answer = world.call(Verb::List, at(&known::EVENTS, "default", ""), select, Body::None).await.unwrap();
    let Payload::List { items, .. } = answer.payload else { panic!("no list") };
    assert_eq!(items.len(), 1);
    world.delete(&newer, "default", "e", json!({})).await.unwrap();
    assert!(world.get(&known::EVENTS, "default", "e").await.is_err());
}

/// Who owns what, as `manager operation subresource: top-level fields`.
fn owners(object: &Value) -> Vec<String> {
    let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    let text = |entry: &Value, name: &str| entry.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
    let shown = |entry: &Value| {
        let fields = entry.get("fieldsV1").and_then(Value::as_object).into_iter().flatten();
        let fields: Vec<_> = fields.map(|(name, _)| name.as_str()).collect();
        let [manager, operation, subresource] = ["manager", "operation", "subresource"].map(|name| text(entry, name));
        format!("{manager} {operation} {subresource}: {}", fields.join(" "))
    };
    let mut out: Vec<_> = entries.into_iter().flatten().map(shown).collect();
    out.sort();
    out
}

fn options(manager: &str) -> Options {
    Options { field_manager: Some(manager.into()), ..Options::default() }
}

#[tokio::test]
async fn every_door_notes_who_came_through_it() {
    let world = World::new().await;
    let place = at(&known::DEPLOYMENTS, "default", "d");
    let door = |subresource: &'static str| At { subresource, ..place.clone() };
    let mut config = least("Deployment");
    config["apiVersion"] = json!("apps/v1");
    config["kind"] = json!("Deployment");
    config["metadata"] = json!({"name": "d"});
    let apply = |config: &Value| Body::Patch(PatchType::Apply, config.clone());
    let merge = |patch: Value| Body::Patch(PatchType::Merge, patch);
    let call = async |at, manager: &str, body| value(world.call(Verb::Patch, at, options(manager), body).await?);

    let missing = call(door("status"), "c", apply(&config)).await.unwrap_err();
    assert_eq!(missing.reason, Reason::NotFound, "a status cannot be of nothing");
    let made = call(place.clone(), "a", apply(&config)).await.unwrap();
    assert_eq!(owners(&made), ["a Apply : f:spec"]);
    let again = call(place.clone(), "a", apply(&config)).await.unwrap();
    assert_eq!(again, made, "nothing changed, not even a time");

    call(door("status"), "c", merge(json!({"status": {"replicas": 1}, "spec": {"paused": true}}))).await.unwrap();
    call(door("scale"), "h", merge(json!({"spec": {"replicas": 3}}))).await.unwrap();
    let both =
        call(place.clone(), "u", merge(json!({"metadata": {"labels": {"x": "y"}}, "status": {"replicas": 9}}))).await;
    let both = both.unwrap();
    assert_eq!(
        owners(&both),
        ["a Apply : f:spec", "c Update status: f:status", "h Update scale: f:spec", "u Update : f:metadata"]
    );
    assert_eq!((&both["spec"]["replicas"], &both["status"]["replicas"]), (&json!(3), &json!(1)));

    config["spec"]["replicas"] = json!(5);
    let refused = call(place.clone(), "a", apply(&config)).await.unwrap_err();
    assert_eq!(
        refused.message,
        "Apply failed with 1 conflict: conflict with \"h\" with subresource \"scale\" using apps/v1: .spec.replicas"
    );
    let forced = Options { force: Some(true), ..options("a") };
    let forced = value(world.call(Verb::Patch, place.clone(), forced, apply(&config)).await.unwrap()).unwrap();
    assert_eq!(owners(&forced), ["a Apply : f:spec", "c Update status: f:status", "u Update : f:metadata"]);

    let reset = merge(json!({"metadata": {"managedFields": [{}]}}));
    assert!(owners(&call(place, "u", reset).await.unwrap()).is_empty());
}

#[tokio::test]
async fn an_object_with_no_room_for_its_owners_is_kept_without() {
    let world = World::new().await;
    let place = at(&known::CONFIG_MAPS, "default", "c");
    let keys: serde_json::Map<String, Value> =
        (0..20_000).map(|n| (format!("key-{n:020}"), json!("x".repeat(25)))).collect();
    let object = json!({"metadata": {"name": "c"}, "data": keys});
    let made = world.create(&known::CONFIG_MAPS, "default", object).await.unwrap();
    assert!(owners(&made).is_empty(), "keys and owners together are larger than an object may be");
    let small = world.merge(place, json!({"data": null, "binaryData": {"k": "eA=="}})).await.unwrap();
    assert_eq!(owners(&small), ["unknown Update : f:binaryData"]);
}

#[tokio::test]
async fn a_watch_that_ends_soon_is_told_where_to_go_on() {
    let world = World::new().await;
    let options = Options { allow_watch_bookmarks: true, timeout_seconds: Some(3), ..Options::default() };
    let place = at(&known::CONFIG_MAPS, "default", "");
    let answer = world.call(Verb::Watch, place, options, Body::None).await.unwrap();
    let Payload::Watch(mut events) = answer.payload else { panic!("no watch") };
    let event = tokio::time::timeout(std::time::Duration::from_secs(3), events.next()).await.unwrap();
    let Some(Ok(WatchEvent::Bookmark { revision: at, initial_end: false })) = event else { panic!("{event:?}") };
    assert_eq!(at.to_string(), revision(&world));
}

#[tokio::test]
async fn any_state_is_listed_whole() {
    let world = World::new().await;
    let any = Options { resource_version: Some("0".into()), limit: Some(1), ..Options::default() };
    let at = At { resource: known::NAMESPACES, version: "", namespace: "", name: "", subresource: "" };
    let answer = world.call(Verb::List, at, any, Body::None).await.unwrap();
    let Payload::List { items, r#continue, .. } = answer.payload else { panic!("no list") };
    assert_eq!((items.len(), r#continue), (4, None));
}
