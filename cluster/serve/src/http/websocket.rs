//! Answers that last, over a WebSocket where the client asks for one: a watch one event a message, a log as it comes.

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::header::{
    CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use kedge_api::{Reason, Status};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::place::Place;
use super::respond::{self, Body};

/// What a client may say in one message: it has nothing to say.
const LONGEST: usize = 4 << 10;

/// How a log is written into messages, by protocol.
const LOGS: [(&str, Form); 3] =
    [("", Form::Binary), ("binary.k8s.io", Form::Binary), ("base64.binary.k8s.io", Form::Base64)];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Text,
    Binary,
    Base64,
}

impl Form {
    fn message(self, data: Bytes) -> Message {
        match self {
            Self::Binary => Message::Binary(data),
            Self::Text => match data.clone().try_into() {
                Ok(text) => Message::Text(text),
                Err(_) => Message::Binary(data),
            },
            Self::Base64 => {
                use base64::Engine;
                Message::Text(base64::engine::general_purpose::STANDARD.encode(data).into())
            }
        }
    }
}

/// A WebSocket that was asked for.
pub struct Asked {
    upgrade: OnUpgrade,
    accept: HeaderValue,
    protocols: Vec<String>,
    place: Option<Place>,
}

/// Takes the wish out of a request, and with it all that is said about it.
pub fn take(request: &mut Request<Incoming>) -> Option<Asked> {
    let headers = request.headers();
    if !has(headers, &CONNECTION, "upgrade") || !has(headers, &UPGRADE, "websocket") {
        return None;
    }
    let accept = HeaderValue::from_str(&derive_accept_key(headers.get(SEC_WEBSOCKET_KEY)?.as_bytes())).ok()?;
    let protocols = words(headers, &SEC_WEBSOCKET_PROTOCOL).map(str::to_owned).collect();
    for name in [CONNECTION, UPGRADE, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL] {
        request.headers_mut().remove(name);
    }
    let place = request.extensions_mut().remove::<Place>();
    Some(Asked { upgrade: hyper::upgrade::on(request), accept, protocols, place })
}

/// Comma-separated words of all headers of that name.
pub fn words<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter().filter_map(|v| v.to_str().ok());
    values.flat_map(|v| v.split(',')).map(str::trim).filter(|w| !w.is_empty())
}

fn has(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    words(headers, name).any(|w| w.eq_ignore_ascii_case(word))
}

impl Asked {
    /// The events of a watch. Of protocols the client's is taken, whatever it be, if it names one alone.
    pub fn watch(self, events: Response<Body>) -> Response<Body> {
        let json = events.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == respond::JSON);
        let form = if json { Form::Text } else { Form::Binary };
        let protocol = if let [one] = self.protocols.as_slice() { one.clone() } else { String::new() };
        self.switch(events, form, &protocol, false)
    }

    /// The bytes of a log, after an empty message by which the client knows that it is connected.
    pub fn log(self, log: Response<Body>) -> Result<Response<Body>, Status> {
        let nameless = [String::new()];
        let asked = if self.protocols.is_empty() { &nameless[..] } else { &self.protocols };
        let Some((protocol, form)) = asked.iter().find_map(|name| LOGS.iter().find(|(own, _)| own == name)) else {
            let spoken: Vec<&str> = LOGS.iter().map(|(name, _)| *name).collect();
            return Err(Status::new(
                Reason::Forbidden,
                format!(
                    "requested protocol(s) are not supported: [{}]; supports [{}]",
                    asked.join(" "),
                    spoken.join(" ")
                ),
            ));
        };
        Ok(self.switch(log, *form, protocol, true))
    }

    /// What is no success stays an ordinary answer.
    fn switch(self, answer: Response<Body>, form: Form, protocol: &str, greets: bool) -> Response<Body> {
        if answer.status() != StatusCode::OK {
            return answer;
        }
        let Self { upgrade, accept, place, .. } = self;
        tokio::spawn(async move {
            match upgrade.await {
                Ok(upgraded) => {
                    let config = WebSocketConfig::default()
                        .max_message_size(Some(LONGEST))
                        .max_frame_size(Some(LONGEST))
                        .read_buffer_size(LONGEST)
                        .write_buffer_size(0);
                    let socket =
                        WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
                    carry(socket, answer.into_body(), form, greets).await;
                }
                Err(error) => tracing::debug!(%error, "a connection was not upgraded"),
            }
            drop(place);
        });
        let mut response = Response::new(respond::full(""));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        if let Some(protocol) = HeaderValue::from_str(protocol).ok().filter(|p| !p.is_empty()) {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        response
    }
}

/// To the end of the answer, or until the client is gone.
async fn carry(socket: WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>, mut answer: Body, form: Form, greets: bool) {
    let (mut sink, mut source) = socket.split();
    let out = async {
        if greets {
            sink.send(form.message(Bytes::new())).await?;
        }
        while let Some(Ok(frame)) = answer.frame().await {
            if let Ok(data) = frame.into_data() {
                sink.send(form.message(data)).await?;
            }
        }
        sink.send(Message::Close(None)).await
    };
    let gone = async { while let Some(Ok(_)) = source.next().await {} };
    tokio::select! {
        ended = out => {
            if let Err(error) = ended {
                tracing::debug!(%error, "client of a WebSocket left before the end");
            }
        }
        () = gone => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        for (form, data, expected) in [
            (Form::Text, &b"{}\n"[..], Message::Text("{}\n".into())),
            (Form::Text, b"\xff", Message::Binary(Bytes::from_static(b"\xff"))),
            (Form::Binary, b"a", Message::Binary(Bytes::from_static(b"a"))),
            (Form::Base64, b"hello", Message::Text("aGVsbG8=".into())),
            (Form::Base64, b"", Message::Text("".into())),
        ] {
            assert_eq!(form.message(Bytes::copy_from_slice(data)), expected);
        }
    }
}
