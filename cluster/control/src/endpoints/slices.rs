//! EndpointSlices: at most a hundred endpoints each, changed as little as possible.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kedge_api::resource::known::ENDPOINT_SLICES;
use kedge_api::{Object, Snapshot, Status};
use serde_json::{Value, json};

use super::{Backend, Port, SERVICE, hostname, labels, ports, target};
use crate::controller::{Plan, Step, Victim, value};
use crate::owner::Owner;
use crate::pods;

const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
const FULL: usize = 100;

/// What the endpoints of one slice have in common.
type Group = (String, Vec<Port>);

struct Slice {
    object: Arc<Object>,
    slice: EndpointSlice,
}

pub fn plan(
    snapshot: &Snapshot,
    service: &Service,
    spec: &ServiceSpec,
    backends: &[Backend],
    plan: &mut Plan,
) -> Result<(), Status> {
    let mut existing: BTreeMap<Group, Vec<Slice>> = BTreeMap::new();
    let name = service.metadata.name.as_deref().unwrap_or_default();
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    for object in snapshot.list(&ENDPOINT_SLICES, namespace) {
        let label = |key: &str| object.meta.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
        if label(SERVICE) == Some(name) && label(MANAGED_BY) == Some(MANAGER) && !object.is_deleting() {
            let slice: EndpointSlice = object.decode()?;
            existing.entry(group_of(&slice)).or_default().push(Slice { object: object.clone(), slice });
        }
    }
    let wanted = wanted(service, spec, backends);
    let labels = labels(service, spec, &[(SERVICE, name), (MANAGED_BY, MANAGER)]);
    let mut doomed = Vec::new();
    let mut fresh = Vec::new();
    for (group, endpoints) in &wanted {
        let slices = existing.remove(group).unwrap_or_default();
        let (rest, kept) = keep(slices, endpoints, &labels, plan, &mut doomed)?;
        // A service without any endpoint has one empty slice: it says that there is none.
        let placeholder = (endpoints.is_empty() && !kept).then(Vec::new);
        let chunks = rest.chunks(FULL).map(<[Endpoint]>::to_vec).chain(placeholder);
        for chunk in chunks {
            fresh.push(value(&slice(service, group, chunk, &labels)?)?);
        }
    }
    doomed.extend(existing.into_values().flatten().map(|slice| Victim::of(&slice.object)));
    if !fresh.is_empty() {
        plan.push(Step::Create { resource: ENDPOINT_SLICES, objects: fresh, told: None });
    }
    if !doomed.is_empty() {
        plan.push(Step::Delete { resource: ENDPOINT_SLICES, targets: doomed, told: None });
    }
    Ok(())
}

/// Endpoints stay in the slice they are in; free places take new ones; what finds no place is
/// answered, and whether a slice stays.
fn keep(
    slices: Vec<Slice>,
    wanted: &[Endpoint],
    labels: &BTreeMap<String, String>,
    plan: &mut Plan,
    doomed: &mut Vec<Victim>,
) -> Result<(Vec<Endpoint>, bool), Status> {
    let mut rest: Vec<Endpoint> = wanted.to_vec();
    let mut kept = Vec::new();
    for slice in slices {
        let mut endpoints = Vec::new();
        for old in slice.slice.endpoints.iter().flatten() {
            if let Some(at) = rest.iter().position(|new| same(new, old)) {
                endpoints.push(rest.remove(at));
            }
        }
        kept.push((slice, endpoints));
    }
    for (_, endpoints) in &mut kept {
        let room = FULL.saturating_sub(endpoints.len()).min(rest.len());
        endpoints.extend(rest.drain(..room));
    }
    let mut any = kept.iter().any(|(_, endpoints)| !endpoints.is_empty());
    for (slice, endpoints) in kept {
        if endpoints.is_empty() && any {
            doomed.push(Victim::of(&slice.object));
            continue;
        }
        any = true;
        let found = (
            slice.slice.endpoints.clone().unwrap_or_default(),
            slice.slice.metadata.labels.clone().unwrap_or_default(),
        );
        if found != (endpoints.clone(), labels.clone()) {
            let mut changes = value(labels)?;
            if let Value::Object(changes) = &mut changes {
                found.1.keys().filter(|key| !labels.contains_key(*key)).for_each(|key| {
                    changes.insert(key.clone(), Value::Null);
                });
            }
            let revision = slice.object.revision.to_string();
            let meta = json!({"uid": slice.object.uid(), "resourceVersion": revision, "labels": changes});
            plan.patch(&slice.object, "", json!({"metadata": meta, "endpoints": value(&endpoints)?}));
        }
    }
    Ok((rest, any))
}

fn same(a: &Endpoint, b: &Endpoint) -> bool {
    let uid = |e: &Endpoint| e.target_ref.as_ref().and_then(|target| target.uid.clone());
    a.addresses == b.addresses && uid(a) == uid(b)
}

fn group_of(slice: &EndpointSlice) -> Group {
    let port = |port: &EndpointPort| Port {
        name: port.name.clone().unwrap_or_default(),
        protocol: port.protocol.clone().unwrap_or_default(),
        number: port.port.unwrap_or(0),
        app_protocol: port.app_protocol.clone(),
    };
    let mut ports: Vec<_> = slice.ports.iter().flatten().map(port).collect();
    ports.sort();
    (slice.address_type.clone(), ports)
}

fn family(address: &str) -> &'static str {
    if address.contains(':') { "IPv6" } else { "IPv4" }
}

fn wanted(service: &Service, spec: &ServiceSpec, backends: &[Backend]) -> BTreeMap<Group, Vec<Endpoint>> {
    let families =
        spec.ip_families.clone().filter(|families| !families.is_empty()).unwrap_or_else(|| vec!["IPv4".into()]);
    let mut wanted: BTreeMap<Group, Vec<Endpoint>> = BTreeMap::new();
    for backend in backends {
        let mut ports = ports(spec, &backend.pod);
        ports.sort();
        for address in &backend.addresses {
            if families.iter().any(|wanted| wanted == family(address)) {
                let group = (family(address).to_owned(), ports.clone());
                wanted.entry(group).or_default().push(endpoint(service, backend, address));
            }
        }
    }
    for family in families {
        if !wanted.keys().any(|(present, _)| *present == family) {
            wanted.insert((family, Vec::new()), Vec::new());
        }
    }
    wanted
}

fn endpoint(service: &Service, backend: &Backend, address: &str) -> Endpoint {
    Endpoint {
        addresses: vec![address.to_owned()],
        conditions: Some(EndpointConditions {
            ready: Some(backend.ready),
            serving: Some(backend.serving),
            terminating: Some(backend.terminating),
        }),
        hostname: hostname(service, &backend.pod),
        node_name: Some(pods::node_name(&backend.pod).to_owned()).filter(|name| !name.is_empty()),
        target_ref: Some(target(&backend.pod)),
        zone: backend.zone.clone(),
        ..Endpoint::default()
    }
}

fn slice(
    service: &Service,
    group: &Group,
    endpoints: Vec<Endpoint>,
    labels: &BTreeMap<String, String>,
) -> Result<EndpointSlice, Status> {
    let port = |port: &Port| EndpointPort {
        name: Some(port.name.clone()),
        protocol: Some(port.protocol.clone()),
        port: Some(port.number),
        app_protocol: port.app_protocol.clone(),
    };
    Ok(EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", service.metadata.name.as_deref().unwrap_or_default())),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels.clone()),
            owner_references: Some(vec![Owner::of(service, None)?.reference()]),
            ..ObjectMeta::default()
        },
        address_type: group.0.clone(),
        endpoints: Some(endpoints),
        ports: Some(group.1.iter().map(port).collect()),
    })
}
