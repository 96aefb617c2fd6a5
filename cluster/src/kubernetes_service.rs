//! The service `kubernetes` in the namespace `default`: how pods find the API server.

use std::net::IpAddr;

use kedge_api::resource::known::{ENDPOINT_SLICES, ENDPOINTS, SERVICES};
use kedge_api::{Client, ClientExt as _, GroupResource, Status};
use serde_json::{Value, json};

use crate::Settings;

const NAMESPACE: &str = "default";
const NAME: &str = "kubernetes";

/// Makes the service and its endpoints say where the API server is.
pub async fn converge(
    client: &(dyn Client + 'static),
    settings: &Settings,
    addresses: &[IpAddr],
) -> Result<(), Status> {
    for (resource, object) in objects(settings, addresses) {
        client.put(&resource, NAMESPACE, NAME, object).await?;
    }
    Ok(())
}

/// Endpoints of IPv4 only, as the service is.
fn objects(settings: &Settings, addresses: &[IpAddr]) -> Vec<(GroupResource, Value)> {
    let own: Vec<String> = addresses.iter().filter(|a| a.is_ipv4()).take(1).map(IpAddr::to_string).collect();
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {
            "clusterIP": settings.kubernetes_address().to_string(), "type": "ClusterIP", "sessionAffinity": "None",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": settings.api_port}],
        },
    });
    let mut objects = vec![(SERVICES, service)];
    if own.is_empty() {
        return objects;
    }
    let addresses: Vec<Value> = own.iter().map(|ip| json!({"ip": ip})).collect();
    let labels = json!({"endpointslice.kubernetes.io/skip-mirror": "true"});
    objects.push((
        ENDPOINTS,
        json!({
            "apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": labels},
            "subsets": [{"addresses": addresses, "ports": [{"name": "https", "port": settings.api_port, "protocol": "TCP"}]}],
        }),
    ));
    objects.push((
        ENDPOINT_SLICES,
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": NAME}},
            "endpoints": [{"addresses": own, "conditions": {"ready": true}}],
            "ports": [{"name": "https", "port": settings.api_port, "protocol": "TCP"}],
        }),
    ));
    objects
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            node: "n".into(),
            state: "/s".into(),
            run: "/r".into(),
            notes: None,
            service_network: ([10, 43, 0, 0].into(), 16),
            cluster_network: "10.42.0.0/16".parse().unwrap(),
            pod_range: "10.42.0.0/24".parse().unwrap(),
            cluster_dns: [10, 43, 0, 10].into(),
            domain: "cluster.local".into(),
            node_ports: 30000..=32767,
            api_port: 6443,
            access: crate::Access::default(),
            audit: None,
            encryption: crate::Encryption::Off,
            rules: None,
        }
    }

    #[test]
    fn without_an_address_there_is_only_the_service() {
        let names =
            |addresses: &[IpAddr]| objects(&settings(), addresses).into_iter().map(|(r, _)| r).collect::<Vec<_>>();
        assert_eq!(names(&[]), [SERVICES]);
        assert_eq!(names(&["fe80::1".parse().unwrap()]), [SERVICES]);
        assert_eq!(names(&[[10, 0, 2, 15].into()]), [SERVICES, ENDPOINTS, ENDPOINT_SLICES]);
    }

    #[test]
    fn it_has_the_first_address_of_the_network() {
        let (_, service) = objects(&settings(), &[]).remove(0);
        assert_eq!(service.pointer("/spec/clusterIP"), Some(&json!("10.43.0.1")));
    }
}
