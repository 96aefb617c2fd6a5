//! Changes of links and their addresses. All of them may be repeated: what is already so is success.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use futures::TryStreamExt;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoVeth, LinkAttribute};
use rtnetlink::{LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth};
use rustix::io::Errno;

use super::list::address_of;
use super::{Error, Links, check_name, is_errno, refused};
use crate::{IpNet, Mac};

/// A virtual cable: one end here, the other in another namespace.
#[derive(Debug)]
pub struct VethPair<'a> {
    pub name: &'a str,
    /// The bridge that this end becomes a port of.
    pub bridge: &'a str,
    pub mtu: Option<u32>,
    pub peer_name: &'a str,
    pub peer_mac: Mac,
    pub peer_netns: BorrowedFd<'a>,
}

impl Links {
    pub async fn up(&self, name: &str) -> Result<(), Error> {
        let message = LinkUnspec::new_with_index(self.index_of(name).await?).up().build();
        self.handle.link().set(message).execute().await.map_err(|e| refused("set up", name, e))
    }

    pub async fn down(&self, name: &str) -> Result<(), Error> {
        let message = LinkUnspec::new_with_index(self.index_of(name).await?).down().build();
        self.handle.link().set(message).execute().await.map_err(|e| refused("set down", name, e))
    }

    pub async fn set_mtu(&self, name: &str, mtu: u32) -> Result<(), Error> {
        let message = LinkUnspec::new_with_index(self.index_of(name).await?).mtu(mtu).build();
        self.handle.link().set(message).execute().await.map_err(|e| refused("set the MTU of", name, e))
    }

    /// Removes a virtual link. One that is not there is success.
    pub async fn delete(&self, name: &str) -> Result<(), Error> {
        let index = match self.index_of(name).await {
            Ok(index) => index,
            Err(Error::NoSuchLink(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        match self.handle.link().del(index).execute().await {
            Ok(()) => Ok(()),
            Err(error) if is_errno(&error, Errno::NODEV) => Ok(()),
            Err(error) => Err(refused("delete", name, error)),
        }
    }

    pub async fn add_address(&self, name: &str, address: IpNet) -> Result<(), Error> {
        let index = self.index_of(name).await?;
        let request = self.handle.address().add(index, address.address(), address.prefix()).replace();
        request.execute().await.map_err(|e| refused("add an address to", format!("{name}: {address}"), e))
    }

    /// Removes an address. One that is not there is success.
    pub async fn remove_address(&self, name: &str, address: IpNet) -> Result<(), Error> {
        let index = self.index_of(name).await?;
        let messages: Vec<AddressMessage> = self
            .handle
            .address()
            .get()
            .set_link_index_filter(index)
            .execute()
            .try_collect()
            .await
            .map_err(|e| refused("list the addresses of", name, e))?;
        for message in messages.into_iter().filter(|message| address_of(message) == Some(address)) {
            match self.handle.address().del(message).execute().await {
                Ok(()) => {}
                Err(error) if is_errno(&error, Errno::ADDRNOTAVAIL) => {}
                Err(error) => return Err(refused("remove an address from", format!("{name}: {address}"), error)),
            }
        }
        Ok(())
    }

    /// Makes an address this machine's own, so that a server can bind it. It goes to the loopback interface: packets to
    /// it from anywhere are then delivered locally, and no further kernel module is needed.
    pub async fn ensure_local_address(&self, address: IpAddr) -> Result<(), Error> {
        self.add_address("lo", IpNet::host(address)).await
    }

    /// A bridge with this address of its own. Its MAC is set, so that it does not change with its ports.
    pub async fn ensure_bridge(&self, name: &str, mac: Mac, mtu: Option<u32>) -> Result<(), Error> {
        check_name(name)?;
        let mut message = LinkBridge::new(name).address(mac.0.to_vec()).up();
        if let Some(mtu) = mtu {
            message = message.mtu(mtu);
        }
        // Workloads are unicast neighbours of the node only: no spanning tree, no waiting, no multicast state.
        let message = message
            .set_info_data(InfoData::Bridge(vec![InfoBridge::ForwardDelay(0), InfoBridge::MulticastSnooping(false)]));
        match self.handle.link().add(message.build()).execute().await {
            Ok(()) => return Ok(()),
            Err(error) if is_errno(&error, Errno::EXIST) => {}
            Err(error) => return Err(refused("create the bridge", name, error)),
        }
        match self.get(name).await? {
            Some(link) if link.kind.as_deref() == Some("bridge") => self.up(name).await,
            _ => Err(Error::Refused {
                action: "create the bridge",
                object: name.to_owned(),
                source: std::io::Error::new(std::io::ErrorKind::AlreadyExists, "another kind of link has this name"),
            }),
        }
    }

    /// Creates both ends of a cable at once, plugs this end into a bridge and isolates it there: ports of the bridge
    /// reach the node, and each other only through the node's routing and filters.
    pub async fn create_veth(&self, pair: &VethPair<'_>) -> Result<(), Error> {
        check_name(pair.name)?;
        check_name(pair.peer_name)?;
        let bridge = self.index_of(pair.bridge).await?;
        let mut near = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth).name(pair.name).up();
        let mut far = LinkUnspec::new_with_name(pair.peer_name)
            .address(pair.peer_mac.0.to_vec())
            .append_extra_attribute(LinkAttribute::NetNsFd(pair.peer_netns.as_raw_fd()));
        if let Some(mtu) = pair.mtu {
            near = near.mtu(mtu);
            far = far.mtu(mtu);
        }
        let message = near.controller(bridge).set_info_data(InfoData::Veth(InfoVeth::Peer(far.build()))).build();
        self.handle.link().add(message).execute().await.map_err(|e| refused("create the veth pair", pair.name, e))?;
        let index = self.index_of(pair.name).await?;
        let port = LinkBridgePort::new(index).append_info_data(InfoBridgePort::Isolated(true)).build();
        self.handle.link().set_port(port).execute().await.map_err(|e| refused("isolate the bridge port", pair.name, e))
    }

    /// A veth pair with both ends in this namespace, both up.
    pub async fn create_local_veth(&self, name: &str, peer: &str) -> Result<(), Error> {
        check_name(name)?;
        check_name(peer)?;
        // The kernel opens the far end before it is connected (ENOTCONN): it is set up afterwards.
        let far = LinkUnspec::new_with_name(peer).build();
        let message = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(name)
            .up()
            .set_info_data(InfoData::Veth(InfoVeth::Peer(far)))
            .build();
        self.handle.link().add(message).execute().await.map_err(|e| refused("create the veth pair", name, e))?;
        self.up(peer).await
    }

    /// Moves a link into another namespace.
    pub async fn move_to(&self, name: &str, netns: BorrowedFd<'_>) -> Result<(), Error> {
        let index = self.index_of(name).await?;
        let message = LinkUnspec::new_with_index(index).setns_by_fd(netns.as_raw_fd()).build();
        self.handle.link().set(message).execute().await.map_err(|e| refused("move to another namespace", name, e))
    }
}
