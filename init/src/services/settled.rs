//! Waits until every service is ready, then tells how long the start took and confirms the slot: this system works.

use crate::machine::Machine;
use crate::slot;
use crate::supervisor::{Handle, Phase};
use crate::upgrade::gate;
use kedge_config::names;
use kedge_stage1::report;
use std::fmt::Write;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

pub async fn run(machine: Arc<Machine>, handle: Handle) -> anyhow::Result<()> {
    handle.ready();
    // A new system has more to show, and less time.
    if let Some((place, trial)) = gate::trial(&machine).await? {
        gate::run(&machine, place, trial, &handle).await?;
        tell(&machine);
        handle.stopped().await;
        return Ok(());
    }
    let mut statuses = handle.statuses();
    let all_ready = statuses.wait_for(|all| all.iter().all(|status| status.phase == Phase::Ready));
    tokio::select! {
        () = handle.stopped() => return Ok(()),
        ready = all_ready => { ready?; }
    }
    tell(&machine);
    // In rescue the services that are there are ready, and that proves nothing.
    if machine.boot.rescue.is_none() {
        let own = Arc::clone(&machine);
        tokio::task::spawn_blocking(move || slot::confirm(own.disk.as_ref())).await??;
    }
    handle.stopped().await;
    Ok(())
}

fn tell(machine: &Machine) {
    if !machine.origin.is_successor() {
        let stage1 = fs::read_to_string(names::STAGE1_REPORT).unwrap_or_default();
        let table = timings(&stage1, machine, report::now());
        table.lines().for_each(|line| tracing::info!("{line}"));
        crate::console::say(&table);
    }
}

/// When each step of the start was done, since the kernel started.
fn timings(stage1: &str, machine: &Machine, settled: Duration) -> String {
    let mut text = String::from("start, seconds since the kernel's\n");
    let seconds = |time: Duration| time.as_secs_f64();
    // Writing to a String cannot fail.
    for (name, time) in report::times(stage1) {
        let _ = writeln!(text, "  {:8.3}  {name}", seconds(time));
    }
    let mut phases = String::new();
    let slow = machine.boot.outcomes.iter().filter(|outcome| outcome.took > Duration::from_millis(1));
    slow.for_each(|outcome| {
        let _ = write!(phases, " {} {:.0} ms", outcome.phase, seconds(outcome.took) * 1e3);
    });
    let _ = writeln!(text, "  {:8.3}  pid-1", seconds(machine.started));
    let _ = writeln!(text, "            boot phases:{phases}");
    let _ = writeln!(text, "  {:8.3}  all services ready", seconds(settled));
    text
}
