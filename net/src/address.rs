//! Addresses as values that cannot be wrong: a network with its prefix length, and an Ethernet address.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What is wrong with a text that should be an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("`{0}` is not ADDRESS/PREFIX")]
    NotANetwork(String),
    #[error("prefix length {prefix} of `{text}` is over {most}")]
    PrefixTooLong { text: String, prefix: u8, most: u8 },
    #[error("`{0}` is not an Ethernet address")]
    NotAMac(String),
}

/// An address with the length of its network's prefix: `10.42.0.7/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IpNet {
    address: IpAddr,
    prefix: u8,
}

impl IpNet {
    pub fn new(address: IpAddr, prefix: u8) -> Result<Self, ParseError> {
        let most = bits(address);
        if prefix > most {
            return Err(ParseError::PrefixTooLong { text: address.to_string(), prefix, most });
        }
        Ok(Self { address, prefix })
    }

    /// The network of exactly one address.
    pub fn host(address: IpAddr) -> Self {
        Self { address, prefix: bits(address) }
    }

    /// The network in which an address with this netmask lies; `None` for a mask with holes.
    pub fn with_netmask(address: Ipv4Addr, mask: Ipv4Addr) -> Option<Self> {
        let mask = u32::from(mask);
        let prefix = mask.leading_ones();
        (mask.count_ones() == prefix).then_some(Self { address: IpAddr::V4(address), prefix: prefix as u8 })
    }

    pub fn address(&self) -> IpAddr {
        self.address
    }

    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// The network's first address: `10.42.0.0` of `10.42.0.7/24`.
    pub fn network(&self) -> IpAddr {
        match self.address {
            IpAddr::V4(a) => IpAddr::V4((u32::from(a) & mask32(self.prefix)).into()),
            IpAddr::V6(a) => IpAddr::V6((u128::from(a) & mask128(self.prefix)).into()),
        }
    }

    /// The mask as an address of the same family.
    pub fn netmask(&self) -> IpAddr {
        match self.address {
            IpAddr::V4(_) => IpAddr::V4(mask32(self.prefix).into()),
            IpAddr::V6(_) => IpAddr::V6(mask128(self.prefix).into()),
        }
    }

    pub fn contains(&self, other: IpAddr) -> bool {
        match (self.address, other) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (u32::from(a) ^ u32::from(b)) & mask32(self.prefix) == 0,
            (IpAddr::V6(a), IpAddr::V6(b)) => (u128::from(a) ^ u128::from(b)) & mask128(self.prefix) == 0,
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }

    /// The network's `n`th address, when it has so many.
    pub fn nth(&self, n: u32) -> Option<IpAddr> {
        let host_bits = bits(self.address).saturating_sub(self.prefix);
        if host_bits < 32 && n >> host_bits != 0 {
            return None;
        }
        match self.network() {
            IpAddr::V4(a) => u32::from(a).checked_add(n).map(|a| IpAddr::V4(a.into())),
            IpAddr::V6(a) => u128::from(a).checked_add(u128::from(n)).map(|a| IpAddr::V6(a.into())),
        }
    }
}

fn bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn mask32(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32u32.saturating_sub(u32::from(prefix))).unwrap_or(0)
}

fn mask128(prefix: u8) -> u128 {
    u128::MAX.checked_shl(128u32.saturating_sub(u32::from(prefix))).unwrap_or(0)
}

impl fmt::Display for IpNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for IpNet {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = || ParseError::NotANetwork(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        Self::new(address.parse().map_err(|_| wrong())?, prefix.parse().map_err(|_| wrong())?)
    }
}

impl TryFrom<String> for IpNet {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, ParseError> {
        text.parse()
    }
}

impl From<IpNet> for String {
    fn from(net: IpNet) -> Self {
        net.to_string()
    }
}

/// An Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// A locally administered address made from an IP address: the same IP always has the same MAC, so that a neighbour
    /// entry that outlives a workload is right for the next one.
    pub fn of(address: IpAddr) -> Self {
        let [a, b, c, d] = match address {
            IpAddr::V4(v4) => v4.octets(),
            IpAddr::V6(v6) => (u128::from(v6) as u32).to_be_bytes(),
        };
        Self([0x02, 0x6b, a, b, c, d])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = || ParseError::NotAMac(text.to_owned());
        let mut bytes = [0u8; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(wrong)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() { Err(wrong()) } else { Ok(Self(bytes)) }
    }
}

impl TryFrom<String> for Mac {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, ParseError> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_parse_and_print() {
        let net: IpNet = "10.42.0.7/24".parse().unwrap();
        assert_eq!(net.network().to_string(), "10.42.0.0");
        assert_eq!(net.netmask().to_string(), "255.255.255.0");
        assert_eq!(net.to_string(), "10.42.0.7/24");
        assert!(net.contains("10.42.0.255".parse().unwrap()));
        assert!(!net.contains("10.42.1.0".parse().unwrap()));
        assert!(!net.contains("::1".parse().unwrap()));
        for wrong in ["10.42.0.7", "10.42.0.7/33", "10.42.0/24", "fd00::/129", "/", ""] {
            assert!(wrong.parse::<IpNet>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_whole_address_space_is_a_network() {
        let all: IpNet = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains("255.255.255.255".parse().unwrap()));
        assert!("::/0".parse::<IpNet>().unwrap().contains("fd00::1".parse().unwrap()));
        assert_eq!(all.netmask().to_string(), "0.0.0.0");
    }

    #[test]
    fn nth_ends_with_the_network() {
        let net: IpNet = "192.168.1.128/30".parse().unwrap();
        assert_eq!(net.nth(3).unwrap().to_string(), "192.168.1.131");
        assert_eq!(net.nth(4), None);
        assert_eq!("10.0.0.1/32".parse::<IpNet>().unwrap().nth(0).unwrap().to_string(), "10.0.0.1");
        assert_eq!("fd00::/64".parse::<IpNet>().unwrap().nth(5).unwrap().to_string(), "fd00::5");
    }

    #[test]
    fn netmasks_with_holes_are_refused() {
        let address = Ipv4Addr::new(10, 0, 2, 15);
        assert_eq!(IpNet::with_netmask(address, Ipv4Addr::new(255, 255, 255, 0)).unwrap().prefix(), 24);
        assert_eq!(IpNet::with_netmask(address, Ipv4Addr::new(255, 0, 255, 0)), None);
    }

    #[test]
    fn macs_round_trip() {
        let mac = Mac::of("10.42.0.7".parse().unwrap());
        assert_eq!(mac.to_string(), "02:6b:0a:2a:00:07");
        assert_eq!(mac.to_string().parse::<Mac>(), Ok(mac));
        for wrong in ["", "02:6b:0a:2a:00", "02:6b:0a:2a:00:07:08", "02:6b:0a:2a:00:7", "zz:6b:0a:2a:00:07"] {
            assert!(wrong.parse::<Mac>().is_err(), "{wrong}");
        }
    }
}
