//! Creating a container.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::process::Stat;
use super::record::{Record, StoredExit};
use super::streams::{self, End};
use super::{Entry, Shared, lock, path_error, remove, tend};
use crate::helper::{Overlay, Request};
use crate::logs::Source;
use crate::overlay::{self, Root};
use crate::{ContainerSpec, Error, spec};

/// Takes an id until it is dropped.
struct Taken<'a> {
    shared: &'a Shared,
    id: String,
}

impl<'a> Taken<'a> {
    fn new(shared: &'a Shared, id: &str) -> Result<Self, Error> {
        let mut table = lock(&shared.table);
        if table.entries.contains_key(id) || !table.making.insert(id.to_owned()) {
            return Err(Error::Exists { id: id.to_owned() });
        }
        Ok(Self { shared, id: id.to_owned() })
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        lock(&self.shared.table).making.remove(&self.id);
    }
}

/// What this process keeps of the streams it made for a container.
struct Kept {
    stdin: Option<OwnedFd>,
    output: Option<(OwnedFd, OwnedFd)>,
}

pub async fn make(shared: &Arc<Shared>, spec: ContainerSpec) -> Result<(), Error> {
    spec::check(&spec)?;
    let _taken = Taken::new(shared, &spec.id)?;
    let directory = shared.config.root.join(&spec.id);
    let writable = shared.config.writable.join(&spec.id);
    let made = attempt(shared, &spec, &directory, &writable).await;
    if made.is_err()
        && let Err(error) = remove::clean(shared, &directory, &spec.cgroup).await
    {
        tracing::warn!(container = spec.id, %error, "what a failed create left behind could not be removed");
    }
    made
}

async fn attempt(shared: &Arc<Shared>, spec: &ContainerSpec, directory: &Path, writable: &Path) -> Result<(), Error> {
    let root = root(spec, writable)?;
    prepare(directory, writable, &root)?;
    let (path, overlay) = match root {
        Root::Overlay(options) => ("rootfs".into(), Some(Overlay { options, cwd: spec.cwd.clone() })),
        Root::InPlace(layer) => (layer, None),
    };
    let config = spec::config(spec, &path.to_string_lossy(), &shared.cgroups.host())?;
    let text =
        serde_json::to_vec(&config).map_err(|error| path_error("write the bundle in", directory)(error.into()))?;
    fs::write(directory.join("config.json"), text).map_err(path_error("write the bundle in", directory))?;
    // From here on a successor knows that there is something to remove.
    let mut record = Record::new(spec);
    record.save(directory).map_err(path_error("save the record in", directory))?;

    let (fds, kept) = open_streams(spec, directory).map_err(path_error("make the streams in", directory))?;
    let request = Request::Create { bundle: directory.to_owned(), overlay, tty: spec.tty };
    let mut called = shared.helpers.call(&request, &fds).await.map_err(|error| match error {
        Error::Helper { reason } => Error::Create { id: spec.id.clone(), reason },
        other => other,
    })?;
    drop(fds);

    record.state.pid = called.pid;
    record.ticks = Stat::of(called.pid).map_or(0, |stat| stat.ticks);
    let terminal = called.fds.pop().map(Arc::new);
    if let Some(terminal) = &terminal {
        keep_terminal(terminal).map_err(path_error("keep the terminal of", directory))?;
        record.terminal = Some(terminal.as_raw_fd());
    }
    record.save(directory).map_err(path_error("save the record in", directory))?;

    let entry = Arc::new(Entry::new(directory.to_owned(), record));
    *lock(&entry.stdin) = kept.stdin;
    let source = match (terminal, kept.output) {
        (Some(terminal), _) => {
            let _ = entry.terminal.set(Arc::clone(&terminal));
            Some(Source::Terminal(terminal))
        }
        (None, output) => output.map(|(stdout, stderr)| entry.keep_output(stdout, stderr)),
    };
    let ended = watch(shared, &entry, called.pid);
    // The exit is watched: the helper's hold on it may go.
    drop(called);
    tend::begin(shared, &entry, source, async { ended.await.ok() });
    shared.insert(entry);
    Ok(())
}

/// Has the reaper write the exit down before the process is gone for good.
pub fn watch(shared: &Shared, entry: &Arc<Entry>, pid: u32) -> tokio::sync::oneshot::Receiver<StoredExit> {
    let (tell, ended) = tokio::sync::oneshot::channel();
    let entry = Arc::clone(entry);
    shared.reaper.watch_with(pid, move |end| {
        entry.ended.store(true, std::sync::atomic::Ordering::SeqCst);
        let exit = StoredExit::now(end);
        if let Err(error) = exit.save(&entry.directory) {
            tracing::warn!(container = entry.id, %error, "exit cannot be stored");
        }
        let _ = tell.send(exit);
    });
    ended
}

fn root(spec: &ContainerSpec, writable: &Path) -> Result<Root, Error> {
    let wrong = |reason: String| Error::Invalid { id: spec.id.clone(), field: "rootfs", reason };
    if let Some(missing) = spec.rootfs.layers.iter().find(|layer| !layer.is_dir()) {
        return Err(wrong(format!("layer {} is no directory", missing.display())));
    }
    let complete = spec.rootfs.layers.last().is_some_and(|layer| has_mount_points(layer, spec));
    overlay::plan(&spec.rootfs.layers, spec.readonly_rootfs, complete, writable)
        .map_err(|error| wrong(error.to_string()))
}

/// Everything that will be mounted has a place in the layer, so that nothing need be made there.
fn has_mount_points(layer: &Path, spec: &ContainerSpec) -> bool {
    let below_default = |target: &str| ["/dev/", "/proc/", "/sys/"].iter().any(|prefix| target.starts_with(prefix));
    let defaults = ["/proc", "/dev", "/sys"].into_iter();
    defaults.chain(spec.mounts.iter().map(|mount| mount.target.as_str())).filter(|target| !below_default(target)).all(
        |target| {
            let mut path: PathBuf = layer.to_owned();
            // A symbolic link would be followed elsewhere inside the container: then an overlay is safer.
            target.split('/').filter(|part| !part.is_empty()).all(|part| {
                path.push(part);
                path.symlink_metadata().is_ok_and(|metadata| !metadata.is_symlink())
            })
        },
    )
}

fn prepare(directory: &Path, writable: &Path, root: &Root) -> Result<(), Error> {
    // Left by a removal that was interrupted.
    for stale in [directory, writable] {
        match fs::remove_dir_all(stale) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(path_error("remove what was left in", stale)(error));
            }
            _ => {}
        }
    }
    let make = |path: &Path| fs::create_dir_all(path).map_err(path_error("make directory", path));
    make(&directory.join("rootfs"))?;
    if matches!(root, Root::Overlay(_)) {
        make(&writable.join("upper"))?;
        make(&writable.join("work"))?;
    }
    Ok(())
}

/// The container's ends, in the order in which the helper expects them, and ours.
fn open_streams(spec: &ContainerSpec, directory: &Path) -> io::Result<(Vec<OwnedFd>, Kept)> {
    let mut fds = Vec::with_capacity(4);
    let mut kept = Kept { stdin: None, output: None };
    if !spec.tty {
        if spec.stdin {
            streams::make(directory, "stdin")?;
            kept.stdin = Some(streams::end(directory, "stdin", End::OwnIn)?);
            fds.push(streams::end(directory, "stdin", End::ContainerIn)?);
        } else {
            fds.push(streams::null()?);
        }
        for name in ["stdout", "stderr"] {
            streams::make(directory, name)?;
            fds.push(streams::end(directory, name, End::ContainerOut)?);
        }
        let own = |name| streams::end(directory, name, End::OwnOut);
        kept.output = Some((own("stdout")?, own("stderr")?));
    }
    streams::make(directory, "report")?;
    fds.push(streams::end(directory, "report", End::ContainerOut)?);
    Ok((fds, kept))
}

/// Non-blocking, and inherited by this process' successor: a terminal has no path by which it could be opened again.
fn keep_terminal(terminal: &OwnedFd) -> io::Result<()> {
    rustix::io::ioctl_fionbio(terminal, true)?;
    Ok(rustix::io::fcntl_setfd(terminal, rustix::io::FdFlags::empty())?)
}
