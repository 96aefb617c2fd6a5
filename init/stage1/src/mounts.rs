//! The kernel's file systems, as far as stage 1 needs them. They move along into the system.

use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use std::ffi::CStr;
use std::fs;
use std::io;

/// A file system of the kernel.
#[derive(Debug, Clone, Copy)]
pub struct ApiMount {
    pub fstype: &'static str,
    pub target: &'static str,
    pub flags: MountFlags,
    pub options: &'static CStr,
}

const QUIET: MountFlags = MountFlags::NOSUID.union(MountFlags::NOEXEC).union(MountFlags::NODEV);

/// In order. `/run` may hold sockets and namespaces, but no programs.
pub const EARLY: [ApiMount; 4] = [
    ApiMount { fstype: "proc", target: "/proc", flags: QUIET, options: c"" },
    ApiMount { fstype: "sysfs", target: "/sys", flags: QUIET, options: c"" },
    ApiMount { fstype: "devtmpfs", target: "/dev", flags: MountFlags::NOSUID, options: c"mode=0755" },
    ApiMount {
        fstype: "tmpfs",
        target: "/run",
        flags: MountFlags::NOSUID.union(MountFlags::NODEV),
        options: c"mode=0755",
    },
];

#[derive(Debug, thiserror::Error)]
#[error("mount {fstype} on {target}: {source}")]
pub struct MountError {
    pub fstype: &'static str,
    pub target: &'static str,
    pub source: io::Error,
}

impl ApiMount {
    /// Mounts it, unless the kernel says that it is there already (devtmpfs with `CONFIG_DEVTMPFS_MOUNT`).
    pub fn mount(self) -> Result<(), MountError> {
        let failed = |source| MountError { fstype: self.fstype, target: self.target, source };
        match fs::create_dir(self.target) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists && error.raw_os_error() != Some(EROFS) => {
                return Err(failed(error));
            }
            Ok(()) | Err(_) => {}
        }
        match mount(self.fstype, self.target, self.fstype, self.flags, self.options) {
            Ok(()) | Err(Errno::BUSY) => Ok(()),
            Err(errno) => Err(failed(errno.into())),
        }
    }
}

const EROFS: i32 = Errno::ROFS.raw_os_error();

/// Mounts [`EARLY`].
pub fn early() -> Result<(), MountError> {
    EARLY.into_iter().try_for_each(ApiMount::mount)
}
