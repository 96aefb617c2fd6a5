//! Copies of a container's output for attached sessions.

use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::mpsc;

use super::cri::Stream;

/// Pieces of output that may wait for a session. One that does not read is left behind: it must not hold up the container.
const WAITING: usize = 64;

#[derive(Default)]
pub struct Taps {
    /// Orders nothing but the list itself.
    open: Mutex<Vec<(Stream, mpsc::Sender<Vec<u8>>)>>,
}

impl Taps {
    /// What the stream carries from now on, until it or the container ends.
    pub fn open(&self, stream: Stream) -> Tap {
        let (sender, pieces) = mpsc::channel(WAITING);
        self.open.lock().unwrap_or_else(PoisonError::into_inner).push((stream, sender));
        Tap { pieces, piece: Vec::new(), read: 0 }
    }

    pub fn send(&self, stream: Stream, bytes: &[u8]) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|(of, tap)| *of != stream || tap.try_send(bytes.to_vec()).is_ok());
    }

    /// The stream has ended.
    pub fn close(&self, stream: Stream) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).retain(|(of, _)| *of != stream);
    }
}

pub struct Tap {
    pieces: mpsc::Receiver<Vec<u8>>,
    piece: Vec<u8>,
    read: usize,
}

impl AsyncRead for Tap {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        if self.read >= self.piece.len() {
            match ready!(self.pieces.poll_recv(cx)) {
                Some(piece) => (self.piece, self.read) = (piece, 0),
                None => return Poll::Ready(Ok(())),
            }
        }
        let rest = self.piece.get(self.read..).unwrap_or_default();
        let part = rest.get(..into.remaining().min(rest.len())).unwrap_or_default();
        into.put_slice(part);
        let read = part.len();
        self.read += read;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn a_session_hears_its_stream_until_the_end() {
        let taps = Taps::default();
        taps.send(Stream::Stdout, b"before");
        let mut tap = taps.open(Stream::Stdout);
        taps.send(Stream::Stdout, b"one");
        taps.send(Stream::Stderr, b"other");
        taps.send(Stream::Stdout, b"two");
        taps.close(Stream::Stdout);
        let mut heard = String::new();
        tap.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "onetwo");
    }

    #[tokio::test]
    async fn a_session_that_does_not_read_is_left_behind() {
        let taps = Taps::default();
        let mut tap = taps.open(Stream::Stdout);
        for _ in 0..=WAITING {
            taps.send(Stream::Stdout, b"x");
        }
        taps.send(Stream::Stdout, b"x");
        let mut heard = Vec::new();
        tap.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard.len(), WAITING);
    }
}
