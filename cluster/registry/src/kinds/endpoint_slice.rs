//! EndpointSlice: where a service's traffic goes.

use std::collections::HashSet;

use kedge_api::resource::Column;
use serde_json::Value;

use super::endpoints::PROTOCOLS;
use super::{address, columns, resource, workload};
use crate::errors::{Errors, Path};
use crate::names;
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

const COLUMNS: &[Column] = &[
    columns::text("AddressType", |o| o.text("addressType").into()),
    columns::text("Ports", |o| ports(o).into()),
    columns::text("Endpoints", |o| endpoints(o).into()),
    columns::AGE,
];

const SHOWN: usize = 3;
const MOST_ADDRESSES: usize = 100;
const MOST_PORTS: usize = 20_000;
const MOST_ENDPOINTS: usize = 1000;
const MOST_HINTS: usize = 8;

pub(crate) fn row() -> Row {
    let schema = "io.k8s.api.discovery.v1.EndpointSlice";
    let resource = resource("discovery.k8s.io", "endpointslices", "endpointslice", "EndpointSlice", schema, COLUMNS);
    let strategy = Strategy {
        generation: true,
        counts_labels: true,
        metadata_checks: (0, 1),
        default,
        prepare_create: |slice| without_topology(slice, &Value::Null),
        prepare_update: |new, old| {
            if new.look("endpoints") != old.look("endpoints") {
                without_topology(new, old);
            }
        },
        validate_create: |slice, errors| validate(slice, None, errors),
        validate_update: |new, old, errors| {
            validate(new, Some(old), errors);
            workload::immutable(new, old, "addressType", errors);
        },
        warnings,
        ..Strategy::PLAIN
    };
    Row::new(resource, strategy)
}

/// The controllers write no address that one is warned of.
fn warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut said = Vec::new();
    if old.is_none() && new.text("addressType") == "FQDN" {
        said.push("spec.addressType: FQDN endpoints are deprecated".to_owned());
    }
    let by = new.look("metadata.labels").get("endpointslice.kubernetes.io/managed-by").and_then(Value::as_str);
    if !matches!(by, Some("endpointslice-controller.k8s.io" | "endpointslicemirroring-controller.k8s.io")) {
        for (nth, endpoint) in new.items("endpoints").iter().enumerate() {
            for (at, one) in endpoint.items("addresses").iter().filter_map(Value::as_str).enumerate() {
                said.extend(address::ip_warning(one, &format!("endpoints[{nth}].addresses[{at}]")));
            }
        }
    }
    said
}

fn shorten(mut all: Vec<String>, none: &str) -> String {
    let more = all.len().saturating_sub(SHOWN);
    all.truncate(SHOWN);
    match (all.is_empty(), more) {
        (true, _) => none.into(),
        (false, 0) => all.join(","),
        (false, more) => format!("{} + {more} more...", all.join(",")),
    }
}

fn ports(slice: &Value) -> String {
    let name = |p: &Value| match p.int("port") {
        Some(number) => number.to_string(),
        None if p.text("name").is_empty() => "*".into(),
        None => p.text("name").to_owned(),
    };
    shorten(slice.items("ports").iter().map(name).collect(), "<unset>")
}

fn endpoints(slice: &Value) -> String {
    let all = slice.items("endpoints").iter().flat_map(|e| e.items("addresses"));
    shorten(all.filter_map(Value::as_str).map(str::to_owned).collect(), "<unset>")
}

fn default(slice: &mut Value) {
    for endpoint in slice.items_mut("endpoints") {
        endpoint.fill("conditions", serde_json::Map::new());
    }
    for port in slice.items_mut("ports") {
        port.fill("name", "");
        port.fill("protocol", "TCP");
    }
    for field in ["endpoints", "ports"] {
        if slice.items(field).is_empty() {
            slice.set(field, Value::Null);
        }
    }
}

/// A field of an older version, which named the node of an endpoint there: who writes this one cannot write that.
fn without_topology(slice: &mut Value, old: &Value) {
    let node = |endpoint: &Value| {
        let label = endpoint.look("deprecatedTopology").get("kubernetes.io/hostname")?;
        label.as_str().map(str::to_owned)
    };
    let had: HashSet<String> = old.items("endpoints").iter().filter_map(node).collect();
    for endpoint in slice.items_mut("endpoints") {
        let named = node(endpoint).filter(|name| had.contains(name) && names::subdomain(name).is_empty());
        if let Some(name) = named {
            endpoint.fill("nodeName", name);
        }
        endpoint.cut("deprecatedTopology");
    }
}

/// Endpoints that were taken once may stay as they are.
fn validate(slice: &Value, old: Option<&Value>, errors: &mut Errors) {
    let kind = slice.text("addressType");
    let path = Path::root("addressType");
    const TYPES: &[&str] = &["FQDN", "IPv4", "IPv6"];
    if kind.is_empty() {
        errors.required(&path, "");
    } else if !TYPES.contains(&kind) {
        errors.not_supported(&path, kind, TYPES);
    }
    validate_ports(slice.items("ports"), errors);
    if old.is_some_and(|old| old.look("endpoints") == slice.look("endpoints")) {
        return;
    }
    let list = slice.items("endpoints");
    let root = Path::root("endpoints");
    if list.len() > MOST_ENDPOINTS {
        errors.too_many(&root, list.len(), MOST_ENDPOINTS);
        return;
    }
    for (at, endpoint) in list.iter().enumerate() {
        validate_endpoint(endpoint, kind, &root.index(at), errors);
    }
}

fn validate_ports(ports: &[Value], errors: &mut Errors) {
    let root = Path::root("ports");
    if ports.len() > MOST_PORTS {
        errors.too_many(&root, ports.len(), MOST_PORTS);
        return;
    }
    let mut seen = HashSet::new();
    for (at, port) in ports.iter().enumerate() {
        let path = root.index(at);
        let name = port.text("name");
        if !name.is_empty() {
            errors.all_invalid(&path.child("name"), name, names::label(name));
        }
        if !seen.insert(name) {
            errors.duplicate(&path.child("name"), name);
        }
        let protocol = port.text("protocol");
        if !PROTOCOLS.contains(&protocol) {
            errors.not_supported(&path.child("protocol"), protocol, PROTOCOLS);
        }
        if let Some(text) = port.look("appProtocol").as_str() {
            errors.all_invalid(&path.child("appProtocol"), text, names::qualified(text));
        }
    }
}

fn validate_endpoint(endpoint: &Value, kind: &str, path: &Path<'_>, errors: &mut Errors) {
    let addresses = endpoint.items("addresses");
    let list = path.child("addresses");
    if addresses.is_empty() {
        errors.required(&list, "must contain at least 1 address");
    } else if addresses.len() > MOST_ADDRESSES {
        errors.too_many(&list, addresses.len(), MOST_ADDRESSES);
    }
    for (at, text) in addresses.iter().enumerate().map(|(at, a)| (at, a.as_str().unwrap_or_default())) {
        match kind {
            "IPv4" | "IPv6" => ip(text, kind, &list, at, errors),
            "FQDN" => domain_name(text, &list.index(at), errors),
            _ => {}
        }
    }
    if let Some(node) = endpoint.look("nodeName").as_str() {
        errors.all_invalid(&path.child("nodeName"), node, names::subdomain(node));
    }
    if let Some(hostname) = endpoint.look("hostname").as_str() {
        errors.all_invalid(&path.child("hostname"), hostname, names::label(hostname));
    }
    for (field, check) in HINTS {
        if !validate_hints(endpoint.look("hints").items(field), check, &path.child("hints").child(field), errors) {
            break;
        }
    }
}

/// An address of the slice's family, of which only the newer one has to be written as it should be.
fn ip(text: &str, kind: &str, list: &Path<'_>, at: usize, errors: &mut Errors) {
    let path = list.index(at);
    let found = if kind == "IPv6" { address::canonical(text, &path, errors) } else { address::ip(text, &path, errors) };
    let Some(found) = found else { return };
    if found.is_ipv6() != (kind == "IPv6") {
        errors.invalid(list, text, &format!("must be an {kind} address"));
    }
    address::reachable(text, &path, errors);
}

/// For whom an endpoint is.
const HINTS: [(&str, names::Check); 2] = [
    ("forZones", |zone| kedge_api::selector::label_value_error(zone).into_iter().collect()),
    ("forNodes", names::subdomain),
];

fn validate_hints(hints: &[Value], check: names::Check, list: &Path<'_>, errors: &mut Errors) -> bool {
    if hints.len() > MOST_HINTS {
        errors.too_many(list, hints.len(), MOST_HINTS);
        return false;
    }
    let mut seen = HashSet::new();
    for (at, hint) in hints.iter().enumerate() {
        let (name, item) = (hint.text("name"), list.index(at));
        let path = item.child("name");
        if !seen.insert(name) {
            errors.duplicate(&path, name);
        }
        errors.all_invalid(&path, name, check(name));
    }
    true
}

/// A name that is whole: of two labels at least, and perhaps a dot at its end.
fn domain_name(text: &str, path: &Path<'_>, errors: &mut Errors) {
    if text.is_empty() {
        errors.required(path, "");
        return;
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let wrong = names::subdomain(name);
    if !wrong.is_empty() {
        errors.invalid(path, name, &wrong.join(","));
    } else if !name.contains('.') {
        errors.invalid(path, name, "should be a domain with at least two segments separated by dots");
    } else if let Some((label, wrong)) =
        name.split('.').map(|label| (label, names::label(label))).find(|(_, wrong)| !wrong.is_empty())
    {
        errors.invalid(path, label, &wrong.join(","));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn cells_are_short() {
        let slice = json!({"ports": [{"port": 80}, {"port": 53}, {"name": "c"}],
            "endpoints": [{"addresses": ["10.0.0.1", "10.0.0.2"]}, {"addresses": ["10.0.0.3", "10.0.0.4"]}]});
        assert_eq!(ports(&slice), "80,53,c");
        assert_eq!(endpoints(&slice), "10.0.0.1,10.0.0.2,10.0.0.3 + 1 more...");
        assert_eq!(ports(&json!({})), "<unset>");
    }
}
