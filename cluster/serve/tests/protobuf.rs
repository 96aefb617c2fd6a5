//! A client that sends and accepts nothing but protobuf, with types that are not ours: made from Kubernetes' own `.proto` files by `k8s-pb`.
#![cfg(test)]

#[path = "support/client.rs"]
#[expect(dead_code, reason = "watches here are read as protobuf")]
mod client;
#[path = "support/server.rs"]
mod server;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::SocketAddr;

use client::{Client, Reply};
use k8s_pb::api::apps::v1 as apps;
use k8s_pb::api::autoscaling::v2 as autoscaling;
use k8s_pb::api::batch::v1 as batch;
use k8s_pb::api::coordination::v1 as coordination;
use k8s_pb::api::core::v1 as core;
use k8s_pb::api::networking::v1 as networking;
use k8s_pb::api::policy::v1 as policy;
use k8s_pb::api::rbac::v1 as rbac;
use k8s_pb::apimachinery::pkg::api::resource::Quantity;
use k8s_pb::apimachinery::pkg::apis::meta::v1::{
    DeleteOptions, LabelSelector, ListMeta, MicroTime, ObjectMeta, Status, WatchEvent,
};
use k8s_pb::apimachinery::pkg::runtime::{TypeMeta, Unknown};
use k8s_pb::apimachinery::pkg::util::intstr::IntOrString;
use k8s_pb::{Metadata, Resource};
use prost::Message;
use server::Server;

const MEDIA: &str = "application/vnd.kubernetes.protobuf";
const MAGIC: &[u8] = b"k8s\0";

/// Any kind's list.
#[derive(Clone, PartialEq, Message)]
struct List {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ListMeta>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    items: Vec<Vec<u8>>,
}

fn wrap(api_version: &str, kind: &str, object: &impl Message) -> Vec<u8> {
    let type_meta = TypeMeta { api_version: Some(api_version.into()), kind: Some(kind.into()) };
    let unknown = Unknown { type_meta: Some(type_meta), raw: Some(object.encode_to_vec()), ..Unknown::default() };
    [MAGIC, &unknown.encode_to_vec()].concat()
}

/// What is in an envelope, which must name the kind.
fn unwrap<T: Message + Default>(bytes: &[u8], kind: &str) -> T {
    let unknown = Unknown::decode(bytes.strip_prefix(MAGIC).unwrap()).unwrap();
    assert_eq!(unknown.type_meta.unwrap().kind.as_deref(), Some(kind));
    T::decode(unknown.raw.unwrap().as_slice()).unwrap()
}

fn meta(name: &str) -> Option<ObjectMeta> {
    let labels = BTreeMap::from([("app".to_owned(), "a".to_owned())]);
    Some(ObjectMeta { name: Some(name.into()), labels, ..ObjectMeta::default() })
}

async fn ask(client: &mut Client, method: &str, path: &str, kind: &str, body: &[u8]) -> Reply {
    let headers = [("accept", MEDIA), ("content-type", kind)].map(|(name, value)| (name.to_owned(), value.to_owned()));
    let reply = client.ask(method, path, &headers, body).await;
    let of = reply.headers.get("content-type").unwrap().to_str().unwrap();
    assert!(of.starts_with(MEDIA), "{method} {path} is answered as {of}");
    reply
}

/// The refusal of a request, which is protobuf as all else.
fn refused(reply: &Reply, code: u16, reason: &str) -> Status {
    let status: Status = unwrap(&reply.body, "Status");
    assert_eq!((reply.status, status.code, status.reason.as_deref()), (code, Some(code.into()), Some(reason)));
    assert_eq!(status.status.as_deref(), Some("Failure"));
    status
}

/// An object is made, read, listed, changed, patched and deleted, and all of it watched.
async fn life<T>(server: &Server, within: &str, mut made: T)
where
    T: Resource + Metadata<Ty = ObjectMeta> + Message + Default + Clone + PartialEq + Debug,
{
    let mut client = Client::admin(server);
    let root = if T::GROUP.is_empty() { "/api" } else { "/apis" };
    let all = format!("{root}/{}{within}/{}", T::API_VERSION, T::URL_PATH_SEGMENT);
    let one = format!("{all}/thing");
    *made.metadata_mut().unwrap() = meta("thing").unwrap();
    made.metadata_mut().unwrap().labels.insert("own".into(), "label".into());
    let body = wrap(T::API_VERSION, T::KIND, &made);

    let reply = ask(&mut client, "POST", &all, MEDIA, &body).await;
    assert_eq!(reply.status, 201, "{all}: {:?}", reply.body);
    let created: T = unwrap(&reply.body, T::KIND);
    let kept = created.metadata().unwrap();
    assert_eq!((kept.name.as_deref(), &kept.labels), (Some("thing"), &made.metadata().unwrap().labels));
    assert!(kept.uid.is_some() && kept.creation_timestamp.is_some());
    let revision = kept.resource_version.clone().unwrap();
    let twice = ask(&mut client, "POST", &all, MEDIA, &body).await;
    assert!(refused(&twice, 409, "AlreadyExists").message.unwrap().ends_with("\"thing\" already exists"));

    let read = ask(&mut client, "GET", &one, MEDIA, b"").await;
    assert_eq!(unwrap::<T>(&read.body, T::KIND), created);
    let listed: List = unwrap(&ask(&mut client, "GET", &all, MEDIA, b"").await.body, &format!("{}List", T::KIND));
    assert!(listed.metadata.unwrap().resource_version.is_some());
    assert!(listed.items.iter().any(|item| T::decode(item.as_slice()).unwrap() == created));

    let mut changed = created.clone();
    changed.metadata_mut().unwrap().labels.insert("b".into(), "c".into());
    let reply = ask(&mut client, "PUT", &one, MEDIA, &wrap(T::API_VERSION, T::KIND, &changed)).await;
    assert_eq!(reply.status, 200, "{one}: {:?}", reply.body);
    let updated: T = unwrap(&reply.body, T::KIND);
    assert_eq!(updated.metadata().unwrap().labels, changed.metadata().unwrap().labels);
    let mut stale = changed.clone();
    stale.metadata_mut().unwrap().labels.clear();
    let reply = ask(&mut client, "PUT", &one, MEDIA, &wrap(T::API_VERSION, T::KIND, &stale)).await;
    refused(&reply, 409, "Conflict");
    let patch = br#"{"metadata":{"labels":{"d":"e"}}}"#;
    let reply = ask(&mut client, "PATCH", &one, "application/merge-patch+json", patch).await;
    let patched: T = unwrap(&reply.body, T::KIND);
    assert_eq!(patched.metadata().unwrap().labels.len(), 4);

    // A job's pods would otherwise be orphaned by a collector first.
    let policy = Some("Background".to_owned());
    let wish = DeleteOptions { grace_period_seconds: Some(0), propagation_policy: policy, ..DeleteOptions::default() };
    let reply = ask(&mut client, "DELETE", &one, MEDIA, &wrap("v1", "DeleteOptions", &wish)).await;
    assert_eq!(reply.status, 200, "{one}: {:?}", reply.body);
    let gone = refused(&ask(&mut client, "GET", &one, MEDIA, b"").await, 404, "NotFound");
    assert_eq!(gone.details.unwrap().name.as_deref(), Some("thing"));

    let watch = format!("{all}?watch=true&resourceVersion={revision}&timeoutSeconds=1");
    let reply = ask(&mut client, "GET", &watch, MEDIA, b"").await;
    let seen: Vec<(String, T)> = events(&reply.body)
        .into_iter()
        .map(|event| (event.r#type.unwrap(), unwrap::<T>(&event.object.unwrap().raw.unwrap(), T::KIND)))
        .filter(|(_, object)| object.metadata().unwrap().name.as_deref() == Some("thing"))
        .collect();
    let kinds: Vec<&str> = seen.iter().map(|(kind, _)| kind.as_str()).collect();
    // A pod is marked before it goes, also where no time is left to it.
    let marked: &[&str] = if T::KIND == "Pod" { &["MODIFIED"] } else { &[] };
    assert_eq!(kinds, [&["MODIFIED", "MODIFIED"], marked, &["DELETED"]].concat(), "{all}");
    assert_eq!((&seen.first().unwrap().1, &seen.get(1).unwrap().1), (&updated, &patched));
}

/// Each with its length in front.
fn events(mut bytes: &[u8]) -> Vec<WatchEvent> {
    let mut events = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let (event, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        events.push(WatchEvent::decode(event).unwrap());
        bytes = rest;
    }
    events
}

fn selector() -> Option<LabelSelector> {
    let match_labels = BTreeMap::from([("app".to_owned(), "a".to_owned())]);
    Some(LabelSelector { match_labels, ..LabelSelector::default() })
}

fn pod(restart: Option<&str>) -> core::PodSpec {
    let limits = BTreeMap::from([("cpu".to_owned(), Quantity { string: Some("1500m".into()) })]);
    let resources = core::ResourceRequirements { limits, ..Default::default() };
    let container = core::Container {
        name: Some("c".into()),
        image: Some("i".into()),
        resources: Some(resources),
        ..Default::default()
    };
    core::PodSpec { containers: vec![container], restart_policy: restart.map(str::to_owned), ..Default::default() }
}

fn template(restart: Option<&str>) -> Option<core::PodTemplateSpec> {
    Some(core::PodTemplateSpec { metadata: meta("t"), spec: Some(pod(restart)) })
}

#[tokio::test(flavor = "multi_thread")]
async fn who_speaks_only_protobuf_lives_with_every_kind() {
    let dir = tempfile::tempdir().unwrap();
    let server = server::start(dir.path(), SocketAddr::from(([127, 0, 0, 1], 0)), None).await.unwrap();
    let mut client = Client::admin(&server);
    let account = core::ServiceAccount { metadata: meta("default"), ..Default::default() };
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let made = ask(&mut client, "POST", accounts, MEDIA, &wrap("v1", "ServiceAccount", &account)).await;
    assert_eq!(made.status, 201);

    let within = "/namespaces/default";
    let metadata = || Some(ObjectMeta::default());
    let port = core::ServicePort {
        port: Some(80),
        target_port: Some(IntOrString { r#type: Some(1), str_val: Some("http".into()), ..Default::default() }),
        ..Default::default()
    };
    let service = core::ServiceSpec { ports: vec![port], ..Default::default() };
    let deployment = apps::DeploymentSpec {
        replicas: Some(0),
        selector: selector(),
        template: template(None),
        ..Default::default()
    };
    let daemon = apps::DaemonSetSpec { selector: selector(), template: template(None), ..Default::default() };
    let job = batch::JobSpec { template: template(Some("Never")), ..Default::default() };
    let renewed = MicroTime { seconds: Some(1_767_323_045), nanos: Some(123_456_000) };
    let lease = coordination::LeaseSpec { renew_time: Some(renewed), ..Default::default() };
    let rule = rbac::PolicyRule {
        api_groups: vec![String::new()],
        resources: vec!["pods".into()],
        verbs: vec!["get".into()],
        ..Default::default()
    };
    let wanted = BTreeMap::from([("storage".to_owned(), Quantity { string: Some("1Gi".into()) })]);
    let claim = core::PersistentVolumeClaimSpec {
        access_modes: vec!["ReadWriteOnce".into()],
        resources: Some(core::VolumeResourceRequirements { requests: wanted, ..Default::default() }),
        ..Default::default()
    };
    let target = autoscaling::CrossVersionObjectReference {
        api_version: Some("apps/v1".into()),
        kind: Some("Deployment".into()),
        name: Some("d".into()),
    };
    let scaler = autoscaling::HorizontalPodAutoscalerSpec {
        max_replicas: Some(3),
        scale_target_ref: Some(target),
        ..Default::default()
    };
    let budget = policy::PodDisruptionBudgetSpec {
        min_available: Some(IntOrString { r#type: Some(1), str_val: Some("50%".into()), ..Default::default() }),
        selector: selector(),
        ..Default::default()
    };
    let text = BTreeMap::from([("k".to_owned(), "v\u{e9}".to_owned())]);
    let bytes = BTreeMap::from([("k".to_owned(), vec![0, 1, 255])]);
    tokio::join!(
        life(&server, within, core::ConfigMap { metadata: metadata(), data: text, ..Default::default() }),
        life(&server, within, core::Secret { metadata: metadata(), data: bytes, ..Default::default() }),
        life(&server, within, core::Pod { metadata: metadata(), spec: Some(pod(None)), ..Default::default() }),
        life(&server, within, core::Service { metadata: metadata(), spec: Some(service), ..Default::default() }),
        life(&server, within, core::ServiceAccount { metadata: metadata(), ..Default::default() }),
        life(&server, within, apps::Deployment { metadata: metadata(), spec: Some(deployment), ..Default::default() }),
        life(&server, within, apps::DaemonSet { metadata: metadata(), spec: Some(daemon), ..Default::default() }),
        life(&server, within, batch::Job { metadata: metadata(), spec: Some(job), ..Default::default() }),
        life(&server, within, coordination::Lease { metadata: metadata(), spec: Some(lease) }),
        life(&server, "", rbac::ClusterRole { metadata: metadata(), rules: vec![rule], ..Default::default() }),
    );
    tokio::join!(
        life(
            &server,
            within,
            autoscaling::HorizontalPodAutoscaler { metadata: metadata(), spec: Some(scaler), ..Default::default() }
        ),
        life(
            &server,
            within,
            policy::PodDisruptionBudget { metadata: metadata(), spec: Some(budget), ..Default::default() }
        ),
        life(
            &server,
            within,
            networking::NetworkPolicy {
                metadata: metadata(),
                spec: Some(networking::NetworkPolicySpec { pod_selector: selector(), ..Default::default() }),
            }
        ),
        held(&server, core::PersistentVolumeClaim { metadata: meta("held"), spec: Some(claim), ..Default::default() }),
        status(&server),
        mistakes(&server),
    );
    server.stop.cancel();
}

/// What a finalizer holds is told of as the object that it still is.
async fn held(server: &Server, made: core::PersistentVolumeClaim) {
    let (mut client, all) = (Client::admin(server), "/api/v1/namespaces/default/persistentvolumeclaims");
    let body = wrap("v1", "PersistentVolumeClaim", &made);
    let reply = ask(&mut client, "POST", all, MEDIA, &body).await;
    let created: core::PersistentVolumeClaim = unwrap(&reply.body, "PersistentVolumeClaim");
    let requests = created.spec.unwrap().resources.unwrap().requests;
    assert_eq!(requests.get("storage").unwrap().string.as_deref(), Some("1Gi"));
    let reply = ask(&mut client, "DELETE", &format!("{all}/held"), MEDIA, b"").await;
    let marked: core::PersistentVolumeClaim = unwrap(&reply.body, "PersistentVolumeClaim");
    assert!(marked.metadata.unwrap().deletion_timestamp.is_some());
}

/// The status is written by itself.
async fn status(server: &Server) {
    let mut client = Client::admin(server);
    let all = "/api/v1/namespaces/default/pods";
    let made = core::Pod { metadata: meta("status"), spec: Some(pod(None)), ..Default::default() };
    let reply = ask(&mut client, "POST", all, MEDIA, &wrap("v1", "Pod", &made)).await;
    let mut pod: core::Pod = unwrap(&reply.body, "Pod");
    assert_eq!(pod.status.as_ref().unwrap().phase.as_deref(), Some("Pending"));
    pod.status.as_mut().unwrap().phase = Some("Running".into());
    let reply = ask(&mut client, "PUT", &format!("{all}/status/status"), MEDIA, &wrap("v1", "Pod", &pod)).await;
    let written: core::Pod = unwrap(&reply.body, "Pod");
    assert_eq!(written.status.unwrap().phase.as_deref(), Some("Running"));
}

async fn mistakes(server: &Server) {
    let mut client = Client::admin(server);
    let all = "/api/v1/namespaces/default/configmaps";
    let wrong = core::ConfigMap { metadata: meta("Not_A_Name"), ..Default::default() };
    let reply = ask(&mut client, "POST", all, MEDIA, &wrap("v1", "ConfigMap", &wrong)).await;
    let status = refused(&reply, 422, "Invalid");
    let details = status.details.unwrap();
    assert_eq!((details.kind.as_deref(), details.causes.len()), (Some("ConfigMap"), 1));
    assert_eq!(details.causes.first().unwrap().field.as_deref(), Some("metadata.name"));
    for broken in [&b"k8s\0\xff\xff"[..], b"{}", b""] {
        let reply = ask(&mut client, "POST", all, MEDIA, broken).await;
        refused(&reply, 400, "BadRequest");
    }
    let reply = ask(&mut client, "GET", "/api/v1/nowhere", MEDIA, b"").await;
    assert_eq!(reply.status, 404);
    let old = ask(&mut client, "GET", &format!("{all}?limit=1&continue=nonsense"), MEDIA, b"").await;
    refused(&old, 400, "BadRequest");
}
