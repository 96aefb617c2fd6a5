//! What the firmware of a Raspberry Pi reads. On the first partition: what its boot ROM loads, and `autoboot.txt`, which names the slot's
//! partition. There: the firmware's further stages, `config.txt`, the kernel's command line, kernel, initramfs and device trees. A slot is
//! whole in itself, so that a system on trial brings its own kernel and firmware. How the firmware reads it: [`crate::raspberry_pi`].

use super::{Boot, Files, INITRAMFS, KERNEL, Partition, command_line};
use crate::tree::{Content, Tree, TreeError};
use kedge_config::board::Architecture;
use kedge_config::slot::SlotName;
use kedge_config::{BoardConfig, autoboot, names};
use std::fmt::Write as _;
use std::sync::Arc;

/// Where Debian's package `raspi-firmware` keeps the files.
const FOLDER: &str = "usr/lib/raspi-firmware";
pub const CONFIG: &str = "config.txt";
pub const COMMAND_LINE: &str = "cmdline.txt";

pub fn package_files(board: &BoardConfig) -> Vec<(String, String)> {
    let loader = &board.bootloader;
    loader.first.iter().chain(&loader.files).map(|name| (name.clone(), format!("{FOLDER}/{name}"))).collect()
}

pub fn partitions(board: &BoardConfig, boot: &Boot) -> Result<Vec<Partition>, TreeError> {
    let mut first = Tree::new();
    files(&mut first, &board.bootloader.first, &boot.loader, &boot.loader_origin)?;
    first.file(autoboot::FILE, 0o644, Content::bytes(autoboot::text(SlotName::A)), &"generated".into())?;
    Ok(vec![
        (names::ESP.name, first),
        (names::BOOT_A.name, slot(board, boot, SlotName::A)?),
        (names::BOOT_B.name, Tree::new()),
    ])
}

/// A slot's partition. Without these files the firmware finds nothing there that it could boot.
pub fn slot(board: &BoardConfig, boot: &Boot, slot: SlotName) -> Result<Tree, TreeError> {
    let generated: Arc<str> = "generated".into();
    let mut tree = Tree::new();
    files(&mut tree, &board.bootloader.files, &boot.loader, &boot.loader_origin)?;
    let trees: Vec<String> = boot.device_trees.keys().cloned().collect();
    files(&mut tree, &trees, &boot.device_trees, &boot.kernel_origin)?;
    tree.file(CONFIG, 0o644, Content::bytes(config(board)), &generated)?;
    tree.file(COMMAND_LINE, 0o644, Content::bytes(command_line(board, slot) + "\n"), &generated)?;
    tree.file(KERNEL, 0o644, boot.kernel.clone(), &boot.kernel_origin)?;
    tree.file(INITRAMFS, 0o644, boot.initramfs.clone(), &generated)?;
    Ok(tree)
}

fn files(tree: &mut Tree, names: &[String], of: &Files, origin: &Arc<str>) -> Result<(), TreeError> {
    let found = names.iter().filter_map(|name| Some((name, of.get(name)?)));
    found.into_iter().try_for_each(|(name, content)| tree.file(name, 0o644, content.clone(), origin))
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
