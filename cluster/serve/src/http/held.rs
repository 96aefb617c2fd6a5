//! A body that keeps something as long as it is being written: a seat, a place among those who watch.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Frame, SizeHint};
use tokio::sync::oneshot;

use super::respond::Body;

pub type Kept = Box<dyn Send>;

struct Held {
    body: Body,
    to_the_end: Option<Kept>,
    to_quiet: Option<Kept>,
}

/// The same body, keeping the one until it is written, the other only until nothing more comes at once.
pub fn held(body: Body, to_the_end: Option<Kept>, to_quiet: Option<Kept>) -> Body {
    Held { body, to_the_end, to_quiet }.boxed_unsync()
}

/// Keeps something until what this gives is dropped, but no longer than until `end`: a client that does not read holds nothing up.
pub fn until(kept: impl Send + 'static, end: Instant) -> oneshot::Sender<()> {
    let (sender, dropped) = oneshot::channel();
    tokio::spawn(async move {
        let _either = tokio::time::timeout_at(end.into(), dropped).await;
        drop(kept);
    });
    sender
}

impl hyper::body::Body for Held {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        match frame {
            Poll::Pending => self.to_quiet = None,
            Poll::Ready(None) => (self.to_the_end, self.to_quiet) = (None, None),
            Poll::Ready(Some(_)) => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::StreamExt as _;

    use super::super::respond;
    use super::*;

    #[tokio::test]
    async fn what_is_kept_goes_when_the_body_is_quiet_or_written() {
        let (end, quiet) = (Arc::new(()), Arc::new(()));
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel::<Bytes>();
        let rest = futures::stream::unfold(receiver, |mut from| async { from.recv().await.map(|next| (next, from)) });
        let frames = futures::stream::iter([Bytes::from("a"), Bytes::from("b")]).chain(rest);
        let (to_the_end, to_quiet) = (Box::new(Arc::clone(&end)), Box::new(Arc::clone(&quiet)));
        let mut body = held(respond::stream(frames.map(Ok)), Some(to_the_end), Some(to_quiet));
        for want in ["a", "b"] {
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), want);
            assert_eq!(Arc::strong_count(&quiet), 2);
        }
        assert!(futures::poll!(std::pin::pin!(body.frame())).is_pending());
        assert_eq!((Arc::strong_count(&quiet), Arc::strong_count(&end)), (1, 2));
        drop(sender);
        assert!(body.frame().await.is_none());
        assert_eq!(Arc::strong_count(&end), 1);
    }

    #[tokio::test]
    async fn who_does_not_read_keeps_nothing_for_ever() {
        let kept = Arc::new(());
        let guard = until(Arc::clone(&kept), Instant::now());
        while Arc::strong_count(&kept) > 1 {
            tokio::task::yield_now().await;
        }
        drop(guard);
    }
}
