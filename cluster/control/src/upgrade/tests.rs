//! Rollouts over a cluster written down as JSON: every plan's steps are applied to it, and machines do as they are told.
//!
//! One file, though long: a rule is a few lines, and all of them stand on the same world.

use std::collections::BTreeSet;

use json_patch::merge;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kedge_api::resource::known::{NODES, POD_DISRUPTION_BUDGETS, PODS};
use kedge_api::{Change, GroupResource, Key, Object, Revision};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::kind::{CLAIM, CORDONED_BY, MACHINES, UPGRADES};
use super::*;
use crate::controller::Step;
use crate::testing::{Facts, at};

const SOURCE: &str = "https://example.com/{board}.kedge";

#[derive(Default)]
struct World {
    facts: Facts,
    now: i64,
    /// `REASON about NAME`, those of Upgrades.
    told: Vec<String>,
    /// The same of nodes.
    told_of_nodes: Vec<String>,
    again: Option<std::time::Duration>,
}

impl World {
    /// Servers `s1…` and agents `a1…`, all Ready and with machines.
    fn of(servers: usize, agents: usize) -> Self {
        let mut world = Self::default();
        let names = (1..=servers).map(|i| format!("s{i}")).chain((1..=agents).map(|i| format!("a{i}")));
        names.for_each(|name| world.device(&name));
        world
    }

    fn device(&mut self, name: &str) {
        let role = if name.starts_with('s') { "node-role.kubernetes.io/control-plane" } else { "agent" };
        let labels = json!({"name": name, role: ""});
        let ready = json!([{"type": "Ready", "status": "True", "lastTransitionTime": Time(at(0))}]);
        self.facts.add(NODES, json!({"metadata": {"name": name, "labels": labels}, "status": {"conditions": ready}}));
        self.facts.add(MACHINES, json!({"metadata": {"name": name}, "spec": {"config": {}}, "status": {}}));
    }

    fn upgrade(&mut self, name: &str, spec: Value) {
        let mut whole = json!({"source": SOURCE});
        merge(&mut whole, &spec);
        let created = Time(at(self.now));
        let meta = json!({"name": name, "generation": 1, "creationTimestamp": created});
        self.facts.add(UPGRADES, json!({"metadata": meta, "spec": whole}));
        self.now += 1;
    }

    fn edit(&mut self, name: &str, patch: Value) {
        let generation = self.get(UPGRADES, name)["metadata"]["generation"].as_i64().unwrap() + 1;
        self.patch(&UPGRADES, "", name, &json!({"metadata": {"generation": generation}, "spec": patch}));
    }

    fn get(&self, resource: GroupResource, name: &str) -> Value {
        self.facts.snapshot.get(&Key::new(resource, "", name)).map_or(Value::Null, |object| object.decode().unwrap())
    }

    fn patch(&mut self, resource: &GroupResource, namespace: &str, name: &str, patch: &Value) {
        let key = Key::new(resource.clone(), namespace, name);
        let object = self.facts.snapshot.get(&key).unwrap_or_else(|| panic!("no {key}"));
        if let Some(revision) = patch["metadata"]["resourceVersion"].as_str() {
            assert_eq!(revision, object.revision.to_string(), "{key} was patched twice");
        }
        let mut value: Value = object.decode().unwrap();
        merge(&mut value, patch);
        let meta = &value["metadata"];
        if !meta["deletionTimestamp"].is_null() && meta["finalizers"].as_array().is_none_or(Vec::is_empty) {
            let revision = object.revision;
            self.facts.snapshot.remove(&key, Revision(revision.0 + 1));
        } else {
            self.facts.add(resource.clone(), value);
        }
    }

    fn remove(&mut self, resource: GroupResource, namespace: &str, name: &str) {
        let key = Key::new(resource, namespace, name);
        let revision = self.facts.snapshot.revision;
        self.facts.snapshot.remove(&key, revision).unwrap();
    }

    /// One plan of one Upgrade, of which the first `most` steps are carried out; true if that changed anything.
    fn plan(&mut self, name: &str, most: usize) -> bool {
        let key = Key::new(UPGRADES, "", name);
        let plan = Upgrades.plan(&self.facts.snapshot, &key, at(self.now)).unwrap();
        self.again = plan.again;
        let (revision, told) = (self.facts.snapshot.revision, self.told.len());
        for step in plan.steps.into_iter().take(most) {
            match step {
                Step::Patch { resource, namespace, name, patch, .. } => {
                    self.patch(&resource, &namespace, &name, &patch)
                }
                Step::Evict { targets } => {
                    targets.iter().for_each(|target| self.evict(&target.namespace, &target.name))
                }
                Step::Tell(note) if note.about.kind.as_deref() == Some("Upgrade") => {
                    self.told.push(format!("{}: {}", note.reason, note.message));
                }
                Step::Tell(note) => self.told_of_nodes.push(format!("{}: {}", note.reason, note.message)),
                step => panic!("{step:?}"),
            }
        }
        (revision, told) != (self.facts.snapshot.revision, self.told.len())
    }

    fn evict(&mut self, namespace: &str, name: &str) {
        let held = self.facts.snapshot.list(&POD_DISRUPTION_BUDGETS, namespace).next().is_some();
        if !held {
            self.remove(PODS, namespace, name);
        }
    }

    /// Plans until nothing is left to do.
    fn settle(&mut self) {
        let names: Vec<_> = self.facts.snapshot.list(&UPGRADES, "").map(|object| object.key.name.to_string()).collect();
        for _ in 0..200 {
            let mut any = false;
            for name in &names {
                any |= self.plan(name, usize::MAX);
            }
            if !any {
                return;
            }
        }
        panic!("it never comes to rest: {}", self.told.join("\n"));
    }

    /// A machine tells something about its wish.
    fn tells(&mut self, name: &str, phase: &str) {
        let wish = self.get(MACHINES, name)["spec"]["upgrade"].clone();
        let told = json!({"source": wish["source"], "digest": wish.get("digest"), "attempt": wish.get("attempt"), "phase": phase, "version": "2.0",
            "message": format!("{name} says {phase}")});
        self.patch(&MACHINES, "", name, &json!({"status": {"upgrade": told}}));
    }

    /// A machine goes one step on.
    fn machine(&mut self, name: &str, fails: bool) {
        let machine = self.get(MACHINES, name);
        let (wish, told) = (&machine["spec"]["upgrade"], &machine["status"]["upgrade"]);
        if wish.is_null() {
            return;
        }
        let same = (&told["source"], &told["attempt"]) == (&wish["source"], &wish["attempt"]);
        let phase = if same { told["phase"].as_str().unwrap_or("") } else { "" };
        let activate = wish["activate"] != false;
        let next = match phase {
            "" | "Waiting" | "Fetching" if fails => "Failed",
            "" | "Waiting" | "Fetching" => "Installed",
            "Installed" if activate => "Trying",
            "Trying" if fails => "Failed",
            "Trying" => "Committed",
            _ => return,
        };
        self.tells(name, next);
    }

    /// Whether a machine is about to start another system, or its node takes no pods because of that.
    fn is_away(&self, name: &str) -> bool {
        let machine = self.get(MACHINES, name);
        let (wish, told) = (&machine["spec"]["upgrade"], &machine["status"]["upgrade"]);
        let same = (&told["source"], &told["attempt"]) == (&wish["source"], &wish["attempt"]);
        let starts = wish["activate"] == true && (!same || told["phase"] == "Installed" || told["phase"] == "Trying");
        let cordoned = self.get(NODES, name)["metadata"]["annotations"][CORDONED_BY].is_string();
        let status = self.status("u");
        let entry = status["nodes"].as_array().into_iter().flatten().find(|entry| entry["name"] == name);
        let stage = entry.map_or("", |entry| entry["phase"].as_str().unwrap());
        let under_way = ["Draining", "Upgrading", "Settling"].contains(&stage);
        let condition = self.get(NODES, name)["status"]["conditions"][0].clone();
        let since: Time = serde_json::from_value(condition["lastTransitionTime"].clone()).unwrap();
        let (ready, lost) = (condition["status"] == "True", at(self.now).duration_since(since.0).as_mins() >= 30);
        // One that was given up, or is about to be, is not waited for.
        let failed = stage == "Failed" || (same && told["phase"] == "Failed");
        !failed && (starts || cordoned) && (ready || (under_way && !lost))
    }

    /// Every machine does what it is told, but those that fail; then plans.
    fn machines(&mut self, failing: &[&str]) {
        let names: Vec<_> = self.facts.snapshot.list(&MACHINES, "").map(|object| object.key.name.to_string()).collect();
        for name in names {
            let installing = self.get(MACHINES, &name)["status"]["upgrade"]["phase"] != "Trying";
            self.machine(&name, failing.contains(&&*name) && !installing);
        }
        self.settle();
    }

    /// Until machines have nothing more to tell.
    fn run(&mut self, failing: &[&str]) {
        self.settle();
        for _ in 0..200 {
            let before = self.facts.snapshot.revision;
            self.machines(failing);
            if self.facts.snapshot.revision == before {
                return;
            }
        }
        panic!("it never ends");
    }

    fn status(&self, name: &str) -> Value {
        self.get(UPGRADES, name)["status"].clone()
    }

    /// `NAME PHASE` of all nodes of an Upgrade.
    fn nodes(&self, name: &str) -> String {
        let status = self.status(name);
        let nodes = status["nodes"].as_array().into_iter().flatten();
        let words = nodes.map(|node| format!("{} {}", node["name"].as_str().unwrap(), node["phase"].as_str().unwrap()));
        words.collect::<Vec<_>>().join(", ")
    }

    fn phase(&self, name: &str) -> String {
        self.status(name)["phase"].as_str().unwrap_or_default().to_owned()
    }

    fn message(&self, name: &str) -> String {
        self.status(name)["message"].as_str().unwrap_or_default().to_owned()
    }

    fn node_message(&self, upgrade: &str, node: &str) -> String {
        let status = self.status(upgrade);
        let found = status["nodes"].as_array().unwrap().iter().find(|entry| entry["name"] == node).unwrap();
        found["message"].as_str().unwrap_or_default().to_owned()
    }

    fn cordoned(&self) -> BTreeSet<String> {
        let nodes = self.facts.snapshot.list(&NODES, "");
        let cordoned = nodes.filter(|node| node.decode::<Value>().unwrap()["spec"]["unschedulable"] == true);
        cordoned.map(|node| node.key.name.to_string()).collect()
    }

    /// No cordon, no claim, and no wish that waits is left of any Upgrade.
    fn is_clean(&self) -> bool {
        let annotated = |resource: GroupResource, name: &str| {
            let mut objects = self.facts.snapshot.list(&resource, "");
            objects.any(|object| object.meta.annotations.as_ref().is_some_and(|all| all.contains_key(name)))
        };
        let mut machines = self.facts.snapshot.list(&MACHINES, "");
        let waiting = machines.any(|object| {
            let machine: Value = object.decode().unwrap();
            machine["spec"]["upgrade"]["activate"] == false && machine["status"]["upgrade"]["phase"] != "Failed"
        });
        !annotated(NODES, CORDONED_BY) && !annotated(MACHINES, CLAIM) && !waiting
    }

    fn ready(&mut self, name: &str, status: &str) {
        let ready = json!([{"type": "Ready", "status": status, "lastTransitionTime": Time(at(self.now))}]);
        self.patch(&NODES, "", name, &json!({"status": {"conditions": ready}}));
    }

    fn pod(&mut self, name: &str, node: &str, more: Value) {
        let owner =
            json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "r", "controller": true}]);
        let mut pod = json!({"metadata": {"name": name, "namespace": "default", "labels": {"app": "web"}, "ownerReferences": owner},
            "spec": {"nodeName": node}, "status": {"phase": "Running"}});
        merge(&mut pod, &more);
        self.facts.add(PODS, pod);
    }

    fn budget(&mut self, name: &str) {
        self.facts.add(
            POD_DISRUPTION_BUDGETS,
            json!({"metadata": {"name": name, "namespace": "default"}, "spec": {"selector": {"matchLabels": {"app": "web"}}},
                "status": {"disruptionsAllowed": 0}}),
        );
    }
}

/// The order in which nodes were told to start the new system.
fn order(world: &World) -> Vec<String> {
    let told = world.told_of_nodes.iter();
    let started = told.filter_map(|told| told.strip_prefix("NodeUpgrading: Upgrade u: Node "));
    started.map(|text| text.split(' ').next().unwrap().to_owned()).collect()
}

#[test]
fn servers_come_first_one_at_a_time_then_agents_by_name() {
    let mut world = World::of(3, 4);
    world.upgrade("u", json!({"concurrency": 2}));
    world.settle();
    assert_eq!(
        world.nodes("u"),
        "s1 Fetching, s2 Fetching, s3 Fetching, a1 Fetching, a2 Fetching, a3 Fetching, a4 Fetching"
    );
    assert_eq!((world.phase("u"), world.cordoned().len()), ("Fetching".to_owned(), 0));
    world.machines(&[]);
    // All have it installed: the first server goes, alone.
    assert_eq!(
        world.nodes("u"),
        "s1 Upgrading, s2 Installed, s3 Installed, a1 Installed, a2 Installed, a3 Installed, a4 Installed"
    );
    assert_eq!(world.node_message("u", "s2"), "one server at a time");
    assert_eq!(world.node_message("u", "a1"), "after the servers");
    let mut most = 0;
    while world.phase("u") == "Progressing" {
        let cordoned = world.cordoned();
        assert!(cordoned.len() <= 1 || cordoned.iter().all(|name| name.starts_with('a')), "{cordoned:?}");
        most = most.max(cordoned.len());
        world.machines(&[]);
    }
    assert_eq!(order(&world), ["s1", "s2", "s3", "a1", "a2", "a3", "a4"]);
    assert_eq!((most, world.phase("u"), world.is_clean()), (2, "Completed".to_owned(), true));
    let status = world.status("u");
    assert_eq!((&status["counts"]["nodes"], &status["version"]), (&json!("7/7"), &json!("2.0")));
    assert_eq!(world.told.last().unwrap(), "Completed: 7/7 nodes");
    let node = &status["nodes"][0];
    assert!(node["startedAt"].is_string() && node["finishedAt"].is_string(), "{node}");
    // It has ended: a machine that comes later is not touched.
    world.device("a5");
    world.settle();
    assert_eq!(world.get(MACHINES, "a5")["spec"]["upgrade"], Value::Null);
}

#[test]
fn a_part_of_all_is_rounded_down_and_never_none() {
    for (concurrency, agents, at_once) in
        [(json!("50%"), 5, 2), (json!("10%"), 5, 1), (json!("100%"), 3, 3), (json!(9), 2, 2), (Value::Null, 3, 1)]
    {
        let mut world = World::of(0, agents);
        world.device("s9");
        world.upgrade("u", json!({"concurrency": concurrency, "nodeSelector": {"matchExpressions": [{"key": "agent", "operator": "Exists"}]}}));
        world.settle();
        world.machines(&[]);
        assert_eq!(world.cordoned().len(), at_once, "{concurrency} of {agents}");
    }
}

#[test]
fn without_prefetch_a_machine_fetches_when_its_turn_comes() {
    let mut world = World::of(0, 3);
    world.upgrade("u", json!({"prefetch": false, "concurrency": 1}));
    world.settle();
    assert_eq!(world.nodes("u"), "a1 Fetching, a2 Pending, a3 Pending");
    assert_eq!(world.get(MACHINES, "a1")["spec"]["upgrade"], json!({"source": SOURCE, "activate": false}));
    world.machines(&[]);
    assert_eq!(world.nodes("u"), "a1 Upgrading, a2 Pending, a3 Pending");
    world.run(&[]);
    assert_eq!((world.nodes("u").as_str(), order(&world).len()), ("a1 Completed, a2 Completed, a3 Completed", 3));
}

#[test]
fn the_wish_is_handed_through_and_defaults_of_machines_do_not_matter() {
    let mut world = World::of(1, 0);
    let gate = json!({"soakSeconds": 5, "pods": [{"namespace": "n", "selector": {"matchLabels": {"a": "b"}}}]});
    let said = json!({"digest": "ab", "bytesPerSecond": 9, "gate": gate, "window": {"start": "00:00", "end": "23:59"}});
    world.upgrade("u", said.clone());
    world.settle();
    let mut wish = world.get(MACHINES, "s1")["spec"]["upgrade"].clone();
    assert_eq!((wish["activate"].take(), wish["source"].take()), (json!(false), json!(SOURCE)));
    for (field, value) in said.as_object().unwrap() {
        assert_eq!(wish[field], *value);
    }
    world.patch(&MACHINES, "", "s1", &json!({"spec": {"upgrade": {"gate": {"limitSeconds": 300}}}}));
    world.settle();
    assert_eq!(world.nodes("u"), "s1 Fetching");
    world.edit("u", json!({"bytesPerSecond": null}));
    world.settle();
    assert_eq!(world.get(MACHINES, "s1")["spec"]["upgrade"]["bytesPerSecond"], Value::Null);
}

#[test]
fn only_what_it_cordoned_is_uncordoned() {
    let mut world = World::of(0, 3);
    world.patch(&NODES, "", "a2", &json!({"spec": {"unschedulable": true}}));
    world.upgrade("u", json!({}));
    world.run(&[]);
    assert_eq!((world.phase("u").as_str(), world.cordoned()), ("Completed", BTreeSet::from(["a2".to_owned()])));
}

#[test]
fn pods_leave_as_kubectl_drain_has_them_leave() {
    let owned = |kind: &str| json!({"metadata": {"ownerReferences": [{"apiVersion": "apps/v1", "kind": kind, "name": "r", "uid": "r", "controller": true}]}});
    let bare = json!({"metadata": {"ownerReferences": null}});
    let local =
        json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "configMap": {"name": "c"}}]}});
    let mirror = json!({"metadata": {"ownerReferences": null, "annotations": {"kubernetes.io/config.mirror": "x"}}});
    let mut finished = bare.clone();
    merge(&mut finished, &json!({"status": {"phase": "Succeeded"}}));
    // What the pod is, what the drain allows, and what becomes of the pod: it is evicted, it stays, or the node fails.
    let cases = [
        ("of a replica set", json!({}), json!({}), Some("evicted")),
        ("of a daemon set", owned("DaemonSet"), json!({}), Some("stays")),
        ("of a daemon set that is gone", owned("DaemonSet"), json!({}), None),
        ("mirror", mirror, json!({}), Some("stays")),
        ("bare", bare.clone(), json!({}), None),
        ("bare, forced", bare, json!({"force": true}), Some("evicted")),
        ("finished", finished, json!({}), Some("evicted")),
        ("with data", local.clone(), json!({}), None),
        ("with data, forced", local.clone(), json!({"force": true}), None),
        ("with data to lose", local.clone(), json!({"deleteEmptyDirData": true}), Some("evicted")),
        ("with data, not drained", local, json!({"disabled": true}), Some("stays")),
        ("elsewhere", json!({"spec": {"nodeName": "a2"}}), json!({}), Some("stays")),
    ];
    for (what, pod, drain, becomes) in cases {
        let mut world = World::of(0, 2);
        if what == "of a daemon set" {
            let set = json!({"metadata": {"name": "r", "namespace": "default"}});
            world.facts.add(kedge_api::resource::known::DAEMON_SETS, set);
        }
        world.pod("p", "a1", pod);
        world.upgrade("u", json!({"drain": drain, "nodeSelector": {"matchLabels": {"name": "a1"}}}));
        world.run(&[]);
        let there = world.facts.snapshot.list(&PODS, "").next().is_some();
        let became = match world.phase("u").as_str() {
            "Completed" => Some(if there { "stays" } else { "evicted" }),
            "Stopped" => None,
            other => panic!("{what}: {other}"),
        };
        assert_eq!(became, becomes, "{what}: {}", world.message("u"));
        assert!(world.cordoned().is_empty(), "{what}");
        if becomes.is_none() {
            assert!(world.message("u").contains("default/p has"), "{}", world.message("u"));
            assert_eq!(world.get(MACHINES, "a1")["spec"]["upgrade"]["activate"], json!(false), "{what}");
        }
    }
}

#[test]
fn a_budget_holds_the_drain_up_to_its_limit_and_a_new_spec_tries_again() {
    let mut world = World::of(0, 2);
    world.pod("p", "a1", json!({}));
    world.budget("web");
    world.upgrade("u", json!({"drain": {"timeoutSeconds": 100}}));
    world.settle();
    for name in ["a1", "a2"] {
        world.tells(name, "Installed");
    }
    world.settle();
    assert_eq!(world.nodes("u"), "a1 Draining, a2 Installed");
    let held = "waits for pods to leave: default/p (disruption budget web allows none)";
    assert_eq!(world.node_message("u", "a1"), held);
    assert_eq!(world.message("u"), format!("a1 is Draining: {held}"));
    assert_eq!(world.again.unwrap().as_secs(), 1);
    world.now += 60;
    world.plan("u", usize::MAX);
    assert_eq!(world.again.unwrap().as_secs(), 6, "the longer it takes, the less often it is tried");
    world.now += 60;
    world.settle();
    assert_eq!(world.nodes("u"), "a1 Failed, a2 Installed");
    assert_eq!((world.phase("u").as_str(), world.cordoned().len()), ("Stopped", 0));
    let message = world.message("u");
    assert!(
        message.starts_with("a1 failed: not drained within 100 s: waits for pods to leave: default/p (disr"),
        "{message}"
    );
    world.remove(POD_DISRUPTION_BUDGETS, "default", "web");
    world.settle();
    assert_eq!(world.phase("u"), "Stopped", "until somebody says so");
    world.edit("u", json!({"drain": {"timeoutSeconds": 200}}));
    world.run(&[]);
    assert_eq!((world.phase("u").as_str(), world.status("u")["counts"]["failed"].clone()), ("Completed", json!(0)));
}

#[test]
fn where_no_other_node_could_take_its_pods_a_node_is_not_drained_and_that_is_told() {
    for second in ["none", "cordoned", "tainted", "not ready"] {
        let mut world = World::of(1, usize::from(second != "none"));
        match second {
            "cordoned" => world.patch(&NODES, "", "a1", &json!({"spec": {"unschedulable": true}})),
            "tainted" => {
                world.patch(&NODES, "", "a1", &json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}}))
            }
            "not ready" => world.ready("a1", "False"),
            _ => {}
        }
        world.pod("p", "s1", json!({"metadata": {"ownerReferences": null}}));
        world.upgrade("u", json!({"nodeSelector": {"matchLabels": {"name": "s1"}}}));
        world.run(&[]);
        assert_eq!((world.phase("u").as_str(), world.facts.snapshot.len(&PODS)), ("Completed", 1), "{second}");
        let told = world.told.iter().find(|told| told.starts_with("NodeUpgrading")).unwrap();
        assert!(told.ends_with("not drained: no other node could take its pods"), "{told}");
    }
}

#[test]
fn more_failures_than_may_be_stop_it() {
    let mut world = World::of(0, 5);
    world.upgrade("u", json!({"concurrency": 2}));
    world.run(&["a1"]);
    // Its neighbour had begun and comes to its end.
    assert_eq!(world.nodes("u"), "a1 Failed, a2 Completed, a3 Installed, a4 Installed, a5 Installed");
    assert_eq!(world.phase("u"), "Stopped");
    assert_eq!(world.message("u"), "a1 failed: a1 says Failed; nothing new begins");
    assert!(world.cordoned().is_empty(), "the old system runs there again");
    let conditions = world.status("u")["conditions"].clone();
    let of = |kind: &str| conditions.as_array().unwrap().iter().find(|c| c["type"] == kind).unwrap()["status"].clone();
    assert_eq!((of("Failed"), of("Progressing"), of("Complete")), (json!("True"), json!("False"), json!("False")));
    assert!(world.told.iter().any(|told| told == "NodeUpgradeFailed: Node a1: a1 says Failed"), "{:?}", world.told);
    world.edit("u", json!({"maxFailures": 1}));
    world.run(&[]);
    assert_eq!(world.nodes("u"), "a1 Failed, a2 Completed, a3 Completed, a4 Completed, a5 Completed");
    assert_eq!((world.phase("u").as_str(), world.message("u").as_str()), ("Completed", "a1 failed: a1 says Failed"));
    assert!(world.is_clean());
    world.edit("u", json!({"attempt": 1}));
    world.run(&[]);
    assert_eq!((world.phase("u").as_str(), world.message("u").as_str()), ("Completed", ""));
    assert_eq!(world.status("u")["history"][0]["failed"], json!(1));
    // One whose drain failed as well.
    let mut world = World::of(0, 2);
    world.pod("p", "a1", json!({"metadata": {"ownerReferences": null}}));
    world.upgrade("u", json!({"maxFailures": 1}));
    world.run(&[]);
    assert_eq!((world.nodes("u").as_str(), world.phase("u").as_str()), ("a1 Failed, a2 Completed", "Completed"));
    assert!(world.is_clean());
}

#[test]
fn what_fails_to_install_counts_and_a_drain_is_given_up_when_it_stops() {
    let mut world = World::of(0, 3);
    world.pod("p", "a1", json!({}));
    world.budget("web");
    world.upgrade("u", json!({}));
    world.settle();
    world.tells("a1", "Installed");
    world.settle();
    assert_eq!(world.nodes("u"), "a1 Draining, a2 Fetching, a3 Fetching");
    world.tells("a2", "Failed");
    world.settle();
    assert_eq!(world.nodes("u"), "a1 Installed, a2 Failed, a3 Fetching");
    assert_eq!((world.phase("u").as_str(), world.cordoned().len()), ("Stopped", 0));
}

#[test]
fn paused_holds_before_the_next_node() {
    let mut world = World::of(0, 3);
    world.upgrade("u", json!({"paused": true}));
    world.settle();
    assert_eq!(
        (world.nodes("u").as_str(), world.phase("u").as_str()),
        ("a1 Pending, a2 Pending, a3 Pending", "Paused")
    );
    assert!(world.is_clean());
    world.edit("u", json!({"paused": false}));
    world.settle();
    world.machines(&[]);
    assert_eq!(world.nodes("u"), "a1 Upgrading, a2 Installed, a3 Installed");
    world.edit("u", json!({"paused": true}));
    world.run(&[]);
    assert_eq!(world.nodes("u"), "a1 Completed, a2 Installed, a3 Installed", "never mid-node");
    assert_eq!(world.message("u"), "nothing new begins while spec.paused is true");
    world.edit("u", json!({"paused": null}));
    world.run(&[]);
    assert_eq!(world.phase("u"), "Completed");
    assert!(world.told.iter().any(|told| told.starts_with("Progressing: 1/3 nodes")), "{:?}", world.told);
}

#[test]
fn abort_takes_back_what_has_not_begun() {
    let mut world = World::of(0, 4);
    world.pod("p", "a2", json!({}));
    world.budget("web");
    world.upgrade("u", json!({"concurrency": 2}));
    world.settle();
    ["a1", "a2", "a3"].iter().for_each(|name| world.tells(name, "Installed"));
    world.settle();
    assert_eq!(world.nodes("u"), "a1 Upgrading, a2 Draining, a3 Installed, a4 Fetching");
    world.edit("u", json!({"abort": true}));
    world.settle();
    assert_eq!(world.nodes("u"), "a1 Upgrading, a2 Aborted, a3 Aborted, a4 Aborted");
    assert_eq!((world.phase("u").as_str(), world.cordoned()), ("Aborting", BTreeSet::from(["a1".to_owned()])));
    for name in ["a2", "a3", "a4"] {
        assert_eq!(world.get(MACHINES, name)["spec"]["upgrade"], Value::Null, "{name}");
    }
    world.run(&[]);
    assert_eq!(world.nodes("u"), "a1 Completed, a2 Aborted, a3 Aborted, a4 Aborted");
    assert_eq!((world.phase("u").as_str(), world.is_clean()), ("Aborted", true));
    world.remove(POD_DISRUPTION_BUDGETS, "default", "web");
    world.edit("u", json!({"abort": false}));
    world.run(&[]);
    assert_eq!((world.phase("u").as_str(), world.is_clean()), ("Completed", true));
}

#[test]
fn a_deleted_upgrade_leaves_nothing_behind() {
    let mut world = World::of(0, 3);
    world.upgrade("u", json!({}));
    world.settle();
    assert_eq!(world.get(UPGRADES, "u")["metadata"]["finalizers"], json!(["kedge.dev/upgrade"]));
    world.machines(&[]);
    world.machines(&[]);
    assert_eq!((world.nodes("u").as_str(), world.cordoned().len()), ("a1 Upgrading, a2 Installed, a3 Installed", 1));
    world.patch(&UPGRADES, "", "u", &json!({"metadata": {"deletionTimestamp": Time(at(9))}}));
    world.settle();
    assert_eq!((world.get(UPGRADES, "u"), world.cordoned().len()), (Value::Null, 0));
    assert!(world.is_clean());
    assert_eq!(world.get(MACHINES, "a1")["spec"]["upgrade"]["activate"], true, "it is on its way");
}

#[test]
fn a_node_that_is_not_ready_waits_and_one_that_does_not_come_back_fails() {
    let mut world = World::of(0, 3);
    world.ready("a1", "False");
    world.upgrade("u", json!({}));
    world.settle();
    world.machines(&[]);
    assert_eq!(world.nodes("u"), "a1 Installed, a2 Upgrading, a3 Installed");
    assert_eq!(world.node_message("u", "a1"), "the node is not Ready");
    world.ready("a2", "Unknown");
    world.machines(&[]);
    world.machines(&[]);
    assert_eq!(world.node_message("u", "a2"), "waits for the node to be Ready");
    assert_eq!(world.cordoned(), BTreeSet::from(["a2".to_owned()]));
    assert_eq!(world.again.unwrap().as_secs(), 30 * 60 + 1);
    world.now += 31 * 60;
    world.settle();
    assert_eq!(world.nodes("u"), "a1 Installed, a2 Failed, a3 Installed");
    assert_eq!(world.message("u"), "a2 failed: the node has not been Ready for 30 min; nothing new begins");
    assert_eq!(world.cordoned().len(), 1, "nobody knows how it is");
    world.ready("a2", "True");
    world.settle();
    assert_eq!((world.cordoned().len(), world.phase("u").as_str()), (0, "Stopped"));
}

#[test]
fn a_node_that_is_deleted_takes_no_part_any_more() {
    let mut world = World::of(0, 3);
    world.upgrade("u", json!({}));
    world.settle();
    world.machines(&[]);
    assert_eq!(world.nodes("u"), "a1 Upgrading, a2 Installed, a3 Installed");
    world.remove(NODES, "", "a3");
    // Its machine is at it and will register again: not so where the machine is gone as well.
    world.remove(NODES, "", "a1");
    world.settle();
    assert_eq!(world.nodes("u"), "a1 Upgrading, a2 Installed");
    assert_eq!(world.get(MACHINES, "a3")["spec"]["upgrade"], Value::Null);
    world.remove(MACHINES, "", "a1");
    world.run(&[]);
    assert_eq!((world.nodes("u").as_str(), world.phase("u").as_str()), ("a2 Completed", "Completed"));
}

#[test]
fn another_source_takes_the_place_of_the_first_which_ends_where_it_has_begun() {
    let mut world = World::of(0, 3);
    world.pod("p", "a2", json!({}));
    world.budget("web");
    world.upgrade("u", json!({"concurrency": 2}));
    world.settle();
    world.machines(&[]);
    assert_eq!(world.nodes("u"), "a1 Upgrading, a2 Draining, a3 Installed");
    world.remove(POD_DISRUPTION_BUDGETS, "default", "web");
    world.edit("u", json!({"source": "oci://example.com/kedge:3"}));
    world.settle();
    assert_eq!(world.nodes("u"), "a1 Upgrading, a2 Fetching, a3 Fetching");
    let source = |world: &World, name: &str| world.get(MACHINES, name)["spec"]["upgrade"]["source"].clone();
    assert_eq!((source(&world, "a1"), source(&world, "a2")), (json!(SOURCE), json!("oci://example.com/kedge:3")));
    assert_eq!(world.cordoned(), BTreeSet::from(["a1".to_owned()]));
    let history = world.status("u")["history"].clone();
    assert_eq!(
        (&history[0]["source"], &history[0]["phase"], &history[0]["nodes"]),
        (&json!(SOURCE), &json!("Progressing"), &json!("0/3"))
    );
    world.run(&[]);
    assert_eq!(
        (world.nodes("u").as_str(), world.phase("u").as_str()),
        ("a1 Completed, a2 Completed, a3 Completed", "Completed")
    );
    assert_eq!(source(&world, "a1"), json!("oci://example.com/kedge:3"));
    for i in 0..20 {
        world.edit("u", json!({"digest": format!("{i}")}));
        world.settle();
    }
    assert_eq!(world.status("u")["history"].as_array().unwrap().len(), 10);
    assert!(world.told.iter().any(|told| told.starts_with("Superseded: ")));
}

#[test]
fn of_two_the_older_goes_first_and_the_other_says_so() {
    let mut world = World::of(0, 3);
    world.upgrade("first", json!({"nodeSelector": {"matchLabels": {"name": "a1"}}}));
    world.upgrade("second", json!({"source": "https://example.com/2.kedge"}));
    world.settle();
    assert_eq!(world.nodes("first"), "a1 Fetching");
    assert_eq!(world.nodes("second"), "a1 Pending, a2 Fetching, a3 Fetching");
    assert_eq!(world.node_message("second", "a1"), "held by upgrade first (Fetching)");
    world.run(&[]);
    assert_eq!((world.phase("first").as_str(), world.phase("second").as_str()), ("Completed", "Completed"));
    assert_eq!(world.get(MACHINES, "a1")["spec"]["upgrade"]["source"], json!("https://example.com/2.kedge"));
    assert!(world.is_clean());
    // One that failed holds nobody up.
    let mut world = World::of(0, 2);
    world.upgrade("first", json!({}));
    world.run(&["a1"]);
    assert_eq!(world.nodes("first"), "a1 Failed, a2 Installed");
    world.upgrade("second", json!({"source": "https://example.com/2.kedge"}));
    world.run(&[]);
    assert_eq!(
        (world.nodes("second").as_str(), world.phase("first").as_str()),
        ("a1 Completed, a2 Completed", "Stopped")
    );
}

#[test]
fn servers_of_two_upgrades_do_not_go_at_the_same_time() {
    let mut world = World::of(2, 0);
    world.upgrade("first", json!({"nodeSelector": {"matchLabels": {"name": "s1"}}}));
    world.upgrade("second", json!({"nodeSelector": {"matchLabels": {"name": "s2"}}}));
    world.settle();
    world.machines(&[]);
    assert_eq!((world.nodes("first").as_str(), world.nodes("second").as_str()), ("s1 Upgrading", "s2 Installed"));
    assert_eq!(world.node_message("second", "s2"), "upgrade first is with server s1 first");
    world.run(&[]);
    assert_eq!(world.phase("second"), "Completed");
}

#[test]
fn a_window_holds_the_next_node() {
    let mut world = World::of(0, 2);
    let hour = |hours: i64| at(hours * 3600).strftime("%H:%M").to_string();
    world.upgrade("u", json!({"window": {"start": hour(2), "end": hour(3)}}));
    world.settle();
    world.machines(&[]);
    assert_eq!(world.nodes("u"), "a1 Installed, a2 Installed");
    assert!(world.message("u").contains("waits for its window"), "{}", world.message("u"));
    world.now += world.again.unwrap().as_secs() as i64;
    world.settle();
    assert_eq!(world.nodes("u"), "a1 Upgrading, a2 Installed");
}

#[test]
fn a_node_counts_once_it_has_been_ready_for_long_enough() {
    let mut world = World::of(0, 2);
    world.upgrade("u", json!({"minReadySeconds": 60}));
    world.run(&[]);
    assert_eq!(world.nodes("u"), "a1 Settling, a2 Installed");
    assert!(world.cordoned().is_empty(), "it takes pods");
    world.now += 61;
    world.run(&[]);
    assert_eq!(world.nodes("u"), "a1 Completed, a2 Settling");
}

#[test]
fn nothing_selected_is_told() {
    let mut world = World::of(0, 1);
    world.remove(MACHINES, "", "a1");
    world.upgrade("u", json!({}));
    world.settle();
    assert_eq!(
        (world.phase("u").as_str(), world.message("u").as_str()),
        ("Pending", "no node that has a machine is selected")
    );
    world.edit("u", json!({"nodeSelector": {"matchLabels": {"a b": "c"}}}));
    world.settle();
    assert!(world.message("u").starts_with("spec.nodeSelector: "), "{}", world.message("u"));
    world.edit("u", json!({"nodeSelector": null}));
    world.device("a2");
    world.run(&[]);
    assert_eq!(world.nodes("u"), "a2 Completed");
}

/// Whatever step a plan ended after, as at a restart of the server, the next one goes on from there.
#[test]
fn every_plan_may_end_after_any_step() {
    for most in 1..5 {
        let mut world = World::of(1, 3);
        world.patch(&NODES, "", "a2", &json!({"spec": {"unschedulable": true}}));
        world.pod("p", "a1", json!({}));
        world.upgrade("u", json!({"concurrency": 2}));
        for _ in 0..400 {
            // One plan that is cut short, one that is not.
            world.plan("u", most);
            world.plan("u", usize::MAX);
            let cordoned = world.cordoned();
            assert!(cordoned.len() <= 3 && cordoned.contains("a2"), "{cordoned:?}");
            let names = ["s1", "a1", "a2", "a3"];
            for name in names {
                let machine = world.get(MACHINES, name);
                let (wish, told) = (&machine["spec"]["upgrade"], &machine["status"]["upgrade"]["phase"]);
                let next = match told.as_str() {
                    None if wish.is_object() => "Installed",
                    Some("Installed") if wish["activate"] == true => "Committed",
                    _ => continue,
                };
                world.tells(name, next);
                break;
            }
        }
        assert_eq!((world.phase("u").as_str(), world.is_clean()), ("Completed", true), "{most}");
        assert_eq!(world.cordoned(), BTreeSet::from(["a2".to_owned()]));
    }
}

#[test]
fn a_failure_of_another_digest_counts_once_it_is_surely_about_this_wish() {
    let failed = |world: &mut World, digest: Value| {
        let told = json!({"source": SOURCE, "digest": digest, "phase": "Failed", "message": "it holds another system"});
        world.patch(&MACHINES, "", "a1", &json!({"status": {"upgrade": told}}));
        world.settle();
    };
    for digest in [Value::Null, json!("other")] {
        let mut world = World::of(0, 1);
        world.patch(
            &MACHINES,
            "",
            "a1",
            &json!({"spec": {"upgrade": {"source": SOURCE, "digest": "old", "activate": true}}}),
        );
        failed(&mut world, digest.clone());
        world.upgrade("u", json!({"digest": "new"}));
        world.settle();
        assert_eq!((world.nodes("u").as_str(), world.again.unwrap().as_secs()), ("a1 Fetching", 61));
        // The machine lives: it tells of the new wish, and fails at it.
        world.patch(&MACHINES, "", "a1", &json!({"status": {"upgrade": {"phase": "Fetching", "digest": null}}}));
        world.now += 61;
        world.settle();
        assert_eq!(world.nodes("u"), "a1 Fetching");
        failed(&mut world, digest);
        assert_eq!(world.message("u"), "a1 failed: it holds another system; nothing new begins");
    }
}

#[test]
fn what_the_api_refuses_is_told() {
    let mut world = World::of(0, 1);
    world.upgrade("u", json!({}));
    let key = Key::new(UPGRADES, "", "u");
    let why = Status::about(Reason::Invalid, &MACHINES, "a1", "spec.upgrade.gate: no".into());
    let plan = Upgrades.failed(&world.facts.snapshot, &key, at(0), &why).unwrap();
    let [Step::Patch { patch, .. }, Step::Tell(note)] = &plan.steps[..] else { panic!("{plan:?}") };
    assert_eq!(
        (&patch["status"]["message"], note.reason.as_str()),
        (&json!("cannot go on: spec.upgrade.gate: no"), "Refused")
    );
    world.patch(&UPGRADES, "", "u", &patch.clone());
    assert_eq!(Upgrades.failed(&world.facts.snapshot, &key, at(0), &why).unwrap(), Plan::default(), "once");
    let conflict = Status::conflict(&MACHINES, "a1", "x");
    assert_eq!(Upgrades.failed(&world.facts.snapshot, &key, at(0), &conflict).unwrap(), Plan::default());
    world.run(&[]);
    assert_eq!(world.phase("u"), "Completed");
}

#[derive(Clone, Debug)]
enum Op {
    /// So many steps of a plan.
    Plan(usize),
    /// A machine goes on, or fails where it can.
    Machine(usize, bool),
    Ready(usize, bool),
    Edit(usize),
    Wait,
}

/// Edits, of which the last ones are of a whole other kind.
const EDITS: [&str; 7] = [
    r#"{"paused": true}"#,
    r#"{"paused": false}"#,
    r#"{"abort": true}"#,
    r#"{"abort": false}"#,
    r#"{"maxFailures": 9}"#,
    r#"{"source": "https://example.com/2.kedge"}"#,
    r#"{"attempt": 1}"#,
];

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (1..6usize).prop_map(Op::Plan),
        6 => (0..5usize, proptest::bool::weighted(0.1)).prop_map(|(machine, fails)| Op::Machine(machine, fails)),
        1 => (0..5usize, any::<bool>()).prop_map(|(node, ready)| Op::Ready(node, ready)),
        1 => (0..EDITS.len()).prop_map(Op::Edit),
        1 => Just(Op::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happens, in whatever order, and wherever plans are cut short.
    #[test]
    fn never_more_than_may_be_are_away_and_nothing_is_left_in_the_end(ops in proptest::collection::vec(op(), 0..120)) {
        const NAMES: [&str; 5] = ["s1", "s2", "a1", "a2", "a3"];
        let mut world = World::of(2, 3);
        world.patch(&NODES, "", "a2", &json!({"spec": {"unschedulable": true}}));
        world.pod("p", "a1", json!({}));
        world.upgrade("u", json!({"concurrency": 2}));
        for op in ops {
            match op {
                Op::Plan(most) => drop(world.plan("u", most)),
                Op::Machine(machine, fails) => world.machine(NAMES[machine], fails),
                Op::Ready(node, ready) => world.ready(NAMES[node], if ready { "True" } else { "False" }),
                Op::Edit(edit) => world.edit("u", serde_json::from_str(EDITS[edit]).unwrap()),
                Op::Wait => world.now += 700,
            }
            let away: Vec<_> = NAMES.iter().filter(|name| world.is_away(name)).collect();
            prop_assert!(away.len() <= 2, "{away:?}");
            prop_assert!(away.len() <= 1 || away.iter().all(|name| name.starts_with('a')), "{away:?}");
            prop_assert!(world.cordoned().contains("a2"));
        }
        world.patch(&UPGRADES, "", "u", &json!({"metadata": {"deletionTimestamp": Time(at(9)), "finalizers": ["kedge.dev/upgrade"]}}));
        world.settle();
        prop_assert!(world.is_clean() && world.get(UPGRADES, "u").is_null());
        prop_assert_eq!(world.cordoned(), BTreeSet::from(["a2".to_owned()]));
    }
}

#[test]
fn only_what_matters_wakes_it() {
    let mut world = World::of(0, 1);
    world.upgrade("u", json!({}));
    let keys = |world: &World, before: &Arc<Object>, after: &Arc<Object>| {
        let (revision, key) = (after.revision, after.key.clone());
        let change = Change { revision, key, before: Some(before.clone()), after: Some(after.clone()) };
        let mut keys = Vec::new();
        Upgrades.keys(&world.facts.snapshot, &change, &mut keys);
        keys.len()
    };
    let cases = [
        (MACHINES, json!({"status": {"upgrade": {"phase": "Fetching", "fetchedBytes": 1}}}), 1),
        (MACHINES, json!({"status": {"upgrade": {"phase": "Fetching", "fetchedBytes": 2, "message": "x"}}}), 0),
        (MACHINES, json!({"status": {"version": "1"}}), 0),
        (MACHINES, json!({"spec": {"config": {"hostname": "x"}}}), 0),
        (MACHINES, json!({"spec": {"upgrade": {"source": "x"}}}), 1),
        (
            NODES,
            json!({"status": {"images": [], "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": Time(at(0)), "lastHeartbeatTime": Time(at(9))}, {"type": "DiskPressure", "status": "True"}]}}),
            0,
        ),
        (NODES, json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}), 1),
        (NODES, json!({"metadata": {"labels": {"x": "y"}}}), 1),
        (NODES, json!({"spec": {"unschedulable": true}}), 1),
    ];
    for (resource, patch, concerned) in cases {
        let key = Key::new(resource.clone(), "", "a1");
        let before = world.facts.snapshot.get(&key).unwrap().clone();
        world.patch(&resource, "", "a1", &patch);
        let after = world.facts.snapshot.get(&key).unwrap().clone();
        assert_eq!(keys(&world, &before, &after), concerned, "{patch}");
        let mut none = World::of(0, 1);
        none.facts.snapshot.insert(after.clone());
        assert_eq!(keys(&none, &before, &after), 0, "without Upgrades");
    }
}
