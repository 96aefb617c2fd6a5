//! The expressions of the nf_tables virtual machine that the rules use: how they read, and their bytes.
//!
//! Numbers are those of `include/uapi/linux/netfilter/nf_tables.h`.

use std::fmt;

use super::wire::Attributes;
use super::{Family, printed};

/// A 32-bit register, `NFT_REG32_00` and on. There are sixteen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Register(u8);

impl Register {
    pub const FIRST: Self = Self(0);

    /// The register this many words further on.
    pub fn plus(self, words: u8) -> Self {
        debug_assert!(self.0 + words < 16, "there are sixteen registers");
        Self(self.0 + words)
    }

    fn number(self) -> u32 {
        8 + u32::from(self.0)
    }
}

/// Where a chain sends the packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Accept,
    Goto(String),
    Jump(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    SourceAddress(Family),
    DestinationAddress(Family),
    /// Both addresses, as they stand beside each other in the header.
    BothAddresses(Family),
    /// The same offset in TCP, UDP and SCTP.
    DestinationPort,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meta {
    NetworkProtocol,
    TransportProtocol,
    Mark,
    OutputName,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conntrack {
    State,
}

/// One step of a rule. A step that does not match ends the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    Payload {
        into: Register,
        field: Field,
    },
    Meta {
        into: Register,
        key: Meta,
    },
    SetMark {
        from: Register,
    },
    Conntrack {
        into: Register,
        key: Conntrack,
    },
    /// Whether the destination is an address of this machine: compare with [`LOCAL`].
    DestinationType {
        into: Register,
    },
    Mask {
        register: Register,
        mask: Vec<u8>,
        xor: Vec<u8>,
    },
    Equal {
        register: Register,
        value: Vec<u8>,
    },
    NotEqual {
        register: Register,
        value: Vec<u8>,
    },
    Random {
        into: Register,
        modulus: u32,
    },
    Constant {
        into: Register,
        value: u32,
    },
    /// Matches when the set has the key that begins at the register.
    Contains {
        set: String,
        key: Register,
    },
    /// Puts what the map has for the key into registers; no match ends the rule.
    Find {
        map: String,
        key: Register,
        into: Register,
    },
    /// Goes where the verdict map says.
    Follow {
        map: String,
        key: Register,
    },
    /// Puts the key into a dynamic set for some time, or lets it stay for that long again.
    Remember {
        set: String,
        key: Register,
        seconds: u32,
    },
    TranslateDestination {
        family: Family,
        address: Register,
        port: Register,
    },
    Masquerade,
    /// ICMP or ICMPv6 port unreachable: a connecting TCP sees "connection refused".
    RejectPort,
    Verdict(Verdict),
}

/// `RTN_LOCAL`, as the fib expression gives it.
pub const LOCAL: u32 = 2;

const PAYLOAD_NETWORK: u32 = 1;
const PAYLOAD_TRANSPORT: u32 = 2;
const RANDOM_FULLY: u32 = 1 << 4;

impl Field {
    /// Base, offset and length within the packet.
    fn place(self) -> (u32, u32, u32) {
        match self {
            Self::SourceAddress(Family::V4) => (PAYLOAD_NETWORK, 12, 4),
            Self::SourceAddress(Family::V6) => (PAYLOAD_NETWORK, 8, 16),
            Self::DestinationAddress(Family::V4) => (PAYLOAD_NETWORK, 16, 4),
            Self::DestinationAddress(Family::V6) => (PAYLOAD_NETWORK, 24, 16),
            Self::BothAddresses(Family::V4) => (PAYLOAD_NETWORK, 12, 8),
            Self::BothAddresses(Family::V6) => (PAYLOAD_NETWORK, 8, 32),
            Self::DestinationPort => (PAYLOAD_TRANSPORT, 2, 2),
        }
    }
}

impl Verdict {
    pub fn encode(&self, out: &mut Attributes) {
        let (code, chain) = match self {
            Self::Accept => (1i32, None),
            Self::Jump(chain) => (-3, Some(chain)),
            Self::Goto(chain) => (-4, Some(chain)),
        };
        out.nest(2, |out| {
            out.number(1, code as u32);
            if let Some(chain) = chain {
                out.text(2, chain);
            }
        });
    }
}

impl Expression {
    pub fn encode(&self, out: &mut Attributes) {
        out.text(1, self.kind());
        out.nest(2, |out| self.attributes(out));
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Payload { .. } => "payload",
            Self::Meta { .. } | Self::SetMark { .. } => "meta",
            Self::Conntrack { .. } => "ct",
            Self::DestinationType { .. } => "fib",
            Self::Mask { .. } => "bitwise",
            Self::Equal { .. } | Self::NotEqual { .. } => "cmp",
            Self::Random { .. } => "numgen",
            Self::Contains { .. } | Self::Find { .. } | Self::Follow { .. } => "lookup",
            Self::Remember { .. } => "dynset",
            Self::TranslateDestination { .. } => "nat",
            Self::Masquerade => "masq",
            Self::RejectPort => "reject",
            Self::Constant { .. } | Self::Verdict(_) => "immediate",
        }
    }

    fn attributes(&self, out: &mut Attributes) {
        match self {
            Self::Payload { into, field } => {
                let (base, offset, length) = field.place();
                for (kind, value) in [(1, into.number()), (2, base), (3, offset), (4, length)] {
                    out.number(kind, value);
                }
            }
            Self::Meta { into, key } => {
                out.number(1, into.number());
                out.number(2, key.number());
            }
            Self::SetMark { from } => {
                out.number(2, Meta::Mark.number());
                out.number(3, from.number());
            }
            Self::Conntrack { into, key: Conntrack::State } => {
                out.number(1, into.number());
                out.number(2, 0);
            }
            Self::DestinationType { into } => {
                for (kind, value) in [(1, into.number()), (2, 3), (3, 2)] {
                    out.number(kind, value);
                }
            }
            Self::Mask { register, mask, xor } => {
                for (kind, value) in [(1, register.number()), (2, register.number()), (3, mask.len() as u32)] {
                    out.number(kind, value);
                }
                out.nest(4, |out| out.raw(1, mask));
                out.nest(5, |out| out.raw(1, xor));
            }
            Self::Equal { register, value } => compare(out, *register, 0, value),
            Self::NotEqual { register, value } => compare(out, *register, 1, value),
            Self::Random { into, modulus } => {
                for (kind, value) in [(1, into.number()), (2, *modulus), (3, 1), (4, 0)] {
                    out.number(kind, value);
                }
            }
            Self::Constant { into, value } => {
                out.number(1, into.number());
                out.nest(2, |out| out.raw(1, &value.to_ne_bytes()));
            }
            Self::Contains { set, key } => {
                out.text(1, set);
                out.number(2, key.number());
            }
            Self::Find { map, key, into } => {
                out.text(1, map);
                out.number(2, key.number());
                out.number(3, into.number());
            }
            Self::Follow { map, key } => {
                out.text(1, map);
                out.number(2, key.number());
                out.number(3, 0);
            }
            Self::Remember { set, key, seconds } => {
                out.text(1, set);
                out.number(3, 1);
                out.number(4, key.number());
                out.long(6, u64::from(*seconds) * 1000);
            }
            Self::TranslateDestination { family, address, port } => {
                out.number(1, 1);
                out.number(2, family.number());
                for (kind, value) in [(3, address), (4, address), (5, port), (6, port)] {
                    out.number(kind, value.number());
                }
            }
            Self::Masquerade => out.number(1, RANDOM_FULLY),
            Self::RejectPort => {
                out.number(1, 2);
                out.raw(2, &[1]);
            }
            Self::Verdict(verdict) => {
                out.number(1, 0);
                out.nest(2, |out| verdict.encode(out));
            }
        }
    }
}

fn compare(out: &mut Attributes, register: Register, operator: u32, value: &[u8]) {
    out.number(1, register.number());
    out.number(2, operator);
    out.nest(3, |out| out.raw(1, value));
}

impl Meta {
    fn number(self) -> u32 {
        match self {
            Self::Mark => 3,
            Self::OutputName => 7,
            Self::NetworkProtocol => 15,
            Self::TransportProtocol => 16,
        }
    }
}

impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.0)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
        }
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Payload { into, field } => write!(f, "{into} = {field}"),
            Self::Meta { into, key } => write!(f, "{into} = {key}"),
            Self::SetMark { from } => write!(f, "mark = {from}"),
            Self::Conntrack { into, key: Conntrack::State } => write!(f, "{into} = ct state"),
            Self::DestinationType { into } => write!(f, "{into} = fib daddr type"),
            Self::Mask { register, mask, xor } => {
                write!(f, "{register} = {register} & {} ^ {}", printed(mask), printed(xor))
            }
            Self::Equal { register, value } => write!(f, "{register} == {}", printed(value)),
            Self::NotEqual { register, value } => write!(f, "{register} != {}", printed(value)),
            Self::Random { into, modulus } => write!(f, "{into} = random mod {modulus}"),
            Self::Constant { into, value } => write!(f, "{into} = {value}"),
            Self::Contains { set, key } => write!(f, "{key}… in @{set}"),
            Self::Find { map, key, into } => write!(f, "{into}… = @{map}[{key}…]"),
            Self::Follow { map, key } => write!(f, "follow @{map}[{key}…]"),
            Self::Remember { set, key, seconds } => write!(f, "remember {key}… in @{set} for {seconds}s"),
            Self::TranslateDestination { address, port, .. } => write!(f, "dnat to {address}… port {port}"),
            Self::Masquerade => f.write_str("masquerade"),
            Self::RejectPort => f.write_str("reject port unreachable"),
            Self::Verdict(verdict) => write!(f, "{verdict}"),
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SourceAddress(family) => write!(f, "{} saddr", family.header()),
            Self::DestinationAddress(family) => write!(f, "{} daddr", family.header()),
            Self::BothAddresses(family) => write!(f, "{} saddr . daddr", family.header()),
            Self::DestinationPort => f.write_str("dport"),
        }
    }
}

impl fmt::Display for Meta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NetworkProtocol => "nfproto",
            Self::TransportProtocol => "l4proto",
            Self::Mark => "mark",
            Self::OutputName => "oifname",
        })
    }
}
