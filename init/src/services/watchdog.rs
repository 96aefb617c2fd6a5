//! Tells the hardware that this process is alive. When it is not for long enough, the hardware resets the machine, and the slot record
//! counts it.

use crate::machine::Machine;
use crate::supervisor::Handle;
use crate::sys;
use anyhow::Context;
use std::fs::OpenOptions;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

/// Signs of life in each time limit: two may be late.
const SIGNS: u32 = 3;

pub async fn run(machine: Arc<Machine>, handle: Handle) -> anyhow::Result<()> {
    let Some(watchdog) = machine.board.as_ref().and_then(|board| board.watchdog.as_ref()) else {
        handle.ready();
        handle.note("this board has no watchdog");
        handle.stopped().await;
        return Ok(());
    };
    let path = &watchdog.device;
    // Closed without the letter V it goes on counting: through the end of this process, and through the one that replaces it.
    let mut device = OpenOptions::new().write(true).open(path).with_context(|| format!("open {path}"))?;
    let asked = watchdog.timeout_seconds.max(SIGNS);
    let seconds = sys::watchdog_timeout(&device, asked).with_context(|| format!("set {path} to {asked} s"))?;
    handle.note(format!("resets after {seconds} s"));
    handle.ready();
    let mut sign = tokio::time::interval(Duration::from_secs(seconds.into()) / SIGNS);
    loop {
        tokio::select! {
            () = handle.stopped() => return Ok(()),
            _ = sign.tick() => device.write_all(b"\0").with_context(|| format!("write to {path}"))?,
        }
    }
}
