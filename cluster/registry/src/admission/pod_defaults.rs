//! What a pod gets that asks for nothing: a priority, and patience with a node in trouble.

use kedge_api::resource::known;
use kedge_api::{Resource, Status};
use serde_json::{Value, json};

use super::forbidden;
use crate::kinds::priority_class::SYSTEM;
use crate::strategy::Scope;
use crate::value::{Fill as _, Look as _};

const PREEMPTS: &str = "PreemptLowerPriority";

pub(super) fn priority(_: &Scope<'_>, resource: &Resource, pod: &mut Value) -> Result<(), Status> {
    if resource.id != known::PODS {
        return Ok(());
    }
    let class = pod.text("spec.priorityClassName");
    let name = pod.text("metadata.name");
    let priority = match class {
        "" => 0,
        class => match SYSTEM.iter().find(|(known, ..)| *known == class) {
            Some((_, priority, _)) => *priority,
            None => {
                return Err(forbidden(resource, name, &format!("no PriorityClass with name {class} was found")));
            }
        },
    };
    if let Some(given) = pod.int("spec.priority").filter(|p| *p != priority) {
        let why = format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed \
             {priority} from the given PriorityClass name"
        );
        return Err(forbidden(resource, name, &why));
    }
    let policy = pod.text("spec.preemptionPolicy");
    if !policy.is_empty() && policy != PREEMPTS {
        let why = format!(
            "the string value of PreemptionPolicy ({policy}) must not be provided in pod spec; priority admission controller computed \
             {PREEMPTS} from the given PriorityClass name"
        );
        return Err(forbidden(resource, name, &why));
    }
    pod.set("spec.priority", priority);
    pod.set("spec.preemptionPolicy", PREEMPTS);
    Ok(())
}

/// There are no runtime classes in this table, so none that a pod names can be found.
pub(super) fn runtime_class(_: &Scope<'_>, resource: &Resource, pod: &mut Value) -> Result<(), Status> {
    let class = pod.text("spec.runtimeClassName");
    if resource.id != known::PODS || class.is_empty() {
        return Ok(());
    }
    let why = format!("pod rejected: RuntimeClass {class:?} not found");
    Err(forbidden(resource, pod.text("metadata.name"), &why))
}

const SECONDS: i64 = 300;

pub(super) fn tolerations(_: &Scope<'_>, resource: &Resource, pod: &mut Value) -> Result<(), Status> {
    if resource.id == known::PODS {
        tolerate(pod);
    }
    Ok(())
}

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
                .push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS}));
        }
    }
    pod.set("spec.tolerations", tolerations);
}
