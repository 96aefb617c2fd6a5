//! What a pod's runtime class brings along: the overhead of its sandbox, and where it can run.

use kedge_api::quantity::Quantity;
use kedge_api::resource::known;
use kedge_api::{GroupResource, Key, Status};
use serde_json::Value;

use super::Attributes;
use crate::strategy::Scope;
use crate::value::{Fill as _, Look as _};

const CLASSES: GroupResource = known::RUNTIME_CLASSES;
const MISMATCH: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";

pub(super) fn apply(scope: &Scope<'_>, attributes: &Attributes<'_>, pod: &mut Value) -> Result<(), Status> {
    let Some(class) = class(scope, attributes, pod)? else { return Ok(()) };
    let fixed = class.look("overhead.podFixed");
    if class.has("overhead") {
        if pod.entries("spec.overhead").next().is_some() && !same(fixed, pod.look("spec.overhead")) {
            return Err(attributes.forbidden(pod, MISMATCH));
        }
        if !fixed.is_null() {
            pod.set("spec.overhead", fixed.clone());
        }
    }
    for (key, value) in class.entries("scheduling.nodeSelector") {
        let (wanted, had) = (value.as_str().unwrap_or_default(), pod.look("spec.nodeSelector").get(key));
        if let Some(had) = had.and_then(Value::as_str).filter(|had| *had != wanted) {
            let why = format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {wanted}; pod.spec.nodeSelector[{key}] = {had}"
            );
            return Err(attributes.forbidden(pod, &why));
        }
        let selector = pod.slot("spec.nodeSelector");
        if !selector.is_object() {
            *selector = Value::Object(serde_json::Map::new());
        }
        if let Some(selector) = selector.map_mut() {
            selector.insert(key.clone(), value.clone());
        }
    }
    let tolerations = class.items("scheduling.tolerations");
    if !tolerations.is_empty() {
        let mut all = pod.items("spec.tolerations").to_vec();
        for toleration in tolerations {
            if !all.contains(toleration) {
                all.push(toleration.clone());
            }
        }
        pod.set("spec.tolerations", all);
    }
    Ok(())
}

pub(super) fn check(
    scope: &Scope<'_>,
    attributes: &Attributes<'_>,
    pod: &Value,
    _: &mut Vec<String>,
) -> Result<(), Status> {
    let class = class(scope, attributes, pod)?;
    match class.as_ref().filter(|class| class.has("overhead")) {
        Some(class) if !same(class.look("overhead.podFixed"), pod.look("spec.overhead")) => {
            Err(attributes.forbidden(pod, MISMATCH))
        }
        None if pod.has("spec.overhead") => {
            let why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
            Err(attributes.forbidden(pod, why))
        }
        Some(_) | None => Ok(()),
    }
}

fn class(scope: &Scope<'_>, attributes: &Attributes<'_>, pod: &Value) -> Result<Option<Value>, Status> {
    let name = pod.text("spec.runtimeClassName");
    if name.is_empty() {
        return Ok(None);
    }
    match scope.snapshot.get(&Key::new(CLASSES, "", name)) {
        Some(class) => class.decode().map(Some),
        None => Err(attributes.forbidden(pod, &format!("pod rejected: RuntimeClass {name:?} not found"))),
    }
}

/// As amounts, however they are written.
fn same(one: &Value, other: &Value) -> bool {
    let amounts = |list: &Value| -> std::collections::BTreeMap<String, Option<Quantity>> {
        let entries = list.as_object().into_iter().flatten();
        entries.map(|(name, v)| (name.clone(), v.as_str().and_then(|v| v.parse().ok()))).collect()
    };
    amounts(one) == amounts(other)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::World;
    use super::*;

    #[test]
    fn overhead_and_scheduling_are_the_class_s() {
        let class = json!({"metadata": {"name": "kata"}, "handler": "kata", "overhead": {"podFixed": {"cpu": "250m"}},
            "scheduling": {"nodeSelector": {"kvm": "yes"}, "tolerations": [{"key": "kvm"}]}});
        let world = World::new(&known::PODS, &[(CLASSES, class), (CLASSES, json!({"metadata": {"name": "plain"}}))]);
        let pod = |spec: Value| json!({"metadata": {"name": "p"}, "spec": spec});
        let full = json!({"runtimeClassName": "kata", "overhead": {"cpu": "250m"}, "nodeSelector": {"kvm": "yes"}, "tolerations": [{"key": "kvm"}]});
        assert_eq!(world.admit(apply, None, pod(json!({"runtimeClassName": "kata"}))), Ok(pod(full.clone())));
        assert_eq!(world.validate(check, None, &pod(full)), Ok(vec![]));
        for (spec, why) in [
            (json!({"runtimeClassName": "x"}), "pod rejected: RuntimeClass \"x\" not found"),
            (json!({"runtimeClassName": "kata", "overhead": {"cpu": "1"}}), MISMATCH),
            (
                json!({"runtimeClassName": "kata", "nodeSelector": {"kvm": "no"}}),
                "conflict: runtimeClass.scheduling.nodeSelector[kvm] = yes; pod.spec.nodeSelector[kvm] = no",
            ),
        ] {
            assert_eq!(world.admit(apply, None, pod(spec)), Err(format!("pods \"p\" is forbidden: {why}")));
        }
        let stray = pod(json!({"runtimeClassName": "plain", "overhead": {"cpu": "1"}}));
        assert!(world.validate(check, None, &stray).unwrap_err().contains("without corresponding RuntimeClass"));
    }
}
