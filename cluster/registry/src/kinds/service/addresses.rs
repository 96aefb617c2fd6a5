//! The rules of a service's own addresses and their families.

use std::collections::HashSet;
use std::net::IpAddr;

use serde_json::Value;

use crate::errors::{Errors, Path};
use crate::kinds::address;
use crate::value::Look as _;

/// Addresses and families, checked before any is chosen.
pub(super) fn validate(service: &Value, old: Option<&Value>, errors: &mut Errors) {
    let all: Vec<&str> = service.items("spec.clusterIPs").iter().filter_map(Value::as_str).collect();
    let one = service.text("spec.clusterIP");
    let path = Path::root("spec.clusterIPs");
    let list = || service.look("spec.clusterIPs").clone();
    match all.first() {
        Some(_) if one.is_empty() => errors.invalid(&path, list(), "must be empty when `clusterIP` is not specified"),
        Some(first) if *first != one => errors.invalid(&path, list(), "first value must match `clusterIP`"),
        _ => {}
    }
    families(service, errors);
    let before = errors.len();
    let had: Vec<&str> =
        old.into_iter().flat_map(|old| old.items("spec.clusterIPs")).filter_map(Value::as_str).collect();
    // The list follows the single value where it was not given.
    let addresses = if all.is_empty() && !one.is_empty() { vec![one] } else { all };
    for (at, text) in addresses.iter().enumerate() {
        if at == 0 && *text == "None" {
            if addresses.len() > 1 {
                errors.invalid(&path, list(), "'None' must be the first and only value");
            }
        } else {
            address::kept_or_ip(text, &had, &path.index(at), errors);
        }
    }
    // What is no address is of no family.
    let all_right = errors.len() == before;
    if addresses.len() > 2 {
        errors.invalid(&path, list(), "may only hold up to 2 values");
    }
    if all_right {
        families_match(service, &addresses, errors);
    }
}

fn families_match(service: &Value, addresses: &[&str], errors: &mut Errors) {
    let path = Path::root("spec.clusterIPs");
    let parsed: Vec<IpAddr> = addresses.iter().filter_map(|text| text.parse().ok()).collect();
    let sixes = parsed.iter().filter(|ip| ip.is_ipv6()).count();
    if addresses.len() > 1 && (sixes == 0 || sixes == parsed.len()) {
        let list = service.look("spec.clusterIPs").clone();
        errors.invalid(&path, list, "may specify no more than one IP for each IP family");
    }
    for (at, (ip, family)) in parsed.iter().zip(service.items("spec.ipFamilies")).enumerate() {
        let is = if ip.is_ipv6() { "IPv6" } else { "IPv4" };
        if family.as_str().is_some_and(|family| ["IPv4", "IPv6"].contains(&family) && family != is) {
            let wanted = family.as_str().unwrap_or_default();
            let why = format!("expected an {wanted} value as indicated by `ipFamilies[{at}]`");
            errors.invalid(&path.index(at), ip.to_string(), &why);
        }
    }
}

fn families(service: &Value, errors: &mut Errors) {
    const FAMILIES: &[&str] = &["IPv4", "IPv6"];
    const STACKS: &[&str] = &["PreferDualStack", "RequireDualStack", "SingleStack"];
    let root = Path::root("spec.ipFamilies");
    let mut seen = HashSet::new();
    for (at, family) in service.items("spec.ipFamilies").iter().enumerate() {
        let text = family.as_str().unwrap_or_default();
        if !FAMILIES.contains(&text) {
            errors.not_supported(&root.index(at), text, FAMILIES);
        }
        if !seen.insert(text) {
            errors.duplicate(&root.index(at), text);
        }
    }
    let policy = service.look("spec.ipFamilyPolicy").as_str();
    if let Some(policy) = policy.filter(|policy| !STACKS.contains(policy)) {
        errors.not_supported(&Path::root("spec.ipFamilyPolicy"), policy, STACKS);
    }
}
