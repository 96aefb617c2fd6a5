//! The door: what callers hand to the network and what they get back. Pure data and one trait.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{Error, IpNet, Mac};

/// Gives network namespaces addresses, and keeps services reachable.
#[async_trait]
pub trait Network: Send + Sync {
    /// Connects the namespace and returns its addresses. The same `id` again returns the same attachment: after a
    /// re-exec this is how a workload that kept running is adopted.
    async fn attach(&self, netns: BorrowedFd<'_>, spec: AttachSpec) -> Result<Attachment, Error>;

    /// Removes what [`Network::attach`] made. An unknown `id` is success.
    async fn detach(&self, id: &str) -> Result<(), Error>;

    /// Makes the node's service rules equal to the table, in one transaction; on an error nothing has changed.
    async fn converge(&self, services: &ServiceTable) -> Result<(), Error>;
}

/// What to attach. `id` is the caller's, at most 253 printable characters without `/`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttachSpec {
    pub id: String,
    #[serde(default)]
    pub host_ports: Vec<HostPort>,
}

/// A port of the node that leads to a port of one attachment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostPort {
    pub proto: Protocol,
    /// Only on this address of the node; on all of them when absent.
    #[serde(default)]
    pub host_ip: Option<IpAddr>,
    pub host_port: u16,
    pub port: u16,
}

/// What an attached namespace got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The address with the prefix length of the node's range, as `status.podIPs` wants it without the prefix.
    pub addresses: Vec<IpNet>,
    pub mac: Mac,
}

/// Transport protocols that a service can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// The IANA protocol number.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// Every service of the cluster, one entry for each address and port. Order does not matter; of two entries with the
/// same address, protocol and port (or the same node port) the first counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceTable {
    pub services: Vec<ServiceEntry>,
}

/// One virtual address and port, and where its connections go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceEntry {
    pub address: IpAddr,
    pub protocol: Protocol,
    pub port: u16,
    pub node_port: Option<u16>,
    /// Connections of one client address stay with one backend until it was idle for this long.
    pub affinity_seconds: Option<u32>,
    /// Empty: connections are refused at once.
    pub backends: Vec<SocketAddr>,
}
