//! What the boot loader reads: systemd-boot's files on the ESP, one entry a slot (Boot Loader Specification, type 1). There is
//! never a `default` in loader.conf: it would pin an entry that turned out bad.

use crate::tree::{Content, Tree, TreeError};
use kedge_config::BoardConfig;
use kedge_config::board::Architecture;
use kedge_config::slot::SlotName;
use std::sync::Arc;

pub const KERNEL: &str = "linux";
pub const INITRAMFS: &str = "initramfs";

/// The kernel's command line for a slot: the board's, the consoles, the slot.
pub fn command_line(board: &BoardConfig, slot: SlotName) -> String {
    let own = board.kernel.command_line.split_whitespace().map(str::to_owned);
    let consoles = board.console.iter().map(|console| format!("console={console}"));
    own.chain(consoles).chain([format!("kedge.slot={slot}")]).collect::<Vec<_>>().join(" ")
}

/// Folder of a slot's files on the ESP.
pub fn folder(slot: SlotName) -> String {
    format!("kedge/{slot}")
}

pub fn entry_path(slot: SlotName) -> String {
    format!("loader/entries/kedge-{slot}.conf")
}

fn entry(board: &BoardConfig, slot: SlotName) -> String {
    let version = kedge_config::VERSION;
    let folder = folder(slot);
    format!(
        "title Kedge {version} (slot {slot})\nsort-key kedge\nversion {version}\nlinux /{folder}/{KERNEL}\ninitrd /{folder}/{INITRAMFS}\noptions {}\n",
        command_line(board, slot)
    )
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
pub fn package_path(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::X86_64 => "usr/lib/systemd/boot/efi/systemd-bootx64.efi",
        Architecture::Aarch64 => "usr/lib/systemd/boot/efi/systemd-bootaa64.efi",
        Architecture::Armv7 => "usr/lib/systemd/boot/efi/systemd-bootarm.efi",
    }
}

/// What a slot needs to boot.
pub struct Boot {
    pub loader: Content,
    pub loader_origin: Arc<str>,
    pub kernel: Content,
    pub kernel_origin: Arc<str>,
    pub initramfs: Content,
}

/// The ESP's files. Slot B has its entry but no kernel yet; systemd-boot hides an entry whose kernel is absent.
pub fn tree(board: &BoardConfig, boot: Boot) -> Result<Tree, TreeError> {
    let generated: Arc<str> = "generated".into();
    let mut tree = Tree::new();
    tree.file(removable_path(board.architecture), 0o644, boot.loader, &boot.loader_origin)?;
    tree.file("loader/loader.conf", 0o644, Content::bytes("timeout 0\neditor no\n"), &generated)?;
    for slot in SlotName::ALL {
        tree.file(entry_path(slot), 0o644, Content::bytes(entry(board, slot)), &generated)?;
        tree.directory(&folder(slot), 0o755, &generated)?;
    }
    let folder = folder(SlotName::A);
    tree.file(format!("{folder}/{KERNEL}"), 0o644, boot.kernel, &boot.kernel_origin)?;
    tree.file(format!("{folder}/{INITRAMFS}"), 0o644, boot.initramfs, &generated)?;
    Ok(tree)
}
