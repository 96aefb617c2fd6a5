//! The channel protocols of exec and attach over WebSocket, `v4.channel.k8s.io` and `v5.channel.k8s.io`: the first byte of each
//! message names its channel. v5 adds channel 255, by which a client ends one of the others.

use bytes::Bytes;
use http::header::{
    CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use serde::Deserialize;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::Body;

/// Newest first.
const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

/// What a client may send.
#[derive(Debug, PartialEq)]
pub enum FromClient {
    Stdin(Bytes),
    Resize {
        columns: u16,
        rows: u16,
    },
    /// v5: the client has no more input.
    CloseStdin,
    /// Nothing that concerns us.
    Other,
}

/// Channels to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    Stdout = 1,
    Stderr = 2,
    Error = 3,
}

const STDIN: u8 = 0;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

#[derive(Deserialize)]
struct Size {
    #[serde(rename = "Width")]
    width: u16,
    #[serde(rename = "Height")]
    height: u16,
}

pub fn parse(message: &Bytes) -> FromClient {
    let Some((channel, rest)) = message.split_first() else { return FromClient::Other };
    match *channel {
        STDIN => FromClient::Stdin(message.slice(1..)),
        RESIZE => match serde_json::from_slice::<Size>(rest) {
            Ok(size) => FromClient::Resize { columns: size.width, rows: size.height },
            Err(_) => FromClient::Other,
        },
        CLOSE if rest == [STDIN] => FromClient::CloseStdin,
        _ => FromClient::Other,
    }
}

pub fn frame(channel: Channel, data: &[u8]) -> Bytes {
    let mut message = Vec::with_capacity(data.len() + 1);
    message.push(channel as u8);
    message.extend_from_slice(data);
    message.into()
}

/// The protocol to speak: the newest of ours that the client offers.
pub fn protocol(headers: &HeaderMap) -> Option<&'static str> {
    let offered = headers.get_all(SEC_WEBSOCKET_PROTOCOL).into_iter().filter_map(|v| v.to_str().ok());
    let offered: Vec<&str> = offered.flat_map(|v| v.split(',')).map(str::trim).collect();
    PROTOCOLS.into_iter().find(|p| offered.contains(p))
}

/// The answer that makes a request a WebSocket; `None` if it did not ask for one in a protocol of ours.
pub fn accept(headers: &HeaderMap) -> Option<Response<Body>> {
    let has = |name, token: &str| {
        let values = headers.get_all(name).into_iter().filter_map(|v: &HeaderValue| v.to_str().ok());
        values.flat_map(|v| v.split(',')).any(|v| v.trim().eq_ignore_ascii_case(token))
    };
    if !has(UPGRADE, "websocket") || !has(CONNECTION, "upgrade") {
        return None;
    }
    let key = derive_accept_key(headers.get(SEC_WEBSOCKET_KEY)?.as_bytes());
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    answer.insert(UPGRADE, HeaderValue::from_static("websocket"));
    answer.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_str(&key).ok()?);
    answer.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol(headers)?));
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_a_client() {
        for (message, expected) in [
            (&b"\0hello"[..], FromClient::Stdin("hello".into())),
            (b"\0", FromClient::Stdin(Bytes::new())),
            (b"\x04{\"Width\":80,\"Height\":24}", FromClient::Resize { columns: 80, rows: 24 }),
            (b"\x04{\"Width\":-1}", FromClient::Other),
            (b"\xff\0", FromClient::CloseStdin),
            (b"\xff\x01", FromClient::Other),
            (b"\x01x", FromClient::Other),
            (b"", FromClient::Other),
        ] {
            assert_eq!(parse(&Bytes::copy_from_slice(message)), expected);
        }
        assert_eq!(&frame(Channel::Stderr, b"ab")[..], b"\x02ab");
    }

    #[test]
    fn handshakes() {
        let headers = |list: &[(&'static str, &'static str)]| {
            list.iter()
                .map(|(k, v)| (http::HeaderName::from_static(k), HeaderValue::from_static(v)))
                .collect::<HeaderMap>()
        };
        let base = [
            ("upgrade", "websocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let with = |protocol| accept(&headers(&[base.as_slice(), &[("sec-websocket-protocol", protocol)]].concat()));
        let answer = with("v4.channel.k8s.io, v5.channel.k8s.io").unwrap();
        assert_eq!(answer.headers()["sec-websocket-protocol"], "v5.channel.k8s.io");
        // The example of RFC 6455, section 1.3.
        assert_eq!(answer.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(with("channel.k8s.io").is_none());
        assert!(accept(&headers(&base)).is_none());
        assert!(accept(&headers(&[("sec-websocket-protocol", "v5.channel.k8s.io")])).is_none());
    }
}
