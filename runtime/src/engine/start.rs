//! Letting a created container run, and signalling it.

use std::io::{self, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use libcontainer::container::{ContainerStatus, State};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::Interest;
use tokio::time::timeout;

use super::streams::{self, End};
use super::{Entry, Shared, lock};
use crate::helper::OCI_ID;
use crate::{ContainerEvent, Error, Status, sys};

/// `execve` reads the program from a disk that may be slow, not longer than this.
const PATIENCE: Duration = Duration::from_secs(60);

pub async fn start(shared: &Shared, entry: &Arc<Entry>) -> Result<(), Error> {
    let _gate = entry.gate.lock().await;
    let failed = |reason: String| Error::Start { id: entry.id.clone(), reason };
    match entry.status() {
        Status::Created if !entry.ended.load(Ordering::SeqCst) => {}
        Status::Created | Status::Exited(_) => return Err(state(entry, "created")),
        Status::Running => return Err(state(entry, "created")),
    }
    let report =
        streams::end(&entry.directory, "report", End::Report).map_err(|error| failed(format!("report: {error}")))?;
    notify(&entry.directory.join(OCI_ID)).map_err(|error| failed(format!("tell its process: {error}")))?;
    match timeout(PATIENCE, read_to_end(report)).await {
        Ok(Ok(reason)) if reason.is_empty() => {}
        Ok(Ok(reason)) => return Err(failed(reason)),
        Ok(Err(error)) => return Err(failed(format!("report: {error}"))),
        Err(_) => return Err(failed(format!("not running after {} seconds", PATIENCE.as_secs()))),
    }
    // Its state as libcontainer has it: without this it would refuse to run anything beside it.
    let running = State::load(&entry.directory.join(OCI_ID)).and_then(|mut state| {
        state.status = ContainerStatus::Running;
        state.save(&entry.directory.join(OCI_ID))
    });
    running.map_err(|error| failed(error.to_string()))?;
    entry.change(|record| {
        record.state.started_at = Some(Timestamp::now());
        // It may have ended meanwhile.
        if record.state.status == Status::Created {
            record.state.status = Status::Running;
        }
    })?;
    shared.tell(ContainerEvent::Started { id: entry.id.clone() });
    Ok(())
}

/// The pid is free again only after `ended` is set, so a signal never meets a stranger.
pub fn kill(entry: &Entry, signal: i32) -> Result<(), Error> {
    let wrong = |reason: String| Error::Invalid { id: entry.id.clone(), field: "signal", reason };
    let known = Signal::from_named_raw(signal).ok_or_else(|| wrong(format!("there is no signal {signal}")))?;
    let pid = lock(&entry.record).state.pid;
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
    if entry.ended.load(Ordering::SeqCst) {
        return Ok(());
    }
    match kill_process(pid, known) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(errno) => Err(Error::System { doing: "signal a container", source: errno.into() }),
    }
}

pub fn state(entry: &Entry, must_be: &'static str) -> Error {
    let is = match entry.status() {
        Status::Created => "created",
        Status::Running => "running",
        Status::Exited(_) => "exited",
    };
    Error::State { id: entry.id.clone(), is, must_be }
}

/// The container's process waits in `accept` on this socket. Its path may be longer than a socket's may be, hence the detour.
fn notify(oci: &Path) -> io::Result<()> {
    let directory = rustix::fs::open(oci, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let mut socket = UnixStream::connect(format!("/proc/self/fd/{}/notify.sock", directory.as_raw_fd()))?;
    socket.write_all(b"start")
}

/// Ends when the program runs (its end closes by itself) or could not be run (the reason is in it).
async fn read_to_end(report: OwnedFd) -> io::Result<String> {
    let report = sys::register(Arc::new(report), Interest::READABLE)?;
    let mut text = Vec::new();
    loop {
        let mut ready = report.readable().await?;
        let mut buffer = [0_u8; 512];
        match ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut buffer[..])?)) {
            Ok(Ok(0)) => return Ok(String::from_utf8_lossy(&text).into_owned()),
            Ok(Ok(length)) if text.len() < 4096 => text.extend_from_slice(buffer.get(..length).unwrap_or_default()),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error),
            Err(_not_ready) => {}
        }
    }
}
