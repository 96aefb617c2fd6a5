//! Prepares a guest: the disk it may write to, the kernel that the image's own boot files name, and the command line to start.

use super::command::{self, Accelerator, Forward, Guest, Start};
use super::firmware::{self, FirmwareError};
use super::kvm;
use crate::disk::boot;
use crate::disk::layout::Table;
use crate::inspect::{Disk, InspectError};
use crate::plan::Board;
use crate::raspberry_pi::{self, StartError, models};
use kedge_config::slot::{Choice, SlotName};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("board {0} has no \"qemu\" section: it cannot be emulated")]
    NoQemu(String),
    #[error("{path} is not there: bake it with \"kedge-image build --board {board} --out {out}\"")]
    NoImage { path: String, board: String, out: String },
    #[error(transparent)]
    Inspect(#[from] InspectError),
    #[error("{path}, \"{entry}\": no \"options\" line")]
    Entry { path: String, entry: String },
    #[error("QEMU's machine {0} is no Raspberry Pi that is known here, and so it is not known how it would start")]
    NoModel(String),
    #[error("board {0} is not started by UEFI firmware: leave --firmware out")]
    NoUefi(String),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Firmware(#[from] FirmwareError),
    #[error("port {port} of 127.0.0.1 is taken ({source}): choose another with --forward OTHER:{guest}")]
    Port { port: u16, guest: u16, source: io::Error },
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    Direct,
    Uefi,
}

#[derive(Debug, Clone)]
pub struct Options {
    pub out: PathBuf,
    /// Without one a copy of the image is used, made anew when the image is newer or `fresh` is set.
    pub disk: Option<PathBuf>,
    pub fresh: bool,
    /// Bytes that a copy is grown to, as a card is larger than the image on it.
    pub disk_size: u64,
    pub memory: Option<String>,
    pub cpus: Option<u32>,
    pub append: String,
    pub forwards: Vec<Forward>,
    pub console: Option<PathBuf>,
    pub kubeconfig: Option<PathBuf>,
    pub machine: Option<PathBuf>,
    pub firmware: Firmware,
    pub accelerator: Option<Accelerator>,
    pub reboot: bool,
}

/// The command that boots the board's image.
pub fn prepare(board: &Board, options: &Options, cache: &Path, note: &dyn Fn(&str)) -> Result<Vec<String>, RunError> {
    let name = &board.config.name;
    let qemu = board.config.qemu.as_ref().ok_or_else(|| RunError::NoQemu(name.clone()))?;
    for forward in &options.forwards {
        let taken = |source| RunError::Port { port: forward.host, guest: forward.guest, source };
        drop(TcpListener::bind(("127.0.0.1", forward.host)).map_err(taken)?);
    }
    let disk = match &options.disk {
        Some(disk) => disk.clone(),
        None => own_disk(name, options)?,
    };
    let image = Disk::open(&disk)?;
    let boot = match image.table() {
        Table::Gpt => extract(&image, &disk)?,
        Table::Mbr => as_raspberry_pi(&image, &qemu.machine, &disk)?,
    };
    let accelerator = options.accelerator.unwrap_or_else(|| kvm::accelerator(qemu, &boot.kernel, cache, note));
    let start = match options.firmware {
        Firmware::Direct => {
            let words = [boot.command_line.as_str(), &qemu.append, &options.append];
            let command_line = words.into_iter().filter(|words| !words.is_empty()).collect::<Vec<_>>().join(" ");
            let Boot { kernel, initramfs, device_tree, .. } = boot;
            Start::Direct { kernel, initramfs, device_tree, command_line }
        }
        Firmware::Uefi if qemu.firmware.is_empty() => return Err(RunError::NoUefi(name.clone())),
        Firmware::Uefi => {
            let code = firmware::find(&qemu.firmware)?;
            let variables = firmware::variables(&code, &disk.with_extension("efivars"))?;
            Start::Uefi { code, variables, append: options.append.clone() }
        }
    };
    // QEMU's own unit is the mebibyte.
    let memory = format!("{}M", qemu.memory.bytes() >> 20);
    let (memory, cpus) = if qemu.fixed {
        note(&format!("{} has {memory} of memory and {} processors, whatever is asked for", qemu.machine, qemu.cpus));
        (memory, qemu.cpus)
    } else {
        (options.memory.clone().unwrap_or(memory), options.cpus.unwrap_or_else(|| cpus(accelerator, qemu.cpus)))
    };
    Ok(command::command(&Guest {
        qemu,
        start,
        accelerator,
        disk: &disk,
        memory,
        cpus,
        forwards: &options.forwards,
        console: options.console.as_deref(),
        kubeconfig: options.kubeconfig.as_deref(),
        machine: options.machine.as_deref(),
        reboot: options.reboot,
    }))
}

/// Emulated, one processor boots in less time than two: they wait for each other. And QEMU 7.2 with a thread for each of several
/// processors now and then runs code that the kernel has just patched (an INT3 that is no longer there: a panic at the boot's start).
fn cpus(accelerator: Accelerator, of_board: u32) -> u32 {
    match accelerator {
        Accelerator::Kvm => of_board,
        Accelerator::Tcg => 1,
    }
}

/// The copy of the image that guests write to.
fn own_disk(board: &str, options: &Options) -> Result<PathBuf, RunError> {
    let image = options.out.join(format!("{board}.img"));
    let disk = options.out.join("disk.img");
    let io = |source| RunError::Io { path: disk.display().to_string(), source };
    let time = |path: &Path| std::fs::metadata(path).and_then(|about| about.modified());
    let Ok(baked) = time(&image) else {
        let (path, out) = (image.display().to_string(), options.out.display().to_string());
        return Err(RunError::NoImage { path, board: board.to_owned(), out });
    };
    if options.fresh || !time(&disk).is_ok_and(|used| used >= baked) {
        copy(&image, &disk, options.disk_size).map_err(io)?;
    }
    Ok(disk)
}

/// Copies a disk; what is zero becomes a hole, and the copy has at least `size` bytes.
pub fn copy(from: &Path, to: &Path, size: u64) -> io::Result<()> {
    let mut from = File::open(from)?;
    let mut to = File::create(to)?;
    to.set_len(from.metadata()?.len().max(size))?;
    let mut chunk = Vec::with_capacity(1 << 16);
    let mut at = 0;
    loop {
        chunk.clear();
        (&mut from).take(1 << 16).read_to_end(&mut chunk)?;
        if chunk.is_empty() {
            return Ok(());
        }
        if chunk.iter().any(|byte| *byte != 0) {
            to.seek(SeekFrom::Start(at))?;
            to.write_all(&chunk)?;
        }
        at += chunk.len() as u64;
    }
}

struct Boot {
    kernel: PathBuf,
    initramfs: PathBuf,
    device_tree: Option<PathBuf>,
    command_line: String,
}

/// Writes what was taken out of the image beside the disk.
fn keep(disk: &Path, name: &str, bytes: &[u8]) -> Result<PathBuf, RunError> {
    let to = disk.with_extension(name);
    std::fs::write(&to, bytes).map_err(|source| RunError::Io { path: to.display().to_string(), source })?;
    Ok(to)
}

/// As the firmware of the Raspberry Pi would that QEMU's machine stands for.
fn as_raspberry_pi(image: &Disk, machine: &str, disk: &Path) -> Result<Boot, RunError> {
    let model = models::of_qemu(machine).ok_or_else(|| RunError::NoModel(machine.to_owned()))?;
    let start = raspberry_pi::start(image, model, false)?;
    Ok(Boot {
        kernel: keep(disk, boot::KERNEL, &start.kernel)?,
        initramfs: keep(disk, boot::INITRAMFS, &start.initramfs.unwrap_or_default())?,
        device_tree: Some(keep(disk, "dtb", &start.device_tree)?),
        command_line: start.command_line,
    })
}

/// Takes kernel, initramfs and command line out of the image's ESP, as the boot loader would, for the slot that the record
/// prefers, or for the other one where that has none there. So it is the image that is tested, not what lies beside it.
fn extract(image: &Disk, disk: &Path) -> Result<Boot, RunError> {
    let wanted = match image.record()?.map(|record| record.choose(None, &[])) {
        Ok(Choice::Boot(slot)) => slot,
        // Stage 1 will say what is wrong.
        Ok(Choice::Recover { .. }) | Err(_) => SlotName::A,
    };
    let there = |slot: &SlotName| image.boot_file(*slot, boot::KERNEL).is_ok();
    let slot = [wanted, wanted.other()].into_iter().find(there).unwrap_or(wanted);
    let file = |name: &str| image.boot_file(slot, name);
    let take = |name: &str| keep(disk, name, &file(name)?);
    let command_line = String::from_utf8_lossy(&file(boot::COMMAND_LINE)?).trim_end().to_owned();
    Ok(Boot { kernel: take(boot::KERNEL)?, initramfs: take(boot::INITRAMFS)?, device_tree: None, command_line })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_copy_is_grown_and_keeps_its_holes() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("a"), folder.path().join("b"));
        let mut file = File::create(&from).unwrap();
        file.set_len(4 << 20).unwrap();
        file.seek(SeekFrom::Start(3 << 20)).unwrap();
        file.write_all(b"here").unwrap();
        copy(&from, &to, 8 << 20).unwrap();
        let about = std::fs::metadata(&to).unwrap();
        assert_eq!(about.len(), 8 << 20);
        assert!(about.blocks() * 512 < 1 << 20, "{} blocks", about.blocks());
        let bytes = std::fs::read(&to).unwrap();
        assert_eq!(&bytes[3 << 20..(3 << 20) + 4], b"here");
    }

    #[test]
    fn what_hinders_a_start_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let board = crate::plan::find_board("qemu-x86_64").unwrap();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let options = |forwards| Options {
            out: folder.path().to_owned(),
            disk: None,
            fresh: false,
            disk_size: 0,
            memory: None,
            cpus: None,
            append: String::new(),
            forwards,
            console: None,
            kubeconfig: None,
            machine: None,
            firmware: Firmware::Direct,
            accelerator: Some(Accelerator::Tcg),
            reboot: true,
        };
        let fail = |options: &Options| prepare(&board, options, folder.path(), &|_| ()).unwrap_err().to_string();
        let error = fail(&options(vec![Forward { host: port, guest: 6443 }]));
        assert!(error.contains("is taken") && error.ends_with("choose another with --forward OTHER:6443"), "{error}");
        let error = fail(&options(Vec::new()));
        assert!(
            error.contains("qemu-x86_64.img is not there: bake it with \"kedge-image build --board qemu-x86_64"),
            "{error}"
        );
        let mut board = board.clone();
        board.config.qemu = None;
        let error = prepare(&board, &options(Vec::new()), folder.path(), &|_| ()).unwrap_err().to_string();
        assert!(error.contains("no \"qemu\" section"), "{error}");
    }
}
