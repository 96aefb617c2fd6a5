//! A config on trial: kept once the machine has been well with it for a while, else refused, and the machine rebooted into the old one.

use crate::machine::Machine;
use crate::request::Request;
use crate::services::health;
use crate::supervisor::{Handle, Status};
use crate::trial::{Trial, Trials};
use kedge_stage1::report;
use std::sync::Arc;
use std::time::Duration;

/// What has been well for so long stays well.
const SOAK: Duration = Duration::from_secs(10);

pub async fn run(machine: Arc<Machine>, trial: Trial, handle: Handle) -> anyhow::Result<()> {
    handle.ready();
    handle.note("a new machine config is on trial");
    let passed = report::now().saturating_sub(machine.started);
    let left = Duration::from_secs(trial.limit.into()).saturating_sub(passed);
    let missing = tokio::select! {
        () = handle.stopped() => return Ok(()),
        () = well(&machine, &trial, &handle) => None,
        () = tokio::time::sleep(left) => Some(missing(&machine, &trial, &handle.statuses().borrow())),
    };
    let trials = Trials::at(&machine.state);
    match missing {
        None => {
            let kept = trial.clone();
            tokio::task::spawn_blocking(move || trials.keep(&kept)).await??;
            tracing::info!(generation = trial.edit.generation, "the new machine config is kept");
            handle.note("");
            machine.trial.send_replace(None);
        }
        Some(missing) => {
            let why = format!("not well within {} s: {}", trial.limit, missing.join("; "));
            tracing::error!(generation = trial.edit.generation, "the new machine config is refused: {why}");
            crate::console::say(&format!("\nkedge: the new machine config is refused: {why}\n"));
            tokio::task::spawn_blocking(move || trials.refuse(&trial, &why)).await??;
            machine.requests.ask(Request::Reboot)?;
        }
    }
    handle.stopped().await;
    Ok(())
}

/// Completes when nothing has been missing for a while.
async fn well(machine: &Machine, trial: &Trial, handle: &Handle) {
    let (mut statuses, mut network) = (handle.statuses(), machine.network.subscribe());
    let mut ready = machine.node_ready.subscribe();
    loop {
        let well = missing(machine, trial, &statuses.borrow_and_update()).is_empty();
        network.mark_unchanged();
        // Who could tell of a change goes with the process.
        let changed = async {
            tokio::select! {
                changed = statuses.changed() => changed.is_ok(),
                changed = network.changed() => changed.is_ok(),
                changed = ready.changed() => changed.is_ok(),
            }
        };
        if well {
            match tokio::time::timeout(SOAK, changed).await {
                Ok(_) => {}
                Err(_) => return,
            }
        } else {
            changed.await;
        }
    }
}

/// What a machine that is well has, and this one has not.
fn missing(machine: &Machine, trial: &Trial, statuses: &[Status]) -> Vec<String> {
    let address = trial.addressed && machine.network.borrow().addresses.is_empty();
    let address = address.then(|| "no address, and there was one before".to_owned());
    health::missing(machine, statuses).into_iter().chain(address).collect()
}
