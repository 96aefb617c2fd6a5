//! Defaults of pods and of pod templates. Source: the field descriptions of the core/v1 API reference.

use kedge_api::quantity::Quantity;
use serde_json::{Map, Value, json};

use super::{image, resources};
use crate::kinds::persistent_volume_claim;
use crate::value::{Fill as _, Look as _};

pub(crate) fn pod(pod: &mut Value) {
    spec(pod.slot("spec"));
    let spec = pod.slot("spec");
    spec.fill("enableServiceLinks", true);
    if spec.flag("hostNetwork") {
        for_containers(spec, host_ports);
    }
    for_containers(spec, |container| requests_from_limits(container.slot("resources")));
    if spec.has("resources") {
        whole(spec);
    }
    pod.fill("status", json!({}));
    addresses(pod.slot("status"));
    for condition in pod.items_mut("status.conditions") {
        for time in ["lastProbeTime", "lastTransitionTime"] {
            condition.fill(time, Value::Null);
        }
    }
    for list in ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"] {
        for status in pod.items_mut(&format!("status.{list}")) {
            container_status(status);
        }
    }
}

/// The first of the addresses is the one of the older field, which counts where the two differ.
fn addresses(status: &mut Value) {
    let one = status.text("podIP").to_owned();
    match (one.as_str(), status.items("podIPs").first().map(|first| first.text("ip").to_owned())) {
        ("", Some(first)) => status.set("podIP", first),
        ("", None) => {}
        (one, Some(first)) if one == first => {}
        _ => status.set("podIPs", json!([{"ip": one}])),
    }
}

/// Also what upstream's types always write.
fn container_status(status: &mut Value) {
    status.fill("ready", false);
    status.fill("restartCount", 0);
    for text in ["image", "imageID"] {
        status.fill(text, "");
    }
    for state in ["state", "lastState"] {
        status.fill(state, json!({}));
        if let Some(terminated) = status.find_mut(&format!("{state}.terminated")) {
            terminated.fill("exitCode", 0);
            for time in ["startedAt", "finishedAt"] {
                terminated.fill(time, Value::Null);
            }
        }
        if let Some(running) = status.find_mut(&format!("{state}.running")) {
            running.fill("startedAt", Value::Null);
        }
    }
}

fn for_containers(spec: &mut Value, mut each: impl FnMut(&mut Value)) {
    for list in ["initContainers", "containers"] {
        spec.items_mut(list).iter_mut().for_each(&mut each);
    }
}

fn host_ports(container: &mut Value) {
    for port in container.items_mut("ports") {
        if let Some(number) = port.int("containerPort") {
            port.fill("hostPort", number);
        }
    }
}

/// The amounts of a pod as a whole, where some are said: huge pages are limited as the containers' are together, and what is limited is
/// asked for as the containers do together, or else as much as the limit.
fn whole(spec: &mut Value) {
    const KNOWN: [&str; 2] = ["cpu", "memory"];
    let is_huge = |name: &str| name.starts_with("hugepages-");
    let said = |spec: &Value, list: &str| spec.look("resources").look(list).as_object().cloned().unwrap_or_default();
    let (mut limits, mut requests) = (said(spec, "limits"), said(spec, "requests"));
    if limits.is_empty() && requests.is_empty() {
        return;
    }
    for (name, amount) in together(spec, "limits") {
        if is_huge(&name) && !requests.contains_key(&name) {
            limits.entry(name).or_insert_with(|| amount.to_string().into());
        }
    }
    if !limits.is_empty() {
        for (name, amount) in together(spec, "requests") {
            if KNOWN.contains(&name.as_str()) {
                requests.entry(name).or_insert_with(|| amount.to_string().into());
            }
        }
        for (name, limit) in limits.iter().filter(|(name, _)| KNOWN.contains(&name.as_str()) || is_huge(name)) {
            requests.entry(name.clone()).or_insert_with(|| limit.clone());
        }
    }
    for (list, amounts) in [("limits", limits), ("requests", requests)] {
        if !amounts.is_empty() {
            spec.set(&format!("resources.{list}"), amounts);
        }
    }
}

/// Of each resource that a container names in a list, what they have of it together.
fn together(spec: &Value, list: &str) -> Vec<(String, Quantity)> {
    let containers = spec.items("initContainers").iter().chain(spec.items("containers"));
    let names: std::collections::BTreeSet<&String> =
        containers.flat_map(|container| container.look("resources").entries(list).map(|(name, _)| name)).collect();
    names.into_iter().map(|name| (name.clone(), resources::together(spec, list, name))).collect()
}

fn requests_from_limits(resources: &mut Value) {
    let limits: Vec<(String, Value)> = resources.entries("limits").map(|(k, v)| (k.clone(), v.clone())).collect();
    if limits.is_empty() {
        return;
    }
    let requests = resources.slot("requests");
    if !requests.is_object() {
        *requests = json!({});
    }
    if let Some(map) = requests.map_mut() {
        for (name, limit) in limits {
            map.entry(name).or_insert(limit);
        }
    }
}

/// A pod's or template's specification.
pub(crate) fn spec(spec: &mut Value) {
    if !spec.is_object() {
        *spec = json!({});
    }
    spec.fill_text("dnsPolicy", "ClusterFirst");
    spec.fill_text("restartPolicy", "Always");
    spec.fill_text("schedulerName", "default-scheduler");
    spec.fill("terminationGracePeriodSeconds", 30);
    spec.fill("securityContext", json!({}));
    // The older name of the field is written along with the newer one.
    let account = match (spec.text("serviceAccountName"), spec.text("serviceAccount")) {
        ("", old) => old.to_owned(),
        (new, _) => new.to_owned(),
    };
    if !account.is_empty() {
        spec.set("serviceAccountName", account.as_str());
        spec.set("serviceAccount", account);
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        spec.items_mut(list).iter_mut().for_each(container);
    }
    spec.items_mut("volumes").iter_mut().for_each(volume);
    without_features(spec);
}

/// What belongs to features that are off by default upstream is dropped.
fn without_features(spec: &mut Value) {
    spec.cut("schedulingGroup");
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in spec.items_mut(list) {
            let signal = container.cut("lifecycle.stopSignal");
            if signal.is_some() && container.look("lifecycle").as_object().is_some_and(Map::is_empty) {
                container.cut("lifecycle");
            }
        }
    }
    for volume in spec.items_mut("volumes") {
        for source in volume.items_mut("projected.sources") {
            for kind in ["clusterTrustBundle", "podCertificate"] {
                source.cut(kind);
            }
        }
    }
}

fn container(container: &mut Value) {
    container.fill("resources", json!({}));
    container.fill_text("terminationMessagePath", "/dev/termination-log");
    container.fill_text("terminationMessagePolicy", "File");
    if container.text("imagePullPolicy").is_empty() {
        let policy = if image::moves(container.text("image")) { "Always" } else { "IfNotPresent" };
        container.set("imagePullPolicy", policy);
    }
    for port in container.items_mut("ports") {
        port.fill_text("protocol", "TCP");
        port.fill("containerPort", 0);
    }
    for env in container.items_mut("env") {
        if let Some(field) = env.find_mut("valueFrom.fieldRef") {
            field.fill_text("apiVersion", "v1");
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(found) = container.find_mut(name) {
            probe(found);
        }
    }
    for hook in ["lifecycle.postStart", "lifecycle.preStop"] {
        if let Some(sleep) = container.find_mut(&format!("{hook}.sleep")) {
            sleep.fill("seconds", 0);
        }
        if let Some(get) = container.find_mut(&format!("{hook}.httpGet")) {
            http_get(get);
        }
    }
}

fn probe(probe: &mut Value) {
    for (name, value) in
        [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        probe.fill(name, value);
    }
    if let Some(get) = probe.find_mut("httpGet") {
        http_get(get);
    }
    if let Some(grpc) = probe.find_mut("grpc") {
        grpc.fill("service", "");
    }
}

fn http_get(get: &mut Value) {
    get.fill_text("path", "/");
    get.fill_text("scheme", "HTTP");
}

fn volume(volume: &mut Value) {
    let sources = volume.as_object().map_or(0, |v| v.keys().filter(|k| *k != "name").count());
    if sources == 0 {
        volume.set("emptyDir", json!({}));
    }
    const MODE: i64 = 0o644;
    for name in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = volume.find_mut(name) {
            source.fill("defaultMode", MODE);
        }
    }
    for item in volume.items_mut("downwardAPI.items") {
        if let Some(field) = item.find_mut("fieldRef") {
            field.fill_text("apiVersion", "v1");
        }
    }
    for source in volume.items_mut("projected.sources") {
        if let Some(token) = source.find_mut("serviceAccountToken") {
            token.fill("expirationSeconds", 3600);
        }
        for item in source.items_mut("downwardAPI.items") {
            if let Some(field) = item.find_mut("fieldRef") {
                field.fill_text("apiVersion", "v1");
            }
        }
    }
    if let Some(source) = volume.find_mut("image").filter(|source| source.text("pullPolicy").is_empty()) {
        let policy = if image::moves(source.text("reference")) { "Always" } else { "IfNotPresent" };
        source.set("pullPolicy", policy);
    }
    if let Some(spec) = volume.find_mut("ephemeral.volumeClaimTemplate.spec") {
        persistent_volume_claim::default_spec(spec);
    }
    source(volume);
}

/// What a volume of a pod and one that stands alone have in common.
pub(crate) fn source(volume: &mut Value) {
    if let Some(path) = volume.find_mut("hostPath") {
        path.fill("type", "");
    }
    if let Some(iscsi) = volume.find_mut("iscsi") {
        iscsi.fill_text("iscsiInterface", "default");
        iscsi.fill("lun", 0);
    }
    if let Some(rbd) = volume.find_mut("rbd") {
        for (name, value) in [("pool", "rbd"), ("user", "admin"), ("keyring", "/etc/ceph/keyring")] {
            rbd.fill_text(name, value);
        }
    }
    if let Some(scale) = volume.find_mut("scaleIO") {
        scale.fill_text("storageMode", "ThinProvisioned");
        scale.fill_text("fsType", "xfs");
    }
    if let Some(disk) = volume.find_mut("azureDisk") {
        for (name, value) in [("cachingMode", "ReadWrite"), ("kind", "Shared"), ("fsType", "ext4")] {
            disk.fill(name, value);
        }
        disk.fill("readOnly", false);
    }
}

/// How long a pod is patient with a node in trouble, in seconds.
const PATIENCE: i64 = 300;

/// Patience with a node in trouble, unless the pod says how much it has.
pub(crate) fn tolerate(pod: &mut Value) {
    let mut tolerations = pod.items("spec.tolerations").to_vec();
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerated = tolerations.iter().any(|t| {
            let same = t.text("key") == key || t.text("key").is_empty();
            same && ["NoExecute", ""].contains(&t.text("effect"))
        });
        if !tolerated {
            tolerations
                .push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": PATIENCE}));
        }
    }
    pod.set("spec.tolerations", tolerations);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_as_a_whole_asks_for_what_its_containers_do() {
        let after = |whole: Value, container: Value| {
            let mut pod = json!({"spec": {"resources": whole, "containers": [{"name": "c", "image": "i", "resources": container}]}});
            super::pod(&mut pod);
            pod["spec"]["resources"].clone()
        };
        assert_eq!(
            after(json!({"limits": {"cpu": "2", "memory": "1Gi"}}), json!({"requests": {"cpu": "500m"}})),
            json!({"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"}})
        );
        assert_eq!(
            after(json!({"limits": {"cpu": "2"}}), json!({"limits": {"hugepages-2Mi": "4Mi", "memory": "1Gi"}})),
            json!({"limits": {"cpu": "2", "hugepages-2Mi": "4Mi"}, "requests": {"cpu": "2", "hugepages-2Mi": "4Mi", "memory": "1Gi"}})
        );
        assert_eq!(
            after(json!({"requests": {"cpu": "2"}}), json!({"requests": {"memory": "1Gi"}})),
            json!({"requests": {"cpu": "2"}})
        );
        assert_eq!(after(json!({}), json!({"limits": {"cpu": "1"}})), json!({}));
    }

    #[test]
    fn defaulting_twice_is_defaulting_once() {
        let mut once = json!({"spec": {"hostNetwork": true, "serviceAccount": "a",
            "containers": [{"name": "c", "image": "x", "ports": [{"containerPort": 80}], "livenessProbe": {"httpGet": {"port": 1}},
                            "resources": {"limits": {"cpu": "1"}, "requests": {"memory": "1Gi"}}}],
            "volumes": [{"name": "v"}, {"name": "s", "secret": {}}, {"name": "h", "hostPath": {"path": "/"}}]}});
        pod(&mut once);
        let mut twice = once.clone();
        pod(&mut twice);
        assert_eq!(once, twice);
        let c = &once["spec"]["containers"][0];
        assert_eq!(c["ports"][0], json!({"containerPort": 80, "hostPort": 80, "protocol": "TCP"}));
        assert_eq!(c["resources"]["requests"], json!({"cpu": "1", "memory": "1Gi"}));
        assert_eq!(c["livenessProbe"]["periodSeconds"], 10);
        assert_eq!(once["spec"]["volumes"][0]["emptyDir"], json!({}));
        assert_eq!(once["spec"]["volumes"][1]["secret"]["defaultMode"], 420);
        assert_eq!(once["spec"]["serviceAccountName"], "a");
    }
}
