//! Remembers the time, so that a board without a battery starts near it.

use crate::boot;
use crate::machine::Machine;
use crate::supervisor::Handle;
use std::sync::Arc;
use std::time::Duration;

/// A power cut loses at most so much; each write costs the card a few blocks.
const EACH: Duration = Duration::from_secs(3600);

pub async fn run(_: Arc<Machine>, handle: Handle) -> anyhow::Result<()> {
    handle.ready();
    loop {
        tokio::select! {
            // The last time is saved at the very end of a shutdown.
            () = handle.stopped() => return Ok(()),
            () = tokio::time::sleep(EACH) => tokio::task::spawn_blocking(boot::save_clock).await??,
        }
    }
}
