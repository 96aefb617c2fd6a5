//! Moves a container's output as it comes.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

use super::cri::{Lines, Stream};
use super::{LogFile, Taps};
use crate::sys;

/// How long the beginning of a line waits for its end before it is written as a piece: long enough not to cut lines of busy
/// programs, short enough to see a prompt.
const UNFINISHED: Duration = Duration::from_millis(250);
/// Read at once, then written at once; between two such turns other containers have theirs.
const TURN: usize = 64 << 10;

/// Where output comes from; opened non-blocking.
pub enum Source {
    /// Standard output and error.
    Fifos(Arc<OwnedFd>, Arc<OwnedFd>),
    /// Both in one.
    Terminal(Arc<OwnedFd>),
}

/// Dropped, it writes down unfinished lines first.
pub struct Pump {
    inputs: Vec<Input>,
    file: Option<LogFile>,
    taps: Arc<Taps>,
}

struct Input {
    stream: Stream,
    fd: AsyncFd<Arc<OwnedFd>>,
    lines: Lines,
}

impl Pump {
    pub fn new(source: Source, file: Option<LogFile>, taps: Arc<Taps>) -> io::Result<Self> {
        let fds = match source {
            Source::Fifos(stdout, stderr) => {
                vec![(Stream::Stdout, stdout), (Stream::Stderr, stderr)]
            }
            Source::Terminal(fd) => vec![(Stream::Stdout, fd)],
        };
        let input =
            |(stream, fd)| Ok(Input { stream, fd: sys::register(fd, Interest::READABLE)?, lines: Lines::new(stream) });
        Ok(Self { inputs: fds.into_iter().map(input).collect::<io::Result<_>>()?, file, taps })
    }

    /// Until every stream has ended. Safe to cancel: nothing is held between two turns but unfinished lines.
    pub async fn run(&mut self) {
        while !self.inputs.is_empty() {
            let pending = self.inputs.iter().any(|input| input.lines.has_pending());
            let turn = if pending { timeout(UNFINISHED, self.ready()).await } else { Ok(self.ready().await) };
            match turn {
                Ok(index) => self.turn(index),
                Err(_) => self.flush(),
            }
        }
    }

    /// The index of an input that may be read.
    async fn ready(&self) -> usize {
        match self.inputs.as_slice() {
            [first, second] => tokio::select! {
                () = readable(&first.fd) => 0,
                () = readable(&second.fd) => 1,
            },
            [first] => {
                readable(&first.fd).await;
                0
            }
            // Never more than two; with none there is nothing to come.
            _ => std::future::pending().await,
        }
    }

    fn turn(&mut self, index: usize) {
        let Some(input) = self.inputs.get_mut(index) else { return };
        let mut bytes = Vec::new();
        let ended = read_some(&input.fd, &mut bytes);
        if !bytes.is_empty() {
            self.taps.send(input.stream, &bytes);
            if let Some(file) = &mut self.file {
                let mut entries = Vec::with_capacity(bytes.len() + bytes.len() / 2 + 64);
                input.lines.push(&now(), &bytes, &mut entries);
                if !entries.is_empty() {
                    file.write(&entries);
                }
            }
        }
        if ended {
            self.flush();
            let input = self.inputs.remove(index);
            self.taps.close(input.stream);
        }
    }

    fn flush(&mut self) {
        let Some(file) = &mut self.file else { return };
        let mut entries = Vec::new();
        let time = now();
        for input in &mut self.inputs {
            input.lines.flush(&time, &mut entries);
        }
        if !entries.is_empty() {
            file.write(&entries);
        }
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Nanoseconds always in full, so that entries line up.
fn now() -> String {
    format!("{:.9}", Timestamp::now())
}

async fn readable(fd: &AsyncFd<Arc<OwnedFd>>) {
    // An error is the reactor's shutting down: the read then tells.
    if let Ok(mut guard) = fd.readable().await {
        guard.retain_ready();
    }
}

/// Reads until there is no more, or a turn's worth. True when the stream has ended.
fn read_some(fd: &AsyncFd<Arc<OwnedFd>>, bytes: &mut Vec<u8>) -> bool {
    let mut buffer = [0_u8; 8 << 10];
    while bytes.len() < TURN {
        let read = fd.try_io(Interest::READABLE, |fd| Ok(rustix::io::read(fd, &mut buffer[..])?));
        match read {
            Ok(0) => return true,
            Ok(length) => bytes.extend_from_slice(buffer.get(..length).unwrap_or_default()),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => return false,
                io::ErrorKind::Interrupted => {}
                // EIO: nobody has the terminal open any more. Anything else ends the stream as well.
                _ => return true,
            },
        }
    }
    false
}
