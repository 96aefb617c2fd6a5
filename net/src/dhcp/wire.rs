//! The fixed part and the options of a DHCP message as bytes (RFC 2131, 2132, 3396).
//!
//! Written here because the codec that is at hand (dhcproto 0.15) asserts on what it reads: any machine on the link could
//! stop the client. It serves as the other side in the tests instead.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::Mac;

/// Option numbers, RFC 2132 and 3442.
pub mod option {
    pub const SUBNET_MASK: u8 = 1;
    pub const ROUTER: u8 = 3;
    pub const DNS: u8 = 6;
    pub const HOST_NAME: u8 = 12;
    pub const DOMAIN: u8 = 15;
    pub const MTU: u8 = 26;
    pub const NTP: u8 = 42;
    pub const REQUESTED_ADDRESS: u8 = 50;
    pub const LEASE_TIME: u8 = 51;
    pub const OVERLOAD: u8 = 52;
    pub const MESSAGE_TYPE: u8 = 53;
    pub const SERVER: u8 = 54;
    pub const PARAMETERS: u8 = 55;
    pub const LARGEST_MESSAGE: u8 = 57;
    pub const RENEW: u8 = 58;
    pub const REBIND: u8 = 59;
    pub const VENDOR_CLASS: u8 = 60;
    pub const CLIENT: u8 = 61;
    pub const CLASSLESS_ROUTES: u8 = 121;
}

const REPLY: u8 = 2;
const ETHERNET: u8 = 1;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
const PAD: u8 = 0;
const END: u8 = 255;
/// Some servers and relays want BOOTP's length at least.
const LEAST: usize = 300;

/// A server's message to one client.
#[derive(Debug)]
pub struct Received {
    pub xid: u32,
    /// `yiaddr`.
    pub address: Ipv4Addr,
    /// Options that come in parts are put together, RFC 3396.
    pub options: BTreeMap<u8, Vec<u8>>,
}

/// Reads a server's message to this client; `None` for anything else.
pub fn read(bytes: &[u8], mac: Mac) -> Option<Received> {
    let is_ours = bytes.get(..3)? == [REPLY, ETHERNET, 6] && bytes.get(28..34)? == mac.0;
    if !is_ours || bytes.get(236..240)? != COOKIE {
        return None;
    }
    let mut options = BTreeMap::new();
    collect(bytes.get(240..)?, &mut options);
    // Server name and file name may hold options as well: bit 1 the file, bit 0 the name.
    let overload = options.get(&option::OVERLOAD).and_then(|value: &Vec<u8>| value.first().copied()).unwrap_or(0);
    for (bit, field) in [(1, 108..236), (2, 44..108)] {
        if overload & bit != 0 {
            collect(bytes.get(field)?, &mut options);
        }
    }
    let xid = u32::from_be_bytes(*bytes.get(4..)?.first_chunk()?);
    Some(Received { xid, address: Ipv4Addr::from(*bytes.get(16..)?.first_chunk::<4>()?), options })
}

fn collect(mut bytes: &[u8], options: &mut BTreeMap<u8, Vec<u8>>) {
    while let Some((code, rest)) = bytes.split_first() {
        match *code {
            END => return,
            PAD => bytes = rest,
            code => {
                let Some((length, rest)) = rest.split_first() else { return };
                let Some((value, rest)) = rest.split_at_checked(usize::from(*length)) else { return };
                options.entry(code).or_default().extend_from_slice(value);
                bytes = rest;
            }
        }
    }
}

impl Received {
    pub fn byte(&self, code: u8) -> Option<u8> {
        self.options.get(&code)?.first().copied()
    }

    pub fn short(&self, code: u8) -> Option<u16> {
        Some(u16::from_be_bytes(*self.options.get(&code)?.first_chunk()?))
    }

    pub fn number(&self, code: u8) -> Option<u32> {
        Some(u32::from_be_bytes(*self.options.get(&code)?.first_chunk()?))
    }

    pub fn address(&self, code: u8) -> Option<Ipv4Addr> {
        self.number(code).map(Ipv4Addr::from)
    }

    pub fn addresses(&self, code: u8) -> Vec<Ipv4Addr> {
        let bytes = self.options.get(&code).map(Vec::as_slice).unwrap_or_default();
        bytes.as_chunks::<4>().0.iter().map(|octets| Ipv4Addr::from(*octets)).collect()
    }

    pub fn text(&self, code: u8) -> Option<&str> {
        std::str::from_utf8(self.options.get(&code)?).ok()
    }
}

/// A client's message, its fixed part written.
#[derive(Debug)]
pub struct Message(Vec<u8>);

impl Message {
    pub fn new(xid: u32, seconds: u16, client: Ipv4Addr, mac: Mac) -> Self {
        let mut bytes = Vec::with_capacity(350);
        bytes.extend([1, ETHERNET, 6, 0]);
        bytes.extend(xid.to_be_bytes());
        bytes.extend(seconds.to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(client.octets());
        bytes.resize(28, 0);
        bytes.extend(mac.0);
        bytes.resize(236, 0);
        bytes.extend(COOKIE);
        Self(bytes)
    }

    /// An option of at most 255 bytes; what is longer is cut, and a value without bytes is left out.
    pub fn option(mut self, code: u8, value: &[u8]) -> Self {
        let value = value.get(..255).unwrap_or(value);
        if !value.is_empty() {
            self.0.extend([code, value.len() as u8]);
            self.0.extend_from_slice(value);
        }
        self
    }

    pub fn end(mut self) -> Vec<u8> {
        self.0.push(END);
        self.0.resize(self.0.len().max(LEAST), PAD);
        self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    fn reply(options: &[u8]) -> Vec<u8> {
        let mut bytes = Message::new(7, 0, Ipv4Addr::UNSPECIFIED, MAC).0;
        bytes[0] = REPLY;
        bytes.extend_from_slice(options);
        bytes
    }

    #[test]
    fn options_in_parts_and_in_other_fields_are_put_together() {
        let mut bytes = reply(&[12, 2, b'a', b'b', 0, 0, 52, 1, 3, 12, 1, b'c', 255, 12, 1, b'x']);
        bytes[108..112].copy_from_slice(&[12, 1, b'd', 255]);
        bytes[44..48].copy_from_slice(&[12, 1, b'e', 255]);
        let received = read(&bytes, MAC).unwrap();
        assert_eq!(received.text(option::HOST_NAME), Some("abcde"));
    }

    #[test]
    fn options_that_end_too_early_end_the_reading() {
        let received = read(&reply(&[3, 4, 1, 2, 3, 4, 6, 200, 1]), MAC).unwrap();
        assert_eq!(received.addresses(option::ROUTER), [Ipv4Addr::new(1, 2, 3, 4)]);
        assert!(received.addresses(option::DNS).is_empty());
        assert_eq!(read(&reply(&[51, 2, 0, 0]), MAC).unwrap().number(option::LEASE_TIME), None);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..600), options in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(read(&bytes, MAC).is_none());
            prop_assert!(read(&reply(&options), MAC).is_some());
        }
    }
}
