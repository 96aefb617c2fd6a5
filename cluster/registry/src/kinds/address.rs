//! Checks of addresses and networks, with upstream's words.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::Value;

use crate::errors::{Errors, Path};
use crate::names;
use crate::value::Look as _;

const BAD_IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const BAD_CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// The address, if it is one that a new value can be.
pub(crate) fn ip(text: &str, path: &Path<'_>, errors: &mut Errors) -> Option<IpAddr> {
    let wrong = strict_ip(text);
    let parsed = sloppy(text).filter(|_| wrong.is_empty());
    errors.all_invalid(path, text, wrong);
    parsed
}

/// The same, written as it should be.
pub(crate) fn canonical(text: &str, path: &Path<'_>, errors: &mut Errors) -> Option<IpAddr> {
    let address = ip(text, path, errors)?;
    let written = address.to_string();
    if written != text {
        errors.invalid(path, text, &format!("must be in canonical form ({written:?})"));
        return None;
    }
    Some(address)
}

/// The same as `ip`, but what is among `had` may stay as it is.
pub(crate) fn kept_or_ip(text: &str, had: &[&str], path: &Path<'_>, errors: &mut Errors) {
    if !had.contains(&text) {
        errors.all_invalid(path, text, strict_ip(text));
    }
}

/// An address of a pod or machine that others can reach, as older fields read it.
pub(crate) fn reachable(text: &str, path: &Path<'_>, errors: &mut Errors) {
    let Some(address) = sloppy(text) else {
        errors.invalid(path, text, "must be a valid IP address");
        return;
    };
    // An IPv4 address in the form of an IPv6 one is an IPv4 address.
    let address = address.to_canonical();
    if address.is_unspecified() {
        errors.invalid(path, text, &format!("may not be unspecified ({text})"));
    }
    if address.is_loopback() {
        errors.invalid(path, text, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    let (link_local, link_multicast) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), matches!(v4.octets(), [224, 0, 0, _])),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.segments().first().is_some_and(|s| s & 0xff0f == 0xff02)),
    };
    if link_local {
        errors.invalid(path, text, "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if link_multicast {
        errors.invalid(path, text, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}

pub(crate) fn cidr(text: &str, had: &[&str], path: &Path<'_>, errors: &mut Errors) {
    if !had.contains(&text) {
        errors.all_invalid(path, text, strict_cidr(text));
    }
}

/// Where a load balancer can be reached: an address, a name, or both. `rest` sees it between the two.
pub(crate) fn load_balancer(
    ingress: &Value,
    had: &[&str],
    path: &Path<'_>,
    rest: impl FnOnce(&mut Errors),
    errors: &mut Errors,
) {
    let address = ingress.text("ip");
    if !address.is_empty() {
        kept_or_ip(address, had, &path.child("ip"), errors);
    }
    rest(errors);
    let hostname = ingress.text("hostname");
    if !hostname.is_empty() {
        errors.all_invalid(&path.child("hostname"), hostname, names::subdomain(hostname));
        if sloppy(hostname).is_some() {
            errors.invalid(&path.child("hostname"), hostname, "must be a DNS name, not an IP address");
        }
    }
}

/// An address as older fields take it: parts of an IPv4 address may have leading zeros.
pub(crate) fn sloppy(text: &str) -> Option<IpAddr> {
    text.parse().ok().or_else(|| {
        let parts = text.split('.').map(|part| part.trim_start_matches('0'));
        let parts: Vec<_> = parts.map(|part| if part.is_empty() { "0" } else { part }).collect();
        let digits = !text.split('.').any(str::is_empty);
        parts.join(".").parse::<Ipv4Addr>().ok().filter(|_| digits).map(IpAddr::V4)
    })
}

/// Address and prefix length, as sloppily.
fn sloppy_network(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = text.split_once('/')?;
    let address = sloppy(address)?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let digits = bits.bytes().all(|b| b.is_ascii_digit());
    bits.parse::<u8>().ok().filter(|bits| digits && *bits <= most).map(|bits| (address, bits))
}

/// The network that an address with a prefix length lies in.
fn masked((address, bits): (IpAddr, u8)) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

fn is_mapped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
}

/// What newer fields hold against an address.
pub(crate) fn strict_ip(text: &str) -> Vec<String> {
    match sloppy(text) {
        None => vec![BAD_IP.to_owned()],
        Some(_) if text.parse::<IpAddr>().is_err() => vec!["must not have leading 0s".to_owned()],
        Some(address) if is_mapped(address) => vec!["must not be an IPv4-mapped IPv6 address".to_owned()],
        Some(_) => Vec::new(),
    }
}

/// … and against a network.
pub(crate) fn strict_cidr(text: &str) -> Vec<String> {
    let Some(network) = sloppy_network(text) else { return vec![BAD_CIDR.to_owned()] };
    let wrong = if !is_standard(text) {
        "must not have leading 0s in IP or prefix length"
    } else if is_mapped(network.0) {
        "must not have an IPv4-mapped IPv6 address"
    } else if masked(network) != network.0 {
        "must not have bits set beyond the prefix length"
    } else {
        return Vec::new();
    };
    vec![wrong.to_owned()]
}

/// … and against an address with the length of its network's prefix.
pub(crate) fn interface(text: &str) -> Vec<String> {
    let wrong = match sloppy_network(text) {
        None => "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)".to_owned(),
        Some((address, bits)) => {
            let written = format!("{address}/{bits}");
            if is_standard(text) && !is_mapped(address) && written == text {
                return Vec::new();
            }
            format!("must be in canonical form (\"{written}\")")
        }
    };
    vec![wrong]
}

/// Without leading zeros anywhere.
fn is_standard(text: &str) -> bool {
    let (address, bits) = text.split_once('/').unwrap_or((text, "0"));
    address.parse::<IpAddr>().is_ok() && (bits == "0" || !bits.starts_with('0'))
}

/// Networks in which one is all of the other and more.
pub(crate) fn is_strict_subset(inner: &str, outer: &str) -> bool {
    let (Some(inner), Some(outer)) = (sloppy_network(inner), sloppy_network(outer)) else { return false };
    let same_family = inner.0.is_ipv4() == outer.0.is_ipv4();
    same_family && inner.1 > outer.1 && masked((masked(inner), outer.1)) == masked(outer)
}

pub(crate) fn is_ipv4_network(text: &str) -> Option<bool> {
    sloppy_network(text).map(|(address, _)| address.is_ipv4())
}

/// A network as older fields take it.
pub(crate) fn legacy_cidr(text: &str, path: &Path<'_>, errors: &mut Errors) -> bool {
    let right = sloppy_network(text).is_some();
    if !right {
        errors.invalid(path, text, BAD_CIDR);
    }
    right
}

/// What will be refused some day, or is not written as it should be.
pub(crate) fn ip_warning(text: &str, path: &str) -> Option<String> {
    let address = sloppy(text)?;
    if !is_standard(text) || is_mapped(address) {
        let written = address.to_canonical();
        return Some(format!(
            "{path}: non-standard IP address {text:?} will be considered invalid in a future Kubernetes release: use \"{written}\""
        ));
    }
    let written = address.to_string();
    (address.is_ipv6() && written != text)
        .then(|| format!("{path}: IPv6 address {text:?} should be in RFC 5952 canonical format ({written:?})"))
}

/// What will be refused some day, or means something else than it seems to.
pub(crate) fn cidr_warnings(text: &str, path: &Path<'_>) -> Vec<String> {
    let Some(network) = sloppy_network(text) else { return Vec::new() };
    let (address, bits) = network;
    let whole = format!("{}/{bits}", masked(network));
    let mut warnings = Vec::new();
    if masked(network) != address {
        let one = format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 });
        warnings.push(format!(
            "{path}: CIDR value {text:?} is ambiguous in this context (should be {whole:?} or {one:?}?)"
        ));
    }
    let standard = is_standard(text) && !is_mapped(address);
    if !standard {
        warnings.push(format!(
            "{path}: non-standard CIDR value {text:?} will be considered invalid in a future Kubernetes release: use {whole:?}"
        ));
    }
    let written = format!("{address}/{bits}");
    if standard && address.is_ipv6() && written != text {
        warnings.push(format!("{path}: IPv6 CIDR value {text:?} should be in RFC 5952 canonical format ({written:?})"));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_fields_take_one_spelling_only() {
        for right in ["10.0.0.1", "2001:db8::7"] {
            assert!(strict_ip(right).is_empty(), "{right}");
        }
        assert_eq!(strict_ip("010.0.0.1"), ["must not have leading 0s"]);
        assert_eq!(strict_ip("::ffff:1.2.3.4"), ["must not be an IPv4-mapped IPv6 address"]);
        assert_eq!(strict_ip("10..0.1"), [BAD_IP]);
        for right in ["10.0.0.0/8", "0.0.0.0/0", "2001:db8::/64"] {
            assert!(strict_cidr(right).is_empty(), "{right}");
        }
        assert_eq!(strict_cidr("10.0.0.1/8"), ["must not have bits set beyond the prefix length"]);
        assert_eq!(strict_cidr("10.0.0.0/08"), ["must not have leading 0s in IP or prefix length"]);
        assert_eq!(strict_cidr("::ffff:1.0.0.0/104"), ["must not have an IPv4-mapped IPv6 address"]);
        assert_eq!(strict_cidr("10.0.0.0"), [BAD_CIDR]);
    }

    #[test]
    fn a_network_holds_smaller_ones_only() {
        for (inner, outer, holds) in [
            ("10.1.0.0/16", "10.0.0.0/8", true),
            ("10.0.0.0/8", "10.0.0.0/8", false),
            ("11.0.0.0/16", "10.0.0.0/8", false),
            ("10.0.0.0/4", "10.0.0.0/8", false),
            ("fd00:1::/32", "fd00::/16", true),
            ("fd00:1::/32", "0.0.0.0/0", false),
        ] {
            assert_eq!(is_strict_subset(inner, outer), holds, "{inner} in {outer}");
        }
    }

    #[test]
    fn odd_networks_are_warned_of() {
        let path = Path::root("cidr");
        assert_eq!(
            cidr_warnings("10.0.0.1/8", &path),
            [
                "cidr: CIDR value \"10.0.0.1/8\" is ambiguous in this context (should be \"10.0.0.0/8\" or \"10.0.0.1/32\"?)"
            ]
        );
        assert_eq!(
            cidr_warnings("FD00::/64", &path),
            ["cidr: IPv6 CIDR value \"FD00::/64\" should be in RFC 5952 canonical format (\"fd00::/64\")"]
        );
        assert_eq!(cidr_warnings("010.0.0.0/8", &path).len(), 1);
        assert!(cidr_warnings("10.0.0.0/8", &path).is_empty());
    }

    #[test]
    fn networks_are_told_from_what_looks_like_one() {
        for right in ["10.0.0.0/8", "0.0.0.0/0", "fd00::/64"] {
            assert!(strict_cidr(right).is_empty(), "{right}");
        }
        for wrong in ["10.0.0.0", "10.0.0.0/33", "10.0.0.0/+8", "x/8", "fd00::/129", "10.0.0.0/"] {
            assert!(!strict_cidr(wrong).is_empty(), "{wrong}");
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
            reachable(address, &Path::root("ip"), &mut errors);
            assert_eq!(!errors.is_empty(), refused, "{address}");
        }
    }
}
