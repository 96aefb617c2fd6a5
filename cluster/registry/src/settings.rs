//! What of the cluster's settings the registry's behaviour depends on.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

/// The cluster's settings that behaviour depends on.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Network and prefix length of service addresses.
    pub service_network: (Ipv4Addr, u8),
    pub node_ports: RangeInclusive<u16>,
    /// Where the API server listens.
    pub api_port: u16,
}

impl Default for Settings {
    fn default() -> Self {
        Self { service_network: (Ipv4Addr::new(10, 43, 0, 0), 16), node_ports: 30000..=32767, api_port: 6443 }
    }
}
