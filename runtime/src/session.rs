//! A process run in a running container, and the ends of its streams.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;

use crate::{Error, User};

/// What to run. What is `None` is taken from the container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ExecSpec {
    pub args: Vec<String>,
    /// Added to the container's own environment.
    pub env: Vec<(String, String)>,
    pub cwd: Option<String>,
    pub user: Option<User>,
    /// One terminal instead of three pipes.
    pub tty: bool,
    /// Standard input is wanted; else it is `/dev/null` (a terminal always has one).
    pub stdin: bool,
    /// Columns and rows of the terminal to begin with.
    pub size: Option<(u16, u16)>,
}

pub type ExecReader = Box<dyn AsyncRead + Send + Unpin>;
pub type ExecWriter = Box<dyn AsyncWrite + Send + Unpin>;

/// Streams may be taken out and moved to other tasks. Dropping `stdin` closes it (not for a terminal: send it `^D`).
/// With a terminal, `stdout` carries everything and `stderr` is `None`.
pub struct ExecSession {
    pub stdin: Option<ExecWriter>,
    pub stdout: Option<ExecReader>,
    pub stderr: Option<ExecReader>,
    pub(crate) resizer: Resizer,
    pub(crate) exit: oneshot::Receiver<i32>,
    pub(crate) pid: u32,
}

impl ExecSession {
    /// For fakes; the returned sender ends the session with an exit code.
    pub fn new(
        stdin: Option<ExecWriter>,
        stdout: Option<ExecReader>,
        stderr: Option<ExecReader>,
    ) -> (Self, oneshot::Sender<i32>) {
        let (end, exit) = oneshot::channel();
        (Self { stdin, stdout, stderr, resizer: Resizer::default(), exit, pid: 0 }, end)
    }

    /// The process' id in this process' pid namespace; 0 where it is not known.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// To be kept where window changes arrive while this session is waited for.
    pub fn resizer(&self) -> Resizer {
        self.resizer.clone()
    }

    pub fn resize(&self, cols: u16, rows: u16) -> Result<(), Error> {
        self.resizer.resize(cols, rows)
    }

    /// The exit code (128 + signal when killed by one). Safe to drop and call again until it has returned.
    pub async fn wait(&mut self) -> Result<i32, Error> {
        (&mut self.exit).await.map_err(|_| Error::ExitLost { pid: self.pid })
    }
}

impl fmt::Debug for ExecSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecSession").field("pid", &self.pid).finish_non_exhaustive()
    }
}

/// Tells a terminal its size; does nothing where there is none.
#[derive(Debug, Clone, Default)]
pub struct Resizer {
    pub(crate) terminal: Option<Arc<OwnedFd>>,
}

impl Resizer {
    pub fn resize(&self, cols: u16, rows: u16) -> Result<(), Error> {
        let Some(terminal) = &self.terminal else { return Ok(()) };
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(terminal, size)
            .map_err(|source| Error::System { doing: "resize the terminal", source: source.into() })
    }
}
