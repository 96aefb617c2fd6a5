//! Every kind there and back, and through a decoder that others generated from upstream's `.proto` files.

use kedge_api::schema::{Shape, Type};
use prost::Message;
use serde_json::{Map, Value, json};

use super::super::table::{Either, fields, knows};
use super::super::{decode, encode, list, type_of};

/// An object of a kind with a value in every field: each string is the path to it, each number is made of that path.
fn sample(api_version: &str, kind: &str) -> Value {
    let of = type_of(api_version, kind).unwrap_or_else(|| panic!("{api_version} {kind}"));
    let mut object = message(of, "", &mut Vec::new());
    object["apiVersion"] = api_version.into();
    object["kind"] = kind.into();
    object
}

fn message(of: Type, path: &str, within: &mut Vec<Type>) -> Value {
    within.push(of);
    let mut out = Map::new();
    for field in fields(of).iter().map(|numbered| numbered.field) {
        let path = format!("{path}.{}", field.name());
        out.extend(value(field.shape(), &path, within).map(|value| (field.name().to_owned(), value)));
    }
    within.pop();
    out.into()
}

/// Of a type within itself there is one level only.
fn value(shape: Shape, path: &str, within: &mut Vec<Type>) -> Option<Value> {
    if let Some(either) = Either::of(shape) {
        let schema = value(either.shapes().0, path, within);
        return Some(schema.unwrap_or_else(|| if either == Either::Bool { true.into() } else { json!([path]) }))
            .filter(|value| either != Either::Array || value.is_object());
    }
    Some(match (shape.resolve(), shape) {
        (Shape::String | Shape::Quantity | Shape::IntOrString, _) => path.into(),
        (Shape::Bytes, _) => "AQ==".into(),
        (Shape::Time, Shape::Type(of)) if of.short_name() == "MicroTime" => "2026-01-02T03:04:05.678901Z".into(),
        (Shape::Time, _) => "2026-01-02T03:04:05Z".into(),
        (Shape::Int32 | Shape::Int64, _) => number(path).into(),
        (Shape::Number, _) => (number(path) as f64 + 0.5).into(),
        (Shape::Boolean, _) => true.into(),
        (Shape::Object, Shape::Type(of)) if knows(of) => json!({}),
        (Shape::Any | Shape::Object, _) => json!({"any": path}),
        (Shape::Type(of), _) if within.iter().filter(|t| **t == of).count() > 1 => return None,
        (Shape::Type(of), _) => message(of, path, within),
        (Shape::List(item), _) => json!([value(item.shape(), path, within)?]),
        (Shape::Map(item), _) => json!({path: value(item.shape(), path, within)?}),
    })
}

/// Never 0 or 1, which say little.
fn number(path: &str) -> i64 {
    2 + plain(path).bytes().fold(7_i64, |sum, byte| (sum * 31 + i64::from(byte)) % 99_991)
}

/// A path in the spelling that all generators agree on.
fn plain(path: &str) -> String {
    path.replace(['_', '-', '$'], "").replace("r#", "").to_lowercase()
}

/// The message inside the envelope.
fn raw(object: &Value) -> Vec<u8> {
    let bytes = encode(object).unwrap();
    let unknown = Unknown::decode(&bytes[4..]).unwrap();
    assert_eq!(unknown.type_meta.unwrap_or_default().kind.as_deref(), object["kind"].as_str());
    unknown.raw.unwrap_or_default()
}

use k8s_pb::apimachinery::pkg::runtime::Unknown;

/// What a message of others says of itself: each string and number must be the one of the path where it stands.
fn misplaced(told: &str) -> Vec<String> {
    let (mut path, mut wrong) = (Vec::<(usize, &str)>::new(), Vec::new());
    for line in told.lines() {
        let text = line.trim_start();
        let indent = line.len() - text.len();
        path.retain(|(at, _)| *at < indent);
        let (name, text) = match text.split_once(": ") {
            Some((name, rest)) if !name.starts_with('"') => (Some(name), rest),
            _ => (None, text),
        };
        path.extend(name.map(|name| (indent, name)));
        let place: Vec<String> = path.iter().map(|(_, name)| plain(name)).collect();
        let last = place.last().map_or("", String::as_str);
        if let Some(string) = text.strip_prefix("\".").and_then(|rest| rest.split('"').next()) {
            // Embedded structs have a name on the wire alone.
            let mut place = place.iter();
            if !plain(string).split('.').all(|part| place.any(|name| name == part)) {
                wrong.push(format!("{string} at {path:?}"));
            }
        } else if let Ok(found) = text.trim_end_matches([',', ')']).trim_start_matches("Some(").parse::<f64>() {
            let made = made_of(found, &place);
            if found > 1.0 && !made && !["seconds", "nanos", "raw"].contains(&last) {
                wrong.push(format!("{found} at {path:?}"));
            }
        }
    }
    wrong
}

/// Whether a number was made of a path, or of one without the names that embedded structs have on the wire alone.
fn made_of(found: f64, place: &[String]) -> bool {
    let want = number(&format!(".{}", place.join("."))) as f64;
    let without = |at: usize| [&place[..at], &place[at + 1..]].concat();
    let embedded =
        |at: usize| ["common", "source", "handler", "rulevalue", "schema"].iter().any(|n| place[at].ends_with(n));
    found == want
        || found == want + 0.5
        || (0..place.len()).filter(|at| embedded(*at)).any(|at| made_of(found, &without(at)))
}

/// Paths of what is not the same.
fn lost(want: &Value, got: &Value, path: &str, out: &mut Vec<String>) {
    match (want, got) {
        (Value::Object(want), Value::Object(got)) => {
            for (key, value) in want {
                lost(value, got.get(key).unwrap_or(&Value::Null), &format!("{path}.{key}"), out);
            }
        }
        (Value::Array(want), Value::Array(got)) => {
            want.iter().enumerate().for_each(|(at, v)| lost(v, got.get(at).unwrap_or(&Value::Null), path, out));
        }
        (want, got) if want == got => {}
        _ => out.push(path.to_owned()),
    }
}

#[derive(Clone)]
struct Kind {
    api_version: &'static str,
    kind: &'static str,
    /// A message as others read it, in words, and as they write it.
    read: fn(&[u8]) -> (String, Vec<u8>),
}

fn read<M: Message + Default + std::fmt::Debug>(bytes: &[u8]) -> (String, Vec<u8>) {
    let message = M::decode(bytes).unwrap();
    (format!("{message:#?}"), message.encode_to_vec())
}

macro_rules! kinds {
    ($($version:literal $($path:ident)::+ { $($kind:ident)+ })+) => {
        [$(kinds!(@each $version, $($path)::+, $($kind)+)),+].concat()
    };
    (@each $version:literal, $($path:ident)::+, $($kind:ident)+) => {{
        use k8s_pb::$($path)::+ as of;
        vec![$(Kind { api_version: $version, kind: stringify!($kind), read: read::<of::$kind> }),+]
    }};
}

fn kinds() -> Vec<Kind> {
    kinds! {
        "admissionregistration.k8s.io/v1" api::admissionregistration::v1 {
            MutatingWebhookConfiguration MutatingWebhookConfigurationList ValidatingAdmissionPolicy
            ValidatingAdmissionPolicyBinding ValidatingAdmissionPolicyBindingList ValidatingAdmissionPolicyList
            ValidatingWebhookConfiguration ValidatingWebhookConfigurationList
        }
        // That crate is of 1.35, where these were still so called; the messages are the same.
        "admissionregistration.k8s.io/v1" api::admissionregistration::v1beta1 {
            MutatingAdmissionPolicy MutatingAdmissionPolicyBinding MutatingAdmissionPolicyBindingList MutatingAdmissionPolicyList
        }
        "apps/v1" api::apps::v1 {
            ControllerRevision ControllerRevisionList DaemonSet DaemonSetList Deployment DeploymentList ReplicaSet
            ReplicaSetList StatefulSet StatefulSetList
        }
        "authentication.k8s.io/v1" api::authentication::v1 { SelfSubjectReview TokenRequest TokenReview }
        "authorization.k8s.io/v1" api::authorization::v1 {
            LocalSubjectAccessReview SelfSubjectAccessReview SelfSubjectRulesReview SubjectAccessReview
        }
        "autoscaling/v1" api::autoscaling::v1 { HorizontalPodAutoscaler HorizontalPodAutoscalerList Scale }
        "autoscaling/v2" api::autoscaling::v2 { HorizontalPodAutoscaler HorizontalPodAutoscalerList }
        "batch/v1" api::batch::v1 { CronJob CronJobList Job JobList }
        "certificates.k8s.io/v1" api::certificates::v1 { CertificateSigningRequest CertificateSigningRequestList }
        "coordination.k8s.io/v1" api::coordination::v1 { Lease LeaseList }
        "v1" api::core::v1 {
            Binding ComponentStatus ComponentStatusList ConfigMap ConfigMapList Endpoints EndpointsList Event EventList
            LimitRange LimitRangeList Namespace NamespaceList Node NodeList PersistentVolume PersistentVolumeClaim
            PersistentVolumeClaimList PersistentVolumeList Pod PodList PodTemplate PodTemplateList ReplicationController
            ReplicationControllerList ResourceQuota ResourceQuotaList Secret SecretList Service ServiceAccount
            ServiceAccountList ServiceList
        }
        "discovery.k8s.io/v1" api::discovery::v1 { EndpointSlice EndpointSliceList }
        "events.k8s.io/v1" api::events::v1 { Event EventList }
        "flowcontrol.apiserver.k8s.io/v1" api::flowcontrol::v1 {
            FlowSchema FlowSchemaList PriorityLevelConfiguration PriorityLevelConfigurationList
        }
        "networking.k8s.io/v1" api::networking::v1 {
            IPAddress IPAddressList Ingress IngressClass IngressClassList IngressList NetworkPolicy NetworkPolicyList
            ServiceCIDR ServiceCIDRList
        }
        "node.k8s.io/v1" api::node::v1 { RuntimeClass RuntimeClassList }
        "policy/v1" api::policy::v1 { Eviction PodDisruptionBudget PodDisruptionBudgetList }
        "rbac.authorization.k8s.io/v1" api::rbac::v1 {
            ClusterRole ClusterRoleBinding ClusterRoleBindingList ClusterRoleList Role RoleBinding RoleBindingList RoleList
        }
        "resource.k8s.io/v1" api::resource::v1 {
            DeviceClass DeviceClassList ResourceClaim ResourceClaimList ResourceClaimTemplate ResourceClaimTemplateList
            ResourceSlice ResourceSliceList
        }
        "scheduling.k8s.io/v1" api::scheduling::v1 { PriorityClass PriorityClassList }
        "storage.k8s.io/v1" api::storage::v1 {
            CSIDriver CSIDriverList CSINode CSINodeList CSIStorageCapacity CSIStorageCapacityList StorageClass
            StorageClassList VolumeAttachment VolumeAttachmentList VolumeAttributesClass VolumeAttributesClassList
        }
        "apiextensions.k8s.io/v1" apiextensions_apiserver::pkg::apis::apiextensions::v1 {
            CustomResourceDefinition CustomResourceDefinitionList
        }
        "apiregistration.k8s.io/v1" kube_aggregator::pkg::apis::apiregistration::v1 { APIService APIServiceList }
        "v1" apimachinery::pkg::apis::meta::v1 {
            APIGroup APIGroupList APIResourceList APIVersions DeleteOptions Status WatchEvent
        }
        "meta.k8s.io/v1" apimachinery::pkg::apis::meta::v1 { PartialObjectMetadata PartialObjectMetadataList }
    }
}

#[test]
fn every_kind_comes_back_as_it_was() {
    let mut walked = 0;
    for of in kedge_api::schema::types() {
        for (group, version, kind) in of.kinds() {
            let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
            let object = sample(&api_version, kind);
            assert_eq!(decode(&encode(&object).unwrap(), None), Ok(object));
            walked += 1;
        }
    }
    assert!(walked > 130, "{walked}");
}

#[test]
fn a_list_of_every_kind_is_made_of_its_items_bytes() {
    let mut walked = 0;
    for Kind { api_version, kind, .. } in kinds() {
        let mut whole = sample(api_version, kind);
        let Some(Value::Array(items)) = whole.get("items").cloned() else { continue };
        // Texts that lie in the bytes as they are, and texts that have to be made of them.
        let items = [items.clone(), items].concat();
        whole["items"] = items.clone().into();
        let mut written: Vec<String> = items.iter().map(Value::to_string).collect();
        let escaped = written[0].replace("\".", "\"\\u002e");
        assert_ne!(escaped, written[0]);
        written[0] = escaped;
        let mut head = whole.clone();
        head.as_object_mut().unwrap().remove("items");
        let parts = list(&head, written.iter().map(String::as_bytes)).unwrap().unwrap();
        assert_eq!(parts.concat(), encode(&whole).unwrap(), "{api_version} {kind}");
        walked += 1;
    }
    assert!(walked > 50, "{walked}");
}

/// What the other decoder does not know yet: fields of 1.36, in objects and in lists of them.
const NEWER: &[&str] = &[
    ".metadata.shardInfo",
    ".spec.devices.attributes..spec.devices.attributes.bools",
    ".spec.devices.attributes..spec.devices.attributes.ints",
    ".spec.devices.attributes..spec.devices.attributes.strings",
    ".spec.devices.attributes..spec.devices.attributes.versions",
    ".spec.devices.nodeAllocatableResourceMappings",
    ".spec.jobTemplate.spec.template.spec.schedulingGroup",
    ".spec.preventPodSchedulingIfMissing",
    ".spec.schedulingGroup",
    ".spec.template.spec.schedulingGroup",
    ".status.containerStatuses.allocatedResourcesStatus.resources.message",
    ".status.containerStatuses.volumeMounts.volumeStatus",
    ".status.ephemeralContainerStatuses.allocatedResourcesStatus.resources.message",
    ".status.ephemeralContainerStatuses.volumeMounts.volumeStatus",
    ".status.initContainerStatuses.allocatedResourcesStatus.resources.message",
    ".status.initContainerStatuses.volumeMounts.volumeStatus",
    ".status.nodeAllocatableResourceClaimStatuses",
    ".template.spec.schedulingGroup",
];

#[test]
fn every_kind_is_read_by_others_as_it_was_meant() {
    let kinds = kinds();
    for of in kedge_api::schema::types() {
        for (group, version, kind) in of.kinds() {
            let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
            let named = |k: &Kind| k.kind == kind && (k.api_version == api_version || of.kinds().count() > 3);
            assert!(kinds.iter().any(named), "{api_version} {kind} is not shown to others");
        }
    }
    let (mut wrong, mut newer) = (Vec::new(), std::collections::BTreeSet::new());
    for Kind { api_version, kind, read } in kinds {
        let object = partial(sample(api_version, kind));
        let (told, written) = read(&raw(&object));
        wrong.extend(misplaced(&told).into_iter().map(|what| format!("{api_version} {kind}: {what}")));
        let mut whole = encode(&json!({"apiVersion": api_version, "kind": kind})).unwrap();
        whole.truncate(whole.len() - 6);
        whole.push(0x12);
        prost::encoding::encode_varint(written.len() as u64, &mut whole);
        whole.extend(written);
        let mut paths = Vec::new();
        lost(&object, &decode(&whole, None).unwrap(), "", &mut paths);
        newer.extend(paths.into_iter().map(|path| path.replace(".items", "")));
    }
    assert!(wrong.is_empty(), "{}\n{} are misplaced", wrong.join("\n"), wrong.len());
    assert_eq!(newer.iter().map(String::as_str).collect::<Vec<_>>(), NEWER);
}

/// Of these only metadata is a part.
fn partial(object: Value) -> Value {
    let bare = |object: &Value| json!({"metadata": object["metadata"]});
    match object["kind"].as_str() {
        Some("PartialObjectMetadata") => {
            json!({"apiVersion": object["apiVersion"], "kind": object["kind"], "metadata": object["metadata"]})
        }
        Some("PartialObjectMetadataList") => {
            let items: Vec<Value> = object["items"].as_array().unwrap().iter().map(bare).collect();
            json!({"apiVersion": object["apiVersion"], "kind": object["kind"], "metadata": object["metadata"], "items": items})
        }
        _ => object,
    }
}
