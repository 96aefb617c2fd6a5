//! A connection's streams in the connection's own task: an event that a hundred of them wait for wakes one task and not a hundred, none
//! of which then waits for another to let go of the connection.
//!
//! What a request asks for is worked on elsewhere; here answers are only passed on.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use hyper::rt::Executor;
use tokio::sync::mpsc;

/// Hands streams to the connection that they belong to.
#[derive(Clone)]
pub(super) struct Within(mpsc::UnboundedSender<BoxFuture<'static, ()>>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Within {
    fn execute(&self, stream: F) {
        // Without a receiver the connection is gone, and its streams with it.
        let _gone = self.0.send(Box::pin(stream));
    }
}

/// The streams of one connection, which are as many as it may have open.
pub(super) struct Streams(mpsc::UnboundedReceiver<BoxFuture<'static, ()>>);

pub(super) fn streams() -> (Within, Streams) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Within(sender), Streams(receiver))
}

impl Streams {
    /// Runs `connection` and its streams until it ends. In each turn all streams that can go on do, then what they said is written.
    pub(super) async fn drive<C: Future>(mut self, connection: C) -> C::Output {
        let mut connection = pin!(connection);
        let mut open = FuturesUnordered::new();
        poll_fn(|cx| {
            loop {
                while let Poll::Ready(Some(())) = open.poll_next_unpin(cx) {}
                if let Poll::Ready(ended) = Pin::as_mut(&mut connection).poll(cx) {
                    return Poll::Ready(ended);
                }
                // A request that has just been read has its first turn at once.
                let before = open.len();
                while let Poll::Ready(Some(stream)) = self.0.poll_recv(cx) {
                    open.push(stream);
                }
                if open.len() == before {
                    return Poll::Pending;
                }
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn streams_run_while_the_connection_does_and_not_longer() {
        let (within, streams) = streams();
        let held = Arc::new(());
        let begin = Arc::new(Notify::new());
        let (said, mut heard) = mpsc::unbounded_channel();
        for n in 0..100 {
            let (said, begin, held) = (said.clone(), begin.clone(), held.clone());
            within.execute(async move {
                begin.notified().await;
                said.send(n).unwrap();
                // A watch does not end by itself.
                std::future::pending::<()>().await;
                drop(held);
            });
        }
        let connection = async {
            tokio::task::yield_now().await;
            begin.notify_waiters();
            let mut all = Vec::new();
            while all.len() < 100 {
                all.extend(heard.recv().await);
            }
            all.sort_unstable();
            all
        };
        assert_eq!(streams.drive(connection).await, (0..100).collect::<Vec<_>>());
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
