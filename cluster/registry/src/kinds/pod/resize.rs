//! The changes that `resize` makes: amounts of cpu and memory, and nothing else.

use serde_json::{Map, Value, json};

use super::{annotations, qos};
use crate::errors::{Errors, Path};
use crate::value::{Fill as _, Look as _};

const LISTS: [&str; 2] = ["containers", "initContainers"];
const AMOUNTS: [&str; 2] = ["requests", "limits"];
const ONLY: &str = "only cpu and memory resources are mutable";

/// Takes over what may be resized. Containers that are not those of the pod are taken as they are, for the rules to refuse.
pub(crate) fn take(wanted: &Value, pod: &mut Value) {
    let spec = pod.slot("spec");
    match wanted.look("spec.resources") {
        Value::Null => {
            spec.cut("resources");
        }
        resources => spec.set("resources", resources.clone()),
    }
    for list in LISTS {
        let now = wanted.look("spec").items(list);
        if !same_names(now, spec.items(list)) {
            spec.set(list, now.to_vec());
            continue;
        }
        for (container, wanted) in spec.items_mut(list).iter_mut().zip(now) {
            container.set("resources", wanted.look("resources").clone());
            match wanted.look("resizePolicy") {
                Value::Null => {
                    container.cut("resizePolicy");
                }
                policy => container.set("resizePolicy", policy.clone()),
            }
        }
    }
}

fn same_names(now: &[Value], had: &[Value]) -> bool {
    now.len() == had.len() && now.iter().zip(had).all(|(now, had)| now.text("name") == had.text("name"))
}

pub(crate) fn validate(new: &Value, old: &Value, errors: &mut Errors) {
    // Nothing else is told of one that cannot be resized at all.
    for (is, why) in [
        (annotations::is_mirror(old), "static pods cannot be resized"),
        (old.text("spec.os.name") == "windows", "windows pods cannot be resized"),
    ] {
        if is {
            errors.forbidden(&Path::NOWHERE, why);
            return;
        }
    }
    super::validate(new, errors);
    let spec = Path::root("spec");
    if qos::class(new) != qos::class(old) {
        errors.invalid(&spec, qos::class(old), "Pod QOS Class may not change as a result of resizing");
    }
    let started = old.items("status.containerStatuses").iter().find(|s| s.has("state.running"));
    if started.is_some_and(|status| !status.has("resources")) {
        errors.forbidden(&spec, "Pod running on node without support for resize");
    }
    whole(new, old, errors);
    if !old.items("status.nodeAllocatableResourceClaimStatuses").is_empty() {
        errors.forbidden(&spec, "pods with node allocatable resource claims cannot be resized");
    }
    if order(new, old, errors) {
        containers(new, old, errors);
    }
}

/// The pod's own amounts.
fn whole(new: &Value, old: &Value, errors: &mut Errors) {
    let (now, had) = (new.look("spec.resources"), old.look("spec.resources"));
    let path = Path::root("spec.resources");
    if now.is_null() && !had.is_null() {
        errors.forbidden(&path, "pod-level resources cannot be removed");
        return;
    }
    removed(now, had, "pod-level resource", &path, errors);
    if settled(now, had) != settled(had, had) {
        errors.forbidden(&Path::root("spec"), &format!("{ONLY} at pod-level"));
    }
}

/// Whether the containers are the pod's, in their order.
fn order(new: &Value, old: &Value, errors: &mut Errors) -> bool {
    let before = errors.len();
    for list in LISTS {
        let (now, had) = (new.look("spec").items(list), old.look("spec").items(list));
        let spec = Path::root("spec");
        let path = spec.child(list);
        if now.len() != had.len() {
            errors.forbidden(&path, &format!("{list} may not be added or removed on resize"));
            continue;
        }
        for (at, _) in now.iter().zip(had).enumerate().filter(|(_, (now, had))| now.text("name") != had.text("name")) {
            let item = path.index(at);
            errors.forbidden(&item.child("name"), &format!("{list} may not be renamed or reordered on resize"));
        }
    }
    errors.len() == before
}

fn removed(now: &Value, had: &Value, what: &str, path: &Path<'_>, errors: &mut Errors) {
    for list in AMOUNTS {
        if had.entries(list).any(|(name, _)| now.look(list).get(name).is_none()) {
            errors.forbidden(&path.child(list), &format!("{what} {list} cannot be removed"));
        }
    }
}

fn containers(new: &Value, old: &Value, errors: &mut Errors) {
    let spec = Path::root("spec");
    let pairs = |list| new.look("spec").items(list).iter().zip(old.look("spec").items(list)).enumerate();
    for list in ["initContainers", "containers"] {
        let path = spec.child(list);
        for (at, (now, had)) in pairs(list) {
            let item = path.index(at);
            removed(now.look("resources"), had.look("resources"), "resource", &item.child("resources"), errors);
        }
    }
    let settled = |container: &Value, had: &Value| {
        let mut container = container.clone();
        container.set("resources", settled(container.look("resources"), had.look("resources")));
        container
    };
    for _ in pairs("containers").filter(|(_, (now, had))| settled(now, had) != plain(had)) {
        errors.forbidden(&spec, ONLY);
    }
    let init = spec.child("initContainers");
    for (at, (now, had)) in pairs("initContainers").filter(|(_, (now, had))| now != had) {
        let item = init.index(at);
        if settled(now, had) != plain(had) {
            errors.forbidden(&item, "only cpu and memory resources for init or sidecar containers are mutable");
        }
        let restarts =
            now.items("resizePolicy").iter().any(|policy| policy.text("restartPolicy") == "RestartContainer");
        if restarts && now.text("restartPolicy") != "Always" {
            let why = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
            errors.forbidden(&item, why);
        }
    }
}

/// A container with empty lists of amounts left out.
fn plain(container: &Value) -> Value {
    let mut plain = container.clone();
    for list in AMOUNTS {
        if container.look("resources").entries(list).next().is_none() {
            plain.cut(&format!("resources.{list}"));
        }
    }
    plain.fill("resources", json!({}));
    plain
}

/// Amounts of what may be resized as they were, and all others as they are now.
fn settled(now: &Value, had: &Value) -> Value {
    let mut settled = Map::new();
    for list in AMOUNTS {
        let is_free = |name: &str| ["cpu", "memory"].contains(&name);
        let kept = now.entries(list).filter(|(name, _)| !is_free(name));
        let back = had.entries(list).filter(|(name, _)| is_free(name));
        let amounts: Map<String, Value> =
            kept.chain(back).map(|(name, amount)| (name.clone(), amount.clone())).collect();
        if !amounts.is_empty() {
            settled.insert(list.to_owned(), amounts.into());
        }
    }
    settled.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(containers: Value) -> Value {
        let mut pod = json!({"spec": {"containers": containers, "serviceAccountName": "default"}});
        super::super::default::pod(&mut pod);
        pod
    }

    fn told(old: &Value, change: impl FnOnce(&mut Value)) -> Vec<String> {
        let mut wanted = old.clone();
        change(&mut wanted);
        let mut new = old.clone();
        take(&wanted, &mut new);
        let mut errors = Errors::default();
        validate(&new, old, &mut errors);
        errors.told()
    }

    #[test]
    fn only_cpu_and_memory_are_resized() {
        let old = pod(
            json!([{"name": "c", "image": "i", "resources": {"requests": {"cpu": "1", "x.io/a": "1"}, "limits": {"x.io/a": "1"}}}]),
        );
        let amounts = |amounts: Value| move |pod: &mut Value| pod["spec"]["containers"][0]["resources"] = amounts;
        let device = json!({"x.io/a": "1"});
        assert_eq!(
            told(&old, amounts(json!({"requests": {"cpu": "2", "memory": "1Gi", "x.io/a": "1"}, "limits": device}))),
            [""; 0]
        );
        assert_eq!(
            told(&old, amounts(json!({"requests": {"memory": "1Gi", "x.io/a": "1"}, "limits": device}))),
            ["spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed"]
        );
        let more = json!({"x.io/a": "2"});
        assert_eq!(
            told(&old, amounts(json!({"requests": {"cpu": "1", "x.io/a": "2"}, "limits": more}))),
            ["spec: Forbidden: only cpu and memory resources are mutable"]
        );
        assert_eq!(told(&old, |pod| pod["spec"]["resources"] = json!({"requests": {"cpu": "2"}})), [""; 0]);
    }

    #[test]
    fn the_containers_are_the_pods_own() {
        let old = pod(json!([{"name": "c", "image": "i"}, {"name": "d", "image": "i"}]));
        let swap = |pod: &mut Value| pod["spec"]["containers"].as_array_mut().unwrap().swap(0, 1);
        let why = "Forbidden: containers may not be renamed or reordered on resize";
        assert_eq!(told(&old, swap), [0, 1].map(|at| format!("spec.containers[{at}].name: {why}")));
        let drop = |pod: &mut Value| {
            pod["spec"]["containers"].as_array_mut().unwrap().pop();
        };
        assert_eq!(told(&old, drop), ["spec.containers: Forbidden: containers may not be added or removed on resize"]);
    }

    #[test]
    fn some_pods_are_not_resized_at_all() {
        let mut old = pod(json!([{"name": "c", "image": "i"}]));
        let quality = |pod: &mut Value| pod["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "2"}});
        assert_eq!(
            told(&old, quality),
            ["spec: Invalid value: \"BestEffort\": Pod QOS Class may not change as a result of resizing"]
        );
        old.set("spec.os.name", "windows");
        assert_eq!(told(&old, quality), ["[]: Forbidden: windows pods cannot be resized"]);
        old.set("metadata.annotations", json!({"kubernetes.io/config.mirror": "m"}));
        assert_eq!(told(&old, quality), ["[]: Forbidden: static pods cannot be resized"]);
    }
}
