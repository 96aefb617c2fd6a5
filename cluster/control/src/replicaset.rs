//! ReplicaSet and ReplicationController: as many pods as asked for.
//!
//! Owns creation, deletion and the set's status; never knows of rollouts. A replication controller is read as the set that asks for the
//! same, as upstream does. Source: "ReplicaSet" and "ReplicationController" of Kubernetes' documentation.

use std::collections::HashMap;

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};
use kedge_api::event::{reference, whole_seconds};
use kedge_api::resource::known::{PODS, REPLICA_SETS, REPLICATION_CONTROLLERS};
use kedge_api::selector::Selector;
use kedge_api::{Change, GroupResource, Key, Object, Snapshot, Status};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::controller::{Controller, Now, Plan, Step, Told, Victim, value};
use crate::owner::{Owner, controller_of, owner_keys, spec_selector};
use crate::pods;

/// Most pods created or deleted by one plan.
const BURST: usize = 500;
const FAILURE: &str = "ReplicaFailure";

pub struct ReplicaSets(&'static Kind);

impl ReplicaSets {
    pub const SETS: Self = Self(&Kind {
        name: "replicaset-controller",
        account: "replicaset-controller",
        kind: "ReplicaSet",
        api_version: "apps/v1",
        resource: REPLICA_SETS,
        watches: &[REPLICA_SETS, PODS],
        selector: spec_selector,
        read: |object| object.decode(),
    });
    pub const CONTROLLERS: Self = Self(&Kind {
        name: "replication-controller",
        account: "replication-controller",
        kind: "ReplicationController",
        api_version: "v1",
        resource: REPLICATION_CONTROLLERS,
        watches: &[REPLICATION_CONTROLLERS, PODS],
        selector: |object| {
            as_set(object).ok().and_then(|set| Selector::from_label_selector(Some(&set.spec?.selector)).ok())
        },
        read: as_set,
    });

    fn resource(&self) -> &GroupResource {
        &self.0.resource
    }

    fn owner<'a>(&self, set: &'a ReplicaSet, selector: &LabelSelector) -> Result<Owner<'a>, Status> {
        Ok(Owner { kind: self.0.kind, api_version: self.0.api_version, ..Owner::of(set, Some(selector))? })
    }

    fn reference(&self, set: &ReplicaSet) -> ObjectReference {
        ObjectReference {
            kind: Some(self.0.kind.to_owned()),
            api_version: Some(self.0.api_version.to_owned()),
            ..reference(set)
        }
    }

    fn read(&self, snapshot: &Snapshot, key: &Key) -> Result<Option<ReplicaSet>, Status> {
        snapshot.get(key).map(|object| (self.0.read)(object)).transpose()
    }
}

/// What sets its pods' number, and how it is read.
struct Kind {
    name: &'static str,
    account: &'static str,
    kind: &'static str,
    api_version: &'static str,
    resource: GroupResource,
    watches: &'static [GroupResource],
    selector: fn(&Object) -> Option<Selector>,
    read: fn(&Object) -> Result<ReplicaSet, Status>,
}

/// A replication controller as a set: its selector is a plain map, all else is alike.
fn as_set(object: &Object) -> Result<ReplicaSet, Status> {
    let mut set: Map<String, Value> = object.decode()?;
    if let Some(selector) = set.get_mut("spec").and_then(|spec| spec.get_mut("selector")) {
        *selector = json!({"matchLabels": selector.take()});
    }
    set.insert("apiVersion".to_owned(), "apps/v1".into());
    set.insert("kind".to_owned(), "ReplicaSet".into());
    ReplicaSet::deserialize(&Value::Object(set))
        .map_err(|e| Status::internal(format!("reading {}: {e}", object.key.name)))
}

impl Controller for ReplicaSets {
    fn name(&self) -> &'static str {
        self.0.name
    }

    fn account(&self) -> &'static str {
        self.0.account
    }

    fn watches(&self) -> &'static [GroupResource] {
        self.0.watches
    }

    fn keys(&self, snapshot: &Snapshot, change: &Change, keys: &mut Vec<Key>) {
        if change.key.resource == *self.resource() {
            keys.push(change.key.clone());
        } else {
            owner_keys(snapshot, change, self.0.kind, self.resource(), self.0.selector, keys);
        }
    }

    fn plan(&self, snapshot: &Snapshot, key: &Key, now: Now) -> Result<Plan, Status> {
        let mut plan = Plan::default();
        let (Some(object), Some(set)) = (snapshot.get(key), self.read(snapshot, key)?) else {
            return Ok(plan);
        };
        let Some(spec) = &set.spec else { return Ok(plan) };
        let owner = self.owner(&set, &spec.selector)?;
        let children = owner.claim(snapshot, &PODS, &mut plan)?;
        let all = children.iter().map(|pod| pod.pod()).collect::<Result<Vec<_>, _>>()?;
        let active: Vec<_> = children.iter().zip(&all).filter(|(_, pod)| pods::is_active(pod)).collect();
        let wanted = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0);
        let told = Some(Told { about: self.reference(&set), successes: true });
        if set.metadata.deletion_timestamp.is_none() {
            if let Some(template) = spec.template.as_ref().filter(|_| active.len() < wanted) {
                let name = set.metadata.name.as_deref().unwrap_or_default();
                let pod = pods::from_template(
                    template,
                    set.metadata.namespace.as_deref(),
                    format!("{name}-"),
                    owner.reference(),
                );
                let objects = vec![value(&pod)?; (wanted - active.len()).min(BURST)];
                plan.push(Step::Create { resource: PODS, objects, told });
            } else if active.len() > wanted {
                let neighbours = neighbours(snapshot, &set)?;
                let mut ranked = active.clone();
                ranked.sort_by_cached_key(|(_, pod)| {
                    pods::deletion_rank(pod, neighbours.get(pods::node_name(pod)).copied().unwrap_or(0), now)
                });
                let surplus = (active.len() - wanted).min(BURST);
                let targets = ranked.iter().take(surplus).map(|(object, _)| Victim::of(object)).collect();
                plan.push(Step::Delete { resource: PODS, targets, told });
            }
        }

        let min_ready = spec.min_ready_seconds.unwrap_or(0);
        let template_labels =
            spec.template.as_ref().and_then(|t| t.metadata.as_ref()?.labels.clone()).unwrap_or_default();
        let template = Selector::from_map(&template_labels);
        let (mut labelled, mut ready, mut available) = (0, 0, 0);
        for (_, pod) in &active {
            labelled += i32::from(template.matches(&pod.metadata.labels));
            ready += i32::from(pods::is_ready(pod));
            let (now_available, at) = pods::availability(pod, min_ready, now);
            available += i32::from(now_available);
            at.into_iter().for_each(|at| plan.again_at(at, now));
        }
        let terminating = all.iter().filter(|pod| pods::is_deleting(pod) && !pods::is_finished(pod)).count();
        let mut conditions = set.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
        if active.len() == wanted {
            conditions.retain(|condition| condition.type_ != FAILURE);
        }
        let some = |n: i32| Some(n).filter(|n| *n > 0);
        let mut after = set.clone();
        after.status = Some(ReplicaSetStatus {
            replicas: count(active.len()),
            fully_labeled_replicas: some(labelled),
            ready_replicas: some(ready),
            available_replicas: some(available),
            terminating_replicas: Some(count(terminating)).filter(|_| *self.resource() == REPLICA_SETS),
            observed_generation: set.metadata.generation,
            conditions: Some(conditions).filter(|c| !c.is_empty()),
        });
        plan.status(object, &value(&set)?, &value(&after)?);
        Ok(plan)
    }

    /// A refused creation or deletion stands in the set's status, and from there in its deployment's.
    fn failed(&self, snapshot: &Snapshot, key: &Key, now: Now, why: &Status) -> Result<Plan, Status> {
        let mut plan = Plan::default();
        let (Some(object), Some(set)) = (snapshot.get(key), self.read(snapshot, key)?) else {
            return Ok(plan);
        };
        let mut after = set.clone();
        let status = after.status.get_or_insert_default();
        let wanted = set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1);
        let condition = ReplicaSetCondition {
            type_: FAILURE.into(),
            status: "True".into(),
            reason: Some(if status.replicas < wanted { "FailedCreate" } else { "FailedDelete" }.into()),
            message: Some(why.message.clone()),
            last_transition_time: Some(Time(whole_seconds(now))),
        };
        let conditions = status.conditions.get_or_insert_default();
        if !conditions.iter().any(|c| c.type_ == FAILURE && c.reason == condition.reason) {
            conditions.retain(|c| c.type_ != FAILURE);
            conditions.push(condition);
        }
        plan.status(object, &value(&set)?, &value(&after)?);
        Ok(plan)
    }
}

pub fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

/// How many active pods of the set, and of the other sets of its deployment, each node has.
fn neighbours(snapshot: &Snapshot, set: &ReplicaSet) -> Result<HashMap<String, usize>, Status> {
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    let parent = controller_of(&set.metadata).map(|reference| &reference.uid);
    let mut family: Vec<&str> = set.metadata.uid.iter().map(String::as_str).collect();
    if parent.is_some() {
        let siblings = snapshot
            .list(&REPLICA_SETS, namespace)
            .filter(|sibling| controller_of(&sibling.meta).map(|reference| &reference.uid) == parent);
        family.extend(siblings.map(|sibling| sibling.uid()));
    }
    let mut on_node = HashMap::new();
    for object in snapshot.list(&PODS, namespace) {
        if controller_of(&object.meta).is_some_and(|reference| family.contains(&reference.uid.as_str())) {
            let pod: Pod = object.decode()?;
            if pods::is_active(&pod) {
                *on_node.entry(pods::node_name(&pod).to_owned()).or_insert(0) += 1;
            }
        }
    }
    Ok(on_node)
}
