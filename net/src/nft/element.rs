//! The maps and sets, and what stands in them: as values to compare, as text to review, as bytes to send.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::Family;
use super::expression::Verdict;
use crate::Protocol;

/// The part of a map's key or value that nft(8) knows by a name; its number is nft's, for listing only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    Address,
    Protocol,
    Port,
    /// A number in the machine's byte order.
    Number,
}

impl Type {
    pub fn listed_as(self, family: Family) -> u32 {
        match (self, family) {
            (Self::Address, Family::V4) => 7,
            (Self::Address, Family::V6) => 8,
            (Self::Protocol, _) => 12,
            (Self::Port, _) => 13,
            (Self::Number, _) => 19,
        }
    }

    pub fn words(self, family: Family) -> u8 {
        match self {
            Self::Address => family.words(),
            Self::Protocol | Self::Port | Self::Number => 1,
        }
    }
}

/// What a map gives for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gives {
    Nothing,
    Verdict,
    Values(&'static [Type]),
}

/// Whether a connection goes to a service's own address, or to its port on the node. The maps of both are alike, but
/// for the address in the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    Service,
    Node,
}

/// The maps and sets of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Map {
    Sticky(Side),
    Entry(Side),
    Endpoint(Side),
    Refused(Side),
    Affinity(Side),
    HostPort,
    HostPortAt,
    Hairpin,
}

/// One row of [`MAPS`].
#[derive(Debug)]
pub struct MapRow {
    pub map: Map,
    pub name: &'static str,
    pub key: &'static [Type],
    pub gives: Gives,
    /// Filled by packets; its elements end by themselves.
    pub dynamic: bool,
}

use Side::{Node, Service};
use Type::{Address, Number, Port, Protocol as Proto};

const fn row(map: Map, name: &'static str, key: &'static [Type], gives: Gives) -> MapRow {
    MapRow { map, name, key, gives, dynamic: false }
}

const fn dynamic(map: Map, name: &'static str, key: &'static [Type]) -> MapRow {
    MapRow { map, name, key, gives: Gives::Nothing, dynamic: true }
}

/// Every map, in the order in which it is made. A service's key is address, protocol, port; a node port's the same
/// without the address; the number behind it says which of its endpoints.
pub const MAPS: &[MapRow] = &[
    row(Map::Sticky(Service), "sticky", &[Number, Number], Gives::Verdict),
    row(Map::Sticky(Node), "node_sticky", &[Number, Number], Gives::Verdict),
    row(Map::Entry(Service), "service", &[Address, Proto, Port], Gives::Verdict),
    row(Map::Entry(Node), "node_port", &[Proto, Port], Gives::Verdict),
    row(Map::Endpoint(Service), "endpoint", &[Address, Proto, Port, Number], Gives::Values(&[Address, Port])),
    row(Map::Endpoint(Node), "node_endpoint", &[Proto, Port, Number], Gives::Values(&[Address, Port])),
    row(Map::Refused(Service), "refused", &[Address, Proto, Port], Gives::Nothing),
    row(Map::Refused(Node), "node_refused", &[Proto, Port], Gives::Nothing),
    dynamic(Map::Affinity(Service), "affinity", &[Address, Address, Proto, Port, Number]),
    dynamic(Map::Affinity(Node), "node_affinity", &[Address, Proto, Port, Number]),
    row(Map::HostPort, "host_port", &[Proto, Port], Gives::Values(&[Address, Port])),
    row(Map::HostPortAt, "host_port_at", &[Address, Proto, Port], Gives::Values(&[Address, Port])),
    row(Map::Hairpin, "hairpin", &[Address, Address], Gives::Nothing),
];

impl Map {
    /// Its name in one family: `service4`.
    pub fn name(self, family: Family) -> String {
        let row = MAPS.iter().find(|row| row.map == self);
        format!("{}{}", row.map_or("", |row| row.name), family.digit())
    }
}

/// How many backends a service has and how long a client stays with one of them; services of one class share chains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Class {
    pub family: Family,
    /// 0 for none.
    pub sticky_seconds: u32,
    pub backends: u16,
}

impl Class {
    /// The chain that picks an endpoint.
    pub fn chain(self, side: Side) -> String {
        let prefix = if side == Side::Node { "node" } else { "pick" };
        let base = format!("{prefix}{}_{}", self.family.digit(), self.backends);
        if self.sticky_seconds == 0 { base } else { format!("{base}_{}s", self.sticky_seconds) }
    }
}

/// The endpoint with this number, of any service with this much stickiness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    pub family: Family,
    pub sticky_seconds: u32,
    pub index: u16,
}

impl Slot {
    /// The chain that remembers the client and goes to the endpoint.
    pub fn chain(self, side: Side) -> String {
        let prefix = if side == Side::Node { "node_stick" } else { "stick" };
        format!("{prefix}{}_{}_{}s", self.family.digit(), self.index, self.sticky_seconds)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    pub address: IpAddr,
    pub protocol: Protocol,
    pub port: u16,
}

/// What is in front of a service: its own address and port, or a port of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Front {
    Service(ServiceKey),
    Node { family: Family, protocol: Protocol, port: u16 },
}

impl Front {
    pub fn service(address: IpAddr, protocol: Protocol, port: u16) -> Self {
        Self::Service(ServiceKey { address, protocol, port })
    }

    pub fn protocol(&self) -> Protocol {
        match self {
            Self::Service(key) => key.protocol,
            Self::Node { protocol, .. } => *protocol,
        }
    }

    fn side(&self) -> Side {
        match self {
            Self::Service(_) => Side::Service,
            Self::Node { .. } => Side::Node,
        }
    }

    pub fn family(&self) -> Family {
        match self {
            Self::Service(key) => Family::of(key.address),
            Self::Node { family, .. } => *family,
        }
    }
}

/// One element of one map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Element {
    Sticky { side: Side, slot: Slot },
    Entry { front: Front, class: Class },
    Endpoint { front: Front, index: u16, to: SocketAddr },
    Refused { front: Front },
    HostPort { protocol: Protocol, port: u16, to: SocketAddr },
    HostPortAt { key: ServiceKey, to: SocketAddr },
    Hairpin { address: IpAddr },
}

/// What an element gives: bytes of registers, or a chain to go to.
#[derive(Debug, PartialEq, Eq)]
pub enum Given {
    Nothing,
    Bytes(Vec<u8>),
    Verdict(Verdict),
}

impl Element {
    pub fn place(&self) -> (Map, Family) {
        match self {
            Self::Sticky { side, slot } => (Map::Sticky(*side), slot.family),
            Self::Entry { front, .. } => (Map::Entry(front.side()), front.family()),
            Self::Endpoint { front, .. } => (Map::Endpoint(front.side()), front.family()),
            Self::Refused { front } => (Map::Refused(front.side()), front.family()),
            Self::HostPort { to, .. } => (Map::HostPort, Family::of(to.ip())),
            Self::HostPortAt { key, .. } => (Map::HostPortAt, Family::of(key.address)),
            Self::Hairpin { address } => (Map::Hairpin, Family::of(*address)),
        }
    }

    pub fn key(&self) -> Vec<u8> {
        let out = Registers::default();
        match self {
            Self::Sticky { slot, .. } => out.number(slot.index.into()).number(slot.sticky_seconds),
            Self::Entry { front, .. } | Self::Refused { front } => out.front(front),
            Self::Endpoint { front, index, .. } => out.front(front).number((*index).into()),
            Self::HostPort { protocol, port, .. } => out.protocol(*protocol).port(*port),
            Self::HostPortAt { key, .. } => out.service(key),
            Self::Hairpin { address } => out.address(*address).address(*address),
        }
        .0
    }

    pub fn given(&self) -> Given {
        match self {
            Self::Sticky { side, slot } => Given::Verdict(Verdict::Goto(slot.chain(*side))),
            Self::Entry { front, class } => Given::Verdict(Verdict::Goto(class.chain(front.side()))),
            Self::Endpoint { to, .. } | Self::HostPort { to, .. } | Self::HostPortAt { to, .. } => {
                Given::Bytes(Registers::default().address(to.ip()).port(to.port()).0)
            }
            Self::Refused { .. } | Self::Hairpin { .. } => Given::Nothing,
        }
    }
}

/// Values as they lie in consecutive 32-bit registers: each padded with zeros to its end.
#[derive(Debug, Default)]
struct Registers(Vec<u8>);

impl Registers {
    fn bytes(mut self, value: &[u8]) -> Self {
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn address(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => self.bytes(&v4.octets()),
            IpAddr::V6(v6) => self.bytes(&v6.octets()),
        }
    }

    fn protocol(self, protocol: Protocol) -> Self {
        self.bytes(&[protocol.number()])
    }

    fn port(self, port: u16) -> Self {
        self.bytes(&port.to_be_bytes())
    }

    fn number(self, number: u32) -> Self {
        self.bytes(&number.to_ne_bytes())
    }

    fn front(self, front: &Front) -> Self {
        match front {
            Front::Service(key) => self.service(key),
            Front::Node { protocol, port, .. } => self.protocol(*protocol).port(*port),
        }
    }

    fn service(self, key: &ServiceKey) -> Self {
        self.address(key.address).protocol(key.protocol).port(key.port)
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} . {} . {}", self.address, self.protocol.name(), self.port)
    }
}

impl fmt::Display for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(key) => write!(f, "{key}"),
            Self::Node { protocol, port, .. } => write!(f, "{} . {port}", protocol.name()),
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sticky { side, slot } => {
                write!(f, "{} . {} : goto {}", slot.index, slot.sticky_seconds, slot.chain(*side))
            }
            Self::Entry { front, class } => write!(f, "{front} : goto {}", class.chain(front.side())),
            Self::Endpoint { front, index, to } => write!(f, "{front} . {index} : {} . {}", to.ip(), to.port()),
            Self::Refused { front } => write!(f, "{front}"),
            Self::HostPort { protocol, port, to } => {
                write!(f, "{} . {port} : {} . {}", protocol.name(), to.ip(), to.port())
            }
            Self::HostPortAt { key, to } => write!(f, "{key} : {} . {}", to.ip(), to.port()),
            Self::Hairpin { address } => write!(f, "{address} . {address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The law of the table: what an element writes has the length that its map was made with.
    #[test]
    fn elements_are_as_long_as_their_maps_say() {
        for address in ["10.43.0.1", "fd00:43::1"] {
            let address: IpAddr = address.parse().unwrap();
            let family = Family::of(address);
            let key = ServiceKey { address, protocol: Protocol::Udp, port: 53 };
            let to = SocketAddr::new(address, 5353);
            let class = Class { family, backends: 3, sticky_seconds: 10800 };
            let slot = Slot { family, index: 2, sticky_seconds: 10800 };
            let fronts = [Front::Service(key), Front::Node { family, protocol: Protocol::Tcp, port: 30000 }];
            let mut elements = vec![
                Element::HostPort { protocol: Protocol::Tcp, port: 80, to },
                Element::HostPortAt { key, to },
                Element::Hairpin { address },
            ];
            for front in fronts {
                elements.extend([
                    Element::Sticky { side: front.side(), slot },
                    Element::Entry { front, class },
                    Element::Endpoint { front, index: 2, to },
                    Element::Refused { front },
                ]);
            }
            for element in elements {
                let (map, family) = element.place();
                let row = MAPS.iter().find(|row| row.map == map).unwrap();
                let length = |types: &[Type]| types.iter().map(|t| usize::from(t.words(family)) * 4).sum::<usize>();
                assert_eq!(element.key().len(), length(row.key), "{element:?}");
                match (row.gives, element.given()) {
                    (Gives::Values(types), Given::Bytes(bytes)) => {
                        assert_eq!(bytes.len(), length(types), "{element:?}")
                    }
                    (Gives::Nothing, Given::Nothing) | (Gives::Verdict, Given::Verdict(_)) => {}
                    (gives, given) => panic!("{element:?}: {gives:?} but {given:?}"),
                }
            }
        }
    }
}
