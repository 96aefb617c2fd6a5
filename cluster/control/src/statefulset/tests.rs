use serde_json::json;

use super::*;
use crate::testing::{Facts, at};

fn spec(replicas: i32, image: &str, more: Value) -> Value {
    let mut spec = json!({"replicas": replicas, "serviceName": "svc", "selector": {"matchLabels": {"a": "b"}},
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
        "volumeClaimTemplates": [{"metadata": {"name": "data", "labels": {"c": "d"}}, "spec": {"accessModes": ["ReadWriteOnce"]}}],
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": image}]}}});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

#[derive(Default)]
struct World {
    facts: Facts,
    status: Value,
    spec: Value,
}

impl World {
    fn new(spec: Value) -> Self {
        let mut world = Self { status: json!({}), ..Self::default() };
        world.set(spec);
        world
    }

    fn set(&mut self, spec: Value) {
        self.spec = spec;
        let meta = json!({"namespace": "n", "name": "w", "generation": 1});
        self.facts.add(STATEFUL_SETS, json!({"metadata": meta, "spec": self.spec, "status": self.status}));
    }

    fn plan(&self) -> Plan {
        StatefulSets.plan(&self.facts.snapshot, &Key::new(STATEFUL_SETS, "n", "w"), at(0)).unwrap()
    }

    /// Carries out what is planned, as the API server would; gives what happened to pods.
    fn step(&mut self) -> Vec<String> {
        let mut done = Vec::new();
        for step in self.plan().steps {
            match step {
                Step::Create { resource, objects, .. } => {
                    for mut object in objects {
                        if resource == PODS {
                            done.push(format!(
                                "+{} {}",
                                text(&object["metadata"]["name"]),
                                text(&object["spec"]["containers"][0]["image"])
                            ));
                            object["status"] = json!({"phase": "Pending"});
                        }
                        self.facts.add(resource.clone(), object);
                    }
                }
                Step::Delete { resource, targets, .. } => {
                    for victim in targets {
                        let key = Key::new(resource.clone(), &victim.namespace, &victim.name);
                        let revision = kedge_api::Revision(self.facts.snapshot.revision.0 + 1);
                        self.facts.snapshot.remove(&key, revision).unwrap();
                        done.push(format!("-{}", victim.name));
                    }
                }
                Step::Patch { resource, patch, name, .. } => {
                    if resource == STATEFUL_SETS {
                        merge(&mut self.status, &patch["status"]);
                        self.set(self.spec.clone());
                    } else {
                        let key = Key::new(resource.clone(), "n", &name);
                        let mut object: Value = self.facts.snapshot.get(&key).unwrap().decode().unwrap();
                        merge(&mut object, &patch);
                        self.facts.add(resource, object);
                    }
                }
                Step::Tell(_) => {}
                Step::Update { .. } | Step::Apply { .. } | Step::Evict { .. } => panic!("{step:?}"),
            }
        }
        done
    }

    fn run(&mut self, ordinal: i32, status: Value) {
        let key = Key::new(PODS, "n", &format!("w-{ordinal}"));
        let mut pod: Value = self.facts.snapshot.get(&key).unwrap().decode().unwrap();
        pod["status"] = status;
        self.facts.add(PODS, pod);
    }

    fn ready(&mut self, ordinal: i32) {
        self.run(ordinal, json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}));
    }

    /// Until nothing moves; every pod that comes becomes ready.
    fn settle(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            let done = self.step();
            for made in done.iter().filter_map(|done| done.strip_prefix("+w-")) {
                self.ready(made.split(' ').next().unwrap().parse().unwrap());
            }
            if done.is_empty() && self.plan() == Plan::default() {
                return all;
            }
            all.extend(done);
        }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else { return *target = patch.clone() };
    for (name, change) in patch {
        if change.is_null() {
            target.as_object_mut().unwrap().remove(name);
        } else {
            merge(&mut target[name.as_str()], change);
        }
    }
}

#[test]
fn pods_come_in_their_order_and_go_in_the_opposite_one() {
    let mut world = World::new(spec(3, "1", json!({})));
    assert_eq!(world.step(), ["+w-0 1"]);
    assert_eq!(world.step(), Vec::<String>::new());
    world.ready(0);
    assert_eq!(world.settle(), ["+w-1 1", "+w-2 1"]);
    let pod: Value = world.facts.snapshot.get(&Key::new(PODS, "n", "w-1")).unwrap().decode().unwrap();
    assert_eq!((&pod["spec"]["hostname"], &pod["spec"]["subdomain"]), (&json!("w-1"), &json!("svc")));
    assert_eq!(pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"], "data-w-1");
    let labels = &pod["metadata"]["labels"];
    assert_eq!(
        (&labels["statefulset.kubernetes.io/pod-name"], &labels["apps.kubernetes.io/pod-index"]),
        (&json!("w-1"), &json!("1"))
    );
    assert_eq!(labels[HASH], world.status["currentRevision"]);
    let claim = world.facts.snapshot.get(&Key::new(PERSISTENT_VOLUME_CLAIMS, "n", "data-w-1")).unwrap();
    assert_eq!(claim.meta.labels.clone().unwrap().into_values().collect::<Vec<_>>(), ["b", "d"]);
    assert_eq!(
        (&world.status["replicas"], &world.status["readyReplicas"], &world.status["currentReplicas"]),
        (&json!(3), &json!(3), &json!(3))
    );
    // Whoever is not well holds the others up.
    world.run(1, json!({"phase": "Running"}));
    world.set(spec(1, "1", json!({})));
    assert_eq!(world.step(), ["-w-2"]);
    assert_eq!(world.settle(), ["-w-1"]);
    world.run(0, json!({"phase": "Running"}));
    world.set(spec(3, "1", json!({})));
    assert_eq!(world.step(), Vec::<String>::new());
}

#[test]
fn parallel_sets_do_not_wait() {
    let mut world = World::new(spec(3, "1", json!({"podManagementPolicy": "Parallel", "ordinals": {"start": 5}})));
    assert_eq!(world.step(), ["+w-5 1", "+w-6 1", "+w-7 1"]);
    world.set(spec(0, "1", json!({"podManagementPolicy": "Parallel", "ordinals": {"start": 5}})));
    assert_eq!(world.step(), ["-w-7", "-w-6", "-w-5"]);
}

#[test]
fn an_update_rolls_from_the_last_to_the_partition() {
    let mut world = World::new(spec(3, "1", json!({})));
    world.settle();
    let first = world.status["currentRevision"].clone();
    let partition = |n: i32| json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": n}}});
    world.set(spec(3, "2", partition(2)));
    assert_eq!(world.settle(), ["-w-2", "+w-2 2"]);
    assert_eq!((&world.status["currentRevision"], &world.status["updatedReplicas"]), (&first, &json!(1)));
    assert_ne!(world.status["updateRevision"], first);
    // Below the partition a pod comes back as it was.
    let revision = kedge_api::Revision(world.facts.snapshot.revision.0 + 1);
    world.facts.snapshot.remove(&Key::new(PODS, "n", "w-0"), revision).unwrap();
    assert_eq!(world.settle(), ["+w-0 1"]);
    world.set(spec(3, "2", partition(0)));
    assert_eq!(world.settle(), ["-w-1", "+w-1 2", "-w-0", "+w-0 2"]);
    assert_eq!(world.status["currentRevision"], world.status["updateRevision"]);
    // Back to the first, under its own name again.
    world.set(spec(3, "1", partition(0)));
    assert_eq!(world.settle().len(), 6);
    assert_eq!(world.status["currentRevision"], first);
    world.set(spec(3, "3", json!({"updateStrategy": {"type": "OnDelete"}})));
    assert_eq!(world.settle(), Vec::<String>::new());
}

#[test]
fn an_update_waits_for_who_is_not_well_and_failed_pods_come_anew() {
    let mut world = World::new(spec(2, "1", json!({})));
    world.settle();
    world.set(spec(2, "2", json!({})));
    assert_eq!(world.step(), ["-w-1"]);
    assert_eq!(world.step(), ["+w-1 2"]);
    assert_eq!(world.step(), Vec::<String>::new());
    world.run(1, json!({"phase": "Failed"}));
    assert_eq!(world.step(), ["-w-1"]);
    assert_eq!(world.settle(), ["+w-1 2", "-w-0", "+w-0 2"]);
}

#[test]
fn claims_go_with_whom_they_are_to() {
    let policy = json!({"persistentVolumeClaimRetentionPolicy": {"whenScaled": "Delete", "whenDeleted": "Delete"}});
    let mut world = World::new(spec(2, "1", policy.clone()));
    world.settle();
    let owner = |world: &World, claim: &str| {
        let claim = world.facts.snapshot.get(&Key::new(PERSISTENT_VOLUME_CLAIMS, "n", claim)).unwrap();
        let owners = claim.meta.owner_references.clone().unwrap_or_default();
        owners.into_iter().map(|owner| format!("{} {}", owner.kind, owner.name)).collect::<Vec<_>>()
    };
    assert_eq!(owner(&world, "data-w-1"), ["StatefulSet w"]);
    world.set(spec(1, "1", policy));
    assert_eq!(world.settle(), ["-w-1"]);
    assert_eq!(
        (owner(&world, "data-w-0"), owner(&world, "data-w-1")),
        (vec!["StatefulSet w".into()], vec!["Pod w-1".into()])
    );
    world.set(spec(1, "1", json!({})));
    world.settle();
    assert_eq!(owner(&world, "data-w-0"), Vec::<String>::new());
}

#[test]
fn names_tell_who_is_a_member() {
    for (name, ordinal) in [
        ("w-0", Some(0)),
        ("w-12", Some(12)),
        ("w-01", None),
        ("w-", None),
        ("w-a", None),
        ("x-0", None),
        ("w-+1", None),
    ] {
        assert_eq!(identity::ordinal("w", name), ordinal, "{name}");
    }
}
