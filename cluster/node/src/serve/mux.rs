//! Several streams over one connection, whichever protocol carries them.
//!
//! What a client sends waits in queues that share one connection's room; where that is used up, the connection is not read on,
//! and TCP holds the client back.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of one connection that wait for whoever takes them.
const ROOM: u32 = 256 << 10;

/// The sending half of a connection, shared by its streams.
#[async_trait]
pub trait Mux: Send + Sync {
    async fn send(&self, stream: u32, data: &[u8]) -> io::Result<()>;
    /// Nothing more comes on this stream.
    async fn end(&self, stream: u32) -> io::Result<()>;
    /// Nothing more comes on it, and what came was not all: where a protocol can say so.
    async fn reset(&self, stream: u32) -> io::Result<()> {
        self.end(stream).await
    }
    /// Nothing more comes at all.
    async fn close(&self) -> io::Result<()>;
}

/// One stream to the client.
pub struct Outgoing {
    pub mux: Arc<dyn Mux>,
    pub stream: u32,
    /// Its place among the streams that may be open at once, where they are counted.
    pub place: Option<OwnedSemaphorePermit>,
}

impl Outgoing {
    pub fn new(mux: &Arc<dyn Mux>, stream: u32) -> Self {
        Self { mux: Arc::clone(mux), stream, place: None }
    }

    pub async fn send(&self, data: &[u8]) -> io::Result<()> {
        self.mux.send(self.stream, data).await
    }

    pub async fn end(&self) -> io::Result<()> {
        self.mux.end(self.stream).await
    }

    pub async fn reset(&self) -> io::Result<()> {
        self.mux.reset(self.stream).await
    }
}

type Piece = (Bytes, OwnedSemaphorePermit);

/// One stream from the client.
pub struct Incoming(UnboundedReceiver<Piece>);

impl Incoming {
    /// `None`: the client has ended it, or is gone.
    pub async fn next(&mut self) -> Option<Bytes> {
        self.0.recv().await.map(|(data, _)| data)
    }
}

/// All that waits of one connection.
#[derive(Clone)]
pub struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ROOM as usize)))
    }
}

impl Room {
    pub fn stream(&self) -> (Feed, Incoming) {
        let (sender, receiver) = unbounded_channel();
        (Feed { sender, room: self.clone() }, Incoming(receiver))
    }
}

/// Where a connection's reader puts what came for one stream.
pub struct Feed {
    sender: UnboundedSender<Piece>,
    room: Room,
}

impl Feed {
    /// Waits for room. What nobody takes any more is dropped.
    pub async fn give(&self, data: Bytes) {
        if data.is_empty() || self.sender.is_closed() {
            return;
        }
        let size = u32::try_from(data.len()).unwrap_or(ROOM).min(ROOM);
        let room = tokio::select! {
            room = Arc::clone(&self.room.0).acquire_many_owned(size) => room,
            () = self.sender.closed() => return,
        };
        if let Ok(room) = room {
            let _ = self.sender.send((data, room));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn what_waits_is_bounded_over_all_streams() {
        let room = Room::default();
        let ((one, mut first), (two, second)) = (room.stream(), room.stream());
        let half = Bytes::from(vec![7; ROOM as usize / 2]);
        one.give(half.clone()).await;
        two.give(half.clone()).await;
        assert!(one.give(half.clone()).now_or_never().is_none(), "there was room for more than there is");
        assert_eq!(first.next().await.map(|data| data.len()), Some(half.len()));
        one.give(half.clone()).await;
        drop(second);
        one.give(half.clone()).await;
        // Nobody takes it: it needs no room.
        two.give(half).await;
    }
}
