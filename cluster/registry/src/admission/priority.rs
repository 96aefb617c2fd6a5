//! How important a pod is, from its class or from the one that is the default.

use kedge_api::resource::known;
use kedge_api::{GroupResource, Key, Object, Status};
use serde_json::{Value, json};

use super::{Attributes, Operation};
use crate::strategy::Scope;
use crate::value::{Fill as _, Look as _};

const CLASSES: GroupResource = known::PRIORITY_CLASSES;

const PREEMPTS: &str = "PreemptLowerPriority";

pub(super) fn of_pod(scope: &Scope<'_>, attributes: &Attributes<'_>, pod: &mut Value) -> Result<(), Status> {
    if let Some(old) = attributes.old {
        // What was computed once stays, even if a client leaves it out.
        for field in ["spec.priority", "spec.preemptionPolicy"].into_iter().filter(|field| old.has(field)) {
            pod.fill(field, old.look(field).clone());
        }
        return Ok(());
    }
    let name = pod.text("spec.priorityClassName").to_owned();
    let class = if name.is_empty() { default(scope)? } else { find(scope, &name)? };
    let Some(class) = class else {
        return Err(attributes.forbidden(pod, &format!("no PriorityClass with name {name} was found")));
    };
    let (value, policy) = (class.int("value").unwrap_or(0), class.text("preemptionPolicy"));
    if let Some(given) = pod.int("spec.priority").filter(|given| *given != value) {
        let why = format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {value} \
             from the given PriorityClass name"
        );
        return Err(attributes.forbidden(pod, &why));
    }
    let given = pod.text("spec.preemptionPolicy");
    if !policy.is_empty() && !given.is_empty() && given != policy {
        let why = format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed \
             {policy} from the given PriorityClass name"
        );
        return Err(attributes.forbidden(pod, &why));
    }
    if name.is_empty() && class.has("metadata") {
        pod.set("spec.priorityClassName", class.text("metadata.name"));
    }
    pod.set("spec.priority", value);
    if !policy.is_empty() {
        pod.set("spec.preemptionPolicy", policy);
    }
    Ok(())
}

fn find(scope: &Scope<'_>, name: &str) -> Result<Option<Value>, Status> {
    scope.snapshot.get(&Key::new(CLASSES, "", name)).map(|class| class.decode()).transpose()
}

/// The default of lowest value, or none of any.
fn default(scope: &Scope<'_>) -> Result<Option<Value>, Status> {
    let none = json!({"value": 0, "preemptionPolicy": PREEMPTS});
    Ok(Some(defaults(scope)?.into_iter().min_by_key(|class| class.int("value")).unwrap_or(none)))
}

fn defaults(scope: &Scope<'_>) -> Result<Vec<Value>, Status> {
    let classes: Result<Vec<Value>, Status> = scope.snapshot.list(&CLASSES, "").map(|o| Object::decode(o)).collect();
    Ok(classes?.into_iter().filter(|class| class.flag("globalDefault")).collect())
}

/// There is one default at most.
pub(super) fn one_default(
    scope: &Scope<'_>,
    attributes: &Attributes<'_>,
    class: &Value,
    _: &mut Vec<String>,
) -> Result<(), Status> {
    if !class.flag("globalDefault") {
        return Ok(());
    }
    let defaults = defaults(scope)?;
    let Some(found) = defaults.iter().min_by_key(|class| class.int("value")) else { return Ok(()) };
    let name = found.text("metadata.name");
    if attributes.operation == Operation::Update && name == class.text("metadata.name") {
        return Ok(());
    }
    let why = format!("PriorityClass {name} is already marked as default. Only one default can exist");
    Err(attributes.forbidden(class, &why))
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::*;

    fn class(name: &str, value: i64, default: bool, policy: &str) -> (GroupResource, Value) {
        let meta = json!({"name": name});
        (CLASSES, json!({"metadata": meta, "value": value, "globalDefault": default, "preemptionPolicy": policy}))
    }

    #[test]
    fn a_pod_gets_its_class_s_priority() {
        let world = World::new(&known::PODS, &[class("high", 7, false, "Never"), class("usual", 3, true, PREEMPTS)]);
        let spec = |spec: Value| {
            let pod = json!({"metadata": {"name": "p"}, "spec": spec});
            world.admit(of_pod, None, pod).map(|pod| pod["spec"].clone())
        };
        assert_eq!(
            spec(json!({"priorityClassName": "high"})),
            Ok(json!({"priorityClassName": "high", "priority": 7, "preemptionPolicy": "Never"}))
        );
        assert_eq!(
            spec(json!({})),
            Ok(json!({"priorityClassName": "usual", "priority": 3, "preemptionPolicy": PREEMPTS}))
        );
        for (wrong, message) in [
            (json!({"priorityClassName": "x"}), "pods \"p\" is forbidden: no PriorityClass with name x was found"),
            (
                json!({"priorityClassName": "high", "priority": 8}),
                "pods \"p\" is forbidden: the integer value of priority (8) must not be provided in pod spec; priority admission \
                 controller computed 7 from the given PriorityClass name",
            ),
            (
                json!({"priorityClassName": "high", "preemptionPolicy": PREEMPTS}),
                "pods \"p\" is forbidden: the string value of PreemptionPolicy (PreemptLowerPriority) must not be provided in pod \
                 spec; priority admission controller computed Never from the given PriorityClass name",
            ),
        ] {
            assert_eq!(spec(wrong), Err(message.to_owned()));
        }
        let old = json!({"spec": {"priority": 9}});
        assert_eq!(world.admit(of_pod, Some(&old), json!({"spec": {}})), Ok(json!({"spec": {"priority": 9}})));
    }

    #[test]
    fn only_one_class_is_the_default() {
        let world = World::new(&CLASSES, &[class("usual", 3, true, PREEMPTS)]);
        let (_, other) = class("other", 1, true, PREEMPTS);
        let refused = "priorityclasses.scheduling.k8s.io \"other\" is forbidden: PriorityClass usual is already marked as default. \
                       Only one default can exist";
        assert_eq!(world.validate(one_default, None, &other), Err(refused.to_owned()));
        let (_, same) = class("usual", 5, true, PREEMPTS);
        assert_eq!(world.validate(one_default, Some(&same), &same), Ok(vec![]));
        let (_, plain) = class("other", 1, false, PREEMPTS);
        assert_eq!(world.validate(one_default, None, &plain), Ok(vec![]));
    }
}
