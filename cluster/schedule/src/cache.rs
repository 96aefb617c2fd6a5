//! What each node has, and what the pods on it have taken; pods that were just assigned count at once.
//!
//! Owns the sums; never decides. Kept by changes, so that a decision costs no walk over all pods.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, PodAffinityTerm};
use kedge_api::placement::{Amounts, amounts};
use kedge_api::quantity::Quantity;
use kedge_api::{Change, Object, Status};

use crate::pod::{HostPort, PodInfo};

/// What a pod without requests counts for when nodes are compared: upstream's figures.
const DEFAULT_MILLI_CPU: i64 = 100;
const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;

#[derive(Clone, Debug)]
pub struct NodeState {
    pub node: Node,
    pub allocatable: Amounts,
    pub requested: Amounts,
    /// Millicores and bytes with the defaults for pods that ask for none; for scores.
    pub weight: (i64, i64),
    pub pods: BTreeMap<Arc<str>, Placed>,
}

/// What is remembered of a pod on a node.
#[derive(Clone, Debug)]
pub struct Placed {
    pub object: Arc<Object>,
    pub requests: Amounts,
    pub ports: Vec<HostPort>,
    pub priority: i32,
    pub anti_affinity: Vec<PodAffinityTerm>,
}

impl NodeState {
    pub fn name(&self) -> &str {
        self.node.metadata.name.as_deref().unwrap_or_default()
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        self.node.metadata.labels.as_ref()?.get(key).map(String::as_str)
    }

    fn count(&mut self, placed: &Placed, add: bool) {
        for (name, amount) in &placed.requests {
            let sum = self.requested.entry(name.clone()).or_default();
            *sum = if add { *sum + *amount } else { *sum - *amount };
        }
        let (cpu, memory) = weight(&placed.requests);
        let sign = if add { 1 } else { -1 };
        self.weight = (self.weight.0 + sign * cpu, self.weight.1 + sign * memory);
    }
}

/// A pod's millicores and bytes as scores count them.
pub fn weight(requests: &Amounts) -> (i64, i64) {
    let of = |name: &str| requests.get(name).copied().unwrap_or(Quantity::ZERO);
    let or = |asked: i64, default| if asked == 0 { default } else { asked };
    (or(of("cpu").milli(), DEFAULT_MILLI_CPU), or(of("memory").value(), DEFAULT_MEMORY))
}

#[derive(Debug, Default)]
pub struct Cache {
    pub nodes: BTreeMap<String, NodeState>,
    /// The node each counted pod is on; the node itself may not be there yet.
    places: HashMap<Arc<str>, String>,
    /// Pods on nodes that are not (or no more) known.
    homeless: HashMap<String, BTreeMap<Arc<str>, Placed>>,
}

impl Cache {
    /// Takes a node's change in. True if it may make room for someone.
    pub fn node_changed(&mut self, change: &Change) -> Result<bool, Status> {
        let name = change.key.name.to_string();
        let Some(object) = &change.after else {
            if let Some(state) = self.nodes.remove(&name)
                && !state.pods.is_empty()
            {
                self.homeless.insert(name, state.pods);
            }
            return Ok(false);
        };
        let node: Node = object.decode()?;
        let allocatable = amounts(node.status.as_ref().and_then(|status| status.allocatable.as_ref()));
        if let Some(state) = self.nodes.get_mut(&name) {
            let unschedulable = |n: &Node| n.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
            let taints = |n: &Node| n.spec.as_ref().and_then(|spec| spec.taints.clone());
            let helps = state.allocatable != allocatable
                || state.node.metadata.labels != node.metadata.labels
                || taints(&state.node) != taints(&node)
                || unschedulable(&state.node) != unschedulable(&node);
            state.node = node;
            state.allocatable = allocatable;
            return Ok(helps);
        }
        let mut state =
            NodeState { node, allocatable, requested: Amounts::new(), weight: (0, 0), pods: BTreeMap::new() };
        for (uid, placed) in self.homeless.remove(&name).unwrap_or_default() {
            state.count(&placed, true);
            state.pods.insert(uid, placed);
        }
        self.nodes.insert(name, state);
        Ok(true)
    }

    pub fn node_of(&self, uid: &str) -> Option<&str> {
        self.places.get(uid).map(String::as_str)
    }

    /// Counts a pod on a node: one that is there, or one that is about to be (then "assumed" until its change arrives).
    pub fn place(&mut self, pod: &PodInfo, node: &str) {
        self.remove(pod.uid());
        let uid: Arc<str> = pod.uid().into();
        let placed = Placed {
            object: pod.object.clone(),
            requests: pod.requests.clone(),
            ports: pod.ports.clone(),
            priority: pod.priority(),
            anti_affinity: pod.anti_affinity_terms().to_vec(),
        };
        self.places.insert(uid.clone(), node.to_owned());
        match self.nodes.get_mut(node) {
            Some(state) => {
                state.count(&placed, true);
                state.pods.insert(uid, placed);
            }
            None => {
                self.homeless.entry(node.to_owned()).or_default().insert(uid, placed);
            }
        }
    }

    /// A newer version of a pod whose place and requests are the same.
    pub fn refresh(&mut self, object: &Arc<Object>) {
        let uid = object.uid();
        let placed =
            self.places.get(uid).and_then(|node| self.nodes.get_mut(node)).and_then(|state| state.pods.get_mut(uid));
        if let Some(placed) = placed {
            placed.object = object.clone();
        }
    }

    /// True if the pod had been counted.
    pub fn remove(&mut self, uid: &str) -> bool {
        let Some(node) = self.places.remove(uid) else { return false };
        if let Some(state) = self.nodes.get_mut(&node) {
            if let Some(placed) = state.pods.remove(uid) {
                state.count(&placed, false);
            }
        } else if let Some(pods) = self.homeless.get_mut(&node) {
            pods.remove(uid);
            if pods.is_empty() {
                self.homeless.remove(&node);
            }
        }
        true
    }
}
