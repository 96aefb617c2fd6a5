//! Starting a helper and hearing from it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::{ARGUMENT, Reply, Request, wire};
use crate::reaper::{Hold, Reaper};
use crate::{Error, sys};

/// A helper that says nothing for so long has hung (a mount source on a dead network file system) and is killed.
const PATIENCE: Duration = Duration::from_secs(120);
/// At once: each needs some megabytes and a core for its short life.
const AT_ONCE: usize = 4;

pub struct Helpers {
    program: PathBuf,
    reaper: Reaper,
    room: Semaphore,
}

/// What a helper made. The exit of `pid` is kept until this is dropped: watch it before.
pub struct Called {
    pub pid: u32,
    /// The terminal, where one was asked for.
    pub fds: Vec<OwnedFd>,
    _hold: Hold,
}

impl Helpers {
    /// `program` is run as `program runtime-helper`; on a device it is `/proc/self/exe`.
    pub fn new(program: PathBuf, reaper: Reaper) -> Self {
        Self { program, reaper, room: Semaphore::new(AT_ONCE) }
    }

    /// The error is the helper's reason, or why there was no helper.
    pub async fn call<F: AsFd>(&self, request: &Request, fds: &[F]) -> Result<Called, Error> {
        let failed = |doing: &str, error: io::Error| Error::Helper { reason: format!("{doing}: {error}") };
        let _room = self.room.acquire().await.map_err(|_| Error::Helper { reason: "shutting down".to_owned() })?;
        let hold = self.reaper.hold();
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(|errno| failed("make a socket pair", errno.into()))?;
        let mut command = Command::new(&self.program);
        command.arg(ARGUMENT).env_clear().stdin(Stdio::from(theirs)).stdout(Stdio::null());
        let spawned = self
            .reaper
            .spawn(&mut command)
            .map_err(|error| failed(&format!("start {}", self.program.display()), error))?;
        // The command owns the helper's end of the socket: as long as it lives, nobody hears that the helper is gone.
        drop(command);
        wire::send(&ours, request, fds).map_err(|error| failed("send the request", error))?;
        rustix::io::ioctl_fionbio(&ours, true).map_err(|errno| failed("read the reply", errno.into()))?;
        let ours =
            sys::register(Arc::new(ours), Interest::READABLE).map_err(|error| failed("read the reply", error))?;
        match timeout(PATIENCE, reply(&ours)).await {
            Ok(Ok((Reply::Done { pid }, fds))) => Ok(Called { pid: pid.unsigned_abs(), fds, _hold: hold }),
            Ok(Ok((Reply::Failed { reason }, _))) => Err(Error::Helper { reason }),
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => match spawned.ended.await {
                Ok(ended) => Err(Error::Helper { reason: format!("ended without a reply: {ended}") }),
                Err(_) => Err(Error::ExitLost { pid: spawned.pid }),
            },
            Ok(Err(error)) => Err(failed("read the reply", error)),
            Err(_) => {
                if let Some(pid) = i32::try_from(spawned.pid).ok().and_then(Pid::from_raw) {
                    // It has not been waited for (`spawned.ended` is pending), or its pid is not in use again yet.
                    let _ = kill_process(pid, Signal::KILL);
                }
                Err(Error::Helper {
                    reason: format!("gave no reply for {} seconds and was killed", PATIENCE.as_secs()),
                })
            }
        }
    }
}

async fn reply(socket: &AsyncFd<Arc<OwnedFd>>) -> io::Result<(Reply, Vec<OwnedFd>)> {
    loop {
        let mut ready = socket.readable().await?;
        if let Ok(result) = ready.try_io(|socket| wire::receive(socket.get_ref())) {
            return result;
        }
    }
}
