//! A service, changed in one place, and all that is wrong with it then.

use serde_json::{Value, json};

use super::row;
use crate::kinds::cases;

fn service(kind: &str) -> Value {
    json!({"metadata": {"name": "s"}, "spec": {"type": kind, "clusterIP": "10.43.0.9", "clusterIPs": ["10.43.0.9"], "ports": [{"port": 80}]}})
}

#[test]
fn new_ones() {
    cases::created(
        &row(),
        &service("ClusterIP"),
        &[
            ("/spec/ports", json!([]), &["spec.ports: Required value"]),
            (
                "/spec/internalTrafficPolicy",
                json!(""),
                &["spec.internalTrafficPolicy: Unsupported value: \"\": supported values: \"Cluster\", \"Local\""],
            ),
            (
                "/spec/trafficDistribution",
                json!("x"),
                &[
                    "spec.trafficDistribution: Unsupported value: \"x\": supported values: \"PreferClose\", \"PreferSameZone\", \"PreferSameNode\"",
                ],
            ),
            (
                "/spec/externalIPs",
                json!(["010.0.0.1", "127.0.0.1"]),
                &[
                    "spec.externalIPs[0]: Invalid value: \"010.0.0.1\": must not have leading 0s",
                    "spec.externalIPs[1]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
                ],
            ),
            (
                "/spec/externalTrafficPolicy",
                json!("Local"),
                &[
                    "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services",
                ],
            ),
            (
                "/spec/loadBalancerClass",
                json!("c"),
                &["spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'"],
            ),
            (
                "/spec/loadBalancerSourceRanges",
                json!(["10.0.0.1/8 "]),
                &[
                    "spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'",
                    "spec.LoadBalancerSourceRanges[0]: Invalid value: \"10.0.0.1/8\": must not have bits set beyond the prefix length",
                ],
            ),
            (
                "/spec/ports/0/nodePort",
                json!(30000),
                &["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
            ),
        ],
    );
    let named = json!({"metadata": {"name": "s"}, "spec": {"type": "ExternalName", "externalName": "a.b."}});
    cases::created(&row(), &named, &[("/spec/externalName", json!("."), &["spec.externalName: Required value"])]);
}

#[test]
fn changed_ones() {
    let mut old = service("LoadBalancer");
    old["spec"]["loadBalancerClass"] = json!("a");
    old["spec"]["externalIPs"] = json!(["010.0.0.1"]);
    old["spec"]["loadBalancerSourceRanges"] = json!(["10.0.0.1/8"]);
    cases::updated(
        &row(),
        &old,
        &[
            // What an older server took may stay.
            ("/metadata/labels", json!({}), &[]),
            (
                "/spec/externalIPs/-",
                json!("011.0.0.1"),
                &["spec.externalIPs[1]: Invalid value: \"011.0.0.1\": must not have leading 0s"],
            ),
            (
                "/spec/loadBalancerClass",
                json!("b"),
                &["spec.loadBalancerClass: Invalid value: \"b\": may not change once set"],
            ),
            (
                "/spec/clusterIPs",
                json!(["10.43.0.8"]),
                &["spec.clusterIPs[0]: Invalid value: [\"10.43.0.8\"]: may not change once set"],
            ),
        ],
    );
}

#[test]
fn statuses() {
    let ingress = |ingress: Value| json!({"loadBalancer": {"ingress": [ingress]}});
    const LIST: &str = "status.loadBalancer.ingress";
    cases::reported(
        &row(),
        &service("ClusterIP"),
        &[(
            "/status",
            ingress(json!({"ip": "x"})),
            &[&format!("{LIST}: Forbidden: may only be used when `spec.type` is 'LoadBalancer'")],
        )],
    );
    cases::reported(
        &row(),
        &service("LoadBalancer"),
        &[
            ("/status", ingress(json!({"ip": "10.0.0.1"})), &[]),
            (
                "/status",
                ingress(json!({"ip": "10.0.0.1", "ipMode": "x"})),
                &[&format!("{LIST}[0].ipMode: Unsupported value: \"x\": supported values: \"Proxy\", \"VIP\"")],
            ),
            (
                "/status",
                ingress(json!({"hostname": "1.2.3.4", "ipMode": "VIP"})),
                &[
                    &format!("{LIST}[0].ipMode: Forbidden: may not be specified when `ip` is not set"),
                    &format!("{LIST}[0].hostname: Invalid value: \"1.2.3.4\": must be a DNS name, not an IP address"),
                ],
            ),
        ],
    );
}

#[test]
fn what_is_warned_of() {
    let row = row();
    let told = |kind: &str, at: &str, value: Value| {
        let mut object = service(kind);
        if kind == "None" {
            object = service("ClusterIP");
            cases::put(&mut object, "/spec/clusterIP", json!("None"));
            cases::put(&mut object, "/spec/clusterIPs", json!(["None"]));
        }
        (row.strategy.default)(&mut object);
        cases::put(&mut object, at, value);
        (row.strategy.warnings)(&object, None)
    };
    for (kind, at, value, expected) in [
        (
            "ClusterIP",
            "/spec/clusterIPs",
            json!(["10.43.0.9", "FD00::1"]),
            &["spec.clusterIPs[1]: IPv6 address \"FD00::1\" should be in RFC 5952 canonical format (\"fd00::1\")"][..],
        ),
        (
            "ClusterIP",
            "/spec/externalIPs",
            json!(["1.2.3.4"]),
            &["spec.externalIPs is deprecated and may no longer be implemented in some clusters"],
        ),
        ("None", "/spec/externalIPs", json!(["1.2.3.4"]), &["spec.externalIPs is ignored for headless services"]),
        ("None", "/spec/loadBalancerIP", json!("1.2.3.4"), &["spec.loadBalancerIP is ignored for headless services"]),
        (
            "None",
            "/spec/sessionAffinity",
            json!("ClientIP"),
            &["spec.SessionAffinity is ignored for headless services"],
        ),
        (
            "ExternalName",
            "/spec/externalIPs",
            json!(["1.2.3.4"]),
            &["spec.externalIPs is ignored when spec.type is \"ExternalName\""],
        ),
        (
            "ClusterIP",
            "/spec/externalName",
            json!("a"),
            &["spec.externalName is ignored when spec.type is not \"ExternalName\""],
        ),
        (
            "LoadBalancer",
            "/spec/loadBalancerSourceRanges",
            json!(["FD00::/64"]),
            &[
                "spec.loadBalancerSourceRanges[0]: IPv6 CIDR value \"FD00::/64\" should be in RFC 5952 canonical format (\"fd00::/64\")",
            ],
        ),
        (
            "ClusterIP",
            "/metadata/annotations",
            json!({"service.kubernetes.io/topology-aware-hints": "auto"}),
            &[
                "annotation service.kubernetes.io/topology-aware-hints is deprecated, please use service.kubernetes.io/topology-mode instead",
            ],
        ),
    ] {
        assert_eq!(told(kind, at, value), expected, "{kind} {at}");
    }
}
