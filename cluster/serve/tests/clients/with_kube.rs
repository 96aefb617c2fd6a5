//! kube, which Rust's operators are written with: a kind from a type, what it refuses, apply and its conflicts, watches that find their way
//! back, and a controller of what it owns.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams, ValidationDirective};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{GroupVersionKind, Status};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::finalizer::{self, finalizer};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Config, CustomResource, CustomResourceExt, Resource, ResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::World;

#[derive(CustomResource, Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[kube(group = "harbour.example.com", version = "v1", kind = "Quay", namespaced, status = "QuayStatus")]
#[kube(shortname = "qy", selectable = ".spec.side")]
#[kube(scale(spec_replicas_path = ".spec.berths", status_replicas_path = ".status.ready"))]
#[kube(validation = kube::core::Rule::new("self.spec.side != 'west' || self.spec.berths < 5").message("the west is shallow"))]
struct QuaySpec {
    #[schemars(range(min = 1, max = 8))]
    berths: i32,
    #[serde(default = "east")]
    side: String,
    crane: Option<String>,
}

fn east() -> String {
    "east".to_owned()
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
struct QuayStatus {
    ready: i32,
}

async fn client(world: &World) -> Client {
    let text = std::fs::read_to_string(&world.config).unwrap();
    let (kubeconfig, options) = (Kubeconfig::from_yaml(&text).unwrap(), KubeConfigOptions::default());
    Client::try_from(Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap()).unwrap()
}

/// The kind, once it is served.
async fn quays(client: &Client) -> Api<Quay> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let apply = PatchParams::apply("harbour").force();
    definitions.patch(Quay::crd_name(), &apply, &Patch::Apply(Quay::crd())).await.unwrap();
    await_condition(definitions, Quay::crd_name(), conditions::is_crd_established()).await.unwrap();
    Api::default_namespaced(client.clone())
}

fn quay(berths: i32, side: &str) -> Quay {
    Quay::new("first", QuaySpec { berths, side: side.to_owned(), crane: None })
}

fn refusal<T: std::fmt::Debug>(result: kube::Result<T>) -> Box<Status> {
    match result {
        Err(kube::Error::Api(status)) => status,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_from_a_type() {
    let world = World::start().await;
    let client = client(&world).await;
    let quays = quays(&client).await;
    let post = PostParams::default();

    let refused = refusal(quays.create(&post, &quay(9, "east")).await);
    let fields: Vec<_> = refused.details.iter().flat_map(|details| &details.causes).map(|c| &*c.field).collect();
    assert!(refused.code == 422 && refused.is_invalid() && fields == ["spec.berths"], "{refused:?}");
    let refused = refusal(quays.create(&post, &quay(6, "west")).await);
    assert!(refused.message.contains("the west is shallow"), "{refused:?}");
    assert!(quays.get_opt("first").await.unwrap().is_none());

    let dry = PostParams { dry_run: true, ..PostParams::default() };
    quays.create(&dry, &quay(2, "west")).await.unwrap();
    assert!(quays.get_opt("first").await.unwrap().is_none());
    let made = quays.create(&post, &quay(2, "west")).await.unwrap();
    assert_eq!((made.metadata.generation, made.status.is_none()), (Some(1), true));
    assert!(refusal(quays.create(&post, &quay(2, "west")).await).is_already_exists());

    // What comes second must see what came first.
    let mut next = made.clone();
    next.spec.berths = 3;
    let written = quays.replace("first", &post, &next).await.unwrap();
    assert_eq!(written.metadata.generation, Some(2));
    assert!(refusal(quays.replace("first", &post, &next).await).is_conflict());
    next = written;
    next.status = Some(QuayStatus { ready: 2 });
    let told = quays.replace_status("first", &post, &next).await.unwrap();
    assert_eq!((told.metadata.generation, told.status.unwrap().ready), (Some(2), 2));
    let four = Patch::Merge(json!({"spec": {"replicas": 4}}));
    let scale = quays.patch_scale("first", &PatchParams::default(), &four).await.unwrap();
    assert_eq!((scale.spec.unwrap().replicas, scale.status.unwrap().replicas), (Some(4), 2));

    let selected = async |fields: &str| quays.list_metadata(&ListParams::default().fields(fields)).await.unwrap();
    let west = selected("spec.side=west").await;
    assert_eq!((west.items.len(), west.types.kind.as_str()), (1, "PartialObjectMetadataList"));
    assert!(selected("spec.side=east").await.items.is_empty());
    // Into a kind whose objects are anything, as programs have it that know no types.
    let kind = GroupVersionKind::gvk("harbour.example.com", "v1", "Quay");
    let any = kube::discovery::pinned_kind(&client, &kind).await.unwrap();
    let any: Api<kube::api::DynamicObject> = Api::default_namespaced_with(client.clone(), &any.0);
    assert_eq!(any.get("first").await.unwrap().data["spec"]["berths"], 4);
    let unknown = json!({"spec": {"keel": true}});
    let strict = PatchParams { field_validation: Some(ValidationDirective::Strict), ..PatchParams::default() };
    let refused = refusal(quays.patch("first", &strict, &Patch::Merge(unknown)).await);
    assert!(refused.message.contains("unknown field \"spec.keel\""), "{refused:?}");
    quays.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
    await_condition(quays, "first", |gone: Option<&Quay>| gone.is_none()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn apply_has_conflicts_and_force() {
    let world = World::start().await;
    let client = client(&world).await;
    let quays = quays(&client).await;
    let as_json = |spec: serde_json::Value| {
        let (api_version, kind) = (Quay::api_version(&()), Quay::kind(&()));
        Patch::Apply(json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "first"}, "spec": spec}))
    };
    let (mason, smith) = (PatchParams::apply("mason"), PatchParams::apply("smith"));
    quays.patch("first", &mason, &as_json(json!({"berths": 2, "side": "west"}))).await.unwrap();
    quays.patch("first", &smith, &as_json(json!({"crane": "old"}))).await.unwrap();
    let refused = refusal(quays.patch("first", &smith, &as_json(json!({"crane": "old", "berths": 3}))).await);
    let causes = &refused.details.as_ref().unwrap().causes;
    assert!(refused.is_conflict() && causes.len() == 1, "{refused:?}");
    let cause = &causes[0];
    assert_eq!((&*cause.reason, &*cause.field), ("FieldManagerConflict", ".spec.berths"));
    assert!(cause.message.contains("conflict with \"mason\""), "{cause:?}");

    let taken = quays.patch("first", &smith.clone().force(), &as_json(json!({"crane": "old", "berths": 3}))).await;
    assert_eq!(taken.unwrap().spec.berths, 3);
    assert!(refusal(quays.patch("first", &mason, &as_json(json!({"berths": 2, "side": "west"}))).await).is_conflict());
    // Who no longer says it no longer has it, and what nobody has goes.
    quays.patch("first", &mason, &as_json(json!({"side": "west"}))).await.unwrap();
    let left = quays.patch("first", &smith, &as_json(json!({"berths": 3}))).await.unwrap();
    assert_eq!((left.spec.berths, &*left.spec.side, left.spec.crane.as_deref()), (3, "west", None));
    let owners: Vec<_> = left.managed_fields().iter().map(|entry| entry.manager.as_deref().unwrap()).collect();
    assert_eq!(owners, ["mason", "smith"]);
}

fn map(name: &str, text: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        data: Some(BTreeMap::from([("text".to_owned(), text.to_owned())])),
        ..ConfigMap::default()
    }
}

/// What a watcher's events amount to.
#[derive(Default)]
struct Seen {
    now: BTreeMap<String, String>,
    listed: BTreeMap<String, String>,
    lists: usize,
    expired: usize,
}

impl Seen {
    fn take(&mut self, event: Result<Event<ConfigMap>, watcher::Error>) {
        let pair = |map: ConfigMap| (map.name_any(), map.data.unwrap_or_default().remove("text").unwrap_or_default());
        match event {
            Ok(Event::Init) => self.listed.clear(),
            Ok(Event::InitApply(map)) => self.listed.extend([pair(map)]),
            Ok(Event::InitDone) => {
                self.lists += 1;
                self.now = std::mem::take(&mut self.listed);
            }
            Ok(Event::Apply(map)) => self.now.extend([pair(map)]),
            Ok(Event::Delete(map)) => drop(self.now.remove(&map.name_any())),
            Err(watcher::Error::WatchError(status)) if status.code == 410 => self.expired += 1,
            Err(error) => panic!("{error}"),
        }
    }

    async fn until(
        &mut self,
        events: &mut (impl Stream<Item = Result<Event<ConfigMap>, watcher::Error>> + Unpin),
        done: impl Fn(&Self) -> bool,
    ) {
        while !done(self) {
            self.take(events.next().await.unwrap());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_lists_in_pages_and_comes_back_after_410() {
    a_watcher_comes_back(watcher::Config { page_size: Some(3), ..watcher::Config::default() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_streams_its_list_and_comes_back_after_410() {
    a_watcher_comes_back(watcher::Config::default().streaming_lists()).await;
}

async fn a_watcher_comes_back(config: watcher::Config) {
    let world = World::start().await;
    let (writer, reader) = (client(&world).await, client(&world).await);
    let maps: Api<ConfigMap> = Api::namespaced(writer, "kube-public");
    let post = PostParams::default();
    for n in 0..10 {
        maps.create(&post, &map(&format!("m{n}"), "old")).await.unwrap();
    }
    let mut events = pin!(watcher(Api::<ConfigMap>::namespaced(reader, "kube-public"), config));
    let mut seen = Seen::default();
    seen.until(&mut events, |seen| seen.lists == 1).await;
    assert_eq!((seen.now.len(), seen.expired), (10, 0));
    maps.delete("m3", &DeleteParams::default()).await.unwrap();
    maps.replace("m4", &post, &map("m4", "new")).await.unwrap();
    seen.until(&mut events, |seen| seen.now["m4"] == "new").await;
    assert_eq!((seen.now.len(), seen.lists), (9, 1));

    // More than history and all buffers hold, while nobody reads.
    let large = "x".repeat(64 << 10);
    for n in 0..300 {
        maps.replace("m5", &post, &map("m5", &format!("{n} {large}"))).await.unwrap();
    }
    maps.delete("m6", &DeleteParams::default()).await.unwrap();
    maps.create(&post, &map("last", "made")).await.unwrap();
    seen.until(&mut events, |seen| seen.now.contains_key("last")).await;
    assert_eq!((seen.expired, seen.lists), (1, 2));
    let listed = maps.list(&ListParams::default()).await.unwrap();
    let listed: BTreeMap<_, _> = listed.into_iter().map(|m| (m.name_any(), m.data.unwrap()["text"].clone())).collect();
    assert!(seen.now == listed, "{:?}, {:?}", seen.now.keys(), listed.keys());
}

struct Harbour {
    client: Client,
}

type Failed = finalizer::Error<kube::Error>;

/// Each quay has a map that says how many berths it has, and its status says the same.
async fn reconcile(quay: Arc<Quay>, harbour: Arc<Harbour>) -> Result<Action, Failed> {
    let namespace = quay.namespace().unwrap();
    let quays: Api<Quay> = Api::namespaced(harbour.client.clone(), &namespace);
    let maps: Api<ConfigMap> = Api::namespaced(harbour.client.clone(), &namespace);
    let (apply, own) = (PatchParams::apply("harbour").force(), "harbour.example.com/emptied");
    finalizer(&quays, own, quay, async |event| match event {
        finalizer::Event::Apply(quay) => {
            let mut plan = map(&quay.name_any(), &quay.spec.berths.to_string());
            plan.metadata.owner_references = quay.controller_owner_ref(&()).map(|owner| vec![owner]);
            maps.patch(&quay.name_any(), &apply, &Patch::Apply(plan)).await?;
            let status = json!({"apiVersion": Quay::api_version(&()), "kind": Quay::kind(&()), "status": {"ready": quay.spec.berths}});
            quays.patch_status(&quay.name_any(), &apply, &Patch::Apply(status)).await?;
            Ok(Action::await_change())
        }
        finalizer::Event::Cleanup(quay) => {
            maps.delete(&quay.name_any(), &DeleteParams::default()).await?;
            Ok(Action::await_change())
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_keeps_what_it_owns() {
    let world = World::start().await;
    let client = client(&world).await;
    let quays = quays(&client).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let controller = Controller::new(quays.clone(), watcher::Config::default())
        .owns(maps.clone(), watcher::Config::default())
        .run(reconcile, |_, _: &Failed, _| Action::requeue(Duration::from_millis(100)), Arc::new(Harbour { client }));
    let running = tokio::spawn(controller.for_each(|_| std::future::ready(())));
    let says = |text: &'static str| {
        move |map: Option<&ConfigMap>| map.is_some_and(|m| m.data.as_ref().unwrap()["text"] == text)
    };

    quays.create(&PostParams::default(), &quay(2, "east")).await.unwrap();
    let first = await_condition(maps.clone(), "first", says("2")).await.unwrap().unwrap();
    let ready =
        |berths| move |quay: Option<&Quay>| quay.and_then(|q| q.status.as_ref()).is_some_and(|s| s.ready == berths);
    let parent = await_condition(quays.clone(), "first", ready(2)).await.unwrap().unwrap();
    assert_eq!(first.owner_references()[0].uid, parent.uid().unwrap());
    // What is changed is changed back, and what is taken away is made again.
    let stranger = Patch::Merge(json!({"data": {"text": "0"}}));
    maps.patch("first", &PatchParams::default(), &stranger).await.unwrap();
    await_condition(maps.clone(), "first", says("2")).await.unwrap();
    maps.delete("first", &DeleteParams::default()).await.unwrap();
    let again = move |map: Option<&ConfigMap>| map.is_some_and(|m| m.uid() != first.uid());
    await_condition(maps.clone(), "first", again).await.unwrap();
    let more = Patch::Merge(json!({"spec": {"berths": 5}}));
    quays.patch("first", &PatchParams::default(), &more).await.unwrap();
    await_condition(maps.clone(), "first", says("5")).await.unwrap();
    await_condition(quays.clone(), "first", ready(5)).await.unwrap();

    quays.delete("first", &DeleteParams::default()).await.unwrap();
    await_condition(quays, "first", |quay: Option<&Quay>| quay.is_none()).await.unwrap();
    assert!(maps.get_opt("first").await.unwrap().is_none(), "its map went first");
    running.abort();
}
