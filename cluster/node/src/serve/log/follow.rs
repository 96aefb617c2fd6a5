//! Learns without polling that a log grew, was renamed, or will not grow any more.

use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use kedge_runtime::{ContainerEvent, Runtime, Status};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use tokio::io::unix::AsyncFd;
use tokio::sync::broadcast::{self, error::RecvError};

/// Where the end of the container that writes is heard of.
pub struct Source {
    pub events: broadcast::Receiver<ContainerEvent>,
    pub runtime: Arc<dyn Runtime>,
    pub id: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    Grown,
    /// A new file stands where the old one was.
    Renamed,
    /// The container is over and all its output written.
    Ended,
}

pub struct Watch {
    inotify: AsyncFd<OwnedFd>,
    name: Vec<u8>,
    source: Source,
    asked: bool,
}

impl Watch {
    pub fn new(path: &Path, source: Source) -> io::Result<Self> {
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let dir = path.parent().unwrap_or(Path::new("/"));
        inotify::add_watch(&fd, dir, WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO)?;
        let name = path.file_name().unwrap_or(OsStr::new("")).as_bytes().to_vec();
        #[expect(
            deprecated,
            reason = "its successor is unsafe; an OwnedFd that is moved in cannot be closed behind its back"
        )]
        let inotify = AsyncFd::new(fd)?;
        Ok(Self { inotify, name, source, asked: false })
    }

    pub async fn next(&mut self) -> io::Result<Woken> {
        if !self.asked {
            self.asked = true;
            if self.is_over() {
                return Ok(Woken::Ended);
            }
        }
        loop {
            tokio::select! {
                ready = self.inotify.readable_mut() => {
                    let mut ready = ready?;
                    let woken = drain(ready.get_inner(), &self.name);
                    ready.clear_ready();
                    if let Some(woken) = woken? {
                        return Ok(woken);
                    }
                }
                event = self.source.events.recv() => match event {
                    Ok(ContainerEvent::Exited { id, .. }) if id == self.source.id => return Ok(Woken::Ended),
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) if !self.is_over() => {}
                    Err(RecvError::Lagged(_) | RecvError::Closed) => return Ok(Woken::Ended),
                },
            }
        }
    }

    /// A container that the runtime does not know has been removed, so it has ended.
    fn is_over(&self) -> bool {
        let found = self.source.runtime.list().into_iter().find(|c| c.id == self.source.id);
        found.is_none_or(|c| matches!(c.status, Status::Exited(_)))
    }
}

/// Reads all notices there are. What matters most of those about the file wins.
fn drain(fd: &OwnedFd, name: &[u8]) -> io::Result<Option<Woken>> {
    let mut buffer = [MaybeUninit::<u8>::uninit(); 2048];
    let mut reader = Reader::new(fd, &mut buffer);
    let mut woken = None;
    loop {
        let event = match reader.next() {
            Ok(event) => event,
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(woken),
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        let flags = event.events();
        if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            // Some notices were lost: reading on is right, whatever they said.
            woken = woken.or(Some(Woken::Grown));
        }
        if event.file_name().is_none_or(|n| n.to_bytes() != name) {
            continue;
        }
        if flags.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) {
            woken = Some(Woken::Renamed);
        } else {
            woken = woken.or(Some(Woken::Grown));
        }
    }
}
