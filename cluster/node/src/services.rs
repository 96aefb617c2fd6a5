//! Services and EndpointSlices as the network's table. Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kedge_api::Snapshot;
use kedge_api::resource::known;
use kedge_net::{ServiceEntry, ServiceTable};

use crate::translate::protocol;

/// One endpoint's port in a slice: the service port's name, and where it leads.
type Backends = BTreeMap<String, Vec<SocketAddr>>;

/// The table of all services; `node` is this node's name, for the policies that keep traffic local.
pub fn table(snapshot: &Snapshot, node: &str) -> ServiceTable {
    let mut slices: BTreeMap<(&str, &str), Vec<EndpointSlice>> = BTreeMap::new();
    for object in snapshot.list(&known::ENDPOINT_SLICES, "") {
        let service = object.meta.labels.as_ref().and_then(|l| l.get("kubernetes.io/service-name"));
        if let (Some(service), Ok(slice)) = (service, object.decode()) {
            slices.entry((&object.key.namespace, service)).or_default().push(slice);
        }
    }
    let mut services = Vec::new();
    for object in snapshot.list(&known::SERVICES, "") {
        let Ok(service) = object.decode::<Service>() else { continue };
        let none = Vec::new();
        let slices = slices.get(&(&*object.key.namespace, &*object.key.name)).unwrap_or(&none);
        entries(&mut services, &service, slices, node);
    }
    ServiceTable { services }
}

fn entries(out: &mut Vec<ServiceEntry>, service: &Service, slices: &[EndpointSlice], node: &str) {
    let Some(spec) = &service.spec else { return };
    if spec.type_.as_deref() == Some("ExternalName") {
        return;
    }
    let addresses: Vec<IpAddr> = match spec.cluster_ips.as_deref() {
        Some(ips) if !ips.is_empty() => ips.iter().filter_map(|ip| ip.parse().ok()).collect(),
        _ => spec.cluster_ip.iter().filter_map(|ip| ip.parse().ok()).collect(),
    };
    let internal_local = spec.internal_traffic_policy.as_deref() == Some("Local");
    let affinity_seconds = (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
        let seconds = spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref()?.timeout_seconds);
        seconds.and_then(|s| u32::try_from(s).ok()).unwrap_or(10_800)
    });
    let balancers = service.status.iter().flat_map(|s| s.load_balancer.iter().flat_map(|l| l.ingress.iter().flatten()));
    let external: Vec<IpAddr> = spec
        .external_ips
        .iter()
        .flatten()
        .chain(balancers.filter(|i| i.ip_mode.as_deref() != Some("Proxy")).filter_map(|i| i.ip.as_ref()))
        .filter_map(|ip| ip.parse().ok())
        .collect();
    for address in &addresses {
        let all = backends(slices, *address, None);
        let local = internal_local.then(|| backends(slices, *address, Some(node)));
        for port in spec.ports.iter().flatten() {
            let chosen = local.as_ref().unwrap_or(&all);
            let Some(mut entry) = entry(*address, port, chosen, affinity_seconds) else { continue };
            entry.node_port = port.node_port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0);
            out.push(entry);
            for external in external.iter().filter(|e| e.is_ipv4() == address.is_ipv4()) {
                out.extend(self::entry(*external, port, &all, affinity_seconds));
            }
        }
    }
}

fn entry(
    address: IpAddr,
    port: &ServicePort,
    backends: &Backends,
    affinity_seconds: Option<u32>,
) -> Option<ServiceEntry> {
    let name = port.name.as_deref().unwrap_or_default();
    Some(ServiceEntry {
        address,
        protocol: protocol(port.protocol.as_deref()),
        port: u16::try_from(port.port).ok()?,
        node_port: None,
        affinity_seconds,
        backends: backends.get(name).cloned().unwrap_or_default(),
    })
}

/// Ready endpoints of the address' family; without any, those that still serve while they end.
fn backends(slices: &[EndpointSlice], address: IpAddr, node: Option<&str>) -> Backends {
    let (mut ready, mut serving) = (Backends::new(), Backends::new());
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    for slice in slices.iter().filter(|s| s.address_type == family) {
        for endpoint in slice.endpoints.iter().flatten() {
            if node.is_some() && endpoint.node_name.as_deref() != node {
                continue;
            }
            let conditions = endpoint.conditions.clone().unwrap_or_default();
            let into = match (conditions.ready.unwrap_or(true), conditions.serving.unwrap_or(false)) {
                (true, _) => &mut ready,
                (false, true) => &mut serving,
                (false, false) => continue,
            };
            let Some(ip) = endpoint.addresses.first().and_then(|ip| ip.parse().ok()) else { continue };
            for port in slice.ports.iter().flatten() {
                let Some(number) = port.port.and_then(|p| u16::try_from(p).ok()) else { continue };
                let name = port.name.clone().unwrap_or_default();
                into.entry(name).or_default().push(SocketAddr::new(ip, number));
            }
        }
    }
    let mut chosen = if ready.is_empty() { serving } else { ready };
    for list in chosen.values_mut() {
        list.sort_unstable();
        list.dedup();
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::container::tests::object;
    use serde_json::{Value, json};

    fn snapshot(spec: Value, endpoints: Value) -> Snapshot {
        let mut snapshot = Snapshot::default();
        snapshot.insert(object(known::SERVICES, json!({"metadata": {"namespace": "a", "name": "web"}, "spec": spec})));
        snapshot.insert(object(
            known::ENDPOINT_SLICES,
            json!({"metadata": {"namespace": "a", "name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
                "addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]}),
        ));
        snapshot
    }

    fn spec() -> Value {
        json!({"clusterIP": "10.43.0.5", "clusterIPs": ["10.43.0.5"],
            "ports": [{"name": "http", "port": 80, "nodePort": 30080, "protocol": "TCP", "targetPort": 8080}]})
    }

    #[test]
    fn ready_endpoints_are_backends() {
        for (endpoints, expected) in [
            (json!([]), vec![]),
            (
                json!([{"addresses": ["10.42.0.3"]}, {"addresses": ["10.42.0.2"], "conditions": {"ready": true}}]),
                vec!["10.42.0.2:8080", "10.42.0.3:8080"],
            ),
            (json!([{"addresses": ["10.42.0.2"], "conditions": {"ready": false}}]), vec![]),
            (
                json!([{"addresses": ["10.42.0.2"], "conditions": {"ready": false, "serving": true, "terminating": true}}]),
                vec!["10.42.0.2:8080"],
            ),
            (
                json!([{"addresses": ["10.42.0.2"], "conditions": {"ready": false, "serving": true}}, {"addresses": ["10.42.0.3"]}]),
                vec!["10.42.0.3:8080"],
            ),
        ] {
            let table = table(&snapshot(spec(), endpoints), "n1");
            let [entry] = table.services.as_slice() else { panic!("{table:?}") };
            assert_eq!((entry.port, entry.node_port, entry.affinity_seconds), (80, Some(30080), None));
            assert_eq!(entry.backends.iter().map(SocketAddr::to_string).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn policies_and_addresses() {
        let endpoints =
            json!([{"addresses": ["10.42.0.2"], "nodeName": "n1"}, {"addresses": ["10.42.1.2"], "nodeName": "n2"}]);
        let mut local = spec();
        local["internalTrafficPolicy"] = json!("Local");
        local["externalIPs"] = json!(["192.0.2.1", "2001:db8::1"]);
        local["sessionAffinity"] = json!("ClientIP");
        let table = table(&snapshot(local, endpoints), "n2");
        let shown: Vec<_> =
            table.services.iter().map(|e| (e.address.to_string(), e.backends.len(), e.affinity_seconds)).collect();
        assert_eq!(shown, [("10.43.0.5".into(), 1, Some(10_800)), ("192.0.2.1".into(), 2, Some(10_800))]);
    }

    #[test]
    fn headless_and_external_names_have_no_entries() {
        for spec in [
            json!({"clusterIP": "None", "ports": [{"port": 80}]}),
            json!({"type": "ExternalName", "externalName": "x.y"}),
        ] {
            assert_eq!(table(&snapshot(spec, json!([])), "n1"), ServiceTable::default());
        }
    }
}
