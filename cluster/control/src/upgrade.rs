//! Upgrades of the machines below a cluster's nodes: an `Upgrade` says what is to run where, this sees to it that it comes to that.
//!
//! Owns the order of nodes, cordons, evictions and the wishes of machines; never speaks to a machine, which reads its wish and tells what
//! became of it. Start reading at [`rollout`]. Where there are no Upgrades nothing is looked at.

pub mod definition;
mod drain;
mod fleet;
mod kind;
pub mod plans;
mod rollout;
mod tell;
#[cfg(test)]
mod tests;
mod window;

use std::sync::Arc;

use kedge_api::resource::known::{NODES, PODS};
use kedge_api::{Change, GroupResource, Key, Object, Reason, Snapshot, Status};

use crate::controller::{Controller, Now, Plan};
use kind::{CORDONED_BY, MACHINES, Machine, MachinePhase, Node, UPGRADES};

const WATCHES: &[GroupResource] = &[UPGRADES, MACHINES, NODES, PODS];

pub struct Upgrades;

impl Controller for Upgrades {
    fn name(&self) -> &'static str {
        "upgrade-controller"
    }

    fn watches(&self) -> &'static [GroupResource] {
        WATCHES
    }

    fn keys(&self, snapshot: &Snapshot, change: &Change, keys: &mut Vec<Key>) {
        // One that goes or ends may be what another waits for.
        let concerned = change.key.resource == UPGRADES || (snapshot.len(&UPGRADES) > 0 && matters(snapshot, change));
        if concerned {
            keys.extend(snapshot.list(&UPGRADES, "").map(|object| object.key.clone()));
        }
    }

    fn plan(&self, snapshot: &Snapshot, key: &Key, now: Now) -> Result<Plan, Status> {
        match snapshot.get(key) {
            Some(object) => rollout::plan(snapshot, object, now),
            None => Ok(Plan::default()),
        }
    }

    fn failed(&self, snapshot: &Snapshot, key: &Key, _: Now, why: &Status) -> Result<Plan, Status> {
        let mut plan = Plan::default();
        let refused = [Reason::Invalid, Reason::Forbidden, Reason::BadRequest].contains(&why.reason);
        if let Some(object) = snapshot.get(key).filter(|_| refused) {
            tell::refused(object, why, &mut plan)?;
        }
        Ok(plan)
    }
}

/// Whether a change of what is not an Upgrade may matter to one: neither heartbeats nor what a machine has fetched so far do.
fn matters(snapshot: &Snapshot, change: &Change) -> bool {
    let (Some(before), Some(after)) = (&change.before, &change.after) else {
        return change.key.resource != PODS || leaves(snapshot, change);
    };
    if change.key.resource == PODS {
        return false;
    }
    before.meta.labels != after.meta.labels
        || before.meta.annotations != after.meta.annotations
        || match change.key.resource == NODES {
            true => node(before) != node(after),
            false => machine(before) != machine(after),
        }
}

/// Whether a pod went that a drain may have waited for.
fn leaves(snapshot: &Snapshot, change: &Change) -> bool {
    let pod = change.before.as_ref().filter(|_| change.after.is_none()).and_then(|object| object.pod().ok());
    let node = pod.and_then(|pod| snapshot.get(&Key::new(NODES, "", crate::pods::node_name(&pod))));
    node.is_some_and(|node| node.meta.annotations.as_ref().is_some_and(|all| all.contains_key(CORDONED_BY)))
}

fn node(object: &Arc<Object>) -> Option<Node> {
    let mut node: Node = object.decode().ok()?;
    node.status.conditions.iter_mut().for_each(|conditions| conditions.retain(|condition| condition.kind == "Ready"));
    Some(node)
}

fn machine(object: &Arc<Object>) -> Option<Machine> {
    let mut machine: Machine = object.decode().ok()?;
    let told = machine.status.upgrade.iter_mut();
    told.filter(|told| !matches!(told.phase, Some(MachinePhase::Waiting | MachinePhase::Failed)))
        .for_each(|told| told.message = None);
    Some(machine)
}
