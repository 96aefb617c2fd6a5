//! The system as root: mounting a slot's squashfs, looking whether it can be one, and moving into it. The device is a verified view of the
//! partition ([`crate::verity`]).

use crate::mounts::EARLY;
use kedge_config::names;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_move, unmount};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the system is mounted before it becomes the root.
pub const SYSTEM: &str = "/system";
/// "hsqs", little-endian (Documentation/filesystems/squashfs.rst).
const SQUASHFS_MAGIC: [u8; 4] = *b"hsqs";
/// `bytes_used` of the superblock.
const BYTES_USED: std::ops::Range<usize> = 40..48;
const SUPERBLOCK_BYTES: usize = 96;

#[derive(Debug, thiserror::Error)]
pub enum RootError {
    #[error("{device}: {operation}: {source}")]
    Io { device: PathBuf, operation: &'static str, source: io::Error },
    #[error("{device} holds no squashfs (the first bytes are {found:02x?})")]
    NoSquashfs { device: PathBuf, found: Vec<u8> },
    #[error("{device} is cut off: the squashfs has {wanted} bytes, the partition {size}")]
    Truncated { device: PathBuf, wanted: u64, size: u64 },
    #[error("{device}: cannot mount the squashfs, it is corrupt: {source}")]
    Mount { device: PathBuf, source: io::Error },
    #[error("{device}: {path} cannot be read, the squashfs is corrupt: {source}")]
    Init { device: PathBuf, path: &'static str, source: io::Error },
}

/// Mounts the system on `device` at [`SYSTEM`].
pub fn mount_system(device: &Path) -> Result<(), RootError> {
    check_superblock(device)?;
    fs::create_dir_all(SYSTEM).map_err(|source| RootError::Io {
        device: device.into(),
        operation: "create mount point",
        source,
    })?;
    mount(device, SYSTEM, "squashfs", MountFlags::RDONLY | MountFlags::NODEV, c"")
        .map_err(|errno| RootError::Mount { device: device.into(), source: errno.into() })?;
    check_init(device).inspect_err(|_| {
        // The error that matters is the one we return.
        let _ = unmount(SYSTEM, UnmountFlags::DETACH);
    })
}

/// What is checked before the kernel sees it, for clearer words than `EINVAL`.
fn check_superblock(device: &Path) -> Result<(), RootError> {
    let failed = |operation, source| RootError::Io { device: device.into(), operation, source };
    let file = File::open(device).map_err(|error| failed("open", error))?;
    let mut superblock = [0; SUPERBLOCK_BYTES];
    file.read_exact_at(&mut superblock, 0).map_err(|error| failed("read superblock", error))?;
    let used = superblock.get(BYTES_USED).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes);
    if !superblock.starts_with(&SQUASHFS_MAGIC) {
        return Err(RootError::NoSquashfs {
            device: device.into(),
            found: superblock.iter().take(4).copied().collect(),
        });
    }
    let size = io::Seek::seek(&mut &file, io::SeekFrom::End(0)).map_err(|error| failed("size", error))?;
    if used > size {
        return Err(RootError::Truncated { device: device.into(), wanted: used, size });
    }
    Ok(())
}

fn check_init(device: &Path) -> Result<(), RootError> {
    let read = || -> io::Result<()> {
        // As it will be seen from within: an absolute symbolic link means the system's file and not the initramfs'.
        let system = File::open(SYSTEM)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat2(system, names::INIT, flags, Mode::empty(), ResolveFlags::IN_ROOT)?);
        io::copy(&mut file.take(4096), &mut io::sink()).map(drop)
    };
    read().map_err(|source| RootError::Init { device: device.into(), path: names::INIT, source })
}

#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    #[error("move {0} into the system: {1}")]
    Move(&'static str, #[source] io::Error),
    #[error("make the system the root: {0}")]
    Root(#[source] io::Error),
    #[error("execute the system's init: {0}")]
    Execute(#[source] io::Error),
}

/// Makes [`SYSTEM`] the root and becomes its init. Returns only on failure.
pub fn switch(arguments: impl Iterator<Item = std::ffi::OsString>) -> SwitchError {
    match make_root() {
        Ok(()) => SwitchError::Execute(Command::new(names::INIT).args(arguments).exec()),
        Err(error) => error,
    }
}

fn make_root() -> Result<(), SwitchError> {
    for mounted in EARLY {
        mount_move(mounted.target, Path::new(SYSTEM).join(mounted.target.trim_start_matches('/')))
            .map_err(|errno| SwitchError::Move(mounted.target, errno.into()))?;
    }
    let root = |errno: rustix::io::Errno| SwitchError::Root(errno.into());
    rustix::process::chdir(SYSTEM).map_err(root)?;
    // The initramfs is memory; what is deleted here is given back. A root that was not emptied is only a waste, so errors pass.
    if let Ok(device) = fs::symlink_metadata("/").map(|root| root.dev()) {
        empty(Path::new("/"), device);
    }
    mount_move(".", "/").map_err(root)?;
    rustix::process::chroot(".").map_err(root)?;
    rustix::process::chdir("/").map_err(root)
}

/// Deletes what lies in `folder` and on the file system `device`, never through a symbolic link and never another file system.
fn empty(folder: &Path, device: u64) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(found) = fs::symlink_metadata(&path) else { continue };
        if found.dev() != device {
            continue;
        }
        let _ = if found.is_dir() {
            empty(&path, device);
            fs::remove_dir(&path)
        } else {
            fs::remove_file(&path)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn what_is_no_whole_squashfs_is_told() {
        let check = |bytes: &[u8]| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(bytes).unwrap();
            check_superblock(file.path()).map_err(|error| error.to_string())
        };
        let mut superblock = vec![0; 4096];
        assert!(check(&superblock).unwrap_err().contains("holds no squashfs (the first bytes are [00, 00, 00, 00])"));
        superblock[..4].copy_from_slice(b"hsqs");
        superblock[40..48].copy_from_slice(&4096u64.to_le_bytes());
        assert_eq!(check(&superblock), Ok(()));
        superblock[40..48].copy_from_slice(&4097u64.to_le_bytes());
        assert!(
            check(&superblock).unwrap_err().contains("is cut off: the squashfs has 4097 bytes, the partition 4096")
        );
        assert!(check(b"hsqs").unwrap_err().contains("read superblock"));
    }

    #[test]
    fn emptying_leaves_what_symbolic_links_point_to() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("kept"), "x").unwrap();
        fs::create_dir_all(root.path().join("a/b")).unwrap();
        fs::write(root.path().join("a/b/file"), "x").unwrap();
        std::os::unix::fs::symlink(outside.path(), root.path().join("a/link")).unwrap();
        empty(root.path(), fs::metadata(root.path()).unwrap().dev());
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
        assert!(outside.path().join("kept").exists());
    }
}
