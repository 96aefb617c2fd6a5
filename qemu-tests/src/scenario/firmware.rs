//! The disk image by itself: baked twice it is the same, and UEFI firmware starts it without QEMU's help.

use std::path::Path;

use anyhow::{Result, ensure};
use kedge_image::signing;

use super::{BOOT, boot};
use crate::bake;
use crate::guest::{Guest, Setup, fresh_disk};
use crate::report::step;

pub fn run(setup: &Setup, dir: &Path) -> Result<()> {
    step("baked again, the image has the same bytes", || {
        let again = Setup { out: dir.join("again"), ..setup.clone() };
        std::fs::create_dir_all(&again.out)?;
        // The signature is part of the image.
        std::fs::copy(setup.out.join(signing::DEVELOPMENT), again.out.join(signing::DEVELOPMENT))?;
        bake::bake(&again)?;
        let image = format!("{}.img", setup.board);
        let same = same(&setup.out.join(&image), &again.out.join(&image))?;
        ensure!(same, "{} differs from the first", again.out.join(&image).display());
        std::fs::remove_dir_all(&again.out).map_err(Into::into)
    })?;
    let disk = fresh_disk(setup, dir)?;
    let mut guest = Guest::boot_through_firmware(setup, &disk, dir)?;
    let kubectl = step("firmware, systemd-boot, kernel, API", || guest.kubectl(BOOT))?;
    step("the node is Ready", || boot::ready(&kubectl))
}

/// Compared piece by piece: an image may be larger than memory.
fn same(a: &Path, b: &Path) -> Result<bool> {
    use std::io::Read as _;
    let (mut a, mut b) = (std::fs::File::open(a)?, std::fs::File::open(b)?);
    if a.metadata()?.len() != b.metadata()?.len() {
        return Ok(false);
    }
    let (mut left, mut right) = (Vec::new(), Vec::new());
    loop {
        left.clear();
        right.clear();
        let read = (&mut a).take(1 << 20).read_to_end(&mut left)?;
        (&mut b).take(1 << 20).read_to_end(&mut right)?;
        if read == 0 || left != right {
            return Ok(left == right);
        }
    }
}
