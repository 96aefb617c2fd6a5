//! What a DHCP server gave, as plain values.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::IpNet;

/// What the client says about its host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Sent as option 12, so that routers can show it.
    pub hostname: Option<String>,
    /// Sent as option 60.
    pub vendor_class: Option<String>,
    /// An address that it had before: asked for first, so that a device keeps its address over a reboot.
    pub wanted: Option<Ipv4Addr>,
}

/// What happened to the interface's lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A first lease, or one that differs from the last: apply it.
    Bound(Lease),
    /// The same lease, for longer.
    Renewed(Lease),
    /// The address may no longer be used: remove it.
    Lost(Lease),
}

/// An address for some time, and what the server said beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    pub address: IpNet,
    pub server: Ipv4Addr,
    /// In order of preference.
    pub routers: Vec<Ipv4Addr>,
    pub dns: Vec<Ipv4Addr>,
    pub ntp: Vec<Ipv4Addr>,
    pub domain: Option<String>,
    pub hostname: Option<String>,
    pub mtu: Option<u16>,
    /// Classless static routes (RFC 3442): when there are any, `routers` does not count and is empty here.
    pub routes: Vec<(IpNet, Ipv4Addr)>,
    /// From the moment the request was sent.
    pub lifetime: Duration,
    pub renew_after: Duration,
    pub rebind_after: Duration,
}
