//! The rules of services.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::is_external;
use crate::errors::{Errors, Path, ordered};
use crate::kinds::address;
use crate::kinds::endpoints::PROTOCOLS;
use crate::names;
use crate::value::Look as _;

const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const POLICIES: &[&str] = &["Cluster", "Local"];

pub(super) fn create(new: &Value, errors: &mut Errors) {
    service(new, &Value::Null, errors);
}

/// `old` is nothing for a new one.
pub(super) fn service(service: &Value, old: &Value, errors: &mut Errors) {
    topology(service, errors);
    let spec = Path::root("spec");
    let kind = service.text("spec.type");
    let headless = service.text("spec.clusterIP") == "None";
    if service.items("spec.ports").is_empty() && !headless && kind != "ExternalName" {
        errors.required(&spec.child("ports"), "");
    }
    if kind == "ExternalName" {
        external_name(service, errors);
    }
    if ["LoadBalancer", "NodePort"].contains(&kind) && headless {
        let why = format!("may not be set to 'None' for {kind} services");
        errors.invalid(&spec.child("clusterIPs").index(0), "None", &why);
    }
    ports(service, errors);
    selector(service, errors);
    affinity(service, errors);
    external_addresses(service, old, errors);
    if !TYPES.contains(&kind) {
        errors.not_supported(&spec.child("type"), kind, TYPES);
    }
    numbers(service, errors);
    load_balancer(service, old, errors);
    traffic(service, errors);
}

/// The older name of the annotation may stand beside the newer one, if both say the same.
fn topology(service: &Value, errors: &mut Errors) {
    const MODE: &str = "service.kubernetes.io/topology-mode";
    const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
    let annotations = service.look("metadata.annotations");
    if let (Some(mode), Some(hints)) = (annotations.get(MODE).and_then(Value::as_str), annotations.get(HINTS))
        && hints != mode
    {
        let why = format!("must match annotations[{HINTS}] when both are specified");
        errors.invalid(&Path::root("metadata.annotations").key(MODE), mode, &why);
    }
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
    let name = service.text("spec.externalName");
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() {
        errors.required(&spec.child("externalName"), "");
    } else {
        errors.all_invalid(&spec.child("externalName"), name, names::subdomain(name));
    }
}

fn ports(service: &Value, errors: &mut Errors) {
    let root = Path::root("spec.ports");
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
    }
}

/// Each number is one port's.
fn numbers(service: &Value, errors: &mut Errors) {
    let root = Path::root("spec.ports");
    let list = service.items("spec.ports");
    let outside = || list.iter().enumerate().filter_map(|(at, port)| Some((at, port, port.int("nodePort")?)));
    if service.text("spec.type") == "ClusterIP" {
        for (at, ..) in outside() {
            errors.forbidden(&root.index(at).child("nodePort"), "may not be used when `type` is 'ClusterIP'");
        }
    }
    let mut seen = HashSet::new();
    for (at, port, node_port) in outside() {
        if !seen.insert((port.text("protocol"), node_port)) {
            errors.duplicate(&root.index(at).child("nodePort"), node_port);
        }
    }
    let mut seen = HashSet::new();
    for (at, port) in list.iter().enumerate() {
        let number = port.int("port").unwrap_or(0);
        let path = root.index(at);
        if !seen.insert((port.text("protocol"), number)) {
            let shown = json!({"Name": "", "Protocol": port.text("protocol"), "AppProtocol": null, "Port": number, "TargetPort": 0, "NodePort": 0});
            const FIELDS: &[&str] = &["Name", "Protocol", "AppProtocol", "Port", "TargetPort", "NodePort"];
            errors.duplicate_json(&path, &ordered(&shown, FIELDS), "");
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

fn external_addresses(service: &Value, old: &Value, errors: &mut Errors) {
    let root = Path::root("spec.externalIPs");
    let had: Vec<&str> = old.items("spec.externalIPs").iter().filter_map(Value::as_str).collect();
    for (at, text) in service.items("spec.externalIPs").iter().enumerate() {
        let (path, text, before) = (root.index(at), text.as_str().unwrap_or_default(), errors.len());
        address::kept_or_ip(text, &had, &path, errors);
        if errors.len() == before {
            address::reachable(text, &path, errors);
        }
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
    health(service, errors);
    const DISTRIBUTIONS: &[&str] = &["PreferClose", "PreferSameZone", "PreferSameNode"];
    for (field, known) in [("internalTrafficPolicy", POLICIES), ("trafficDistribution", DISTRIBUTIONS)] {
        if let Some(text) = service.look("spec").look(field).as_str().filter(|text| !known.contains(text)) {
            errors.not_supported(&Path::root("spec").child(field), text, known);
        }
    }
}

/// The port on which nodes tell a load balancer whether they have endpoints.
fn health(service: &Value, errors: &mut Errors) {
    let path = Path::root("spec.healthCheckNodePort");
    let Some(port) = service.int("spec.healthCheckNodePort").filter(|port| *port != 0) else { return };
    if super::needs_health_port(service) {
        for why in names::port_number(port) {
            errors.invalid(&path, port, &why);
        }
    } else {
        let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errors.invalid(&path, port, why);
    }
}

fn load_balancer(service: &Value, old: &Value, errors: &mut Errors) {
    const WHY: &str = "may only be used when `type` is 'LoadBalancer'";
    let is = service.text("spec.type") == "LoadBalancer";
    let ranges = service.items("spec.loadBalancerSourceRanges");
    let path = Path::root("spec.LoadBalancerSourceRanges");
    if !ranges.is_empty() && !is {
        errors.forbidden(&path, WHY);
    }
    let had: Vec<&str> =
        old.items("spec.loadBalancerSourceRanges").iter().filter_map(Value::as_str).map(str::trim).collect();
    for (at, range) in ranges.iter().enumerate() {
        address::cidr(range.as_str().unwrap_or_default().trim(), &had, &path.index(at), errors);
    }
    // The annotation came before the field, and counts where the field is empty.
    let annotated = |service: &Value| service.look("metadata.annotations").get(SOURCE_RANGES).cloned();
    let annotation = annotated(service);
    if let Some(text) = annotation.as_ref().and_then(Value::as_str).filter(|_| ranges.is_empty()) {
        let root = Path::root("metadata.annotations");
        let path = root.key(SOURCE_RANGES);
        if !is {
            errors.forbidden(&path, WHY);
        }
        let is_new = annotated(old) != annotation && !text.trim().is_empty();
        for range in text.trim().split(',').filter(|_| is_new) {
            address::cidr(range.trim(), &[], &path, errors);
        }
    }
    if service.has("spec.allocateLoadBalancerNodePorts") && !is {
        errors.forbidden(&Path::root("spec.allocateLoadBalancerNodePorts"), WHY);
    }
    class(service, errors);
}

/// What kind of load balancer it wants.
pub(super) fn class(service: &Value, errors: &mut Errors) {
    let path = Path::root("spec.loadBalancerClass");
    match service.look("spec.loadBalancerClass").as_str() {
        None => {}
        Some(class) if service.text("spec.type") == "LoadBalancer" => {
            errors.all_invalid(&path, class, names::qualified(class));
        }
        Some(_) => errors.forbidden(&path, "may only be used when `type` is 'LoadBalancer'"),
    }
}

pub(super) fn status(new: &Value, old: &Value, errors: &mut Errors) {
    const LIST: &str = "status.loadBalancer.ingress";
    let root = Path::root(LIST);
    if new.text("spec.type") != "LoadBalancer" {
        if !new.items(LIST).is_empty() {
            errors.forbidden(&root, "may only be used when `spec.type` is 'LoadBalancer'");
        }
        return;
    }
    let had: Vec<&str> = old.items(LIST).iter().map(|ingress| ingress.text("ip")).collect();
    for (at, ingress) in new.items(LIST).iter().enumerate() {
        let path = root.index(at);
        let mode = |errors: &mut Errors| ingress_mode(ingress, &path.child("ipMode"), errors);
        address::load_balancer(ingress, &had, &path, mode, errors);
    }
}

/// How traffic to the address arrives.
fn ingress_mode(ingress: &Value, path: &Path<'_>, errors: &mut Errors) {
    const MODES: &[&str] = &["Proxy", "VIP"];
    match (ingress.look("ipMode").as_str(), ingress.text("ip")) {
        (None, "") => {}
        (None, _) => errors.required(path, "must be specified when `ip` is set"),
        (Some(_), "") => errors.forbidden(path, "may not be specified when `ip` is not set"),
        (Some(mode), _) if !MODES.contains(&mode) => errors.not_supported(path, mode, MODES),
        (Some(_), _) => {}
    }
}
