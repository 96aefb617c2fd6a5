//! Messages of the network and of the kernel.

pub use kedge_net::fuzz::{dhcp, dhcp_seeds, dns_answer, dns_query, dns_seeds, netlink, netlink_seeds};
