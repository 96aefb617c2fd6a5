//! What the table should hold, and the difference between two such states. Pure: nothing here talks to the kernel.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, SocketAddr};

use super::element::{Class, Element, Front, ServiceKey, Side, Slot};
use super::operation::{ELEMENTS_A_MESSAGE, Operation};
use super::{Family, Ranges, conntrack, rules};
use crate::{HostPort, Protocol, ServiceEntry, ServiceTable};

/// What one service needs. Each backend is there once; its place is its number in the rules, which it keeps while others
/// come and go, so that clients stay with it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Service {
    node_port: Option<u16>,
    sticky_seconds: u32,
    backends: Box<[SocketAddr]>,
}

/// An attachment as far as rules care.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    pub addresses: Vec<IpAddr>,
    pub host_ports: Vec<HostPort>,
}

/// What the kernel's table holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    services: BTreeMap<ServiceKey, Service>,
    attached: BTreeMap<String, Attached>,
    /// Classes that have their chains. They stay when the last service of a class goes: they cost two chains, and
    /// come back with the next one.
    classes: BTreeSet<Class>,
}

/// Operations, and what the state is when they are done.
#[derive(Debug)]
pub struct Plan {
    pub operations: Vec<Operation>,
    /// UDP endpoints whose connections have to be forgotten after the operations are done.
    pub stale: conntrack::Stale,
    change: Change,
    classes: BTreeSet<Class>,
}

/// Far more than one service of a cluster has; a class's chain with affinity has a rule for each.
const MOST_BACKENDS: usize = 10_000;

#[derive(Debug)]
enum Change {
    Services { set: Vec<(ServiceKey, Service)>, removed: Vec<ServiceKey> },
    Attach(String, Attached),
    Detach(String),
}

impl Plan {
    /// Whether the kernel's table is already what it should be.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }
}

impl State {
    /// The table anew with what this state holds: the first transaction, and the way back when the kernel's table is
    /// not what it was thought to be.
    pub fn replacement(&self, ranges: &Ranges) -> Vec<Operation> {
        let mut operations = rules::table(ranges);
        let mut elements = add_classes(&BTreeSet::new(), &self.classes, &mut operations);
        elements.extend(self.services.iter().flat_map(|(key, service)| service.elements(*key)));
        elements.extend(self.attached.values().flat_map(Attached::elements));
        elements.sort_unstable();
        batches(&elements, Operation::AddElements, &mut operations);
        operations
    }

    /// From the services that are there to those of the table.
    pub fn converge(&self, table: &ServiceTable) -> Plan {
        let mut seen: HashSet<ServiceKey> = HashSet::with_capacity(table.services.len());
        let mut node_ports: HashSet<(Family, Protocol, u16)> = HashSet::new();
        let (mut gone, mut come, mut set) = (Vec::new(), Vec::new(), Vec::new());
        for entry in &table.services {
            let key = ServiceKey { address: entry.address, protocol: entry.protocol, port: entry.port };
            if !seen.insert(key) {
                tracing::warn!(service = %key, "named twice in the service table: the first counts");
                continue;
            }
            let family = Family::of(key.address);
            let free = |port: &u16| node_ports.insert((family, key.protocol, *port));
            let node_port = entry.node_port.filter(free);
            if node_port != entry.node_port {
                tracing::warn!(service = %key, node_port = entry.node_port, "node port is another service's: left out");
            }
            let before = self.services.get(&key);
            // The usual case, without a copy of anything.
            if before.is_some_and(|before| before.is_as(entry, node_port)) {
                continue;
            }
            let service = Service::new(entry, node_port, before);
            if before == Some(&service) {
                continue;
            }
            gone.extend(before.map(|before| before.elements(key)).unwrap_or_default());
            come.extend(service.elements(key));
            set.push((key, service));
        }
        let mut removed = Vec::new();
        for (key, service) in self.services.iter().filter(|(key, _)| !seen.contains(key)) {
            gone.extend(service.elements(*key));
            removed.push(*key);
        }
        self.plan(gone, come, Change::Services { set, removed })
    }

    /// With one attachment more, or with another shape of one that is there.
    pub fn attach(&self, id: &str, attached: Attached) -> Plan {
        let gone = self.attached.get(id).map(Attached::elements).unwrap_or_default();
        let come = attached.elements();
        self.plan(gone, come, Change::Attach(id.to_owned(), attached))
    }

    /// Without an attachment; an unknown one changes nothing.
    pub fn detach(&self, id: &str) -> Plan {
        let gone = self.attached.get(id).map(Attached::elements).unwrap_or_default();
        self.plan(gone, Vec::new(), Change::Detach(id.to_owned()))
    }

    /// Another attachment that has one of these host ports already.
    pub fn conflict(&self, id: &str, wanted: &Attached) -> Option<(&str, HostPort)> {
        self.attached.iter().filter(|(other, _)| *other != id).find_map(|(other, attached)| {
            let taken = |port: &&HostPort| {
                attached.host_ports.iter().any(|theirs| {
                    (theirs.proto, theirs.host_ip, theirs.host_port) == (port.proto, port.host_ip, port.host_port)
                })
            };
            wanted.host_ports.iter().find(taken).map(|port| (other.as_str(), port.clone()))
        })
    }

    /// After the plan's operations are done.
    pub fn apply(&mut self, plan: Plan) {
        self.classes.extend(plan.classes);
        match plan.change {
            Change::Services { set, removed } => {
                self.services.extend(set);
                for key in removed {
                    self.services.remove(&key);
                }
            }
            Change::Attach(id, attached) => drop(self.attached.insert(id, attached)),
            Change::Detach(id) => drop(self.attached.remove(&id)),
        }
    }

    fn plan(&self, mut gone: Vec<Element>, mut come: Vec<Element>, change: Change) -> Plan {
        gone.sort_unstable();
        come.sort_unstable();
        // What goes and comes again unchanged is left alone.
        let stays: BTreeSet<Element> = come.iter().filter(|e| gone.binary_search(e).is_ok()).copied().collect();
        gone.retain(|element| !stays.contains(element));
        come.retain(|element| !stays.contains(element));

        let used = come.iter().filter_map(|element| match element {
            Element::Entry { class, .. } => Some(*class),
            _ => None,
        });
        let classes: BTreeSet<Class> = used.filter(|class| !self.classes.contains(class)).collect();
        let stale = conntrack::stale(&gone, &come);
        let mut operations = Vec::new();
        batches(&gone, Operation::DeleteElements, &mut operations);
        come.extend(add_classes(&self.classes, &classes, &mut operations));
        come.sort_unstable();
        batches(&come, Operation::AddElements, &mut operations);
        Plan { operations, stale, change, classes }
    }
}

/// Elements of one map together, in messages of bounded size. Elements are sorted, so those of a map lie together.
fn batches(elements: &[Element], operation: fn(Vec<Element>) -> Operation, out: &mut Vec<Operation>) {
    for of_a_map in elements.chunk_by(|a, b| a.place() == b.place()) {
        out.extend(of_a_map.chunks(ELEMENTS_A_MESSAGE).map(|chunk| operation(chunk.to_vec())));
    }
}

/// Chains of new classes, and of the slots that no class before needed. Returns the elements that lead to the latter.
fn add_classes(there: &BTreeSet<Class>, new: &BTreeSet<Class>, out: &mut Vec<Operation>) -> Vec<Element> {
    let mut slots: BTreeMap<(Family, u32), u16> = BTreeMap::new();
    for class in there {
        let most = slots.entry((class.family, class.sticky_seconds)).or_default();
        *most = class.backends.max(*most);
    }
    let mut elements = Vec::new();
    for class in new {
        let most = slots.entry((class.family, class.sticky_seconds)).or_default();
        if class.sticky_seconds != 0 {
            for index in *most..class.backends {
                let slot = Slot { family: class.family, sticky_seconds: class.sticky_seconds, index };
                out.extend(rules::slot(slot));
                elements.extend([Side::Service, Side::Node].map(|side| Element::Sticky { side, slot }));
            }
            *most = class.backends.max(*most);
        }
        out.extend(rules::class(*class));
    }
    elements
}

impl Service {
    /// Certainly nothing to do. Backends in another order may still be the same: that is not decided here.
    fn is_as(&self, entry: &ServiceEntry, node_port: Option<u16>) -> bool {
        self.node_port == node_port
            && self.sticky_seconds == entry.affinity_seconds.unwrap_or(0)
            && *self.backends == *entry.backends
    }

    fn new(entry: &ServiceEntry, node_port: Option<u16>, before: Option<&Self>) -> Self {
        let family = Family::of(entry.address);
        // Translation stays within a family: an endpoint of the other one cannot be reached through this address.
        let mut wanted: Vec<SocketAddr> =
            entry.backends.iter().filter(|backend| Family::of(backend.ip()) == family).copied().collect();
        wanted.sort_unstable();
        wanted.dedup();
        wanted.truncate(MOST_BACKENDS);
        let backends = match before {
            Some(before) => keep_places(&before.backends, wanted),
            None => wanted,
        };
        Self { node_port, sticky_seconds: entry.affinity_seconds.unwrap_or(0), backends: backends.into_boxed_slice() }
    }

    fn elements(&self, key: ServiceKey) -> Vec<Element> {
        let family = Family::of(key.address);
        let node = self.node_port.map(|port| Front::Node { family, protocol: key.protocol, port });
        let mut out = Vec::with_capacity((self.backends.len() + 1) * 2);
        for front in [Some(Front::Service(key)), node].into_iter().flatten() {
            if self.backends.is_empty() {
                out.push(Element::Refused { front });
                continue;
            }
            let backends = self.backends.len() as u16;
            out.push(Element::Entry { front, class: Class { family, backends, sticky_seconds: self.sticky_seconds } });
            out.extend((0..).zip(&*self.backends).map(|(index, to)| Element::Endpoint { front, index, to: *to }));
        }
        out
    }
}

/// Those that were there keep their places as far as these exist still; the others fill the gaps in order.
fn keep_places(before: &[SocketAddr], wanted: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let mut places: Vec<Option<SocketAddr>> = vec![None; wanted.len()];
    let mut homeless = Vec::new();
    let was_at: BTreeMap<SocketAddr, usize> =
        before.iter().enumerate().map(|(place, backend)| (*backend, place)).collect();
    for backend in wanted {
        match was_at.get(&backend).and_then(|place| places.get_mut(*place)) {
            Some(place) => *place = Some(backend),
            None => homeless.push(backend),
        }
    }
    let mut homeless = homeless.into_iter();
    places.into_iter().filter_map(|place| place.or_else(|| homeless.next())).collect()
}

impl Attached {
    fn elements(&self) -> Vec<Element> {
        let mut out: Vec<Element> =
            self.addresses.iter().map(|address| Element::Hairpin { address: *address }).collect();
        for host_port in &self.host_ports {
            for address in &self.addresses {
                let to = SocketAddr::new(*address, host_port.port);
                let (protocol, port) = (host_port.proto, host_port.host_port);
                match host_port.host_ip.filter(|ip| !ip.is_unspecified()) {
                    None => out.push(Element::HostPort { protocol, port, to }),
                    Some(ip) if Family::of(ip) == Family::of(*address) => {
                        out.push(Element::HostPortAt { key: ServiceKey { address: ip, protocol, port }, to });
                    }
                    Some(_) => {}
                }
            }
        }
        out
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
