//! EndpointSlices and Endpoints: which pods stand behind a Service, and on which ports.
//!
//! Owns the slices that carry its label and the Endpoints of Services with a selector; never touches others'.
//! Source: "EndpointSlices" of Kubernetes' documentation.

mod legacy;
mod slices;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Endpoints, ObjectReference, Pod, Service, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kedge_api::resource::known::{ENDPOINT_SLICES, ENDPOINTS, NODES, PODS, SERVICES};
use kedge_api::selector::Selector;
use kedge_api::{Change, GroupResource, Key, Object, Snapshot, Status};

use crate::controller::{Controller, Now, Plan, Step, Victim, read, value};
use crate::pods;

const WATCHES: &[GroupResource] = &[SERVICES, PODS, ENDPOINT_SLICES, ENDPOINTS];
const SERVICE: &str = "kubernetes.io/service-name";
const HEADLESS: &str = "service.kubernetes.io/headless";

pub struct ServiceEndpoints;

/// A pod behind a service.
#[derive(Clone, Debug)]
struct Backend {
    pod: Pod,
    addresses: Vec<String>,
    zone: Option<String>,
    serving: bool,
    terminating: bool,
    /// Serving and staying, or published whatever its state.
    ready: bool,
}

/// One resolved port; a set of them is what the addresses of a slice have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Port {
    name: String,
    protocol: String,
    number: i32,
    app_protocol: Option<String>,
}

impl Controller for ServiceEndpoints {
    fn name(&self) -> &'static str {
        "endpoint-slice-controller"
    }

    fn account(&self) -> &'static str {
        "endpointslice-controller"
    }

    fn watches(&self) -> &'static [GroupResource] {
        WATCHES
    }

    fn keys(&self, snapshot: &Snapshot, change: &Change, keys: &mut Vec<Key>) {
        let key = &change.key;
        if key.resource == SERVICES {
            keys.push(key.clone());
        } else if key.resource == ENDPOINTS {
            keys.push(Key { resource: SERVICES, ..key.clone() });
        } else if key.resource == ENDPOINT_SLICES {
            let of = |object: &Object| object.meta.labels.as_ref()?.get(SERVICE).cloned();
            let service = change.after.as_ref().or(change.before.as_ref()).and_then(|object| of(object));
            keys.extend(service.map(|name| Key::new(SERVICES, &key.namespace, &name)));
        } else if pod_matters(change) {
            for service in snapshot.list(&SERVICES, &key.namespace) {
                let Some(selector) = selector(service) else { continue };
                let versions = [&change.before, &change.after];
                if versions.iter().any(|v| v.as_ref().is_some_and(|pod| selector.matches(&pod.meta.labels))) {
                    keys.push(service.key.clone());
                }
            }
        }
    }

    fn plan(&self, snapshot: &Snapshot, key: &Key, _: Now) -> Result<Plan, Status> {
        let mut plan = Plan::default();
        let legacy_key = Key { resource: ENDPOINTS, ..key.clone() };
        let Some(service) = read::<Service>(snapshot, key)? else {
            // The slices go with the service by their owner reference.
            if let Some(object) = snapshot.get(&legacy_key).filter(|object| legacy::is_ours(object)) {
                plan.push(Step::Delete { resource: ENDPOINTS, targets: vec![Victim::of(object)], told: None });
            }
            return Ok(plan);
        };
        let Some(spec) = service.spec.as_ref().filter(|spec| spec.selector.as_ref().is_some_and(|s| !s.is_empty()))
        else {
            return Ok(plan);
        };
        if service.metadata.deletion_timestamp.is_some() || spec.type_.as_deref() == Some("ExternalName") {
            return Ok(plan);
        }
        let backends = backends(snapshot, key, spec)?;
        slices::plan(snapshot, &service, spec, &backends, &mut plan)?;
        let wanted = legacy::endpoints(&service, spec, &backends);
        match (snapshot.get(&legacy_key), read::<Endpoints>(snapshot, &legacy_key)?) {
            (Some(object), Some(found)) => {
                if let Some(patch) = legacy::difference(&found, &wanted)? {
                    plan.patch(object, "", patch);
                }
            }
            _ => plan.push(Step::Create { resource: ENDPOINTS, objects: vec![value(&wanted)?], told: None }),
        }
        Ok(plan)
    }
}

/// A service's selector, read without the rest of it.
fn selector(object: &Object) -> Option<Selector> {
    #[derive(serde::Deserialize)]
    struct Slim {
        spec: Spec,
    }
    #[derive(serde::Deserialize)]
    struct Spec {
        selector: Option<BTreeMap<String, String>>,
    }
    let slim: Slim = serde_json::from_slice(&object.json).ok()?;
    slim.spec.selector.filter(|selector| !selector.is_empty()).map(|selector| Selector::from_map(&selector))
}

/// Whether a pod's change can change endpoints: not, for example, a new restart count.
fn pod_matters(change: &Change) -> bool {
    let (Some(before), Some(after)) = (&change.before, &change.after) else { return true };
    if before.meta.labels != after.meta.labels || before.is_deleting() != after.is_deleting() {
        return true;
    }
    let look = |object: &Object| {
        let pod: Pod = object.decode().ok()?;
        Some((pods::node_name(&pod).to_owned(), pods::is_ready(&pod), pods::is_finished(&pod), addresses(&pod)))
    };
    look(before) != look(after)
}

fn addresses(pod: &Pod) -> Vec<String> {
    let Some(status) = &pod.status else { return Vec::new() };
    let all: Vec<_> = status.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).filter(|ip| !ip.is_empty()).collect();
    if all.is_empty() { status.pod_ip.iter().filter(|ip| !ip.is_empty()).cloned().collect() } else { all }
}

fn backends(snapshot: &Snapshot, key: &Key, spec: &ServiceSpec) -> Result<Vec<Backend>, Status> {
    let selector = Selector::from_map(&spec.selector.clone().unwrap_or_default());
    let published = spec.publish_not_ready_addresses.unwrap_or(false);
    let mut all = Vec::new();
    for object in snapshot.list(&PODS, &key.namespace).filter(|pod| selector.matches(&pod.meta.labels)) {
        let pod: Pod = object.decode()?;
        let addresses = addresses(&pod);
        if pods::is_finished(&pod) || addresses.is_empty() {
            continue;
        }
        let node = Key::new(NODES, "", pods::node_name(&pod));
        let zone =
            |node: &std::sync::Arc<Object>| node.meta.labels.as_ref()?.get("topology.kubernetes.io/zone").cloned();
        let (serving, terminating) = (pods::is_ready(&pod), pods::is_deleting(&pod));
        all.push(Backend {
            addresses,
            zone: snapshot.get(&node).and_then(zone),
            serving,
            terminating,
            ready: published || (serving && !terminating),
            pod,
        });
    }
    Ok(all)
}

/// The service's ports as this pod has them; a named port that it lacks is left out.
fn ports(spec: &ServiceSpec, pod: &Pod) -> Vec<Port> {
    let containers =
        pod.spec.iter().flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    let named: Vec<_> = containers.flat_map(|container| container.ports.iter().flatten()).collect();
    let mut ports = Vec::new();
    for port in spec.ports.iter().flatten() {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let number = match &port.target_port {
            None | Some(IntOrString::Int(0)) => Some(port.port),
            Some(IntOrString::Int(number)) => Some(*number),
            Some(IntOrString::String(name)) => named
                .iter()
                .find(|p| p.name.as_ref() == Some(name) && p.protocol.as_deref().unwrap_or("TCP") == protocol)
                .map(|p| p.container_port),
        };
        ports.extend(number.map(|number| Port {
            name: port.name.clone().unwrap_or_default(),
            protocol: protocol.to_owned(),
            number,
            app_protocol: port.app_protocol.clone(),
        }));
    }
    ports
}

fn is_headless(spec: &ServiceSpec) -> bool {
    spec.cluster_ip.as_deref() == Some("None")
}

/// Labels of what is derived from a service: its own, and whether it is headless.
fn labels(service: &Service, spec: &ServiceSpec, own: &[(&str, &str)]) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if is_headless(spec) {
        labels.insert(HEADLESS.into(), String::new());
    }
    labels.extend(own.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    labels
}

/// Where the pod's own name in a headless service comes from.
fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let member = spec.subdomain.is_some() && spec.subdomain == service.metadata.name;
    spec.hostname.clone().filter(|hostname| member && !hostname.is_empty())
}

fn target(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".into()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}
