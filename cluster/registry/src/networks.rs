//! The networks that services get addresses from (ServiceCIDR), and the addresses that are taken (IPAddress), kept true to the services
//! that there are: an address that a service has and nobody notes is noted, and one that is noted for no service is forgotten. Which
//! networks are ready, and which may go, is for a controller to say.
//!
//! ```text
//! plan (of services, addresses, networks) ─▶ Steps ─▶ tasks::addresses
//! usable, kept ─▶ kinds::service::allocate
//! ```
//! Source: "Cluster IP allocation" of Kubernetes' documentation, KEP-1880.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use kedge_api::resource::known::{IP_ADDRESSES, SERVICE_CIDRS, SERVICES};
use kedge_api::{Key, Object, Snapshot};
use serde::Deserialize;

use crate::settings::Settings;

/// The label of addresses that follow services.
pub(crate) const MANAGED: (&str, &str) = ("ipaddress.kubernetes.io/managed-by", "ipallocator.k8s.io");

/// A network of IPv4, which is the family that services have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    first: u32,
    bits: u8,
}

impl Network {
    pub(crate) fn new(address: Ipv4Addr, bits: u8) -> Self {
        Self { first: u32::from(address) & mask(bits), bits }
    }

    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        Some(Self::new(address.parse().ok()?, bits.parse().ok().filter(|bits| *bits <= 32)?))
    }

    pub(crate) const fn address(self) -> u32 {
        self.first
    }

    pub(crate) const fn bits(self) -> u8 {
        self.bits
    }

    /// Neither the network's own address nor its last one are anybody's.
    pub(crate) fn contains(self, address: Ipv4Addr) -> bool {
        (self.first.saturating_add(1)..self.first | !mask(self.bits)).contains(&u32::from(address))
    }
}

pub(crate) fn mask(bits: u8) -> u32 {
    u32::MAX.checked_shl(u32::from(32_u8.saturating_sub(bits))).unwrap_or(0)
}

#[derive(Deserialize)]
struct Cidr {
    #[serde(default)]
    spec: CidrSpec,
    #[serde(default)]
    status: CidrStatus,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CidrSpec {
    cidrs: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CidrStatus {
    conditions: Vec<Condition>,
}

#[derive(Deserialize)]
struct Condition {
    r#type: String,
    status: String,
}

impl Cidr {
    fn networks(&self) -> impl Iterator<Item = Network> {
        self.spec.cidrs.iter().filter_map(|text| Network::parse(text))
    }

    fn ready(&self) -> Option<bool> {
        self.status.conditions.iter().find(|c| c.r#type == "Ready").map(|c| c.status == "True")
    }
}

/// The networks that addresses may be taken from: those that are ready and stay. Before there are any, the one of the settings.
pub(crate) fn usable(snapshot: &Snapshot, settings: &Settings) -> Vec<Network> {
    let mut usable = Vec::new();
    for object in snapshot.list(&SERVICE_CIDRS, "").filter(|object| !object.is_deleting()) {
        let Ok(cidr) = serde_json::from_slice::<Cidr>(&object.json) else { continue };
        if cidr.ready() == Some(true) {
            usable.extend(cidr.networks());
        }
    }
    if usable.is_empty() && snapshot.len(&SERVICE_CIDRS) == 0 {
        let (address, bits) = settings.service_network;
        usable.push(Network::new(address, bits));
    }
    usable
}

/// The addresses that somebody keeps from services; those that services have are the services' own to tell.
pub(crate) fn kept(snapshot: &Snapshot) -> impl Iterator<Item = Ipv4Addr> {
    let kept = snapshot.list(&IP_ADDRESSES, "").filter(|object| !is_managed(object));
    kept.filter_map(|object| object.key.name.parse().ok())
}

fn is_managed(address: &Object) -> bool {
    address.meta.labels.as_ref().and_then(|labels| labels.get(MANAGED.0)).is_some_and(|by| by == MANAGED.1)
}

#[derive(Deserialize)]
struct Noted {
    spec: NotedSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NotedSpec {
    #[serde(default)]
    parent_ref: Parent,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Parent {
    pub(crate) resource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// What keeps the objects true.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    Note(IpAddr, Parent),
    Forget(String),
    /// The network that there is from the start.
    Default,
}

/// Addresses of services, and whose each is.
fn taken(snapshot: &Snapshot) -> BTreeMap<IpAddr, Parent> {
    #[derive(Deserialize)]
    struct Service {
        spec: Spec,
    }
    #[derive(Deserialize)]
    struct Spec {
        #[serde(default, rename = "clusterIPs")]
        cluster_ips: Vec<String>,
    }
    let mut taken = BTreeMap::new();
    for object in snapshot.list(&SERVICES, "") {
        let Ok(Service { spec }) = serde_json::from_slice(&object.json) else { continue };
        for address in spec.cluster_ips.iter().filter_map(|text| text.parse().ok()) {
            let (namespace, name) = (object.key.namespace.to_string(), object.key.name.to_string());
            taken.insert(address, Parent { resource: "services".to_owned(), namespace, name });
        }
    }
    taken
}

/// What is to be written now.
pub(crate) fn plan(snapshot: &Snapshot) -> Vec<Step> {
    let taken = taken(snapshot);
    let mut steps = Vec::new();
    let mut missing = taken.clone();
    for object in snapshot.list(&IP_ADDRESSES, "") {
        let Ok(noted) = serde_json::from_slice::<Noted>(&object.json) else { continue };
        let address: Option<IpAddr> = object.key.name.parse().ok();
        let owner = address.and_then(|address| taken.get(&address));
        match owner {
            Some(owner) if *owner == noted.spec.parent_ref => {
                missing.retain(|taken, _| Some(*taken) != address);
            }
            // Noted for another: once that is gone, for the right one.
            Some(_) => steps.push(Step::Forget(object.key.name.to_string())),
            None if is_managed(object) => steps.push(Step::Forget(object.key.name.to_string())),
            // Somebody keeps it from services.
            None => {}
        }
    }
    steps.extend(missing.into_iter().map(|(address, parent)| Step::Note(address, parent)));
    if snapshot.get(&Key::new(SERVICE_CIDRS, "", "kubernetes")).is_none() {
        steps.push(Step::Default);
    }
    steps
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kedge_api::{GroupResource, Revision};
    use serde_json::{Value, json};

    use super::*;
    use crate::value::{Fill as _, Look as _};

    fn snapshot(objects: &[(GroupResource, Value)]) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for (at, (resource, object)) in objects.iter().enumerate() {
            let key = Key::new(resource.clone(), object.text("metadata.namespace"), object.text("metadata.name"));
            let json = serde_json::to_vec(object).unwrap();
            let revision = Revision(u64::try_from(at).unwrap() + 1);
            snapshot.insert(Arc::new(kedge_store::decode(key, revision, json.into()).unwrap()));
        }
        snapshot
    }

    fn service(name: &str, address: &str) -> (GroupResource, Value) {
        (SERVICES, json!({"metadata": {"namespace": "n", "name": name}, "spec": {"clusterIPs": [address]}}))
    }

    fn noted(address: &str, service: &str, managed: bool) -> (GroupResource, Value) {
        let labels = if managed { json!({MANAGED.0: MANAGED.1}) } else { json!({}) };
        let parent = json!({"group": "", "resource": "services", "namespace": "n", "name": service});
        (IP_ADDRESSES, json!({"metadata": {"name": address, "labels": labels}, "spec": {"parentRef": parent}}))
    }

    fn cidr(name: &str, cidr: &str, ready: &str, deleting: bool) -> (GroupResource, Value) {
        let mut object = json!({"metadata": {"name": name}, "spec": {"cidrs": [cidr]},
            "status": {"conditions": [{"type": "Ready", "status": ready}]}});
        if deleting {
            object.set("metadata.deletionTimestamp", "2026-01-01T00:00:00Z");
        }
        (SERVICE_CIDRS, object)
    }

    fn steps(objects: &[(GroupResource, Value)]) -> Vec<Step> {
        plan(&snapshot(objects))
    }

    fn parent(name: &str) -> Parent {
        Parent { resource: "services".into(), namespace: "n".into(), name: name.into() }
    }

    #[test]
    fn each_address_of_a_service_is_noted_and_no_other() {
        let kubernetes = || cidr("kubernetes", "10.0.0.0/24", "True", false);
        let address: IpAddr = [10, 0, 0, 1].into();
        let note = |name| Step::Note(address, parent(name));
        let forget = || Step::Forget("10.0.0.1".into());
        for (objects, expected) in [
            (vec![service("a", "10.0.0.1")], vec![note("a")]),
            (vec![service("a", "10.0.0.1"), noted("10.0.0.1", "a", true)], vec![]),
            (vec![service("a", "10.0.0.1"), noted("10.0.0.1", "b", true)], vec![forget(), note("a")]),
            (vec![service("a", "None")], vec![]),
            (vec![noted("10.0.0.1", "a", true)], vec![forget()]),
            (vec![noted("10.0.0.1", "a", false)], vec![]),
        ] {
            let all: Vec<_> = objects.into_iter().chain([kubernetes()]).collect();
            assert_eq!(steps(&all), expected, "{all:?}");
        }
        assert_eq!(steps(&[]), [Step::Default]);
    }

    #[test]
    fn addresses_come_from_networks_that_are_ready_and_stay() {
        let all = [
            cidr("kubernetes", "10.0.0.0/24", "True", false),
            cidr("more", "10.1.0.0/24", "True", true),
            cidr("new", "10.2.0.0/24", "False", false),
        ];
        let settings = Settings::default();
        assert_eq!(usable(&snapshot(&all), &settings), [Network::new([10, 0, 0, 0].into(), 24)]);
        assert_eq!(usable(&snapshot(&[]), &settings), [Network::new([10, 43, 0, 0].into(), 16)]);
        let world = snapshot(&[noted("10.0.0.1", "a", true), noted("10.0.0.2", "b", false)]);
        assert_eq!(kept(&world).collect::<Vec<_>>(), [Ipv4Addr::new(10, 0, 0, 2)]);
    }
}
