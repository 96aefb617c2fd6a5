//! One thing that is most likely not meant, and all that is said of it.

use serde_json::json;

use super::*;
use crate::kinds::cases::put;

fn whole() -> Value {
    json!({"metadata": {"annotations": {}}, "spec": {"containers": [{"name": "c"}, {"name": "d"}]}})
}

#[test]
fn what_is_most_likely_not_meant() {
    let expressions = |key: &str, value: &str| json!([{"key": key, "operator": "In", "values": [value]}]);
    let null = "a null labelSelector results in matching no pod";
    let cases = [
        ("/spec/nodeSelector", json!({"beta.kubernetes.io/arch": "a"}),
            vec!["spec.nodeSelector[beta.kubernetes.io/arch]: deprecated since v1.14; use \"kubernetes.io/arch\" instead".to_owned()]),
        ("/spec/affinity", json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            {"nodeSelectorTerms": [{"matchExpressions": expressions("beta.kubernetes.io/os", "-1")}]}}}),
            vec!["spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].key: beta.kubernetes.io/os is deprecated since v1.14; use \"kubernetes.io/os\" instead".to_owned()]),
        ("/spec/affinity", json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution":
            [{"weight": 1, "preference": {"matchExpressions": expressions("k", "-1")}}]}}),
            vec!["spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0].values[0]: -1 is invalid, a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')".to_owned()]),
        ("/spec/affinity", json!({"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"podAffinityTerm": {}}]}}),
            vec![format!("spec.affinity.podAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.labelSelector: {null}")]),
        ("/spec/topologySpreadConstraints", json!([{"topologyKey": "beta.kubernetes.io/os"}]), vec![
            "spec.topologySpreadConstraints[0].topologyKey: beta.kubernetes.io/os is deprecated since v1.14; use \"kubernetes.io/os\" instead".to_owned(),
            format!("spec.topologySpreadConstraints[0].labelSelector: {null}")]),
        ("/metadata/annotations", json!({"scheduler.alpha.kubernetes.io/critical-pod": "", SECCOMP: "", format!("{SECCOMP_OF}c"): "", format!("{APP_ARMOR}c"): ""}), vec![
            "metadata.annotations[scheduler.alpha.kubernetes.io/critical-pod]: non-functional in v1.16+; use the \"priorityClassName\" field instead".to_owned(),
            format!("metadata.annotations[{SECCOMP}]: non-functional in v1.27+; use the \"seccompProfile\" field instead"),
            format!("metadata.annotations[{SECCOMP_OF}c]: non-functional in v1.27+; use the \"seccompProfile\" field instead")]),
        ("/spec/overhead", json!({"memory": "4m"}),
            vec!["spec.overhead[memory]: fractional byte value \"4m\" is invalid, must be an integer".to_owned()]),
        ("/spec/hostAliases", json!([{"ip": "::ffff:1.2.3.4"}]),
            vec!["spec.hostAliases[0].ip: non-standard IP address \"::ffff:1.2.3.4\" will be considered invalid in a future Kubernetes release: use \"1.2.3.4\"".to_owned()]),
        ("/spec/dnsConfig", json!({"nameservers": ["1.2.3.4", "05.06.07.08", "FD00::1"]}), vec![
            "spec.dnsConfig.nameservers[1]: non-standard IP address \"05.06.07.08\" will be considered invalid in a future Kubernetes release: use \"5.6.7.8\"".to_owned(),
            "spec.dnsConfig.nameservers[2]: IPv6 address \"FD00::1\" should be in RFC 5952 canonical format (\"fd00::1\")".to_owned()]),
        ("/spec/containers/0/env", json!([{"name": "a", "value": "a"}, {"name": "a", "value": "$(a)"}, {"name": "a", "value": "$(a) $(a)"}]),
            vec!["spec.containers[0].env[1]: hides previous definition of \"a\", which may be dropped when using apply".to_owned()]),
        ("/spec/terminationGracePeriodSeconds", json!(-1),
            vec!["spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1".to_owned()]),
    ];
    for (at, value, expected) in cases {
        let mut object = whole();
        put(&mut object, at, value);
        assert_eq!(of(&object, "", false), expected, "{at}");
    }
    let mut armed = whole();
    put(&mut armed, "/metadata/annotations", json!({format!("{APP_ARMOR}c"): "unconfined"}));
    let told = format!(
        "t.metadata.annotations[{APP_ARMOR}c]: deprecated since v1.30; use the \"appArmorProfile\" field instead"
    );
    assert_eq!(template(&armed, "t"), [told]);
}

#[test]
fn files_that_take_one_anothers_place() {
    let token = json!({"serviceAccountToken": {"path": "test/test2"}});
    let cases = [
        (
            json!({"configMap": {"name": "foo", "items": [{"path": "test/app"}, {"path": "test/"}, {"path": "test1"}]}}),
            vec!["volume \"v\" (ConfigMap \"foo\"): overlapping paths: \"test\" with \"test/app\""],
        ),
        (
            json!({"secret": {"secretName": "foo", "items": [{"path": "test"}, {"path": "test"}]}}),
            vec!["volume \"v\" (Secret \"foo\"): overlapping paths: \"test\" with \"test\""],
        ),
        (
            json!({"downwardAPI": {"items": [{"path": "test"}, {"path": "test"}]}}),
            vec!["volume \"v\" (DownwardAPI): overlapping paths: \"test\" with \"test\""],
        ),
        (
            json!({"projected": {"sources": [token, {"downwardAPI": {"items": [{"path": "test"}, {"path": "test"}]}}]}}),
            vec![
                "volume \"v\" (Projected): overlapping paths: \"test\" (DownwardAPI) with \"test/test2\" (ServiceAccountToken)",
                "volume \"v\" (Projected): overlapping paths: \"test\" (DownwardAPI) with \"test/test2\" (ServiceAccountToken)",
                "volume \"v\" (Projected): overlapping paths: \"test\" (DownwardAPI) with \"test\" (DownwardAPI)",
            ],
        ),
        (
            json!({"projected": {"sources": [{"secret": {"name": "S", "items": [{"path": "test"}]}}, {"configMap": {"name": "C", "items": [{"path": "test/test1"}]}}, {}]}}),
            vec![
                "volume \"v\" (Projected): overlapping paths: \"test/test1\" (ConfigMap \"C\") with \"test\" (Secret \"S\")",
                "volume \"v\" (Projected) has no sources provided",
            ],
        ),
    ];
    for (mut volume, expected) in cases {
        put(&mut volume, "/name", json!("v"));
        let object = json!({"spec": {"volumes": [volume]}});
        assert_eq!(of(&object, "", false), expected, "{object}");
    }
}

#[test]
fn ports_of_all_containers_share_an_address() {
    let cases = [
        (json!([{"containerPort": 80, "hostPort": 80}]), json!([{"containerPort": 80, "hostPort": 81}]), vec![]),
        (json!([{"containerPort": 80, "protocol": "UDP"}]), json!([{"containerPort": 80, "protocol": "TCP"}]), vec![]),
        (
            json!([{"containerPort": 80, "hostPort": 80, "hostIP": "10.0.0.1"}]),
            json!([{"containerPort": 80, "hostPort": 80, "hostIP": "10.0.0.2"}]),
            vec![],
        ),
        (
            json!([{"containerPort": 80}]),
            json!([{"containerPort": 80}]),
            vec!["spec.containers[1].ports[0]: duplicate port definition with spec.containers[0].ports[0]"],
        ),
        (
            json!([{"containerPort": 80, "hostPort": 80, "hostIP": "10.0.0.1"}]),
            json!([{"containerPort": 80, "hostPort": 80}]),
            vec!["spec.containers[1].ports[0]: dangerously ambiguous port definition with spec.containers[0].ports[0]"],
        ),
        (
            json!([{"containerPort": 80, "protocol": "UDP", "hostPort": 80, "hostIP": "10.0.0.1"}]),
            json!([{"containerPort": 80, "protocol": "UDP", "hostIP": "10.0.0.1"}]),
            vec![
                "spec.containers[1].ports[0]: hostIP set without hostPort: {Name: HostPort:0 ContainerPort:80 Protocol:UDP HostIP:10.0.0.1}",
                "spec.containers[1].ports[0]: overlapping port definition with spec.containers[0].ports[0]",
            ],
        ),
        (
            json!([{"containerPort": 80, "name": "test"}]),
            json!([{"containerPort": 81, "name": "test"}]),
            vec![
                "spec.containers[1].ports[0]: duplicate port name \"test\" with spec.containers[0].ports[0], services and probes that select ports by name will use spec.containers[0].ports[0]",
            ],
        ),
    ];
    for (first, second, expected) in cases {
        let mut object = whole();
        put(&mut object, "/spec/containers/0/ports", first);
        put(&mut object, "/spec/containers/1/ports", second);
        assert_eq!(of(&object, "", false), expected, "{object}");
    }
}
