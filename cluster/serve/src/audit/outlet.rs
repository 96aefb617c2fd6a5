//! Where events go: a queue of bounded memory before whoever writes them, so that no request waits for a disk or a network.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

/// Upstream's `--audit-webhook-batch-buffer-size`.
const EVENTS: usize = 10_000;
/// Of all events that wait.
const BYTES: usize = 16 << 20;

#[derive(Debug)]
pub enum Message {
    /// One event as JSON.
    Event(Bytes),
    /// Answered when all before it is written.
    Flush(oneshot::Sender<()>),
}

/// What is counted of an outlet.
#[derive(Debug, Default)]
pub struct Counts {
    /// Events there was no place for.
    pub dropped: AtomicU64,
    /// Events that could not be written.
    pub failed: AtomicU64,
    bytes: AtomicUsize,
}

/// The side that events are put in at.
pub struct Outlet {
    pub name: &'static str,
    pub counts: Arc<Counts>,
    sender: mpsc::Sender<Message>,
}

/// The side that they are taken out at.
pub struct Inlet {
    pub counts: Arc<Counts>,
    receiver: mpsc::Receiver<Message>,
}

pub fn pair(name: &'static str) -> (Outlet, Inlet) {
    let (sender, receiver) = mpsc::channel(EVENTS);
    let counts = Arc::new(Counts::default());
    (Outlet { name, counts: Arc::clone(&counts), sender }, Inlet { counts, receiver })
}

impl Outlet {
    /// Puts an event in, or counts it as dropped.
    pub fn offer(&self, event: Bytes) {
        let size = event.len();
        let held = self.counts.bytes.fetch_add(size, Ordering::Relaxed);
        if held + size > BYTES || self.sender.try_send(Message::Event(event)).is_err() {
            self.counts.bytes.fetch_sub(size, Ordering::Relaxed);
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until what is in it now is written.
    pub async fn flush(&self) {
        let (done, written) = oneshot::channel();
        if self.sender.send(Message::Flush(done)).await.is_ok() {
            // An outlet that has ended has nothing to write.
            let _ended = written.await;
        }
    }
}

impl Inlet {
    /// The next message; `None`, if there will be none any more. For a thread of its own.
    pub fn blocking_next(&mut self) -> Option<Message> {
        let next = self.receiver.blocking_recv();
        self.taken(next)
    }

    pub async fn next(&mut self) -> Option<Message> {
        let next = self.receiver.recv().await;
        self.taken(next)
    }

    /// What is there already.
    pub fn ready(&mut self) -> Option<Message> {
        let next = self.receiver.try_recv().ok();
        self.taken(next)
    }

    fn taken(&self, message: Option<Message>) -> Option<Message> {
        if let Some(Message::Event(event)) = &message {
            self.counts.bytes.fetch_sub(event.len(), Ordering::Relaxed);
        }
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn memory_is_bounded_and_what_is_lost_is_counted() {
        let (outlet, mut inlet) = pair("test");
        let megabyte = Bytes::from(vec![b'x'; 1 << 20]);
        for _ in 0..20 {
            outlet.offer(megabyte.clone());
        }
        assert_eq!(outlet.counts.dropped.load(Ordering::Relaxed), 4);
        while inlet.ready().is_some() {}
        for _ in 0..EVENTS + 5 {
            outlet.offer(Bytes::from_static(b"{}"));
        }
        assert_eq!(outlet.counts.dropped.load(Ordering::Relaxed), 9);
        assert!(matches!(inlet.next().await, Some(Message::Event(_))));
    }
}
