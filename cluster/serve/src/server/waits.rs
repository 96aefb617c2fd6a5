//! How long a connection of HTTP/1.1 may take for the headers of a request once they have begun, however slowly they drip.
//!
//! A connection between requests may be silent for longer than that, so reading, which is all that hyper times, does not tell them apart.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing of a request is there.
    Idle,
    /// A request has begun, and its headers are not all there.
    Headers,
    /// It is being worked on.
    Work,
}

/// Where a connection is between its requests.
#[derive(Clone, Debug)]
pub(super) struct Waits(Arc<watch::Sender<Phase>>);

impl Waits {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Phase::Idle)))
    }

    /// The headers are there; the request is done with when what this gives is dropped.
    pub(super) fn work(&self) -> Work {
        self.0.send_replace(Phase::Work);
        Work(self.clone())
    }

    /// Ends when headers took longer than `limit`.
    pub(super) async fn overdue(&self, limit: Duration) {
        let mut phase = self.0.subscribe();
        loop {
            // Neither fails: this holds the sender.
            let _began = phase.wait_for(|phase| *phase == Phase::Headers).await.is_ok();
            if tokio::time::timeout(limit, phase.wait_for(|phase| *phase != Phase::Headers)).await.is_err() {
                return;
            }
        }
    }

    fn read(&self) {
        self.0.send_if_modified(|phase| {
            let begins = *phase == Phase::Idle;
            if begins {
                *phase = Phase::Headers;
            }
            begins
        });
    }
}

pub(super) struct Work(Waits);

impl Drop for Work {
    fn drop(&mut self) {
        self.0.0.send_replace(Phase::Idle);
    }
}

/// A connection that tells when something comes.
pub(super) struct Told<T> {
    io: T,
    waits: Waits,
}

impl<T> Told<T> {
    pub(super) fn new(io: T, waits: Waits) -> Self {
        Self { io, waits }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Told<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, into))?;
        if into.filled().len() > before {
            self.waits.read();
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Told<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn headers_are_timed_and_silence_is_not() {
        let waits = Waits::new();
        let (mut client, server) = tokio::io::duplex(64);
        let mut server = Told::new(server, waits.clone());
        // Headers may take no time at all: they are overdue as soon as they have begun, and nothing else ever is.
        let mut overdue = Box::pin(waits.overdue(Duration::ZERO));
        assert!(overdue.as_mut().now_or_never().is_none(), "idle");
        let work = waits.work();
        client.write_all(b"body").await.unwrap();
        server.read_u8().await.unwrap();
        assert!(overdue.as_mut().now_or_never().is_none(), "worked on");
        drop(work);
        assert!(overdue.as_mut().now_or_never().is_none(), "idle again");
        client.write_all(b"GET").await.unwrap();
        server.read_u8().await.unwrap();
        overdue.await;
        // Headers that are all there are no longer waited for.
        let mut overdue = Box::pin(waits.overdue(Duration::from_secs(3600)));
        assert!(overdue.as_mut().now_or_never().is_none(), "begun");
        drop(waits.work());
        assert!(overdue.as_mut().now_or_never().is_none(), "done with");
    }
}
