//! A new system that brings boot files of its own, to a machine that firmware and systemd-boot start: it is started by its own entry, tried and
//! kept; after a power cut it is started again. What comes next goes into the slot that the first system leaves.

use std::path::Path;

use anyhow::{Result, ensure};
use kedge_config::slot::{SlotName, Verdict};
use kedge_image::signing::SigningKey;
use serde_json::json;

use super::super::kernels::entries;
use super::super::{BOOT, SOON, boot, secure_boot};
use super::{UPGRADED, Wisher, bundle, record};
use crate::guest::{Guest, Setup, fresh_disk};
use crate::report::step;
use crate::server::Server;

pub fn run(setup: &Setup, dir: &Path) -> Result<()> {
    back_and_forth(setup, dir, &[], &|disk| Guest::boot_through_firmware(setup, disk, dir))
}

/// Under Secure Boot: what is brought is one signed program.
pub fn signed(setup: &Setup, dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    let Some((signed, options)) = secure_boot::signed(setup, dir)? else { return Ok(()) };
    let start = |disk: &Path| secure_boot::start(&signed, disk, dir);
    back_and_forth(&signed, dir, &options, &start)?;
    let disk = fresh_disk(&signed, dir)?;
    let bundle = step("a bundle without a signed program", || bundle(&signed, "unsigned", &[]))?;
    let mut guest = start(&disk)?;
    let kubectl = guest.kubectl(BOOT)?;
    boot::ready(&kubectl)?;
    step("is refused before anything is written", || {
        let server = Server::start()?;
        let source = server.serve("unsigned", &bundle);
        let machine = Wisher::new(&kubectl)?;
        machine.wish(&json!({"source": source}))?;
        let status = machine.until(&guest, &source, "Failed", SOON)?;
        ensure!(status.message.contains("this machine is started by a signed program"), "{status:?}");
        ensure!(record(&disk)?.b.verdict == Verdict::Empty, "{:?}", record(&disk)?);
        Ok(())
    })
}

fn back_and_forth(setup: &Setup, dir: &Path, always: &[String], start: &dyn Fn(&Path) -> Result<Guest>) -> Result<()> {
    let disk = fresh_disk(setup, dir)?;
    // A further key that stage 1 trusts: the initramfs is another.
    let keys = dir.join("keys");
    if keys.exists() {
        std::fs::remove_dir_all(&keys)?;
    }
    std::fs::create_dir(&keys)?;
    let key = keys.join("further.key");
    SigningKey::create(&key)?;
    let trusted = key.with_added_extension("pub").display().to_string();
    let server = Server::start()?;
    let mut guest = start(&disk)?;
    let systems: [(&str, SlotName, &[&str]); 2] =
        [("keys", SlotName::B, &["--trust", &trusted]), ("again", SlotName::A, &[])];
    for (name, slot, options) in systems {
        let options: Vec<&str> = always.iter().map(String::as_str).chain(options.iter().copied()).collect();
        let bundle = step(&format!("the bundle of system {name}"), || bundle(setup, name, &options))?;
        let source = server.serve(name, &bundle);
        let kubectl = step("the API answers", || guest.kubectl(BOOT))?;
        step("the node is Ready", || boot::ready(&kubectl))?;
        let machine = Wisher::new(&kubectl)?;
        let before = guest.starts();
        step("it is fetched, started by its own kernel, and kept", || {
            machine.wish(&json!({"source": source, "gate": {"soakSeconds": 5, "limitSeconds": 300}}))?;
            machine.until(&guest, &source, "Committed", UPGRADED)?;
            let record = record(&disk)?;
            ensure!(record.slot(slot).verdict == Verdict::Good, "{record:?}");
            // Firmware started the right kernel at once.
            ensure!(guest.starts() == before + 1, "{} starts; {}", guest.starts(), guest.tail());
            Ok(())
        })?;
        guest.kill()?;
        let found = entries(&disk)?;
        ensure!(found == ["kedge-a.conf", "kedge-b.conf"], "{found:?}");
        guest = start(&disk)?;
        step("a power cut later it is started at once", || {
            let kubectl = guest.kubectl(BOOT)?;
            boot::ready(&kubectl)?;
            let status = Wisher::new(&kubectl)?.status()?;
            ensure!(status.version == name && guest.starts() == 1, "{status:?}; {}", guest.tail());
            Ok(())
        })?;
    }
    Ok(())
}
