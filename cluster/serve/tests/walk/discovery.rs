//! What the server says that it serves.

use std::time::Duration;

use serde_json::Value;

use crate::client::Client;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

/// A resource in one of its versions.
#[derive(Clone, Debug)]
pub struct Kind {
    pub group: String,
    pub version: String,
    pub plural: String,
    pub name: String,
    pub namespaced: bool,
    pub verbs: Vec<String>,
    pub subresources: Vec<String>,
}

impl Kind {
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    pub fn id(&self) -> String {
        format!("{}/{}", self.api_version(), self.plural)
    }

    pub fn has(&self, subresource: &str) -> bool {
        self.subresources.iter().any(|name| name == subresource)
    }
}

/// All of them, in every version, once those of `group` are among them.
pub async fn kinds(client: &mut Client, group: &str) -> Vec<Kind> {
    for _ in 0..300 {
        let mut found = Vec::new();
        for root in ["/api", "/apis"] {
            let accept = [("accept".to_owned(), AGGREGATED.to_owned())];
            let list = client.ask("GET", root, &accept, b"").await.json();
            assert_eq!(list["kind"], "APIGroupDiscoveryList", "{list}");
            found.extend(list["items"].as_array().unwrap().iter().flat_map(of_group));
        }
        if found.iter().any(|kind| kind.group == group) {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("discovery does not name {group}");
}

fn of_group(group: &Value) -> Vec<Kind> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let names = |value: &Value| value.as_array().into_iter().flatten().map(text).collect();
    let name = text(&group["metadata"]["name"]);
    let of_version = |version: &Value| -> Vec<Kind> {
        let resources = version["resources"].as_array().into_iter().flatten();
        let kind = |resource: &Value| Kind {
            group: name.clone(),
            version: text(&version["version"]),
            plural: text(&resource["resource"]),
            name: text(&resource["responseKind"]["kind"]),
            namespaced: resource["scope"] == "Namespaced",
            verbs: names(&resource["verbs"]),
            subresources: resource["subresources"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|s| text(&s["subresource"]))
                .collect(),
        };
        resources.map(kind).collect()
    };
    group["versions"].as_array().into_iter().flatten().flat_map(of_version).collect()
}
