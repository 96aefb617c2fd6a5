//! The channel protocols over WebSocket: the first byte of each message names its channel. In their base64 forms messages are text,
//! the channel a digit. v5 adds channel 255, by which a client ends one of the others.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::sync::Mutex;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};

use super::mux::{Feed, Incoming, Mux, Room};
use super::spdy::IDLE;

/// Messages longer than this are no keyboard's and no pipe's.
const LONGEST: usize = 1 << 20;
const PIECE: usize = 8 << 10;
/// The channel that speaks about channels (v5).
const CLOSE: u8 = 255;

pub type Socket = WebSocketStream<TokioIo<Upgraded>>;

pub async fn socket(upgraded: Upgraded) -> Socket {
    let config = WebSocketConfig::default()
        .max_message_size(Some(LONGEST))
        .max_frame_size(Some(LONGEST))
        .read_buffer_size(PIECE)
        .write_buffer_size(0);
    WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await
}

/// How channels are written into messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    Binary,
    Base64,
}

/// A message of the client: its channel, and what is on it. `None`: it is not one.
fn parse(coding: Coding, message: &Bytes) -> Option<(u8, Bytes)> {
    let (first, rest) = message.split_first()?;
    match coding {
        Coding::Binary => Some((*first, message.slice(1..))),
        Coding::Base64 => Some((first.checked_sub(b'0')?, STANDARD.decode(rest).ok()?.into())),
    }
}

fn message(coding: Coding, channel: u8, data: &[u8]) -> Message {
    match coding {
        Coding::Binary => Message::Binary([&[channel], data].concat().into()),
        Coding::Base64 => {
            Message::Text(format!("{}{}", char::from(b'0'.wrapping_add(channel)), STANDARD.encode(data)).into())
        }
    }
}

/// Takes over a socket on which the client sends on these channels; their streams come in the same order. The reader must be run for
/// anything to come.
pub fn begin(socket: Socket, coding: Coding, channels: &[u8]) -> (Reader, Vec<Incoming>, Arc<dyn Mux>) {
    let (sink, source) = socket.split();
    let room = Room::default();
    let (mut feeds, mut inputs) = (Vec::new(), Vec::new());
    for channel in channels {
        let (feed, input) = room.stream();
        feeds.push((*channel, feed));
        inputs.push(input);
    }
    (Reader { source, coding, feeds }, inputs, Arc::new(Channels { sink: Mutex::new(sink), coding }))
}

/// The sending half.
struct Channels {
    /// Orders messages.
    sink: Mutex<SplitSink<Socket, Message>>,
    coding: Coding,
}

#[async_trait]
impl Mux for Channels {
    async fn send(&self, stream: u32, data: &[u8]) -> io::Result<()> {
        let channel = u8::try_from(stream).map_err(io::Error::other)?;
        self.sink.lock().await.send(message(self.coding, channel, data)).await.map_err(io::Error::other)
    }

    async fn end(&self, _: u32) -> io::Result<()> {
        // Only a client can say so.
        Ok(())
    }

    async fn close(&self) -> io::Result<()> {
        let close = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        self.sink.lock().await.send(Message::Close(Some(close))).await.map_err(io::Error::other)
    }
}

pub struct Reader {
    source: SplitStream<Socket>,
    coding: Coding,
    feeds: Vec<(u8, Feed)>,
}

impl Reader {
    /// Until the client is gone.
    pub async fn run(mut self) {
        while let Ok(Some(Ok(message))) = tokio::time::timeout(IDLE, self.source.next()).await {
            let data = match message {
                Message::Binary(data) => data,
                Message::Text(text) => text.into(),
                Message::Close(_) => return,
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
            };
            match parse(self.coding, &data) {
                Some((CLOSE, channel)) => self.feeds.retain(|(own, _)| channel != [*own].as_slice()),
                Some((channel, data)) => {
                    if let Some((_, feed)) = self.feeds.iter().find(|(own, _)| *own == channel) {
                        feed.give(data).await;
                    }
                }
                None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_a_client() {
        use Coding::{Base64, Binary};
        for (coding, message, expected) in [
            (Binary, &b"\0hello"[..], Some((0, &b"hello"[..]))),
            (Binary, b"\0", Some((0, b""))),
            (Binary, b"\xff\0", Some((CLOSE, b"\0"))),
            (Binary, b"", None),
            (Base64, b"0aGVsbG8=", Some((0, b"hello"))),
            (Base64, b"4e30=", Some((4, b"{}"))),
            (Base64, b"0", Some((0, b""))),
            (Base64, b"0?", None),
            (Base64, b"\0", None),
        ] {
            let parsed = parse(coding, &Bytes::copy_from_slice(message));
            assert_eq!(parsed.as_ref().map(|(c, d)| (*c, &d[..])), expected, "{message:?}");
        }
    }

    #[test]
    fn messages_to_a_client() {
        assert_eq!(message(Coding::Binary, 2, b"ab"), Message::Binary(Bytes::from_static(b"\x02ab")));
        assert_eq!(message(Coding::Base64, 2, b"ab"), Message::Text("2YWI=".into()));
    }
}
