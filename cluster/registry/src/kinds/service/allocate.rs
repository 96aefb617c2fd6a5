//! Cluster addresses and node ports: chosen among those that no service in the snapshot has. The registry lets one request at a time in.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use kedge_api::Status;
use kedge_api::resource::known;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{addresses, families, needs_health_port, needs_node_port};
use crate::errors::{Errors, Path, internal};
use crate::kinds::ip_address;
use crate::networks::{self, Network, mask};
use crate::strategy::Others;
use crate::value::{Fill as _, Look as _};

#[derive(Default)]
struct Used {
    addresses: HashSet<Ipv4Addr>,
    /// Of any protocol: as upstream, a number is one service's.
    ports: HashSet<u16>,
}

#[derive(Deserialize)]
struct Stored {
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default, rename = "clusterIPs")]
    cluster_ips: Vec<String>,
    #[serde(default)]
    ports: Vec<Port>,
    health_check_node_port: Option<u16>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Port {
    node_port: Option<u16>,
}

fn used(others: &Others<'_>, but: &Value) -> Used {
    let mut used = Used::default();
    let (namespace, name) = (but.text("metadata.namespace"), but.text("metadata.name"));
    for object in others.snapshot.list(&known::SERVICES, "") {
        if *object.key.namespace == *namespace && *object.key.name == *name {
            continue;
        }
        let Ok(Stored { spec }) = serde_json::from_slice(&object.json) else { continue };
        used.add(spec);
    }
    for service in others.pending {
        if service.text("metadata.namespace") == namespace && service.text("metadata.name") == name {
            continue;
        }
        let Ok(Stored { spec }) = Stored::deserialize(&**service) else { continue };
        used.add(spec);
    }
    used.addresses.extend(networks::kept(others.snapshot));
    used
}

impl Used {
    fn add(&mut self, spec: Spec) {
        self.addresses.extend(spec.cluster_ips.iter().filter_map(|ip| ip.parse::<Ipv4Addr>().ok()));
        self.ports.extend(spec.ports.into_iter().filter_map(|port| port.node_port));
        self.ports.extend(spec.health_check_node_port);
    }
}

/// One step after the other, until one fails: what a later one would say is not known then.
pub(super) fn allocate(
    others: &Others<'_>,
    new: &mut Value,
    old: Option<&Value>,
    errors: &mut Errors,
) -> Result<(), Status> {
    if new.text("spec.type") == "ExternalName" {
        return Ok(());
    }
    addresses::validate(new, old, errors);
    if !errors.is_empty() {
        return Ok(());
    }
    let one = new.text("spec.clusterIP").to_owned();
    if new.items("spec.clusterIPs").is_empty() && !one.is_empty() {
        new.set("spec.clusterIPs", json!([one]));
    }
    families::choose(new, old, errors);
    if !errors.is_empty() {
        return Ok(());
    }
    let mut used = used(others, new);
    address(others, new, old, &used, errors);
    if !errors.is_empty() || !["NodePort", "LoadBalancer"].contains(&new.text("spec.type")) {
        return Ok(());
    }
    let mine = node_ports(others, new, old, &used, errors);
    if !errors.is_empty() {
        return Ok(());
    }
    used.ports.extend(mine);
    health_port(others, new, old, &used)
}

fn address(others: &Others<'_>, new: &mut Value, old: Option<&Value>, used: &Used, errors: &mut Errors) {
    let wanted = new.text("spec.clusterIP").to_owned();
    if wanted == "None" {
        return;
    }
    let path = Path::root("spec.clusterIPs");
    let usable = networks::usable(others.snapshot, others.settings);
    if wanted.is_empty() {
        match usable.iter().find_map(|network| free_address(*network, &used.addresses)) {
            Some(address) => match ownable(others, new, address) {
                Ok(()) => {
                    new.set("spec.clusterIP", address.to_string());
                    new.set("spec.clusterIPs", json!([address.to_string()]));
                }
                Err(why) => errors.invalid(&path, json!([""]), &format!("failed to allocate IP: {why}")),
            },
            None => errors.invalid(&path, json!([""]), "failed to allocate IP: range is full"),
        }
        return;
    }
    // Whether it may change is for the rules to say.
    if old.is_some_and(|old| !old.text("spec.clusterIP").is_empty()) {
        return;
    }
    let why = match wanted.parse::<Ipv4Addr>().ok().filter(|a| usable.iter().any(|network| network.contains(*a))) {
        None => Err("the provided network does not match the current range".to_owned()),
        Some(address) if used.addresses.contains(&address) => Err("provided IP is already allocated".to_owned()),
        Some(address) => ownable(others, new, address),
    };
    if let Err(why) = why {
        errors.invalid(&path, json!([wanted]), &format!("failed to allocate IP {wanted}: {why}"));
    }
}

/// An address is taken in a service's name: the IPAddress that says so must have one.
fn ownable(others: &Others<'_>, service: &Value, address: Ipv4Addr) -> Result<(), String> {
    if others.dry_run {
        return Ok(());
    }
    let (namespace, name) = (service.text("metadata.namespace"), service.text("metadata.name"));
    let parent = json!({"resource": "services", "namespace": namespace, "name": name});
    ip_address::check(&json!({"metadata": {"name": address.to_string()}, "spec": {"parentRef": parent}}))
        .map_err(|status| status.message)
}

/// A random one of those above the band that is left to people's own choice (upstream's KEP-3070), then of that band.
fn free_address(network: Network, used: &HashSet<Ipv4Addr>) -> Option<Ipv4Addr> {
    let size = (!mask(network.bits())).saturating_sub(1);
    let reserved = (size / 16).clamp(16, 256).min(size);
    let first = network.address().saturating_add(1);
    let upper = size - reserved;
    let start = random().checked_rem(upper.max(1)).unwrap_or(0);
    let dynamic = (0..upper).map(|n| reserved + (start + n) % upper.max(1));
    let mut candidates = dynamic.chain(0..reserved).map(|offset| Ipv4Addr::from(first + offset));
    candidates.find(|address| !used.contains(address))
}

fn random() -> u32 {
    uuid::Uuid::new_v4().as_fields().0
}

/// The ports that the service has now.
fn node_ports(
    others: &Others<'_>,
    new: &mut Value,
    old: Option<&Value>,
    used: &Used,
    errors: &mut Errors,
) -> HashSet<u16> {
    let range = others.settings.node_ports.clone();
    let had: HashSet<i64> =
        old.into_iter().flat_map(|o| o.items("spec.ports")).filter_map(|p| p.int("nodePort")).collect();
    let needs = needs_node_port(new);
    let root = Path::root("spec.ports");
    let chosen: Vec<(Option<i64>, i64)> =
        new.items("spec.ports").iter().filter_map(|p| Some((p.int("port"), p.int("nodePort")?))).collect();
    // The same port of another protocol has the same number outside, if the service is new.
    let mut shared: HashMap<Option<i64>, i64> = HashMap::new();
    let mut mine = HashSet::new();
    for (at, port) in new.items_mut("spec.ports").iter_mut().enumerate() {
        let path = root.index(at);
        let inside = port.int("port");
        let twin = chosen.iter().find(|(other, _)| *other == inside).map(|(_, number)| *number);
        let known = shared.get(&inside).copied().or(twin).filter(|_| old.is_none());
        match port.int("nodePort").or(known.filter(|_| needs)) {
            Some(wanted) => {
                let number = u16::try_from(wanted).ok().filter(|n| range.contains(n));
                let again = shared.get(&inside) == Some(&wanted) || had.contains(&wanted);
                if number.is_none() && !had.contains(&wanted) {
                    errors.invalid(&path.child("nodePort"), wanted, &outside(&range));
                    return mine;
                }
                if number.is_some_and(|n| used.ports.contains(&n) || !again && mine.contains(&n)) {
                    errors.invalid(&path.child("nodePort"), wanted, "provided port is already allocated");
                    return mine;
                }
                port.set("nodePort", wanted);
                shared.insert(inside, wanted);
                mine.extend(number);
            }
            None if needs => match free_port(&range, |n| used.ports.contains(&n) || mine.contains(&n)) {
                Some(number) => {
                    port.set("nodePort", number);
                    shared.insert(inside, number.into());
                    mine.insert(number);
                }
                None => errors.invalid(&path.child("nodePort"), 0, "failed to allocate a nodePort: range is full"),
            },
            None => {}
        }
    }
    mine
}

fn outside(range: &RangeInclusive<u16>) -> String {
    let (first, last) = (range.start(), range.end());
    format!("provided port is not in the valid range. The range of valid ports is {first}-{last}")
}

/// One that it had stays its own; that it may not change is for the rules to say. One that it cannot have is no fault of a field upstream.
fn health_port(others: &Others<'_>, new: &mut Value, old: Option<&Value>, used: &Used) -> Result<(), Status> {
    if !needs_health_port(new) || old.is_some_and(needs_health_port) {
        return Ok(());
    }
    let range = &others.settings.node_ports;
    let Some(wanted) = new.int("spec.healthCheckNodePort").filter(|port| *port != 0) else {
        let free = free_port(range, |n| used.ports.contains(&n));
        let full = || internal("failed to allocate a HealthCheck NodePort 0: range is full".into());
        new.set("spec.healthCheckNodePort", free.ok_or_else(full)?);
        return Ok(());
    };
    let why = match u16::try_from(wanted).ok().filter(|n| range.contains(n)) {
        None => outside(range),
        Some(number) if used.ports.contains(&number) => "provided port is already allocated".to_owned(),
        Some(_) => return Ok(()),
    };
    Err(internal(format!("failed to allocate requested HealthCheck NodePort {wanted}: {why}")))
}

/// A random one of those above the band that is left to people's own choice (upstream's KEP-3668), then of that band.
fn free_port(range: &RangeInclusive<u16>, taken: impl Fn(u16) -> bool) -> Option<u16> {
    let first = u32::from(*range.start());
    let size = u32::from(*range.end()).checked_sub(first)? + 1;
    let reserved = if size < 16 { 0 } else { (size / 32).clamp(16, 128) };
    let spread = |from: u32, count: u32| {
        let start = random().checked_rem(count).unwrap_or(0);
        (0..count).map(move |n| from + (start + n) % count)
    };
    let candidates = spread(first + reserved, size - reserved).chain(spread(first, reserved));
    candidates.filter_map(|port| u16::try_from(port).ok()).find(|port| !taken(*port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_of_a_network_is_handed_out_once_and_no_other() {
        let of = |bits| Network::new(Ipv4Addr::new(10, 43, 0, 0), bits);
        let mut used = HashSet::new();
        while let Some(address) = free_address(of(26), &used) {
            assert!(of(26).contains(address), "{address}");
            assert!(used.insert(address));
        }
        assert_eq!(used.len(), 62);
        assert!(!of(26).contains(Ipv4Addr::new(10, 43, 0, 0)));
        assert!(!of(26).contains(Ipv4Addr::new(10, 43, 0, 63)));
        assert!(!of(16).contains(Ipv4Addr::new(10, 99, 0, 1)));
        assert!(free_address(of(16), &HashSet::new()).is_some_and(|a| u32::from(a) - of(16).address() > 256));
    }

    #[test]
    fn every_port_is_handed_out_once() {
        let mut used = HashSet::new();
        while let Some(port) = free_port(&(30_000..=30_009), |n| used.contains(&n)) {
            assert!(used.insert(port));
        }
        assert_eq!(used.len(), 10);
        // The lower band last.
        let mut used = Vec::new();
        while let Some(port) = free_port(&(30_000..=30_099), |n| used.contains(&n)) {
            used.push(port);
        }
        assert_eq!((used.len(), used.iter().position(|port| *port < 30_016)), (100, Some(84)));
    }
}
