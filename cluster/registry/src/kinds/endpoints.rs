//! Endpoints: the older form of EndpointSlice.

use std::borrow::Cow;

use kedge_api::Resource;
use kedge_api::resource::Column;
use serde_json::Value;

use super::{address, columns, resource};
use crate::errors::{Errors, Path};
use crate::names;
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

const COLUMNS: &[Column] = &[columns::text("Endpoints", |o| addresses(o).into()), columns::AGE];

const DEPRECATED: &str = "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice";

pub(crate) const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];

pub(crate) fn row() -> Row {
    let base = resource("", "endpoints", "endpoints", "Endpoints", "io.k8s.api.core.v1.Endpoints", COLUMNS);
    let resource = Resource { short_names: Cow::Borrowed(&["ep"]), deprecated: Some(DEPRECATED), ..base };
    Row::new(
        resource,
        Strategy {
            metadata_checks: (1, 1),
            create_on_update: true,
            default,
            validate_create: subsets,
            validate_update,
            warnings,
            ..Strategy::PLAIN
        },
    )
}

/// The controller writes no address that one is warned of.
fn warnings(new: &Value, _: Option<&Value>) -> Vec<String> {
    let mut said = Vec::new();
    if new.look("metadata.labels").get("endpoints.kubernetes.io/managed-by") == Some(&"endpoint-controller".into()) {
        return said;
    }
    for (nth, subset) in new.items("subsets").iter().enumerate() {
        for list in ["addresses", "notReadyAddresses"] {
            for (at, one) in subset.items(list).iter().enumerate() {
                said.extend(address::ip_warning(one.text("ip"), &format!("subsets[{nth}].{list}[{at}].ip")));
            }
        }
    }
    said
}

/// The first three, and how many more there are.
fn addresses(endpoints: &Value) -> String {
    const SHOWN: usize = 3;
    let mut all = Vec::new();
    for subset in endpoints.items("subsets") {
        let ports = subset.items("ports");
        if ports.is_empty() {
            all.extend(subset.items("addresses").iter().map(|a| a.text("ip").to_owned()));
        }
        for port in ports {
            let number = port.int("port").unwrap_or(0);
            all.extend(subset.items("addresses").iter().map(|a| match a.text("ip") {
                ip if ip.contains(':') => format!("[{ip}]:{number}"),
                ip => format!("{ip}:{number}"),
            }));
        }
    }
    let more = all.len().saturating_sub(SHOWN);
    all.truncate(SHOWN);
    let text = columns::or_none(&all.join(","));
    if more > 0 { format!("{text} + {more} more...") } else { text }
}

fn default(endpoints: &mut Value) {
    for subset in endpoints.items_mut("subsets") {
        for port in subset.items_mut("ports") {
            port.fill_text("protocol", "TCP");
        }
    }
}

/// What has not changed may stay as an older server took it.
fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    if new.look("subsets") != old.look("subsets") {
        subsets(new, errors);
    }
}

fn subsets(endpoints: &Value, errors: &mut Errors) {
    let root = Path::root("subsets");
    for (at, subset) in endpoints.items("subsets").iter().enumerate() {
        let path = root.index(at);
        if subset.items("addresses").is_empty() && subset.items("notReadyAddresses").is_empty() {
            errors.required(&path, "must specify `addresses` or `notReadyAddresses`");
        }
        for field in ["addresses", "notReadyAddresses"] {
            let list = path.child(field);
            for (at, item) in subset.items(field).iter().enumerate() {
                endpoint_address(item, &list.index(at), errors);
            }
        }
        let list = path.child("ports");
        let ports = subset.items("ports");
        for (at, port) in ports.iter().enumerate() {
            endpoint_port(port, ports.len() > 1, &list.index(at), errors);
        }
    }
}

fn endpoint_address(item: &Value, path: &Path<'_>, errors: &mut Errors) {
    let (text, here) = (item.text("ip"), path.child("ip"));
    address::ip(text, &here, errors);
    let hostname = item.text("hostname");
    if !hostname.is_empty() {
        errors.all_invalid(&path.child("hostname"), hostname, names::label(hostname));
    }
    if let Some(node) = item.look("nodeName").as_str() {
        errors.all_invalid(&path.child("nodeName"), node, names::subdomain(node));
    }
    address::reachable(text, &here, errors);
}

fn endpoint_port(port: &Value, several: bool, path: &Path<'_>, errors: &mut Errors) {
    let name = port.text("name");
    if several && name.is_empty() {
        errors.required(&path.child("name"), "");
    } else if !name.is_empty() {
        errors.all_invalid(&path.child("name"), name, names::label(name));
    }
    let number = port.int("port").unwrap_or(0);
    for why in names::port_number(number) {
        errors.invalid(&path.child("port"), number, &why);
    }
    let protocol = port.text("protocol");
    if protocol.is_empty() {
        errors.required(&path.child("protocol"), "");
    } else if !PROTOCOLS.contains(&protocol) {
        errors.not_supported(&path.child("protocol"), protocol, PROTOCOLS);
    }
    if let Some(text) = port.look("appProtocol").as_str() {
        errors.all_invalid(&path.child("appProtocol"), text, names::qualified(text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::cases;
    use serde_json::json;

    #[test]
    fn three_addresses_are_shown() {
        let endpoints = json!({"subsets": [{"addresses": [{"ip": "10.0.0.2"}, {"ip": "fd00::1"}], "ports": [{"port": 81}, {"port": 80}]}]});
        assert_eq!(addresses(&endpoints), "10.0.0.2:81,[fd00::1]:81,10.0.0.2:80 + 1 more...");
        assert_eq!(addresses(&json!({})), "<none>");
    }

    #[test]
    fn addresses_are_looked_at_twice() {
        let endpoints = json!({"subsets": [{"addresses": [{"ip": "10.0.0.1"}]}]});
        let address = |ip: &str| json!([{"addresses": [{"ip": ip, "nodeName": ""}]}]);
        const NODE: &str = "subsets[0].addresses[0].nodeName: Invalid value: \"\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
        let node = NODE.replace("\\\\", "\\");
        cases::created(
            &row(),
            &endpoints,
            &[
                (
                    "/subsets",
                    address("x"),
                    &[
                        "subsets[0].addresses[0].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
                        &node,
                        "subsets[0].addresses[0].ip: Invalid value: \"x\": must be a valid IP address",
                    ],
                ),
                (
                    "/subsets",
                    address("0.0.0.0"),
                    &[
                        &node,
                        "subsets[0].addresses[0].ip: Invalid value: \"0.0.0.0\": may not be unspecified (0.0.0.0)",
                    ],
                ),
                (
                    "/subsets",
                    address("127.0.0.01"),
                    &[
                        "subsets[0].addresses[0].ip: Invalid value: \"127.0.0.01\": must not have leading 0s",
                        &node,
                        "subsets[0].addresses[0].ip: Invalid value: \"127.0.0.01\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
                    ],
                ),
            ],
        );
        let old = json!({"subsets": [{"addresses": [{"ip": "010.0.0.1"}]}]});
        cases::updated(
            &row(),
            &old,
            &[
                ("/metadata", json!({"labels": {"a": "b"}}), &[]),
                (
                    "/subsets/0/addresses/-",
                    json!({"ip": "10.0.0.2"}),
                    &["subsets[0].addresses[0].ip: Invalid value: \"010.0.0.1\": must not have leading 0s"],
                ),
            ],
        );
    }
}
