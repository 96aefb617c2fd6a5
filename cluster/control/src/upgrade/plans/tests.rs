//! Plans and what becomes of them: the translation as a table, and the controller over objects written down as JSON.

use json_patch::merge;
use kedge_api::Key;
use kedge_api::resource::known::NODES;
use serde_json::{Value, json};

use super::translate::translate;
use super::*;
use crate::testing::{Facts, at};

fn spec(more: Value) -> Value {
    let mut spec = json!({"version": "v1.2+kedge3", "nodeSelector": {}, "upgrade": {"image": "registry.example.com/kedge/{board}"}});
    merge(&mut spec, &more);
    spec
}

#[test]
fn what_a_plan_says_stands_in_an_upgrade() {
    let drained = |timeout: u64| json!({"disabled": false, "force": false, "deleteEmptyDirData": true, "timeoutSeconds": timeout});
    for (said, path, expected) in [
        (json!({}), "/source", json!("oci://registry.example.com/kedge/{board}:v1.2-kedge3")),
        (json!({"upgrade": {"image": "oci://localhost:5000/k:v2"}}), "/source", json!("oci://localhost:5000/k:v2")),
        (
            json!({"upgrade": {"image": "r.example.com/k@sha256:ab"}}),
            "/source",
            json!("oci://r.example.com/k@sha256:ab"),
        ),
        (json!({}), "/concurrency", json!(1)),
        (json!({"concurrency": 3}), "/concurrency", json!(3)),
        (json!({}), "/drain/disabled", json!(true)),
        (json!({"drain": {}}), "/drain", drained(600)),
        (json!({"drain": {"timeout": "1h30m", "gracePeriod": -1}}), "/drain", drained(5400)),
        (json!({"drain": {"timeout": 300_000_000_000_u64}}), "/drain", drained(300)),
        (json!({"drain": {"deleteLocalData": false}}), "/drain/deleteEmptyDirData", json!(false)),
        (json!({"drain": {"force": true}}), "/drain/force", json!(true)),
        (json!({"postCompleteDelay": "90s"}), "/minReadySeconds", json!(90)),
        (json!({}), "/paused", Value::Null),
        (json!({"window": {"days": ["su"], "startTime": "1:00", "endTime": "2:00"}}), "/paused", json!(true)),
        (
            json!({"nodeSelector": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}}),
            "/nodeSelector/matchExpressions",
            json!([{"key": "a", "operator": "Exists"}, {"key": "plan.upgrade.cattle.io/p", "operator": "NotIn", "values": ["disabled"]}]),
        ),
    ] {
        let translated = translate(&spec(said.clone()), "p", at(0)).unwrap();
        assert_eq!(translated.spec.pointer(path).cloned().unwrap_or_default(), expected, "{said}");
        assert_eq!(translated.version, "v1.2-kedge3");
    }
    let labelled = spec(
        json!({"serviceAccountName": "s", "postCompleteLabels": {"v": "$(LATEST_VERSION)", "h": "x-$(LATEST_HASH)"}}),
    );
    let translated = translate(&labelled, "p", at(0)).unwrap();
    // printf 'v1.2-kedge3s' | sha224sum
    assert_eq!(translated.hash, "94da5b01d356a842251437338c927770ce279d3534a0f9061b46782b");
    assert_eq!(
        (translated.labels["v"].as_str(), &translated.labels["h"]),
        ("v1.2-kedge3", &format!("x-{}", translated.hash))
    );
    assert_eq!(translated.without_meaning, ["serviceAccountName", "cordon: false"]);
}

#[test]
fn what_cannot_be_done_is_refused_with_its_reason() {
    for (said, reason, message) in [
        (
            json!({"upgrade": {"image": "rancher/k3s-upgrade"}}),
            "NotABundle",
            "\"rancher/k3s-upgrade\" is a container that upgrades another system",
        ),
        (
            json!({"upgrade": {"image": "docker.io/rancher/k3s-upgrade:v1"}}),
            "NotABundle",
            "is a container that upgrades another system",
        ),
        (json!({"upgrade": {"image": "ubuntu"}}), "NotABundle", "names no bundle in a registry"),
        (json!({"upgrade": {"image": "https://example.com/x.kedge"}}), "NotABundle", "names no bundle in a registry"),
        (json!({"upgrade": {"command": ["sh"]}}), "NotSupported", "spec.upgrade.command: no container is run"),
        (json!({"upgrade": {"envs": [{"name": "A"}]}}), "NotSupported", "spec.upgrade.envs"),
        (json!({"prepare": {"image": "x"}}), "NotSupported", "spec.prepare"),
        (json!({"secrets": [{"name": "s", "path": "/s"}]}), "NotSupported", "spec.secrets"),
        (json!({"imagePullSecrets": [{"name": "s"}]}), "NotSupported", "spec.imagePullSecrets"),
        (json!({"drain": {"gracePeriod": 0}}), "NotSupported", "spec.drain.gracePeriod"),
        (json!({"drain": {"disableEviction": true}}), "NotSupported", "spec.drain.disableEviction"),
        (json!({"drain": {"ignoreDaemonSets": false}}), "NotSupported", "spec.drain.ignoreDaemonSets"),
        (json!({"drain": {"podSelector": {}}}), "NotSupported", "spec.drain.podSelector"),
        (json!({"drain": {"deleteEmptydirData": true, "deleteLocalData": true}}), "Error", "cannot specify both"),
        (json!({"drain": {"timeout": "soon"}}), "Error", "spec.drain.timeout"),
        (json!({"postCompleteDelay": "-5s"}), "Error", "spec.postCompleteDelay"),
        (json!({"window": {"days": ["su"], "startTime": "x", "endTime": "2:00"}}), "Error", "spec.window.startTime"),
        (json!({"nodeSelector": null}), "Error", "spec.nodeSelector"),
        (json!({"version": null}), "Error", "cannot resolve plan: missing channel and version"),
        (json!({"version": null, "channel": "https://update.example.com/v1"}), "NotSupported", "spec.channel"),
    ] {
        let refusal = translate(&spec(said.clone()), "p", at(0)).unwrap_err();
        assert_eq!((refusal.reason, refusal.message.contains(message)), (reason, true), "{said}: {refusal:?}");
        assert_eq!(refusal.unresolved, message.contains("spec.channel") || message.contains("resolve"), "{said}");
    }
}

struct World(Facts);

impl World {
    fn new(spec: Value) -> Self {
        let mut facts = Facts::default();
        facts.add(DEFINITIONS, json!({"metadata": {"name": definition::NAME}, "spec": definition::plans()}));
        facts.add(PLANS, json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec}));
        for name in ["a", "b"] {
            facts.add(NODES, json!({"metadata": {"name": name}}));
            facts.add(MACHINES, json!({"metadata": {"name": name}}));
        }
        Self(facts)
    }

    fn key() -> Key {
        Key::new(PLANS, "n", "p")
    }

    fn get(&self, key: &Key) -> Value {
        self.0.snapshot.get(key).map_or(Value::Null, |object| object.decode().unwrap())
    }

    fn upgrade(&self) -> Value {
        self.get(&Key::new(UPGRADES, "", "n.p"))
    }

    /// Plans and carries it out; what was told.
    fn plan(&mut self) -> Vec<String> {
        let plan = Plans.plan(&self.0.snapshot, &Self::key(), at(0)).unwrap();
        let mut told = Vec::new();
        for step in plan.steps {
            match step {
                Step::Create { resource, objects, .. } => {
                    objects.into_iter().for_each(|object| drop(self.0.add(resource.clone(), object)))
                }
                Step::Patch { resource, namespace, name, patch, .. } => {
                    let mut value = self.get(&Key::new(resource.clone(), &namespace, &name));
                    merge(&mut value, &patch);
                    self.0.add(resource, value);
                }
                Step::Delete { resource, targets, .. } => {
                    let revision = self.0.snapshot.revision;
                    targets.iter().for_each(|victim| {
                        drop(self.0.snapshot.remove(&Key::new(resource.clone(), "", &victim.name), revision))
                    });
                }
                Step::Tell(note) => told.push(format!("{}: {}", note.reason, note.message)),
                step => panic!("{step:?}"),
            }
        }
        told
    }

    fn condition(&self, kind: &str) -> (String, String) {
        let plan = self.get(&Self::key());
        let found = plan["status"]["conditions"].as_array().unwrap().iter().find(|c| c["type"] == kind).unwrap();
        (found["status"].as_str().unwrap().to_owned(), found["reason"].as_str().unwrap().to_owned())
    }

    fn progress(&mut self, phase: &str, nodes: &[(&str, &str)]) {
        let mut upgrade = self.upgrade();
        let nodes: Vec<_> = nodes.iter().map(|(name, phase)| json!({"name": name, "phase": phase})).collect();
        let source = upgrade["spec"]["source"].clone();
        upgrade["status"] =
            json!({"phase": phase, "source": source, "nodes": nodes, "message": format!("it is {phase}")});
        self.0.add(UPGRADES, upgrade);
    }
}

fn of(condition: (&str, &str)) -> (String, String) {
    (condition.0.to_owned(), condition.1.to_owned())
}

#[test]
fn a_plan_makes_an_upgrade_and_tells_of_it() {
    let mut world = World::new(spec(json!({"serviceAccountName": "s"})));
    assert_eq!(
        world.plan(),
        ["Resolved: Resolved latest version from Spec.Version: v1.2-kedge3", "Validated: Plan is valid"]
    );
    assert_eq!(world.upgrade()["metadata"]["annotations"], json!({"kedge.dev/plan": "n/p"}));
    let status = world.get(&World::key())["status"].clone();
    assert_eq!(status["latestVersion"], "v1.2-kedge3");
    assert_eq!(
        status["conditions"][2]["message"],
        "no Job is run on Kedge, so that this has no meaning here: serviceAccountName, cordon: false"
    );
    assert!(world.plan().is_empty(), "nothing is left to do");
    world.progress("Progressing", &[("a", "Completed"), ("b", "Draining")]);
    world.plan();
    assert_eq!(world.get(&World::key())["status"]["applying"], json!(["b"]));
    assert_eq!(world.condition("Complete"), of(("False", "Progressing")));
    let label = |world: &World, name: &str| {
        world.get(&Key::new(NODES, "", name))["metadata"]["labels"]["plan.upgrade.cattle.io/p"].clone()
    };
    assert_eq!((label(&world, "a"), label(&world, "b")), (status["latestHash"].clone(), Value::Null));
    world.progress("Stopped", &[("a", "Completed"), ("b", "Failed")]);
    assert_eq!(world.plan(), Vec::<String>::new(), "it was not complete before");
    world.progress("Completed", &[("a", "Completed"), ("b", "Completed")]);
    assert_eq!(world.plan(), ["Complete: Upgrade n.p is complete"]);
    assert_eq!(
        (world.condition("Complete"), world.get(&World::key())["status"]["applying"].clone()),
        (of(("True", "Complete")), Value::Null)
    );
    // A machine that comes later is upgraded as well.
    world.0.add(NODES, json!({"metadata": {"name": "c"}}));
    world.plan();
    assert!(world.upgrade().is_object(), "it is no machine yet");
    world.0.add(MACHINES, json!({"metadata": {"name": "c"}}));
    world.plan();
    assert_eq!(world.upgrade(), Value::Null);
    world.plan();
    assert!(world.upgrade().is_object());
}

#[test]
fn a_change_of_the_plan_changes_the_upgrade_and_leaves_what_people_say() {
    let mut world = World::new(spec(json!({})));
    world.plan();
    let mut upgrade = world.upgrade();
    merge(&mut upgrade, &json!({"spec": {"paused": true, "maxFailures": 2}}));
    world.0.add(UPGRADES, upgrade);
    world.0.add(
        PLANS,
        json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec(json!({"version": "v9", "concurrency": 2}))}),
    );
    world.plan();
    let upgraded = world.upgrade()["spec"].clone();
    assert_eq!(upgraded["source"], "oci://registry.example.com/kedge/{board}:v9");
    assert_eq!(
        (&upgraded["concurrency"], &upgraded["paused"], &upgraded["maxFailures"]),
        (&json!(2), &json!(true), &json!(2))
    );
    // A window pauses it, and lets go of it when it is taken away.
    let window = json!({"days": ["su"], "startTime": "1:00", "endTime": "2:00"});
    for (window, paused) in [(window, true), (Value::Null, false)] {
        let spec = spec(json!({"window": window}));
        world.0.add(PLANS, json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec}));
        world.plan();
        assert_eq!(world.upgrade()["spec"]["paused"], json!(paused));
        assert!(world.plan().is_empty());
    }
    world.0.add(
        PLANS,
        json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec(json!({"prepare": {"image": "x"}}))}),
    );
    let told = world.plan();
    assert!(
        told.iter().any(|told| told.starts_with("ValidateFailed: Failed to validate plan: spec.prepare")),
        "{told:?}"
    );
    assert_eq!((world.upgrade(), world.condition("Validated")), (Value::Null, of(("False", "NotSupported"))));
}

#[test]
fn a_plan_that_is_gone_or_anothers_leaves_no_upgrade() {
    let mut world = World::new(spec(json!({})));
    world.plan();
    let revision = world.0.snapshot.revision;
    world.0.snapshot.remove(&World::key(), revision);
    world.plan();
    assert_eq!(world.upgrade(), Value::Null);
    // Upstream's own definition, laid over this one.
    let mut world = World::new(spec(json!({})));
    world.plan();
    let mut theirs = definition::plans();
    theirs["versions"][0]["schema"]["openAPIV3Schema"]["description"] =
        "Plan represents a set of Jobs to apply an upgrade".into();
    world.0.add(DEFINITIONS, json!({"metadata": {"name": definition::NAME}, "spec": theirs}));
    let before = world.get(&World::key());
    assert!(world.plan().is_empty());
    assert_eq!((world.upgrade(), world.get(&World::key())), (Value::Null, before), "its status is theirs");
    // One of that name that somebody made.
    let mut world = World::new(spec(json!({})));
    world.0.add(UPGRADES, json!({"metadata": {"name": "n.p"}, "spec": {"source": "x"}}));
    world.plan();
    assert_eq!(
        (world.upgrade()["spec"].clone(), world.condition("Validated")),
        (json!({"source": "x"}), of(("False", "NameTaken")))
    );
}
