//! IPv4 and UDP around a DHCP message, for as long as there is no address and so no UDP socket that could do it.

use std::net::Ipv4Addr;

pub const CLIENT_PORT: u16 = 68;
pub const SERVER_PORT: u16 = 67;

const UDP: u8 = 17;

/// A broadcast from nobody.
pub fn wrap(message: &[u8]) -> Vec<u8> {
    let udp_length = (message.len() + 8) as u16;
    let (source, destination) = (Ipv4Addr::UNSPECIFIED.octets(), Ipv4Addr::BROADCAST.octets());
    let mut out = Vec::with_capacity(message.len() + 28);
    out.extend([0x45, 0x10]);
    out.extend((udp_length + 20).to_be_bytes());
    out.extend([0, 0, 0, 0, 64, UDP, 0, 0]);
    out.extend(source);
    out.extend(destination);
    let sum = checksum(&[&out]);
    if let Some(slot) = out.get_mut(10..12) {
        slot.copy_from_slice(&sum.to_be_bytes());
    }
    let mut header = Vec::with_capacity(8);
    for value in [CLIENT_PORT, SERVER_PORT, udp_length, 0] {
        header.extend(value.to_be_bytes());
    }
    let sum = checksum(&[&source, &destination, &[0, UDP], &udp_length.to_be_bytes(), &header, message]);
    if let Some(slot) = header.get_mut(6..8) {
        slot.copy_from_slice(&if sum == 0 { 0xffff } else { sum }.to_be_bytes());
    }
    out.extend(header);
    out.extend_from_slice(message);
    out
}

/// The DHCP message inside a packet to our port. The checksum is not looked at: between virtual machines of one host it
/// is never computed, and the message itself says whom it is for.
pub fn unwrap(packet: &[u8]) -> Option<&[u8]> {
    let (version, words) = (packet.first()? >> 4, packet.first()? & 0xf);
    if version != 4 || packet.get(9) != Some(&UDP) {
        return None;
    }
    let number = |bytes: &[u8], at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    if number(packet, 6)? & 0x3fff != 0 {
        return None;
    }
    let datagram = packet.get(usize::from(words) * 4..usize::from(number(packet, 2)?))?;
    if number(datagram, 0)? != SERVER_PORT || number(datagram, 2)? != CLIENT_PORT {
        return None;
    }
    datagram.get(8..usize::from(number(datagram, 4)?))
}

/// The internet checksum over parts, each but the last of even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for part in parts {
        for pair in part.chunks(2) {
            let high = pair.first().copied().unwrap_or(0);
            let low = pair.get(1).copied().unwrap_or(0);
            sum += u32::from(u16::from_be_bytes([high, low]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Turns a client's packet into one that a server could have sent.
    fn swapped(mut packet: Vec<u8>) -> Vec<u8> {
        packet[20..24].rotate_left(2);
        packet
    }

    #[test]
    fn headers_have_checksums() {
        let packet = wrap(b"message");
        assert_eq!(checksum(&[&packet[..20]]), 0);
        let length = 15u16.to_be_bytes();
        assert_eq!(checksum(&[&packet[12..20], &[0, UDP], &length, &packet[20..]]), 0);
        assert_eq!(unwrap(&packet), None, "a request is no answer");
        assert_eq!(unwrap(&swapped(packet)), Some(&b"message"[..]));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(packet in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = unwrap(&packet);
            let _ = unwrap(&[&[0x45], &packet[..]].concat());
        }

        #[test]
        fn what_is_wrapped_is_unwrapped(message in prop::collection::vec(any::<u8>(), 0..600)) {
            let packet = swapped(wrap(&message));
            prop_assert_eq!(unwrap(&packet), Some(&message[..]));
        }
    }
}
