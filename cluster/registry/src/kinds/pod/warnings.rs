//! What is allowed in a pod, but most likely not meant.

#[cfg(test)]
mod tests;

use kedge_api::quantity::Quantity;
use kedge_api::selector;
use serde_json::Value;

use super::annotations::APP_ARMOR;
use crate::kinds::{address, persistent_volume_claim, workload};
use crate::value::Look as _;

/// Labels of nodes that have newer names.
const LABELS: &[(&str, &str, &str)] = &[
    ("beta.kubernetes.io/arch", "v1.14", "kubernetes.io/arch"),
    ("beta.kubernetes.io/os", "v1.14", "kubernetes.io/os"),
    ("failure-domain.beta.kubernetes.io/region", "v1.17", "topology.kubernetes.io/region"),
    ("failure-domain.beta.kubernetes.io/zone", "v1.17", "topology.kubernetes.io/zone"),
    ("beta.kubernetes.io/instance-type", "v1.17", "node.kubernetes.io/instance-type"),
];

/// Sources of volumes whose time is over.
const VOLUMES: &[(&str, &str)] = &[
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// Amounts of bytes, which are whole ones.
const BYTES: &[&str] = &["memory", "ephemeral-storage"];

/// Annotations that say nothing any more, and the fields that took their place.
const ANNOTATIONS: &[(&str, &str, &str)] = &[
    ("scheduler.alpha.kubernetes.io/critical-pod", "v1.16+", "priorityClassName"),
    ("security.alpha.kubernetes.io/sysctls", "v1.11+", "sysctls"),
    ("security.alpha.kubernetes.io/unsafe-sysctls", "v1.11+", "sysctls"),
];

const SECCOMP: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_OF: &str = "container.seccomp.security.alpha.kubernetes.io/";

/// Of a new pod: those that are there are rarely changed by people.
pub(crate) fn pod(new: &Value, old: Option<&Value>) -> Vec<String> {
    if old.is_some() {
        return Vec::new();
    }
    let mut said = workload::name_warning(new, old, "the Pod's hostname");
    said.extend(of(new, "", false));
    said
}

/// Of the addresses in a pod's status.
pub(crate) fn status(pod: &Value) -> Vec<String> {
    let mut said = Vec::new();
    for list in ["podIPs", "hostIPs"] {
        for (at, one) in pod.look("status").items(list).iter().enumerate() {
            said.extend(address::ip_warning(one.text("ip"), &format!("status.{list}[{at}].ip")));
        }
    }
    said
}

/// Of a template that stands at `path`.
pub(crate) fn template(template: &Value, path: &str) -> Vec<String> {
    of(template, &format!("{path}."), true)
}

fn of(pod: &Value, before: &str, template: bool) -> Vec<String> {
    let spec = pod.look("spec");
    let (path, path_of) = (&format!("{before}spec"), |key: &str| format!("{before}metadata.annotations[{key}]"));
    let has = |key: &str| pod.look("metadata.annotations").get(key).is_some();
    let mut said = Vec::new();
    let selector = spec.look("nodeSelector");
    for (old, why) in LABELS.iter().filter_map(|(old, ..)| Some((old, label(old)?))) {
        if selector.get(old).is_some() {
            said.push(format!("{path}.nodeSelector[{old}]: {why}"));
        }
    }
    node_affinity(spec, &format!("{path}.affinity.nodeAffinity"), &mut said);
    for (at, constraint) in spec.items("topologySpreadConstraints").iter().enumerate() {
        let (here, key) = (format!("{path}.topologySpreadConstraints[{at}]"), constraint.text("topologyKey"));
        said.extend(label(key).map(|why| format!("{here}.topologyKey: {key} is {why}")));
        null_selector(constraint, &format!("{here}.labelSelector"), &mut said);
    }
    for (key, since, field) in ANNOTATIONS.iter().filter(|(key, ..)| has(key)) {
        said.push(format!("{}: non-functional in {since}; use the {field:?} field instead", path_of(key)));
    }
    for (at, volume) in spec.items("volumes").iter().enumerate() {
        let here = format!("{path}.volumes[{at}]");
        sources(volume, &here, &mut said);
        let claim = "ephemeral.volumeClaimTemplate";
        if volume.has(claim) {
            let claimed = volume.look(claim).look("spec");
            said.extend(persistent_volume_claim::warnings(claimed, &format!("{here}.{claim}.spec")));
        }
    }
    spec.items("volumes").iter().for_each(|volume| overlaps(volume, &mut said));
    aliases(spec, path, &mut said);
    pull_secrets(spec, path, &mut said);
    for name in BYTES {
        said.extend(fraction(spec.look("overhead").look(name), &format!("{path}.overhead[{name}]")));
    }
    let profile = |holder: &Value, field: &str| holder.look("securityContext").has(field);
    let seccomp =
        |key: &str| format!("{}: non-functional in v1.27+; use the \"seccompProfile\" field instead", path_of(key));
    if has(SECCOMP) && !profile(spec, "seccompProfile") {
        said.push(seccomp(SECCOMP));
    }
    let armed = profile(spec, "appArmorProfile");
    let containers = all_containers(spec, path);
    for (here, container) in &containers {
        let key = format!("{SECCOMP_OF}{}", container.text("name"));
        if has(&key) && !profile(container, "seccompProfile") {
            said.push(seccomp(&key));
        }
        // For a pod itself the annotation becomes the field.
        let key = format!("{APP_ARMOR}{}", container.text("name"));
        if template && has(&key) && !armed && !profile(container, "appArmorProfile") {
            let place = path_of(&key);
            said.push(format!("{place}: deprecated since v1.30; use the \"appArmorProfile\" field instead"));
        }
        of_container(container, here, &mut said);
    }
    ports(&containers, &mut said);
    if spec.int("terminationGracePeriodSeconds").is_some_and(|s| s < 0) {
        said.push(format!(
            "{path}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
        ));
    }
    affinity(spec, path, &mut said);
    for (at, server) in spec.items("dnsConfig.nameservers").iter().enumerate() {
        let text = server.as_str().unwrap_or_default();
        said.extend(address::ip_warning(text, &format!("{path}.dnsConfig.nameservers[{at}]")));
    }
    for (at, alias) in spec.items("hostAliases").iter().enumerate() {
        said.extend(address::ip_warning(alias.text("ip"), &format!("{path}.hostAliases[{at}].ip")));
    }
    said
}

/// With their paths, in upstream's order.
fn all_containers<'a>(spec: &'a Value, path: &str) -> Vec<(String, &'a Value)> {
    let mut all = Vec::new();
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        all.extend(spec.items(list).iter().enumerate().map(|(at, one)| (format!("{path}.{list}[{at}]"), one)));
    }
    all
}

/// What must be is checked when it is written; what should be may have values that no label has.
fn node_affinity(spec: &Value, path: &str, said: &mut Vec<String>) {
    let affinity = spec.look("affinity.nodeAffinity");
    let required = "requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
    for (at, term) in affinity.items(required).iter().enumerate() {
        selector_term(term, &format!("{path}.{required}[{at}]"), false, said);
    }
    let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
    for (at, weighted) in affinity.items(preferred).iter().enumerate() {
        selector_term(weighted.look("preference"), &format!("{path}.{preferred}[{at}].preference"), true, said);
    }
}

/// Of what a node's labels are to be.
pub(crate) fn selector_term(term: &Value, path: &str, values: bool, said: &mut Vec<String>) {
    for (nth, expression) in term.items("matchExpressions").iter().enumerate() {
        let (here, key) = (format!("{path}.matchExpressions[{nth}]"), expression.text("key"));
        said.extend(label(key).map(|why| format!("{here}.key: {key} is {why}")));
        for (at, value) in expression.items("values").iter().enumerate().filter(|_| values) {
            let text = value.as_str().unwrap_or_default();
            let wrong = selector::label_value_error(text).into_iter();
            said.extend(wrong.map(|why| format!("{here}.values[{at}]: {text} is invalid, {why}")));
        }
    }
}

/// Files of a volume of which one would take the place of another, or of its directory.
fn overlaps(volume: &Value, said: &mut Vec<String>) {
    let name = volume.text("name");
    let paths = |items: &Value| -> Vec<String> {
        items.items("items").iter().map(|item| item.text("path").trim_end_matches('/').to_owned()).collect()
    };
    for (kind, shown, named) in
        [("configMap", "ConfigMap", "name"), ("secret", "Secret", "secretName"), ("downwardAPI", "DownwardAPI", "")]
    {
        let source = volume.look(kind);
        let shown = if named.is_empty() { shown.to_owned() } else { format!("{shown} {:?}", source.text(named)) };
        let mut seen: Vec<String> = Vec::new();
        for path in paths(source) {
            let both = seen.iter().filter(|had| one_in_other(had, &path));
            said.extend(both.map(|had| format!("volume {name:?} ({shown}): overlapping paths: {path:?} with {had:?}")));
            seen.push(path);
        }
    }
    let mut seen: Vec<(String, String)> = Vec::new();
    for source in volume.items("projected.sources") {
        if source.as_object().is_none_or(serde_json::Map::is_empty) {
            said.push(format!("volume {name:?} (Projected) has no sources provided"));
        }
        let of = |kind: &str, shown: &str| format!("{shown} {:?}", source.look(kind).text("name"));
        let (shown, files) = if source.look("configMap").has("items") {
            (of("configMap", "ConfigMap"), paths(source.look("configMap")))
        } else if source.look("secret").has("items") {
            (of("secret", "Secret"), paths(source.look("secret")))
        } else if source.look("downwardAPI").has("items") {
            ("DownwardAPI".to_owned(), paths(source.look("downwardAPI")))
        } else if source.has("serviceAccountToken") {
            let path = source.text("serviceAccountToken.path").trim_end_matches('/');
            ("ServiceAccountToken".to_owned(), vec![path.to_owned()])
        } else {
            continue;
        };
        for path in files {
            let both = seen.iter().filter(|(had, _)| one_in_other(had, &path));
            let told = |(had, whose): &(String, String)| {
                format!("volume {name:?} (Projected): overlapping paths: {path:?} ({shown}) with {had:?} ({whose})")
            };
            said.extend(both.map(told));
            seen.push((path, shown.clone()));
        }
    }
}

fn one_in_other(one: &str, other: &str) -> bool {
    let within =
        |outer: &str, inner: &str| inner.strip_prefix(outer).is_some_and(|r| r.is_empty() || r.starts_with('/'));
    !one.is_empty() && !other.is_empty() && (within(one, other) || within(other, one))
}

/// Ports of all containers: they share one address.
fn ports(containers: &[(String, &Value)], said: &mut Vec<String>) {
    let mut seen: Vec<(String, &Value)> = Vec::new();
    let mut names: Vec<(String, &str)> = Vec::new();
    let mut named = Vec::new();
    for (path, container) in containers {
        for (at, port) in container.items("ports").iter().enumerate() {
            let here = format!("{path}.ports[{at}]");
            let number = |port: &Value, field: &str| port.int(field).unwrap_or(0);
            let (host, ip) = (number(port, "hostPort"), port.text("hostIP"));
            if !ip.is_empty() && host == 0 {
                said.push(format!(
                    "{here}: hostIP set without hostPort: {{Name:{} HostPort:0 ContainerPort:{} Protocol:{} HostIP:{ip}}}",
                    port.text("name"),
                    number(port, "containerPort"),
                    port.text("protocol"),
                ));
            }
            let same = |other: &Value| {
                number(other, "containerPort") == number(port, "containerPort")
                    && other.text("protocol") == port.text("protocol")
            };
            for (place, other) in seen.iter().filter(|(_, other)| same(other)) {
                let (their_host, their_ip) = (number(other, "hostPort"), other.text("hostIP"));
                let how = if ip == their_ip && host == their_host {
                    "duplicate"
                } else if host == 0 || their_host == 0 {
                    "overlapping"
                } else if host == their_host && ip.is_empty() != their_ip.is_empty() {
                    "dangerously ambiguous"
                } else {
                    continue;
                };
                said.push(format!("{here}: {how} port definition with {place}"));
            }
            let name = port.text("name");
            // Containers that only come first do not run beside the others.
            let first_only = path.contains(".initContainers[") || path.starts_with("initContainers[");
            if !name.is_empty() && (!first_only || container.text("restartPolicy") == "Always") {
                match names.iter().find(|(_, had)| *had == name) {
                    Some((first, _)) => named.push(format!(
                        "{here}: duplicate port name {name:?} with {first}, services and probes that select ports by name will use \
                         {first}"
                    )),
                    None => names.push((here.clone(), name)),
                }
            }
            seen.push((here, port));
        }
    }
    said.append(&mut named);
}

fn null_selector(holder: &Value, path: &str, said: &mut Vec<String>) {
    if holder.look("labelSelector").is_null() {
        said.push(format!("{path}: a null labelSelector results in matching no pod"));
    }
}

fn affinity(spec: &Value, path: &str, said: &mut Vec<String>) {
    for kind in ["podAffinity", "podAntiAffinity"] {
        let terms = spec.look("affinity").look(kind);
        for (list, inner) in [
            ("requiredDuringSchedulingIgnoredDuringExecution", ""),
            ("preferredDuringSchedulingIgnoredDuringExecution", "podAffinityTerm"),
        ] {
            for (at, term) in terms.items(list).iter().enumerate() {
                let here = format!("{path}.affinity.{kind}.{list}[{at}]");
                if inner.is_empty() {
                    null_selector(term, &format!("{here}.labelSelector"), said);
                } else {
                    null_selector(term.look(inner), &format!("{here}.{inner}.labelSelector"), said);
                }
            }
        }
    }
}

fn aliases(spec: &Value, path: &str, said: &mut Vec<String>) {
    let mut seen = Vec::new();
    for (at, alias) in spec.items("hostAliases").iter().enumerate() {
        let ip = alias.text("ip");
        if seen.contains(&ip) {
            said.push(format!("{path}.hostAliases[{at}].ip: duplicate ip {ip:?}"));
        }
        seen.push(ip);
    }
}

/// Of a volume, or of the volume that a claim is for.
pub(crate) fn sources(volume: &Value, path: &str, said: &mut Vec<String>) {
    for (kind, why) in VOLUMES {
        if volume.has(kind) {
            let shown = if *kind == "storageos" { "storageOS" } else { kind };
            said.push(format!("{path}.{shown}: {why}"));
        }
    }
}

/// What is said of a node's label that has a newer name.
pub(crate) fn label(key: &str) -> Option<String> {
    let (_, since, new) = LABELS.iter().find(|(old, ..)| *old == key)?;
    Some(format!("deprecated since {since}; use {new:?} instead"))
}

/// The newer name of a node's label.
pub(crate) fn renamed(key: &str) -> &str {
    LABELS.iter().find(|(old, ..)| *old == key).map_or(key, |(_, _, new)| new)
}

/// An amount of bytes that is no whole number.
pub(crate) fn fraction(amount: &Value, path: &str) -> Option<String> {
    let text = amount.as_str().unwrap_or_default();
    let parsed: Option<Quantity> = text.parse().ok();
    parsed
        .filter(|q| q.milli() % 1000 != 0)
        .map(|_| format!("{path}: fractional byte value {text:?} is invalid, must be an integer"))
}

fn pull_secrets(spec: &Value, path: &str, said: &mut Vec<String>) {
    let mut seen = Vec::new();
    for (at, secret) in spec.items("imagePullSecrets").iter().enumerate() {
        let name = secret.text("name");
        if seen.contains(&name) {
            said.push(format!("{path}.imagePullSecrets[{at}].name: duplicate name {name:?}"));
        }
        seen.push(name);
    }
    for at in seen.iter().enumerate().filter(|(_, name)| name.is_empty()).map(|(at, _)| at) {
        said.push(format!("{path}.imagePullSecrets[{at}].name: invalid empty name \"\""));
    }
}

fn of_container(container: &Value, path: &str, said: &mut Vec<String>) {
    for name in BYTES {
        for list in ["limits", "requests"] {
            let amount = container.look("resources").look(list).look(name);
            said.extend(fraction(amount, &format!("{path}.resources.{list}[{name}]")));
        }
    }
    let mut names: Vec<&str> = Vec::new();
    for (at, env) in container.items("env").iter().enumerate() {
        let (name, value) = (env.text("name"), env.text("value"));
        let before = format!("$({name})");
        // A value may be made of what stood there before.
        let made_of_it = !env.has("valueFrom") && value != before && value.contains(&before);
        if !names.contains(&name) {
            names.push(name);
        } else if !made_of_it {
            said.push(format!(
                "{path}.env[{at}]: hides previous definition of {name:?}, which may be dropped when using apply"
            ));
        }
    }
}
