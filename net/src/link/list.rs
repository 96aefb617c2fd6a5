//! What links there are.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rustix::io::Errno;

use super::{Error, Links, is_errno, refused};
use crate::{IpNet, Mac};

/// One interface as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    /// `bridge`, `veth`, …; `None` for hardware.
    pub kind: Option<String>,
    pub mac: Option<Mac>,
    pub mtu: u32,
    pub loopback: bool,
    /// Set up by someone.
    pub up: bool,
    /// Up, and the cable is in.
    pub carrier: bool,
    /// Index of the bridge it is a port of.
    pub controller: Option<u32>,
    pub addresses: Vec<IpNet>,
}

impl Links {
    /// All links with their addresses, by index.
    pub async fn list(&self) -> Result<Vec<Link>, Error> {
        let messages: Vec<LinkMessage> =
            self.handle.link().get().execute().try_collect().await.map_err(|e| refused("list", "links", e))?;
        let mut links: BTreeMap<u32, Link> =
            messages.into_iter().map(describe).map(|link| (link.index, link)).collect();
        for (index, address) in self.addresses(None).await? {
            if let Some(link) = links.get_mut(&index) {
                link.addresses.push(address);
            }
        }
        Ok(links.into_values().collect())
    }

    /// One link with its addresses; `None` when there is none of that name.
    pub async fn get(&self, name: &str) -> Result<Option<Link>, Error> {
        let mut found = std::pin::pin!(self.handle.link().get().match_name(name).execute());
        let mut link = match found.try_next().await {
            Ok(Some(message)) => describe(message),
            Ok(None) => return Ok(None),
            Err(error) if is_errno(&error, Errno::NODEV) => return Ok(None),
            Err(error) => return Err(refused("look up", name, error)),
        };
        link.addresses = self.addresses(Some(link.index)).await?.into_iter().map(|(_, address)| address).collect();
        Ok(Some(link))
    }

    /// The index of a link that must be there.
    pub(crate) async fn index_of(&self, name: &str) -> Result<u32, Error> {
        let mut found = std::pin::pin!(self.handle.link().get().match_name(name).execute());
        match found.try_next().await {
            Ok(Some(message)) => Ok(message.header.index),
            Ok(None) => Err(Error::NoSuchLink(name.to_owned())),
            Err(error) if is_errno(&error, Errno::NODEV) => Err(Error::NoSuchLink(name.to_owned())),
            Err(error) => Err(refused("look up", name, error)),
        }
    }

    async fn addresses(&self, index: Option<u32>) -> Result<Vec<(u32, IpNet)>, Error> {
        let mut request = self.handle.address().get();
        if let Some(index) = index {
            request = request.set_link_index_filter(index);
        }
        let messages: Vec<AddressMessage> =
            request.execute().try_collect().await.map_err(|e| refused("list", "addresses", e))?;
        Ok(messages.iter().filter_map(|message| Some((message.header.index, address_of(message)?))).collect())
    }
}

/// `IFA_LOCAL` is the interface's own address; without one (IPv6) it is `IFA_ADDRESS`.
pub(super) fn address_of(message: &AddressMessage) -> Option<IpNet> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let address = local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })?;
    IpNet::new(address, message.header.prefix_len).ok()
}

pub(super) fn describe(message: LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        kind: None,
        mac: None,
        mtu: 0,
        loopback: flags.contains(LinkFlags::Loopback),
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
        controller: None,
        addresses: Vec::new(),
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Controller(index) => link.controller = Some(index),
            LinkAttribute::Address(bytes) => link.mac = bytes.try_into().ok().map(Mac),
            LinkAttribute::LinkInfo(infos) => link.kind = infos.into_iter().find_map(kind_name),
            _ => {}
        }
    }
    link
}

fn kind_name(info: LinkInfo) -> Option<String> {
    match info {
        LinkInfo::Kind(InfoKind::Other(name)) => Some(name),
        LinkInfo::Kind(kind) => Some(kind.to_string()),
        _ => None,
    }
}
