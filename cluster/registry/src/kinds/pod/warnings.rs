//! What is allowed in a pod, but most likely not meant.

use kedge_api::quantity::Quantity;
use serde_json::Value;

use crate::kinds::workload;
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

const SECCOMP: &str = "seccomp.security.alpha.kubernetes.io/pod";

pub(crate) fn pod(new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut said = workload::name_warning(new, old, "the Pod's hostname");
    said.extend(of(new.look("spec"), new.look("metadata"), "spec", "metadata"));
    said
}

/// Of a template that stands at `path`.
pub(crate) fn template(template: &Value, path: &str) -> Vec<String> {
    let (spec, metadata) = (template.look("spec"), template.look("metadata"));
    of(spec, metadata, &format!("{path}.spec"), &format!("{path}.metadata"))
}

fn of(spec: &Value, metadata: &Value, path: &str, meta: &str) -> Vec<String> {
    let mut said = Vec::new();
    let selector = spec.look("nodeSelector");
    for (old, why) in LABELS.iter().filter_map(|(old, ..)| Some((old, label(old)?))) {
        if selector.get(old).is_some() {
            said.push(format!("{path}.nodeSelector[{old}]: {why}"));
        }
    }
    if metadata.look("annotations").get(SECCOMP).is_some() {
        said.push(format!(
            "{meta}.annotations[{SECCOMP}]: non-functional in v1.27+; use the \"seccompProfile\" field instead"
        ));
    }
    for (at, constraint) in spec.items("topologySpreadConstraints").iter().enumerate() {
        null_selector(constraint, &format!("{path}.topologySpreadConstraints[{at}].labelSelector"), &mut said);
    }
    aliases(spec, path, &mut said);
    for (at, volume) in spec.items("volumes").iter().enumerate() {
        sources(volume, &format!("{path}.volumes[{at}]"), &mut said);
        let empty = |s: &Value| s.as_object().is_none_or(serde_json::Map::is_empty);
        if volume.has("projected") && volume.items("projected.sources").iter().all(empty) {
            said.push(format!("volume {:?} (Projected) has no sources provided", volume.text("name")));
        }
    }
    pull_secrets(spec, path, &mut said);
    affinity(spec, path, &mut said);
    for list in ["initContainers", "containers"] {
        for (at, container) in spec.items(list).iter().enumerate() {
            of_container(container, &format!("{path}.{list}[{at}]"), &mut said);
        }
    }
    if spec.int("terminationGracePeriodSeconds").is_some_and(|s| s < 0) {
        said.push(format!(
            "{path}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
        ));
    }
    said
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
        if name.is_empty() {
            said.push(format!("{path}.imagePullSecrets[{at}].name: invalid empty name \"\""));
        } else if seen.contains(&name) {
            said.push(format!("{path}.imagePullSecrets[{at}].name: duplicate name {name:?}"));
        }
        seen.push(name);
    }
}

fn of_container(container: &Value, path: &str, said: &mut Vec<String>) {
    for list in ["limits", "requests"] {
        for (name, amount) in container.look("resources").entries(list) {
            if ["memory", "ephemeral-storage"].contains(&name.as_str()) {
                said.extend(fraction(amount, &format!("{path}.resources.{list}[{name}]")));
            }
        }
    }
    let mut names: Vec<&str> = Vec::new();
    for (at, env) in container.items("env").iter().enumerate() {
        let name = env.text("name");
        if names.contains(&name) {
            said.push(format!(
                "{path}.env[{at}]: hides previous definition of {name:?}, which may be dropped when using apply"
            ));
        }
        names.push(name);
    }
    let mut ports: Vec<(i64, &str, i64)> = Vec::new();
    for (at, port) in container.items("ports").iter().enumerate() {
        let number = |field: &str| port.int(field).unwrap_or(0);
        let key = (number("containerPort"), port.text("protocol"), number("hostPort"));
        if let Some(first) = ports.iter().position(|p| *p == key) {
            said.push(format!("{path}.ports[{at}]: duplicate port definition with {path}.ports[{first}]"));
        }
        ports.push(key);
    }
}
