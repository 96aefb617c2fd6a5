//! STATE: the one writable partition. Found, grown to the disk's end, mounted. It is never formatted here: what cannot be mounted is
//! told, and a person decides.

use super::Boot;
use crate::gpt::{self, Extent};
use crate::mbr;
use crate::sys;
use anyhow::Context;
use kedge_config::names::{STATE, STATE_DIR};
use kedge_stage1::disk;
use rustix::mount::{MountFlags, mount as mount_device};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

pub fn find(boot: &Boot) -> anyhow::Result<()> {
    let disk = disk::wait()?;
    anyhow::ensure!(disk.device(STATE.name).is_some(), "disk {} has no partition {}", disk.name, STATE.name);
    boot.disk.get_or_init(|| disk);
    Ok(())
}

fn device(boot: &Boot) -> anyhow::Result<&Path> {
    boot.disk.get().and_then(|disk| disk.device(STATE.name)).context("STATE was not found")
}

/// A disk whose writes are on the medium when they return.
struct BlockDevice(File);

impl gpt::Disk for BlockDevice {
    fn sectors(&self) -> io::Result<u64> {
        Ok((&self.0).seek(SeekFrom::End(0))? / gpt::SECTOR)
    }

    fn read(&mut self, sector: u64, into: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(into, sector * gpt::SECTOR)
    }

    fn write(&mut self, sector: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, sector * gpt::SECTOR)?;
        self.0.sync_data()
    }
}

pub fn grow_partition(boot: &Boot) -> anyhow::Result<()> {
    let name = &boot.disk.get().context("no disk")?.name;
    let path = Path::new("/dev").join(name);
    let file =
        OpenOptions::new().read(true).write(true).open(&path).with_context(|| format!("open {}", path.display()))?;
    let mut block = BlockDevice(file);
    let growth = match mbr::grow_last(&mut block, STATE.name)? {
        Some(growth) => growth,
        None => gpt::grow_last(&mut block, STATE.name)?,
    };
    let Extent { number, start, sectors } = growth.extent;
    if growth.grown {
        tracing::info!(mib = (sectors * gpt::SECTOR) >> 20, "STATE's partition was grown to the end of the disk");
    }
    let (start, length) = (start * gpt::SECTOR, sectors * gpt::SECTOR);
    // The kernel read the table before it was changed; also when an earlier boot was cut off after the change.
    if kernel_size(name, number)? != length {
        sys::resize_partition(&block.0, number, start, length).context("tell the kernel STATE's new size")?;
    }
    Ok(())
}

/// The partition's size in bytes, as the kernel sees it.
fn kernel_size(disk: &str, number: u32) -> anyhow::Result<u64> {
    let found = disk::scan(Path::new(disk::SYS_CLASS_BLOCK), Path::new(disk::DEV)).context("list block devices")?;
    let node = found
        .iter()
        .find(|found| found.name == disk)
        .and_then(|disk| disk.partitions.values().find(|node| node.number == number));
    let name = node.and_then(|node| node.device.file_name()).context("STATE vanished")?;
    let path = Path::new(disk::SYS_CLASS_BLOCK).join(name).join("size");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    Ok(text.trim().parse::<u64>().with_context(|| format!("{} says {text:?}", path.display()))? * 512)
}

pub fn mount(boot: &Boot) -> anyhow::Result<()> {
    let device = device(boot)?;
    let flags = MountFlags::NOATIME | MountFlags::NODEV | MountFlags::NOSUID;
    mount_device(device, STATE_DIR, "ext4", flags, c"errors=remount-ro,commit=30").with_context(|| {
        format!(
            "STATE ({}) cannot be mounted: its ext4 file system is damaged. Nothing was changed on it. Repair it elsewhere \
             with `fsck.ext4`, or write a fresh image (which loses this node's data)",
            device.display()
        )
    })
}

pub fn grow(boot: &Boot) -> anyhow::Result<()> {
    let device = device(boot)?;
    let bytes = File::open(device)
        .and_then(|mut file| file.seek(SeekFrom::End(0)))
        .with_context(|| format!("size of {}", device.display()))?;
    let now = rustix::fs::statvfs(STATE_DIR).context("size of STATE's file system")?;
    // `f_blocks` leaves out what the file system needs for itself: a difference below a thirty-second is that.
    let (have, could) = (now.f_blocks, bytes / now.f_frsize.max(1));
    if could - have.min(could) <= could / 32 + 8192 {
        return Ok(());
    }
    let root = File::open(STATE_DIR).context("open STATE")?;
    sys::resize_ext4(&root, could)
        .with_context(|| format!("grow STATE's file system from {have} to {could} blocks"))?;
    tracing::info!(mib = bytes >> 20, "STATE's file system was grown");
    Ok(())
}

/// What this much room is left for is told before it is too late; below that nothing can be trusted to be written.
const LEAST_BYTES: u64 = 1 << 20;

pub fn usable(boot: &Boot) -> anyhow::Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("read the mounts")?;
    let line = mounts.lines().rev().find(|line| line.split(' ').nth(1) == Some(STATE_DIR));
    let line = line.with_context(|| format!("STATE is not mounted at {STATE_DIR}"))?;
    let read_only = line.split(' ').nth(3).is_some_and(|options| options.split(',').any(|option| option == "ro"));
    anyhow::ensure!(!read_only, "STATE is mounted read-only: its file system has errors (see the kernel's log)");
    boot.state.get_or_init(|| ());
    let room = rustix::fs::statvfs(STATE_DIR).context("room on STATE")?;
    let free = room.f_bavail * room.f_frsize;
    // Told, and no reason to stop: the cluster is what a person frees room with.
    if free < LEAST_BYTES {
        tracing::error!(free, "STATE is full: writes will fail until something is deleted");
    }
    Ok(())
}
