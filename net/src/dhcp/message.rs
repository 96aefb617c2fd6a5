//! DHCP messages: what the client says, and what it understands of what servers say.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::lease::{Lease, Options};
use super::wire::{Message, Received, option, read};
use crate::{IpNet, Mac};

/// What a server said to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Offer { xid: u32, address: Ipv4Addr, server: Ipv4Addr },
    Ack { xid: u32, lease: Box<Lease> },
    Nak { xid: u32, server: Option<Ipv4Addr> },
}

/// What the client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    Discover {
        wanted: Option<Ipv4Addr>,
    },
    /// The address that this server offered.
    Take {
        address: Ipv4Addr,
        server: Ipv4Addr,
    },
    /// An address from before a restart.
    Confirm {
        address: Ipv4Addr,
    },
    /// More time for the address in use.
    Extend {
        address: Ipv4Addr,
    },
}

/// Without a lease time in the answer: long enough to work, short enough to notice a change.
const DEFAULT_LIFETIME: u32 = 3600;
/// A shorter lease would only make noise.
const LEAST_LIFETIME: u32 = 10;
/// What fits into an Ethernet frame, and so what servers may send.
const LARGEST_MESSAGE: u16 = 1472;

const WANTED: &[u8] = &[
    option::SUBNET_MASK,
    option::ROUTER,
    option::DNS,
    option::HOST_NAME,
    option::DOMAIN,
    option::MTU,
    option::NTP,
    option::CLASSLESS_ROUTES,
    option::RENEW,
    option::REBIND,
];

const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const ACK: u8 = 5;
const NAK: u8 = 6;

/// The bytes of a request.
pub fn encode(request: Request, xid: u32, elapsed: Duration, mac: Mac, options: &Options) -> Vec<u8> {
    let seconds = u16::try_from(elapsed.as_secs()).unwrap_or(u16::MAX);
    let (kind, client, requested, server) = match request {
        Request::Discover { wanted } => (DISCOVER, None, wanted, None),
        Request::Take { address, server } => (REQUEST, None, Some(address), Some(server)),
        Request::Confirm { address } => (REQUEST, None, Some(address), None),
        Request::Extend { address } => (REQUEST, Some(address), None, None),
    };
    let octets = |address: Option<Ipv4Addr>| address.map(|address| address.octets());
    Message::new(xid, seconds, client.unwrap_or(Ipv4Addr::UNSPECIFIED), mac)
        .option(option::MESSAGE_TYPE, &[kind])
        .option(option::REQUESTED_ADDRESS, octets(requested).as_ref().map_or(&[], |octets| octets))
        .option(option::SERVER, octets(server).as_ref().map_or(&[], |octets| octets))
        // Type 1, Ethernet: what most clients send, so a device keeps its address when another system boots on it.
        .option(option::CLIENT, &[&[1], &mac.0[..]].concat())
        .option(option::LARGEST_MESSAGE, &LARGEST_MESSAGE.to_be_bytes())
        .option(option::PARAMETERS, WANTED)
        .option(option::HOST_NAME, options.hostname.as_deref().unwrap_or_default().as_bytes())
        .option(option::VENDOR_CLASS, options.vendor_class.as_deref().unwrap_or_default().as_bytes())
        .end()
}

/// Reads a server's answer to this client; `None` for anything else.
pub fn decode(bytes: &[u8], mac: Mac) -> Option<Reply> {
    let message = read(bytes, mac)?;
    let (xid, address, server) = (message.xid, message.address, message.address(option::SERVER));
    match message.byte(option::MESSAGE_TYPE)? {
        OFFER if is_usable(address) => Some(Reply::Offer { xid, address, server: server? }),
        ACK if is_usable(address) => Some(Reply::Ack { xid, lease: Box::new(lease(&message, server?)?) }),
        NAK => Some(Reply::Nak { xid, server }),
        _ => None,
    }
}

fn is_usable(address: Ipv4Addr) -> bool {
    !address.is_unspecified() && !address.is_loopback() && !address.is_multicast() && !address.is_broadcast()
}

fn lease(message: &Received, server: Ipv4Addr) -> Option<Lease> {
    let address = message.address;
    let routes = classless_routes(message.options.get(&option::CLASSLESS_ROUTES).map_or(&[], Vec::as_slice));
    // RFC 3442: who understands these must not use the others.
    let routers = if routes.is_empty() { message.addresses(option::ROUTER) } else { Vec::new() };
    let lifetime = message.number(option::LEASE_TIME).unwrap_or(DEFAULT_LIFETIME).max(LEAST_LIFETIME);
    // Times that contradict each other are replaced by RFC 2131's: half, and seven eighths.
    let rebind = message.number(option::REBIND).filter(|t2| *t2 < lifetime).unwrap_or(lifetime - lifetime / 8);
    let renew = message.number(option::RENEW).filter(|t1| *t1 < rebind).unwrap_or((lifetime / 2).min(rebind));
    let mask = message.address(option::SUBNET_MASK).unwrap_or_else(|| default_mask(address));
    Some(Lease {
        address: IpNet::with_netmask(address, mask)?,
        server,
        routers,
        dns: message.addresses(option::DNS),
        ntp: message.addresses(option::NTP),
        domain: message.text(option::DOMAIN).and_then(host_name),
        hostname: message.text(option::HOST_NAME).and_then(host_name),
        // RFC 2132 5.1 allows 68; a host that speaks TCP needs 576.
        mtu: message.short(option::MTU).filter(|mtu| *mtu >= 576),
        routes,
        lifetime: Duration::from_secs(lifetime.into()),
        renew_after: Duration::from_secs(renew.into()),
        rebind_after: Duration::from_secs(rebind.into()),
    })
}

/// Prefix length, as many octets as it covers, router; again and again. What does not fit ends the list.
fn classless_routes(mut bytes: &[u8]) -> Vec<(IpNet, Ipv4Addr)> {
    let mut routes = Vec::new();
    while let Some((prefix, rest)) = bytes.split_first() {
        let covered = usize::from(prefix.div_ceil(8));
        let Some((network, rest)) = rest.split_at_checked(covered) else { break };
        let Some((router, rest)) = rest.split_first_chunk::<4>() else { break };
        let mut octets = [0; 4];
        let Some(slot) = octets.get_mut(..covered) else { break };
        slot.copy_from_slice(network);
        let Ok(network) = IpNet::new(Ipv4Addr::from(octets).into(), *prefix) else { break };
        routes.push((network, Ipv4Addr::from(*router)));
        bytes = rest;
    }
    routes
}

/// The mask of the address's class, when a server names none.
fn default_mask(address: Ipv4Addr) -> Ipv4Addr {
    match address.octets() {
        [0..=127, ..] => Ipv4Addr::new(255, 0, 0, 0),
        [128..=191, ..] => Ipv4Addr::new(255, 255, 0, 0),
        _ => Ipv4Addr::new(255, 255, 255, 0),
    }
}

/// A name that can be a host's; servers send what their administrator typed, with and without a NUL.
fn host_name(name: &str) -> Option<String> {
    let name = name.trim_end_matches('\0').trim_end_matches('.');
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    (name.len() <= 253 && name.split('.').all(label)).then(|| name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use dhcproto::v4::{DhcpOption, Message, MessageType, Opcode, OptionCode};
    use dhcproto::{Decodable, Decoder, Encodable, Encoder};
    use proptest::prelude::*;

    use super::*;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    fn ack(change: impl FnOnce(&mut Message)) -> Vec<u8> {
        let (none, address) = (Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(192, 168, 1, 7));
        let mut message = Message::new_with_id(7, none, address, none, none, &MAC.0);
        message.set_opcode(Opcode::BootReply);
        for option in [
            DhcpOption::MessageType(MessageType::Ack),
            DhcpOption::ServerIdentifier(Ipv4Addr::new(192, 168, 1, 1)),
            DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)),
            DhcpOption::AddressLeaseTime(1000),
        ] {
            message.opts_mut().insert(option);
        }
        change(&mut message);
        let mut bytes = Vec::new();
        message.encode(&mut Encoder::new(&mut bytes)).unwrap();
        bytes
    }

    fn lease_of(bytes: &[u8]) -> Lease {
        match decode(bytes, MAC) {
            Some(Reply::Ack { lease, .. }) => *lease,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn times_are_made_to_fit() {
        let times = |t1: Option<u32>, t2: Option<u32>, seconds| {
            let lease = lease_of(&ack(|message| {
                message.opts_mut().insert(DhcpOption::AddressLeaseTime(seconds));
                t1.map(|t1| message.opts_mut().insert(DhcpOption::Renewal(t1)));
                t2.map(|t2| message.opts_mut().insert(DhcpOption::Rebinding(t2)));
            }));
            [lease.renew_after, lease.rebind_after, lease.lifetime].map(|time| time.as_secs())
        };
        assert_eq!(times(None, None, 1000), [500, 875, 1000]);
        assert_eq!(times(Some(10), Some(20), 1000), [10, 20, 1000]);
        assert_eq!(times(Some(999), Some(20), 1000), [20, 20, 1000]);
        assert_eq!(times(Some(10), Some(2000), 1000), [10, 875, 1000]);
        assert_eq!(times(None, None, 0), [5, 9, 10]);
    }

    #[test]
    fn answers_that_are_not_ours_or_not_usable_are_nothing() {
        assert!(decode(&ack(|_| {}), MAC).is_some());
        assert_eq!(decode(&ack(|_| {}), Mac([2, 0, 0, 0, 0, 2])), None);
        assert_eq!(
            decode(
                &ack(|m| {
                    m.set_opcode(Opcode::BootRequest);
                }),
                MAC
            ),
            None
        );
        assert_eq!(
            decode(
                &ack(|m| {
                    m.set_yiaddr(Ipv4Addr::UNSPECIFIED);
                }),
                MAC
            ),
            None
        );
        let without_server = ack(|m| drop(m.opts_mut().remove(OptionCode::ServerIdentifier)));
        assert_eq!(decode(&without_server, MAC), None);
        let holes = ack(|m| drop(m.opts_mut().insert(DhcpOption::SubnetMask(Ipv4Addr::new(255, 0, 255, 0)))));
        assert_eq!(decode(&holes, MAC), None);
        assert_eq!(decode(&[], MAC), None);
    }

    #[test]
    fn names_that_cannot_be_a_hosts_are_left_out() {
        for (name, expected) in [
            ("Kedge", Some("kedge")),
            ("lan.example.\0", Some("lan.example")),
            ("a b", None),
            ("$(reboot)", None),
            ("-a", None),
            ("", None),
        ] {
            assert_eq!(host_name(name).as_deref(), expected, "{name:?}");
        }
    }

    #[test]
    fn requests_are_read_back() {
        let options = Options { hostname: Some("kedge".into()), ..Options::default() };
        let take = Request::Take { address: Ipv4Addr::new(10, 0, 0, 2), server: Ipv4Addr::new(10, 0, 0, 1) };
        let bytes = encode(take, 9, Duration::from_secs(3), MAC, &options);
        assert!(bytes.len() >= 300);
        let message = Message::decode(&mut Decoder::new(&bytes)).unwrap();
        assert_eq!((message.xid(), message.secs()), (9, 3));
        assert!(message.opts().has_msg_type(MessageType::Request));
        let requested = message.opts().get(OptionCode::RequestedIpAddress);
        assert_eq!(requested, Some(&DhcpOption::RequestedIpAddress(Ipv4Addr::new(10, 0, 0, 2))));
    }

    #[test]
    fn everything_a_server_says_is_understood() {
        let lease = lease_of(&ack(|message| {
            for option in [
                DhcpOption::Router(vec![Ipv4Addr::new(192, 168, 1, 1), Ipv4Addr::new(192, 168, 1, 2)]),
                DhcpOption::DomainNameServer(vec![Ipv4Addr::new(9, 9, 9, 9)]),
                DhcpOption::NtpServers(vec![Ipv4Addr::new(192, 168, 1, 3)]),
                DhcpOption::DomainName("lan.example".into()),
                DhcpOption::Hostname("Anchor".into()),
                DhcpOption::InterfaceMtu(1400),
            ] {
                message.opts_mut().insert(option);
            }
        }));
        let expected = Lease {
            address: "192.168.1.7/24".parse().unwrap(),
            server: Ipv4Addr::new(192, 168, 1, 1),
            routers: vec![Ipv4Addr::new(192, 168, 1, 1), Ipv4Addr::new(192, 168, 1, 2)],
            dns: vec![Ipv4Addr::new(9, 9, 9, 9)],
            ntp: vec![Ipv4Addr::new(192, 168, 1, 3)],
            domain: Some("lan.example".into()),
            hostname: Some("anchor".into()),
            mtu: Some(1400),
            routes: vec![],
            lifetime: Duration::from_secs(1000),
            renew_after: Duration::from_secs(500),
            rebind_after: Duration::from_secs(875),
        };
        assert_eq!(lease, expected);
    }

    #[test]
    fn classless_routes_replace_routers() {
        let routes = classless_routes(&[0, 10, 0, 0, 1, 25, 192, 168, 5, 128, 10, 0, 0, 2, 8, 172]);
        let expected = [
            ("0.0.0.0/0".parse().unwrap(), Ipv4Addr::new(10, 0, 0, 1)),
            ("192.168.5.128/25".parse().unwrap(), Ipv4Addr::new(10, 0, 0, 2)),
        ];
        assert_eq!(routes, expected);
        assert_eq!(classless_routes(&[33, 1, 2, 3, 4, 5, 10, 0, 0, 1]), []);
        let lease = lease_of(&ack(|message| {
            message.opts_mut().insert(DhcpOption::Router(vec![Ipv4Addr::new(192, 168, 1, 1)]));
            let route = dhcproto::v4::UnknownOption::new(OptionCode::Unknown(121), vec![0, 10, 0, 0, 1]);
            message.opts_mut().insert(DhcpOption::Unknown(route));
        }));
        assert_eq!((lease.routers.len(), lease.routes.len()), (0, 1));
    }

    proptest! {
        #[test]
        fn garbage_is_nothing(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            prop_assert_eq!(decode(&bytes, MAC), None);
        }

        /// A message with any few bytes changed is read or not read, and its times are in order.
        #[test]
        fn damaged_answers_never_panic(changes in prop::collection::vec((0usize..300, any::<u8>()), 0..8)) {
            let mut bytes = ack(|_| {});
            for (at, value) in changes {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            if let Some(Reply::Ack { lease, .. }) = decode(&bytes, MAC) {
                prop_assert!(lease.renew_after <= lease.rebind_after && lease.rebind_after < lease.lifetime);
            }
        }
    }
}
