//! UEFI Secure Boot: firmware that trusts one certificate starts what its key signed, and nothing else.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::{BOOT, SOON, boot};
use crate::bake;
use crate::guest::{Guest, Setup, fresh_disk};
use crate::report::step;

/// Firmware with Secure Boot, its variables with a certificate in them, and that certificate with its key: Debian's package `ovmf`.
const CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd";
const VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd";
const CERTIFICATE: &str = "/usr/share/ovmf/PkKek-1-snakeoil.pem";
const KEY: &str = "/usr/share/ovmf/PkKek-1-snakeoil.key";

pub fn run(setup: &Setup, dir: &Path) -> Result<()> {
    let Some((signed, _)) = signed(setup, dir)? else { return Ok(()) };
    let spoilt = |setup: &Setup, spoil: &dyn Fn(&Path) -> Result<()>| {
        let disk = fresh_disk(setup, dir)?;
        spoil(&disk)?;
        start(setup, &disk, dir)
    };
    let mut guest = spoilt(&signed, &|_| Ok(()))?;
    let kubectl = step("signed: firmware, systemd-boot, kernel, API", || guest.kubectl(BOOT))?;
    step("the node is Ready", || boot::ready(&kubectl))?;
    guest.kill()?;

    let mut guest = spoilt(setup, &|_| Ok(()))?;
    step("without signatures the firmware refuses the boot loader", || {
        guest.wait_console("Access Denied", SOON)?;
        ensure!(guest.starts() == 0, "it started; {}", guest.tail());
        Ok(())
    })?;
    guest.kill()?;

    let mut guest = spoilt(&signed, &|disk| flip(disk, b"kedge-stage1: "))?;
    step("a changed byte in the initramfs: the firmware refuses the kernel", || {
        guest.wait_console("kedge.efi: Access denied", SOON)?;
        ensure!(guest.starts() == 0, "it started; {}", guest.tail());
        Ok(())
    })
}

/// The setup baked with the owner's key, and the options that did it; none where there is no firmware for it.
pub fn signed(setup: &Setup, dir: &Path) -> Result<Option<(Setup, Vec<String>)>> {
    let board = kedge_image::plan::find_board(&setup.board)?;
    let ours = board.config.qemu.is_some_and(|qemu| qemu.machine == "q35");
    if !ours || ![CODE, VARIABLES, CERTIFICATE, KEY].iter().all(|path| Path::new(path).exists()) {
        eprintln!(
            "  left out: Debian's ovmf, which has a firmware with test keys, is for q35 machines, and must be installed"
        );
        return Ok(None);
    }
    let signed = Setup { out: dir.join("signed"), ..setup.clone() };
    std::fs::create_dir_all(&signed.out)?;
    let key = dir.join("owner.key");
    step("bake with the owner's key", || {
        let mut open = Command::new("openssl");
        open.args(["pkcs8", "-topk8", "-nocrypt", "-passin", "pass:snakeoil", "-in", KEY, "-out"]).arg(&key);
        let status = open.stderr(Stdio::inherit()).status().context("openssl")?;
        ensure!(status.success(), "openssl pkcs8: {status}");
        let key = key.display().to_string();
        let options = ["--secure-boot-key", &key, "--secure-boot-cert", CERTIFICATE];
        bake::bake_with(&signed, &options)?;
        Ok(Some((signed, options.map(str::to_owned).to_vec())))
    })
}

/// Starts `disk` by firmware that trusts the owner.
pub fn start(setup: &Setup, disk: &Path, dir: &Path) -> Result<Guest> {
    let variables = dir.join("variables.fd");
    std::fs::copy(VARIABLES, &variables)?;
    Guest::boot_secured(setup, disk, dir, Path::new(CODE), &variables)
}

/// Changes one bit where the disk first holds `text`.
fn flip(disk: &Path, text: &[u8]) -> Result<()> {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(disk)?;
    let mut piece = vec![0; 1 << 20];
    for at in (0..64_u64 << 20).step_by(piece.len() / 2) {
        let count = file.read_at(&mut piece, at)?;
        let found = piece.get(..count).unwrap_or_default().windows(text.len()).position(|bytes| bytes == text);
        if let Some(found) = found {
            let byte = text.first().map_or(0, |byte| byte ^ 1);
            return file.write_all_at(&[byte], at + found as u64).map_err(Into::into);
        }
    }
    anyhow::bail!("{} does not hold \"{}\"", disk.display(), String::from_utf8_lossy(text))
}
