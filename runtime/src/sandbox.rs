//! Namespaces that containers share, held open by bind mounts: no process lives in them when no container does.
//!
//! A thread of its own leaves for new namespaces, sets them up from within, binds them to files, and ends.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, unmount};
use serde::{Deserialize, Serialize};

use crate::spec::check_id;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("sandbox {id}: {doing}: {source}")]
    System { id: String, doing: String, source: io::Error },
    #[error("sandbox {id:?} cannot be a name")]
    Name { id: String },
    #[error("sandbox {id}: the thread that makes namespaces panicked")]
    Thread { id: String },
}

/// What to make.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub id: String,
    /// Of the new UTS namespace; at most 64 bytes.
    pub hostname: String,
    pub net: bool,
    pub ipc: bool,
    pub uts: bool,
    /// Set within the new namespaces, as `net.ipv4.ip_unprivileged_port_start`.
    pub sysctls: BTreeMap<String, String>,
}

/// Paths to give to [`crate::Namespace::Path`]; `None` for what was not asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    pub net: Option<PathBuf>,
    pub ipc: Option<PathBuf>,
    pub uts: Option<PathBuf>,
    /// A tmpfs to be bound to `/dev/shm` of every container that shares the IPC namespace.
    pub shm: Option<PathBuf>,
}

/// All sandboxes of a machine, below one directory (`/run/kedge/ns`).
#[derive(Debug, Clone)]
pub struct Sandboxes {
    root: PathBuf,
}

impl Sandboxes {
    pub fn open(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        // Mounts below must not spread into the mount namespaces of containers being made: each such copy would keep a removed
        // namespace alive. Bound to itself, the directory is a mount whose propagation is its own.
        if mount_change(root, MountPropagationFlags::PRIVATE).is_err() {
            mount_bind(root, root)?;
            mount_change(root, MountPropagationFlags::PRIVATE)?;
        }
        Ok(Self { root: root.to_owned() })
    }

    /// Makes the namespaces. What exists already under this id is used again, so that a caller that was interrupted can repeat.
    /// Blocks for some milliseconds: call it by `spawn_blocking`.
    pub fn create(&self, request: &Request) -> Result<Sandbox, Error> {
        check_id(&request.id).map_err(|_| Error::Name { id: request.id.clone() })?;
        let directory = self.root.join(&request.id);
        if let Some(complete) = self.get(&request.id) {
            return Ok(complete);
        }
        // Half of one, left by a crash.
        self.remove(&request.id)?;
        let system = |doing: &str, source| Error::System { id: request.id.clone(), doing: doing.to_owned(), source };
        fs::create_dir_all(&directory).map_err(|error| system("make the directory", error))?;
        let inside = {
            let (request, directory) = (request.clone(), directory.clone());
            thread::Builder::new()
                .name("sandbox".to_owned())
                .spawn(move || enter_and_bind(&request, &directory))
                .map_err(|error| system("start a thread", error))?
        };
        let made = match inside.join() {
            Ok(made) => made,
            Err(_) => Err(Error::Thread { id: request.id.clone() }),
        };
        let sandbox = made.and_then(|()| {
            let sandbox = paths(request, &directory);
            if let Some(shm) = &sandbox.shm {
                let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
                fs::create_dir_all(shm)
                    .and_then(|()| Ok(mount("shm", shm, "tmpfs", flags, c"mode=1777,size=65536k")?))
                    .map_err(|error| system("mount shm", error))?;
            }
            let text = serde_json::to_vec(&sandbox).map_err(|error| system("write its record", error.into()))?;
            fs::write(directory.join(RECORD), text).map_err(|error| system("write its record", error))?;
            Ok(sandbox)
        });
        if sandbox.is_err() {
            let _ = self.remove(&request.id);
        }
        sandbox
    }

    /// A complete sandbox, also one made by this process before it was replaced.
    pub fn get(&self, id: &str) -> Option<Sandbox> {
        let text = fs::read(self.root.join(id).join(RECORD)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Lets the namespaces go; they end when the last container in them does. Unknown ids are not an error.
    pub fn remove(&self, id: &str) -> Result<(), Error> {
        check_id(id).map_err(|_| Error::Name { id: id.to_owned() })?;
        let directory = self.root.join(id);
        for name in ["net", "ipc", "uts", "shm"] {
            // Once for each time it was mounted.
            while unmount(directory.join(name), UnmountFlags::DETACH).is_ok() {}
        }
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::System { id: id.to_owned(), doing: "remove the directory".to_owned(), source: error })
            }
            _ => Ok(()),
        }
    }

    pub fn list(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }
}

const RECORD: &str = "sandbox.json";

fn paths(request: &Request, directory: &Path) -> Sandbox {
    let path = |wanted: bool, name: &str| wanted.then(|| directory.join(name));
    Sandbox {
        net: path(request.net, "net"),
        ipc: path(request.ipc, "ipc"),
        uts: path(request.uts, "uts"),
        shm: path(request.ipc, "shm"),
    }
}

/// Runs in a thread of its own, which is then of no other use.
fn enter_and_bind(request: &Request, directory: &Path) -> Result<(), Error> {
    let system = |doing: String| move |source: io::Error| Error::System { id: request.id.clone(), doing, source };
    let kinds = [
        (request.net, CloneFlags::CLONE_NEWNET, "net"),
        (request.ipc, CloneFlags::CLONE_NEWIPC, "ipc"),
        (request.uts, CloneFlags::CLONE_NEWUTS, "uts"),
    ];
    let wanted = || kinds.iter().filter(|(wanted, ..)| *wanted);
    let flags = wanted().fold(CloneFlags::empty(), |all, (_, flag, _)| all | *flag);
    unshare(flags).map_err(io::Error::from).map_err(system(format!("make namespaces {flags:?}")))?;
    if request.uts {
        rustix::system::sethostname(request.hostname.as_bytes())
            .map_err(io::Error::from)
            .map_err(system(format!("set the hostname {:?}", request.hostname)))?;
    }
    for (name, value) in &request.sysctls {
        // What /proc/sys shows of the network and of IPC is the opening thread's own.
        let path = Path::new("/proc/sys").join(name.replace('.', "/"));
        if name.contains('/') || name.contains("..") {
            return Err(Error::Name { id: name.clone() });
        }
        OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()))
            .map_err(system(format!("set {name} to {value:?}")))?;
    }
    for (_, _, name) in wanted() {
        let target = directory.join(name);
        File::create(&target)
            .and_then(|_| Ok(mount_bind(format!("/proc/thread-self/ns/{name}"), &target)?))
            .map_err(system(format!("bind {name}")))?;
    }
    Ok(())
}
