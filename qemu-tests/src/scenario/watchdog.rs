//! A disk that answers no more: the machine resets itself, and comes up again.

use std::path::Path;

use anyhow::{Result, ensure};

use super::{BOOT, boot};
use crate::guest::{Guest, Setup, fresh_disk};
use crate::report::step;

pub fn run(setup: &Setup, dir: &Path) -> Result<()> {
    let disk = fresh_disk(setup, dir)?;
    let mut guest = Guest::boot(setup, &disk, dir, "")?;
    let kubectl = step("the API answers", || guest.kubectl(BOOT))?;
    step("the node is Ready", || boot::ready(&kubectl))?;
    ensure!(guest.starts() == 1, "{} starts; {}", guest.starts(), guest.tail());
    step("the disk hangs: the watchdog resets the machine", || guest.hang_disk_until_watchdog(2 * BOOT))?;
    let told = guest.console();
    ensure!(told.contains("the watchdog is not fed any more"), "it was not said why; {}", guest.tail());
    step("the API answers again", || kubectl.until(BOOT, &["get", "--raw", "/readyz"], |text| text == "ok").map(drop))?;
    step("the node is Ready again", || boot::ready(&kubectl))?;
    ensure!(guest.starts() == 2, "{} starts; {}", guest.starts(), guest.tail());
    Ok(())
}
