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
    guest.throttle_disk(1)?;
    let reset = step("the disk hangs: the watchdog resets the machine", || guest.wait_starts(2, 2 * BOOT));
    // A disk that hangs for ever keeps QEMU itself from ending.
    guest.throttle_disk(0)?;
    reset?;
    let kubectl = step("the API answers again", || guest.kubectl(BOOT))?;
    step("the node is Ready again", || boot::ready(&kubectl))
}
