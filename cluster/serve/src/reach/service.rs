//! A service as those see it who want to reach it from here: its port, and the addresses behind it. The way through the service's own
//! address would need the node's rules, which a control plane without a node does not have.

use std::sync::Arc;

use kedge_api::resource::known;
use kedge_api::{Key, Object, Snapshot};
use serde_json::Value;

const SERVICE_NAME: &str = "kubernetes.io/service-name";

pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

pub(crate) fn items<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The service itself; `None` if there is none.
pub fn find(snapshot: &Snapshot, namespace: &str, name: &str) -> Option<Value> {
    snapshot.get(&Key::new(known::SERVICES, namespace, name))?.decode().ok()
}

/// The name, empty for the only one, of the port with a number; `None` if the service has no such port.
pub fn port_name(service: &Value, port: u64) -> Option<&str> {
    let found = items(service, "/spec/ports").iter().find(|p| p.get("port").and_then(Value::as_u64) == Some(port));
    found.map(|port| text(port, "/name"))
}

/// The slices of a service, as values.
pub fn slices(snapshot: &Snapshot, namespace: &str, name: &str) -> Vec<Value> {
    let of = |object: &&Arc<Object>| {
        object.meta.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME)).is_some_and(|service| service == name)
    };
    snapshot.list(&known::ENDPOINT_SLICES, namespace).filter(of).filter_map(|object| object.decode().ok()).collect()
}

/// Addresses that are ready, with the number that the named port has there. Which is the first does not matter, as long as it is not
/// always the same.
pub fn ready(slices: &[Value], port_name: &str) -> Vec<(String, u16)> {
    let mut found = Vec::new();
    for slice in slices {
        let target = items(slice, "/ports").iter().find(|p| text(p, "/name") == port_name);
        let target = target.and_then(|p| p.get("port")).and_then(Value::as_u64).and_then(|p| u16::try_from(p).ok());
        let ready =
            items(slice, "/endpoints").iter().filter(|e| e.pointer("/conditions/ready") != Some(&Value::Bool(false)));
        let hosts = ready.filter_map(|e| e.pointer("/addresses/0")).filter_map(Value::as_str);
        found.extend(target.into_iter().flat_map(|port| hosts.clone().map(move |host| (host.to_owned(), port))));
    }
    let nth = usize::from(uuid::Uuid::new_v4().as_bytes().first().copied().unwrap_or_default());
    let first = nth.checked_rem(found.len()).unwrap_or_default();
    found.rotate_left(first);
    found
}

/// Hosts and ports to try for a service's port.
pub fn addresses(snapshot: &Snapshot, namespace: &str, name: &str, port: u16) -> Result<Vec<(String, u16)>, String> {
    let service = find(snapshot, namespace, name).ok_or_else(|| format!("service \"{name}\" not found"))?;
    if text(&service, "/spec/type") == "ExternalName" {
        return Ok(vec![(text(&service, "/spec/externalName").to_owned(), port)]);
    }
    let port_name = port_name(&service, port.into()).ok_or_else(|| format!("service \"{name}\" has no port {port}"))?;
    let found = ready(&slices(snapshot, namespace, name), port_name);
    if found.is_empty() { Err(format!("no endpoints available for service \"{name}\"")) } else { Ok(found) }
}
