//! The ConfigMap `extension-apiserver-authentication`: how servers that extend the API know its clients, and the API server itself.

use kedge_api::resource::known::CONFIG_MAPS;
use kedge_api::{Client, ClientExt as _, Status};
use serde_json::{Value, json};

use crate::authn::front_proxy;
use crate::pki::{Pki, Signer};

const NAMESPACE: &str = "kube-system";
const NAME: &str = "extension-apiserver-authentication";

/// Makes the map say whose certificates are believed here.
pub async fn publish(client: &(dyn Client + 'static), pki: &Pki) -> Result<(), Status> {
    let map = map(pki.authority_pem(Signer::Client), pki.authority_pem(Signer::FrontProxy));
    client.put(&CONFIG_MAPS, NAMESPACE, NAME, map).await
}

fn map(clients: &str, proxies: &str) -> Value {
    // Each list is JSON in a text.
    let list = |names: &[&str]| json!(names).to_string();
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": NAME, "namespace": NAMESPACE},
        "data": {
            "client-ca-file": clients,
            "requestheader-client-ca-file": proxies,
            "requestheader-allowed-names": list(front_proxy::ALLOWED),
            "requestheader-username-headers": list(&["X-Remote-User"]),
            "requestheader-uid-headers": list(&["X-Remote-Uid"]),
            "requestheader-group-headers": list(&["X-Remote-Group"]),
            "requestheader-extra-headers-prefix": list(&["X-Remote-Extra-"]),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headers_are_those_that_are_read() {
        let map = map("c", "p");
        let first = |key: &str| -> String {
            let list: Vec<String> = serde_json::from_str(map["data"][key].as_str().unwrap()).unwrap();
            list[0].to_lowercase()
        };
        assert_eq!(first("requestheader-username-headers"), front_proxy::USER);
        assert_eq!(first("requestheader-uid-headers"), front_proxy::UID);
        assert_eq!(first("requestheader-group-headers"), front_proxy::GROUP);
        assert_eq!(first("requestheader-extra-headers-prefix"), front_proxy::EXTRA);
        assert_eq!(
            (&map["data"]["client-ca-file"], &map["data"]["requestheader-client-ca-file"]),
            (&json!("c"), &json!("p"))
        );
    }
}
