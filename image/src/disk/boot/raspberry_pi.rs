//! What the firmware of a Raspberry Pi reads. On the first partition: what its boot ROM loads, and `autoboot.txt`, which names the slot's
//! partition. There: the firmware's further stages, `config.txt`, the kernel's command line, kernel, initramfs and device trees. A slot is
//! whole in itself, so that a system on trial brings its own kernel and firmware. How the firmware reads it: [`crate::raspberry_pi`].

use super::{Boot, COMMAND_LINE, INITRAMFS, KERNEL, Partition, SlotFile, command_line, put, slot_files as sorted};
use crate::tree::{Content, Tree, TreeError};
use kedge_config::board::Architecture;
use kedge_config::boot_files::{BootFile, Role};
use kedge_config::slot::SlotName;
use kedge_config::{BoardConfig, autoboot, names};
use std::fmt::Write as _;
use std::sync::Arc;

/// Where Debian's package `raspi-firmware` keeps the files.
const FOLDER: &str = "usr/lib/raspi-firmware";
pub const CONFIG: &str = "config.txt";

pub fn package_files(board: &BoardConfig) -> Vec<(String, String)> {
    let loader = &board.bootloader;
    loader.first.iter().chain(&loader.files).map(|name| (name.clone(), format!("{FOLDER}/{name}"))).collect()
}

pub fn partitions(board: &BoardConfig, boot: &Boot, _: &[BootFile]) -> Result<Vec<Partition>, TreeError> {
    let mut first = Tree::new();
    for name in &board.bootloader.first {
        let Some(content) = boot.loader.get(name) else { continue };
        first.file(name, 0o644, content.clone(), &boot.loader_origin)?;
    }
    first.file(autoboot::FILE, 0o644, Content::bytes(autoboot::text(SlotName::A)), &"generated".into())?;
    let mut slot = Tree::new();
    put(&mut slot, "", sorted(board, boot))?;
    Ok(vec![(names::ESP.name, first), (names::BOOT_A.name, slot), (names::BOOT_B.name, Tree::new())])
}

/// A slot's partition. Without these files the firmware finds nothing there that it could boot.
pub fn slot_files(board: &BoardConfig, boot: &Boot) -> Vec<SlotFile> {
    let generated: Arc<str> = "generated".into();
    let firmware = board.bootloader.files.iter().filter_map(|name| Some((name, boot.loader.get(name)?)));
    let firmware = firmware.map(|(name, content)| SlotFile::new(Role::Other, name, content, &boot.loader_origin));
    let trees = boot.device_trees.iter();
    let trees = trees.map(|(name, content)| SlotFile::new(Role::Other, name, content, &boot.kernel_origin));
    let line = Content::bytes(command_line(board) + "\n");
    let own = [
        SlotFile::new(Role::Other, CONFIG, &Content::bytes(config(board)), &generated),
        SlotFile::new(Role::CommandLine, COMMAND_LINE, &line, &generated),
        SlotFile::new(Role::Kernel, KERNEL, &boot.kernel, &boot.kernel_origin),
        SlotFile::new(Role::Initramfs, INITRAMFS, &boot.initramfs, &generated),
    ];
    firmware.chain(trees).chain(own).collect()
}

/// Which kernel, in which state of the processor, with which device tree.
fn config(board: &BoardConfig) -> String {
    let wide = match board.architecture {
        Architecture::Aarch64 => 1,
        Architecture::Armv7 | Architecture::X86_64 => 0,
    };
    let mut text = format!("arm_64bit={wide}\nkernel={KERNEL}\ninitramfs {INITRAMFS} followkernel\n");
    let settings = board.bootloader.settings.iter().map(|line| format!("{line}\n"));
    text.extend(settings);
    for (model, tree) in &board.bootloader.device_trees {
        // Writing to a String cannot fail.
        let _ = write!(text, "[{model}]\ndevice_tree={tree}\n");
    }
    text + "[all]\n"
}
