//! Endpoints, the older form: one object a service, addresses grouped by their ports.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Service, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kedge_api::{Object, Status};
use serde_json::{Value, json};

use super::{Backend, HEADLESS, Port, hostname, labels, ports, target};
use crate::controller::value;
use crate::pods;

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
/// Upstream's limit, beyond which clients are expected to read slices.
const FULL: usize = 1000;

pub fn is_ours(object: &Object) -> bool {
    object.meta.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY)).is_some_and(|by| by == MANAGER)
}

pub fn endpoints(service: &Service, spec: &ServiceSpec, backends: &[Backend]) -> Endpoints {
    let mut groups: BTreeMap<Vec<Port>, (Vec<EndpointAddress>, Vec<EndpointAddress>)> = BTreeMap::new();
    // Pods on their way out are told by slices only, unless all are published.
    let published = spec.publish_not_ready_addresses.unwrap_or(false);
    for backend in backends.iter().filter(|backend| !backend.terminating || published).take(FULL) {
        let Some(ip) = backend.addresses.first() else { continue };
        let mut ports = ports(spec, &backend.pod);
        if ports.is_empty() && spec.ports.as_ref().is_some_and(|ports| !ports.is_empty()) {
            continue;
        }
        ports.sort();
        let address = EndpointAddress {
            ip: ip.clone(),
            hostname: hostname(service, &backend.pod),
            node_name: Some(pods::node_name(&backend.pod).to_owned()).filter(|name| !name.is_empty()),
            target_ref: Some(target(&backend.pod)),
        };
        let (ready, not_ready) = groups.entry(ports).or_default();
        if backend.ready { ready.push(address) } else { not_ready.push(address) }
    }
    let sorted = |mut addresses: Vec<EndpointAddress>| {
        addresses.sort_by(|a, b| a.ip.cmp(&b.ip));
        Some(addresses).filter(|addresses| !addresses.is_empty())
    };
    let port = |port: Port| EndpointPort {
        name: Some(port.name).filter(|name| !name.is_empty()),
        port: port.number,
        protocol: Some(port.protocol),
        app_protocol: port.app_protocol,
    };
    let subsets: Vec<_> = groups
        .into_iter()
        .map(|(ports, (ready, not_ready))| EndpointSubset {
            addresses: sorted(ready),
            not_ready_addresses: sorted(not_ready),
            ports: Some(ports.into_iter().map(port).collect::<Vec<_>>()).filter(|ports| !ports.is_empty()),
        })
        .collect();
    Endpoints {
        metadata: ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels(service, spec, &[(MANAGED_BY, MANAGER)])),
            ..ObjectMeta::default()
        },
        subsets: Some(subsets).filter(|subsets| !subsets.is_empty()),
    }
}

/// The patch that brings what is there to what is wanted.
pub fn difference(found: &Endpoints, wanted: &Endpoints) -> Result<Option<Value>, Status> {
    let old = found.metadata.labels.clone().unwrap_or_default();
    let new = wanted.metadata.labels.clone().unwrap_or_default();
    let stale = old.contains_key(HEADLESS) && !new.contains_key(HEADLESS);
    if found.subsets == wanted.subsets && !stale && new.iter().all(|(key, value)| old.get(key) == Some(value)) {
        return Ok(None);
    }
    let mut labels = value(&new)?;
    if let Value::Object(labels) = &mut labels
        && stale
    {
        labels.insert(HEADLESS.into(), Value::Null);
    }
    let meta = json!({"uid": found.metadata.uid, "resourceVersion": found.metadata.resource_version, "labels": labels});
    Ok(Some(json!({"metadata": meta, "subsets": value(&wanted.subsets)?})))
}
