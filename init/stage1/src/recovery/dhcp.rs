//! The least of DHCPv4 (RFC 2131, RFC 2132) that gives a machine in recovery an address: discover, request, and again before the lease ends.
//! By UDP on a link without an address, so that no module for raw packets is needed here. The system's own client does far more; it lives
//! where there is room for it.

use nix::sys::socket::{setsockopt, sockopt::BindToDevice};
use rustix::net::sockopt::set_socket_reuseaddr;
use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// Servers may take shorter packets for none (RFC 1542, 2.1).
const LEAST_BYTES: usize = 300;
const OPTIONS_AT: usize = 240;

const MASK: u8 = 1;
const ROUTER: u8 = 3;
const REQUESTED: u8 = 50;
const LEASE: u8 = 51;
const KIND: u8 = 53;
const SERVER: u8 = 54;
const WANTED: u8 = 55;
const END: u8 = 255;

/// The values of option 53.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Discover = 1,
    Offer = 2,
    Request = 3,
    Acknowledge = 5,
    Refuse = 6,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    pub address: Ipv4Addr,
    pub prefix: u8,
    pub router: Option<Ipv4Addr>,
    pub server: Ipv4Addr,
    pub time: Duration,
}

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(4);
const DEFAULT_LEASE: u32 = 3600;

/// Asks on the link called `link`, whose hardware address is `mac`, once.
pub fn ask(link: &str, mac: [u8; 6], transaction: u32) -> io::Result<Lease> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, CLIENT_PORT))?;
    // Of several links each has its own socket at the same port.
    set_socket_reuseaddr(&socket, true)?;
    setsockopt(&socket, BindToDevice, &OsString::from(link))?;
    socket.set_broadcast(true)?;
    let send = |packet: &[u8]| socket.send_to(packet, (Ipv4Addr::BROADCAST, SERVER_PORT));
    send(&packet(Kind::Discover, mac, transaction, None))?;
    let offer = answer(&socket, mac, transaction, Kind::Offer)?;
    send(&packet(Kind::Request, mac, transaction, Some(&offer)))?;
    answer(&socket, mac, transaction, Kind::Acknowledge)
}

fn answer(socket: &UdpSocket, mac: [u8; 6], transaction: u32, wanted: Kind) -> io::Result<Lease> {
    let start = Instant::now();
    let mut buffer = [0; 1500];
    loop {
        let left = PATIENCE.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no DHCP server answers"));
        }
        socket.set_read_timeout(Some(left))?;
        let count = match socket.recv(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        match parse(buffer.get(..count).unwrap_or_default(), mac, transaction) {
            Some((kind, lease)) if kind == wanted as u8 => return Ok(lease),
            Some((kind, _)) if kind == Kind::Refuse as u8 => {
                return Err(io::Error::other("the DHCP server takes its offer back"));
            }
            Some(_) | None => {}
        }
    }
}

fn packet(kind: Kind, mac: [u8; 6], transaction: u32, offer: Option<&Lease>) -> Vec<u8> {
    // A request, on Ethernet, with addresses of six bytes.
    let mut bytes = vec![1, 1, 6, 0];
    bytes.extend(transaction.to_be_bytes());
    // No seconds; answers shall be broadcast, for we have no address yet. Then four addresses, all unknown.
    bytes.extend([0, 0, 0x80, 0]);
    bytes.resize(28, 0);
    bytes.extend(mac);
    bytes.resize(OPTIONS_AT - COOKIE.len(), 0);
    bytes.extend(COOKIE);
    bytes.extend([KIND, 1, kind as u8, WANTED, 2, MASK, ROUTER]);
    if let Some(offer) = offer {
        for (option, address) in [(REQUESTED, offer.address), (SERVER, offer.server)] {
            bytes.extend([option, 4]);
            bytes.extend(address.octets());
        }
    }
    bytes.push(END);
    bytes.resize(bytes.len().max(LEAST_BYTES), 0);
    bytes
}

/// The kind of an answer to us and what it offers; `None` is something else.
fn parse(packet: &[u8], mac: [u8; 6], transaction: u32) -> Option<(u8, Lease)> {
    let ours = packet.first() == Some(&2)
        && packet.get(4..8) == Some(&transaction.to_be_bytes()[..])
        && packet.get(28..34) == Some(&mac[..])
        && packet.get(OPTIONS_AT - COOKIE.len()..OPTIONS_AT) == Some(&COOKIE[..]);
    if !ours {
        return None;
    }
    let mut rest = packet.get(OPTIONS_AT..)?;
    let (mut kind, mut mask, mut router, mut server, mut time) = (None, None, None, None, None);
    while let Some((&option, after)) = rest.split_first() {
        match option {
            0 => {
                rest = after;
                continue;
            }
            END => break,
            _ => {}
        }
        let (&length, after) = after.split_first()?;
        let (value, after) = after.split_at_checked(length.into())?;
        let four = value.first_chunk::<4>().copied();
        match option {
            KIND => kind = value.first().copied(),
            MASK => mask = four,
            ROUTER => router = four.map(Ipv4Addr::from),
            SERVER => server = four.map(Ipv4Addr::from),
            LEASE => time = four.map(u32::from_be_bytes),
            _ => {}
        }
        rest = after;
    }
    let lease = Lease {
        address: Ipv4Addr::from(*packet.get(16..20)?.first_chunk::<4>()?),
        prefix: mask.map_or(24, |mask| u8::try_from(u32::from_be_bytes(mask).leading_ones()).unwrap_or(32)),
        router,
        server: server.unwrap_or(Ipv4Addr::UNSPECIFIED),
        time: Duration::from_secs(time.unwrap_or(DEFAULT_LEASE).into()),
    };
    Some((kind?, lease))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

    fn offer(options: &[u8]) -> Vec<u8> {
        let mut bytes = packet(Kind::Discover, MAC, 7, None);
        bytes[0] = 2;
        bytes[16..20].copy_from_slice(&[10, 0, 2, 15]);
        bytes.truncate(OPTIONS_AT);
        bytes.extend(options);
        bytes
    }

    #[test]
    fn an_offer_is_read_and_asked_for() {
        let bytes = offer(&[
            0, 53, 1, 2, 1, 4, 255, 255, 252, 0, 3, 4, 10, 0, 2, 2, 54, 4, 10, 0, 2, 1, 51, 4, 0, 0, 0, 60, 255,
        ]);
        let (kind, lease) = parse(&bytes, MAC, 7).unwrap();
        let expected = Lease {
            address: [10, 0, 2, 15].into(),
            prefix: 22,
            router: Some([10, 0, 2, 2].into()),
            server: [10, 0, 2, 1].into(),
            time: Duration::from_secs(60),
        };
        assert_eq!((kind, lease), (2, expected));
        assert_eq!(parse(&bytes, MAC, 8), None);
        assert_eq!(parse(&bytes, [0; 6], 7), None);
        let request = packet(Kind::Request, MAC, 7, Some(&lease));
        assert!(request.len() >= LEAST_BYTES);
        assert_eq!(&request[240..260], [53, 1, 3, 55, 2, 1, 3, 50, 4, 10, 0, 2, 15, 54, 4, 10, 0, 2, 1, 255]);
    }

    #[test]
    fn every_cut_of_an_answer_is_none_or_the_same() {
        let bytes = offer(&[53, 1, 5, 1, 4, 255, 255, 255, 0, 255]);
        for end in 0..bytes.len() {
            let _ = parse(&bytes[..end], MAC, 7);
        }
        assert_eq!(parse(&offer(&[53, 200, 1]), MAC, 7), None);
        assert_eq!(parse(&offer(&[53]), MAC, 7), None);
    }

    proptest::proptest! {
        #[test]
        fn any_packet_is_answered(options in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            if let Some((_, lease)) = parse(&offer(&options), MAC, 7) {
                proptest::prop_assert!(lease.prefix <= 32);
            }
            let _ = parse(&options, MAC, 7);
        }
    }
}
