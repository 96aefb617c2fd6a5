//! The service table: what runs in this process, in order.

mod clock;
mod network;
mod settled;

use crate::machine::Machine;
use crate::supervisor::Service;
use crate::{console, power};
use std::sync::Arc;

/// What runs whatever the cluster does.
fn basics(machine: &Arc<Machine>) -> Vec<Service> {
    if machine.hosted {
        return Vec::new();
    }
    let own = || Arc::clone(machine);
    let (network, clock, requests) = (own(), own(), machine.requests.clone());
    let mut table = vec![
        Service::new("network", &[], move |handle| network::run(Arc::clone(&network), handle)),
        Service::new("power-button", &[], move |handle| power::button(requests.clone(), handle)),
    ];
    if machine.boot.rescue.is_none() {
        table.push(Service::new("clock", &[], move |handle| clock::run(Arc::clone(&clock), handle)));
    }
    table
}

/// The cluster's services. The one place where they are plugged in; they stand after `network` where it is theirs to wait for.
fn cluster(_: &Arc<Machine>) -> Vec<Service> {
    Vec::new()
}

/// What watches the others.
fn observers(machine: &Arc<Machine>) -> Vec<Service> {
    if machine.hosted {
        return Vec::new();
    }
    let (screen, settled) = (Arc::clone(machine), Arc::clone(machine));
    vec![
        Service::new("console", &[], move |handle| console::run(Arc::clone(&screen), handle)),
        Service::new("settled", &[], move |handle| settled::run(Arc::clone(&settled), handle)),
    ]
}

/// The whole table.
pub fn table(machine: &Arc<Machine>) -> Vec<Service> {
    let mut table = basics(machine);
    if machine.boot.rescue.is_none() {
        table.extend(cluster(machine));
    }
    table.extend(observers(machine));
    table
}
