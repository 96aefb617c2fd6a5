//! What may change in a pod that exists.

use serde_json::Value;

use super::{annotations, containers, qos, spec};
use crate::errors::{Errors, Path};
use crate::golang;
use crate::value::{Fill as _, Look as _};

const WHY: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,\
                   `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
                   `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

pub(crate) fn validate(new: &Value, old: &Value, errors: &mut Errors) {
    annotations::update(new, old, errors);
    let spec = Path::root("spec");
    for list in ["containers", "initContainers"] {
        let path = spec.child(list);
        let now = new.look("spec").items(list);
        if now.len() != old.look("spec").items(list).len() {
            errors.forbidden(&path, "pod updates may not add or remove containers");
            return;
        }
        for (at, _) in now.iter().enumerate().filter(|(_, c)| c.text("image").is_empty()) {
            let item = path.index(at);
            errors.required(&item.child("image"), "");
        }
        containers::images_of(now, &path, errors);
    }
    if !deadline(new, old, errors) {
        return;
    }
    tolerations(new, old, errors);
    gates(new, old, errors);
    // All that may change is taken from the old object; then nothing may be different.
    let mut same = new.look("spec").clone();
    for list in ["containers", "initContainers"] {
        let images: Vec<Value> = old.items(&format!("spec.{list}")).iter().map(|c| c.look("image").clone()).collect();
        for (container, image) in same.items_mut(list).iter_mut().zip(images) {
            container.set("image", image);
        }
    }
    let mut free = vec!["activeDeadlineSeconds", "tolerations", "schedulingGates"];
    if !old.items("spec.schedulingGates").is_empty() {
        free.push("nodeSelector");
        node_selector(new, old, errors);
        node_affinity(&mut same, old, errors);
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

/// Whether what follows is worth checking.
fn deadline(new: &Value, old: &Value, errors: &mut Errors) -> bool {
    let path = Path::root("spec.activeDeadlineSeconds");
    let (now, before) = (new.int("spec.activeDeadlineSeconds"), old.int("spec.activeDeadlineSeconds"));
    match (now, before) {
        (Some(now), _) if !(0..=i64::from(i32::MAX)).contains(&now) => {
            errors.invalid(&path, now, "must be between 0 and 2147483647, inclusive");
        }
        (Some(now), Some(before)) if now > before => {
            errors.invalid(&path, now, "must be less than or equal to previous value");
        }
        (None, Some(_)) => {
            errors.invalid(&path, Value::Null, "must not update from a positive integer to nil value");
            return true;
        }
        _ => return true,
    }
    false
}

fn tolerations(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::root("spec.tolerations");
    let now = new.items("spec.tolerations");
    let same = |a: &Value, b: &Value| ["key", "operator", "value", "effect"].iter().all(|f| a.text(f) == b.text(f));
    if !old.items("spec.tolerations").iter().all(|had| now.iter().any(|n| same(had, n))) {
        errors.forbidden(&path, "existing toleration can not be modified except its tolerationSeconds");
        return;
    }
    spec::tolerations(now, &path, errors);
}

fn gates(new: &Value, old: &Value, errors: &mut Errors) {
    let had = old.items("spec.schedulingGates");
    let path = Path::root("spec.schedulingGates");
    for (at, gate) in new.items("spec.schedulingGates").iter().enumerate().filter(|(_, gate)| !had.contains(gate)) {
        let item = path.index(at);
        let why = format!("only deletion is allowed, but found new scheduling gate '{}'", gate.text("name"));
        errors.forbidden(&item.child("name"), &why);
    }
}

/// A pod that waits may be told more of where it goes, never less.
fn node_selector(new: &Value, old: &Value, errors: &mut Errors) {
    let now = new.look("spec.nodeSelector");
    if old.entries("spec.nodeSelector").any(|(key, value)| now.get(key) != Some(value)) {
        let why = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        errors.invalid(&Path::root("spec.nodeSelector"), now.clone(), why);
    }
}

/// The same for its affinity to nodes, which then is as it was in `same`; to other pods it stays.
fn node_affinity(same: &mut Value, old: &Value, errors: &mut Errors) {
    const NODE: &str = "affinity.nodeAffinity";
    const TERMS: &str = "requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
    let (now, had) = (same.look(NODE).clone(), old.look("spec").look(NODE));
    if &now == had {
        return;
    }
    let (terms, before) = (now.items(TERMS), had.items(TERMS));
    let path = Path::root("spec.affinity.nodeAffinity");
    let list = path.child(TERMS);
    let show = |term: &Value| golang::show(term, "NodeSelectorTerm");
    if !before.is_empty() && before.len() != terms.len() {
        let shown = match now.has("requiredDuringSchedulingIgnoredDuringExecution") {
            true => format!("[{}]", terms.iter().map(show).collect::<Vec<_>>().join(",")),
            false => "null".to_owned(),
        };
        let why = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        errors.invalid_json(&list, &shown, why);
    } else {
        for (at, (term, _)) in terms.iter().zip(before).enumerate().filter(|(_, (term, had))| !only_adds(term, had)) {
            errors.invalid_json(&list.index(at), &show(term), "only additions are allowed (no mutations or deletions)");
        }
    }
    let others = ["affinity.podAffinity", "affinity.podAntiAffinity"];
    match had {
        Value::Null if !old.has("spec.affinity") && !others.iter().any(|other| same.has(other)) => same.cut("affinity"),
        Value::Null => same.cut(NODE),
        had => {
            same.set(NODE, had.clone());
            None
        }
    };
}

/// Whether a term asks for all that it asked for, in the same order, and perhaps more. One that asks for nothing chooses nothing.
fn only_adds(term: &Value, had: &Value) -> bool {
    let lists = ["matchExpressions", "matchFields"];
    let empty = |term: &Value| lists.iter().all(|list| term.items(list).is_empty());
    (!empty(had) || empty(term)) && lists.iter().all(|list| term.items(list).starts_with(had.items(list)))
}

/// The quality of service is decided once. What belongs to features that are off by default upstream is dropped.
pub(crate) fn prepare_status(new: &mut Value, old: &Value) {
    new.cut("status.nodeAllocatableResourceClaimStatuses");
    for list in ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"] {
        for status in new.items_mut(&format!("status.{list}")) {
            for mount in status.items_mut("volumeMounts") {
                mount.cut("volumeStatus");
            }
        }
    }
    keep_generations(new, old);
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

/// Which specification a status and its conditions are about is not forgotten by who does not know of it. Conditions of one type are
/// taken in their order.
fn keep_generations(new: &mut Value, old: &Value) {
    const FIELD: &str = "observedGeneration";
    let had = old.int("status.observedGeneration").filter(|had| *had != 0);
    if let Some(had) = had.filter(|_| new.int("status.observedGeneration").unwrap_or(0) == 0) {
        new.set("status.observedGeneration", had);
    }
    let mut before: Vec<&Value> = old.items("status.conditions").iter().collect();
    for condition in new.items_mut("status.conditions") {
        let Some(at) = before.iter().position(|had| had.text("type") == condition.text("type")) else { continue };
        let had = before.remove(at).int(FIELD).filter(|had| *had != 0);
        if let Some(had) = had.filter(|_| condition.int(FIELD).unwrap_or(0) == 0) {
            condition.set(FIELD, had);
        }
    }
}

/// What admission gives a new pod, a changed one has, too.
pub(crate) fn prepare(new: &mut Value, old: &Value) {
    for field in ["spec.priority", "spec.preemptionPolicy"] {
        if !new.has(field) && old.has(field) {
            new.set(field, old.look(field).clone());
        }
    }
    super::default::tolerate(new);
}

/// The changes that `ephemeralcontainers` makes: nothing but new ones.
pub(crate) fn ephemeral(new: &Value, old: &Value, errors: &mut Errors) {
    if annotations::is_mirror(old) {
        errors.forbidden(&Path::NOWHERE, "static pods do not support ephemeral containers");
        return;
    }
    super::validate(new, errors);
    let path = Path::root("spec.ephemeralContainers");
    let now = new.items("spec.ephemeralContainers");
    for had in old.items("spec.ephemeralContainers") {
        let name = had.text("name");
        match now.iter().find(|c| c.text("name") == name) {
            None => errors.forbidden(&path, &format!("existing ephemeral containers {name:?} may not be removed\n")),
            Some(same) if same == had => {}
            Some(other) => {
                let what = golang::difference(had, other, "EphemeralContainer");
                errors.forbidden(&path, &format!("existing ephemeral containers {name:?} may not be changed\n{what}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(old: &Value, change: impl FnOnce(&mut Value)) -> Vec<String> {
        let mut new = old.clone();
        change(&mut new);
        let mut errors = Errors::default();
        validate(&new, old, &mut errors);
        // The first line only of what is different.
        errors.told().into_iter().map(|text| text.lines().next().unwrap_or_default().to_owned()).collect()
    }

    #[test]
    fn a_status_says_still_what_it_is_about() {
        let condition = |kind: &str, generation: i64| json!({"type": kind, "observedGeneration": generation});
        let old = json!({"status": {"observedGeneration": 3, "qosClass": "Burstable",
            "conditions": [condition("a", 1), condition("a", 2), condition("b", 3)]}});
        let mut new = json!({"status": {"conditions": [{"type": "a"}, condition("b", 4), {"type": "a"}, {"type": "a"}, {"type": "c"}]}});
        prepare_status(&mut new, &old);
        assert_eq!(
            new["status"],
            json!({"observedGeneration": 3, "qosClass": "Burstable", "conditions":
                [condition("a", 1), condition("b", 4), condition("a", 2), {"type": "a"}, {"type": "c"}]})
        );
    }

    fn gated() -> Value {
        let term = json!({"matchExpressions": [{"key": "a", "operator": "Exists"}]});
        json!({"spec": {
            "containers": [{"name": "c", "image": "i"}], "schedulingGates": [{"name": "g"}], "nodeSelector": {"a": "1"},
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}},
        }})
    }

    #[test]
    fn a_pod_that_waits_is_told_more_of_where_it_goes_and_never_less() {
        let old = gated();
        assert_eq!(told(&old, |pod| pod["spec"]["nodeSelector"] = json!({"a": "1", "b": "2"})), [""; 0]);
        assert_eq!(
            told(&old, |pod| pod["spec"]["nodeSelector"] = json!({"a": "2"})),
            [
                "spec.nodeSelector: Invalid value: {\"a\":\"2\"}: only additions to spec.nodeSelector are allowed (no mutations or deletions)"
            ]
        );
        const TERMS: &str =
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
        let term = |terms: Value| move |pod: &mut Value| pod.set(TERMS, terms);
        let (kept, more) = (json!({"key": "a", "operator": "Exists"}), json!({"key": "b", "operator": "Exists"}));
        assert_eq!(told(&old, term(json!([{"matchExpressions": [kept, more]}]))), [""; 0]);
        let shown =
            "{\"MatchExpressions\":[{\"Key\":\"b\",\"Operator\":\"Exists\",\"Values\":null}],\"MatchFields\":null}";
        assert_eq!(
            told(&old, term(json!([{"matchExpressions": [more]}]))),
            [format!("{TERMS}[0]: Invalid value: {shown}: only additions are allowed (no mutations or deletions)")]
        );
        assert_eq!(
            told(&old, |pod| {
                pod["spec"].cut("affinity");
            }),
            [format!(
                "{TERMS}: Invalid value: null: no additions/deletions to non-empty NodeSelectorTerms list are allowed"
            )]
        );
        assert_eq!(
            told(&old, |pod| pod.set("spec.affinity.podAffinity", json!({}))),
            [format!("spec: Forbidden: {WHY}")]
        );
    }

    #[test]
    fn a_pod_without_affinity_that_waits_is_given_some_to_nodes() {
        let mut old = gated();
        old["spec"].cut("affinity");
        let given = gated()["spec"]["affinity"].clone();
        assert_eq!(told(&old, |pod| pod["spec"]["affinity"] = given.clone()), [""; 0]);
        old["spec"]["schedulingGates"] = json!([]);
        assert_eq!(told(&old, |pod| pod["spec"]["affinity"] = given), [format!("spec: Forbidden: {WHY}")]);
    }

    #[test]
    fn gates_are_only_taken_away() {
        let gates = json!([{"name": "x"}, {"name": "g"}, {"name": "y"}]);
        let why = "only deletion is allowed, but found new scheduling gate";
        assert_eq!(
            told(&gated(), |pod| pod["spec"]["schedulingGates"] = gates),
            [(0, "x"), (2, "y")]
                .map(|(at, gate)| format!("spec.schedulingGates[{at}].name: Forbidden: {why} '{gate}'"))
        );
    }

    #[test]
    fn a_deadline_that_is_put_off_hides_what_else_is_wrong() {
        let mut old = gated();
        old.set("spec.activeDeadlineSeconds", 5);
        let change = |seconds: Value| {
            move |pod: &mut Value| {
                pod.set("spec.activeDeadlineSeconds", seconds);
                pod.set("spec.hostPID", true);
            }
        };
        const AT: &str = "spec.activeDeadlineSeconds: Invalid value";
        assert_eq!(told(&old, change(json!(9))), [format!("{AT}: 9: must be less than or equal to previous value")]);
        assert_eq!(told(&old, change(json!(-1))), [format!("{AT}: -1: must be between 0 and 2147483647, inclusive")]);
        assert_eq!(
            told(&old, change(Value::Null)),
            [
                format!("{AT}: null: must not update from a positive integer to nil value"),
                format!("spec: Forbidden: {WHY}"),
            ]
        );
    }

    #[test]
    fn images_and_tolerations_are_checked_as_changes_too() {
        assert_eq!(
            told(&gated(), |pod| {
                pod.set("spec.tolerations", json!([{"operator": "Exists", "value": "x"}]));
                pod["spec"]["containers"][0]["image"] = json!(" i");
            }),
            [
                "spec.containers[0].image: Invalid value: \" i\": must not have leading or trailing whitespace",
                "spec.tolerations[0].operator: Invalid value: \"x\": value must be empty when `operator` is 'Exists'",
            ]
        );
    }
}
