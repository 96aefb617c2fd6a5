//! What may change in a pod that exists.

use serde_json::Value;

use super::qos;
use crate::errors::{Errors, Path};
use crate::golang;
use crate::kinds::address;
use crate::names;
use crate::value::{Fill as _, Look as _};

const WHY: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,\
                   `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
                   `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

pub(crate) fn validate(new: &Value, old: &Value, errors: &mut Errors) {
    let spec = Path::root("spec");
    for list in ["containers", "initContainers"] {
        let (now, before) = (new.items(&format!("spec.{list}")), old.items(&format!("spec.{list}")));
        if now.len() != before.len() {
            errors.forbidden(&spec.child(list), "pod updates may not add or remove containers");
            return;
        }
    }
    for list in ["containers", "initContainers"] {
        let path = spec.child(list);
        for (at, container) in new.items(&format!("spec.{list}")).iter().enumerate() {
            if container.text("image").trim().is_empty() {
                let item = path.index(at);
                errors.required(&item.child("image"), "");
            }
        }
    }
    deadline(new, old, errors);
    let tolerations = spec.child("tolerations");
    let same = |a: &Value, b: &Value| ["key", "operator", "value", "effect"].iter().all(|f| a.text(f) == b.text(f));
    let kept = |t: &Value| new.items("spec.tolerations").iter().any(|n| same(t, n));
    if !old.items("spec.tolerations").iter().all(kept) {
        errors.forbidden(&tolerations, "existing toleration can not be modified except its tolerationSeconds");
    }
    gates(new, old, errors);
    let gated = !old.items("spec.schedulingGates").is_empty();
    // All that may change is taken from the old object; then nothing may be different.
    let mut same = new.look("spec").clone();
    for list in ["containers", "initContainers"] {
        let images: Vec<Value> = old.items(&format!("spec.{list}")).iter().map(|c| c.look("image").clone()).collect();
        for (container, image) in same.items_mut(list).iter_mut().zip(images) {
            container.set("image", image);
        }
    }
    let mut free = vec!["activeDeadlineSeconds", "tolerations", "schedulingGates"];
    if gated {
        free.extend(["nodeSelector", "affinity"]);
    }
    if new.int("spec.terminationGracePeriodSeconds") == Some(1)
        && old.int("spec.terminationGracePeriodSeconds") < Some(0)
    {
        free.push("terminationGracePeriodSeconds");
    }
    let before = old.look("spec");
    for field in free {
        match before.get(field) {
            Some(value) => same.set(field, value.clone()),
            None => {
                same.cut(field);
            }
        }
    }
    if &same != before {
        errors.forbidden(&spec, &format!("{WHY}\n{}", golang::difference(before, &same, "PodSpec")));
    }
}

fn deadline(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::root("spec.activeDeadlineSeconds");
    let (now, before) = (new.int("spec.activeDeadlineSeconds"), old.int("spec.activeDeadlineSeconds"));
    match (now, before) {
        (Some(now), Some(before)) if now > before => {
            errors.invalid(&path, now, "must be less than or equal to previous value");
        }
        (None, Some(_)) => {
            errors.invalid(&path, Value::Null, "must not update from a positive integer to nil value");
        }
        _ => {}
    }
}

fn gates(new: &Value, old: &Value, errors: &mut Errors) {
    let had = old.items("spec.schedulingGates");
    let path = Path::root("spec.schedulingGates");
    let added: Vec<String> = new
        .items("spec.schedulingGates")
        .iter()
        .filter(|g| !had.contains(g))
        .map(|g| g.text("name").to_owned())
        .collect();
    if !added.is_empty() {
        let why = format!("only deletion is allowed, but found new scheduling gate '{}'", added.join(", "));
        let kept = new.items("spec.schedulingGates").len() - added.len();
        let item = path.index(kept);
        errors.forbidden(&item.child("name"), &why);
    }
}

/// The quality of service is decided once.
pub(crate) fn prepare_status(new: &mut Value, old: &Value) {
    let class = match old.text("status.qosClass") {
        "" => qos::class(old).to_owned(),
        had => had.to_owned(),
    };
    new.fill("status.qosClass", class);
    match old.look("metadata.ownerReferences") {
        Value::Null => {
            new.cut("metadata.ownerReferences");
        }
        owners => new.set("metadata.ownerReferences", owners.clone()),
    }
}

/// What admission gives a new pod, a changed one has, too.
pub(crate) fn prepare(new: &mut Value, old: &Value) {
    for field in ["spec.priority", "spec.preemptionPolicy"] {
        if !new.has(field) && old.has(field) {
            new.set(field, old.look(field).clone());
        }
    }
    crate::admission::tolerate(new);
}

pub(crate) fn validate_status(new: &Value, old: &Value, errors: &mut Errors) {
    if old.has("status.qosClass") && new.text("status.qosClass") != old.text("status.qosClass") {
        errors.invalid(&Path::root("status.qosClass"), new.text("status.qosClass"), "field is immutable");
    }
    let node = new.text("status.nominatedNodeName");
    if !node.is_empty() {
        errors.all_invalid(&Path::root("status.nominatedNodeName"), node, names::subdomain(node));
    }
    if let Some(number) = new.int("status.observedGeneration").filter(|n| *n < 0) {
        errors.invalid(&Path::root("status.observedGeneration"), number, "must be a non-negative integer");
    }
    for field in ["podIPs", "hostIPs"] {
        let path = Path::root("status");
        let here = path.child(field);
        let list = new.items(&format!("status.{field}"));
        let parsed = list.iter().enumerate().filter_map(|(at, ip)| address::ip(ip.text("ip"), &here.index(at), errors));
        let families: Vec<bool> = parsed.map(|ip| ip.is_ipv4()).collect();
        if families.len() > 1 && families.iter().all(|f| Some(f) == families.first()) {
            let shown: Vec<Value> = list.iter().map(|ip| serde_json::json!({"IP": ip.text("ip")})).collect();
            errors.invalid(&here, shown, "may specify no more than one IP for each IP family");
        }
    }
    // A container of a pod that never restarts stays terminated.
    let policy = new.text("spec.restartPolicy");
    for list in ["containerStatuses", "initContainerStatuses"] {
        let path = Path::root("status");
        let here = path.child(list);
        let now = new.items(&format!("status.{list}"));
        for status in old.items(&format!("status.{list}")) {
            let Some(exit) = status.int("state.terminated.exitCode") else { continue };
            let done = policy == "Never" || (policy == "OnFailure" && exit == 0);
            let name = status.text("name");
            let sidecar = new
                .items("spec.initContainers")
                .iter()
                .any(|c| c.text("name") == name && c.text("restartPolicy") == "Always");
            let Some((at, after)) = now.iter().enumerate().find(|(_, s)| s.text("name") == name) else { continue };
            if done && !sidecar && !after.has("state.terminated") {
                let item = here.index(at);
                errors.forbidden(&item.child("state"), "may not be transitioned to non-terminated state");
            }
        }
    }
}

/// The changes that `ephemeralcontainers` makes: nothing but new ones.
pub(crate) fn ephemeral(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::root("spec.ephemeralContainers");
    let now = new.items("spec.ephemeralContainers");
    for had in old.items("spec.ephemeralContainers") {
        let name = had.text("name");
        match now.iter().find(|c| c.text("name") == name) {
            None => errors.forbidden(&path, &format!("existing ephemeral containers {name:?} may not be removed\n")),
            Some(same) if same == had => {}
            Some(_) => errors.forbidden(&path, &format!("existing ephemeral containers {name:?} may not be changed\n")),
        }
    }
}

/// The changes that `resize` makes: amounts of cpu and memory, and nothing else.
pub(crate) fn resize(new: &Value, old: &mut Value) {
    for list in ["containers", "initContainers"] {
        let now: Vec<Value> = new.items(&format!("spec.{list}")).to_vec();
        for container in old.items_mut(&format!("spec.{list}")) {
            let Some(wanted) = now.iter().find(|c| c.text("name") == container.text("name")) else { continue };
            container.set("resources", wanted.look("resources").clone());
            match wanted.look("resizePolicy") {
                Value::Null => {}
                policy => container.set("resizePolicy", policy.clone()),
            }
        }
    }
}

/// What may not come of it.
pub(crate) fn resized(new: &Value, old: &Value, errors: &mut Errors) {
    let spec = Path::root("spec");
    if old.text("spec.os.name") == "windows" {
        errors.forbidden(&spec, "windows pods cannot be resized");
        return;
    }
    let started = old.items("status.containerStatuses").iter().find(|s| s.has("state.running"));
    if old.text("status.phase") == "Running" && started.is_some_and(|status| !status.has("resources")) {
        errors.forbidden(&spec, "Pod running on node without support for resize");
    }
    let mut same = new.look("spec").clone();
    for list in ["containers", "initContainers"] {
        let path = spec.child(list);
        let before = old.look("spec").items(list);
        for (at, (container, before)) in same.items_mut(list).iter_mut().zip(before).enumerate() {
            let item = path.index(at);
            let resources = item.child("resources");
            for kind in ["requests", "limits"] {
                let held = format!("resources.{kind}");
                let (now, had) = (container.look(&held), before.look(&held));
                if had.as_object().into_iter().flatten().any(|(name, _)| now.get(name).is_none()) {
                    let why = format!("resource {kind} cannot be removed");
                    errors.forbidden(&resources.child(kind), &why);
                }
                let had = had.clone();
                let fixed = list == "initContainers" && before.text("restartPolicy") != "Always";
                for name in ["cpu", "memory"].into_iter().filter(|_| !fixed) {
                    match had.get(name) {
                        Some(amount) => container.set(&format!("{held}.{name}"), amount.clone()),
                        None => {
                            container.cut(&format!("{held}.{name}"));
                        }
                    }
                }
                if container.look(&held).as_object().is_some_and(serde_json::Map::is_empty) && had.is_null() {
                    container.cut(&held);
                }
            }
            match before.look("resizePolicy") {
                Value::Null => {
                    container.cut("resizePolicy");
                }
                policy => container.set("resizePolicy", policy.clone()),
            }
        }
    }
    let before = old.look("spec");
    if &same != before {
        let what = golang::difference(before, &same, "PodSpec");
        errors.forbidden(&spec, &format!("only cpu and memory resources are mutable\n{what}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_cpu_and_memory_are_resized() {
        let pod =
            |requests: Value| json!({"spec": {"containers": [{"name": "c", "resources": {"requests": requests}}]}});
        let wrong = |now: Value, before: Value| {
            let mut errors = Errors::default();
            resized(&pod(now), &pod(before), &mut errors);
            errors.len()
        };
        assert_eq!(wrong(json!({"cpu": "2", "memory": "1Gi"}), json!({"cpu": "1"})), 0);
        assert_eq!(wrong(json!({"memory": "1Gi"}), json!({"cpu": "1"})), 1);
        assert_eq!(wrong(json!({"cpu": "1", "example.com/x": "2"}), json!({"cpu": "1", "example.com/x": "1"})), 1);
    }
}
