//! Names of the reverse zones as addresses (RFC 1035 section 3.5, RFC 3596 section 2.5).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `None` for any name that does not spell a whole address.
pub fn address(name: &str) -> Option<IpAddr> {
    if let Some(octets) = name.strip_suffix(".in-addr.arpa") {
        let mut parts = octets.split('.');
        let mut bytes = [0u8; 4];
        for byte in bytes.iter_mut().rev() {
            *byte = parts.next()?.parse().ok()?;
        }
        return parts.next().is_none().then_some(IpAddr::V4(Ipv4Addr::from(bytes)));
    }
    let nibbles = name.strip_suffix(".ip6.arpa")?;
    let (mut value, mut count) = (0u128, 0u32);
    for part in nibbles.split('.') {
        let nibble = u128::from(u8::from_str_radix(part, 16).ok().filter(|_| part.len() == 1)?);
        value |= nibble.checked_shl(4 * count)?;
        count += 1;
    }
    (count == 32).then_some(IpAddr::V6(Ipv6Addr::from(value)))
}

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn whole_addresses_only() {
        let v6 = "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa";
        for (name, expected) in [
            ("7.0.42.10.in-addr.arpa", Some("10.42.0.7")),
            ("0.42.10.in-addr.arpa", None),
            ("1.7.0.42.10.in-addr.arpa", None),
            ("x.0.42.10.in-addr.arpa", None),
            ("in-addr.arpa", None),
            (v6, Some("fd00::7")),
            (&v6[2..], None),
            (&format!("0.{v6}"), None),
            ("cluster.local", None),
        ] {
            assert_eq!(address(name), expected.map(|e| e.parse().unwrap()), "{name}");
        }
    }
}
