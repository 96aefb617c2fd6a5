//! The machine's own buttons: power off cleanly, come up again with everything that was there, reboot on request.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{BOOT, SOON, boot, survive};
use crate::guest::{Guest, Setup, fresh_disk};
use crate::report::step;

pub fn run(setup: &Setup, dir: &Path) -> Result<()> {
    let disk = fresh_disk(setup, dir)?;
    let mut guest = Guest::boot(setup, &disk, dir, "")?;
    let kubectl = step("the API answers", || guest.kubectl(BOOT))?;
    step("the node is Ready", || boot::ready(&kubectl))?;
    kubectl.run(&["create", "configmap", "kept", "--from-literal=a=b"])?;
    boot::apply(&kubectl, dir, boot::SAMPLE)?;
    step("the sample runs", || boot::sample_runs(&kubectl))?;
    step("the power button ends it cleanly", || {
        guest.press_power_button()?;
        let status = guest.wait_exit(SOON)?;
        ensure!(status.success(), "QEMU ended with {status}");
        let console = guest.console();
        ensure!(console.contains("file systems synced"), "no clean end; {}", guest.tail());
        Ok(())
    })?;
    let mut guest = Guest::boot(setup, &disk, dir, "")?;
    let kubectl = step("the API answers again", || guest.kubectl(BOOT))?;
    step("what was there is there, and runs again", || {
        ensure!(
            kubectl.run(&["get", "configmap", "kept", "-o", "jsonpath={.data.a}"])? == "b",
            "the ConfigMap is gone"
        );
        boot::ready(&kubectl)?;
        kubectl.until(SOON, &["get", "deployment", "web", "-o", "jsonpath={.status.readyReplicas}"], |t| t == "3")?;
        boot::http_until(guest.node_port, "Hello").context("the Service after a reboot")
    })?;
    step("an API request reboots", || {
        survive::machine(&kubectl, "machine/reboot")?;
        guest.wait_console("rebooting", SOON)
    })?;
    std::thread::sleep(Duration::from_secs(1));
    step("and it comes up again", || {
        kubectl.until(BOOT, &["get", "configmap", "kept", "-o", "name"], |t| t == "configmap/kept\n").map(drop)
    })?;
    step("Ctrl-Alt-Del reboots", || {
        let boots = guest.console().matches("stage 1").count();
        guest.press_ctrl_alt_del()?;
        let start = std::time::Instant::now();
        while guest.console().matches("stage 1").count() <= boots {
            ensure!(start.elapsed() < SOON, "no reboot; {}", guest.tail());
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    })?;
    step("a reset empties STATE, and another cluster begins", || {
        kubectl.until(BOOT, &["get", "configmap", "kept", "-o", "name"], |t| t == "configmap/kept\n")?;
        let boots = guest.starts();
        survive::machine(&kubectl, "machine/reset")?;
        let start = std::time::Instant::now();
        while guest.starts() <= boots || !guest.console().contains("STATE was emptied") {
            ensure!(start.elapsed() < BOOT, "STATE was not emptied; {}", guest.tail());
            std::thread::sleep(Duration::from_millis(100));
        }
        // The kubeconfig of the new cluster comes behind that of the old one: a fresh start has it alone.
        guest.kill()?;
        let mut guest = Guest::boot(setup, &disk, dir, "")?;
        let kubectl = guest.kubectl(BOOT)?;
        boot::ready(&kubectl)?;
        let there = kubectl.run(&["get", "configmaps", "-o", "name"])?;
        ensure!(!there.contains("configmap/kept"), "{there}");
        Ok(())
    })
}
