//! SPDY/3.1 as a server that only answers: what `kubectl` speaks to exec, attach and port-forward where it does not speak WebSocket.
//!
//! ```text
//! reader: head ─┬─ SYN_STREAM ─▶ headers ─▶ SYN_REPLY, and an `Opened` for the session
//!               ├─ DATA ─▶ the stream's `Feed`, in pieces, as there is room
//!               ├─ RST_STREAM, GOAWAY ─▶ the stream or all of them end
//!               └─ PING ─▶ back
//! streams ─▶ Frames (one lock orders whole frames) ─▶ the connection
//! ```
//!
//! Windows: what is taken is told by WINDOW_UPDATE. Of the client's windows nothing is kept: clients of Kubernetes never open them
//! (moby/spdystream), so whoever waited for it would wait for ever; TCP holds back instead, as upstream has it.

pub mod frame;
pub mod headers;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, ReadHalf, WriteHalf};
use tokio::sync::{Mutex, Semaphore, mpsc};

use super::mux::{Feed, Incoming, Mux, Outgoing, Room};
use frame::{Goodbye, HEAD, Head, Reset};
use headers::Headers;

/// Streams of one connection that may be open at once: a forwarded connection has two.
const STREAMS: usize = 256;
const PIECE: usize = 16 << 10;
/// Taken bytes that are told at once; half of a window as it is at first.
const TOLD: u32 = 32 << 10;
/// As the kubelet's `streamingConnectionIdleTimeout`.
pub const IDLE: Duration = Duration::from_secs(4 * 60 * 60);

/// A stream that the client has opened.
pub struct Opened {
    pub id: u32,
    pub headers: Headers,
    pub input: Incoming,
    pub output: Outgoing,
}

/// Which streams are welcome; others are reset.
pub type Check = fn(&Headers) -> bool;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Headers(#[from] headers::Error),
    #[error("frame {0:?} breaks the protocol")]
    Frame(Head),
    #[error("no frame came for {} seconds", IDLE.as_secs())]
    Idle,
}

/// Takes over a connection. The reader must be run for anything to come.
pub fn begin<S>(connection: S, check: Check) -> (Reader<S>, mpsc::Receiver<Opened>, Arc<dyn Mux>)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (read, write) = tokio::io::split(connection);
    let frames = Arc::new(Frames { write: Mutex::new(write), replies: Mutex::default(), last: AtomicU32::new(0) });
    let (opened, receiver) = mpsc::channel(8);
    let reader = Reader {
        read: BufReader::with_capacity(PIECE, read),
        frames: Arc::clone(&frames),
        headers: headers::Reader::default(),
        room: Room::default(),
        places: Arc::new(Semaphore::new(STREAMS)),
        streams: HashMap::new(),
        untold: 0,
        check,
        opened,
    };
    (reader, receiver, frames)
}

/// The sending half.
struct Frames<S> {
    /// Orders whole frames.
    write: Mutex<WriteHalf<S>>,
    /// Orders replies as their headers are compressed; taken before `write`.
    replies: Mutex<headers::Writer>,
    /// The newest stream.
    last: AtomicU32,
}

impl<S: AsyncWrite> Frames<S> {
    async fn write(&self, frame: &[u8]) -> io::Result<()> {
        let mut write = self.write.lock().await;
        write.write_all(frame).await?;
        write.flush().await
    }

    async fn data(&self, stream: u32, fin: bool, data: &[u8]) -> io::Result<()> {
        self.write(&[&frame::data(stream, fin, data.len())[..], data].concat()).await
    }

    async fn goodbye(&self, why: Goodbye) -> io::Result<()> {
        self.write(&frame::goaway(self.last.load(Ordering::Relaxed), why)).await
    }

    async fn reply(&self, stream: u32) -> io::Result<()> {
        let mut replies = self.replies.lock().await;
        let frame = frame::syn_reply(stream, replies.empty());
        self.write(&frame).await
    }
}

#[async_trait]
impl<S: AsyncRead + AsyncWrite + Send> Mux for Frames<S> {
    async fn send(&self, stream: u32, data: &[u8]) -> io::Result<()> {
        for piece in data.chunks(PIECE) {
            self.data(stream, false, piece).await?;
        }
        Ok(())
    }

    async fn end(&self, stream: u32) -> io::Result<()> {
        self.data(stream, true, &[]).await
    }

    async fn reset(&self, stream: u32) -> io::Result<()> {
        self.write(&frame::rst_stream(stream, Reset::Cancel)).await
    }

    async fn close(&self) -> io::Result<()> {
        self.goodbye(Goodbye::Ok).await
    }
}

/// A stream as long as the client may send on it.
struct Stream {
    feed: Feed,
    /// Bytes taken that the client was not told of.
    untold: u32,
}

pub struct Reader<S> {
    read: BufReader<ReadHalf<S>>,
    frames: Arc<Frames<S>>,
    headers: headers::Reader,
    room: Room,
    places: Arc<Semaphore>,
    streams: HashMap<u32, Stream>,
    untold: u32,
    check: Check,
    opened: mpsc::Sender<Opened>,
}

impl<S: AsyncRead + AsyncWrite + Send + 'static> Reader<S> {
    /// Until the client is gone.
    pub async fn run(mut self) {
        let Err(error) = self.frames().await else { return };
        tracing::debug!(%error, "a SPDY connection ends");
        if matches!(error, Error::Headers(_) | Error::Frame(_)) {
            let _ = self.frames.goodbye(Goodbye::ProtocolError).await;
        }
    }

    async fn frames(&mut self) -> Result<(), Error> {
        loop {
            let mut bytes = [0; HEAD];
            match tokio::time::timeout(IDLE, self.read.read_exact(&mut bytes)).await {
                Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Ok(read) => read?,
                Err(_) => return Err(Error::Idle),
            };
            let head = frame::head(bytes);
            match head {
                Head::Data { stream, fin, length } => self.data(stream, fin, length).await?,
                Head::Control { length, .. } if length > frame::LONGEST_CONTROL => return Err(Error::Frame(head)),
                Head::Control { kind, flags, length, .. } => {
                    let mut payload = vec![0; length];
                    self.read.read_exact(&mut payload).await?;
                    if kind == frame::GOAWAY {
                        return Ok(());
                    }
                    self.control(kind, flags, &payload).await?.ok_or(Error::Frame(head))?;
                }
            }
        }
    }

    async fn data(&mut self, id: u32, fin: bool, mut length: usize) -> Result<(), Error> {
        while length > 0 {
            let mut piece = vec![0; length.min(PIECE)];
            self.read.read_exact(&mut piece).await?;
            length -= piece.len();
            let size = u32::try_from(piece.len()).unwrap_or_default();
            let mut more = Vec::new();
            // Of a stream that has ended a little may still be on its way.
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.feed.give(Bytes::from(piece)).await;
                if let Some(taken) = told(&mut stream.untold, size) {
                    more = frame::window_update(id, taken);
                }
            }
            if let Some(taken) = told(&mut self.untold, size) {
                more.extend(frame::window_update(0, taken));
            }
            if !more.is_empty() {
                self.frames.write(&more).await?;
            }
        }
        if fin {
            self.streams.remove(&id);
        }
        Ok(())
    }

    /// `None`: the frame is wrong in itself.
    async fn control(&mut self, kind: u16, flags: u8, payload: &[u8]) -> Result<Option<()>, Error> {
        match kind {
            frame::SYN_STREAM => {
                let (Some(id), Some(block)) = (frame::stream(payload), payload.get(10..)) else { return Ok(None) };
                // Read whatever becomes of the stream: blocks depend on each other.
                let headers = self.headers.read(block)?;
                self.open(id, flags, headers).await?;
            }
            frame::HEADERS => {
                let Some(block) = payload.get(4..) else { return Ok(None) };
                self.headers.read(block)?;
                if flags & frame::FIN != 0 {
                    self.streams.remove(&frame::stream(payload).unwrap_or_default());
                }
            }
            frame::RST_STREAM => {
                let Some(id) = frame::stream(payload) else { return Ok(None) };
                self.streams.remove(&id);
            }
            frame::PING => {
                let Some(id) = frame::number(payload, 0) else { return Ok(None) };
                // An even one would be an answer to one of ours.
                if id % 2 == 1 {
                    self.frames.write(&frame::ping(id)).await?;
                }
            }
            // Settings, windows, and what may come to be.
            _ => {}
        }
        Ok(Some(()))
    }

    async fn open(&mut self, id: u32, flags: u8, headers: Headers) -> Result<(), Error> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let last = self.frames.last.fetch_max(id, Ordering::Relaxed);
        let refused = match &place {
            _ if id.is_multiple_of(2) || id <= last => Some(Reset::ProtocolError),
            Err(_) => Some(Reset::RefusedStream),
            Ok(_) if !(self.check)(&headers) => Some(Reset::Cancel),
            Ok(_) => None,
        };
        if let Some(why) = refused {
            return Ok(self.frames.write(&frame::rst_stream(id, why)).await?);
        }
        let (feed, input) = self.room.stream();
        if flags & frame::FIN == 0 {
            self.streams.insert(id, Stream { feed, untold: 0 });
        }
        self.frames.reply(id).await?;
        let frames: Arc<dyn Mux> = self.frames.clone();
        let output = Outgoing { place: place.ok(), ..Outgoing::new(&frames, id) };
        // A session that takes no more streams has seen all it waits for.
        let _ = self.opened.send(Opened { id, headers, input, output }).await;
        Ok(())
    }
}

/// Counts what was taken; gives the sum when it is worth a frame.
fn told(untold: &mut u32, taken: u32) -> Option<u32> {
    *untold += taken;
    (*untold >= TOLD).then(|| std::mem::take(untold))
}

#[cfg(test)]
pub mod tests;
