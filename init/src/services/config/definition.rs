//! The kind `Machine` of `kedge.dev`: its definition, made of the table of what a machine config may say.

use kedge_api::GroupResource;
use serde_json::{Map, Value, json};

pub const GROUP: &str = "kedge.dev";
pub const API_VERSION: &str = "kedge.dev/v1alpha1";
pub const MACHINES: GroupResource = GroupResource::of(GROUP, "machines");
pub const DEFINITION: &str = "machines.kedge.dev";

/// Where a field stands (`[]`: in each item of a list, `{}`: in each value of a mapping), its type and what it is.
type Field = (&'static str, &'static str, &'static str);

/// Law, tested below: all that a machine config may say, and nothing else.
const FIELDS: &[Field] = &[
    ("hostname", "string", "Also the node's name. It cannot be changed here: a node of another name is another node."),
    ("role", "string", "server: control plane and agent; agent: the agent alone."),
    ("server", "string", "The server an agent joins, such as https://192.168.1.10:6443."),
    ("token", "string", "The secret an agent joins with."),
    ("network", "object", "How the device reaches its network. A change reboots it."),
    ("network.dhcp", "boolean", "Whether interfaces that are not named ask DHCP for an address."),
    ("network.interfaces", "array", "Interfaces with rules of their own."),
    ("network.interfaces[].name", "string", "The kernel's name, such as eth0."),
    ("network.interfaces[].dhcp", "boolean", "Whether it asks DHCP for an address."),
    ("network.interfaces[].addresses", "array", "Addresses with their prefix length, such as 192.168.1.10/24."),
    ("network.interfaces[].addresses[]", "string", ""),
    ("network.interfaces[].gateway", "string", "The default route's next hop."),
    ("network.interfaces[].mtu", "integer", "The largest packet, in bytes."),
    ("network.nameservers", "array", "Asked before those that DHCP tells."),
    ("network.nameservers[]", "string", ""),
    ("network.wifi", "object", "A wireless network to join."),
    ("network.wifi.ssid", "string", "Its name."),
    ("network.wifi.passphrase", "string", "WPA2's or WPA3's; none for an open network."),
    ("network.wifi.country", "string", "ISO 3166-1, such as CH: which channels may be used."),
    ("cluster", "object", "What all nodes of a cluster have in common."),
    ("cluster.clusterCIDR", "string", "Pods' addresses. It cannot be changed here."),
    ("cluster.serviceCIDR", "string", "Services' addresses. It cannot be changed here."),
    ("cluster.clusterDNS", "string", "The address of the cluster's DNS service."),
    ("cluster.clusterDomain", "string", "The domain of the cluster's names, such as cluster.local."),
    ("cluster.nodePorts", "object", "Ports that NodePort services are given."),
    ("cluster.nodePorts.first", "integer", "The lowest."),
    ("cluster.nodePorts.last", "integer", "The highest."),
    ("cluster.apiPort", "integer", "Where the API server listens."),
    ("cluster.tlsSANs", "array", "Further names and addresses that the API's certificate is valid for."),
    ("cluster.tlsSANs[]", "string", ""),
    ("cluster.authentication", "object", "Whose tokens are believed: an AuthenticationConfiguration."),
    ("cluster.authentication.content", "string", "The document itself. Either this or path."),
    ("cluster.authentication.path", "string", "A file that holds it."),
    ("cluster.authorization", "object", "Who is asked what users may do: an AuthorizationConfiguration."),
    ("cluster.authorization.content", "string", "The document itself. Either this or path."),
    ("cluster.authorization.path", "string", "A file that holds it."),
    ("cluster.tokenWebhook", "object", "The way to a server that knows tokens: a kubeconfig."),
    ("cluster.tokenWebhook.content", "string", "The document itself. Either this or path."),
    ("cluster.tokenWebhook.path", "string", "A file that holds it."),
    ("cluster.audit", "object", "What the API server notes of requests; without it, nothing."),
    ("cluster.audit.policy", "string", "An audit.k8s.io/v1 Policy. Either this or policyFile."),
    ("cluster.audit.policyFile", "string", "A file that holds it."),
    ("cluster.audit.log", "object", "A file of events that is set aside when it has grown."),
    ("cluster.audit.log.path", "string", "The file; without it, audit/audit.log of STATE."),
    ("cluster.audit.log.maxSize", "integer", "Megabytes of one file."),
    ("cluster.audit.log.maxBackups", "integer", "Files that were set aside and are kept; 0: all."),
    ("cluster.audit.log.maxAge", "integer", "Days that they are kept; 0: for ever."),
    ("cluster.audit.webhookConfigFile", "string", "The kubeconfig file of a webhook that events are sent to."),
    ("cluster.secretsEncryption", "boolean", "Whether Secrets lie encrypted, by a key that the server makes."),
    ("cluster.encryption", "object", "What lies encrypted, and by which keys: an EncryptionConfiguration."),
    ("cluster.encryption.content", "string", "The document itself. Either this or path."),
    ("cluster.encryption.path", "string", "A file that holds it."),
    ("node", "object", "What is told about this node to the cluster."),
    ("node.labels", "object", "Labels of the node."),
    ("node.labels{}", "string", ""),
    ("node.taints", "array", "Taints of the node."),
    ("node.taints[].key", "string", "The taint's key."),
    ("node.taints[].value", "string", "The taint's value."),
    ("node.taints[].effect", "string", "NoSchedule, PreferNoSchedule or NoExecute."),
    ("node.maxPods", "integer", "How many pods it takes."),
    ("node.reserved", "object", "Kept back from pods, as quantities."),
    ("node.reserved{}", "string", ""),
    ("sysctls", "object", "Entries of /proc/sys, by their dotted names."),
    ("sysctls{}", "string", ""),
    ("manifests", "array", "Objects that are applied when the API answers."),
    ("manifests[].name", "string", "What messages call it."),
    ("manifests[].content", "string", "YAML documents. Either this or path."),
    ("manifests[].path", "string", "A file, or a folder of files."),
    ("time", "object", "Where the time comes from."),
    ("time.servers", "array", "SNTP servers. Empty: those that DHCP tells."),
    ("time.servers[]", "string", ""),
    ("logs", "object", "What the system's own log holds."),
    ("logs.level", "string", "error, warn, info, debug or trace."),
];

/// The schema of what stands at `path`.
fn schema(path: &str) -> Value {
    // The items of a list of objects have no row of their own.
    let (_, kind, description) = FIELDS.iter().find(|(p, ..)| *p == path).unwrap_or(&("", "object", ""));
    let mut schema = Map::from_iter([("type".to_owned(), Value::from(*kind))]);
    if !description.is_empty() {
        schema.insert("description".to_owned(), (*description).into());
    }
    let values = format!("{path}{{}}");
    if *kind == "array" {
        schema.insert("items".to_owned(), self::schema(&format!("{path}[]")));
    } else if FIELDS.iter().any(|(p, ..)| *p == values) {
        schema.insert("additionalProperties".to_owned(), self::schema(&values));
    } else if *kind == "object" {
        schema.insert("properties".to_owned(), properties(path));
        // Not cut away, so that a field that is not known is refused.
        schema.insert("x-kubernetes-preserve-unknown-fields".to_owned(), true.into());
    }
    schema.into()
}

/// The fields that stand right below `path`.
fn properties(path: &str) -> Value {
    let below = |field: &'static str| {
        let name = if path.is_empty() { field } else { field.strip_prefix(path)?.strip_prefix('.')? };
        (!name.contains(['.', '[', '{'])).then(|| (name.to_owned(), schema(field)))
    };
    FIELDS.iter().filter_map(|(field, ..)| below(field)).collect::<Map<_, _>>().into()
}

pub fn definition() -> Value {
    let upgrade = crate::upgrade::definition();
    let text = |description: &str| json!({"type": "string", "description": description});
    let condition = json!({"type": "object", "required": ["type", "status", "lastTransitionTime", "reason", "message"],
        "properties": {"type": text("Applied."), "status": text("True, False or Unknown."), "reason": text("As the phase."),
            "message": text("For people."), "observedGeneration": {"type": "integer"},
            "lastTransitionTime": {"type": "string", "format": "date-time"}}});
    let status = json!({"type": "object", "description": "What became of it.", "properties": {
        "observedGeneration": {"type": "integer", "description": "The edit that the rest is about."},
        "phase": text("Kept: the machine runs with it. Trying: it is on trial. Refused: the machine runs as before, see message."),
        "message": text("For people."),
        "version": text("What the system that runs is called: the version of Kedge, where its image says nothing else."),
        "board": text("The board that the image was made for."),
        "upgrade": upgrade.status,
        "conditions": {"type": "array", "items": condition, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}}});
    let limit = json!({"type": "integer", "default": 300, "minimum": 30, "maximum": 3600,
        "description": "Seconds that the machine has to be well with a new config: all services run, the node is Ready, it has an \
                        address if it had one. After that, or when it is started again meanwhile, it goes back to the old one."});
    let config = json!({"type": "object", "properties": properties(""), "x-kubernetes-preserve-unknown-fields": true,
        "description": "What this device should be: its whole machine config. \"<kept>\" stands for a secret as it is."});
    let column = |name: &str, path: &str| json!({"name": name, "type": "string", "jsonPath": path});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": DEFINITION},
        "spec": {
            "group": GROUP, "scope": "Cluster",
            "names": {"plural": "machines", "singular": "machine", "kind": "Machine", "listKind": "MachineList"},
            "versions": [{
                "name": "v1alpha1", "served": true, "storage": true, "subresources": {"status": {}},
                "additionalPrinterColumns": [
                    column("Phase", ".status.phase"), column("Version", ".status.version"), column("Board", ".status.board"), column("Upgrade", ".status.upgrade.phase"), column("To", ".status.upgrade.version"),
                    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
                    {"name": "Message", "type": "string", "priority": 1, "jsonPath": ".status.message"}],
                "schema": {"openAPIV3Schema": {"type": "object", "required": ["spec"],
                    "description": "A device and what it should be. Its name is the node's.",
                    "properties": {
                        "spec": {"type": "object", "required": ["config"], "properties": {"config": config, "healthLimitSeconds": limit, "upgrade": upgrade.spec}},
                        "status": status}}},
            }],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kedge_config::MachineConfig;
    use std::collections::BTreeSet;

    /// A config that says everything.
    const WHOLE: &str = include_str!("whole.yaml");

    fn paths(value: &Value, at: &str, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => fields.iter().for_each(|(name, value)| {
                let mapping = FIELDS.iter().any(|(path, ..)| *path == format!("{at}{{}}"));
                let dot = if at.is_empty() { "" } else { "." };
                let path = if mapping { format!("{at}{{}}") } else { format!("{at}{dot}{name}") };
                found.insert(path.clone());
                paths(value, &path, found);
            }),
            Value::Array(items) => items.iter().for_each(|item| {
                let path = format!("{at}[]");
                if !item.is_object() {
                    found.insert(path.clone());
                }
                paths(item, &path, found);
            }),
            _ => {}
        }
    }

    #[test]
    fn the_table_holds_all_that_a_config_may_say() {
        let config: MachineConfig = kedge_config::document::parse("whole.yaml", WHOLE).unwrap();
        let mut found = BTreeSet::new();
        paths(&serde_json::to_value(config).unwrap(), "", &mut found);
        let table: BTreeSet<String> = FIELDS.iter().map(|(path, ..)| (*path).to_owned()).collect();
        assert_eq!(found, table);
    }

    #[test]
    fn types_are_those_of_the_config() {
        let config: MachineConfig = kedge_config::document::parse("whole.yaml", WHOLE).unwrap();
        fits(&serde_json::to_value(config).unwrap(), &schema(""));
    }

    fn fits(value: &Value, schema: &Value) {
        let kind = match value {
            Value::Object(_) => "object",
            Value::Array(_) => "array",
            Value::String(_) => "string",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "integer",
            Value::Null => panic!("null"),
        };
        assert_eq!(schema["type"], kind, "{value}");
        match value {
            Value::Object(fields) => fields.iter().for_each(|(name, value)| {
                let below = schema["properties"].get(name).unwrap_or(&schema["additionalProperties"]);
                fits(value, below);
            }),
            Value::Array(items) => items.iter().for_each(|item| fits(item, &schema["items"])),
            _ => {}
        }
    }
}
