//! systemd-boot's files on the ESP. How its entries are told, and which is started: [`kedge_config::boot_entry`].

use super::{Boot, COMMAND_LINE, INITRAMFS, KERNEL, Partition, SlotFile, command_line, put, slot_files as sorted};
use crate::secureboot::UNIFIED;
use crate::tree::{Content, Tree, TreeError};
use kedge_config::board::Architecture;
use kedge_config::boot_entry::{self, Entry, FIRST_RANK, Kind, Name};
use kedge_config::boot_files::{BootFile, Role};
use kedge_config::slot::SlotName;
use kedge_config::{BoardConfig, VERSION, names};
use std::sync::Arc;

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

pub fn slot_files(board: &BoardConfig, boot: &Boot) -> Vec<SlotFile> {
    if let Some(unified) = &boot.unified {
        return vec![SlotFile::new(Role::Unified, UNIFIED, unified, &boot.kernel_origin)];
    }
    let generated: Arc<str> = "generated".into();
    let line = Content::bytes(command_line(board) + "\n");
    vec![
        SlotFile::new(Role::CommandLine, COMMAND_LINE, &line, &generated),
        SlotFile::new(Role::Kernel, KERNEL, &boot.kernel, &boot.kernel_origin),
        SlotFile::new(Role::Initramfs, INITRAMFS, &boot.initramfs, &generated),
    ]
}

/// The ESP's files, with entries for slot A.
pub fn partitions(board: &BoardConfig, boot: &Boot, files: &[BootFile]) -> Result<Vec<Partition>, TreeError> {
    let generated: Arc<str> = "generated".into();
    let mut tree = Tree::new();
    for (path, content) in &boot.loader {
        tree.file(path, 0o644, content.clone(), &boot.loader_origin)?;
    }
    tree.file("loader/loader.conf", 0o644, Content::bytes("timeout 0\neditor no\n"), &generated)?;
    let (slot, line) = (SlotName::A, command_line(board));
    let entry = Entry { slot, version: VERSION, rank: FIRST_RANK, files, command_line: &line };
    for kind in [Kind::Plain, Kind::Forced] {
        let Some(text) = entry.text(kind == Kind::Forced) else { continue };
        let path = format!("{}/{}", boot_entry::FOLDER, Name { slot, kind });
        tree.file(path, 0o644, Content::bytes(text), &generated)?;
    }
    put(&mut tree, &boot_entry::slot_folder(slot), sorted(board, boot))?;
    Ok(vec![(names::ESP.name, tree)])
}
