//! The rules of services.

use std::collections::HashSet;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::is_external;
use crate::errors::{Errors, Path, ordered};
use crate::kinds::address;
use crate::kinds::endpoints::PROTOCOLS;
use crate::names;
use crate::value::Look as _;

const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const POLICIES: &[&str] = &["Cluster", "Local"];

pub(super) fn service(service: &Value, errors: &mut Errors) {
    let spec = Path::root("spec");
    let kind = service.text("spec.type");
    let headless = service.text("spec.clusterIP") == "None";
    if service.items("spec.ports").is_empty() && !headless && kind != "ExternalName" {
        errors.required(&spec.child("ports"), "");
    }
    if kind == "ExternalName" {
        external_name(service, errors);
    }
    if kind == "LoadBalancer" && headless {
        errors.invalid(
            &spec.child("clusterIPs"),
            json!(["None"]),
            "may not be set to 'None' for LoadBalancer services",
        );
    }
    ports(service, errors);
    selector(service, errors);
    affinity(service, errors);
    external_addresses(service, errors);
    if !TYPES.contains(&kind) {
        errors.not_supported(&spec.child("type"), kind, TYPES);
    }
    traffic(service, errors);
    load_balancer(service, errors);
}

fn external_name(service: &Value, errors: &mut Errors) {
    let spec = Path::root("spec");
    if !service.items("spec.clusterIPs").is_empty() || !service.text("spec.clusterIP").is_empty() {
        errors.forbidden(&spec.child("clusterIPs"), "may not be set for ExternalName services");
    }
    for field in ["ipFamilies", "ipFamilyPolicy"] {
        if service.has(&format!("spec.{field}")) {
            errors.forbidden(&spec.child(field), "may not be set for ExternalName services");
        }
    }
    let name = service.text("spec.externalName").trim_end_matches('.');
    if name.is_empty() {
        errors.required(&spec.child("externalName"), "");
    } else {
        errors.all_invalid(&spec.child("externalName"), name, names::subdomain(name));
    }
}

fn ports(service: &Value, errors: &mut Errors) {
    let root = Path::root("spec.ports");
    let kind = service.text("spec.type");
    let list = service.items("spec.ports");
    let mut seen_names = HashSet::new();
    for (at, port) in list.iter().enumerate() {
        let path = root.index(at);
        let name = port.text("name");
        if name.is_empty() {
            if list.len() > 1 {
                errors.required(&path.child("name"), "");
            }
        } else {
            errors.all_invalid(&path.child("name"), name, names::label(name));
            if !seen_names.insert(name) {
                errors.duplicate(&path.child("name"), name);
            }
        }
        let number = port.int("port").unwrap_or(0);
        for why in names::port_number(number) {
            errors.invalid(&path.child("port"), number, &why);
        }
        let protocol = port.text("protocol");
        if !PROTOCOLS.contains(&protocol) {
            errors.not_supported(&path.child("protocol"), protocol, PROTOCOLS);
        }
        match port.look("targetPort") {
            Value::String(text) => errors.all_invalid(&path.child("targetPort"), text, names::port(text)),
            other => {
                let target = other.as_i64().unwrap_or(0);
                for why in names::port_number(target) {
                    errors.invalid(&path.child("targetPort"), target, &why);
                }
            }
        }
        if let Some(text) = port.look("appProtocol").as_str() {
            errors.all_invalid(&path.child("appProtocol"), text, names::qualified(text));
        }
        if port.int("nodePort").is_some() && !["NodePort", "LoadBalancer"].contains(&kind) {
            errors.forbidden(&path.child("nodePort"), &format!("may not be used when `type` is '{kind}'"));
        }
    }
    let mut seen = HashSet::new();
    let mut seen_nodes = HashSet::new();
    for (at, port) in list.iter().enumerate() {
        let number = port.int("port").unwrap_or(0);
        let path = root.index(at);
        if !seen.insert((port.text("protocol"), number)) {
            let shown = json!({"Name": "", "Protocol": port.text("protocol"), "AppProtocol": null, "Port": number, "TargetPort": 0, "NodePort": 0});
            const FIELDS: &[&str] = &["Name", "Protocol", "AppProtocol", "Port", "TargetPort", "NodePort"];
            errors.duplicate_json(&path, &ordered(&shown, FIELDS), "");
        }
        if let Some(node) = port.int("nodePort")
            && !seen_nodes.insert((port.text("protocol"), node))
        {
            errors.duplicate(&path.child("nodePort"), node);
        }
    }
}

fn selector(service: &Value, errors: &mut Errors) {
    crate::metadata::labels(service.look("spec.selector"), &Path::root("spec.selector"), errors);
}

fn affinity(service: &Value, errors: &mut Errors) {
    const KINDS: &[&str] = &["ClientIP", "None"];
    let affinity = service.text("spec.sessionAffinity");
    let path = Path::root("spec.sessionAffinity");
    if affinity.is_empty() {
        errors.required(&path, "");
    } else if !KINDS.contains(&affinity) {
        errors.not_supported(&path, affinity, KINDS);
    }
    if affinity == "ClientIP"
        && let Some(seconds) = service.int("spec.sessionAffinityConfig.clientIP.timeoutSeconds")
        && !(1..=86_400).contains(&seconds)
    {
        let path = Path::root("spec.sessionAffinityConfig.clientIP.timeoutSeconds");
        errors.invalid(&path, seconds, "must be greater than 0 and less than 86400");
    }
}

/// Addresses and families, checked before any is chosen.
pub(super) fn addresses(service: &Value, old: Option<&Value>, errors: &mut Errors) {
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
    let had = old.map(|old| old.items("spec.clusterIPs")).unwrap_or_default();
    // The list follows the single value where it was not given.
    let addresses = if all.is_empty() && !one.is_empty() { vec![one] } else { all };
    for (at, text) in addresses.iter().enumerate() {
        if at == 0 && *text == "None" {
            if addresses.len() > 1 {
                errors.invalid(&path, list(), "'None' must be the first and only value");
            }
        } else if had.get(at).and_then(Value::as_str) != Some(*text) {
            address::ip(text, &path.index(at), errors);
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

fn external_addresses(service: &Value, errors: &mut Errors) {
    let root = Path::root("spec.externalIPs");
    for (at, text) in service.items("spec.externalIPs").iter().enumerate() {
        let path = root.index(at);
        if let Some(ip) = address::ip(text.as_str().unwrap_or_default(), &path, errors) {
            address::reachable(ip, &path, errors);
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
        } else if !seen.insert(text) {
            errors.duplicate(&root.index(at), text);
        }
    }
    let policy = service.text("spec.ipFamilyPolicy");
    if !policy.is_empty() && !STACKS.contains(&policy) {
        errors.not_supported(&Path::root("spec.ipFamilyPolicy"), policy, STACKS);
    }
}

fn traffic(service: &Value, errors: &mut Errors) {
    let external = service.text("spec.externalTrafficPolicy");
    let path = Path::root("spec.externalTrafficPolicy");
    if !is_external(service) {
        if !external.is_empty() {
            errors.invalid(&path, external, "may only be set for externally-accessible services");
        }
    } else if external.is_empty() {
        errors.required(&path, "");
    } else if !POLICIES.contains(&external) {
        errors.not_supported(&path, external, POLICIES);
    }
    let internal = service.text("spec.internalTrafficPolicy");
    if !internal.is_empty() && !POLICIES.contains(&internal) {
        errors.not_supported(&Path::root("spec.internalTrafficPolicy"), internal, POLICIES);
    }
    const DISTRIBUTIONS: &[&str] = &["PreferClose", "PreferSameNode", "PreferSameZone"];
    let distribution = service.text("spec.trafficDistribution");
    if !distribution.is_empty() && !DISTRIBUTIONS.contains(&distribution) {
        errors.not_supported(&Path::root("spec.trafficDistribution"), distribution, DISTRIBUTIONS);
    }
    if let Some(port) = service.int("spec.healthCheckNodePort").filter(|_| !super::needs_health_port(service)) {
        let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errors.invalid(&Path::root("spec.healthCheckNodePort"), port, why);
    }
}

fn load_balancer(service: &Value, errors: &mut Errors) {
    const WHY: &str = "may only be used when `type` is 'LoadBalancer'";
    let is = service.text("spec.type") == "LoadBalancer";
    let ranges = service.items("spec.loadBalancerSourceRanges");
    let path = Path::root("spec.LoadBalancerSourceRanges");
    if !ranges.is_empty() && !is {
        errors.forbidden(&path, WHY);
    }
    for (at, range) in ranges.iter().enumerate() {
        address::cidr(range.as_str().unwrap_or_default().trim(), &path.index(at), errors);
    }
    if service.has("spec.allocateLoadBalancerNodePorts") && !is {
        errors.forbidden(&Path::root("spec.allocateLoadBalancerNodePorts"), WHY);
    }
    if let Some(class) = service.look("spec.loadBalancerClass").as_str() {
        let path = Path::root("spec.loadBalancerClass");
        if is {
            errors.all_invalid(&path, class, names::qualified(class));
        } else {
            errors.forbidden(&path, WHY);
        }
    }
}

pub(super) fn update(new: &Value, old: &Value, errors: &mut Errors) {
    let named = |s: &Value| s.text("spec.type") == "ExternalName";
    let (now, before) = (new.look("spec.clusterIPs"), old.text("spec.clusterIP"));
    if !named(new) && !named(old) && !before.is_empty() && new.text("spec.clusterIP") != before {
        let path = Path::root("spec.clusterIPs");
        let first = path.index(0);
        let shown = if now.is_null() { json!([new.text("spec.clusterIP")]) } else { now.clone() };
        errors.invalid(&first, shown, "may not change once set");
    }
    let class = "spec.loadBalancerClass";
    if new.text("spec.type") == "LoadBalancer"
        && old.text("spec.type") == "LoadBalancer"
        && new.look(class) != old.look(class)
    {
        errors.invalid(&Path::root(class), new.look(class).clone(), "may not change once set");
    }
}

pub(super) fn status(new: &Value, _: &Value, errors: &mut Errors) {
    let root = Path::root("status.loadBalancer.ingress");
    for (at, ingress) in new.items("status.loadBalancer.ingress").iter().enumerate() {
        address::load_balancer(ingress, &root.index(at), errors);
    }
}
