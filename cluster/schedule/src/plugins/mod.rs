//! The plugins as data: filters say whether a node is possible and why not, scores which possible one is best.
//!
//! Owns the tables, in upstream's order; each plugin is a file. Laws, tested in [`crate::decide`]: the first filter that refuses a node
//! gives the reasons; scores are between 0 and 100 before their weight.

mod affinity;
mod ports;
mod resources;
mod simple;
mod spread;

use crate::cache::{Cache, NodeState};
use crate::pod::PodInfo;

/// Changes that may let a refused pod fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// A node came, or its labels, taints or allocatable resources changed.
    Node,
    /// A pod on a node finished or went away.
    PodGone,
    /// A pod came onto a node, or one there changed its labels.
    PodPlaced,
}

/// Why a filter refuses a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub reasons: Vec<String>,
    /// Whether the removal of other pods could help.
    pub resolvable: bool,
}

impl Refusal {
    pub fn fixed(reason: &str) -> Self {
        Self { reasons: vec![reason.to_owned()], resolvable: false }
    }

    pub fn by_pods(reason: &str) -> Self {
        Self { reasons: vec![reason.to_owned()], resolvable: true }
    }
}

pub struct Filter {
    pub name: &'static str,
    pub run: fn(&PodInfo, &NodeState, &Cache) -> Result<(), Refusal>,
    pub woken_by: &'static [Wake],
}

pub struct Score {
    pub name: &'static str,
    pub weight: i64,
    /// A raw figure for a node …
    pub run: fn(&PodInfo, &NodeState, &Cache) -> i64,
    /// … and how the figures of all possible nodes become 0 to 100.
    pub normalize: Normalize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Normalize {
    /// They are already.
    Already,
    /// The highest becomes 100.
    Highest,
    /// The highest becomes 0, zero becomes 100.
    Lowest,
}

pub const FILTERS: &[Filter] = &[
    Filter { name: "NodeUnschedulable", run: simple::unschedulable, woken_by: &[Wake::Node] },
    Filter { name: "NodeName", run: simple::node_name, woken_by: &[Wake::Node] },
    Filter { name: "TaintToleration", run: simple::taints, woken_by: &[Wake::Node] },
    Filter { name: "NodeAffinity", run: simple::node_affinity, woken_by: &[Wake::Node] },
    Filter { name: "NodePorts", run: ports::free, woken_by: &[Wake::Node, Wake::PodGone] },
    Filter { name: "NodeResourcesFit", run: resources::fit, woken_by: &[Wake::Node, Wake::PodGone] },
    Filter { name: "PodTopologySpread", run: spread::filter, woken_by: &[Wake::Node, Wake::PodGone, Wake::PodPlaced] },
    Filter { name: "InterPodAffinity", run: affinity::filter, woken_by: &[Wake::Node, Wake::PodGone, Wake::PodPlaced] },
];

pub const SCORES: &[Score] = &[
    Score { name: "TaintToleration", weight: 3, run: simple::avoided_taints, normalize: Normalize::Lowest },
    Score { name: "NodeAffinity", weight: 2, run: simple::preferred, normalize: Normalize::Highest },
    Score { name: "NodeResourcesFit", weight: 1, run: resources::least_allocated, normalize: Normalize::Already },
    Score { name: "PodTopologySpread", weight: 2, run: spread::score, normalize: Normalize::Lowest },
    Score { name: "InterPodAffinity", weight: 2, run: affinity::score, normalize: Normalize::Highest },
    Score {
        name: "NodeResourcesBalancedAllocation",
        weight: 1,
        run: resources::balanced,
        normalize: Normalize::Already,
    },
];
