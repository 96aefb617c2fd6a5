//! Services, host ports and masquerading in one nf_tables table, `inet kedge`, spoken to over netlink.
//!
//! The rules are few and fixed; everything that changes is an element of a map. So a change costs as much as it is
//! big, however many services there are, and no packet walks a list. For a new connection (IPv4 shown, IPv6 alike):
//!
//! ```text
//! prerouting ┐               ┌ service4[daddr.proto.dport] ─▶ pick4_N: endpoint4[daddr.proto.dport.random mod N] ─▶ dnat
//! output ────┴─▶ services4 ──┤
//!                            └ own address ─▶ local4 ┬ host_port4[proto.dport] ─▶ dnat
//!                                                    └ node_port4[proto.dport] ─▶ node4_N: mark, then as above ─▶ dnat
//! with affinity   pick4_N_60s: for each i: affinity4 has saddr.daddr.proto.dport.i ─▶ stick4_i_60s, else a random i
//!                 stick4_i_60s: remembers that in affinity4 for 60 s, then endpoint4[daddr.proto.dport.i] ─▶ dnat
//! postrouting     masquerades what is marked, what returns to its sender, what leaves the cluster
//! forward, input, output: refuse services without endpoints, and what else is sent to the service range
//! ```
//!
//! [`plan`] is the pure difference between two states, [`Operation`] what it consists of, [`transaction`] the only
//! part that talks to the kernel. No rule uses what it found in one map as the key of another: the kernel can, but
//! nft(8) up to 1.0.6 at least dies of an assertion when it lists such a rule, and with it every firewall tool that
//! calls it on a host that is not ours alone.

mod conntrack;
mod element;
mod expression;
mod operation;
mod plan;
mod rules;
mod transaction;
pub(crate) mod wire;

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
