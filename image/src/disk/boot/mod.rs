//! What the boot loader reads: files on FAT partitions, laid out as each kind of loader wants them. Each kind is one file. Those that start a
//! slot are the same for either one ([`slot_files`]), so that an upgrade can bring them.

pub mod raspberry_pi;
pub mod systemd_boot;

use super::layout::Table;
use crate::digest;
use crate::tree::{Content, Tree, TreeError};
use kedge_config::board::BootloaderKind;
use kedge_config::boot_files::{BootFile, Role};
use kedge_config::slot::SlotName;
use kedge_config::slot_manifest::{Blob, Digest};
use kedge_config::{BoardConfig, boot_entry, names};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

pub const KERNEL: &str = "linux";
pub const INITRAMFS: &str = "initramfs";
pub const COMMAND_LINE: &str = "cmdline.txt";

/// Files by their names.
pub type Files = BTreeMap<String, Content>;
/// A partition's name with what lies on it.
pub type Partition = (&'static str, Tree);
type Partitions = Result<Vec<Partition>, TreeError>;

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

/// One of the files that start a slot.
pub struct SlotFile {
    pub role: Role,
    /// Within the slot's folder.
    pub path: String,
    pub content: Content,
    pub origin: Arc<str>,
}

impl SlotFile {
    fn new(role: Role, path: &str, content: &Content, origin: &Arc<str>) -> Self {
        Self { role, path: path.to_owned(), content: content.clone(), origin: Arc::clone(origin) }
    }
}

/// What a kind of loader is made of.
struct Kind {
    package_files: fn(&BoardConfig) -> Vec<(String, String)>,
    slot_files: fn(&BoardConfig, &Boot) -> Vec<SlotFile>,
    partitions: fn(&BoardConfig, &Boot, &[BootFile]) -> Partitions,
}

fn kind(board: &BoardConfig) -> Kind {
    match board.bootloader.kind {
        BootloaderKind::SystemdBoot => Kind {
            package_files: systemd_boot::package_files,
            slot_files: systemd_boot::slot_files,
            partitions: systemd_boot::partitions,
        },
        BootloaderKind::RaspberryPi => Kind {
            package_files: raspberry_pi::package_files,
            slot_files: raspberry_pi::slot_files,
            partitions: raspberry_pi::partitions,
        },
    }
}

/// The loader's files: their names here, and their paths in Debian's package.
pub fn package_files(board: &BoardConfig) -> Vec<(String, String)> {
    (kind(board).package_files)(board)
}

/// What starts a slot, by their paths.
pub fn slot_files(board: &BoardConfig, boot: &Boot) -> Vec<SlotFile> {
    let mut files = (kind(board).slot_files)(board, boot);
    files.sort_by(|one, other| one.path.cmp(&other.path));
    files
}

/// As the slot manifest lists them.
pub fn listed(files: &[SlotFile]) -> io::Result<Vec<BootFile>> {
    let list = |file: &SlotFile| {
        let bytes = file.content.read()?;
        let blob = Blob { bytes: bytes.len() as u64, sha256: digest::of_bytes_raw(&bytes) };
        Ok(BootFile { role: file.role, path: file.path.clone(), blob })
    };
    files.iter().map(list).collect()
}

/// What tells these files from others: initramfs and manifest have it in them. `boot` is as it was before.
pub fn id(board: &BoardConfig, boot: &Boot) -> io::Result<Digest> {
    let files = listed(&slot_files(board, boot))?;
    let text: String = files.iter().map(|file| format!("{} {file}\n", file.role.name())).collect();
    Ok(digest::of_bytes_raw(text.as_bytes()))
}

/// What lies on each FAT partition; `files` are those of [`slot_files`], listed. Slot B has none yet.
pub fn partitions(board: &BoardConfig, boot: &Boot, files: &[BootFile]) -> Result<Vec<Partition>, TreeError> {
    (kind(board).partitions)(board, boot, files)
}

fn put(tree: &mut Tree, folder: &str, files: Vec<SlotFile>) -> Result<(), TreeError> {
    let mut put = |file: SlotFile| tree.file(Path::new(folder).join(&file.path), 0o644, file.content, &file.origin);
    files.into_iter().try_for_each(&mut put)
}

/// Where a file of a slot lies on a disk: the partition, and the path there.
pub fn slot_file(table: Table, slot: SlotName, name: &str) -> (&'static str, String) {
    match table {
        Table::Gpt => (names::ESP.name, format!("{}/{name}", boot_entry::slot_folder(slot))),
        Table::Mbr => (slot.boot_partition(), name.to_owned()),
    }
}

/// The kernel's command line: the board's, the consoles.
pub fn command_line(board: &BoardConfig) -> String {
    let own = board.kernel.command_line.split_whitespace().map(str::to_owned);
    let consoles = board.console.iter().map(|console| format!("console={console}"));
    own.chain(consoles).collect::<Vec<_>>().join(" ")
}
