//! Links, addresses and the default route, by rtnetlink (Linux, `include/uapi/linux/rtnetlink.h`): three requests.

use super::dhcp::Lease;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};
use std::fs;
use std::io;
use std::path::Path;

/// An Ethernet link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub name: String,
    pub index: u32,
    pub mac: [u8; 6],
}

/// Those that the kernel shows below `class` (`/sys/class/net`), by name.
pub fn all(class: &Path) -> Vec<Link> {
    let link = |folder: &Path| {
        let text = |file: &str| fs::read_to_string(folder.join(file)).ok().map(|text| text.trim().to_owned());
        // ARPHRD_ETHER
        (text("type")? == "1").then_some(())?;
        let mac: Option<Vec<u8>> = text("address")?.split(':').map(|part| u8::from_str_radix(part, 16).ok()).collect();
        let name = folder.file_name()?.to_str()?.to_owned();
        Some(Link { name, index: text("ifindex")?.parse().ok()?, mac: mac?.try_into().ok()? })
    };
    let entries = fs::read_dir(class).into_iter().flatten().flatten();
    let mut links: Vec<Link> = entries.filter_map(|entry| link(&entry.path())).collect();
    links.sort_by(|a, b| a.name.cmp(&b.name));
    links
}

const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;
/// NLM_F_REQUEST, NLM_F_ACK
const ASK: u16 = 1 | 4;
/// NLM_F_REPLACE, NLM_F_CREATE
const SET: u16 = 0x100 | 0x400;
const INET: u8 = 2;

/// Takes the link up.
pub fn up(link: &Link) -> io::Result<()> {
    const IFF_UP: u32 = 1;
    let mut body = vec![0; 4];
    body.extend(link.index.to_ne_bytes());
    // The flags, and which of them are meant.
    body.extend(IFF_UP.to_ne_bytes());
    body.extend(IFF_UP.to_ne_bytes());
    request(&message(NEW_LINK, ASK, &body))
}

/// Gives the link what was leased.
pub fn configure(link: &Link, lease: &Lease) -> io::Result<()> {
    request(&message(NEW_ADDRESS, ASK | SET, &address(link, lease)))?;
    match lease.router {
        Some(router) => request(&message(NEW_ROUTE, ASK | SET, &route(link, router.octets()))),
        None => Ok(()),
    }
}

fn address(link: &Link, lease: &Lease) -> Vec<u8> {
    let mut body = vec![INET, lease.prefix, 0, 0];
    body.extend(link.index.to_ne_bytes());
    // IFA_ADDRESS, IFA_LOCAL
    for kind in [1, 2] {
        attribute(&mut body, kind, &lease.address.octets());
    }
    body
}

fn route(link: &Link, router: [u8; 4]) -> Vec<u8> {
    // To everywhere; the main table, by DHCP, anywhere, unicast.
    let mut body = vec![INET, 0, 0, 0, 254, 16, 0, 1, 0, 0, 0, 0];
    // RTA_GATEWAY, RTA_OIF
    attribute(&mut body, 5, &router);
    attribute(&mut body, 4, &link.index.to_ne_bytes());
    body
}

/// Of four bytes, so that what follows lies as it should.
fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8; 4]) {
    body.extend(8_u16.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
}

fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + body.len()).unwrap_or(0);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    // A number that the answer repeats, and the kernel finds out who asks.
    bytes.extend(1_u32.to_ne_bytes());
    bytes.extend(0_u32.to_ne_bytes());
    bytes.extend(body);
    bytes
}

fn request(message: &[u8]) -> io::Result<()> {
    // No protocol is NETLINK_ROUTE.
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    rustix::net::sendto(&socket, message, SendFlags::empty(), &netlink::SocketAddrNetlink::new(0, 0))?;
    let mut answer = [0; 1024];
    let (count, _) = rustix::net::recv(&socket, &mut answer, RecvFlags::empty())?;
    match verdict(answer.get(..count).unwrap_or_default()) {
        Some(0) => Ok(()),
        Some(error) => Err(io::Error::from_raw_os_error(error.saturating_neg())),
        None => Err(io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer is none")),
    }
}

/// The number in an NLMSG_ERROR: zero is success.
fn verdict(answer: &[u8]) -> Option<i32> {
    const ERROR: [u8; 2] = 2_u16.to_ne_bytes();
    (answer.get(4..6)? == ERROR).then_some(())?;
    Some(i32::from_ne_bytes(*answer.get(16..20)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ethernet_links_are_found_and_others_are_not() {
        let class = tempfile::tempdir().unwrap();
        for (name, kind, index) in [("lo", "772", 1), ("eth1", "1", 3), ("eth0", "1", 2)] {
            let folder = class.path().join(name);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("type"), format!("{kind}\n")).unwrap();
            fs::write(folder.join("ifindex"), format!("{index}\n")).unwrap();
            fs::write(folder.join("address"), "52:54:00:12:34:56\n").unwrap();
        }
        let found = all(class.path());
        assert_eq!(
            found.iter().map(|link| (link.name.as_str(), link.index)).collect::<Vec<_>>(),
            [("eth0", 2), ("eth1", 3)]
        );
        assert_eq!(found[0].mac, [0x52, 0x54, 0, 0x12, 0x34, 0x56]);
        assert_eq!(all(Path::new("/does/not/exist")), []);
    }

    #[test]
    fn the_kernel_takes_the_requests_as_meant() {
        // Of a link that is not there: understood as a whole, and refused for that alone.
        let link = Link { name: "x".into(), index: 0x7fff_0000, mac: [0; 6] };
        assert_eq!(up(&link).unwrap_err().raw_os_error(), Some(nix::libc::ENODEV));
    }

    #[test]
    fn an_answer_is_a_number() {
        let mut answer = message(2, 0, &(-19_i32).to_ne_bytes());
        assert_eq!(verdict(&answer), Some(-19));
        answer.truncate(17);
        assert_eq!(verdict(&answer), None);
    }
}
