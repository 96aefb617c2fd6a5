//! An address with a prefix length, such as `10.42.0.0/16`.

use serde::de::{Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// An address and the length of its network prefix. The host part may be set: an interface's address has one, a network has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CidrError {
    #[error("\"{0}\" is not an address with a prefix length, expected one such as \"192.168.1.10/24\"")]
    Form(String),
    #[error("\"{0}\" has a prefix length above {1}")]
    Prefix(String, u8),
}

impl Cidr {
    pub fn new(address: IpAddr, prefix: u8) -> Result<Self, CidrError> {
        let most = if address.is_ipv4() { 32 } else { 128 };
        if prefix > most {
            return Err(CidrError::Prefix(format!("{address}/{prefix}"), most));
        }
        Ok(Self { address, prefix })
    }

    /// The network `a.b.0.0/16`.
    pub(crate) fn v4_16(a: u8, b: u8) -> Self {
        Self { address: IpAddr::from([a, b, 0, 0]), prefix: 16 }
    }

    pub fn address(self) -> IpAddr {
        self.address
    }

    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// Whether `address` is of this network.
    pub fn contains(self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(mine), IpAddr::V4(other)) => {
                same_prefix(u128::from(mine.to_bits()), u128::from(other.to_bits()), 32, self.prefix)
            }
            (IpAddr::V6(mine), IpAddr::V6(other)) => same_prefix(mine.to_bits(), other.to_bits(), 128, self.prefix),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }

    /// Whether two networks share an address.
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }

    /// Whether no bit behind the prefix is set.
    pub fn is_network(self) -> bool {
        let (bits, width) = match self.address {
            IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
            IpAddr::V6(address) => (address.to_bits(), 128),
        };
        let host_bits = width - u32::from(self.prefix);
        host_bits == 0 || bits & (u128::MAX >> (128 - host_bits)) == 0
    }
}

fn same_prefix(one: u128, other: u128, width: u32, prefix: u8) -> bool {
    let difference = one ^ other;
    difference.checked_shr(width - u32::from(prefix)).unwrap_or(0) == 0
}

impl FromStr for Cidr {
    type Err = CidrError;
    fn from_str(text: &str) -> Result<Self, CidrError> {
        let refuse = || CidrError::Form(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(refuse)?;
        if prefix.starts_with('+') {
            return Err(refuse());
        }
        Self::new(address.parse().map_err(|_| refuse())?, prefix.parse().map_err(|_| refuse())?)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.address, self.prefix)
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Refused within the visitor, and not by `try_from` after it, so that the error has the place of the value.
struct CidrVisitor;

impl Visitor<'_> for CidrVisitor {
    type Value = Cidr;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an address with a prefix length, such as \"192.168.1.10/24\"")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Cidr, E> {
        text.parse().map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(CidrVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn networks_contain_and_overlap() {
        assert!(cidr("10.43.0.0/16").contains("10.43.0.10".parse().unwrap()));
        assert!(!cidr("10.43.0.0/16").contains("10.44.0.10".parse().unwrap()));
        assert!(cidr("0.0.0.0/0").contains("255.1.2.3".parse().unwrap()));
        assert!(!cidr("0.0.0.0/0").contains("::1".parse().unwrap()));
        assert!(cidr("::/0").contains("fd00::1".parse().unwrap()));
        assert!(cidr("10.0.0.0/8").overlaps(cidr("10.42.0.0/16")));
        assert!(!cidr("10.42.0.0/16").overlaps(cidr("10.43.0.0/16")));
    }

    #[test]
    fn host_bits_tell_an_address_from_a_network() {
        assert!(cidr("10.42.0.0/16").is_network());
        assert!(!cidr("10.42.0.1/16").is_network());
        assert!(cidr("10.42.0.1/32").is_network());
        assert!(cidr("::/0").is_network());
        assert!(!cidr("fd00::1/64").is_network());
    }

    #[test]
    fn wrong_forms_are_refused() {
        for wrong in ["", "10.0.0.0", "10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/+8", "10.0.0.0/ 8", "/8"] {
            assert!(wrong.parse::<Cidr>().is_err(), "{wrong}");
        }
    }
}
