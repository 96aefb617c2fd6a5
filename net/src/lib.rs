//! Links, addresses, routes, DHCP, the bridge that workloads hang on, address allocation, service load-balancing by
//! nftables, and a DNS server: engines that do what they are told, through netlink and sockets only.
//!
//! Owns: `kedge0` and every veth below it, the nftables table `inet kedge`, `/run/kedge/net`.
//! Invariant: net never learns what a Pod, a Service or a container is. It gets network namespaces as borrowed
//! descriptors, service tables as plain values, and DNS names through the [`dns::Zone`] trait.
//!
//! Where to start reading: [`Network`] is the door; [`attach`] is what stands behind it; [`nft`] is how services work.
//!
//! ```text
//! attach(netns, spec) ─▶ ipam::allocate ─▶ link (veth, bridge port) ─▶ link inside the netns ─▶ nft (hairpin, host ports)
//! converge(services)  ─▶ nft::plan (pure difference) ─▶ nft::encode ─▶ one netlink transaction
//! dhcp::Client::run   ─▶ lease events ─▶ whoever owns the interface calls link::*
//! dns::Server::serve  ─▶ Zone::answer │ upstream with cache
//! ```

pub mod address;
pub mod attach;
pub mod dhcp;
pub mod dns;
mod error;
#[doc(hidden)]
pub mod fuzz;
pub mod ipam;
pub mod link;
pub mod loopback;
mod network;
pub mod nft;
mod sys;

pub use address::{IpNet, Mac};
pub use error::Error;
pub use network::{AttachSpec, Attachment, HostPort, Network, Protocol, ServiceEntry, ServiceTable};
