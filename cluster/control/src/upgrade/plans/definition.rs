//! The definition of the kind Plan: upstream's fields, in a schema that is small. What is within a container, a volume or a toleration is
//! kept as it is and judged by [`super::translate`].

use kedge_api::{Key, Snapshot};
use serde_json::{Value, json};

use super::GROUP;
use crate::upgrade::definition::bears;
use crate::upgrade::kind::DEFINITIONS;

pub const NAME: &str = "plans.upgrade.cattle.io";
/// By this the definition is told from upstream's, also where that one was laid over it.
pub const MARK: &str = "A Plan of k3s' system-upgrade-controller, as far as it means an Upgrade.";

/// Whether Plans are served as they are defined here.
pub fn is_ours(snapshot: &Snapshot) -> bool {
    let found = snapshot.get(&Key::new(DEFINITIONS, "", NAME)).filter(|object| !object.is_deleting());
    found.is_some_and(|object| bears(object, MARK))
}

pub fn plans() -> Value {
    let string = |description: &str| json!({"type": "string", "description": description});
    let flag = |description: &str| json!({"type": "boolean", "description": description});
    let integer = |description: &str| json!({"type": "integer", "format": "int64", "description": description});
    let any = |description: &str| json!({"type": "object", "description": description, "x-kubernetes-preserve-unknown-fields": true});
    let list = |description: &str, items: Value| json!({"type": "array", "description": description, "items": items});
    let container = |description: &str| {
        let image = string(
            "HOST/REPOSITORY of a Kedge bundle, with or without oci:// before it; the tag is the version where it has none. {board} stands for the machine's board.",
        );
        json!({"type": "object", "description": description, "required": ["image"], "properties": {"image": image},
            "x-kubernetes-preserve-unknown-fields": true})
    };
    let days = json!({"type": "array", "minItems": 1, "items": {"type": "string"}});
    let window = json!({"type": "object", "description": "When nodes may be begun.", "properties": {"days": days,
        "startTime": string("Such as 22:30 or 3pm."), "endTime": string("Before startTime: on the next day."), "timeZone": string("UTC where not given.")}});
    let labels = json!({"type": "object", "description": "Given to a node that is done; $(LATEST_HASH) and $(LATEST_VERSION) are put in.",
        "additionalProperties": {"type": "string"}});
    let unused = "No Job is run: it has no meaning here.";
    let refused = "No container is run: it is refused.";
    let spec = json!({"type": "object", "required": ["upgrade"], "properties": {
        "concurrency": integer("Nodes at the same time."), "nodeSelector": any("Which nodes, by a label selector; none without it."),
        "version": string("The tag of the bundle; + stands as -."), "channel": string("It is not asked: give version."),
        "upgrade": container("What is to run."), "prepare": container(refused),
        "cordon": flag("Nodes are cordoned in any case."), "drain": any("How pods leave; without it they stay."),
        "window": window, "postCompleteDelay": string("How long a node must have been Ready before the next one begins."),
        "postCompleteLabels": labels, "exclusive": flag("Upgrades never share a node."),
        "serviceAccountName": string(unused), "tolerations": list(unused, any("")), "priorityClassName": string(unused),
        "jobActiveDeadlineSecs": integer(unused), "secrets": list(refused, any("")), "imagePullSecrets": list(refused, any(""))}});
    let status = json!({"type": "object", "properties": {
        "conditions": list("Validated, LatestResolved and Complete.", any("")), "latestVersion": string("With which it goes on."),
        "latestHash": string("In the label plan.upgrade.cattle.io/NAME of nodes that are done."),
        "applying": list("Nodes that are out of service for it.", json!({"type": "string"}))}});
    let column = |name: &str, path: &str| json!({"name": name, "type": "string", "jsonPath": path});
    json!({
        "group": GROUP, "scope": "Namespaced",
        "names": {"plural": "plans", "singular": "plan", "kind": "Plan", "listKind": "PlanList"},
        "versions": [{
            "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
            "additionalPrinterColumns": [
                column("Image", ".spec.upgrade.image"), column("Channel", ".spec.channel"), column("Version", ".spec.version"),
                column("Complete", ".status.conditions[?(@.type=='Complete')].status"),
                column("Message", ".status.conditions[?(@.message!='')].message"),
                {"name": "Applying", "type": "string", "priority": 10, "jsonPath": ".status.applying"}],
            "schema": {"openAPIV3Schema": {"type": "object", "required": ["spec"], "description": MARK, "properties": {"spec": spec, "status": status}}},
        }],
    })
}
