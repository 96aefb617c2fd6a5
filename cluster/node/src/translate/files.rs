//! The texts of `/etc/hosts` and `/etc/resolv.conf` in a pod.

use std::fmt::Write as _;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Pod;

use super::is_host_network;

/// How names are resolved on this node.
#[derive(Clone, Debug, Default)]
pub struct Dns {
    /// The cluster DNS service.
    pub cluster: Vec<IpAddr>,
    pub domain: String,
    /// The node's own resolv.conf.
    pub host: String,
}

/// `host`: the node's own hosts file, which pods on the host's network see.
pub fn hosts(pod: &Pod, hostname: &str, full: &str, addresses: &[IpAddr], host: &str) -> String {
    let Some(spec) = &pod.spec else { return String::new() };
    let mut out = if is_host_network(spec) {
        format!("# Kubernetes-managed hosts file (host network).\n{host}")
    } else {
        let mut out = String::from(
            "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
             fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
        );
        for ip in addresses {
            // Writing to a String cannot fail.
            let _ = if full == hostname {
                writeln!(out, "{ip}\t{hostname}")
            } else {
                writeln!(out, "{ip}\t{full}\t{hostname}")
            };
        }
        out
    };
    if let Some(aliases) = spec.host_aliases.as_deref().filter(|a| !a.is_empty()) {
        out.push_str("\n# Entries added by HostAliases.\n");
        for alias in aliases {
            let _ = writeln!(out, "{}\t{}", alias.ip, alias.hostnames.as_deref().unwrap_or_default().join("\t"));
        }
    }
    out
}

#[derive(Default)]
struct Resolv {
    servers: Vec<String>,
    search: Vec<String>,
    options: Vec<(String, Option<String>)>,
}

impl Resolv {
    fn parse(text: &str) -> Self {
        let mut out = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => out.servers.extend(words.next().map(str::to_owned)),
                Some("search") => out.search = words.map(str::to_owned).collect(),
                Some("options") => out.options.extend(words.map(|o| match o.split_once(':') {
                    Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                    None => (o.to_owned(), None),
                })),
                Some(_) | None => {}
            }
        }
        out
    }
}

pub fn resolv_conf(pod: &Pod, dns: &Dns) -> String {
    let Some(spec) = &pod.spec else { return String::new() };
    let cluster = match spec.dns_policy.as_deref() {
        Some("ClusterFirstWithHostNet") => true,
        Some("ClusterFirst") | None => !is_host_network(spec),
        Some(_) => false,
    };
    let host = Resolv::parse(&dns.host);
    let mut out = match spec.dns_policy.as_deref() {
        Some("None") => Resolv::default(),
        _ if cluster => {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            let domain = &dns.domain;
            let mut search = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()];
            search.extend(host.search);
            let servers = dns.cluster.iter().map(IpAddr::to_string).collect();
            Resolv { servers, search, options: vec![("ndots".into(), Some("5".into()))] }
        }
        _ => host,
    };
    if let Some(config) = &spec.dns_config {
        out.servers.extend(config.nameservers.iter().flatten().cloned());
        out.search.extend(config.searches.iter().flatten().cloned());
        for option in config.options.iter().flatten() {
            let Some(name) = option.name.clone() else { continue };
            out.options.retain(|(n, _)| *n != name);
            out.options.push((name, option.value.clone()));
        }
    }
    render(out)
}

fn render(mut resolv: Resolv) -> String {
    let mut seen = Vec::new();
    resolv.servers.retain(|s| {
        !seen.contains(s) && {
            seen.push(s.clone());
            true
        }
    });
    let mut seen = Vec::new();
    resolv.search.retain(|s| {
        !seen.contains(s) && {
            seen.push(s.clone());
            true
        }
    });
    let mut out = String::new();
    if !resolv.search.is_empty() {
        let _ = writeln!(out, "search {}", resolv.search.join(" "));
    }
    for server in &resolv.servers {
        let _ = writeln!(out, "nameserver {server}");
    }
    if !resolv.options.is_empty() {
        let option = |(name, value): &(String, Option<String>)| match value {
            Some(value) => format!("{name}:{value}"),
            None => name.clone(),
        };
        let _ = writeln!(out, "options {}", resolv.options.iter().map(option).collect::<Vec<_>>().join(" "));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": spec})).unwrap()
    }

    #[test]
    fn resolv_conf_follows_the_policy() {
        let dns = Dns {
            cluster: vec!["10.43.0.10".parse().unwrap()],
            domain: "cluster.local".into(),
            host: "nameserver 10.0.2.3\nsearch home\noptions edns0\n".into(),
        };
        let cluster = "search shop.svc.cluster.local svc.cluster.local cluster.local home\nnameserver 10.43.0.10\noptions ndots:5\n";
        let host = "search home\nnameserver 10.0.2.3\noptions edns0\n";
        for (spec, expected) in [
            (json!({}), cluster),
            (json!({"hostNetwork": true}), host),
            (json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"}), cluster),
            (json!({"dnsPolicy": "Default"}), host),
            (
                json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1", "1.1.1.1"], "options": [{"name": "use-vc"}]}}),
                "nameserver 1.1.1.1\noptions use-vc\n",
            ),
            (
                json!({"dnsPolicy": "Default", "dnsConfig": {"searches": ["a", "home"], "options": [{"name": "edns0"}, {"name": "ndots", "value": "2"}]}}),
                "search home a\nnameserver 10.0.2.3\noptions edns0 ndots:2\n",
            ),
        ] {
            let mut spec = spec;
            spec["containers"] = json!([]);
            assert_eq!(resolv_conf(&pod(spec.clone()), &dns), expected, "{spec}");
        }
    }

    #[test]
    fn hosts_name_the_pod_and_its_aliases() {
        let pod = pod(json!({"containers": [], "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]}));
        let text = hosts(&pod, "web", "web.sub.shop.svc.cluster.local", &["10.42.0.2".parse().unwrap()], "");
        assert!(text.ends_with(
            "fe00::2\tip6-allrouters\n10.42.0.2\tweb.sub.shop.svc.cluster.local\tweb\n\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"
        ));
    }
}
