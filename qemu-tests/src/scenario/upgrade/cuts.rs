//! The plug is pulled at random moments of an upgrade, from the first byte fetched to the last word of the slot record: each time a system
//! comes up, with all that was acknowledged, and in the end the new one runs.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::super::{BOOT, boot};
use super::{UPGRADED, Wisher, bundle};
use crate::guest::{Guest, Setup, fresh_disk};
use crate::report::step;
use crate::server::{Given, Server};

/// From the first request for the bundle to the end of the trial, on a machine that is not busy.
const SPAN: Duration = Duration::from_secs(45);
const SYSTEMS: [&str; 2] = ["cut-one", "cut-two"];
/// Slow enough that fetching takes a good part of it, in bytes a second.
const RATE: u64 = 40_000;

pub fn run(setup: &Setup, times: u32) -> Result<()> {
    let dir = setup.out.join("tests/upgrade-cuts");
    let dir = dir.as_path();
    let disk = fresh_disk(setup, dir)?;
    // Two systems that take turns: whichever runs, the other is wished.
    let server = Server::start()?;
    let mut sources = Vec::new();
    for name in SYSTEMS {
        let config = dir.join(format!("{name}.yaml"));
        std::fs::write(&config, format!("node: {{labels: {{system: {name}}}}}\n"))?;
        let bundle = bundle(setup, name, &["--machine", &config.to_string_lossy()])?;
        sources.push((name, server.serve_so(name, Given { path: bundle, most: None, bytes_per_second: Some(RATE) })));
    }
    let seed = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64;
    eprintln!("  {times} power cuts, seed {seed}");
    let mut random = seed | 1;
    let mut kept = Vec::new();
    for cut in 0..=times {
        let mut guest = Guest::boot(setup, &disk, dir, "")?;
        let kubectl = guest.kubectl(BOOT).with_context(|| format!("boot after cut {cut}"))?;
        kubectl.until(BOOT, &["get", "--raw", "/readyz"], |text| text == "ok")?;
        let there = kubectl.run(&["get", "configmaps", "-o", "name"])?;
        let lost: Vec<_> = kept.iter().filter(|name| !there.contains(&format!("configmap/{name}\n"))).collect();
        ensure!(lost.is_empty(), "after cut {cut} {lost:?} are gone");
        let machine = Wisher::new(&kubectl)?;
        let status = machine.status()?;
        let phase = status.upgrade.map(|told| told.phase).unwrap_or_default();
        eprintln!("  start {cut}: system {}, upgrade {phase}", status.version);
        let other = sources.iter().find(|(name, _)| *name != status.version);
        let (next, source) = other.context("both systems are the one that runs")?;
        // What a cut ended during its trial counts as failed: it is asked for once more.
        let wish = json!({"source": source, "attempt": cut, "gate": {"soakSeconds": 2, "limitSeconds": 300}});
        let patch = json!({"spec": {"upgrade": wish}}).to_string();
        kubectl.until(BOOT, &["patch", "machine", &machine.node, "--type=merge", "-p", &patch], |_| true)?;
        if cut == times {
            step("undisturbed, it comes to its end", || machine.until(&guest, source, "Committed", UPGRADED))?;
            step("the new system runs", || {
                ensure!(machine.status()?.version == *next, "{:?}", machine.status()?);
                boot::ready(&kubectl)
            })?;
            continue;
        }
        let name = format!("kept-{cut}");
        kubectl.run(&["create", "configmap", &name, "--from-literal=a=b"])?;
        kept.push(name);
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let moment = Duration::from_millis(random % SPAN.as_millis() as u64);
        let start = Instant::now();
        while start.elapsed() < moment {
            std::thread::sleep(Duration::from_millis(20));
        }
        guest.kill()?;
    }
    Ok(())
}
