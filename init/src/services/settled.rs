//! Waits until every service is ready, then tells how long the start took and confirms the slot: this system works.

use crate::machine::Machine;
use crate::supervisor::{Handle, Phase};
use anyhow::Context;
use kedge_config::names;
use kedge_config::slot::SlotName;
use kedge_stage1::meta::Meta;
use kedge_stage1::report;
use std::fmt::Write;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

pub async fn run(machine: Arc<Machine>, handle: Handle) -> anyhow::Result<()> {
    handle.ready();
    let mut statuses = handle.statuses();
    let all_ready = statuses.wait_for(|all| all.iter().all(|status| status.phase == Phase::Ready));
    tokio::select! {
        () = handle.stopped() => return Ok(()),
        ready = all_ready => { ready?; }
    }
    let stage1 = fs::read_to_string(names::STAGE1_REPORT).unwrap_or_default();
    if !machine.origin.is_successor() {
        let table = timings(&stage1, &machine, report::now());
        table.lines().for_each(|line| tracing::info!("{line}"));
        crate::console::say(&table);
    }
    // In rescue the services that are there are ready, and that proves nothing.
    if machine.boot.rescue.is_none() {
        let own = Arc::clone(&machine);
        tokio::task::spawn_blocking(move || confirm(&own, &stage1)).await??;
    }
    handle.stopped().await;
    Ok(())
}

/// Writes META only if there is something to confirm: a system that is good and was confirmed costs nothing.
fn confirm(machine: &Machine, stage1: &str) -> anyhow::Result<()> {
    let slot = report::parse(stage1).find_map(|(name, value)| (name == "slot").then_some(value));
    let name = match slot {
        Some("a") => SlotName::A,
        Some("b") => SlotName::B,
        // Not started by stage 1: there is no slot.
        Some(_) | None => return Ok(()),
    };
    let device = machine.disk.as_ref().and_then(|disk| disk.device(names::META.name)).context("no META partition")?;
    let meta = Meta::open(device)?;
    let mut record = meta.read()?;
    if record.needs_confirmation(name) {
        record.confirm(name);
        meta.write(&mut record)?;
        tracing::info!(slot = %name, "the slot's system is confirmed");
    }
    Ok(())
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
