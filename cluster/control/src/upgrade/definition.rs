//! The kinds that are served where there are machines, and how they come to be.
//!
//! A cluster without the kind `Machine` has nothing to upgrade, and gets none of them.

use kedge_api::{Change, GroupResource, Key, Object, Snapshot, Status};
use serde_json::{Value, json};

use super::kind::{DEFINITIONS, GROUP};
use super::plans::definition as plans;
use crate::controller::{Controller, Now, Plan, Step};
use crate::hash::template_hash;

const WATCHES: &[GroupResource] = &[DEFINITIONS];
const MACHINES: &str = "machines.kedge.dev";
/// On a definition that was made here: what it was made of.
const MADE_OF: &str = "kedge.dev/definition";

struct Kind {
    name: &'static str,
    spec: fn() -> Value,
    /// What its schema's description begins with. A definition of that name without it is somebody else's, and stays as it is.
    mark: &'static str,
}

const MARK: &str = "What the machines of nodes are to run.";
const KINDS: &[Kind] = &[
    Kind { name: "upgrades.kedge.dev", spec: upgrades, mark: MARK },
    Kind { name: plans::NAME, spec: plans::plans, mark: plans::MARK },
];

pub struct UpgradeKinds;

impl Controller for UpgradeKinds {
    fn name(&self) -> &'static str {
        "upgrade-kinds-controller"
    }

    fn account(&self) -> &'static str {
        "upgrade-controller"
    }

    fn watches(&self) -> &'static [GroupResource] {
        WATCHES
    }

    fn keys(&self, _: &Snapshot, change: &Change, keys: &mut Vec<Key>) {
        let name = &*change.key.name;
        let machines = name == MACHINES && change.before.is_none();
        let concerned = KINDS.iter().filter(|kind| machines || kind.name == name);
        keys.extend(concerned.map(|kind| Key::new(DEFINITIONS, "", kind.name)));
    }

    fn plan(&self, snapshot: &Snapshot, key: &Key, _: Now) -> Result<Plan, Status> {
        let mut plan = Plan::default();
        let machines = snapshot.get(&Key::new(DEFINITIONS, "", MACHINES));
        let kind = KINDS.iter().find(|kind| *kind.name == *key.name);
        let (Some(_), Some(kind)) = (machines, kind) else { return Ok(plan) };
        let spec = (kind.spec)();
        let hash = template_hash(&spec, None)?;
        let annotations = json!({MADE_OF: hash});
        match snapshot.get(key) {
            None => {
                let meta = json!({"name": kind.name, "annotations": annotations});
                let object = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                    "metadata": meta, "spec": spec});
                plan.push(Step::Create { resource: DEFINITIONS, objects: vec![object], told: None });
            }
            Some(object) if !object.is_deleting() => {
                let made_of = object.meta.annotations.as_ref().and_then(|all| all.get(MADE_OF));
                if made_of.is_some_and(|made_of| *made_of != hash) && bears(object, kind.mark) {
                    let meta = json!({"uid": object.uid(), "annotations": annotations});
                    plan.patch(object, "", json!({"metadata": meta, "spec": spec}));
                }
            }
            Some(_) => {}
        }
        Ok(plan)
    }
}

/// Whether a definition describes its kind as one made here does.
pub fn bears(definition: &Object, mark: &str) -> bool {
    let whole: Value = definition.decode().unwrap_or_default();
    let versions = whole.pointer("/spec/versions").and_then(Value::as_array).into_iter().flatten();
    let mut texts = versions.filter_map(|version| version.pointer("/schema/openAPIV3Schema/description")?.as_str());
    texts.any(|text| text.starts_with(mark))
}

fn text(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

fn number(least: u32, description: &str) -> Value {
    json!({"type": "integer", "format": "int64", "minimum": least, "description": description})
}

fn flag(description: &str) -> Value {
    json!({"type": "boolean", "description": description})
}

fn time(description: &str) -> Value {
    json!({"type": "string", "format": "date-time", "description": description})
}

fn object(description: &str, properties: Value) -> Value {
    json!({"type": "object", "description": description, "properties": properties})
}

fn list(description: &str, items: Value) -> Value {
    json!({"type": "array", "description": description, "items": items})
}

fn rule(rule: &str, message: &str) -> Value {
    json!({"rule": rule, "message": message})
}

fn with(mut schema: Value, fields: Value) -> Value {
    if let (Some(schema), Value::Object(fields)) = (schema.as_object_mut(), fields) {
        schema.extend(fields);
    }
    schema
}

fn label_selector(description: &str) -> Value {
    let strings = json!({"type": "array", "maxItems": 100, "items": {"type": "string", "maxLength": 63}});
    let operator = json!({"type": "string", "enum": ["In", "NotIn", "Exists", "DoesNotExist"]});
    let requirement = json!({"type": "object", "required": ["key", "operator"],
        "properties": {"key": {"type": "string"}, "operator": operator, "values": strings},
        "x-kubernetes-validations": [rule(
            "(self.operator in ['In', 'NotIn']) == (has(self.values) && self.values.size() > 0)",
            "In and NotIn need values, Exists and DoesNotExist take none")]});
    let labels = json!({"type": "object", "additionalProperties": {"type": "string"}});
    object(
        description,
        json!({"matchLabels": labels, "matchExpressions": {"type": "array", "maxItems": 20, "items": requirement}}),
    )
}

fn upgrade_spec() -> Value {
    let time_of_day =
        |description: &str| with(text(description), json!({"pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]$"}));
    let window = with(
        object(
            "When machines may be upgraded, each day, in UTC. One that has begun goes on beyond its end.",
            json!({"start": time_of_day("Such as 02:00."), "end": time_of_day("Such as 05:00; earlier than start: on the next day.")}),
        ),
        json!({"required": ["start", "end"],
            "x-kubernetes-validations": [rule("self.start != self.end", "start and end must differ")]}),
    );
    let pods = with(
        object(
            "",
            json!({"namespace": text("Where they are."), "selector": label_selector("Which they are; all, if it says nothing.")}),
        ),
        json!({"required": ["namespace"]}),
    );
    let port = json!({"type": "integer", "minimum": 1, "maximum": 65535, "description": "The port."});
    let http = json!({"host": text("This machine where not given."),
        "port": port, "path": text("Such as /healthz.")});
    let tcp = json!({"host": text("This machine where not given."), "port": port});
    let probe = object(
        "What must answer.",
        json!({"httpGet": with(object("Well with an answer below 400.", http), json!({"required": ["port"]})), "tcpSocket": with(object("Well if it takes a connection.", tcp), json!({"required": ["port"]}))}),
    );
    let gate = object(
        "What must hold before a machine keeps the new system, beside its API and its node; else it goes back by itself.",
        json!({"pods": with(list("Pods that must be Ready.", pods), json!({"maxItems": 50})), "probe": probe,
            "soakSeconds": number(0, "For how long all must hold."),
            "limitSeconds": number(1, "By when; after that the machine goes back."),
            "coldBoot": flag("Whether it must hold once more after a restart.")}),
    );
    let drain = object(
        "How pods are moved away before a machine starts the new system. Where no other node could take them they stay.",
        json!({"disabled": flag("Pods stay on the node, and start again with it."),
            "timeoutSeconds": with(number(1, "How long it may take; after that the node counts as failed."), json!({"default": 600})),
            "force": flag("Also deletes pods that have no controller, which nobody makes anew."),
            "deleteEmptyDirData": flag("Also evicts pods with emptyDir volumes, whose data is lost.")}),
    );
    let source = with(
        text(
            "The bundle: http(s)://HOST/…/NAME.kedge or oci://HOST/REPOSITORY[:TAG|@sha256:DIGEST] (oci+http:// without TLS); {board} stands for the machine's board.",
        ),
        json!({"maxLength": 2048, "x-kubernetes-validations": [rule(
            "self.matches('^(https?|oci|oci[+]http)://[^/ ]+/[^ ]+$')",
            "must be http(s)://HOST/…/NAME.kedge or oci://HOST/REPOSITORY[:TAG|@sha256:DIGEST]")]}),
    );
    let concurrency = json!({"x-kubernetes-int-or-string": true, "default": 1, "maxLength": 4,
        "description": "Nodes at the same time: a number, or a part of all such as 10%, rounded down and at least one. Of servers there is one at a time.",
        "x-kubernetes-validations": [rule(
            "type(self) == string ? self.matches('^([1-9][0-9]?|100)%$') : self >= 1",
            "must be at least 1, or 1% to 100%")]});
    with(
        object(
            "What is to run where, and how it comes there.",
            json!({"source": source,
                "certificateAuthorities": text("PEM: whose certificate the server may show, beside those that everybody trusts."),
                "attempt": number(0, "A higher number asks once more for what failed."),
                "digest": with(text("SHA-256, in hex, of the manifest of the system in the bundle. Without it what the source holds at the time counts."),
                    json!({"pattern": "^[0-9a-f]{64}$"})),
                "bytesPerSecond": number(1, "At most so much is fetched by each machine."),
                "window": window, "gate": gate,
                "nodeSelector": label_selector("Nodes by their labels; all that have a machine where it is not given."),
                "concurrency": concurrency,
                "prefetch": with(flag("All machines fetch and install before the first one starts it."), json!({"default": true})),
                "drain": drain,
                "minReadySeconds": number(0, "How long a node must have been Ready before it counts as upgraded."),
                "paused": flag("No further node is begun; those that have begun come to their end."),
                "abort": flag("Takes back what has not begun. What has begun comes to its end."),
                "maxFailures": with(number(0, "Nodes that may fail before nothing more is begun."), json!({"default": 0}))}),
        ),
        json!({"required": ["source"]}),
    )
}

fn upgrade_status() -> Value {
    let phases = |description: &str| text(description);
    let condition = json!({"type": "object", "required": ["type", "status"], "properties": {
        "type": text("Progressing, Complete or Failed."), "status": text("True or False."), "reason": text("As the phase."),
        "message": text("For people."), "observedGeneration": {"type": "integer"}, "lastTransitionTime": time("Since when.")}});
    let counts = json!({"nodes": text("Completed ones of those selected, such as 3/12."), "selected": {"type": "integer"},
        "completed": {"type": "integer"}, "failed": {"type": "integer"}});
    let node = json!({"name": text("The node's."),
        "phase": phases("Pending, Fetching, Installed, Draining, Upgrading, Settling, Completed, Failed or Aborted."),
        "reason": text("Why it failed: DrainRefused, DrainTimeout, MachineFailed or NodeNotReady."),
        "version": text("Of the new system."), "message": text("For people."), "startedAt": time("When its turn came."),
        "lastTransitionTime": time("Since when it is in this phase."), "finishedAt": time("When it was done or failed.")});
    let past = json!({"source": text("What it was about."), "digest": text(""), "version": text(""), "phase": phases("How far it came."),
        "nodes": text(""), "failed": {"type": "integer"}, "startedAt": time(""), "finishedAt": time("")});
    object(
        "How far it is.",
        json!({"phase": phases("Pending, Fetching, Progressing, Paused, Stopped (by failures), Aborting, Aborted or Completed."),
            "message": text("For people."), "observedGeneration": {"type": "integer"},
            "source": text("What the rest is about."), "digest": text(""), "attempt": {"type": "integer"}, "version": text("Of the new system."),
            "counts": object("", counts), "current": text("Nodes that are out of service for it."),
            "startedAt": time(""), "finishedAt": time(""),
            "conditions": with(list("", condition), json!({"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]})),
            "nodes": list("Servers first.", object("", node)),
            "history": list("Earlier sources, the latest first.", object("", past))}),
    )
}

fn upgrades() -> Value {
    let column = |name: &str, kind: &str, path: &str| json!({"name": name, "type": kind, "jsonPath": path});
    let wide = |name: &str, path: &str| json!({"name": name, "type": "string", "priority": 1, "jsonPath": path});
    let schema = json!({"type": "object", "required": ["spec"],
        "description": format!("{MARK} They come to it a few at a time, each out of service meanwhile."),
        "properties": {"spec": upgrade_spec(), "status": upgrade_status()}});
    json!({
        "group": GROUP, "scope": "Cluster",
        "names": {"plural": "upgrades", "singular": "upgrade", "kind": "Upgrade", "listKind": "UpgradeList", "shortNames": ["upg"]},
        "versions": [{
            "name": "v1alpha1", "served": true, "storage": true, "subresources": {"status": {}},
            "additionalPrinterColumns": [
                column("Phase", "string", ".status.phase"), column("Nodes", "string", ".status.counts.nodes"),
                column("Failed", "integer", ".status.counts.failed"), column("Current", "string", ".status.current"),
                column("Version", "string", ".status.version"), column("Age", "date", ".metadata.creationTimestamp"),
                wide("Source", ".spec.source"), wide("Message", ".status.message")],
            "schema": {"openAPIV3Schema": schema},
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Facts, at};

    fn plan(facts: &Facts, name: &str) -> Plan {
        UpgradeKinds.plan(&facts.snapshot, &Key::new(DEFINITIONS, "", name), at(0)).unwrap()
    }

    #[test]
    fn kinds_are_made_where_there_are_machines_and_those_of_others_stay() {
        let mut facts = Facts::default();
        assert_eq!(plan(&facts, "upgrades.kedge.dev"), Plan::default(), "nothing to upgrade");
        let machines = facts.add(DEFINITIONS, json!({"metadata": {"name": MACHINES}}));
        let change =
            Change { revision: machines.revision, key: machines.key.clone(), before: None, after: Some(machines) };
        let mut keys = Vec::new();
        UpgradeKinds.keys(&facts.snapshot, &change, &mut keys);
        assert_eq!(keys.len(), KINDS.len());
        for kind in KINDS {
            let steps = plan(&facts, kind.name).steps;
            let [Step::Create { objects, .. }] = &steps[..] else { panic!("{steps:?}") };
            let made = objects[0].clone();
            facts.add(DEFINITIONS, made.clone());
            assert_eq!(plan(&facts, kind.name).steps, [], "it is as it should be");
            // Of another version of Kedge; of the same, with somebody else's laid over it; of nobody here.
            let mut older = made.clone();
            older["metadata"]["annotations"][MADE_OF] = "older".into();
            facts.add(DEFINITIONS, older.clone());
            assert!(matches!(&plan(&facts, kind.name).steps[..], [Step::Patch { .. }]));
            older["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"] = "Theirs.".into();
            facts.add(DEFINITIONS, older);
            assert_eq!(plan(&facts, kind.name).steps, []);
            facts.add(DEFINITIONS, json!({"metadata": {"name": kind.name}, "spec": made["spec"]}));
            assert_eq!(plan(&facts, kind.name).steps, []);
        }
    }
}
