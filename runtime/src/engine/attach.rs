//! Joining a container's own standard streams.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

use super::exec::terminal_streams;
use super::streams::{self, End};
use super::{Entry, lock, start};
use crate::logs::cri::Stream;
use crate::session::Resizer;
use crate::{Error, ExecReader, ExecSession, ExecWriter, Status};

pub fn attach(entry: &Arc<Entry>, wanted: bool) -> Result<ExecSession, Error> {
    let (tell, exit) = oneshot::channel();
    lock(&entry.waiting).push(tell);
    // Asked after it waits: an exit between the two would have been told.
    if matches!(entry.status(), Status::Exited(_)) {
        return Err(start::state(entry, "running"));
    }
    let system = |source| Error::System { doing: "attach to a container's streams", source };
    let (pid, tty, stdin, once) = {
        let record = lock(&entry.record);
        (record.state.pid, record.tty, record.stdin, record.stdin_once)
    };
    let tap = |stream| Some(Box::new(entry.taps.open(stream)) as ExecReader);
    let terminal = entry.terminal.get().cloned();
    let (stdin, stderr): (Option<ExecWriter>, _) = match &terminal {
        Some(terminal) if wanted => (Some(terminal_streams(terminal).map_err(system)?.1), None),
        Some(_) => (None, None),
        None if wanted && stdin && !tty => {
            let fd = streams::end(&entry.directory, "stdin", End::Writer).map_err(system)?;
            let pipe = pipe::Sender::from_owned_fd(fd).map_err(system)?;
            (Some(Box::new(Input { pipe, entry: once.then(|| Arc::clone(entry)) })), tap(Stream::Stderr))
        }
        None => (None, tap(Stream::Stderr)),
    };
    Ok(ExecSession { stdin, stdout: tap(Stream::Stdout), stderr, resizer: Resizer { terminal }, exit, pid })
}

/// Writes to the container's standard input; where that is to end with the first session, ends it.
struct Input {
    pipe: pipe::Sender,
    entry: Option<Arc<Entry>>,
}

impl Drop for Input {
    fn drop(&mut self) {
        if let Some(entry) = &self.entry {
            *lock(&entry.stdin) = None;
            if let Err(error) = entry.change(|record| record.stdin = false) {
                tracing::warn!(container = entry.id, %error, "end of standard input cannot be recorded");
            }
        }
    }
}

impl AsyncWrite for Input {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.pipe).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}
