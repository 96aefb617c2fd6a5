//! Ports that pods take on the node itself.

use super::Refusal;
use crate::cache::{Cache, NodeState};
use crate::pod::PodInfo;

pub fn free(pod: &PodInfo, node: &NodeState, _: &Cache) -> Result<(), Refusal> {
    let taken = |port| node.pods.values().any(|other| other.ports.iter().any(|its| its.clashes(port)));
    match pod.ports.iter().any(taken) {
        false => Ok(()),
        true => Err(Refusal::by_pods("node(s) didn't have free ports for the requested pod ports")),
    }
}
