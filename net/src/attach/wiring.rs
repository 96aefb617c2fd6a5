//! The cable between a namespace and the bridge.

use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use crate::link::{Error, Links, Route, VethPair};
use crate::{IpNet, Mac};

/// One cable, and what its far end gets.
#[derive(Debug)]
pub struct Wire<'a> {
    pub name: &'a str,
    pub bridge: &'a str,
    pub mtu: Option<u32>,
    pub address: IpAddr,
    pub mac: Mac,
    pub gateway: IpAddr,
}

/// The interface as the namespace's processes see it.
const INSIDE: &str = "eth0";

/// The name of the bridge's end: the same for the same id, and different for different ones as far as 44 bits of
/// FNV-1a go (a node has hundreds of attachments, not millions).
pub fn interface_of(id: &str) -> String {
    let hash = id
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("veth{:011x}", hash >> 20)
}

/// Plugs the namespace in, or finds it plugged in. Everything can be repeated.
pub async fn connect(links: &Links, netns: BorrowedFd<'_>, wire: &Wire<'_>) -> Result<(), Error> {
    let inside = Links::open_in(netns)?;
    let far = inside.get(INSIDE).await?;
    let near = links.get(wire.name).await?;
    let plugged = near.is_some() && far.as_ref().is_some_and(|link| link.mac == Some(wire.mac));
    if !plugged {
        // Left from a namespace of the same id that is gone or going: its end goes with ours.
        links.delete(wire.name).await?;
        let pair = VethPair {
            name: wire.name,
            bridge: wire.bridge,
            mtu: wire.mtu,
            peer_name: INSIDE,
            peer_mac: wire.mac,
            peer_netns: netns,
        };
        links.create_veth(&pair).await?;
    }
    inside.up("lo").await?;
    inside.add_address(INSIDE, IpNet::host(wire.address)).await?;
    inside.up(INSIDE).await?;
    inside.add_route(&Route::on_link(IpNet::host(wire.gateway), INSIDE)).await?;
    inside.add_route(&Route::default_via(wire.gateway, INSIDE)).await
}

#[cfg(test)]
mod tests {
    use super::interface_of;

    #[test]
    fn interface_names_fit_and_differ() {
        let names: std::collections::BTreeSet<String> = (0..1000).map(|n| interface_of(&n.to_string())).collect();
        assert_eq!(names.len(), 1000);
        assert!(names.iter().all(|name| name.len() == 15));
        assert_eq!(interface_of("a"), interface_of("a"));
    }
}
