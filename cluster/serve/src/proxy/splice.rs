//! Two upgraded connections made one: bytes both ways until both ends are done.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};

/// Waits for both upgrades, then passes bytes on.
pub async fn splice(ours: OnUpgrade, theirs: OnUpgrade) {
    let both = async {
        let (ours, theirs) = tokio::try_join!(ours, theirs).map_err(io::Error::other)?;
        copy_bidirectional(&mut Blunt(TokioIo::new(ours)), &mut Blunt(TokioIo::new(theirs))).await
    };
    if let Err(error) = both.await {
        tracing::debug!(%error, "a connection to a node ended");
    }
}

/// Takes an end without TLS' goodbye for an end, so that the other side is still told properly. What is cut off by it the
/// protocols inside notice themselves.
struct Blunt<T>(T);

impl<T: AsyncRead + Unpin> AsyncRead for Blunt<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.0).poll_read(cx, buf) {
            Poll::Ready(Err(e)) if matches!(e.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
                Poll::Ready(Ok(()))
            }
            other => other,
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Blunt<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
