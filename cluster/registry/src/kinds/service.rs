//! Service. Its addresses and node ports are taken from what the cache shows as used, so that a crash can leak none.

mod addresses;
mod allocate;
mod families;
#[cfg(test)]
mod tests;
mod update;
mod validate;

use std::borrow::Cow;

use kedge_api::resource::{Column, Subresource};
use kedge_api::{Resource, Verb};
use serde_json::{Value, json};

use super::{STATUS, address, columns, resource};
use crate::errors::Path;
use crate::names;
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

const COLUMNS: &[Column] = &[
    columns::text("Type", |o| o.text("spec.type").into()),
    columns::text("Cluster-IP", |o| columns::or_none(o.text("spec.clusterIP")).into()),
    columns::text("External-IP", |o| external(o).into()),
    columns::text("Port(s)", |o| ports(o).into()),
    columns::AGE,
    columns::wide("Selector", |o| columns::labels(o.look("spec.selector")).into()),
];

const PROXY: Subresource = Subresource {
    name: "proxy",
    kind: "ServiceProxyOptions",
    group_version: None,
    verbs: &[Verb::Create, Verb::Delete, Verb::Get, Verb::Patch, Verb::Update],
};

const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const TOPOLOGY: &str = "service.kubernetes.io/topology-mode";

pub(crate) fn row() -> Row {
    let base = resource("", "services", "service", "Service", "io.k8s.api.core.v1.Service", COLUMNS);
    let resource = Resource {
        short_names: Cow::Borrowed(&["svc"]),
        categories: Cow::Borrowed(&["all"]),
        subresources: &[PROXY, STATUS],
        selectable: &["spec.clusterIP", "spec.type"],
        ..base
    };
    let strategy = Strategy {
        name: names::label,
        status: true,
        create_on_update: true,
        returns_deleted: true,
        default,
        prepare_create: |service| service.set("status", json!({"loadBalancer": {}})),
        prepare_update,
        validate_create: validate::create,
        validate_update: update::update,
        validate_status: validate::status,
        warnings,
        status_warnings,
        allocate: Some(allocate::allocate),
        ..Strategy::PLAIN
    };
    Row::new(resource, strategy)
}

/// Types from which the outside reaches a service.
fn is_external(service: &Value) -> bool {
    let kind = service.text("spec.type");
    kind == "NodePort"
        || kind == "LoadBalancer"
        || (kind == "ClusterIP" && !service.items("spec.externalIPs").is_empty())
}

fn needs_node_port(service: &Value) -> bool {
    match service.text("spec.type") {
        "NodePort" => true,
        "LoadBalancer" => service.look("spec.allocateLoadBalancerNodePorts") != &Value::Bool(false),
        _ => false,
    }
}

fn needs_health_port(service: &Value) -> bool {
    service.text("spec.type") == "LoadBalancer" && service.text("spec.externalTrafficPolicy") == "Local"
}

fn default(service: &mut Value) {
    if !service.look("spec").is_object() {
        service.set("spec", json!({}));
    }
    service.fill_text("spec.sessionAffinity", "None");
    match service.text("spec.sessionAffinity") {
        "None" => {
            service.cut("spec.sessionAffinityConfig");
        }
        "ClientIP" => service.fill("spec.sessionAffinityConfig.clientIP.timeoutSeconds", 10_800),
        _ => {}
    }
    service.fill_text("spec.type", "ClusterIP");
    for port in service.items_mut("spec.ports") {
        port.fill_text("protocol", "TCP");
        if port.look("targetPort") == &json!(0)
            || port.text("targetPort").is_empty() && !port.look("targetPort").is_number()
        {
            let number = port.look("port").clone();
            port.set("targetPort", if number.is_null() { json!(0) } else { number });
        }
        port.fill("port", 0);
    }
    if is_external(service) {
        service.fill_text("spec.externalTrafficPolicy", "Cluster");
    }
    if service.text("spec.type") != "ExternalName" {
        service.fill("spec.internalTrafficPolicy", "Cluster");
    }
    if service.text("spec.type") == "LoadBalancer" {
        service.fill("spec.allocateLoadBalancerNodePorts", true);
    }
    service.fill("status.loadBalancer", json!({}));
    for ingress in service.items_mut("status.loadBalancer.ingress") {
        if !ingress.text("ip").is_empty() {
            ingress.fill("ipMode", "VIP");
        }
    }
}

/// What was allocated stays, unless the new type has no use for it.
fn prepare_update(new: &mut Value, old: &Value) {
    let named = |service: &Value| service.text("spec.type") == "ExternalName";
    if !named(new) && !named(old) {
        let had = old.text("spec.clusterIP");
        if !had.is_empty() {
            if new.text("spec.clusterIP").is_empty() && new.items("spec.clusterIPs").is_empty() {
                new.set("spec.clusterIP", had);
            }
            if new.text("spec.clusterIP") == had && new.items("spec.clusterIPs").is_empty() {
                new.set("spec.clusterIPs", old.look("spec.clusterIPs").clone());
            }
            for field in ["spec.ipFamilies", "spec.ipFamilyPolicy"] {
                new.fill(field, old.look(field).clone());
            }
        }
    }
    if named(new) && !named(old) {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
            drop_same(new, old, field);
        }
    }
    if needs_node_port(new) && needs_node_port(old) {
        keep_node_ports(new, old);
    } else if !needs_node_port(new) && needs_node_port(old) && new.text("spec.type") != "LoadBalancer" {
        let ports = old.items("spec.ports");
        for port in new.items_mut("spec.ports") {
            let same = ports.iter().any(|p| p.int("nodePort").is_some() && p.int("nodePort") == port.int("nodePort"));
            if same {
                port.cut("nodePort");
            }
        }
    }
    if !is_external(new) && is_external(old) {
        drop_same(new, old, "externalTrafficPolicy");
    }
    if needs_health_port(new) && needs_health_port(old) {
        new.fill("spec.healthCheckNodePort", old.look("spec.healthCheckNodePort").clone());
    } else if !needs_health_port(new) && needs_health_port(old) {
        drop_same(new, old, "healthCheckNodePort");
    }
    if new.text("spec.type") != "LoadBalancer" && old.text("spec.type") == "LoadBalancer" {
        for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            drop_same(new, old, field);
        }
        new.set("status.loadBalancer", json!({}));
    }
    // `fill` of an absent old value leaves a null behind.
    for field in ["spec.ipFamilies", "spec.ipFamilyPolicy", "spec.healthCheckNodePort"] {
        if new.look(field).is_null() {
            new.cut(field);
        }
    }
}

fn drop_same(new: &mut Value, old: &Value, field: &str) {
    let path = format!("spec.{field}");
    // What was defaulted before the type was known goes, too.
    if new.look(&path) == old.look(&path) {
        new.cut(&path);
    }
}

/// By protocol and port; else by protocol and name.
fn keep_node_ports(new: &mut Value, old: &Value) {
    let key = |p: &Value| (p.text("protocol").to_owned(), p.int("port"));
    let mut free: Vec<&Value> = old.items("spec.ports").iter().collect();
    let taken: Vec<i64> = new.items("spec.ports").iter().filter_map(|p| p.int("nodePort")).collect();
    free.retain(|p| p.int("nodePort").is_some_and(|n| !taken.contains(&n)));
    for port in new.items_mut("spec.ports") {
        if port.int("nodePort").is_some() {
            continue;
        }
        let found = free.iter().position(|p| key(p) == key(port));
        if let Some(at) = found {
            let node_port = free.remove(at).look("nodePort").clone();
            port.set("nodePort", node_port);
        }
    }
}

fn warnings(new: &Value, _: Option<&Value>) -> Vec<String> {
    let spec = new.look("spec");
    let mut said = Vec::new();
    if new.look("metadata.annotations").get(HINTS).is_some() {
        said.push(format!("annotation {HINTS} is deprecated, please use {TOPOLOGY} instead"));
    }
    let of_list = |field: &str, said: &mut Vec<String>| {
        for (at, ip) in spec.items(field).iter().filter_map(Value::as_str).enumerate() {
            said.extend(address::ip_warning(ip, &format!("spec.{field}[{at}]")));
        }
    };
    if spec.text("clusterIP") != "None" {
        of_list("clusterIPs", &mut said);
    }
    let external = !spec.items("externalIPs").is_empty();
    let by_name = spec.text("type") == "ExternalName";
    let headless = spec.text("type") == "ClusterIP" && spec.text("clusterIP") == "None";
    if headless {
        for (is, field) in [
            (!spec.text("loadBalancerIP").is_empty(), "loadBalancerIP"),
            (external, "externalIPs"),
            (spec.text("sessionAffinity") != "None", "SessionAffinity"),
        ] {
            if is {
                said.push(format!("spec.{field} is ignored for headless services"));
            }
        }
    }
    of_list("externalIPs", &mut said);
    if external && !headless && !by_name {
        said.push("spec.externalIPs is deprecated and may no longer be implemented in some clusters".to_owned());
    }
    said.extend(address::ip_warning(spec.text("loadBalancerIP"), "spec.loadBalancerIP"));
    let root = Path::root("spec");
    let ranges = root.child("loadBalancerSourceRanges");
    for (at, range) in spec.items("loadBalancerSourceRanges").iter().filter_map(Value::as_str).enumerate() {
        said.extend(address::cidr_warnings(range, &ranges.index(at)));
    }
    if by_name && external {
        said.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if !by_name && !spec.text("externalName").is_empty() {
        said.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    if spec.text("trafficDistribution") == "PreferClose" {
        said.push("spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"".to_owned());
    }
    said
}

/// Of the addresses that a load balancer has.
fn status_warnings(service: &Value) -> Vec<String> {
    let all = service.items("status.loadBalancer.ingress").iter().enumerate();
    all.filter_map(|(at, one)| address::ip_warning(one.text("ip"), &format!("status.loadBalancer.ingress[{at}]")))
        .collect()
}

fn external(service: &Value) -> String {
    let ips = || service.items("spec.externalIPs").iter().filter_map(Value::as_str);
    match service.text("spec.type") {
        "ExternalName" => service.text("spec.externalName").to_owned(),
        "LoadBalancer" => {
            let ingress = service.items("status.loadBalancer.ingress").iter();
            let address = |i: &'_ Value| {
                if i.text("ip").is_empty() { i.text("hostname").to_owned() } else { i.text("ip").to_owned() }
            };
            let mut all: Vec<String> = ingress.map(address).collect();
            all.extend(ips().map(str::to_owned));
            if all.is_empty() { "<pending>".into() } else { all.join(",") }
        }
        _ => columns::or_none(&ips().collect::<Vec<_>>().join(",")),
    }
}

fn ports(service: &Value) -> String {
    let one = |p: &Value| match (p.int("port").unwrap_or(0), p.int("nodePort")) {
        (port, Some(node)) => format!("{port}:{node}/{}", p.text("protocol")),
        (port, None) => format!("{port}/{}", p.text("protocol")),
    };
    columns::or_none(&service.items("spec.ports").iter().map(one).collect::<Vec<_>>().join(","))
}
