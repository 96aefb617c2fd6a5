//! Loads the kernel modules beside all else that starts: signatures and symbols take seconds on a slow machine, and the control plane
//! needs none of them.

use crate::boot;
use crate::machine::Machine;
use crate::supervisor::Handle;
use std::sync::Arc;

pub async fn run(machine: Arc<Machine>, handle: Handle) -> anyhow::Result<()> {
    // A host's modules are its own matter, and a successor finds them loaded.
    if !machine.hosted && !machine.origin.is_successor() {
        let config = Arc::clone(&machine.config);
        let (loaded, set) =
            tokio::task::spawn_blocking(move || (boot::load_modules(), boot::configured_sysctls(&config))).await?;
        // Told, and no reason to stop: what needs the one that is missing will say so.
        match loaded {
            Ok(count) => tracing::info!(count, "kernel modules are loaded"),
            Err(why) => {
                tracing::error!("{why}");
                handle.note(why);
            }
        }
        if let Err(error) = set {
            tracing::error!("{error:#}");
            handle.note(format!("{error:#}"));
        }
    }
    handle.ready();
    handle.stopped().await;
    Ok(())
}
