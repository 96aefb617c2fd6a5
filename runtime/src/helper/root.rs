//! The container's root file system: mounted, and complete.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, mkdirat, openat2};
use rustix::mount::{MountFlags, MountPropagationFlags, mount_change};

use super::Overlay;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{doing}: {source}")]
    System { doing: &'static str, source: io::Error },
    #[error("mount the root file system with {options}: {source}")]
    Mount { options: String, source: io::Error },
    #[error("make the working directory {cwd}: {source}")]
    Cwd { cwd: String, source: io::Error },
}

/// Mounts the overlay where only this container's processes will see it: in a mount namespace of this helper's own, from which
/// libcontainer makes the container's. It goes when the last of them ends; nothing is left to unmount.
pub fn mount(target: &Path, overlay: &Overlay) -> Result<(), Error> {
    let system = |doing| move |source: io::Error| Error::System { doing, source };
    nix::sched::unshare(CloneFlags::CLONE_NEWNS).map_err(io::Error::from).map_err(system("make a mount namespace"))?;
    // What the host mounts later still arrives here (volumes with HostToContainer); nothing goes back.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(io::Error::from)
        .map_err(system("make mounts private"))?;
    // `volatile` (Linux 5.10) saves every sync of files that do not outlive the container anyway.
    let attempt = |options: &str| -> io::Result<()> {
        let data = CString::new(options)?;
        Ok(rustix::mount::mount("overlay", target, "overlay", MountFlags::empty(), data.as_c_str())?)
    };
    match attempt(&format!("{},volatile", overlay.options)) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => attempt(&overlay.options),
        other => other,
    }
    .map_err(|source| Error::Mount { options: overlay.options.clone(), source })?;
    make_directory(target, &overlay.cwd).map_err(|source| Error::Cwd { cwd: overlay.cwd.clone(), source })
}

/// As other runtimes do: images name working directories that they do not have. Links are followed as the container would see them,
/// never out of its root (openat2, Linux 5.6).
fn make_directory(root: &Path, path: &str) -> io::Result<()> {
    let open = |path: &Path| -> rustix::io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, root, flags, Mode::empty())?;
        openat2(&root, path, flags, Mode::empty(), resolve)
    };
    let mut made = PathBuf::from(".");
    let mut parent = open(&made)?;
    for part in path.split('/').filter(|part| !part.is_empty()) {
        made.push(part);
        parent = match open(&made) {
            Err(rustix::io::Errno::NOENT) => {
                mkdirat(&parent, part, Mode::from_raw_mode(0o755))?;
                open(&made)?
            }
            opened => opened?,
        };
    }
    Ok(())
}
