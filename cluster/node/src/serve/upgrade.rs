//! Which protocol a connection is to become, and the answer that makes it so. Pure but for the waiting.

use std::sync::Arc;

use http::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    UPGRADE,
};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use tokio::sync::OwnedSemaphorePermit;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::Body;

const SPDY: HeaderValue = HeaderValue::from_static("SPDY/3.1");
const PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const ACCEPTED: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");

/// Its connection's place among those served at once: whoever goes on with the connection keeps it.
#[derive(Clone)]
pub struct Place(pub Arc<OwnedSemaphorePermit>);

/// Protocols that one service speaks, with what each means to it. Of WebSocket's the nameless one is what a client has that names none.
pub struct Offer<T: 'static> {
    pub websocket: &'static [(&'static str, T)],
    pub spdy: &'static [(&'static str, T)],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    WebSocket,
    Spdy,
}

#[derive(Debug)]
pub struct Upgrade<T> {
    pub transport: Transport,
    pub protocol: T,
    response: HeaderMap,
}

/// Why a connection stays as it is, as upstream words it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("unable to upgrade: X-Stream-Protocol-Version is required")]
    Unnamed,
    #[error("unable to upgrade: unable to negotiate protocol: client supports [{}], server accepts [{}]", .asked.join(" "), .spoken.join(" "))]
    Protocol { asked: Vec<String>, spoken: Vec<&'static str> },
    #[error("unable to upgrade: missing upgrade headers in request")]
    NoUpgrade,
    #[error("requested protocol(s) are not supported: [{}]; supports [{}]", .asked.join(" "), .spoken.join(" "))]
    WebSocket { asked: Vec<String>, spoken: Vec<&'static str> },
    #[error("missing or bad Sec-WebSocket-Key")]
    Key,
}

impl Refused {
    pub fn response(&self) -> Response<Body> {
        let code = match self {
            Self::Protocol { .. } | Self::WebSocket { .. } => StatusCode::FORBIDDEN,
            Self::Unnamed | Self::NoUpgrade | Self::Key => StatusCode::BAD_REQUEST,
        };
        let mut response = super::text(code, self.to_string());
        if let Self::Protocol { spoken, .. } = self {
            for name in spoken {
                response.headers_mut().append(ACCEPTED, HeaderValue::from_static(name));
            }
        }
        response
    }
}

/// Comma-separated words of all headers of that name.
fn words<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter().filter_map(|v| v.to_str().ok());
    values.flat_map(|v| v.split(',')).map(str::trim).filter(|w| !w.is_empty())
}

fn has(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    words(headers, name).any(|w| w.eq_ignore_ascii_case(word))
}

/// What the client likes best of what is spoken. v5 goes before all, wherever it stands.
fn choose<T: Copy>(asked: &[&str], spoken: &'static [(&'static str, T)]) -> Option<(&'static str, T)> {
    let find = |name: &str| spoken.iter().find(|(own, _)| *own == name).copied();
    let newest = asked.iter().find(|name| name.starts_with("v5."));
    newest.into_iter().chain(asked).find_map(|name| find(name))
}

pub fn negotiate<T: Copy>(headers: &HeaderMap, offer: &Offer<T>) -> Result<Upgrade<T>, Refused> {
    let upgrade = has(headers, &CONNECTION, "upgrade");
    if upgrade && has(headers, &UPGRADE, "websocket") {
        return websocket(headers, offer.websocket);
    }
    let asked: Vec<&str> = words(headers, &PROTOCOL).collect();
    if asked.is_empty() {
        return Err(Refused::Unnamed);
    }
    let (name, protocol) = choose(&asked, offer.spdy)
        .ok_or_else(|| Refused::Protocol { asked: owned(&asked), spoken: names(offer.spdy) })?;
    if !upgrade || !has(headers, &UPGRADE, "SPDY/3.1") {
        return Err(Refused::NoUpgrade);
    }
    let response = HeaderMap::from_iter([(UPGRADE, SPDY), (PROTOCOL, HeaderValue::from_static(name))]);
    Ok(Upgrade { transport: Transport::Spdy, protocol, response })
}

fn websocket<T: Copy>(headers: &HeaderMap, spoken: &'static [(&'static str, T)]) -> Result<Upgrade<T>, Refused> {
    let asked: Vec<&str> = words(headers, &SEC_WEBSOCKET_PROTOCOL).collect();
    let nameless = [""];
    let (name, protocol) = choose(if asked.is_empty() { &nameless } else { &asked }, spoken)
        .ok_or_else(|| Refused::WebSocket { asked: owned(&asked), spoken: names(spoken) })?;
    let key = derive_accept_key(headers.get(SEC_WEBSOCKET_KEY).ok_or(Refused::Key)?.as_bytes());
    let key = HeaderValue::from_str(&key).map_err(|_| Refused::Key)?;
    let mut response =
        HeaderMap::from_iter([(UPGRADE, HeaderValue::from_static("websocket")), (SEC_WEBSOCKET_ACCEPT, key)]);
    if !name.is_empty() {
        response.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(name));
    }
    Ok(Upgrade { transport: Transport::WebSocket, protocol, response })
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|w| (*w).to_owned()).collect()
}

fn names<T>(spoken: &[(&'static str, T)]) -> Vec<&'static str> {
    spoken.iter().map(|(name, _)| *name).collect()
}

/// Answers that the connection changes, and has `then` go on with it.
pub fn switch<T, F>(
    mut request: Request<Incoming>,
    upgrade: Upgrade<T>,
    then: impl FnOnce(Upgraded, Transport, T) -> F + Send + 'static,
) -> Response<Body>
where
    T: Send + 'static,
    F: Future<Output = ()> + Send,
{
    let response = upgrade.response();
    let place = request.extensions_mut().remove::<Place>();
    let upgraded = hyper::upgrade::on(request);
    tokio::spawn(async move {
        match upgraded.await {
            Ok(upgraded) => then(upgraded, upgrade.transport, upgrade.protocol).await,
            Err(error) => tracing::debug!(%error, "a connection was not upgraded"),
        }
        drop(place);
    });
    response
}

impl<T> Upgrade<T> {
    /// The answer after which the connection speaks the protocol.
    fn response(&self) -> Response<Body> {
        let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *response.headers_mut() = self.response.clone();
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: Offer<u8> = Offer {
        websocket: &[("", 1), ("v5.channel.k8s.io", 5), ("v4.channel.k8s.io", 4), ("base64.channel.k8s.io", 1)],
        spdy: &[("v4.channel.k8s.io", 4), ("channel.k8s.io", 1)],
    };

    fn ask(list: &[(&'static str, &'static str)]) -> Result<(Transport, u8, HeaderMap), String> {
        let pairs = list.iter().map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from_static(v)));
        let headers = pairs.fold(HeaderMap::new(), |mut all, (name, value)| {
            all.append(name, value);
            all
        });
        let upgrade = negotiate(&headers, &OFFER).map_err(|e| format!("{} {e}", e.response().status().as_u16()))?;
        Ok((upgrade.transport, upgrade.protocol, upgrade.response().headers().clone()))
    }

    #[test]
    fn websockets() {
        let base = [
            ("upgrade", "websocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let with = |protocol| ask(&[base.as_slice(), &[("sec-websocket-protocol", protocol)]].concat());
        let (transport, version, headers) = with("v4.channel.k8s.io, v5.channel.k8s.io").unwrap();
        assert_eq!((transport, version), (Transport::WebSocket, 5));
        assert_eq!(headers["sec-websocket-protocol"], "v5.channel.k8s.io");
        assert_eq!(
            (&headers["connection"], &headers["upgrade"]),
            (&"Upgrade".parse().unwrap(), &"websocket".parse().unwrap())
        );
        // The example of RFC 6455, section 1.3.
        assert_eq!(headers["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(with("x, base64.channel.k8s.io, v4.channel.k8s.io").unwrap().1, 1);
        let (_, version, headers) = ask(&base).unwrap();
        assert_eq!((version, headers.get("sec-websocket-protocol")), (1, None));
        assert_eq!(
            with("v9").unwrap_err(),
            "403 requested protocol(s) are not supported: [v9]; supports [ v5.channel.k8s.io v4.channel.k8s.io base64.channel.k8s.io]"
        );
        assert_eq!(ask(&base[..2]).unwrap_err(), "400 missing or bad Sec-WebSocket-Key");
    }

    #[test]
    fn spdy() {
        let base = [("upgrade", "SPDY/3.1"), ("connection", "Upgrade")];
        let offered =
            [("x-stream-protocol-version", "v5.channel.k8s.io"), ("x-stream-protocol-version", "channel.k8s.io")];
        let (transport, version, headers) = ask(&[base, offered].concat()).unwrap();
        assert_eq!((transport, version), (Transport::Spdy, 1));
        assert_eq!(
            (&headers["upgrade"], &headers["x-stream-protocol-version"]),
            (&SPDY, &"channel.k8s.io".parse().unwrap())
        );
        assert_eq!(ask(&base).unwrap_err(), "400 unable to upgrade: X-Stream-Protocol-Version is required");
        assert_eq!(ask(&offered).unwrap_err(), "400 unable to upgrade: missing upgrade headers in request");
        assert_eq!(
            ask(&[base.as_slice(), &offered[..1]].concat()).unwrap_err(),
            "403 unable to upgrade: unable to negotiate protocol: client supports [v5.channel.k8s.io], server accepts [v4.channel.k8s.io channel.k8s.io]"
        );
    }
}
