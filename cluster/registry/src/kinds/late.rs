//! What came to be a rule when objects that break it were stored: those may be changed, and others may not come to break it.

use serde_json::{Value, json};

use super::cases::{put, told};
use super::{
    deployment, disruption_budget, horizontal_pod_autoscaler, network_policy, persistent_volume, webhook_configuration,
};
use crate::table::Row;

/// An object, what breaks one rule of it, and what else can be wrong.
fn check(row: &Row, whole: &Value, broken: &[(&str, Value)], wrong: &(&str, Value)) {
    let strategy = &row.strategy;
    for (at, value) in broken {
        let of = |changes: &[&(&str, Value)]| {
            let mut object = whole.clone();
            (strategy.default)(&mut object);
            for (at, value) in changes {
                put(&mut object, at, value.clone());
            }
            object
        };
        let change = |new: &Value, old: &Value| told(|errors| strategy.validate_change(new, old, errors));
        let bad = (*at, value.clone());
        let (fine, stored) = (of(&[]), of(&[&bad]));
        assert_eq!(change(&fine, &fine), [""; 0], "{at}");
        assert_eq!(told(|errors| (strategy.validate)(&stored, errors)).len(), 1, "{at}");
        assert_eq!(change(&stored, &stored), [""; 0], "{at}");
        assert_ne!(change(&stored, &fine), [""; 0], "{at}");
        let alone = change(&of(&[wrong]), &fine);
        assert!(!alone.is_empty(), "{at}");
        assert_eq!(change(&of(&[&bad, wrong]), &stored).len(), alone.len(), "{at}");
    }
}

fn named(spec: Value) -> Value {
    json!({"metadata": {"name": "x", "namespace": "x"}, "spec": spec})
}

/// What is compared with a value, and where that is.
fn chosen() -> Value {
    json!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]})
}

const VALUE: &str = "matchExpressions/0/values/0";

#[test]
fn pods_of_workloads() {
    let workload = named(json!({"selector": {"matchLabels": {"a": "b"}}, "template": {
        "metadata": {"labels": {"a": "b"}},
        "spec": {
            "hostUsers": true,
            "securityContext": {"sysctls": [{"name": "net.a", "value": "1"}]},
            "initContainers": [{"name": "i", "image": "i",
                "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"}]}],
            "containers": [{"name": "c", "image": "i", "volumeDevices": [{"name": "claim", "devicePath": "/dev/x"}]}],
            "volumes": [{"name": "claim", "persistentVolumeClaim": {"claimName": "x"}},
                {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}],
            "affinity": {
                "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                    {"topologyKey": "zone", "labelSelector": chosen()}]},
                "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [chosen()]}}},
            "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": chosen()}]}}}));
    let below = "/spec/template/spec";
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let overhead = json!({"hugepages-2Mi": "1Mi", "cpu": "1"});
    for (at, value) in [
        (format!("{below}/affinity/podAffinity/{required}/0/labelSelector/{VALUE}"), json!("-")),
        (format!("{below}/affinity/nodeAffinity/{required}/nodeSelectorTerms/0/{VALUE}"), json!("-")),
        (format!("{below}/topologySpreadConstraints/0/labelSelector/{VALUE}"), json!("-")),
        (format!("{below}/volumes/1/projected/sources/0/serviceAccountToken/path"), json!("../t")),
        (format!("{below}/initContainers/0/resizePolicy/0/restartPolicy"), json!("RestartContainer")),
        (format!("{below}/hostNetwork"), json!(true)),
        (format!("{below}/hostUsers"), json!(false)),
        (format!("{below}/overhead"), overhead),
        ("/spec/template/metadata/annotations".to_owned(), json!({"controller.kubernetes.io/pod-deletion-cost": "x"})),
    ] {
        check(&deployment::row(), &workload, &[(&at, value)], &("/spec/replicas", json!(-1)));
    }
}

#[test]
fn selectors() {
    let bad = |at: &str| (format!("{at}/{VALUE}"), json!("-"));
    let webhook = json!({"metadata": {"name": "x"}, "webhooks": [{"name": "a.b.c", "sideEffects": "None",
        "admissionReviewVersions": ["v1"], "clientConfig": {"url": "https://e.com/"}, "namespaceSelector": chosen()}]});
    let volume = json!({"metadata": {"name": "x"}, "spec": {"capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [chosen()]}}}});
    for (row, object, (at, value), wrong) in [
        (
            disruption_budget::row(),
            named(json!({"selector": chosen(), "minAvailable": 1})),
            bad("/spec/selector"),
            ("/spec/minAvailable", json!(-1)),
        ),
        (
            network_policy::row(),
            named(json!({"podSelector": chosen(), "policyTypes": ["Ingress"]})),
            bad("/spec/podSelector"),
            ("/spec/policyTypes", json!(["x"])),
        ),
        (
            webhook_configuration::validating_row(),
            webhook,
            bad("/webhooks/0/namespaceSelector"),
            ("/webhooks/0/timeoutSeconds", json!(99)),
        ),
        (
            persistent_volume::row(),
            volume,
            bad("/spec/nodeAffinity/required/nodeSelectorTerms/0"),
            ("/spec/persistentVolumeReclaimPolicy", json!("x")),
        ),
    ] {
        check(&row, &object, &[(&at, value)], &wrong);
    }
}

#[test]
fn scalers() {
    let metric = json!({"type": "Object", "object": {"describedObject": {"kind": "Service", "name": "s"},
        "metric": {"name": "m"}, "target": {"type": "Value", "value": "1"}}});
    let target = json!({"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"});
    let scaler = named(json!({"minReplicas": 1, "maxReplicas": 3, "scaleTargetRef": target, "metrics": [metric]}));
    let broken = [
        ("/spec/scaleTargetRef/apiVersion", json!("a/b/c")),
        ("/spec/metrics/0/object/describedObject/apiVersion", json!("a/b/c")),
        ("/spec/minReplicas", json!(0)),
    ];
    check(&horizontal_pod_autoscaler::row(), &scaler, &broken, &("/spec/scaleTargetRef/name", json!("")));
}
