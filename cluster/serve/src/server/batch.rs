//! Writes of one moment, put together: what many watches say at once on one connection becomes few TLS records and few system calls.
//!
//! HTTP/2 flushes after each frame, and the connection's task runs again after each stream's. So a flush only promises one here: the task
//! asks for another turn, which it gets when the streams that are ready have had theirs, and writes then. That works because that task,
//! which reads and writes alone, begins each turn with a read.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Four TLS records, which go in one system call. At rest nothing is held.
const FULL: usize = 64 * 1024;

pub(super) struct Batched<T> {
    io: T,
    waiting: Vec<u8>,
    /// Of `waiting`, what `io` has taken already.
    taken: usize,
    /// Another turn was asked for.
    promised: bool,
}

impl<T: AsyncWrite + Unpin> Batched<T> {
    pub(super) fn new(io: T) -> Self {
        Self { io, waiting: Vec::new(), taken: 0, promised: false }
    }

    fn write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.waiting.get(self.taken..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.io).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.taken += n,
            }
        }
        // A connection at rest holds no buffer.
        self.waiting = Vec::new();
        self.taken = 0;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// How much fits after what waits; writes that out first if nothing does.
    fn room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.waiting.len() >= FULL {
            ready!(self.write_out(cx))?;
        }
        Poll::Ready(Ok(FULL.saturating_sub(self.waiting.len())))
    }

    fn put(&mut self, bytes: &[u8], room: usize) -> usize {
        let bytes = bytes.get(..room).unwrap_or(bytes);
        self.waiting.extend_from_slice(bytes);
        bytes.len()
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Batched<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.promised)
            && let Poll::Ready(Err(error)) = self.write_out(cx)
        {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.io).poll_read(cx, into)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Batched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let room = ready!(self.room(cx))?;
        Poll::Ready(Ok(self.put(bytes, room)))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let room = ready!(self.room(cx))?;
        let mut written = 0;
        for part in parts {
            written += self.put(part, room - written);
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.waiting.is_empty() && !std::mem::replace(&mut self.promised, true) {
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.write_out(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Turns(AtomicUsize);

    impl Wake for Turns {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Notes each write; takes `most` bytes of it.
    struct Noted {
        writes: Vec<Vec<u8>>,
        most: usize,
    }

    impl AsyncRead for Noted {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Noted {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let taken = bytes.get(..self.most).unwrap_or(bytes).to_vec();
            self.writes.push(taken.clone());
            Poll::Ready(Ok(taken.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn read(batched: &mut Batched<Noted>, cx: &mut Context<'_>) {
        assert!(Pin::new(batched).poll_read(cx, &mut ReadBuf::new(&mut [0; 8])).is_pending());
    }

    #[test]
    fn frames_of_one_turn_are_one_write_in_the_next() {
        let turns = Arc::new(Turns::default());
        let waker = turns.clone().into();
        let cx = &mut Context::from_waker(&waker);
        let mut batched = Batched::new(Noted { writes: Vec::new(), most: usize::MAX });
        for n in 0..5 {
            let head = [n];
            let parts = [IoSlice::new(&head), IoSlice::new(b"frame")];
            assert!(matches!(Pin::new(&mut batched).poll_write_vectored(cx, &parts), Poll::Ready(Ok(6))));
            assert!(Pin::new(&mut batched).poll_flush(cx).is_ready());
        }
        assert!(batched.io.writes.is_empty());
        assert_eq!(turns.0.load(Ordering::Relaxed), 1);
        read(&mut batched, cx);
        assert_eq!(batched.io.writes, [b"\0frame\x01frame\x02frame\x03frame\x04frame"]);
        read(&mut batched, cx);
        assert_eq!((batched.io.writes.len(), batched.waiting.capacity()), (1, 0));
    }

    #[test]
    fn what_does_not_fit_goes_out_and_nothing_is_lost_or_twice() {
        let waker = Arc::new(Turns::default()).into();
        let cx = &mut Context::from_waker(&waker);
        let mut batched = Batched::new(Noted { writes: Vec::new(), most: 1000 });
        let all: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
        let mut rest = &all[..];
        while !rest.is_empty() {
            let Poll::Ready(Ok(n)) = Pin::new(&mut batched).poll_write(cx, &rest[..rest.len().min(7000)]) else {
                panic!()
            };
            rest = &rest[n..];
            assert!(batched.waiting.len() <= FULL);
        }
        assert!(Pin::new(&mut batched).poll_shutdown(cx).is_ready());
        assert_eq!(batched.io.writes.concat(), all);
    }
}
