//! A slot with a kernel of its own, started by firmware and systemd-boot: it is tried and stays, stage 1 changes to the kernel that the slot
//! record asks for, and one that never comes up is left for the other slot's.

use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use kedge_config::boot_files::Role;
use kedge_config::slot::{SlotName, Verdict};
use kedge_config::slot_manifest::{Blob, Digest};
use kedge_config::{autoboot, boot_entry, names};
use kedge_image::assemble::cpio;
use kedge_image::disk::esp::{self, Volume};
use kedge_image::disk::layout::Table;
use kedge_image::inspect::Disk;
use kedge_image::tree::{Content, Tree};
use kedge_stage1::transport::{KERNEL_TRIES, systemd_boot};

use super::verified::{Card, own_key, runs_from_b};
use super::{BOOT, SOON, boot};
use crate::guest::{Guest, Setup};
use crate::report::step;

/// The boot id of the kernel and initramfs that slot B has.
const OTHER: Digest = Digest([0xb0; 32]);

/// A disk with the same system in both slots, and in slot B an initramfs with these files besides.
fn card(setup: &Setup, dir: &Path, more: &[(&str, &str)]) -> Result<Card> {
    let card = Card::new(setup, dir)?;
    let disk = Disk::open(&card.path)?;
    let mut manifest = card.manifest(SlotName::A)?;
    manifest.boot_id = OTHER;
    let mut tree = Tree::new();
    let id = format!("{OTHER}\n");
    for (path, text) in more.iter().chain(&[(names::STAGE1_BOOT_ID, id.as_str())]) {
        tree.file(path, 0o755, Content::bytes(*text), &"test".into())?;
    }
    let mut files = Vec::new();
    for file in &mut manifest.boot {
        let mut bytes = disk.slot_file(SlotName::A, &file.path)?;
        if file.role == Role::Initramfs {
            // The kernel unpacks one archive after another; the last file of a name counts.
            cpio::write(&tree, 0, &mut bytes)?;
        }
        file.blob = Blob { bytes: bytes.len() as u64, sha256: Digest::of_bytes(&bytes) };
        files.push((file.path.clone(), bytes));
    }
    card.sign(SlotName::B, &own_key(setup)?, |signed| *signed = manifest)?;
    let (partition, folder, label) = match disk.table() {
        Table::Gpt => (names::ESP, boot_entry::slot_folder(SlotName::B), esp::LABEL),
        Table::Mbr => (names::BOOT_B, String::new(), esp::LABEL_B),
    };
    change_fat(&card, dir, (partition.name, label), |root| {
        for (path, bytes) in &files {
            let path = root.join(&folder).join(path);
            std::fs::create_dir_all(path.parent().context("a file of no folder")?)?;
            std::fs::write(path, bytes)?;
        }
        Ok(())
    })?;
    Ok(card)
}

/// Slot B is on trial, and firmware is told of it as the device would tell it.
fn try_next(card: &Card, dir: &Path) -> Result<()> {
    let manifest = card.manifest(SlotName::B)?;
    change_esp(card, dir, |folder| {
        let line = systemd_boot::command_line(folder, SlotName::B, &manifest)?;
        let steps = systemd_boot::try_next(&systemd_boot::read(folder)?, SlotName::B, &manifest, &line, KERNEL_TRIES);
        steps.iter().try_for_each(|step| step.apply(folder)).map_err(Into::into)
    })?;
    card.record(|record| record.put_on_trial(SlotName::B, 3))
}

/// Has `change` change the files of the EFI system partition, in a folder.
fn change_esp(card: &Card, dir: &Path, change: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    change_fat(card, dir, (names::ESP.name, esp::LABEL), change)
}

/// The same on any FAT partition.
fn change_fat(
    card: &Card,
    dir: &Path,
    (partition, label): (&'static str, esp::Label),
    change: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let (disk, folder) = (Disk::open(&card.path)?, dir.join("fat"));
    let place = disk.place(partition)?;
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    for file in files_on(&disk, partition)? {
        let to = folder.join(file.trim_start_matches('/'));
        std::fs::create_dir_all(to.parent().context("a file of no folder")?)?;
        std::fs::write(to, disk.fat_file(partition, &file)?)?;
    }
    change(&folder)?;
    let mut tree = Tree::new();
    let mut open = vec![folder.clone()];
    while let Some(inner) = open.pop() {
        for entry in std::fs::read_dir(inner)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else {
                tree.file(path.strip_prefix(&folder)?, 0o644, Content::bytes(std::fs::read(&path)?), &"test".into())?;
            }
        }
    }
    let size = place.end - place.start;
    let file = std::fs::OpenOptions::new().write(true).open(&card.path)?;
    file.write_all_at(&vec![0; usize::try_from(size)?], place.start)?;
    for (at, bytes) in esp::make(&tree, size, Volume { id: 1, label, start: place.start })? {
        file.write_all_at(&bytes, place.start + at)?;
    }
    Ok(())
}

fn files_on(disk: &Disk, partition: &str) -> Result<Vec<String>> {
    let files = disk.report()?.boot_files;
    Ok(files.into_iter().filter(|file| file.partition == partition).map(|file| file.path).collect())
}

/// The entries by which slots are started, in the order of their names.
pub fn entries(disk: &Path) -> Result<Vec<String>> {
    let files = files_on(&Disk::open(disk)?, names::ESP.name)?;
    let name = |file: &String| Some(file.strip_prefix("/loader/entries/")?.to_owned());
    let mut names: Vec<String> = files.iter().filter_map(name).filter(|name| !name.ends_with("-force.conf")).collect();
    names.sort();
    Ok(names)
}

pub fn own(setup: &Setup, dir: &Path) -> Result<()> {
    let card = card(setup, dir, &[("other", "here")])?;
    try_next(&card, dir)?;
    let mut guest = Guest::boot_through_firmware(setup, &card.path, dir)?;
    step("slot b is tried with its own kernel", || {
        runs_from_b(&card, &mut guest)?;
        ensure!(guest.starts() == 1, "{} starts; {}", guest.starts(), guest.tail());
        Ok(())
    })?;
    guest.kill()?;
    step("and what systemd-boot has counted is taken back by stage 1", || {
        let found = entries(&card.path)?;
        ensure!(found == ["kedge-a.conf".to_owned(), format!("kedge-b+{KERNEL_TRIES}.conf")], "{found:?}");
        Ok(())
    })?;

    card.record(|record| record.a.priority = 200)?;
    let mut guest = Guest::boot_through_firmware(setup, &card.path, dir)?;
    step("the record wants slot a: its kernel is started instead", || {
        guest.wait_console("slot a has a kernel of its own: restarting with it", BOOT)?;
        let kubectl = guest.kubectl(BOOT)?;
        boot::ready(&kubectl)?;
        card.until(&guest, "a is confirmed", |record| record.a.unconfirmed == 0 && record.switches == 0)?;
        ensure!(guest.starts() == 2, "{} starts; {}", guest.starts(), guest.tail());
        Ok(())
    })?;
    guest.kill()?;

    card.record(|record| record.put_on_trial(SlotName::B, 3))?;
    let mut guest = Guest::boot_through_firmware(setup, &card.path, dir)?;
    step("slot b is on trial, and nobody told the firmware: stage 1 does", || {
        guest.wait_console("slot b has a kernel of its own: restarting with it", BOOT)?;
        runs_from_b(&card, &mut guest)?;
        ensure!(guest.starts() == 2, "{} starts; {}", guest.starts(), guest.tail());
        Ok(())
    })
}

pub fn dead(setup: &Setup, dir: &Path) -> Result<()> {
    let card = card(setup, dir, &[("init", "no program")])?;
    try_next(&card, dir)?;
    let mut guest = Guest::boot_through_firmware(setup, &card.path, dir)?;
    step("slot b's kernel panics as often as it is tried; then slot a's is started", || {
        guest.wait_console("its kernel was started, and did not come up; trying slot a", BOOT)?;
        let panics = guest.console().matches("Kernel panic").count();
        ensure!(panics == KERNEL_TRIES as usize, "{panics} panics; {}", guest.tail());
        Ok(())
    })?;
    step("slot a's node is Ready, and slot b is condemned", || {
        let kubectl = guest.kubectl(BOOT)?;
        boot::ready(&kubectl)?;
        card.until(&guest, "b is bad", |record| record.b.verdict == Verdict::Bad && record.a.unconfirmed == 0)
    })?;
    guest.kill()?;
    let mut guest = Guest::boot_through_firmware(setup, &card.path, dir)?;
    step("it is not started again", || {
        boot::ready(&guest.kubectl(SOON)?)?;
        ensure!(guest.starts() == 1 && !guest.console().contains("Kernel panic"), "{}", guest.tail());
        Ok(())
    })
}

/// What is no program for firmware: systemd-boot cannot go on, and the machine stands there until its power is cut, as often as it is tried.
pub fn unloadable(setup: &Setup, dir: &Path) -> Result<()> {
    let card = card(setup, dir, &[])?;
    try_next(&card, dir)?;
    change_esp(&card, dir, |folder| Ok(std::fs::write(folder.join("kedge/b/linux"), [7; 100_000])?))?;
    for _ in 0..KERNEL_TRIES {
        let mut guest = Guest::boot_through_firmware(setup, &card.path, dir)?;
        step("slot b's kernel cannot be loaded", || {
            guest.wait_console("Error loading \\kedge\\b\\linux", BOOT)?;
            ensure!(guest.starts() == 0, "{}", guest.tail());
            Ok(())
        })?;
        guest.kill()?;
    }
    let mut guest = Guest::boot_through_firmware(setup, &card.path, dir)?;
    step("slot a is back", || {
        boot::ready(&guest.kubectl(BOOT)?)?;
        card.until(&guest, "b is bad", |record| record.b.verdict == Verdict::Bad && record.a.unconfirmed == 0)
    })
}

/// On a Raspberry Pi's card, by a kernel that cannot have the other slot tried once: `autoboot.txt` names the slot whose kernel is to be started.
/// QEMU is that firmware whenever it starts; a restart within it starts the same kernel again, and the model has none before the system begins.
pub fn on_a_card(setup: &Setup, dir: &Path) -> Result<()> {
    let card = card(setup, dir, &[("other", "here")])?;
    let named = |slot: SlotName| -> Result<()> {
        let found = Disk::open(&card.path)?.fat_file(names::ESP.name, autoboot::FILE)?;
        ensure!(found == autoboot::text(slot).as_bytes(), "{}", String::from_utf8_lossy(&found));
        Ok(())
    };
    let switched = |slot: SlotName, what: &str| -> Result<()> {
        let mut guest = Guest::boot(setup, &card.path, dir, "")?;
        step(what, || {
            guest.wait_console(&format!("slot {slot} has a kernel of its own: restarting with it"), BOOT)?;
            guest.kill()?;
            named(slot)
        })
    };
    named(SlotName::A)?;
    card.record(|record| record.put_on_trial(SlotName::B, 3))?;
    switched(SlotName::B, "slot b is on trial: stage 1 has its kernel started")?;
    let guest = Guest::boot(setup, &card.path, dir, "")?;
    step("it is, and slot b is booted", || {
        card.until(&guest, "b was tried", |record| record.b.tries == 2 && record.switches == 0)
    })?;
    drop(guest);
    card.record(|record| record.b.tries = 0)?;
    switched(SlotName::A, "its tries are used up: slot b's stage 1 has slot a's kernel started")?;
    let guest = Guest::boot(setup, &card.path, dir, "")?;
    step("it is, and slot a is booted", || {
        card.until(&guest, "a was tried", |record| record.a.unconfirmed > 0 && record.switches == 0)
    })
}
