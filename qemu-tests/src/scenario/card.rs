//! A card in a machine as it was built, which has no port to hand out a kubeconfig: the card is right, the machine starts from it to Ready,
//! and after a power cut it does so again.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::BOOT;
use crate::guest::{Guest, Setup, fresh_disk};
use crate::report::step;

/// Four processors that are emulated by less than four wait for each other.
const SLOWLY: Duration = Duration::from_secs(3 * BOOT.as_secs());

pub fn run(setup: &Setup, dir: &Path) -> Result<()> {
    let disk = step("a card as large as cards are", || fresh_disk(setup, dir))?;
    right(setup, &disk)?;
    for what in ["the first start: the node is Ready", "and again after a power cut"] {
        // The kernel's log, which holds init's, is told on the console.
        let mut guest = Guest::boot(setup, &disk, dir, "ignore_loglevel")?;
        step(what, || {
            guest.wait_console("milestone=ready", SLOWLY)?;
            answers(guest.api_port)
        })?;
        let grown = guest.console().contains("STATE's partition was grown");
        ensure!(grown == what.starts_with("the first"), "STATE is grown once: {}", guest.tail());
        guest.kill()?;
    }
    Ok(())
}

/// For boards that cannot be emulated.
pub fn inspect(setup: &Setup, dir: &Path) -> Result<()> {
    let disk = fresh_disk(setup, dir)?;
    right(setup, &disk)
}

fn right(setup: &Setup, disk: &Path) -> Result<()> {
    step("the firmware finds on it all that its documentation asks for", || {
        let inspect = Command::new(setup.bin.join("kedge-image")).arg("inspect").arg(disk).output()?;
        ensure!(inspect.status.success(), "inspect: {}", String::from_utf8_lossy(&inspect.stderr));
        Ok(())
    })
}

fn answers(port: u16) -> Result<()> {
    let url = format!("https://127.0.0.1:{port}/readyz");
    let curl =
        Command::new("curl").args(["--silent", "--insecure", "--max-time", "60", &url]).output().context("curl")?;
    ensure!(curl.stdout == b"ok", "{url}: {}", String::from_utf8_lossy(&curl.stdout));
    Ok(())
}
