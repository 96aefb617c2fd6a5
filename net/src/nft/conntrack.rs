//! Connections that the kernel remembers. TCP's end by themselves when an endpoint goes; a UDP client that keeps its port
//! would be sent to the endpoint that is gone for as long as it keeps trying. So those are forgotten.
//!
//! Numbers are those of `include/uapi/linux/netfilter/nfnetlink_conntrack.h`.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::element::{Element, Front};
use super::wire::{Messages, NLM_F_ACK, NLM_F_DUMP, attributes};
use super::{Error, Family, Socket};
use crate::Protocol;

const GET: u16 = 1 << 8 | 1;
const DELETE: u16 = 1 << 8 | 2;
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const ZONE: u16 = 18;

/// Endpoints with what was in front of them.
pub type Stale = HashSet<(Front, SocketAddr)>;

/// UDP endpoints that a plan takes away from what is in front of them.
pub fn stale(gone: &[Element], come: &[Element]) -> Stale {
    let endpoints = |elements: &[Element]| -> Stale {
        let udp = |element: &Element| match element {
            Element::Endpoint { front, to, .. } if front.protocol() == Protocol::Udp => Some((*front, *to)),
            _ => None,
        };
        elements.iter().filter_map(udp).collect()
    };
    let mut stale = endpoints(gone);
    if !stale.is_empty() {
        let moved = endpoints(come);
        stale.retain(|endpoint| !moved.contains(endpoint));
    }
    stale
}

/// Forgets connections to these endpoints through what was in front of them.
pub fn forget(socket: &mut Socket, stale: &Stale) -> Result<(), Error> {
    for family in Family::ALL {
        if stale.iter().any(|(front, _)| front.family() == family) {
            forget_family(socket, family, stale)?;
        }
    }
    Ok(())
}

fn forget_family(socket: &mut Socket, family: Family, stale: &Stale) -> Result<(), Error> {
    let mut deletions = Messages::default();
    let mut dump = Messages::default();
    let number = family.number() as u8;
    dump.message(GET, NLM_F_DUMP, number, 0, |_| {});
    socket.exchange(&dump, |message| {
        let Some((_, body)) = message.payload.split_at_checked(4) else { return };
        if !is_stale(body, family, stale) {
            return;
        }
        deletions.message(DELETE, NLM_F_ACK, number, 0, |out| {
            for (kind, value) in attributes(body).filter(|(kind, _)| matches!(*kind, ORIGINAL | ZONE)) {
                // The original tuple is an attribute of attributes, the zone a number.
                if kind == ORIGINAL { out.nested(kind, value) } else { out.raw(kind, value) }
            }
        });
    })?;
    if deletions.bytes().is_empty() {
        return Ok(());
    }
    // One that has ended meanwhile is as good as forgotten: errors do not matter.
    socket.exchange(&deletions, |_| {})
}

/// One direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tuple {
    protocol: u8,
    source: SocketAddr,
    destination: SocketAddr,
}

fn is_stale(body: &[u8], family: Family, stale: &Stale) -> bool {
    let tuple = |kind| {
        let (_, value) = attributes(body).find(|(found, _)| *found == kind)?;
        tuple(value)
    };
    let (Some(original), Some(reply)) = (tuple(ORIGINAL), tuple(REPLY)) else { return false };
    if original.protocol != Protocol::Udp.number() {
        return false;
    }
    let (protocol, port) = (Protocol::Udp, original.destination.port());
    let service = Front::service(original.destination.ip(), protocol, port);
    let node = Front::Node { family, protocol, port };
    [service, node].into_iter().any(|front| stale.contains(&(front, reply.source)))
}

fn tuple(bytes: &[u8]) -> Option<Tuple> {
    let (mut source, mut destination, mut ports, mut protocol) = (None, None, [0; 2], None);
    for (kind, inner) in attributes(bytes) {
        for (inner_kind, value) in attributes(inner) {
            match (kind, inner_kind) {
                (1, 1 | 3) => source = address(value),
                (1, 2 | 4) => destination = address(value),
                (2, 1) => protocol = value.first().copied(),
                (2, at @ (2 | 3)) => {
                    if let (Some(port), Some(bytes)) = (ports.get_mut(usize::from(at - 2)), value.first_chunk()) {
                        *port = u16::from_be_bytes(*bytes);
                    }
                }
                _ => {}
            }
        }
    }
    let [source_port, destination_port] = ports;
    Some(Tuple {
        protocol: protocol?,
        source: SocketAddr::new(source?, source_port),
        destination: SocketAddr::new(destination?, destination_port),
    })
}

fn address(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => value.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets).into()),
        16 => value.first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_endpoint_that_only_changes_its_place_is_not_stale() {
        let front = |protocol| Front::service(Ipv4Addr::new(10, 43, 0, 9).into(), protocol, 53);
        let endpoint = |protocol, index, host| Element::Endpoint {
            front: front(protocol),
            index,
            to: SocketAddr::from(([10, 42, 0, host], 53)),
        };
        let gone = [endpoint(Protocol::Udp, 0, 2), endpoint(Protocol::Udp, 1, 3), endpoint(Protocol::Tcp, 0, 2)];
        let come = [endpoint(Protocol::Udp, 0, 3)];
        let expected = HashSet::from([(front(Protocol::Udp), SocketAddr::from(([10, 42, 0, 2], 53)))]);
        assert_eq!(stale(&gone, &come), expected);
    }

    proptest! {
        #[test]
        fn garbage_is_not_stale(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(!is_stale(&bytes, Family::V4, &HashSet::new()));
        }
    }
}
