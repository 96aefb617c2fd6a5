//! The FIFOs of one container.
//!
//! | file     | container's end  | this process' end                        |
//! |----------|------------------|------------------------------------------|
//! | `stdout` | read and write   | read; inheritable                        |
//! | `stderr` | read and write   | read; inheritable                        |
//! | `stdin`  | read             | read and write while it is held open; inheritable |
//! | `report` | read and write   | read, while `start` waits                |
//!
//! A container's end that can also read never sees a broken pipe. Ours are inherited across this process' own `execve`, so that
//! what waits in them is kept even when the container ends meanwhile; the new process opens them anew by path and closes those.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};

/// Whose end is opened, and how.
#[derive(Debug, Clone, Copy)]
pub enum End {
    ContainerOut,
    ContainerIn,
    OwnOut,
    OwnIn,
    /// Another writer beside `OwnIn`, for an attached session.
    Writer,
    Report,
}

impl End {
    fn flags(self) -> OFlags {
        match self {
            Self::ContainerOut => OFlags::RDWR | OFlags::CLOEXEC,
            Self::ContainerIn => OFlags::RDONLY | OFlags::CLOEXEC,
            Self::OwnOut => OFlags::RDONLY | OFlags::NONBLOCK,
            Self::OwnIn => OFlags::RDWR | OFlags::NONBLOCK,
            Self::Writer => OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
            Self::Report => OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
        }
    }
}

/// Makes the FIFO. Its directory keeps others out; its own mode lets a container's user open `/dev/stdout` again.
pub fn make(directory: &Path, name: &str) -> io::Result<()> {
    let path = directory.join(name);
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o666), 0)?;
    fs::set_permissions(&path, Permissions::from_mode(0o666))
}

/// `ContainerIn` is opened while `OwnIn` is open, else it would wait for a writer.
pub fn end(directory: &Path, name: &str, end: End) -> io::Result<OwnedFd> {
    Ok(open(directory.join(name), end.flags(), Mode::empty())?)
}

pub fn null() -> io::Result<OwnedFd> {
    Ok(File::open("/dev/null")?.into())
}
