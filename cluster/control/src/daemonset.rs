//! DaemonSet: one pod on each node that is fit for it.
//!
//! Owns which nodes those are and the rolling update; never places a pod itself: each pod carries a node affinity to its node, and the
//! scheduler binds it. Pods are told apart by the hash of their [`crate::revisions`].
//! Source: "DaemonSet" of Kubernetes' documentation.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetStatus};
use k8s_openapi::api::core::v1::{
    Affinity, Node, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, Toleration,
};
use kedge_api::event::{Severity, reference};
use kedge_api::placement::{NO_EXECUTE, NO_SCHEDULE, node_affinity_allows, taints, tolerations, untolerated};
use kedge_api::resource::known::{CONTROLLER_REVISIONS, DAEMON_SETS, NODES, PODS};
use kedge_api::{Change, GroupResource, Key, Object, Snapshot, Status};
use serde_json::Value;

use crate::controller::{Controller, Now, Plan, Step, Told, Victim, read, value};
use crate::deployment::resolve;
use crate::hash::template_hash;
use crate::owner::{Owner, controller_of, owner_keys, spec_selector};
use crate::pods;
use crate::replicaset::count;
use crate::revisions::{self, HASH, Template};

const WATCHES: &[GroupResource] = &[DAEMON_SETS, PODS, NODES, CONTROLLER_REVISIONS];
/// A pod that a node keeps refusing is not replaced more often than this.
const FAILED_POD_AGE: SignedDuration = SignedDuration::from_secs(10);

pub struct DaemonSets;

struct Daemon {
    object: Arc<Object>,
    pod: Pod,
}

impl Daemon {
    fn hash(&self) -> Option<&String> {
        self.object.meta.labels.as_ref()?.get(HASH)
    }

    fn is_of(&self, hash: &str) -> bool {
        self.hash().is_some_and(|own| own == hash)
    }
}

impl Controller for DaemonSets {
    fn name(&self) -> &'static str {
        "daemonset-controller"
    }

    fn account(&self) -> &'static str {
        "daemon-set-controller"
    }

    fn watches(&self) -> &'static [GroupResource] {
        WATCHES
    }

    fn keys(&self, snapshot: &Snapshot, change: &Change, keys: &mut Vec<Key>) {
        if change.key.resource == DAEMON_SETS {
            keys.push(change.key.clone());
        } else if change.key.resource == PODS {
            owner_keys(snapshot, change, "DaemonSet", &DAEMON_SETS, spec_selector, keys);
        } else if change.key.resource == CONTROLLER_REVISIONS {
            // One that comes or changes needs nothing; one that goes or is no one's may.
            if change.after.as_ref().is_none_or(|revision| controller_of(&revision.meta).is_none()) {
                owner_keys(snapshot, change, "DaemonSet", &DAEMON_SETS, spec_selector, keys);
            }
        } else if snapshot.len(&DAEMON_SETS) > 0 && node_matters(change) {
            keys.extend(snapshot.list(&DAEMON_SETS, "").map(|set| set.key.clone()));
        }
    }

    fn plan(&self, snapshot: &Snapshot, key: &Key, now: Now) -> Result<Plan, Status> {
        let mut plan = Plan::default();
        let (Some(object), Some(set)) = (snapshot.get(key), read::<DaemonSet>(snapshot, key)?) else { return Ok(plan) };
        let Some(spec) = &set.spec else { return Ok(plan) };
        let owner = Owner::of(&set, Some(&spec.selector))?;
        if owner.selector.is_everything() {
            let message = "This daemon set is selecting all pods. A non-empty selector is required.";
            plan.tell(reference(&set), Severity::Warning, "SelectingAll", message.into());
            return Ok(plan);
        }
        let mut hash = template_hash(&spec.template, set.status.as_ref().and_then(|status| status.collision_count))?;
        let mut on_node: BTreeMap<String, Vec<Daemon>> = BTreeMap::new();
        for object in owner.claim(snapshot, &PODS, &mut plan)? {
            let pod: Pod = object.decode()?;
            on_node.entry(target_node(&pod).to_owned()).or_default().push(Daemon { object, pod });
        }
        let nodes = snapshot.list(&NODES, "").map(|node| node.node()).collect::<Result<Vec<_>, _>>()?;
        if set.metadata.deletion_timestamp.is_none() {
            let live = on_node.values().flatten().filter_map(Daemon::hash).cloned().collect();
            let stored: Value = object.decode()?;
            let template = stored.pointer("/spec/template").unwrap_or(&Value::Null);
            let of = Template { template, hash, limit: spec.revision_history_limit, live };
            hash = revisions::plan(snapshot, &owner, of, &mut plan)?;
            let mut doomed = unhealthy(&on_node, &set, &mut plan, now);
            let mut missing = Vec::new();
            for node in &nodes {
                let name = node.metadata.name.as_deref().unwrap_or_default();
                let here = on_node.get(name).map(Vec::as_slice).unwrap_or_default();
                let fit = fitness(&spec.template.spec.clone().unwrap_or_default(), node);
                if fit.run && here.is_empty() {
                    missing.push(name);
                } else if !fit.stay {
                    doomed.extend(here.iter().filter(|d| !pods::is_deleting(&d.pod)).map(|d| Victim::of(&d.object)));
                } else if fit.run {
                    doomed.extend(surplus(here));
                }
            }
            if missing.is_empty() && doomed.is_empty() {
                doomed.extend(outdated(spec, &on_node, &nodes, &hash, now));
            }
            let told = Some(Told { about: reference(&set), successes: true });
            if !doomed.is_empty() {
                plan.push(Step::Delete { resource: PODS, targets: doomed, told: told.clone() });
            }
            if !missing.is_empty() {
                let objects = missing
                    .iter()
                    .map(|node| value(&daemon(&set, spec, &owner, node, &hash)))
                    .collect::<Result<_, _>>()?;
                plan.push(Step::Create { resource: PODS, objects, told });
            }
        }
        let mut after = set.clone();
        after.status = Some(status(&set, spec, &nodes, &on_node, &hash, &mut plan, now));
        plan.status(object, &value(&set)?, &value(&after)?);
        Ok(plan)
    }
}

/// Whether a node's change can change which pods belong on it; heartbeats cannot.
fn node_matters(change: &Change) -> bool {
    let (Some(before), Some(after)) = (&change.before, &change.after) else { return true };
    before.meta.labels != after.meta.labels || before.meta.generation != after.meta.generation || {
        let read = |object: &Object| object.node().map(|node| node.spec);
        read(before).ok() != read(after).ok()
    }
}

struct Fitness {
    /// A pod should run here.
    run: bool,
    /// One that runs here may stay.
    stay: bool,
}

fn fitness(spec: &PodSpec, node: &Node) -> Fitness {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let elsewhere = spec.node_name.as_deref().is_some_and(|wanted| !wanted.is_empty() && wanted != name);
    if elsewhere || !node_affinity_allows(spec, node) {
        return Fitness { run: false, stay: false };
    }
    let mut spec = spec.clone();
    tolerate(&mut spec);
    let clear = |effects: &[&str]| untolerated(taints(node), tolerations(&spec), effects).is_none();
    Fitness { run: clear(&[NO_SCHEDULE, NO_EXECUTE]), stay: clear(&[NO_EXECUTE]) }
}

/// What every daemon tolerates.
fn tolerate(spec: &mut PodSpec) {
    const ALWAYS: &[(&str, &str)] = &[
        ("node.kubernetes.io/not-ready", NO_EXECUTE),
        ("node.kubernetes.io/unreachable", NO_EXECUTE),
        ("node.kubernetes.io/disk-pressure", NO_SCHEDULE),
        ("node.kubernetes.io/memory-pressure", NO_SCHEDULE),
        ("node.kubernetes.io/pid-pressure", NO_SCHEDULE),
        ("node.kubernetes.io/unschedulable", NO_SCHEDULE),
    ];
    let host: &[(&str, &str)] = match spec.host_network {
        Some(true) => &[("node.kubernetes.io/network-unavailable", NO_SCHEDULE)],
        Some(false) | None => &[],
    };
    let all = spec.tolerations.get_or_insert_default();
    for (key, effect) in ALWAYS.iter().chain(host) {
        let toleration = Toleration {
            key: Some((*key).into()),
            operator: Some("Exists".into()),
            effect: Some((*effect).into()),
            ..Toleration::default()
        };
        if !all.contains(&toleration) {
            all.push(toleration);
        }
    }
}

fn daemon(set: &DaemonSet, spec: &DaemonSetSpec, owner: &Owner<'_>, node: &str, hash: &str) -> Pod {
    let prefix = format!("{}-", set.metadata.name.as_deref().unwrap_or_default());
    let mut pod = pods::from_template(&spec.template, set.metadata.namespace.as_deref(), prefix, owner.reference());
    pod.metadata.labels.get_or_insert_default().insert(HASH.into(), hash.into());
    let spec = pod.spec.get_or_insert_default();
    tolerate(spec);
    bind_to(spec, node);
    pod
}

/// Requires the node by name, in every term there is: terms are alternatives.
fn bind_to(spec: &mut PodSpec, node: &str) {
    let requirement = NodeSelectorRequirement {
        key: "metadata.name".into(),
        operator: "In".into(),
        values: Some(vec![node.to_owned()]),
    };
    let affinity: &mut Affinity = spec.affinity.get_or_insert_default();
    let affinity: &mut NodeAffinity = affinity.node_affinity.get_or_insert_default();
    let required =
        affinity.required_during_scheduling_ignored_during_execution.get_or_insert_with(NodeSelector::default);
    if required.node_selector_terms.is_empty() {
        required.node_selector_terms.push(NodeSelectorTerm::default());
    }
    for term in &mut required.node_selector_terms {
        term.match_fields = Some(vec![requirement.clone()]);
    }
}

/// The node a pod is on, or is meant for.
fn target_node(pod: &Pod) -> &str {
    let wanted = || {
        let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
        let required = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
        let fields = required.node_selector_terms.iter().flat_map(|term| term.match_fields.iter().flatten());
        let mut values = fields.filter(|f| f.key == "metadata.name").flat_map(|f| f.values.iter().flatten());
        values.next().map(String::as_str)
    };
    match pods::node_name(pod) {
        "" => wanted().unwrap_or_default(),
        name => name,
    }
}

/// Finished pods go, so that others can take their place.
fn unhealthy(on_node: &BTreeMap<String, Vec<Daemon>>, set: &DaemonSet, plan: &mut Plan, now: Now) -> Vec<Victim> {
    let mut victims = Vec::new();
    for (node, daemon) in on_node.iter().flat_map(|(node, all)| all.iter().map(move |daemon| (node, daemon))) {
        let finished = match pods::phase(&daemon.pod) {
            "Failed" => "failed",
            "Succeeded" => "succeeded",
            _ => continue,
        };
        if pods::is_deleting(&daemon.pod) {
            continue;
        }
        let since = daemon.pod.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
        let left = FAILED_POD_AGE - now.duration_since(since);
        if left > SignedDuration::ZERO {
            plan.again_after(left.unsigned_abs() + Duration::from_millis(100));
            continue;
        }
        let key = &daemon.object.key;
        let message =
            format!("Found {finished} daemon pod {}/{} on node {node}, will try to kill it", key.namespace, key.name);
        let (severity, reason) = match finished {
            "failed" => (Severity::Warning, "FailedDaemonPod"),
            _ => (Severity::Normal, "SucceededDaemonPod"),
        };
        plan.tell(reference(set), severity, reason, message);
        victims.push(Victim::of(&daemon.object));
    }
    victims
}

/// All but the oldest of several pods on a node.
fn surplus(here: &[Daemon]) -> impl Iterator<Item = Victim> + use<> {
    let mut active: Vec<_> = here.iter().filter(|daemon| pods::is_active(&daemon.pod)).collect();
    active.sort_by_key(|daemon| {
        let created = daemon.pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (pods::node_name(&daemon.pod).is_empty(), created, daemon.object.key.name.clone())
    });
    active.iter().skip(1).map(|daemon| Victim::of(&daemon.object)).collect::<Vec<_>>().into_iter()
}

/// Pods of an older template that may be replaced now: those that do not work at once, others as `maxUnavailable` allows.
fn outdated(
    spec: &DaemonSetSpec,
    on_node: &BTreeMap<String, Vec<Daemon>>,
    nodes: &[Node],
    hash: &str,
    now: Now,
) -> Vec<Victim> {
    let strategy = spec.update_strategy.as_ref();
    if strategy.and_then(|s| s.type_.as_deref()) == Some("OnDelete") {
        return Vec::new();
    }
    let template = spec.template.spec.clone().unwrap_or_default();
    let wanted: Vec<_> =
        nodes.iter().filter(|node| fitness(&template, node).run).filter_map(|n| n.metadata.name.as_ref()).collect();
    let allowed = strategy.and_then(|s| s.rolling_update.as_ref()).and_then(|rolling| rolling.max_unavailable.as_ref());
    let allowed = allowed.map_or(1, |allowed| resolve(Some(allowed), count(wanted.len()), true).max(1));
    let (mut broken, mut working, mut unavailable) = (Vec::new(), Vec::new(), 0);
    for node in wanted {
        let here = on_node.get(node).map(Vec::as_slice).unwrap_or_default();
        let Some(daemon) = here.iter().find(|daemon| pods::is_active(&daemon.pod)) else {
            unavailable += 1;
            continue;
        };
        let (available, _) = pods::availability(&daemon.pod, spec.min_ready_seconds.unwrap_or(0), now);
        match (daemon.is_of(hash), available) {
            (true, true) => {}
            (true, false) => unavailable += 1,
            (false, true) => working.push(Victim::of(&daemon.object)),
            (false, false) => {
                unavailable += 1;
                broken.push(Victim::of(&daemon.object));
            }
        }
    }
    let room = usize::try_from(allowed - unavailable).unwrap_or(0);
    broken.extend(working.into_iter().take(room));
    broken
}

fn status(
    set: &DaemonSet,
    spec: &DaemonSetSpec,
    nodes: &[Node],
    on_node: &BTreeMap<String, Vec<Daemon>>,
    hash: &str,
    plan: &mut Plan,
    now: Now,
) -> DaemonSetStatus {
    let template = spec.template.spec.clone().unwrap_or_default();
    let (mut desired, mut current, mut stray, mut ready, mut available, mut updated) = (0, 0, 0, 0, 0, 0);
    for node in nodes {
        let here =
            node.metadata.name.as_ref().and_then(|name| on_node.get(name)).map(Vec::as_slice).unwrap_or_default();
        if !fitness(&template, node).run {
            stray += i32::from(!here.is_empty());
            continue;
        }
        desired += 1;
        let oldest = |daemon: &&Daemon| daemon.pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let Some(daemon) = here.iter().min_by_key(oldest) else { continue };
        current += 1;
        updated += i32::from(daemon.is_of(hash));
        if pods::is_ready(&daemon.pod) {
            ready += 1;
            let (is_available, at) = pods::availability(&daemon.pod, spec.min_ready_seconds.unwrap_or(0), now);
            available += i32::from(is_available);
            at.into_iter().for_each(|at| plan.again_at(at, now));
        }
    }
    let some = |n: i32| Some(n).filter(|n| *n > 0);
    DaemonSetStatus {
        desired_number_scheduled: desired,
        current_number_scheduled: current,
        number_misscheduled: stray,
        number_ready: ready,
        number_available: some(available),
        number_unavailable: some(desired - available),
        updated_number_scheduled: some(updated),
        observed_generation: set.metadata.generation,
        collision_count: set.status.as_ref().and_then(|status| status.collision_count),
        conditions: set.status.as_ref().and_then(|status| status.conditions.clone()),
    }
}
