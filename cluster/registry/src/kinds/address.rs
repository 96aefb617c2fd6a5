//! Checks of addresses and networks, with upstream's words.

use std::net::IpAddr;

use crate::errors::{Errors, Path};

const BAD_IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const BAD_CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

pub(crate) fn ip(text: &str, path: &Path<'_>, errors: &mut Errors) -> Option<IpAddr> {
    let parsed = text.parse().ok();
    if parsed.is_none() {
        errors.invalid(path, text, BAD_IP);
    }
    parsed
}

/// An address of a pod or machine that others can reach.
pub(crate) fn reachable(address: IpAddr, path: &Path<'_>, errors: &mut Errors) {
    let text = address.to_string();
    if address.is_unspecified() {
        errors.invalid(path, text.as_str(), "may not be unspecified (0.0.0.0 or ::)");
    }
    if address.is_loopback() {
        errors.invalid(path, text.as_str(), "may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    let (link_local, link_multicast) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), matches!(v4.octets(), [224, 0, 0, _])),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.segments().first().is_some_and(|s| s & 0xff0f == 0xff02)),
    };
    if link_local {
        errors.invalid(path, text.as_str(), "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if link_multicast {
        errors.invalid(path, text.as_str(), "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}

pub(crate) fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let most = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    bits.bytes().all(|b| b.is_ascii_digit()) && bits.parse::<u8>().is_ok_and(|bits| bits <= most)
}

pub(crate) fn cidr(text: &str, path: &Path<'_>, errors: &mut Errors) {
    if !is_cidr(text) {
        errors.invalid(path, text, BAD_CIDR);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_told_from_what_looks_like_one() {
        for right in ["10.0.0.0/8", "0.0.0.0/0", "fd00::/64"] {
            assert!(is_cidr(right), "{right}");
        }
        for wrong in ["10.0.0.0", "10.0.0.0/33", "10.0.0.0/+8", "x/8", "fd00::/129", "10.0.0.0/"] {
            assert!(!is_cidr(wrong), "{wrong}");
        }
    }

    #[test]
    fn unreachable_ranges_are_refused() {
        for (address, refused) in [
            ("127.0.0.1", true),
            ("169.254.1.1", true),
            ("224.0.0.1", true),
            ("0.0.0.0", true),
            ("::1", true),
            ("fe80::1", true),
            ("10.0.0.1", false),
            ("fd00::1", false),
        ] {
            let mut errors = Errors::default();
            reachable(address.parse().unwrap(), &Path::root("ip"), &mut errors);
            assert_eq!(!errors.is_empty(), refused, "{address}");
        }
    }
}
