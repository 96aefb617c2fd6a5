//! NetworkPolicy: which traffic may come to pods, and which may leave them.

use std::borrow::Cow;

use kedge_api::Resource;
use kedge_api::resource::Column;
use serde_json::{Value, json};

use super::pod::affinity::tolerant_label_selector;
use super::{address, columns, resource};
use crate::errors::{Errors, Path};
use crate::names;
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

const COLUMNS: &[Column] =
    &[columns::text("Pod-Selector", |o| columns::label_selector(o.look("spec.podSelector")).into()), columns::AGE];

/// The two directions: where their rules are, and what those call the other side.
const DIRECTIONS: &[(&str, &str)] = &[("ingress", "from"), ("egress", "to")];
const PROTOCOLS: &[&str] = &["TCP", "UDP", "SCTP"];
const TYPES: &[&str] = &["Ingress", "Egress"];

pub(crate) fn row() -> Row {
    let schema = "io.k8s.api.networking.v1.NetworkPolicy";
    let base = resource("networking.k8s.io", "networkpolicies", "networkpolicy", "NetworkPolicy", schema, COLUMNS);
    let resource = Resource { short_names: Cow::Borrowed(&["netpol"]), ..base };
    Row::new(resource, Strategy { generation: true, default, validate, warnings, ..Strategy::PLAIN })
}

fn default(policy: &mut Value) {
    policy.fill("spec.podSelector", json!({}));
    for (direction, _) in DIRECTIONS {
        for rule in policy.items_mut(&format!("spec.{direction}")) {
            for port in rule.items_mut("ports") {
                port.fill("protocol", "TCP");
            }
        }
    }
    if policy.items("spec.policyTypes").is_empty() {
        let both = !policy.items("spec.egress").is_empty();
        policy.set("spec.policyTypes", if both { json!(TYPES) } else { json!(["Ingress"]) });
    }
}

fn validate(policy: &Value, errors: &mut Errors) {
    let spec = Path::root("spec");
    tolerant_label_selector(policy.look("spec.podSelector"), &spec.child("podSelector"), errors);
    for (direction, other) in DIRECTIONS {
        let list = spec.child(direction);
        for (at, rule) in policy.items(&format!("spec.{direction}")).iter().enumerate() {
            let path = list.index(at);
            let ports = path.child("ports");
            for (at, port) in rule.items("ports").iter().enumerate() {
                validate_port(port, &ports.index(at), errors);
            }
            let peers = path.child(other);
            for (at, peer) in rule.items(other).iter().enumerate() {
                validate_peer(peer, &peers.index(at), errors);
            }
        }
    }
    let types = policy.items("spec.policyTypes");
    let path = spec.child("policyTypes");
    if types.len() > TYPES.len() {
        errors.invalid(&path, types.to_vec(), "may not specify more than two policyTypes");
        return;
    }
    for (at, kind) in types.iter().filter_map(Value::as_str).enumerate().filter(|(_, kind)| !TYPES.contains(kind)) {
        errors.not_supported(&path.index(at), kind, TYPES);
    }
}

fn validate_port(port: &Value, path: &Path<'_>, errors: &mut Errors) {
    let protocol = port.text("protocol");
    if !PROTOCOLS.contains(&protocol) {
        errors.not_supported(&path.child("protocol"), protocol, PROTOCOLS);
    }
    let (here, end_path) = (path.child("port"), path.child("endPort"));
    match (port.look("port"), port.int("endPort")) {
        (Value::Null, None) => {}
        (Value::Null, Some(end)) => errors.invalid(&end_path, end, "may not be specified when `port` is not specified"),
        (Value::String(name), end) => {
            if let Some(end) = end {
                errors.invalid(&end_path, end, "may not be specified when `port` is non-numeric");
            }
            errors.all_invalid(&here, name, names::port(name));
        }
        (start, end) => {
            let start = start.as_i64().unwrap_or(0);
            number(start, &here, errors);
            if let Some(end) = end {
                if end < start {
                    // Upstream shows the other one.
                    errors.invalid(&end_path, start, "must be greater than or equal to `port`");
                }
                number(end, &end_path, errors);
            }
        }
    }
}

fn number(number: i64, path: &Path<'_>, errors: &mut Errors) {
    for why in names::port_number(number) {
        errors.invalid(path, number, &why);
    }
}

fn validate_peer(peer: &Value, path: &Path<'_>, errors: &mut Errors) {
    let selectors = ["podSelector", "namespaceSelector"];
    for field in selectors {
        tolerant_label_selector(peer.look(field), &path.child(field), errors);
    }
    let block = peer.look("ipBlock");
    if !block.is_null() {
        validate_block(block, &path.child("ipBlock"), errors);
    }
    match (selectors.iter().any(|field| peer.has(field)), block.is_null()) {
        (false, true) => errors.required(path, "must specify a peer"),
        (true, false) => errors.forbidden(path, "may not specify both ipBlock and another peer"),
        _ => {}
    }
}

fn validate_block(block: &Value, path: &Path<'_>, errors: &mut Errors) {
    let whole = block.text("cidr");
    if whole.is_empty() {
        errors.required(&path.child("cidr"), "");
        return;
    }
    if !address::legacy_cidr(whole, &path.child("cidr"), errors) {
        return;
    }
    let list = path.child("except");
    for (at, except) in block.items("except").iter().filter_map(Value::as_str).enumerate() {
        let path = list.index(at);
        if address::legacy_cidr(except, &path, errors) && !address::is_strict_subset(except, whole) {
            errors.invalid(&path, except, "must be a strict subset of `cidr`");
        }
    }
}

fn warnings(new: &Value, _: Option<&Value>) -> Vec<String> {
    let mut warnings = Vec::new();
    let spec = Path::root("spec");
    for (direction, other) in DIRECTIONS {
        let list = spec.child(direction);
        for (at, rule) in new.items(&format!("spec.{direction}")).iter().enumerate() {
            let path = list.index(at);
            let peers = path.child(other);
            for (at, peer) in rule.items(other).iter().enumerate() {
                let path = peers.index(at);
                let block = path.child("ipBlock");
                warnings.extend(address::cidr_warnings(peer.text("ipBlock.cidr"), &block.child("cidr")));
                let excepts = block.child("except");
                for (at, except) in peer.items("ipBlock.except").iter().filter_map(Value::as_str).enumerate() {
                    warnings.extend(address::cidr_warnings(except, &excepts.index(at)));
                }
            }
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(policy: Value) -> usize {
        let mut policy = json!({ "spec": policy });
        default(&mut policy);
        let mut errors = Errors::default();
        validate(&policy, &mut errors);
        errors.len()
    }

    #[test]
    fn ports_and_peers_are_checked_in_both_directions() {
        for (direction, other) in DIRECTIONS {
            let rule = |ports: Value, peers: Value| json!({*direction: [{"ports": ports, *other: peers}]});
            assert_eq!(wrong(rule(json!([{"port": 80, "endPort": 90}, {"port": "http"}, {}]), json!([]))), 0);
            assert_eq!(wrong(rule(json!([{"port": 80, "endPort": 70}]), json!([]))), 1);
            assert_eq!(wrong(rule(json!([{"port": "http", "endPort": 70}, {"endPort": 70}]), json!([]))), 2);
            assert_eq!(wrong(rule(json!([]), json!([{"ipBlock": {"cidr": "10.0.0.0/8"}}, {"podSelector": {}}]))), 0);
            assert_eq!(wrong(rule(json!([]), json!([{"ipBlock": {"cidr": ""}}, {}]))), 2);
        }
    }

    #[test]
    fn rules_say_which_types_a_policy_has() {
        let types = |spec: Value| {
            let mut policy = json!({ "spec": spec });
            default(&mut policy);
            policy.look("spec.policyTypes").clone()
        };
        assert_eq!(types(json!({})), json!(["Ingress"]));
        assert_eq!(types(json!({"egress": [{}]})), json!(["Ingress", "Egress"]));
        assert_eq!(types(json!({"policyTypes": ["Egress"]})), json!(["Egress"]));
    }
}
