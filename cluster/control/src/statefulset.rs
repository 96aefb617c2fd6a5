//! StatefulSet: pods with names and claims of their own, that come in their order and go in the opposite one.
//!
//! Owns which pod is next to be made, replaced or deleted; never deletes a claim itself, but says with whom it goes. Ordered sets move one pod at a time and wait for it; parallel
//! ones do not wait, but their rolling update does.
//! Source: "StatefulSets" of Kubernetes' documentation.

mod identity;
mod retention;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetStatus};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use kedge_api::event::{Severity, reference};
use kedge_api::resource::known::{CONTROLLER_REVISIONS, PERSISTENT_VOLUME_CLAIMS, PODS, STATEFUL_SETS};
use kedge_api::{Change, GroupResource, Key, Object, Snapshot, Status};
use serde::Deserialize;
use serde_json::Value;

use self::retention::Policy;
use crate::controller::{Controller, Now, Plan, Step, Victim, read, value};
use crate::owner::{Owner, controller_of, owner_keys, references_patch, spec_selector};
use crate::pods;
use crate::revisions::{self, HASH, Template};

const WATCHES: &[GroupResource] = &[STATEFUL_SETS, PODS, CONTROLLER_REVISIONS];

pub struct StatefulSets;

struct Member {
    object: Arc<Object>,
    pod: Pod,
}

impl Member {
    fn revision(&self) -> &str {
        self.object.meta.labels.as_ref().and_then(|labels| labels.get(HASH)).map_or("", String::as_str)
    }

    fn is_ready(&self) -> bool {
        pods::phase(&self.pod) == "Running" && pods::is_ready(&self.pod)
    }

    fn is_healthy(&self) -> bool {
        self.is_ready() && !pods::is_deleting(&self.pod)
    }
}

/// One look at a set.
struct View<'a> {
    set: &'a StatefulSet,
    spec: &'a StatefulSetSpec,
    owner: &'a Owner<'a>,
    /// By ordinal.
    members: BTreeMap<i32, Member>,
    /// Names of revisions: the one that is left, and the one that is gone to.
    current: String,
    update: String,
    /// The template of the former; none: it is the set's own.
    before: Option<PodTemplateSpec>,
    now: Now,
}

impl Controller for StatefulSets {
    fn name(&self) -> &'static str {
        "statefulset-controller"
    }

    fn watches(&self) -> &'static [GroupResource] {
        WATCHES
    }

    fn keys(&self, snapshot: &Snapshot, change: &Change, keys: &mut Vec<Key>) {
        let resource = &change.key.resource;
        if *resource == STATEFUL_SETS {
            keys.push(change.key.clone());
        } else if *resource == PODS || change.after.as_ref().is_none_or(|child| controller_of(&child.meta).is_none()) {
            // A revision that comes or changes needs nothing; one that goes or is no one's may.
            owner_keys(snapshot, change, "StatefulSet", &STATEFUL_SETS, spec_selector, keys);
        }
    }

    fn plan(&self, snapshot: &Snapshot, key: &Key, now: Now) -> Result<Plan, Status> {
        let mut plan = Plan::default();
        let (Some(object), Some(set)) = (snapshot.get(key), read::<StatefulSet>(snapshot, key)?) else {
            return Ok(plan);
        };
        let Some(spec) = &set.spec else { return Ok(plan) };
        let owner = Owner::of(&set, Some(&spec.selector))?;
        let mut members = BTreeMap::new();
        let is_member = |object: &Object| identity::ordinal(&key.name, &object.key.name);
        for object in owner.claim_if(snapshot, &PODS, &mut plan, |object| is_member(object).is_some())? {
            let Some(ordinal) = is_member(&object) else { continue };
            members.insert(ordinal, Member { pod: object.decode()?, object });
        }
        let status = set.status.clone().unwrap_or_default();
        let update = revise(snapshot, object, &owner, spec, &status, &members, &mut plan)?;
        let named = status.current_revision.clone().filter(|name| !name.is_empty() && *name != update);
        let before = named.as_deref().map(|name| template(snapshot, key, name)).transpose()?.flatten();
        let current = named.filter(|_| before.is_some()).unwrap_or_else(|| update.clone());
        let view = View { set: &set, spec, owner: &owner, members, current, update, before, now };
        let mut after = set.clone();
        after.status = Some(view.status(&status, &mut plan));
        if set.metadata.deletion_timestamp.is_none() {
            view.move_on(snapshot, &mut plan)?;
        }
        plan.status(object, &value(&set)?, &value(&after)?);
        Ok(plan)
    }
}

/// The name of the revision that the set's template is.
fn revise(
    snapshot: &Snapshot,
    object: &Object,
    owner: &Owner<'_>,
    spec: &StatefulSetSpec,
    status: &StatefulSetStatus,
    members: &BTreeMap<i32, Member>,
    plan: &mut Plan,
) -> Result<String, Status> {
    let prefix = format!("{}-", object.key.name);
    let stored: Value = object.decode()?;
    let template = stored.pointer("/spec/template").unwrap_or(&Value::Null);
    let used = members.values().map(Member::revision).chain(status.current_revision.as_deref());
    let live = used.filter_map(|name| name.strip_prefix(prefix.as_str())).map(str::to_owned).collect();
    let hash = crate::hash::template_hash(&spec.template, status.collision_count)?;
    let of = Template { template, hash, limit: spec.revision_history_limit, live };
    Ok(format!("{prefix}{}", revisions::plan(snapshot, owner, of, plan)?))
}

/// What a revision says that pods were.
fn template(snapshot: &Snapshot, key: &Key, revision: &str) -> Result<Option<PodTemplateSpec>, Status> {
    let found: Option<Value> = read(snapshot, &Key::new(CONTROLLER_REVISIONS, &key.namespace, revision))?;
    let template = found.as_ref().and_then(|revision| revision.pointer("/data/spec/template"));
    Ok(template.and_then(|template| PodTemplateSpec::deserialize(template).ok()))
}

impl View<'_> {
    fn start(&self) -> i32 {
        self.spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or(0)
    }

    fn wanted(&self) -> std::ops::Range<i32> {
        self.start()..self.start().saturating_add(self.spec.replicas.unwrap_or(1))
    }

    fn ordered(&self) -> bool {
        self.spec.pod_management_policy.as_deref() != Some("Parallel")
    }

    fn strategy(&self) -> Option<&str> {
        self.spec.update_strategy.as_ref()?.type_.as_deref()
    }

    /// Pods below this ordinal stay as they are.
    fn partition(&self) -> i32 {
        let rolling = self.spec.update_strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
        self.start().saturating_add(rolling.and_then(|rolling| rolling.partition).unwrap_or(0))
    }

    fn is_available(&self, member: &Member) -> bool {
        member.is_ready() && pods::availability(&member.pod, self.spec.min_ready_seconds.unwrap_or(0), self.now).0
    }

    /// The next steps: at most one pod in an ordered set.
    fn move_on(&self, snapshot: &Snapshot, plan: &mut Plan) -> Result<(), Status> {
        for ordinal in self.wanted() {
            if self.keep(snapshot, ordinal, plan)? && self.ordered() {
                return Ok(());
            }
        }
        let wanted = self.wanted();
        for (_, member) in self.members.iter().filter(|(ordinal, _)| !wanted.contains(ordinal)) {
            self.belong(snapshot, &member.object, true, plan)?;
        }
        let mut condemned: Vec<&Member> =
            self.members.iter().filter(|(ordinal, _)| !wanted.contains(ordinal)).map(|(_, member)| member).collect();
        let sick = self.members.values().find(|member| !member.is_healthy()).map(|member| &member.object.key);
        while let Some(member) = condemned.pop() {
            let first = sick == Some(&member.object.key);
            if !pods::is_deleting(&member.pod) && (!self.ordered() || first || self.is_available(member)) {
                self.delete(member, plan);
            }
            // It is waited for, whether it is on its way or may not go yet.
            if self.ordered() {
                return Ok(());
            }
        }
        self.roll(plan);
        Ok(())
    }

    /// Sees to one pod; gives whether it has to be waited for.
    fn keep(&self, snapshot: &Snapshot, ordinal: i32, plan: &mut Plan) -> Result<bool, Status> {
        let Some(member) = self.members.get(&ordinal) else {
            self.create(snapshot, ordinal, plan)?;
            return Ok(true);
        };
        if pods::is_finished(&member.pod) {
            if !pods::is_deleting(&member.pod) {
                let (namespace, set) = (&member.object.key.namespace, &self.owner.meta.name);
                let set = set.as_deref().unwrap_or_default();
                let (severity, reason, what) = match pods::phase(&member.pod) {
                    "Failed" => (Severity::Warning, "RecreatingFailedPod", "failed"),
                    _ => (Severity::Normal, "RecreatingTerminatedPod", "terminated"),
                };
                let message =
                    format!("StatefulSet {namespace}/{set} is recreating {what} Pod {}", member.object.key.name);
                plan.tell(reference(self.set), severity, reason, message);
                self.delete(member, plan);
            }
            return Ok(true);
        }
        if !pods::is_deleting(&member.pod) {
            self.claim(snapshot, &member.object.key.name, plan)?;
            self.belong(snapshot, &member.object, false, plan)?;
        }
        Ok(!member.is_healthy() || !self.is_available(member))
    }

    fn create(&self, snapshot: &Snapshot, ordinal: i32, plan: &mut Plan) -> Result<(), Status> {
        let stays = self.strategy() == Some("RollingUpdate") && ordinal < self.partition();
        let (template, revision) = match &self.before {
            Some(before) if stays => (before, &self.current),
            _ => (&self.spec.template, &self.update),
        };
        let pod = identity::pod(self.set, self.spec, template, ordinal, revision, self.owner.reference());
        let name = pod.metadata.name.clone().unwrap_or_default();
        self.claim(snapshot, &name, plan)?;
        plan.push(Step::Create { resource: PODS, objects: vec![value(&pod)?], told: None });
        self.tell("SuccessfulCreate", format!("create Pod {name} in StatefulSet {} successful", self.name()), plan);
        Ok(())
    }

    /// Makes what a pod claims and is not there.
    fn claim(&self, snapshot: &Snapshot, pod: &str, plan: &mut Plan) -> Result<(), Status> {
        for mut claim in identity::claims(self.set, self.spec, pod) {
            let owners = Policy::of(self.spec).owners(&self.owner.reference(), None, false, &[]);
            claim.metadata.owner_references = Some(owners).filter(|owners| !owners.is_empty());
            let name = claim.metadata.name.clone().unwrap_or_default();
            let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
            if snapshot.get(&Key::new(PERSISTENT_VOLUME_CLAIMS, namespace, &name)).is_none() {
                let message = format!("create Claim {name} Pod {pod} in StatefulSet {} success", self.name());
                plan.push(Step::Create {
                    resource: PERSISTENT_VOLUME_CLAIMS,
                    objects: vec![value(&claim)?],
                    told: None,
                });
                self.tell("SuccessfulCreate", message, plan);
            }
        }
        Ok(())
    }

    /// Makes a pod's claims belong to whom they are to go with.
    fn belong(&self, snapshot: &Snapshot, pod: &Object, surplus: bool, plan: &mut Plan) -> Result<(), Status> {
        for claim in identity::claims(self.set, self.spec, &pod.key.name) {
            let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
            let key = Key::new(PERSISTENT_VOLUME_CLAIMS, namespace, claim.metadata.name.as_deref().unwrap_or_default());
            let Some(object) = snapshot.get(&key).filter(|claim| !claim.is_deleting()) else { continue };
            let before = object.meta.owner_references.clone().unwrap_or_default();
            let owners = Policy::of(self.spec).owners(&self.owner.reference(), Some(pod), surplus, &before);
            if owners != before {
                plan.patch(object, "", references_patch(object, &owners)?);
            }
        }
        Ok(())
    }

    fn name(&self) -> &str {
        self.owner.meta.name.as_deref().unwrap_or_default()
    }

    fn tell(&self, reason: &str, message: String, plan: &mut Plan) {
        plan.tell(reference(self.set), Severity::Normal, reason, message);
    }

    fn delete(&self, member: &Member, plan: &mut Plan) {
        plan.push(Step::Delete { resource: PODS, targets: vec![Victim::of(&member.object)], told: None });
        let message = format!("delete Pod {} in StatefulSet {} successful", member.object.key.name, self.name());
        self.tell("SuccessfulDelete", message, plan);
    }

    /// Replaces the last pod that is of an older template, once all behind it are well.
    fn roll(&self, plan: &mut Plan) {
        if self.strategy() == Some("OnDelete") {
            return;
        }
        let wanted = self.wanted();
        for (_, member) in self.members.range(wanted.start.max(self.partition())..wanted.end).rev() {
            if member.revision() != self.update && !pods::is_deleting(&member.pod) {
                return self.delete(member, plan);
            }
            if !member.is_healthy() || !self.is_available(member) {
                return;
            }
        }
    }

    fn status(&self, before: &StatefulSetStatus, plan: &mut Plan) -> StatefulSetStatus {
        let all = || self.members.values();
        let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
        let of =
            |revision: &str| count(all().filter(|m| !pods::is_deleting(&m.pod) && m.revision() == revision).count());
        for member in all().filter(|member| member.is_ready()) {
            let (_, due) = pods::availability(&member.pod, self.spec.min_ready_seconds.unwrap_or(0), self.now);
            due.into_iter().for_each(|due| plan.again_at(due, self.now));
        }
        let (replicas, ready) = (count(self.members.len()), count(all().filter(|member| member.is_ready()).count()));
        let updated = of(&self.update);
        // The update is over when all are of it and well.
        let over = self.strategy() == Some("RollingUpdate") && updated == replicas && ready == replicas;
        let current = if over { &self.update } else { &self.current };
        let some = |n: i32| Some(n).filter(|n| *n > 0);
        StatefulSetStatus {
            observed_generation: self.set.metadata.generation,
            replicas,
            ready_replicas: some(ready),
            available_replicas: Some(count(all().filter(|member| self.is_available(member)).count())),
            current_replicas: some(of(current)),
            updated_replicas: some(updated),
            current_revision: Some(current.clone()),
            update_revision: Some(self.update.clone()),
            collision_count: Some(before.collision_count.unwrap_or(0)),
            conditions: before.conditions.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
