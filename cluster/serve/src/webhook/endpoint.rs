//! Where a webhook is: its URL as it stands in messages, and the addresses to try.

use std::time::Duration;

use base64::Engine as _;
use kedge_api::Snapshot;
use serde_json::Value;

use crate::reach::service::{addresses, text};

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// With the query that tells how long we wait.
    pub(super) url: String,
    /// Path and query.
    pub(super) path: String,
    /// As the `Host` header has it.
    pub(super) authority: String,
    /// The name that the webhook's certificate must bear.
    pub(super) host: String,
    /// Hosts and ports to connect to, in order.
    pub(super) dial: Vec<(String, u16)>,
    /// Certificates in PEM; the host's own, if empty.
    pub(super) ca_bundle: Vec<u8>,
}

impl Endpoint {
    pub(super) fn of(config: &Value, timeout: Duration, snapshot: &Snapshot) -> Result<Self, String> {
        let bundle = base64::engine::general_purpose::STANDARD.decode(text(config, "/caBundle"));
        let ca_bundle = bundle.map_err(|error| format!("caBundle: {error}"))?;
        let wait = format!("timeout={}s", timeout.as_secs());
        if let Some(service) = config.get("service").filter(|service| service.is_object()) {
            let (namespace, name) = (text(service, "/namespace"), text(service, "/name"));
            let port = service.get("port").and_then(Value::as_u64).and_then(|p| u16::try_from(p).ok()).unwrap_or(443);
            let host = format!("{name}.{namespace}.svc");
            let path = format!("/{}?{wait}", text(service, "/path").trim_start_matches('/'));
            let (authority, dial) = (format!("{host}:{port}"), addresses(snapshot, namespace, name, port)?);
            return Ok(Self { url: format!("https://{authority}{path}"), path, authority, host, dial, ca_bundle });
        }
        let url: http::Uri = text(config, "/url").parse().map_err(|error| format!("url: {error}"))?;
        let host = url.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let authority = url.authority().map(ToString::to_string).unwrap_or_default();
        let query = url.query().map(|query| format!("{query}&{wait}")).unwrap_or(wait);
        let path = format!("/{}?{query}", url.path().trim_start_matches('/'));
        let dial = vec![(host.clone(), url.port_u16().unwrap_or(443))];
        Ok(Self { url: format!("https://{authority}{path}"), path, authority, host, dial, ca_bundle })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kedge_api::resource::known;
    use kedge_api::{GroupResource, Key, Revision};
    use serde_json::json;

    use super::*;

    fn snapshot(objects: &[(GroupResource, Value)]) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for (resource, value) in objects {
            let key = Key::new(resource.clone(), text(value, "/metadata/namespace"), text(value, "/metadata/name"));
            let json = serde_json::to_vec(value).unwrap();
            snapshot.insert(Arc::new(kedge_store::decode(key, Revision(1), json.into()).unwrap()));
        }
        snapshot
    }

    #[test]
    fn urls_are_taken_apart() {
        let of = |url: &str| Endpoint::of(&json!({"url": url}), Duration::from_secs(2), &Snapshot::default()).unwrap();
        let plain = of("https://127.0.0.1:1/x");
        assert_eq!(plain.url, "https://127.0.0.1:1/x?timeout=2s");
        assert_eq!((&*plain.authority, &*plain.host), ("127.0.0.1:1", "127.0.0.1"));
        assert_eq!(plain.dial, [("127.0.0.1".to_owned(), 1)]);
        let query = of("https://h.example.com?a=b");
        assert_eq!((&*query.path, &query.dial[0]), ("/?a=b&timeout=2s", &("h.example.com".to_owned(), 443)));
    }

    #[test]
    fn services_are_their_endpoints() {
        let service = json!({"metadata": {"namespace": "n", "name": "s"}, "spec": {"ports": [{"name": "https", "port": 443, "targetPort": 8443}]}});
        let slice = json!({"metadata": {"namespace": "n", "name": "s-x", "labels": {"kubernetes.io/service-name": "s"}},
            "ports": [{"name": "https", "port": 8443}],
            "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": false}}, {"addresses": ["10.0.0.2"], "conditions": {"ready": true}}]});
        let config =
            |name: &str, port: u16| json!({"service": {"namespace": "n", "name": name, "path": "/v", "port": port}});
        let ask =
            |world: &Snapshot, name: &str, port: u16| Endpoint::of(&config(name, port), Duration::from_secs(10), world);
        let world = snapshot(&[(known::SERVICES, service.clone()), (known::ENDPOINT_SLICES, slice)]);
        let found = ask(&world, "s", 443).unwrap();
        assert_eq!((&*found.url, &*found.host), ("https://s.n.svc:443/v?timeout=10s", "s.n.svc"));
        assert_eq!(found.dial, [("10.0.0.2".to_owned(), 8443)]);
        assert_eq!(ask(&world, "t", 443), Err("service \"t\" not found".to_owned()));
        assert_eq!(ask(&world, "s", 80), Err("service \"s\" has no port 80".to_owned()));
        let bare = snapshot(&[(known::SERVICES, service)]);
        assert_eq!(ask(&bare, "s", 443), Err("no endpoints available for service \"s\"".to_owned()));
    }
}
