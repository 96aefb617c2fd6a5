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

/// The maps and sets of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Map {
    ServiceClass,
    NodeClass,
    Service,
    Endpoint,
    NodePort,
    HostPort,
    HostPortAt,
    Refused,
    Hairpin,
    Affine,
    Affinity,
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

use Type::{Address, Number, Port, Protocol as Proto};

const fn row(map: Map, name: &'static str, key: &'static [Type], gives: Gives) -> MapRow {
    MapRow { map, name, key, gives, dynamic: false }
}

/// Every map, in the order in which it is made. A service's key is always address, protocol, port.
pub const MAPS: &[MapRow] = &[
    row(Map::ServiceClass, "service_class", &[Number], Gives::Verdict),
    row(Map::NodeClass, "node_class", &[Number], Gives::Verdict),
    row(Map::Service, "service", &[Address, Proto, Port], Gives::Values(&[Number])),
    row(Map::Endpoint, "endpoint", &[Address, Proto, Port, Number], Gives::Values(&[Address, Port])),
    row(Map::NodePort, "node_port", &[Proto, Port], Gives::Values(&[Address, Proto, Port])),
    row(Map::HostPort, "host_port", &[Proto, Port], Gives::Values(&[Address, Port])),
    row(Map::HostPortAt, "host_port_at", &[Address, Proto, Port], Gives::Values(&[Address, Port])),
    row(Map::Refused, "refused", &[Address, Proto, Port], Gives::Nothing),
    row(Map::Hairpin, "hairpin", &[Address, Address], Gives::Nothing),
    row(Map::Affine, "affine", &[Address, Proto, Port, Address, Port], Gives::Nothing),
    MapRow {
        map: Map::Affinity,
        name: "affinity",
        key: &[Address, Address, Proto, Port],
        gives: Gives::Values(&[Address, Port]),
        dynamic: true,
    },
];

impl Map {
    /// Its name in one family: `service4`.
    pub fn name(self, family: Family) -> String {
        let row = MAPS.iter().find(|row| row.map == self);
        format!("{}{}", row.map_or("", |row| row.name), family.digit())
    }
}

/// How many backends a service has and how long a client stays with one of them; services of one class share a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Class {
    pub family: Family,
    pub backends: u16,
    /// 0 for none.
    pub sticky_seconds: u32,
}

/// Backends take 15 bits of a class's number, seconds 17.
pub const MOST_BACKENDS: usize = (1 << 15) - 1;
pub const MOST_SECONDS: u32 = (1 << 17) - 1;

impl Class {
    fn number(self) -> u32 {
        self.sticky_seconds << 15 | u32::from(self.backends)
    }

    pub fn chain(self, map: Map) -> String {
        let prefix = if map == Map::NodeClass { "node" } else { "pick" };
        let base = format!("{prefix}{}_{}", self.family.digit(), self.backends);
        if self.sticky_seconds == 0 { base } else { format!("{base}_{}", self.sticky_seconds) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    pub address: IpAddr,
    pub protocol: Protocol,
    pub port: u16,
}

/// One element of one map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Element {
    ServiceClass(Class),
    NodeClass(Class),
    Service { key: ServiceKey, class: Class },
    Endpoint { key: ServiceKey, index: u32, to: SocketAddr },
    NodePort { protocol: Protocol, port: u16, key: ServiceKey },
    HostPort { protocol: Protocol, port: u16, to: SocketAddr },
    HostPortAt { key: ServiceKey, to: SocketAddr },
    Refused { key: ServiceKey },
    Hairpin { address: IpAddr },
    Affine { key: ServiceKey, to: SocketAddr },
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
            Self::ServiceClass(class) => (Map::ServiceClass, class.family),
            Self::NodeClass(class) => (Map::NodeClass, class.family),
            Self::Service { key, .. } => (Map::Service, Family::of(key.address)),
            Self::Endpoint { key, .. } => (Map::Endpoint, Family::of(key.address)),
            Self::NodePort { key, .. } => (Map::NodePort, Family::of(key.address)),
            Self::HostPort { to, .. } => (Map::HostPort, Family::of(to.ip())),
            Self::HostPortAt { key, .. } => (Map::HostPortAt, Family::of(key.address)),
            Self::Refused { key } => (Map::Refused, Family::of(key.address)),
            Self::Hairpin { address } => (Map::Hairpin, Family::of(*address)),
            Self::Affine { key, .. } => (Map::Affine, Family::of(key.address)),
        }
    }

    pub fn key(&self) -> Vec<u8> {
        let out = Registers::default();
        match self {
            Self::ServiceClass(class) | Self::NodeClass(class) => out.number(class.number()),
            Self::Service { key, .. } | Self::Refused { key } | Self::HostPortAt { key, .. } => out.service(key),
            Self::Endpoint { key, index, .. } => out.service(key).number(*index),
            Self::NodePort { protocol, port, .. } | Self::HostPort { protocol, port, .. } => {
                out.protocol(*protocol).port(*port)
            }
            Self::Hairpin { address } => out.address(*address).address(*address),
            Self::Affine { key, to } => out.service(key).address(to.ip()).port(to.port()),
        }
        .0
    }

    pub fn given(&self) -> Given {
        let out = Registers::default();
        match self {
            Self::ServiceClass(class) => Given::Verdict(Verdict::Goto(class.chain(Map::ServiceClass))),
            Self::NodeClass(class) => Given::Verdict(Verdict::Goto(class.chain(Map::NodeClass))),
            Self::Service { class, .. } => Given::Bytes(out.number(class.number()).0),
            Self::NodePort { key, .. } => Given::Bytes(out.service(key).0),
            Self::Endpoint { to, .. } | Self::HostPort { to, .. } | Self::HostPortAt { to, .. } => {
                Given::Bytes(out.address(to.ip()).port(to.port()).0)
            }
            Self::Refused { .. } | Self::Hairpin { .. } | Self::Affine { .. } => Given::Nothing,
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

    fn service(self, key: &ServiceKey) -> Self {
        self.address(key.address).protocol(key.protocol).port(key.port)
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} . {} . {}", self.address, self.protocol.name(), self.port)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} backends", self.backends)?;
        if self.sticky_seconds == 0 { Ok(()) } else { write!(f, " sticky {}s", self.sticky_seconds) }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ServiceClass(class) => write!(f, "{class} : goto {}", class.chain(Map::ServiceClass)),
            Self::NodeClass(class) => write!(f, "{class} : goto {}", class.chain(Map::NodeClass)),
            Self::Service { key, class } => write!(f, "{key} : {class}"),
            Self::Endpoint { key, index, to } => write!(f, "{key} . {index} : {} . {}", to.ip(), to.port()),
            Self::NodePort { protocol, port, key } => write!(f, "{} . {port} : {key}", protocol.name()),
            Self::HostPort { protocol, port, to } => {
                write!(f, "{} . {port} : {} . {}", protocol.name(), to.ip(), to.port())
            }
            Self::HostPortAt { key, to } => write!(f, "{key} : {} . {}", to.ip(), to.port()),
            Self::Refused { key } => write!(f, "{key}"),
            Self::Hairpin { address } => write!(f, "{address} . {address}"),
            Self::Affine { key, to } => write!(f, "{key} . {} . {}", to.ip(), to.port()),
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
            let key = ServiceKey { address, protocol: Protocol::Udp, port: 53 };
            let to = SocketAddr::new(address, 5353);
            let class = Class { family: Family::of(address), backends: 3, sticky_seconds: 10800 };
            let elements = [
                Element::ServiceClass(class),
                Element::NodeClass(class),
                Element::Service { key, class },
                Element::Endpoint { key, index: 2, to },
                Element::NodePort { protocol: Protocol::Tcp, port: 30000, key },
                Element::HostPort { protocol: Protocol::Tcp, port: 80, to },
                Element::HostPortAt { key, to },
                Element::Refused { key },
                Element::Hairpin { address },
                Element::Affine { key, to },
            ];
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

    #[test]
    fn classes_have_different_numbers() {
        let class = |backends, sticky_seconds| Class { family: Family::V4, backends, sticky_seconds }.number();
        assert_ne!(class(1, 1), class(1, 0));
        assert_ne!(class(MOST_BACKENDS as u16, 0), class(0, 1));
        assert_eq!(class(MOST_BACKENDS as u16, MOST_SECONDS), u32::MAX);
    }
}
