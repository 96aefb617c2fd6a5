//! EndpointSlices of Endpoints that someone wrote by hand, for Services that select no pods.
//!
//! Owns the slices that say so in their label; never touches those of [`crate::endpoints`].
//! Source: "EndpointSlice mirroring" of Kubernetes' documentation.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{EndpointAddress, Endpoints};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kedge_api::resource::known::{ENDPOINT_SLICES, ENDPOINTS, SERVICES};
use kedge_api::{Change, GroupResource, Key, Object, Snapshot, Status};
use serde_json::{Value, json};

use crate::controller::{Controller, Now, Plan, Step, Victim, difference, read, value};
use crate::owner::Owner;

const WATCHES: &[GroupResource] = &[ENDPOINTS, SERVICES, ENDPOINT_SLICES];
const SERVICE: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Endpoints that locks of older clients are.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// Those that another controller derives from pods.
const DERIVED: (&str, &str) = ("endpoints.kubernetes.io/managed-by", "endpoint-controller");
/// Annotations that are about the Endpoints alone.
const OWN: [&str; 2] =
    ["endpoints.kubernetes.io/last-change-trigger-time", "kubectl.kubernetes.io/last-applied-configuration"];
/// Of a subset no more are mirrored.
const MOST: usize = 1000;

pub struct EndpointMirror;

impl Controller for EndpointMirror {
    fn name(&self) -> &'static str {
        "endpoint-slice-mirroring-controller"
    }

    fn account(&self) -> &'static str {
        "endpointslicemirroring-controller"
    }

    fn watches(&self) -> &'static [GroupResource] {
        WATCHES
    }

    fn keys(&self, _: &Snapshot, change: &Change, keys: &mut Vec<Key>) {
        let key = &change.key;
        if key.resource == ENDPOINT_SLICES {
            let known = change.after.as_ref().or(change.before.as_ref()).filter(|slice| is_ours(slice));
            let name = known.and_then(|slice| label(slice, SERVICE));
            keys.extend(name.map(|name| Key::new(ENDPOINTS, &key.namespace, name)));
        } else {
            keys.push(Key { resource: ENDPOINTS, ..key.clone() });
        }
    }

    fn plan(&self, snapshot: &Snapshot, key: &Key, _: Now) -> Result<Plan, Status> {
        let mut plan = Plan::default();
        let mut found: BTreeMap<String, (&Object, Value)> = BTreeMap::new();
        let mut doomed = Vec::new();
        let slices = snapshot.list(&ENDPOINT_SLICES, &key.namespace);
        for object in slices.filter(|o| is_ours(o) && label(o, SERVICE) == Some(&key.name) && !o.is_deleting()) {
            let slice: EndpointSlice = object.decode()?;
            let group = group(&slice.address_type, &value(&slice.ports)?);
            if let Some((twice, _)) = found.insert(group, (object, value(&slice)?)) {
                doomed.push(Victim::of(twice));
            }
        }
        let wanted = if selects_nothing(snapshot, key)? { read::<Endpoints>(snapshot, key)? } else { None };
        let wanted = wanted.filter(|endpoints| is_mirrored(&endpoints.metadata));
        let mut fresh = Vec::new();
        for slice in wanted.map(|endpoints| mirrored(&endpoints)).transpose()?.unwrap_or_default() {
            let wanted = value(&slice)?;
            match found.remove(&group(&slice.address_type, &value(&slice.ports)?)) {
                None => fresh.push(wanted),
                Some((object, there)) => {
                    let said = |slice: &Value| {
                        let told = |field: &str| slice.pointer(field).cloned().unwrap_or_else(|| json!({}));
                        json!({"metadata": {"labels": told("/metadata/labels"), "annotations": told("/metadata/annotations")},
                            "endpoints": told("/endpoints")})
                    };
                    if let Some(patch) = difference(&said(&there), &said(&wanted)) {
                        plan.patch(object, "", patch);
                    }
                }
            }
        }
        doomed.extend(found.into_values().map(|(object, _)| Victim::of(object)));
        if !fresh.is_empty() {
            plan.push(Step::Create { resource: ENDPOINT_SLICES, objects: fresh, told: None });
        }
        if !doomed.is_empty() {
            plan.push(Step::Delete { resource: ENDPOINT_SLICES, targets: doomed, told: None });
        }
        Ok(plan)
    }
}

fn label<'a>(object: &'a Object, key: &str) -> Option<&'a str> {
    object.meta.labels.as_ref()?.get(key).map(String::as_str)
}

fn is_ours(slice: &Object) -> bool {
    label(slice, MANAGED_BY) == Some(MANAGER)
}

/// What the endpoints of one slice have in common, as text.
fn group(family: &str, ports: &Value) -> String {
    format!("{family} {ports}")
}

/// There is a service of the name, and no one selects its pods.
fn selects_nothing(snapshot: &Snapshot, key: &Key) -> Result<bool, Status> {
    let service: Option<Value> = read(snapshot, &Key { resource: SERVICES, ..key.clone() })?;
    let Some(service) = service else { return Ok(false) };
    let deleting = service.pointer("/metadata/deletionTimestamp").is_some();
    Ok(!deleting && service.pointer("/spec/selector").is_none_or(Value::is_null))
}

fn is_mirrored(meta: &ObjectMeta) -> bool {
    let labelled =
        |key: &str, value: &str| meta.labels.as_ref().and_then(|all| all.get(key)).is_some_and(|v| v == value);
    let locks = meta.annotations.as_ref().is_some_and(|all| all.contains_key(LEADER));
    meta.deletion_timestamp.is_none() && !labelled(SKIP, "true") && !labelled(DERIVED.0, DERIVED.1) && !locks
}

/// One slice for each family and set of ports.
fn mirrored(endpoints: &Endpoints) -> Result<Vec<EndpointSlice>, Status> {
    let mut slices: BTreeMap<String, EndpointSlice> = BTreeMap::new();
    for subset in endpoints.subsets.iter().flatten() {
        let port = |port: &k8s_openapi::api::core::v1::EndpointPort| EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(port.port),
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".into())),
            app_protocol: port.app_protocol.clone(),
        };
        let ports: Vec<EndpointPort> = subset.ports.iter().flatten().map(port).collect();
        let ready = subset.addresses.iter().flatten().map(|address| (address, true));
        let not_ready = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
        for (address, ready) in ready.chain(not_ready).take(MOST) {
            let Ok(ip) = address.ip.parse::<IpAddr>() else { continue };
            let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
            let slice = match slices.entry(group(family, &value(&ports)?)) {
                std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::btree_map::Entry::Vacant(free) => free.insert(slice(endpoints, family, &ports)?),
            };
            slice.endpoints.get_or_insert_default().push(endpoint(address, ready));
        }
    }
    Ok(slices.into_values().collect())
}

fn slice(endpoints: &Endpoints, family: &str, ports: &[EndpointPort]) -> Result<EndpointSlice, Status> {
    let meta = &endpoints.metadata;
    let name = meta.name.clone().unwrap_or_default();
    let mut labels = meta.labels.clone().unwrap_or_default();
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    let mut annotations = meta.annotations.clone().unwrap_or_default();
    annotations.retain(|key, _| !OWN.contains(&key.as_str()));
    let generate_name = Some(format!("{name}-"));
    labels.insert(SERVICE.to_owned(), name);
    Ok(EndpointSlice {
        metadata: ObjectMeta {
            generate_name,
            namespace: meta.namespace.clone(),
            labels: Some(labels),
            annotations: Some(annotations).filter(|annotations| !annotations.is_empty()),
            owner_references: Some(vec![Owner::of(endpoints, None)?.reference()]),
            ..ObjectMeta::default()
        },
        address_type: family.to_owned(),
        endpoints: None,
        ports: Some(ports.to_vec()),
    })
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
        hostname: address.hostname.clone().filter(|hostname| !hostname.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Facts, at};

    fn service(spec: Value) -> Value {
        json!({"metadata": {"namespace": "n", "name": "s"}, "spec": spec})
    }

    fn endpoints(labels: Value, subsets: Value) -> Value {
        json!({"metadata": {"namespace": "n", "name": "s", "labels": labels,
            "annotations": {"a": "b", "kubectl.kubernetes.io/last-applied-configuration": "{}"}}, "subsets": subsets})
    }

    fn two() -> Value {
        json!([{"addresses": [{"ip": "10.1.2.3", "hostname": "h"}, {"ip": "fd00::1"}],
            "notReadyAddresses": [{"ip": "10.1.2.4"}], "ports": [{"name": "p", "port": 80}]}])
    }

    fn plan(facts: &Facts) -> Plan {
        EndpointMirror.plan(&facts.snapshot, &Key::new(ENDPOINTS, "n", "s"), at(0)).unwrap()
    }

    /// As the API server keeps what was created.
    fn settle(facts: &mut Facts) {
        for step in plan(facts).steps {
            let Step::Create { objects, .. } = step else { panic!("{step:?}") };
            for (at, mut object) in objects.into_iter().enumerate() {
                object["metadata"]["name"] = format!("s-{at}").into();
                facts.add(ENDPOINT_SLICES, object);
            }
        }
        assert_eq!(plan(facts), Plan::default());
    }

    #[test]
    fn each_family_has_a_slice_that_says_the_same() {
        let mut facts = Facts::default();
        facts.add(SERVICES, service(json!({})));
        facts.add(ENDPOINTS, endpoints(json!({"x": "y"}), two()));
        let [Step::Create { objects, .. }] = &plan(&facts).steps[..] else { panic!() };
        let told: Vec<_> =
            objects.iter().map(|o| (&o["addressType"], o["endpoints"].as_array().unwrap().len())).collect();
        assert_eq!(told, [(&json!("IPv4"), 2), (&json!("IPv6"), 1)]);
        assert_eq!(
            objects[0]["endpoints"][0],
            json!({"addresses": ["10.1.2.3"], "conditions": {"ready": true}, "hostname": "h"})
        );
        assert_eq!(objects[0]["endpoints"][1]["conditions"], json!({"ready": false}));
        assert_eq!(objects[0]["ports"], json!([{"name": "p", "port": 80, "protocol": "TCP"}]));
        let meta = &objects[0]["metadata"];
        assert_eq!(meta["labels"], json!({"x": "y", (SERVICE): "s", (MANAGED_BY): MANAGER}));
        assert_eq!(
            (&meta["annotations"], &meta["ownerReferences"][0]["kind"]),
            (&json!({"a": "b"}), &json!("Endpoints"))
        );
        settle(&mut facts);
    }

    #[test]
    fn what_changes_is_changed_in_place_and_what_goes_takes_its_slice_along() {
        let mut facts = Facts::default();
        facts.add(SERVICES, service(json!({})));
        facts.add(ENDPOINTS, endpoints(json!({}), two()));
        settle(&mut facts);
        facts.add(
            ENDPOINTS,
            endpoints(json!({}), json!([{"addresses": [{"ip": "10.2.3.4"}], "ports": [{"name": "p", "port": 80}]}])),
        );
        let [Step::Patch { name, patch, .. }, Step::Delete { targets, .. }] = &plan(&facts).steps[..] else { panic!() };
        assert_eq!((name.as_str(), &patch["endpoints"][0]["addresses"]), ("s-0", &json!(["10.2.3.4"])));
        assert_eq!(targets.iter().map(|t| &*t.name).collect::<Vec<_>>(), ["s-1"]);
    }

    #[test]
    fn what_others_write_is_left_alone() {
        for (spec, labels, annotation) in [
            (json!({"selector": {"a": "b"}}), json!({}), None),
            (json!({}), json!({(SKIP): "true"}), None),
            (json!({}), json!({(DERIVED.0): DERIVED.1}), None),
            (json!({}), json!({}), Some(LEADER)),
        ] {
            let mut facts = Facts::default();
            facts.add(SERVICES, service(json!({})));
            facts.add(ENDPOINTS, endpoints(json!({}), two()));
            settle(&mut facts);
            facts.add(SERVICES, service(spec));
            let mut endpoints = endpoints(labels, two());
            if let Some(annotation) = annotation {
                endpoints["metadata"]["annotations"][annotation] = "{}".into();
            }
            facts.add(ENDPOINTS, endpoints);
            let [Step::Delete { targets, .. }] = &plan(&facts).steps[..] else { panic!() };
            assert_eq!(targets.len(), 2);
        }
        let mut alone = Facts::default();
        alone.add(ENDPOINTS, endpoints(json!({}), two()));
        assert_eq!(plan(&alone), Plan::default());
    }
}
