//! Running another process in a container.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use oci_spec::runtime::Spec;
use rustix::fs::Mode;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

use super::{Entry, Shared, path_error, start};
use crate::helper::Request;
use crate::session::Resizer;
use crate::{Error, ExecReader, ExecSession, ExecSpec, ExecWriter, Status, spec, sys};

/// Tells files of concurrent requests apart.
static NUMBER: AtomicU64 = AtomicU64::new(0);

pub async fn exec(shared: &Shared, entry: &Entry, asked: ExecSpec) -> Result<ExecSession, Error> {
    if entry.status() != Status::Running {
        return Err(start::state(entry, "running"));
    }
    let bundle = &entry.directory;
    let file = bundle.join("config.json");
    let config = Spec::load(&file).map_err(|error| path_error("read", &file)(io::Error::other(error)))?;
    let first =
        config.process().as_ref().ok_or_else(|| path_error("read", &file)(io::ErrorKind::InvalidData.into()))?;
    let process = spec::for_exec(&entry.id, first, &asked)?;
    let file = bundle.join(format!("exec-{}.json", NUMBER.fetch_add(1, Ordering::Relaxed)));
    let text = serde_json::to_vec(&process).map_err(|error| path_error("write", &file)(error.into()))?;
    fs::write(&file, text).map_err(path_error("write", &file))?;

    let system = |source| Error::System { doing: "make the streams of an exec", source };
    let (theirs, ours) =
        if asked.tty { (Vec::new(), None) } else { pipes(asked.stdin).map(|(t, o)| (t, Some(o))).map_err(system)? };
    let request = Request::Exec { bundle: bundle.clone(), process: file.clone(), tty: asked.tty };
    let called = shared.helpers.call(&request, &theirs).await;
    let _ = fs::remove_file(&file);
    drop(theirs);
    let mut called = called.map_err(|error| match error {
        Error::Helper { reason } => Error::Exec { id: entry.id.clone(), reason },
        other => other,
    })?;
    let (tell, exit) = oneshot::channel();
    shared.reaper.watch_with(called.pid, move |end| {
        let _ = tell.send(end.code);
    });
    let pid = called.pid;
    let terminal = called.fds.pop();
    // The exit is watched: the helper's hold on it may go.
    drop(called);
    let (stdin, stdout, stderr, resizer) = match (terminal, ours) {
        (Some(terminal), _) => {
            let terminal = Arc::new(terminal);
            let (reader, writer) = terminal_streams(&terminal).map_err(system)?;
            (Some(writer), Some(reader), None, Resizer { terminal: Some(terminal) })
        }
        (None, Some(ours)) => (ours.stdin, Some(ours.stdout), Some(ours.stderr), Resizer::default()),
        (None, None) => return Err(Error::Exec { id: entry.id.clone(), reason: "no terminal came back".to_owned() }),
    };
    let session = ExecSession { stdin, stdout, stderr, resizer, exit, pid };
    if let Some((cols, rows)) = asked.size {
        session.resize(cols, rows)?;
    }
    Ok(session)
}

struct Ours {
    stdin: Option<ExecWriter>,
    stdout: ExecReader,
    stderr: ExecReader,
}

/// The process' ends in the helper's order, and ours.
fn pipes(stdin: bool) -> io::Result<(Vec<OwnedFd>, Ours)> {
    let pipe = || -> io::Result<(OwnedFd, OwnedFd)> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        // Whoever the process runs as may open /dev/stdin, /dev/stdout again.
        rustix::fs::fchmod(&read, Mode::from_raw_mode(0o666))?;
        Ok((read, write))
    };
    let (input, writer) = if stdin {
        let (read, write) = pipe()?;
        (read, Some(Box::new(pipe::Sender::from_owned_fd(write)?) as ExecWriter))
    } else {
        (super::streams::null()?, None)
    };
    let ((out_read, out_write), (err_read, err_write)) = (pipe()?, pipe()?);
    let reader = |fd| -> io::Result<ExecReader> { Ok(Box::new(pipe::Receiver::from_owned_fd(fd)?)) };
    let ours = Ours { stdin: writer, stdout: reader(out_read)?, stderr: reader(err_read)? };
    Ok((vec![input, out_write, err_write], ours))
}

/// Both directions of a terminal that this process has one descriptor of.
pub fn terminal_streams(terminal: &Arc<OwnedFd>) -> io::Result<(ExecReader, ExecWriter)> {
    rustix::io::ioctl_fionbio(terminal.as_ref(), true)?;
    // The reactor takes a descriptor once, so the writer gets one of its own.
    let writer = Arc::new(rustix::io::fcntl_dupfd_cloexec(terminal.as_ref(), 3)?);
    let reader = Arc::new(rustix::io::fcntl_dupfd_cloexec(terminal.as_ref(), 3)?);
    let reader = Terminal(sys::register(reader, Interest::READABLE)?);
    let writer = Terminal(sys::register(writer, Interest::WRITABLE)?);
    Ok((Box::new(reader), Box::new(writer)))
}

struct Terminal(AsyncFd<Arc<OwnedFd>>);

impl AsyncRead for Terminal {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(cx))?;
            let read = ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), into.initialize_unfilled())?));
            return Poll::Ready(match read {
                Ok(Ok(length)) => {
                    into.advance(length);
                    Ok(())
                }
                // EIO: no process has the terminal open any more; that is its end.
                Ok(Err(error)) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => Ok(()),
                Ok(Err(error)) => Err(error),
                Err(_not_ready) => continue,
            });
        }
    }
}

impl AsyncWrite for Terminal {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.0.poll_write_ready(cx))?;
            if let Ok(written) = ready.try_io(|fd| Ok(rustix::io::write(fd.get_ref(), bytes)?)) {
                return Poll::Ready(written);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
