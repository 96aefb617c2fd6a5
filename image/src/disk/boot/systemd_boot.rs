//! systemd-boot's files on the ESP, one entry a slot (Boot Loader Specification, type 1). There is never a `default` in loader.conf: it
//! would pin an entry that turned out bad.

use super::{Boot, INITRAMFS, KERNEL, Partition, command_line};
use crate::secureboot::UNIFIED;
use crate::tree::{Content, Tree, TreeError};
use kedge_config::board::Architecture;
use kedge_config::slot::SlotName;
use kedge_config::{BoardConfig, names};
use std::sync::Arc;

/// Folder of a slot's files on the ESP.
pub fn folder(slot: SlotName) -> String {
    format!("kedge/{slot}")
}

pub fn entry_path(slot: SlotName) -> String {
    format!("loader/entries/kedge-{slot}.conf")
}

fn entry(board: &BoardConfig, slot: SlotName, unified: bool) -> String {
    let version = kedge_config::VERSION;
    let folder = folder(slot);
    let head = format!("title Kedge {version} (slot {slot})\nsort-key kedge\nversion {version}\n");
    if unified {
        return format!("{head}efi /{folder}/{UNIFIED}\n");
    }
    format!("{head}linux /{folder}/{KERNEL}\ninitrd /{folder}/{INITRAMFS}\noptions {}\n", command_line(board, slot))
}

/// Where UEFI firmware looks on a disk that it knows nothing of (UEFI 2.10, 3.5.1.1).
fn removable_path(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::X86_64 => "EFI/BOOT/BOOTX64.EFI",
        Architecture::Aarch64 => "EFI/BOOT/BOOTAA64.EFI",
        Architecture::Armv7 => "EFI/BOOT/BOOTARM.EFI",
    }
}

/// The loader's file in Debian's package.
fn package_path(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::X86_64 => "usr/lib/systemd/boot/efi/systemd-bootx64.efi",
        Architecture::Aarch64 => "usr/lib/systemd/boot/efi/systemd-bootaa64.efi",
        Architecture::Armv7 => "usr/lib/systemd/boot/efi/systemd-bootarm.efi",
    }
}

pub fn package_files(board: &BoardConfig) -> Vec<(String, String)> {
    vec![(removable_path(board.architecture).to_owned(), package_path(board.architecture).to_owned())]
}

/// The ESP's files. Slot B has its entry but no kernel yet; systemd-boot hides an entry whose kernel is absent.
pub fn partitions(board: &BoardConfig, boot: &Boot) -> Result<Vec<Partition>, TreeError> {
    let generated: Arc<str> = "generated".into();
    let mut tree = Tree::new();
    for (path, content) in &boot.loader {
        tree.file(path, 0o644, content.clone(), &boot.loader_origin)?;
    }
    tree.file("loader/loader.conf", 0o644, Content::bytes("timeout 0\neditor no\n"), &generated)?;
    for slot in SlotName::ALL {
        tree.file(entry_path(slot), 0o644, Content::bytes(entry(board, slot, boot.unified.is_some())), &generated)?;
        tree.directory(&folder(slot), 0o755, &generated)?;
    }
    let folder = folder(SlotName::A);
    match &boot.unified {
        Some(unified) => tree.file(format!("{folder}/{UNIFIED}"), 0o644, unified.clone(), &boot.kernel_origin)?,
        None => {
            tree.file(format!("{folder}/{KERNEL}"), 0o644, boot.kernel.clone(), &boot.kernel_origin)?;
            tree.file(format!("{folder}/{INITRAMFS}"), 0o644, boot.initramfs.clone(), &generated)?;
        }
    }
    Ok(vec![(names::ESP.name, tree)])
}
