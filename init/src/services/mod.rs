//! The service table: what runs in this process, in order.

mod clock;
mod cluster;
mod config;
pub mod health;
mod modules;
mod network;
mod settled;
mod watchdog;

pub use cluster::ADMIN_KUBECONFIG;
pub use config::{API_VERSION, MACHINES};

use crate::machine::Machine;
use crate::supervisor::Service;
use crate::{console, power};
use std::sync::Arc;

/// What runs whatever the cluster does.
fn basics(machine: &Arc<Machine>) -> Vec<Service> {
    let own = || Arc::clone(machine);
    let modules = own();
    let modules = Service::new("modules", &[], move |handle| modules::run(Arc::clone(&modules), handle));
    if machine.hosted {
        let network = own();
        let network = Service::new("network", &[], move |handle| network::observe(Arc::clone(&network), handle));
        return if machine.agent { vec![modules, network] } else { vec![network] };
    }
    let (network, clock, requests) = (own(), own(), machine.requests.clone());
    let mut table = vec![
        modules,
        Service::new("network", &[], move |handle| network::run(Arc::clone(&network), handle)),
        Service::new("power-button", &["modules"], move |handle| power::button(requests.clone(), handle)),
    ];
    if machine.board.as_ref().is_some_and(|board| board.watchdog.is_some()) {
        let machine = own();
        table.push(Service::new("watchdog", &["modules"], move |handle| watchdog::run(Arc::clone(&machine), handle)));
    }
    if let Some(trial) = machine.trial.borrow().clone() {
        let machine = own();
        let run = move |handle| config::trial::run(Arc::clone(&machine), trial.clone(), handle);
        table.push(Service::new("trial", &[], run));
    }
    if machine.boot.rescue.is_none() {
        table.push(Service::new("clock", &[], move |handle| clock::run(Arc::clone(&clock), handle)));
    }
    table
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
        table.extend(cluster::services(machine));
    }
    table.extend(observers(machine));
    table
}
