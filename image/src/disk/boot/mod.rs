//! What the boot loader reads: files on FAT partitions, laid out as each kind of loader wants them. Each kind is one file.

pub mod raspberry_pi;
pub mod systemd_boot;

use super::layout::Table;
use crate::tree::{Content, Tree, TreeError};
use kedge_config::board::BootloaderKind;
use kedge_config::slot::SlotName;
use kedge_config::{BoardConfig, names};
use std::collections::BTreeMap;
use std::sync::Arc;

pub const KERNEL: &str = "linux";
pub const INITRAMFS: &str = "initramfs";

/// Files by their names.
pub type Files = BTreeMap<String, Content>;
/// A partition's name with what lies on it.
pub type Partition = (&'static str, Tree);

/// What a slot needs to boot.
#[derive(Clone)]
pub struct Boot {
    /// The loader's own files, by the names of [`package_files`].
    pub loader: Files,
    pub loader_origin: Arc<str>,
    pub kernel: Content,
    pub kernel_origin: Arc<str>,
    pub device_trees: Files,
    pub initramfs: Content,
    /// Kernel, command line and initramfs in one signed program, in the place of kernel and initramfs.
    pub unified: Option<Content>,
}

/// What a kind of loader is made of.
struct Kind {
    package_files: fn(&BoardConfig) -> Vec<(String, String)>,
    partitions: fn(&BoardConfig, &Boot) -> Result<Vec<Partition>, TreeError>,
}

fn kind(board: &BoardConfig) -> Kind {
    match board.bootloader.kind {
        BootloaderKind::SystemdBoot => {
            Kind { package_files: systemd_boot::package_files, partitions: systemd_boot::partitions }
        }
        BootloaderKind::RaspberryPi => {
            Kind { package_files: raspberry_pi::package_files, partitions: raspberry_pi::partitions }
        }
    }
}

/// The loader's files: their names here, and their paths in Debian's package.
pub fn package_files(board: &BoardConfig) -> Vec<(String, String)> {
    (kind(board).package_files)(board)
}

/// What lies on each FAT partition. Slot B has no kernel yet.
pub fn partitions(board: &BoardConfig, boot: &Boot) -> Result<Vec<Partition>, TreeError> {
    (kind(board).partitions)(board, boot)
}

/// Where a slot's kernel and initramfs lie on a disk: the partition, and the path there.
pub fn slot_file(table: Table, slot: SlotName, name: &str) -> (&'static str, String) {
    match table {
        Table::Gpt => (names::ESP.name, format!("{}/{name}", systemd_boot::folder(slot))),
        Table::Mbr => (slot.boot_partition(), name.to_owned()),
    }
}

/// The kernel's command line for any slot: the board's, the consoles.
pub fn common_command_line(board: &BoardConfig) -> String {
    let own = board.kernel.command_line.split_whitespace().map(str::to_owned);
    let consoles = board.console.iter().map(|console| format!("console={console}"));
    own.chain(consoles).collect::<Vec<_>>().join(" ")
}

/// The kernel's command line for a slot.
pub fn command_line(board: &BoardConfig, slot: SlotName) -> String {
    format!("{} kedge.slot={slot}", common_command_line(board)).trim_start().to_owned()
}
