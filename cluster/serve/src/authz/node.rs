//! What a node may do: its own Node object, lease and pods, and what those pods refer to. Nothing of other nodes.
//!
//! Follows upstream's Node authorizer with node selectors, and of its NodeRestriction admission what can be told without the
//! body; the rest is in [`super::restrict`]. The relations are looked up in the snapshot when asked, not kept as a graph: a node asks seldom, and has few pods.

use std::sync::Arc;

use kedge_api::rbac::Rule;
use kedge_api::resource::known;
use kedge_api::selector::FieldSelector;
use kedge_api::{Informer, Key, Object, User};
use serde_json::Value;

use super::{Attributes, Decision, Source, What};

pub const GROUP: &str = "system:nodes";
const PREFIX: &str = "system:node:";
const LEASES: &str = "kube-node-lease";
/// Where a pod's status names the claim that was made for it of a template.
const MADE_CLAIM: &str = "/resourceClaimStatuses/*/resourceClaimName";

/// What a node may do without regard to which object.
const ALWAYS: &[(&[&str], &str, &str)] = &[
    (&["create"], "authentication.k8s.io", "tokenreviews"),
    (&["create"], "authorization.k8s.io", "localsubjectaccessreviews"),
    (&["create"], "authorization.k8s.io", "subjectaccessreviews"),
    (&["create", "get", "list", "watch"], "certificates.k8s.io", "certificatesigningrequests"),
    (&["get", "list", "watch"], "", "services"),
    (&["get", "list", "watch"], "", "endpoints"),
    (&["get", "list", "watch"], "discovery.k8s.io", "endpointslices"),
    (&["get", "list", "watch"], "node.k8s.io", "runtimeclasses"),
    (&["get", "list", "watch"], "storage.k8s.io", "csidrivers"),
    (&["create", "patch", "update"], "", "events"),
    (&["create", "patch", "update"], "events.k8s.io", "events"),
    // Registers itself; that the name is its own is for admission to see in the body.
    (&["create"], "", "nodes"),
    // Mirror pods, likewise.
    (&["create"], "", "pods"),
];

pub struct Nodes {
    informer: Arc<dyn Informer>,
}

impl Nodes {
    pub fn new(informer: Arc<dyn Informer>) -> Self {
        Self { informer }
    }
}

/// The node's name, if the user is a node.
pub fn node_of(user: &User) -> Option<&str> {
    user.name.strip_prefix(PREFIX).filter(|_| user.groups.iter().any(|g| g == GROUP))
}

impl Source for Nodes {
    fn decide(&self, a: &Attributes<'_>) -> Decision {
        let Some(node) = node_of(a.user) else { return Decision::NoOpinion(String::new()) };
        if a.what != What::Resource {
            return Decision::NoOpinion(String::new());
        }
        if ALWAYS.iter().any(|(verbs, group, resource)| {
            verbs.contains(&a.verb) && *group == a.group && *resource == a.resource && a.subresource.is_empty()
        }) {
            return Decision::Allow(String::new());
        }
        match self.related(a, node) {
            Ok(()) => Decision::Allow(String::new()),
            Err(why) => Decision::NoOpinion(why),
        }
    }

    fn rules(&self, _: &User, _: &str) -> Vec<Rule> {
        // As upstream: what a node may do depends on objects and cannot be listed.
        Vec::new()
    }
}

impl Nodes {
    fn related(&self, a: &Attributes<'_>, node: &str) -> Result<(), String> {
        let read = matches!(a.verb, "get" | "list" | "watch");
        let write = matches!(a.verb, "update" | "patch" | "delete");
        let own = |name: &str| {
            if name == node { Ok(()) } else { Err(format!("node {node:?} cannot {} node {name:?}", a.verb)) }
        };
        match (a.group, a.resource, a.subresource) {
            ("", "nodes", "") if read || matches!(a.verb, "update" | "patch") => own(a.name),
            ("", "nodes", "status") if write || read => own(a.name),
            ("coordination.k8s.io", "leases", "") => match a.verb {
                _ if a.namespace != LEASES => Err(format!("can only access leases in the {LEASES:?} system namespace")),
                "create" => Ok(()),
                "get" | "update" | "patch" | "delete" if a.name == node => Ok(()),
                _ => Err("can only access node lease with the same name as the requesting node".to_owned()),
            },
            // Of a new one the body tells the name.
            ("storage.k8s.io", "csinodes", "") if a.verb == "create" && a.name.is_empty() => Ok(()),
            ("storage.k8s.io", "csinodes", "") => own(a.name),
            ("", "pods", "") if matches!(a.verb, "list" | "watch") => match selects_node(a.selectors.fields, node) {
                true => Ok(()),
                false => Err("can only list/watch pods with spec.nodeName field selector".to_owned()),
            },
            ("", "pods", "") if matches!(a.verb, "get" | "delete") => self.own_pod(a, node),
            ("", "pods", "status") if matches!(a.verb, "update" | "patch") => self.own_pod(a, node),
            ("", "pods", "eviction") if a.verb == "create" => self.own_pod(a, node),
            ("", "secrets" | "configmaps" | "persistentvolumeclaims" | "serviceaccounts", "") if read => {
                self.referenced(a, node)
            }
            ("", "serviceaccounts", "token") if a.verb == "create" => self.referenced(a, node),
            ("", "persistentvolumes", "") if a.verb == "get" => self.bound_volume(a, node),
            // Of a volume that grows the node tells how far it is.
            ("", "persistentvolumeclaims", "status") if matches!(a.verb, "get" | "update" | "patch") => {
                self.referenced(a, node)
            }
            ("resource.k8s.io", "resourceclaims", "") if a.verb == "get" => self.referenced(a, node),
            ("storage.k8s.io", "volumeattachments", "") if a.verb == "get" => self.attached(a, node),
            _ => Err(String::new()),
        }
    }

    fn own_pod(&self, a: &Attributes<'_>, node: &str) -> Result<(), String> {
        let snapshot = self.informer.snapshot();
        match snapshot.get(&Key::new(known::PODS, a.namespace, a.name)) {
            // Gone: the registry says so; nothing can be learnt.
            None => Ok(()),
            Some(pod) if is_on(&spec(pod), node) => Ok(()),
            Some(_) => Err(unrelated(node)),
        }
    }

    fn referenced(&self, a: &Attributes<'_>, node: &str) -> Result<(), String> {
        if a.name.is_empty() {
            return Err("No Object name found".to_owned());
        }
        match self.is_named(a.namespace, node, a.resource, a.name) {
            true => Ok(()),
            false => Err(unrelated(node)),
        }
    }

    /// Whether a pod on the node refers to the object.
    fn is_named(&self, namespace: &str, node: &str, resource: &str, name: &str) -> bool {
        let snapshot = self.informer.snapshot();
        let named = |pod: &Arc<Object>| {
            let Parts { spec, status } = parts(pod);
            is_on(&spec, node)
                && (refers(&spec, resource, name)
                    || match resource {
                        "persistentvolumeclaims" => is_ephemeral(&spec, &pod.key.name, name),
                        "resourceclaims" => finds(&status, MADE_CLAIM, &|made| made == name),
                        _ => false,
                    })
        };
        snapshot.list(&known::PODS, namespace).any(named)
    }

    /// A volume is for the node if the claim that it is bound to is.
    fn bound_volume(&self, a: &Attributes<'_>, node: &str) -> Result<(), String> {
        let snapshot = self.informer.snapshot();
        let volume = snapshot.get(&Key::new(known::PERSISTENT_VOLUMES, "", a.name)).map(|volume| spec(volume));
        let claim = |field: &str| volume.as_ref().and_then(|volume| volume.pointer(field)).and_then(Value::as_str);
        let bound = claim("/claimRef/namespace").zip(claim("/claimRef/name"));
        match bound.is_some_and(|(namespace, name)| self.is_named(namespace, node, "persistentvolumeclaims", name)) {
            true => Ok(()),
            false => Err(unrelated(node)),
        }
    }

    fn attached(&self, a: &Attributes<'_>, node: &str) -> Result<(), String> {
        let snapshot = self.informer.snapshot();
        match snapshot.get(&Key::new(known::VOLUME_ATTACHMENTS, "", a.name)) {
            Some(attachment) if is_on(&spec(attachment), node) => Ok(()),
            _ => Err(unrelated(node)),
        }
    }
}

fn unrelated(node: &str) -> String {
    format!("no relationship found between node '{node}' and this object")
}

/// What is looked at of an object: the rest is skipped, not built.
#[derive(Default, serde::Deserialize)]
struct Parts {
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    status: Value,
}

fn parts(object: &Object) -> Parts {
    object.decode().unwrap_or_default()
}

fn spec(object: &Object) -> Value {
    parts(object).spec
}

/// Whether a claim is the one that was made for a volume of the pod and goes with it: it has both their names.
fn is_ephemeral(spec: &Value, pod: &str, claim: &str) -> bool {
    let volumes = spec.get("volumes").and_then(Value::as_array).into_iter().flatten();
    let made = volumes.filter(|volume| volume.get("ephemeral").is_some_and(Value::is_object));
    made.filter_map(|volume| volume.get("name")?.as_str()).any(|volume| claim == format!("{pod}-{volume}"))
}

fn is_on(spec: &Value, node: &str) -> bool {
    spec.get("nodeName").and_then(Value::as_str) == Some(node)
}

fn selects_node(selector: &str, node: &str) -> bool {
    let terms = FieldSelector::parse(selector).map(|selector| selector.terms).unwrap_or_default();
    terms.iter().any(|term| term.equal && term.field == "spec.nodeName" && term.value == node)
}

/// Where a pod's spec names an object of a kind. A `*` steps into every element of a list.
const REFERENCES: &[(&str, &str)] = &[
    ("secrets", "/volumes/*/secret/secretName"),
    ("secrets", "/volumes/*/projected/sources/*/secret/name"),
    ("secrets", "/imagePullSecrets/*/name"),
    ("secrets", "/*containers/*/env/*/valueFrom/secretKeyRef/name"),
    ("secrets", "/*containers/*/envFrom/*/secretRef/name"),
    ("secrets", "/volumes/*/csi/nodePublishSecretRef/name"),
    ("configmaps", "/volumes/*/configMap/name"),
    ("configmaps", "/volumes/*/projected/sources/*/configMap/name"),
    ("configmaps", "/*containers/*/env/*/valueFrom/configMapKeyRef/name"),
    ("configmaps", "/*containers/*/envFrom/*/configMapRef/name"),
    ("persistentvolumeclaims", "/volumes/*/persistentVolumeClaim/claimName"),
    ("serviceaccounts", "/serviceAccountName"),
    ("resourceclaims", "/resourceClaims/*/resourceClaimName"),
    ("resourceclaims", "/resourceClaims/*/resourceClaimTemplateName"),
];

fn refers(spec: &Value, resource: &str, name: &str) -> bool {
    names(spec, resource, &|found| found == name)
}

/// Whether the spec names any object of the kind.
pub(super) fn refers_to_any(spec: &Value, resource: &str) -> bool {
    names(spec, resource, &|found| !found.is_empty())
}

fn names(spec: &Value, resource: &str, is: &dyn Fn(&str) -> bool) -> bool {
    REFERENCES.iter().filter(|(kind, _)| *kind == resource).any(|(_, path)| finds(spec, path, is))
}

fn finds(value: &Value, path: &str, is: &dyn Fn(&str) -> bool) -> bool {
    let Some(path) = path.strip_prefix('/') else { return value.as_str().is_some_and(is) };
    let at = path.find('/').unwrap_or(path.len());
    let (step, rest) = path.split_at(at);
    match step {
        "*" => value.as_array().is_some_and(|items| items.iter().any(|item| finds(item, rest, is))),
        "*containers" => ["containers", "initContainers", "ephemeralContainers"]
            .iter()
            .filter_map(|key| value.get(key))
            .any(|list| finds(list, rest, is)),
        key => value.get(key).is_some_and(|inner| finds(inner, rest, is)),
    }
}
