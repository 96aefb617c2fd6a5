//! `fieldRef` and `resourceFieldRef`: facts of a pod as text, for environment variables and downward API files.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};
use kedge_api::quantity::Quantity;

use super::{Error, qos};

/// What the node adds to a pod's own facts.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub host_addresses: Vec<IpAddr>,
    pub pod_addresses: Vec<IpAddr>,
    pub cpus: u32,
    pub memory: u64,
}

/// The field's text; maps as lines of `key="value"`.
pub fn field(pod: &Pod, facts: &Facts, path: &str) -> Result<String, Error> {
    let meta = &pod.metadata;
    let spec = pod.spec.as_ref();
    let own = |text: Option<&String>| text.cloned().unwrap_or_default();
    let join = |ips: &[IpAddr]| ips.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(",");
    let first = |ips: &[IpAddr]| ips.first().map(IpAddr::to_string).unwrap_or_default();
    if let Some((map, key)) = subscript(path) {
        let map = match map {
            "metadata.labels" => meta.labels.as_ref(),
            "metadata.annotations" => meta.annotations.as_ref(),
            _ => return Err(Error::Field(path.to_owned())),
        };
        return Ok(own(map.and_then(|m| m.get(key))));
    }
    Ok(match path {
        "metadata.name" => own(meta.name.as_ref()),
        "metadata.namespace" => own(meta.namespace.as_ref()),
        "metadata.uid" => own(meta.uid.as_ref()),
        "metadata.labels" => lines(meta.labels.as_ref()),
        "metadata.annotations" => lines(meta.annotations.as_ref()),
        "spec.nodeName" => own(spec.and_then(|s| s.node_name.as_ref())),
        "spec.serviceAccountName" => own(spec.and_then(|s| s.service_account_name.as_ref())),
        "status.hostIP" => first(&facts.host_addresses),
        "status.hostIPs" => join(&facts.host_addresses),
        "status.podIP" => first(&facts.pod_addresses),
        "status.podIPs" => join(&facts.pod_addresses),
        _ => return Err(Error::Field(path.to_owned())),
    })
}

/// `metadata.labels['key']`
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let line = |(key, value): (&String, &String)| format!("{key}={value:?}");
    map.map(|m| m.iter().map(line).collect::<Vec<_>>().join("\n")).unwrap_or_default()
}

/// A resource of `container`, divided by the selector's divisor and rounded up. An absent limit is what the node has.
pub fn resource(container: &Container, facts: &Facts, selector: &ResourceFieldSelector) -> Result<String, Error> {
    let unknown = || Error::Field(selector.resource.clone());
    let (kind, name) = selector.resource.split_once('.').ok_or_else(unknown)?;
    let amount = match kind {
        "limits" => qos::amount(container, qos::limits, name).or(match name {
            "cpu" => Some(Quantity::from_units(facts.cpus.into())),
            "memory" => Some(Quantity::from_bytes(i64::try_from(facts.memory).unwrap_or(i64::MAX))),
            _ => None,
        }),
        "requests" => qos::request(container, name),
        _ => return Err(unknown()),
    };
    let amount = amount.unwrap_or(Quantity::ZERO);
    let divisor = selector.divisor.as_ref().and_then(|d| Quantity::try_from(d).ok()).filter(|d| !d.is_zero());
    let divisor = divisor.unwrap_or(Quantity::from_units(1));
    let (amount, divisor) =
        if name == "cpu" { (amount.milli(), divisor.milli()) } else { (amount.value(), divisor.value()) };
    let divisor = divisor.max(1);
    Ok((amount / divisor + i64::from(amount % divisor != 0)).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_of_a_pod() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "shop", "labels": {"a": "1", "b": "x\"y"}},
            "spec": {"nodeName": "n1", "containers": []}}))
        .unwrap();
        let ips = vec!["10.42.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        let facts = Facts { pod_addresses: ips, ..Facts::default() };
        for (path, expected) in [
            ("metadata.name", "web"),
            ("metadata.labels['a']", "1"),
            ("metadata.labels['none']", ""),
            ("metadata.labels", "a=\"1\"\nb=\"x\\\"y\""),
            ("spec.nodeName", "n1"),
            ("status.podIP", "10.42.0.2"),
            ("status.podIPs", "10.42.0.2,fd00::2"),
            ("status.hostIP", ""),
        ] {
            assert_eq!(field(&pod, &facts, path).unwrap(), expected, "{path}");
        }
        assert!(field(&pod, &facts, "spec.containers").is_err());
        assert!(field(&pod, &facts, "spec['x']").is_err());
    }

    #[test]
    fn resources_are_divided_and_rounded_up() {
        let container = serde_json::from_value(json!({"name": "a", "resources": {
            "requests": {"cpu": "250m", "memory": "65Mi"}, "limits": {"cpu": "1500m"}}}));
        let container = container.unwrap();
        let facts = Facts { cpus: 4, memory: 1 << 30, ..Facts::default() };
        for (name, divisor, expected) in [
            ("limits.cpu", "1", "2"),
            ("limits.cpu", "1m", "1500"),
            ("requests.cpu", "0", "1"),
            ("requests.memory", "1Mi", "65"),
            ("limits.memory", "1Mi", "1024"),
        ] {
            let selector: ResourceFieldSelector =
                serde_json::from_value(json!({"resource": name, "divisor": divisor})).unwrap();
            assert_eq!(resource(&container, &facts, &selector).unwrap(), expected, "{name}");
        }
    }
}
