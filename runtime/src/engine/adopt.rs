//! Going on with containers that were made before this process began.

use std::fs;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;

use super::process::Stat;
use super::record::{Record, StoredExit};
use super::streams::{self, End};
use super::{Entry, Shared, lock, make, path_error, remove, tend};
use crate::logs::Source;
use crate::{Error, Status, sys};

/// What became of a container, as far as its records and `/proc` tell.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// It was being made: nobody can use it, and it is removed.
    Unfinished,
    /// Its exit is recorded and was told.
    Over,
    /// It ended; that is still to be told.
    Ended(StoredExit),
    /// Its process is our child: the reaper will tell.
    Child,
    /// Its process runs and is somebody else's child (hosted mode, after a restart).
    Foreign,
    /// Its process is gone and nobody saw how.
    Lost,
}

fn decide(record: &Record, exit: Option<StoredExit>, now: Option<Stat>, own: u32) -> Fate {
    match (&record.state.status, exit, now) {
        (Status::Exited(_), ..) => Fate::Over,
        (_, Some(exit), _) => Fate::Ended(exit),
        _ if record.state.pid == 0 => Fate::Unfinished,
        (_, None, Some(stat)) if stat.ticks == record.ticks && stat.parent == own => Fate::Child,
        (_, None, Some(stat)) if stat.ticks == record.ticks => Fate::Foreign,
        (_, None, _) => Fate::Lost,
    }
}

pub async fn all(shared: &Arc<Shared>) -> Result<(), Error> {
    let root = &shared.config.root;
    fs::create_dir_all(root).map_err(path_error("make directory", root))?;
    fs::create_dir_all(&shared.config.writable).map_err(path_error("make directory", &shared.config.writable))?;
    let inherited = if shared.config.successor { inherited(root) } else { Vec::new() };
    for directory in directories(root).map_err(path_error("read directory", root))? {
        if let Err(error) = one(shared, &directory).await {
            // The others must not suffer for it.
            tracing::error!(container = %directory.display(), %error, "container cannot be adopted");
        }
    }
    // Each has been opened anew by path, so nothing that waited in it is lost now.
    for fd in inherited {
        drop(sys::inherited(fd));
    }
    Ok(())
}

fn directories(root: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(root)?.map(|entry| Ok(entry?.path())).collect()
}

/// Descriptors that the predecessor left open below `root`.
fn inherited(root: &Path) -> Vec<RawFd> {
    let open = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    open.filter(|entry| fs::read_link(entry.path()).is_ok_and(|target| target.starts_with(root)))
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

async fn one(shared: &Arc<Shared>, directory: &Path) -> Result<(), Error> {
    let Ok(record) = Record::load(directory) else {
        // Without a record there is no process either: it is written before the helper is asked.
        return fs::remove_dir_all(directory).map_err(path_error("remove", directory));
    };
    let pid = record.state.pid;
    let fate = match decide(&record, StoredExit::load(directory), Stat::of(pid), std::process::id()) {
        // The reaper may have met the zombie before us.
        Fate::Lost => shared.reaper.claim(pid).map_or(Fate::Lost, |end| Fate::Ended(StoredExit::now(end))),
        other => other,
    };
    if fate == Fate::Unfinished {
        return remove::clean(shared, directory, &record.cgroup).await;
    }
    let entry = Arc::new(Entry::new(directory.to_owned(), record));
    if fate == Fate::Over {
        entry.ended.store(true, std::sync::atomic::Ordering::SeqCst);
        entry.exited.send_replace(true);
        shared.insert(entry);
        return Ok(());
    }
    let source = reopen(shared, &entry).map_err(path_error("open the streams in", directory))?;
    match fate {
        Fate::Child => {
            let ended = make::watch(shared, &entry, pid);
            tend::begin(shared, &entry, source, async { ended.await.ok() });
        }
        Fate::Foreign => {
            let ended =
                foreign(pid).map_err(|source| Error::System { doing: "watch a container's process", source })?;
            let watched = Arc::clone(&entry);
            tend::begin(shared, &entry, source, async move {
                // An error is the reactor's end, and this process' with it.
                let _ = ended.readable().await;
                watched.ended.store(true, std::sync::atomic::Ordering::SeqCst);
                None
            });
        }
        Fate::Ended(exit) => {
            entry.ended.store(true, std::sync::atomic::Ordering::SeqCst);
            tend::begin(shared, &entry, source, std::future::ready(exit));
        }
        Fate::Lost | Fate::Unfinished | Fate::Over => {
            entry.ended.store(true, std::sync::atomic::Ordering::SeqCst);
            tend::begin(shared, &entry, source, std::future::ready(None));
        }
    }
    shared.insert(entry);
    Ok(())
}

/// The streams as `make` left them.
fn reopen(shared: &Shared, entry: &Entry) -> io::Result<Option<Source>> {
    let (tty, stdin, terminal) = {
        let record = lock(&entry.record);
        (record.tty, record.stdin, record.terminal)
    };
    if tty {
        // Only a successor inherits it; the number may mean anything in another process.
        let fd = terminal.filter(|fd| shared.config.successor && is_terminal(*fd));
        return Ok(fd.map(|fd| {
            let terminal = Arc::new(sys::inherited(fd));
            let _ = entry.terminal.set(Arc::clone(&terminal));
            Source::Terminal(terminal)
        }));
    }
    let open = |name, end| streams::end(&entry.directory, name, end);
    if stdin {
        *lock(&entry.stdin) = Some(open("stdin", End::OwnIn)?);
    }
    Ok(Some(entry.keep_output(open("stdout", End::OwnOut)?, open("stderr", End::OwnOut)?)))
}

fn is_terminal(fd: RawFd) -> bool {
    fs::read_link(format!("/proc/self/fd/{fd}")).is_ok_and(|target| target.ends_with("ptmx"))
}

/// Readable when the process ends.
fn foreign(pid: u32) -> io::Result<tokio::io::unix::AsyncFd<Arc<OwnedFd>>> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::NotFound)?;
    sys::register(Arc::new(pidfd_open(pid, PidfdFlags::NONBLOCK)?), Interest::READABLE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ContainerSpec, Exit};
    use jiff::Timestamp;

    #[test]
    fn the_fate_of_a_container_is_read_off_its_records() {
        let mut record = Record::new(&ContainerSpec::default());
        let at = Timestamp::UNIX_EPOCH;
        let exit = StoredExit { code: 3, signal: None, at };
        let stat = |parent, ticks| Some(Stat { parent, ticks });
        assert_eq!(decide(&record, None, None, 1), Fate::Unfinished);
        record.state.pid = 7;
        record.ticks = 100;
        assert_eq!(decide(&record, None, stat(1, 100), 1), Fate::Child);
        assert_eq!(decide(&record, None, stat(1, 100), 50), Fate::Foreign);
        assert_eq!(decide(&record, None, stat(1, 101), 1), Fate::Lost, "another process has the pid");
        assert_eq!(decide(&record, None, None, 1), Fate::Lost);
        assert_eq!(decide(&record, Some(exit), stat(1, 100), 1), Fate::Ended(exit), "told, but not yet taken");
        record.state.status = Status::Exited(Exit { code: 3, signal: None, oom_killed: false, at });
        assert_eq!(decide(&record, Some(exit), None, 1), Fate::Over);
    }
}
