//! What is wrong with a machine config although each field has the right type: the table of its laws.

use super::{Document, Interface, MachineConfig, Manifest, Node, Role, labels};
use crate::document::ConfigError;

type Path = &'static [&'static str];
/// Tells the first way in which a law is broken.
type Law = fn(&MachineConfig) -> Option<String>;

/// Whether the document says something there.
type Said = fn(&MachineConfig) -> bool;

const LAWS: &[(Path, Law)] = &[
    (&["hostname"], hostname),
    (&["server"], server),
    (&["token"], token),
    (&["network", "interfaces"], interfaces),
    (&["cluster", "clusterCIDR"], |config| network("clusterCIDR", config.cluster.cluster_cidr)),
    (&["cluster", "clusterCIDR"], cluster_cidr),
    (&["cluster", "serviceCIDR"], |config| network("serviceCIDR", config.cluster.service_cidr)),
    (&["cluster", "serviceCIDR"], service_cidr),
    (&["cluster", "clusterDNS"], cluster_dns),
    (&["cluster", "clusterDomain"], cluster_domain),
    (&["cluster", "nodePorts"], node_ports),
    (&["cluster", "apiPort"], |config| (config.cluster.api_port == 0).then(|| "port 0, expected 1 to 65535".into())),
    (&["cluster", "authentication"], |config| document("authentication", config.cluster.authentication.as_ref())),
    (&["cluster", "authorization"], |config| document("authorization", config.cluster.authorization.as_ref())),
    (&["cluster", "tokenWebhook"], |config| document("tokenWebhook", config.cluster.token_webhook.as_ref())),
    (&["cluster", "audit"], audit),
    (&["cluster", "encryption"], encryption),
    (&["node", "labels"], node_labels),
    (&["node", "maxPods"], max_pods),
    (&["sysctls"], sysctls),
    (&["manifests"], manifests),
];

/// What the document may one day say: its form is settled, but nothing acts on it in this version. Refused, since a device that ignores
/// what it was told is worse than one that says so before it is flashed. The list may only shrink.
const NOT_YET: &[(Path, Said)] = &[
    (&["role"], |config| config.role == Role::Agent),
    (&["network", "wifi"], |config| config.network.wifi.is_some()),
    (&["cluster", "tlsSANs"], |config| !config.cluster.tls_sans.is_empty()),
    (&["node", "maxPods"], |config| config.node.max_pods != Node::default().max_pods),
    (&["node", "reserved"], |config| !config.node.reserved.is_empty()),
    (&["manifests"], |config| !config.manifests.is_empty()),
    (&["time", "servers"], |config| !config.time.servers.is_empty()),
];

fn not_yet(config: &MachineConfig) -> Option<(&'static Path, String)> {
    let (path, _) = NOT_YET.iter().find(|(_, said)| said(config))?;
    Some((path, format!("{} other than the default is not supported by this version; leave it out", path.join("."))))
}

impl MachineConfig {
    pub(super) fn check(self, file: &str, text: &str) -> Result<Self, ConfigError> {
        let broken = LAWS.iter().find_map(|(path, law)| law(&self).map(|message| (path, message)));
        match broken.or_else(|| not_yet(&self)) {
            Some((path, message)) => Err(ConfigError::at(file, text, path, message)),
            None => Ok(self),
        }
    }
}

fn hostname(config: &MachineConfig) -> Option<String> {
    let name = config.hostname.as_deref()?;
    (!is_dns_name(name))
        .then(|| format!("hostname \"{name}\", expected lower-case letters, digits, \"-\" and \".\", at most 63"))
}

fn server(config: &MachineConfig) -> Option<String> {
    match (config.role, config.server.as_deref()) {
        (Role::Agent, None) => {
            Some("an agent needs the field \"server\", such as \"https://192.168.1.10:6443\"".into())
        }
        (_, Some(url)) if url.strip_prefix("https://").is_none_or(str::is_empty) => {
            Some(format!("server \"{url}\", expected a URL that starts with \"https://\""))
        }
        (Role::Server, _) | (Role::Agent, Some(_)) => None,
    }
}

fn token(config: &MachineConfig) -> Option<String> {
    match config.role {
        Role::Agent if config.token.is_none() => {
            Some("an agent needs the field \"token\", which its server shows".into())
        }
        Role::Agent | Role::Server => None,
    }
}

fn interfaces(config: &MachineConfig) -> Option<String> {
    let all = &config.network.interfaces;
    all.iter().enumerate().find_map(|(at, one)| {
        let twice = all.iter().take(at).any(|before| before.name == one.name);
        if twice { Some(format!("interface \"{}\" is listed twice", one.name)) } else { interface(one) }
    })
}

fn interface(one: &Interface) -> Option<String> {
    // The kernel's rule (dev_valid_name): 1 to 15 bytes, no slash, no white space, not "." or "..".
    let odd =
        |character: char| character == '/' || character == ':' || character.is_whitespace() || character.is_control();
    if one.name.is_empty() || one.name.len() > 15 || one.name.contains(odd) || one.name == "." || one.name == ".." {
        return Some(format!("interface \"{}\", expected a name of 1 to 15 characters, such as \"eth0\"", one.name));
    }
    if let Some(gateway) = one.gateway.filter(|gateway| !one.addresses.iter().any(|address| address.contains(*gateway)))
    {
        return Some(format!("gateway {gateway} of \"{}\" is in the network of none of its addresses", one.name));
    }
    one.mtu
        .filter(|mtu| !(576..=65535).contains(mtu))
        .map(|mtu| format!("mtu {mtu} of \"{}\", expected 576 to 65535", one.name))
}

fn network(field: &str, cidr: crate::cidr::Cidr) -> Option<String> {
    (!cidr.is_network())
        .then(|| format!("{field} {cidr} has bits set behind its prefix, expected a network such as 10.42.0.0/16"))
}

fn cluster_cidr(config: &MachineConfig) -> Option<String> {
    let cidr = config.cluster.cluster_cidr;
    let most = if cidr.address().is_ipv4() { 24 } else { 64 };
    (cidr.prefix() > most)
        .then(|| format!("clusterCIDR {cidr} has no room for a node, expected a prefix of at most /{most}"))
}

fn service_cidr(config: &MachineConfig) -> Option<String> {
    let (pods, services) = (config.cluster.cluster_cidr, config.cluster.service_cidr);
    services.overlaps(pods).then(|| format!("serviceCIDR {services} overlaps clusterCIDR {pods}"))
}

fn cluster_dns(config: &MachineConfig) -> Option<String> {
    let (dns, services) = (config.cluster.cluster_dns, config.cluster.service_cidr);
    (!services.contains(dns)).then(|| format!("clusterDNS {dns} is no address of serviceCIDR {services}"))
}

fn cluster_domain(config: &MachineConfig) -> Option<String> {
    let domain = &config.cluster.cluster_domain;
    (!domain.split('.').all(is_dns_name))
        .then(|| format!("clusterDomain \"{domain}\", expected one such as \"cluster.local\""))
}

fn audit(config: &MachineConfig) -> Option<String> {
    let audit = config.cluster.audit.as_ref()?;
    let one = audit.policy.is_some() != audit.policy_file.is_some();
    (!one).then(|| "audit needs either the field \"policy\" or the field \"policyFile\"".into())
}

fn encryption(config: &MachineConfig) -> Option<String> {
    let given = config.cluster.encryption.as_ref()?;
    let both = || "encryption has keys of its own, expected either it or secretsEncryption".to_owned();
    document("encryption", Some(given)).or_else(|| config.cluster.secrets_encryption.then(both))
}

fn node_ports(config: &MachineConfig) -> Option<String> {
    let ports = config.cluster.node_ports;
    (ports.first == 0 || ports.first > ports.last)
        .then(|| format!("nodePorts {} to {}, expected first above 0 and not above last", ports.first, ports.last))
}

fn node_labels(config: &MachineConfig) -> Option<String> {
    let refused = config.node.labels.keys().find(|key| !labels::is_own(key))?;
    Some(format!("label \"{refused}\" is none that a node may give itself; give it with kubectl label node"))
}

fn max_pods(config: &MachineConfig) -> Option<String> {
    let most = config.node.max_pods;
    (!(1..=1000).contains(&most)).then(|| format!("maxPods {most}, expected 1 to 1000"))
}

fn sysctls(config: &MachineConfig) -> Option<String> {
    // Names become paths below /proc/sys: no empty part, so no `..` and no absolute path.
    let sound = |name: &str| {
        name.split('.').all(|part| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-/".contains(&byte))
        }) && !name.contains("//")
            && !name.starts_with('/')
    };
    config
        .sysctls
        .keys()
        .find(|name| !sound(name))
        .map(|name| format!("sysctl \"{name}\", expected one such as \"vm.swappiness\""))
}

fn manifests(config: &MachineConfig) -> Option<String> {
    config.manifests.iter().find_map(|Manifest { name, content, path }| {
        content_or_path(&format!("manifest \"{name}\""), content.as_deref(), path.as_deref())
    })
}

fn document(field: &str, document: Option<&Document>) -> Option<String> {
    let Document { content, path } = document?;
    content_or_path(field, content.as_deref(), path.as_deref())
}

fn content_or_path(what: &str, content: Option<&str>, path: Option<&std::path::Path>) -> Option<String> {
    match (content, path) {
        (Some(_), None) => None,
        (None, Some(path)) if path.is_absolute() => None,
        (None, Some(path)) => Some(format!("path \"{}\" of {what}, expected an absolute one", path.display())),
        (Some(_), Some(_)) | (None, None) => Some(format!("{what}, expected either \"content\" or \"path\"")),
    }
}

/// RFC 1123 label or name; as a node's name Kubernetes wants it so.
fn is_dns_name(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    name.len() <= 63 && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Source;
    use std::net::IpAddr;

    fn error(text: &str) -> String {
        MachineConfig::parse("kedge.yaml", text).unwrap_err().to_string()
    }

    #[test]
    fn nothing_said_is_a_server_with_defaults_that_keep_the_laws() {
        let config = MachineConfig::parse("kedge.yaml", "").unwrap();
        assert_eq!(config, MachineConfig::merge(&[]).unwrap());
        assert_eq!(config.role, Role::Server);
        assert_eq!(config.cluster.cluster_cidr.to_string(), "10.42.0.0/16");
        assert_eq!(config.cluster.cluster_dns, IpAddr::from([10, 43, 0, 10]));
        assert!(config.network.dhcp);
    }

    #[test]
    fn each_law_is_told_with_its_place() {
        for (text, expected) in [
            ("hostname: Edge_1\n", "kedge.yaml:1:1: hostname \"Edge_1\", expected lower-case"),
            ("# a\nrole: agent\n", "kedge.yaml:1:1: an agent needs the field \"server\""),
            ("role: agent\nserver: https://x:6443\n", "kedge.yaml:1:1: an agent needs the field \"token\""),
            ("role: agent\nserver: http://x\n", "kedge.yaml:2:1: server \"http://x\", expected"),
            ("cluster:\n  clusterCIDR: 10.42.0.1/16\n", "kedge.yaml:2:3: clusterCIDR 10.42.0.1/16 has bits"),
            ("cluster:\n  clusterCIDR: 10.42.0.0/25\n", "kedge.yaml:2:3: clusterCIDR 10.42.0.0/25 has no room"),
            ("cluster:\n  serviceCIDR: 10.0.0.0/8\n", "kedge.yaml:2:3: serviceCIDR 10.0.0.0/8 overlaps"),
            ("cluster:\n  clusterDNS: 10.44.0.1\n", "kedge.yaml:2:3: clusterDNS 10.44.0.1 is no address"),
            ("cluster:\n  clusterDomain: \"\"\n", "kedge.yaml:2:3: clusterDomain \"\""),
            ("cluster:\n  nodePorts: {first: 2, last: 1}\n", "kedge.yaml:2:3: nodePorts 2 to 1"),
            ("cluster:\n  apiPort: 0\n", "kedge.yaml:2:3: port 0"),
            (
                "cluster:\n  secretsEncryption: true\n  encryption: {path: /a}\n",
                "kedge.yaml:3:3: encryption has keys of its own, expected either it or secretsEncryption",
            ),
            ("cluster:\n  authentication: {}\n", "kedge.yaml:2:3: authentication, expected either \"content\" or"),
            ("cluster:\n  authentication: {path: a}\n", "kedge.yaml:2:3: path \"a\" of authentication, expected an"),
            (
                "node:\n  labels:\n    node-role.kubernetes.io/worker: \"\"\n",
                "kedge.yaml:2:3: label \"node-role.kubernetes.io/worker\" is none that a node may give itself",
            ),
            ("node:\n  maxPods: 0\n", "kedge.yaml:2:3: maxPods 0"),
            ("sysctls:\n  ../x: 1\n", "kedge.yaml:1:1: sysctl \"../x\""),
            ("manifests:\n- name: a\n", "kedge.yaml:1:1: manifest \"a\", expected either"),
            ("manifests:\n- {name: a, path: b}\n", "kedge.yaml:1:1: path \"b\" of manifest \"a\""),
            ("network:\n  interfaces:\n  - name: eth0/1\n", "kedge.yaml:2:3: interface \"eth0/1\""),
            ("network:\n  interfaces:\n  - name: a\n  - name: a\n", "kedge.yaml:2:3: interface \"a\" is listed twice"),
            (
                "network:\n  interfaces:\n  - {name: e, addresses: [192.168.1.2/24], gateway: 192.168.2.1}\n",
                "kedge.yaml:2:3: gateway 192.168.2.1 of \"e\"",
            ),
            ("network:\n  interfaces:\n  - {name: e, mtu: 5}\n", "kedge.yaml:2:3: mtu 5 of \"e\""),
            (
                "role: agent\nserver: https://x:1\ntoken: t\n",
                "kedge.yaml:1:1: role other than the default is not supported",
            ),
            ("node:\n  maxPods: 20\n", "kedge.yaml:2:3: node.maxPods other than the default is not supported"),
        ] {
            let error = error(text);
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }

    #[test]
    fn unknown_fields_and_wrong_types_are_told_with_their_place() {
        assert!(
            error("hostname: a\nrol: agent\n").starts_with("kedge.yaml:2:1: unknown field \"rol\", expected one of")
        );
        assert!(error("role: boss\n").starts_with("kedge.yaml:1:7: role: unknown variant \"boss\""));
        assert!(error("cluster:\n  apiPort: many\n").starts_with("kedge.yaml:2:12: cluster.apiPort: invalid type"));
        assert!(
            error("cluster:\n  clusterCIDR: x\n")
                .starts_with("kedge.yaml:2:16: cluster.clusterCIDR: \"x\" is not an address")
        );
        assert!(error("hostname: a\nhostname: b\n").contains("duplicate"));
    }

    #[test]
    fn laws_are_checked_over_the_whole_not_over_its_parts() {
        let parts = [
            Source::new("baked", "cluster: {serviceCIDR: 10.44.0.0/16}\n"),
            Source::new("card", "cluster: {clusterDNS: 10.44.0.10}\ntoken: secret\nhostname: edge-3\n"),
        ];
        let config = MachineConfig::merge(&parts).unwrap();
        assert_eq!(config.token.as_ref().map(|token| token.reveal()), Some("secret"));
        assert!(!format!("{config:?}").contains("secret\""), "a token must not be printed");
        let error = MachineConfig::merge(&parts[..1]).unwrap_err().to_string();
        assert!(error.starts_with("baked:1:1: clusterDNS 10.43.0.10 is no address of serviceCIDR"), "{error}");
    }
}
