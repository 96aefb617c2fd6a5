//! Which pods leave a node before its machine starts another system, as `kubectl drain` decides it.
//!
//! Source: "Safely Drain a Node" of Kubernetes' documentation.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kedge_api::resource::known::{DAEMON_SETS, POD_DISRUPTION_BUDGETS, PODS};
use kedge_api::selector::Selector;
use kedge_api::{Key, Object, Snapshot, Status};
use serde::Deserialize;
use serde_json::Value;

use super::kind::Drain;
use crate::controller::Victim;
use crate::owner::controller_of;

const MIRROR: &str = "kubernetes.io/config.mirror";
/// Pods that a message names.
const NAMED: usize = 3;

#[derive(Deserialize)]
struct Pod {
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: Option<String>,
    volumes: Option<Vec<Volume>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Volume {
    empty_dir: Option<Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PodStatus {
    phase: Option<String>,
}

#[derive(Deserialize)]
struct Budget {
    spec: BudgetSpec,
    #[serde(default)]
    status: BudgetStatus,
}

#[derive(Deserialize)]
struct BudgetSpec {
    selector: Option<LabelSelector>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct BudgetStatus {
    disruptions_allowed: i64,
}

/// What is to be done about a node's pods.
#[derive(Debug, Default, PartialEq)]
pub struct Pods {
    pub evict: Vec<Victim>,
    /// All that is still there and is to go.
    pub left: Vec<String>,
    /// Those that may not go, and why.
    pub refused: Vec<String>,
}

impl Pods {
    pub fn message(&self) -> String {
        let names = |pods: &[String]| {
            let more = pods.len().saturating_sub(NAMED);
            let named = pods.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
            if more == 0 { named } else { format!("{named} and {more} more") }
        };
        match (self.refused.as_slice(), self.left.as_slice()) {
            ([], []) => String::new(),
            ([], left) => format!("waits for pods to leave: {}", names(left)),
            (refused, _) => format!("cannot be drained: {}", names(refused)),
        }
    }
}

/// The pods of a node.
pub fn pods(snapshot: &Snapshot, node: &str, drain: &Drain) -> Result<Pods, Status> {
    let mut pods = Pods::default();
    for object in snapshot.list(&PODS, "") {
        let pod: Pod = object.decode()?;
        if pod.spec.node_name.as_deref() != Some(node) || is_of_the_node(snapshot, object) {
            continue;
        }
        let name = format!("{}/{}", object.key.namespace, object.key.name);
        if object.is_deleting() {
            pods.left.push(format!("{name} (ends)"));
            continue;
        }
        let finished = matches!(pod.status.phase.as_deref(), Some("Succeeded" | "Failed"));
        match refusal(object, &pod, drain).filter(|_| !finished) {
            Some(why) => pods.refused.push(format!("{name} {why}")),
            None => {
                pods.evict.push(Victim::of(object));
                pods.left.push(match held(snapshot, object).filter(|_| !finished) {
                    Some(why) => format!("{name} ({why})"),
                    None => name,
                });
            }
        }
    }
    Ok(pods)
}

/// Whether a pod belongs on its node whatever happens: of a daemon set, or told by the node itself.
fn is_of_the_node(snapshot: &Snapshot, pod: &Object) -> bool {
    let mirror = pod.meta.annotations.as_ref().is_some_and(|all| all.contains_key(MIRROR));
    let daemon = controller_of(&pod.meta).filter(|owner| owner.kind == "DaemonSet");
    // A daemon set that is gone makes no new pod: the pod is nobody's.
    mirror
        || daemon.is_some_and(|owner| snapshot.get(&Key::new(DAEMON_SETS, &pod.key.namespace, &owner.name)).is_some())
}

fn refusal(object: &Object, pod: &Pod, drain: &Drain) -> Option<&'static str> {
    let unmanaged = controller_of(&object.meta).is_none_or(|owner| owner.kind == "DaemonSet");
    let local = pod.spec.volumes.iter().flatten().any(|volume| volume.empty_dir.is_some());
    if unmanaged && !drain.force {
        Some("has no controller that would make it anew (spec.drain.force deletes it)")
    } else if local && !drain.delete_empty_dir_data {
        Some("has an emptyDir volume (spec.drain.deleteEmptyDirData loses what is in it)")
    } else {
        None
    }
}

/// Why a pod's eviction will be refused for now, as its budgets say.
fn held(snapshot: &Snapshot, pod: &Object) -> Option<String> {
    let matching = |object: &&std::sync::Arc<Object>| {
        let budget: Budget = object.decode().ok()?;
        let selector = Selector::from_label_selector(Some(budget.spec.selector.as_ref()?)).ok()?;
        selector.matches(&pod.meta.labels).then_some((object.key.name.clone(), budget.status.disruptions_allowed))
    };
    let budgets: Vec<_> =
        snapshot.list(&POD_DISRUPTION_BUDGETS, &pod.key.namespace).filter_map(|object| matching(&object)).collect();
    match budgets.as_slice() {
        [(name, allowed)] => (*allowed <= 0).then(|| format!("disruption budget {name} allows none")),
        [] => None,
        _ => Some("more than one disruption budget covers it: it cannot be evicted".to_owned()),
    }
}
