//! Services, host ports and masquerading in one nf_tables table, `inet kedge`, spoken to over netlink.
//!
//! The rules are few and fixed; everything that changes is an element of a map. So a change costs as much as it is
//! big, however many services there are, and no packet walks a list. For a new connection (IPv4 shown, IPv6 alike):
//!
//! ```text
//! prerouting ┐               service4[daddr.proto.dport] = class ─▶ service_class4[class] ─▶ pick4_N ─┐
//! output ────┴─▶ services4 ──┤                                                                         ├─▶ dnat
//!                            └ local address ─▶ local4                                                 │
//!                                ├ host_port4[proto.dport] = address.port ─▶ dnat                      │
//!                                └ node_port4[proto.dport] = service key, its class ─▶ node4_N (mark) ─┘
//! pick4_N: endpoint4[service key . random mod N] = address.port
//! pick4_N_S: first affinity4[saddr . service key], if affine4 still has that endpoint; remembers for S seconds
//! postrouting: masquerade what is marked, what returns to its sender, what leaves the cluster
//! forward, input, output: refuse services without endpoints, and what else is sent to the service range
//! ```
//!
//! [`plan`] is the pure difference between two states, [`Operation`] what it consists of, [`transaction`] the only
//! part that talks to the kernel. nft(8) can list the table; registers that carry a key from one map into the next
//! it prints in its own way.

mod element;
mod expression;
mod operation;
mod plan;
mod rules;
mod transaction;
mod wire;

use std::net::IpAddr;

pub use operation::Operation;
pub use plan::{Attached, Plan, State};
pub use rules::Ranges;
pub use transaction::{Error, Socket};

/// The table that is ours alone.
pub const TABLE: &str = "kedge";

/// Which of the two internet protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// `NFPROTO_IPV4`, `NFPROTO_IPV6`.
    fn number(self) -> u32 {
        match self {
            Self::V4 => 2,
            Self::V6 => 10,
        }
    }

    /// An address's length in 32-bit registers.
    fn words(self) -> u8 {
        match self {
            Self::V4 => 1,
            Self::V6 => 4,
        }
    }

    fn digit(self) -> char {
        match self {
            Self::V4 => '4',
            Self::V6 => '6',
        }
    }

    fn header(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }
}

fn printed(bytes: &[u8]) -> String {
    let mut text = String::from("0x");
    for byte in bytes {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}
