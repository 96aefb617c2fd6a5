//! The fixed rules: made once with the table, and a few chains more for each class of service that turns up.

use super::element::{Class, MAPS, Map, Side, Slot};
use super::expression::{Conntrack, Expression as E, Field, LOCAL, Meta, Register, Verdict};
use super::operation::{Hook, Operation};
use super::{Family, TABLE};
use crate::IpNet;

/// Which addresses are whose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranges {
    /// Addresses of workloads on this node: what they send out of the cluster leaves with the node's address.
    pub local: Vec<IpNet>,
    /// Addresses of workloads on all nodes: reached with the sender's own address.
    pub cluster: Vec<IpNet>,
    /// Virtual addresses: what no service answers is refused here instead of wandering off to the router.
    pub services: Vec<IpNet>,
    /// The bridge that local workloads hang on.
    pub bridge: String,
}

const HOOKS: &[(&str, Hook)] = &[
    ("prerouting", Hook { kind: "nat", name: "prerouting", number: 0, priority: -100 }),
    ("nat_output", Hook { kind: "nat", name: "output", number: 3, priority: -100 }),
    ("postrouting", Hook { kind: "nat", name: "postrouting", number: 4, priority: 100 }),
    ("input", Hook { kind: "filter", name: "input", number: 1, priority: 0 }),
    ("forward", Hook { kind: "filter", name: "forward", number: 2, priority: 0 }),
    ("output", Hook { kind: "filter", name: "output", number: 3, priority: 0 }),
];

/// This bit of the packet mark asks for masquerading; it is the one that kube-proxy uses.
const MASQUERADE_MARK: u32 = 0x4000;
/// `ct state established,related`.
const KNOWN_CONNECTION: u32 = 2 | 4;
const R0: Register = Register::FIRST;

/// The table without services, whatever was in it before.
pub fn table(ranges: &Ranges) -> Vec<Operation> {
    let mut out = vec![Operation::AddTable, Operation::DeleteTable, Operation::AddTable];
    for family in Family::ALL {
        out.extend(MAPS.iter().map(|row| Operation::AddMap { map: row.map, family }));
    }
    for family in Family::ALL {
        for prefix in ["local", "services", "refuse"] {
            out.push(chain(&named(prefix, family), None));
        }
    }
    out.extend(HOOKS.iter().map(|(name, hook)| chain(name, Some(*hook))));
    for family in Family::ALL {
        services(family, &mut out);
        refusals(family, ranges, &mut out);
        for hooked in ["prerouting", "nat_output"] {
            out.push(rule(hooked, [is(family), vec![jump(named("services", family))]]));
        }
    }
    postrouting(ranges, &mut out);
    for hooked in ["input", "forward", "output"] {
        out.push(rule(
            hooked,
            [vec![
                E::Conntrack { into: R0, key: Conntrack::State },
                mask(R0, KNOWN_CONNECTION),
                E::NotEqual { register: R0, value: 0u32.to_ne_bytes().to_vec() },
                E::Verdict(Verdict::Accept),
            ]],
        ));
        for family in Family::ALL {
            out.push(rule(hooked, [is(family), vec![jump(named("refuse", family))]]));
        }
    }
    out
}

/// Where one connection goes: a service's, a host port's or a node port's.
fn services(family: Family, out: &mut Vec<Operation>) {
    let (services, local) = (named("services", family), named("local", family));
    let enter = |side| vec![E::Follow { map: Map::Entry(side).name(family), key: R0 }];
    let target = |map: Map, key_words: u8| {
        let found = R0.plus(key_words);
        vec![E::Find { map: map.name(family), key: R0, into: found }, translate(family, found)]
    };
    let (service, node) = (key(family, Side::Service, R0), key(family, Side::Node, R0));
    out.push(rule(&services, [service.clone(), enter(Side::Service)]));
    out.push(rule(&services, [service, target(Map::HostPortAt, family.words() + 2)]));
    out.push(rule(&services, [is_local(family), vec![jump(local.clone())]]));
    out.push(rule(&local, [node.clone(), target(Map::HostPort, 2)]));
    out.push(rule(&local, [node, enter(Side::Node)]));
}

/// Connections that would otherwise wait for an answer that never comes.
fn refusals(family: Family, ranges: &Ranges, out: &mut Vec<Operation>) {
    let refuse = named("refuse", family);
    let refused = |side| vec![E::Contains { set: Map::Refused(side).name(family), key: R0 }, E::RejectPort];
    out.push(rule(&refuse, [key(family, Side::Service, R0), refused(Side::Service)]));
    out.push(rule(&refuse, [is_local(family), key(family, Side::Node, R0), refused(Side::Node)]));
    for range in of_family(&ranges.services, family) {
        let elsewhere = vec![
            E::DestinationType { into: R0 },
            E::NotEqual { register: R0, value: LOCAL.to_ne_bytes().to_vec() },
            E::RejectPort,
        ];
        out.push(rule(&refuse, [within(Field::DestinationAddress(family), range, true), elsewhere]));
    }
}

fn postrouting(ranges: &Ranges, out: &mut Vec<Operation>) {
    let marked = vec![
        E::Meta { into: R0, key: Meta::Mark },
        mask(R0, MASQUERADE_MARK),
        E::NotEqual { register: R0, value: 0u32.to_ne_bytes().to_vec() },
        E::Masquerade,
    ];
    out.push(rule("postrouting", [marked]));
    for family in Family::ALL {
        let returning = vec![
            E::Payload { into: R0, field: Field::BothAddresses(family) },
            E::Contains { set: Map::Hairpin.name(family), key: R0 },
            E::Masquerade,
        ];
        out.push(rule("postrouting", [is(family), returning]));
        for local in of_family(&ranges.local, family) {
            let mut leaving = [is(family), within(Field::SourceAddress(family), local, true)].concat();
            for cluster in of_family(&ranges.cluster, family).chain([local]) {
                leaving.extend(within(Field::DestinationAddress(family), cluster, false));
            }
            leaving.push(E::Meta { into: R0, key: Meta::OutputName });
            leaving.push(E::NotEqual { register: R0, value: interface_name(&ranges.bridge) });
            leaving.push(E::Masquerade);
            out.push(rule("postrouting", [leaving]));
        }
    }
}

/// The chains of a class: one for connections to the service's address, one for those to its node port.
pub fn class(class: Class) -> Vec<Operation> {
    let mut out = Vec::new();
    for side in [Side::Service, Side::Node] {
        let name = class.chain(side);
        out.push(chain(&name, None));
        if side == Side::Node {
            out.push(rule(&name, [mark()]));
        }
        let random = |into| E::Random { into, modulus: u32::from(class.backends) };
        if class.sticky_seconds == 0 {
            let number = R0.plus(key_words(class.family, side));
            out.push(rule(&name, [key(class.family, side, R0), vec![random(number)], to_endpoint(class.family, side)]));
            continue;
        }
        for index in 0..class.backends {
            let slot = Slot { family: class.family, sticky_seconds: class.sticky_seconds, index };
            let known = E::Contains { set: Map::Affinity(side).name(class.family), key: R0 };
            let stays = vec![known, E::Verdict(Verdict::Goto(slot.chain(side)))];
            out.push(rule(&name, [client_key(slot, side), stays]));
        }
        let map = Map::Sticky(side).name(class.family);
        let seconds = E::Constant { into: R0.plus(1), value: class.sticky_seconds };
        out.push(rule(&name, [vec![random(R0), seconds, E::Follow { map, key: R0 }]]));
    }
    out
}

/// The chains of a slot. That a full set cannot remember the client must not keep it from its endpoint: two rules.
pub fn slot(slot: Slot) -> Vec<Operation> {
    let mut out = Vec::new();
    for side in [Side::Service, Side::Node] {
        let name = slot.chain(side);
        let set = Map::Affinity(side).name(slot.family);
        let remember = vec![E::Remember { set, key: R0, seconds: slot.sticky_seconds }];
        let number = E::Constant { into: R0.plus(key_words(slot.family, side)), value: slot.index.into() };
        out.push(chain(&name, None));
        out.push(rule(&name, [client_key(slot, side), remember]));
        out.push(rule(&name, [key(slot.family, side, R0), vec![number], to_endpoint(slot.family, side)]));
    }
    out
}

/// Asks for the node's address as the source: an endpoint on another node must answer through this one.
fn mark() -> Vec<E> {
    vec![
        E::Meta { into: R0, key: Meta::Mark },
        E::Mask {
            register: R0,
            mask: (!MASQUERADE_MARK).to_ne_bytes().to_vec(),
            xor: MASQUERADE_MARK.to_ne_bytes().to_vec(),
        },
        E::SetMark { from: R0 },
    ]
}

/// The key of the affinity set: client, service or node port, number of the endpoint.
fn client_key(slot: Slot, side: Side) -> Vec<E> {
    let after = R0.plus(slot.family.words());
    let mut out = vec![E::Payload { into: R0, field: Field::SourceAddress(slot.family) }];
    out.extend(key(slot.family, side, after));
    out.push(E::Constant { into: after.plus(key_words(slot.family, side)), value: slot.index.into() });
    out
}

/// To the endpoint whose key and number are in the first registers.
fn to_endpoint(family: Family, side: Side) -> Vec<E> {
    let found = R0.plus(key_words(family, side) + 1);
    vec![E::Find { map: Map::Endpoint(side).name(family), key: R0, into: found }, translate(family, found)]
}

/// What the packet is sent to, as the maps of this side are keyed.
fn key(family: Family, side: Side, at: Register) -> Vec<E> {
    let (mut out, at) = match side {
        Side::Service => {
            (vec![E::Payload { into: at, field: Field::DestinationAddress(family) }], at.plus(family.words()))
        }
        Side::Node => (Vec::new(), at),
    };
    out.push(E::Meta { into: at, key: Meta::TransportProtocol });
    out.push(E::Payload { into: at.plus(1), field: Field::DestinationPort });
    out
}

fn key_words(family: Family, side: Side) -> u8 {
    match side {
        Side::Service => family.words() + 2,
        Side::Node => 2,
    }
}

fn translate(family: Family, address: Register) -> E {
    E::TranslateDestination { family, address, port: address.plus(family.words()) }
}

fn is(family: Family) -> Vec<E> {
    let value = vec![family.number() as u8];
    vec![E::Meta { into: R0, key: Meta::NetworkProtocol }, E::Equal { register: R0, value }]
}

/// An address of this machine, but not a loopback one: the kernel does not route those to workloads.
fn is_local(family: Family) -> Vec<E> {
    let mut out = match family {
        Family::V4 => vec![
            E::Payload { into: R0, field: Field::DestinationAddress(family) },
            E::Mask { register: R0, mask: vec![255, 0, 0, 0], xor: vec![0; 4] },
            E::NotEqual { register: R0, value: vec![127, 0, 0, 0] },
        ],
        Family::V6 => vec![
            E::Payload { into: R0, field: Field::DestinationAddress(family) },
            E::NotEqual { register: R0, value: std::net::Ipv6Addr::LOCALHOST.octets().to_vec() },
        ],
    };
    out.push(E::DestinationType { into: R0 });
    out.push(E::Equal { register: R0, value: LOCAL.to_ne_bytes().to_vec() });
    out
}

/// Whether an address of the packet is in a range, or is not.
fn within(field: Field, range: IpNet, inside: bool) -> Vec<E> {
    let (value, mask) = (octets(range.network()), octets(range.netmask()));
    let xor = vec![0; mask.len()];
    let compare = if inside { E::Equal { register: R0, value } } else { E::NotEqual { register: R0, value } };
    vec![E::Payload { into: R0, field }, E::Mask { register: R0, mask, xor }, compare]
}

fn octets(address: std::net::IpAddr) -> Vec<u8> {
    match address {
        std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
        std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn interface_name(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}

fn mask(register: Register, mask: u32) -> E {
    E::Mask { register, mask: mask.to_ne_bytes().to_vec(), xor: vec![0; 4] }
}

fn of_family(ranges: &[IpNet], family: Family) -> impl Iterator<Item = IpNet> {
    ranges.iter().copied().filter(move |range| Family::of(range.address()) == family)
}

fn jump(chain: String) -> E {
    E::Verdict(Verdict::Jump(chain))
}

fn chain(name: &str, hook: Option<Hook>) -> Operation {
    debug_assert!(!name.is_empty() && name != TABLE);
    Operation::AddChain { name: name.to_owned(), hook }
}

fn rule<const N: usize>(chain: &str, parts: [Vec<E>; N]) -> Operation {
    Operation::AddRule { chain: chain.to_owned(), expressions: parts.concat() }
}

fn named(prefix: &str, family: Family) -> String {
    format!("{prefix}{}", family.digit())
}
