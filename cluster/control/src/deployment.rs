//! Deployment: one ReplicaSet a template, and a controlled way from one to the next.
//!
//! Owns rollouts, their history and their conditions; never touches pods. Source: "Deployments" of Kubernetes' documentation.
//!
//! ```text
//! claim sets ─▶ revision::split (new, old; create new) ─▶ paused or resized? ─▶ rollout::resize
//!                                                        └▶ rollout::rolling · rollout::recreate ─▶ cleanup
//!                                   one patch a changed set ─▶ status::after
//! ```

mod revision;
mod rollout;
mod status;

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet};
use kedge_api::event::{Severity, reference};
use kedge_api::resource::known::{DEPLOYMENTS, PODS, REPLICA_SETS};
use kedge_api::{Change, GroupResource, Key, Object, Reason, Snapshot, Status};
use serde_json::{Map, Value, json};

use crate::controller::{Controller, Now, Plan, Step, Victim, read, value};
use crate::owner::{Owner, controller_of, owner_keys, spec_selector};
use crate::pods;

pub use rollout::resolve;

const WATCHES: &[GroupResource] = &[DEPLOYMENTS, REPLICA_SETS, PODS];
const DEFAULT_HISTORY: i32 = 10;

pub struct Deployments;

/// A ReplicaSet and what is to become of it.
#[derive(Clone, Debug)]
struct Set {
    object: Arc<Object>,
    rs: ReplicaSet,
    wanted: i32,
    /// Annotations to set.
    annotations: Map<String, Value>,
    min_ready_seconds: Option<i32>,
}

impl Set {
    fn name(&self) -> &str {
        &self.object.key.name
    }

    fn replicas(&self) -> i32 {
        self.rs.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0)
    }

    fn status(&self, pick: fn(&k8s_openapi::api::apps::v1::ReplicaSetStatus) -> i32) -> i32 {
        self.rs.status.as_ref().map_or(0, pick)
    }

    fn available(&self) -> i32 {
        self.status(|status| status.available_replicas.unwrap_or(0))
    }

    fn annotation(&self, name: &str) -> Option<&str> {
        self.object.meta.annotations.as_ref()?.get(name).map(String::as_str)
    }

    fn age(&self) -> impl Ord + use<> {
        (self.object.meta.creation_timestamp.as_ref().map(|t| t.0), self.object.key.name.clone())
    }
}

impl Controller for Deployments {
    fn name(&self) -> &'static str {
        "deployment-controller"
    }

    fn watches(&self) -> &'static [GroupResource] {
        WATCHES
    }

    fn keys(&self, snapshot: &Snapshot, change: &Change, keys: &mut Vec<Key>) {
        if change.key.resource == DEPLOYMENTS {
            keys.push(change.key.clone());
        } else if change.key.resource == REPLICA_SETS {
            owner_keys(snapshot, change, "Deployment", &DEPLOYMENTS, spec_selector, keys);
        } else if let (Some(pod), None) = (&change.before, &change.after) {
            // Only the strategy "Recreate" waits for pods to be gone.
            let parent = |meta, resource: GroupResource| {
                controller_of(meta).map(|reference| Key::new(resource, &change.key.namespace, &reference.name))
            };
            let set = parent(&pod.meta, REPLICA_SETS).and_then(|key| snapshot.get(&key));
            keys.extend(set.and_then(|set| parent(&set.meta, DEPLOYMENTS)));
        }
    }

    fn plan(&self, snapshot: &Snapshot, key: &Key, now: Now) -> Result<Plan, Status> {
        let mut plan = Plan::default();
        let (Some(object), Some(deployment)) = (snapshot.get(key), read::<Deployment>(snapshot, key)?) else {
            return Ok(plan);
        };
        let Some(spec) = &deployment.spec else { return Ok(plan) };
        let owner = Owner::of(&deployment, Some(&spec.selector))?;
        if owner.selector.is_everything() {
            let message = "This deployment is selecting all pods. A non-empty selector is required.";
            plan.tell(reference(&deployment), Severity::Warning, "SelectingAll", message.into());
            return Ok(plan);
        }
        let sets = owner
            .claim(snapshot, &REPLICA_SETS, &mut plan)?
            .into_iter()
            .map(|object| {
                let rs: ReplicaSet = object.decode()?;
                let wanted = rs.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0);
                Ok(Set { object, rs, wanted, annotations: Map::new(), min_ready_seconds: None })
            })
            .collect::<Result<Vec<_>, Status>>()?;
        let mut work = Work::new(&deployment, spec, sets);
        let paused = spec.paused.unwrap_or(false);
        let mut progress = status::Progress::Untouched;
        if !work.deleting() {
            work.adopt_revision();
            if paused || work.was_resized() {
                rollout::resize(&mut work);
                if paused {
                    work.cleanup(&mut plan);
                }
            } else {
                let waits = work.recreates() && (rollout::retire_old(&mut work) || old_pods_run(snapshot, &work)?);
                if !waits && work.new.is_none() {
                    match work.create(&owner, snapshot)? {
                        revision::Created::Set { step, name, replicas } => {
                            plan.push(*step);
                            if replicas > 0 {
                                let message = format!("Scaled up replica set {name} from 0 to {replicas}");
                                plan.tell(reference(&deployment), Severity::Normal, "ScalingReplicaSet", message);
                            }
                            progress = status::Progress::Created(name);
                        }
                        revision::Created::Collision => progress = status::Progress::Collision,
                    }
                } else if !waits {
                    if work.recreates() {
                        rollout::fill_new(&mut work);
                    } else {
                        rollout::rolling(&mut work);
                    }
                    progress = status::Progress::Measured;
                } else {
                    progress = status::Progress::Measured;
                }
            }
        }
        work.emit(&mut plan)?;
        let mut after = deployment.clone();
        after.status = Some(status::after(&work, progress, now));
        if !paused && !work.deleting() && status::is_complete(&work, after.status.as_ref()) {
            work.cleanup(&mut plan);
        }
        if let Some(revision) = work.new.as_ref().and_then(revision::planned)
            && work.annotation(revision::REVISION) != Some(revision.as_str())
        {
            let patch = json!({"metadata": {"uid": object.uid(), "annotations": {revision::REVISION: revision}}});
            plan.patch(object, "", patch);
        }
        plan.status(object, &value(&deployment)?, &value(&after)?);
        if let Some(at) = status::deadline(&work, after.status.as_ref()) {
            plan.again_at(at, now);
        }
        Ok(plan)
    }

    fn failed(&self, snapshot: &Snapshot, key: &Key, now: Now, why: &Status) -> Result<Plan, Status> {
        let mut plan = Plan::default();
        // An old snapshot or a name already taken settle themselves.
        if [Reason::Conflict, Reason::AlreadyExists, Reason::NotFound].contains(&why.reason) {
            return Ok(plan);
        }
        let (Some(object), Some(deployment)) = (snapshot.get(key), read::<Deployment>(snapshot, key)?) else {
            return Ok(plan);
        };
        let mut after = deployment.clone();
        status::refused(after.status.get_or_insert_default(), why, now);
        plan.status(object, &value(&deployment)?, &value(&after)?);
        Ok(plan)
    }
}

/// A deployment with its sets while a plan is made.
struct Work<'a> {
    deployment: &'a Deployment,
    spec: &'a DeploymentSpec,
    new: Option<Set>,
    /// From the oldest to the youngest.
    old: Vec<Set>,
}

impl<'a> Work<'a> {
    fn new(deployment: &'a Deployment, spec: &'a DeploymentSpec, mut sets: Vec<Set>) -> Self {
        sets.sort_by_cached_key(Set::age);
        let at = sets.iter().position(|set| revision::is_of(set, &spec.template));
        let new = at.map(|at| sets.remove(at));
        Self { deployment, spec, new, old: sets }
    }

    fn deleting(&self) -> bool {
        self.deployment.metadata.deletion_timestamp.is_some()
    }

    fn replicas(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }

    fn recreates(&self) -> bool {
        self.spec.strategy.as_ref().and_then(|s| s.type_.as_deref()) == Some("Recreate")
    }

    fn annotation(&self, name: &str) -> Option<&str> {
        self.deployment.metadata.annotations.as_ref()?.get(name).map(String::as_str)
    }

    fn all(&self) -> impl Iterator<Item = &Set> {
        self.old.iter().chain(&self.new)
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut Set> {
        self.old.iter_mut().chain(&mut self.new)
    }

    fn was_resized(&self) -> bool {
        let wanted = self.replicas().to_string();
        self.all()
            .any(|set| set.replicas() > 0 && set.annotation(revision::DESIRED).is_some_and(|desired| desired != wanted))
    }

    /// Deletes old sets beyond the history limit, the oldest revision first.
    fn cleanup(&self, plan: &mut Plan) {
        let limit = usize::try_from(self.spec.revision_history_limit.unwrap_or(DEFAULT_HISTORY)).unwrap_or(0);
        let mut alive: Vec<_> = self.old.iter().filter(|set| !set.object.is_deleting()).collect();
        alive.sort_by_key(|set| (revision::number(set), set.age()));
        let surplus = alive.len().saturating_sub(limit);
        let idle = |set: &&&Set| {
            let observed = set.rs.status.as_ref().and_then(|status| status.observed_generation).unwrap_or(0);
            set.status(|status| status.replicas) == 0
                && set.replicas() == 0
                && set.wanted == 0
                && set.object.meta.generation.unwrap_or(0) <= observed
        };
        let targets: Vec<_> = alive.iter().take(surplus).filter(idle).map(|set| Victim::of(&set.object)).collect();
        if !targets.is_empty() {
            plan.push(Step::Delete { resource: REPLICA_SETS, targets, told: None });
        }
    }

    /// One patch for each set that is to change, and the event for each whose size changes.
    fn emit(&mut self, plan: &mut Plan) -> Result<(), Status> {
        let (desired, most) = (self.replicas(), self.replicas() + rollout::fences(self.spec).surge);
        let about = reference(self.deployment);
        for set in self.all_mut() {
            if set.object.is_deleting() {
                continue;
            }
            if set.wanted > 0 || set.replicas() > 0 {
                for (name, number) in [(revision::DESIRED, desired), (revision::MOST, most)] {
                    if set.annotation(name) != Some(number.to_string().as_str()) {
                        set.annotations.insert(name.into(), number.to_string().into());
                    }
                }
            }
            let (from, to) = (set.replicas(), set.wanted);
            let mut spec = Map::new();
            if from != to {
                spec.insert("replicas".into(), to.into());
            }
            if let Some(seconds) = set.min_ready_seconds {
                spec.insert("minReadySeconds".into(), seconds.into());
            }
            if spec.is_empty() && set.annotations.is_empty() {
                continue;
            }
            let revision = set.object.revision.to_string();
            let mut patch = json!({
                "metadata": {"uid": set.object.uid(), "resourceVersion": revision, "annotations": set.annotations},
            });
            if let Value::Object(patch) = &mut patch
                && !spec.is_empty()
            {
                patch.insert("spec".into(), spec.into());
            }
            plan.patch(&set.object, "", patch);
            if from != to {
                let direction = if from < to { "up" } else { "down" };
                let message = format!("Scaled {direction} replica set {} from {from} to {to}", set.name());
                plan.tell(about.clone(), Severity::Normal, "ScalingReplicaSet", message);
            }
        }
        Ok(())
    }
}

/// Whether pods of old sets still run or are being stopped.
fn old_pods_run(snapshot: &Snapshot, work: &Work<'_>) -> Result<bool, Status> {
    let namespace = work.deployment.metadata.namespace.as_deref().unwrap_or_default();
    for object in snapshot.list(&PODS, namespace) {
        let of_old = controller_of(&object.meta).is_some_and(|r| work.old.iter().any(|set| set.object.uid() == r.uid));
        if of_old && !pods::is_finished(&object.pod()?) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Facts, at};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

    /// A deployment and its sets in numbers.
    #[derive(Debug)]
    pub struct Given {
        pub replicas: i32,
        /// The number before a resize.
        pub was: i32,
        pub surge: IntOrString,
        pub unavailable: IntOrString,
        /// Size and available of each, the oldest first.
        pub old: Vec<(i32, i32)>,
        pub new: Option<(i32, i32)>,
    }

    impl Default for Given {
        fn default() -> Self {
            Self {
                replicas: 3,
                was: 3,
                surge: IntOrString::Int(1),
                unavailable: IntOrString::Int(0),
                old: Vec::new(),
                new: None,
            }
        }
    }

    fn template(image: &str) -> Value {
        json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}})
    }

    impl Given {
        fn object(&self) -> Value {
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default", "generation": 2},
                "spec": {"replicas": self.replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template("new"),
                    "progressDeadlineSeconds": 60, "strategy": {"type": "RollingUpdate",
                        "rollingUpdate": {"maxSurge": self.surge, "maxUnavailable": self.unavailable}}}})
        }

        pub fn deployment(&self) -> Deployment {
            serde_json::from_value(self.object()).unwrap()
        }

        fn sets(&self) -> Facts {
            let mut facts = Facts::default();
            let old = self.old.iter().enumerate().map(|(i, numbers)| (format!("old{i}"), numbers));
            for (i, (image, (size, available))) in old.chain(self.new.iter().map(|n| ("new".to_owned(), n))).enumerate()
            {
                let owner = json!([{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "web", "controller": true}]);
                facts.add(REPLICA_SETS, json!({"apiVersion": "apps/v1", "kind": "ReplicaSet",
                    "metadata": {"name": format!("web-{i}"), "namespace": "default", "creationTimestamp": Time(at(i as i64)),
                        "labels": {"app": "web"}, "ownerReferences": owner,
                        "annotations": {revision::DESIRED: self.was.to_string(), revision::MOST: (self.was + 1).to_string(),
                            revision::REVISION: (i + 1).to_string()}},
                    "spec": {"replicas": size, "selector": {}, "template": template(&image)},
                    "status": {"replicas": size, "readyReplicas": available, "availableReplicas": available}}));
            }
            facts
        }
    }

    pub fn work<'a>(given: &Given, deployment: &'a Deployment) -> Work<'a> {
        let facts = given.sets();
        let sets = facts.snapshot.list(&REPLICA_SETS, "").map(|object| {
            let rs: ReplicaSet = object.decode().unwrap();
            let wanted = rs.spec.as_ref().unwrap().replicas.unwrap();
            Set { object: object.clone(), rs, wanted, annotations: Map::new(), min_ready_seconds: None }
        });
        Work::new(deployment, deployment.spec.as_ref().unwrap(), sets.collect())
    }

    fn plan(given: &Given, status: Value, now: i64) -> Plan {
        let mut facts = given.sets();
        let mut object = given.object();
        object["metadata"]["annotations"] = json!({revision::REVISION: (given.old.len() + 1).to_string()});
        object["status"] = status;
        let key = facts.add(DEPLOYMENTS, object).key.clone();
        Deployments.plan(&facts.snapshot, &key, at(now)).unwrap()
    }

    fn progressing(plan: &Plan) -> Option<Value> {
        let conditions = plan.steps.iter().find_map(|step| match step {
            Step::Patch { subresource: "status", patch, .. } => patch["status"]["conditions"].as_array().cloned(),
            _ => None,
        })?;
        conditions.into_iter().find(|c| c["type"] == "Progressing")
    }

    #[test]
    fn the_progress_deadline() {
        let stuck = Given { old: vec![(3, 3)], new: Some((1, 0)), ..Given::default() };
        let status = |since: i64| {
            json!({"replicas": 4, "updatedReplicas": 1, "readyReplicas": 3, "availableReplicas": 3, "conditions": [{"type": "Progressing",
                "status": "True", "reason": "ReplicaSetUpdated", "lastUpdateTime": Time(at(since)), "lastTransitionTime": Time(at(0))}]})
        };
        let early = plan(&stuck, status(0), 59);
        assert_eq!(early.again, Some(std::time::Duration::from_secs(2)));
        assert!(progressing(&early).is_none_or(|c| c["reason"] == "ReplicaSetUpdated"));
        let late = progressing(&plan(&stuck, status(0), 61)).unwrap();
        assert_eq!((&late["status"], &late["reason"]), (&json!("False"), &json!("ProgressDeadlineExceeded")));
        assert_eq!(late["message"], "ReplicaSet \"web-1\" has timed out progressing.");
        // Movement starts the clock anew.
        let mut moved = status(0);
        moved["updatedReplicas"] = json!(0);
        let moved = progressing(&plan(&stuck, moved, 61)).unwrap();
        assert_eq!((&moved["reason"], &moved["lastUpdateTime"]), (&json!("ReplicaSetUpdated"), &json!(Time(at(61)))));
    }

    #[test]
    fn a_settled_deployment_asks_for_nothing() {
        let given = Given { new: Some((3, 3)), ..Given::default() };
        let mut status = json!({"replicas": 3, "observedGeneration": 2, "conditions": []});
        let first = plan(&given, status.clone(), 0);
        for step in &first.steps {
            if let Step::Patch { subresource: "status", patch, .. } = step {
                status.as_object_mut().unwrap().extend(patch["status"].as_object().unwrap().clone());
            }
        }
        assert_eq!(progressing(&first).unwrap()["reason"], "NewReplicaSetAvailable");
        assert_eq!(plan(&given, status, 1000), Plan::default());
    }
}
