//! The fixed rules: made once with the table, and two chains more for each class of service that turns up.

use super::element::{Class, MAPS, Map};
use super::expression::{Conntrack, Dynamic, Expression as E, Field, LOCAL, Meta, Register, Verdict};
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
    let map = |map: Map| map.name(family);
    let after_key = R0.plus(family.words() + 2);
    let (services, local) = (named("services", family), named("local", family));
    let class = E::Follow { map: map(Map::ServiceClass), key: after_key };
    out.push(rule(&services, [service_key(family, R0), vec![find(map(Map::Service), R0, after_key), class]]));
    out.push(rule(&services, [service_key(family, R0), found_target(family, map(Map::HostPortAt), R0, after_key)]));
    out.push(rule(&services, [is_local(family), vec![jump(local.clone())]]));
    let target = found_target(family, map(Map::HostPort), R0, R0.plus(2));
    out.push(rule(&local, [transport(R0), target]));
    let class = E::Follow { map: map(Map::NodeClass), key: after_key };
    let behind = vec![find(map(Map::NodePort), R0, R0), find(map(Map::Service), R0, after_key), class];
    out.push(rule(&local, [transport(R0), behind]));
}

/// Connections that would otherwise wait for an answer that never comes.
fn refusals(family: Family, ranges: &Ranges, out: &mut Vec<Operation>) {
    let refuse = named("refuse", family);
    let refused = E::Contains { set: Map::Refused.name(family), key: R0 };
    out.push(rule(&refuse, [service_key(family, R0), vec![refused.clone(), E::RejectPort]]));
    let behind = vec![find(Map::NodePort.name(family), R0, R0), refused, E::RejectPort];
    out.push(rule(&refuse, [is_local(family), transport(R0), behind]));
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
    for map in [Map::ServiceClass, Map::NodeClass] {
        let name = class.chain(map);
        out.push(chain(&name, None));
        if class.sticky_seconds == 0 {
            out.push(rule(&name, [begin(class, map), pick(class)]));
            continue;
        }
        let (key, found) = (R0.plus(class.family.words()), endpoint_register(class.family));
        let stays = R0.plus(2 * class.family.words() + 2);
        let remember = |how, value| E::Remember {
            map: Map::Affinity.name(class.family),
            how,
            key: R0,
            value,
            seconds: class.sticky_seconds,
        };
        // The endpoint found lies behind the service's key, as the key of the set of endpoints that still count.
        let remembered = vec![
            find(Map::Affinity.name(class.family), R0, stays),
            E::Contains { set: Map::Affine.name(class.family), key },
            remember(Dynamic::Update, stays),
            translate(class.family, stays),
        ];
        out.push(rule(&name, [begin(class, map), remembered]));
        // Refreshing does not replace a remembered endpoint that is gone, so it has to be forgotten first.
        let gone = vec![find(Map::Affinity.name(class.family), R0, stays), remember(Dynamic::Delete, stays)];
        out.push(rule(&name, [begin(class, map), gone]));
        let mut picked = pick(class);
        picked.insert(picked.len().saturating_sub(1), remember(Dynamic::Add, found));
        out.push(rule(&name, [begin(class, map), picked]));
    }
    out
}

/// Client address and service key into registers 0 and on; for a node port the key comes out of a map.
fn begin(class: Class, map: Map) -> Vec<E> {
    let key = R0.plus(class.family.words());
    let mut out = Vec::new();
    if map == Map::NodeClass {
        out.push(E::Meta { into: R0, key: Meta::Mark });
        let set = MASQUERADE_MARK.to_ne_bytes().to_vec();
        out.push(E::Mask { register: R0, mask: (!MASQUERADE_MARK).to_ne_bytes().to_vec(), xor: set });
        out.push(E::SetMark { from: R0 });
    }
    if class.sticky_seconds != 0 {
        out.push(E::Payload { into: R0, field: Field::SourceAddress(class.family) });
    }
    if map == Map::NodeClass {
        out.extend(transport(key));
        out.push(find(Map::NodePort.name(class.family), key, key));
    } else {
        out.extend(service_key(class.family, key));
    }
    out
}

/// One of the service's endpoints by chance, the last step being the translation. In IPv6 all sixteen registers are
/// taken: client 4, service 4 + 1 + 1, number 1, endpoint 4 + 1.
fn pick(class: Class) -> Vec<E> {
    let (family, key) = (class.family, R0.plus(class.family.words()));
    let found = endpoint_register(family);
    vec![
        E::Random { into: R0.plus(2 * family.words() + 2), modulus: u32::from(class.backends) },
        find(Map::Endpoint.name(family), key, found),
        translate(family, found),
    ]
}

fn endpoint_register(family: Family) -> Register {
    R0.plus(2 * family.words() + 3)
}

fn service_key(family: Family, at: Register) -> Vec<E> {
    let mut out = vec![E::Payload { into: at, field: Field::DestinationAddress(family) }];
    out.extend(transport(at.plus(family.words())));
    out
}

fn transport(at: Register) -> Vec<E> {
    vec![
        E::Meta { into: at, key: Meta::TransportProtocol },
        E::Payload { into: at.plus(1), field: Field::DestinationPort },
    ]
}

fn found_target(family: Family, map: String, key: Register, into: Register) -> Vec<E> {
    vec![find(map, key, into), translate(family, into)]
}

fn translate(family: Family, address: Register) -> E {
    E::TranslateDestination { family, address, port: address.plus(family.words()) }
}

fn find(map: String, key: Register, into: Register) -> E {
    E::Find { map, key, into }
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
