//! Addresses and blocks of them.

use std::net::IpAddr;

use crate::eval::{Evaluated, failed};
use crate::value::Value;

fn parse_ip(text: &str) -> Result<IpAddr, String> {
    let invalid = || {
        format!(
            "IP Address {text:?} parse error during conversion from string: ParseAddr({text:?}): unable to parse IP"
        )
    };
    match text.parse() {
        Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => {
            Err(format!("IPv4-mapped IPv6 address {text:?} is not allowed"))
        }
        Ok(ip) => Ok(ip),
        Err(_) => Err(invalid()),
    }
}

fn parse_cidr(text: &str) -> Result<(IpAddr, u8), String> {
    let invalid = || format!("network address parse error during conversion from string: invalid CIDR address: {text}");
    let (address, bits) = text.split_once('/').ok_or_else(invalid)?;
    let ip = parse_ip(address).map_err(|_| invalid())?;
    let canonical = !bits.starts_with('0') || bits == "0";
    let bits = bits.parse::<u8>().ok().filter(|bits| canonical && *bits <= width(ip)).ok_or_else(invalid)?;
    Ok((ip, bits))
}

const fn width(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn masked(ip: IpAddr, bits: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0);
            IpAddr::V4((u32::from(ip) & mask).into())
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0);
            IpAddr::V6((u128::from(ip) & mask).into())
        }
    }
}

fn holds(block: (IpAddr, u8), ip: IpAddr) -> bool {
    block.0.is_ipv4() == ip.is_ipv4() && masked(block.0, block.1) == masked(ip, block.1)
}

fn link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.segments().first().is_some_and(|first| first & 0xffc0 == 0xfe80),
    }
}

fn link_local_multicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => matches!(ip.octets(), [224, 0, 0, _]),
        IpAddr::V6(ip) => ip.segments().first().is_some_and(|first| first & 0xff0f == 0xff02),
    }
}

fn global(ip: IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !(broadcast || ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || link_local(ip))
}

pub(crate) fn call(function: &str, args: &[Value]) -> Option<Evaluated> {
    use Value::{Cidr, Int, Ip, String};
    Some(match (function, args) {
        ("ip", [String(text)]) => parse_ip(text).map(Ip).map_err(failed),
        ("ip", [Cidr(ip, _)]) => Ok(Ip(*ip)),
        ("isIP", [String(text)]) => Ok(parse_ip(text).is_ok().into()),
        ("ip.isCanonical", [String(text)]) => {
            parse_ip(text).map(|ip| (ip.to_string() == **text).into()).map_err(failed)
        }
        ("family", [Ip(ip)]) => Ok(Int(if ip.is_ipv4() { 4 } else { 6 })),
        ("isUnspecified", [Ip(ip)]) => Ok(ip.is_unspecified().into()),
        ("isLoopback", [Ip(ip)]) => Ok(ip.is_loopback().into()),
        ("isLinkLocalMulticast", [Ip(ip)]) => Ok(link_local_multicast(*ip).into()),
        ("isLinkLocalUnicast", [Ip(ip)]) => Ok(link_local(*ip).into()),
        ("isGlobalUnicast", [Ip(ip)]) => Ok(global(*ip).into()),
        ("cidr", [String(text)]) => parse_cidr(text).map(|(ip, bits)| Cidr(ip, bits)).map_err(failed),
        ("isCIDR", [String(text)]) => Ok(parse_cidr(text).is_ok().into()),
        ("containsIP", [Cidr(ip, bits), Ip(other)]) => Ok(holds((*ip, *bits), *other).into()),
        ("containsIP", [Cidr(ip, bits), String(text)]) => {
            parse_ip(text).map(|other| holds((*ip, *bits), other).into()).map_err(failed)
        }
        ("containsCIDR", [Cidr(ip, bits), Cidr(other, more)]) => {
            Ok((bits <= more && holds((*ip, *bits), *other)).into())
        }
        ("containsCIDR", [Cidr(ip, bits), String(text)]) => {
            let inside = |(other, more): (IpAddr, u8)| (*bits <= more && holds((*ip, *bits), other)).into();
            parse_cidr(text).map(inside).map_err(failed)
        }
        ("masked", [Cidr(ip, bits)]) => Ok(Cidr(masked(*ip, *bits), *bits)),
        ("prefixLength", [Cidr(_, bits)]) => Ok(Int((*bits).into())),
        _ => return None,
    })
}
