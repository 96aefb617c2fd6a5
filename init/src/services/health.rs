//! Whether this machine is well, as trials ask it.

use crate::machine::Machine;
use crate::supervisor::{Phase, Status};

/// What a machine that is well has, and this one has not.
pub fn missing(machine: &Machine, statuses: &[Status]) -> Vec<String> {
    let rescue = machine.boot.rescue.iter().map(|why| format!("the cluster is not started ({why})"));
    let services = statuses.iter().filter(|status| status.phase != Phase::Ready).map(|status| match &status.phase {
        Phase::Failed { why, .. } => format!("{}: {why}", status.name),
        _ => format!("{} is not ready", status.name),
    });
    let node = (!*machine.node_ready.borrow()).then(|| "the node is not Ready".to_owned());
    rescue.chain(services).chain(node).collect()
}
