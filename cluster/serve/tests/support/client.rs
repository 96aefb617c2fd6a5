//! A plain HTTP client of the server's own world: one connection, kept while it lasts.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use kedge_serve::pki::{Profile, Signer};
use kedge_serve::tls;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::server::Server;

type Sender = hyper::client::conn::http1::SendRequest<Full<Bytes>>;

pub struct Client {
    address: SocketAddr,
    config: Arc<ClientConfig>,
    connection: Option<Sender>,
}

/// What a request was answered.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", self.body))
    }
}

/// What a watch told, and whether it was the server that ended it.
#[derive(Debug)]
pub struct Watched {
    pub reply: Reply,
    pub events: Vec<Value>,
    pub closed: bool,
}

impl Client {
    pub fn admin(server: &Server) -> Self {
        let identity = server.pki.identity(&Profile::Admin).unwrap();
        let config = tls::client_config(&identity, server.pki.authority(Signer::Server)).unwrap();
        Self { address: server.address, config: Arc::new(config), connection: None }
    }

    /// Without a certificate.
    pub fn nobody(server: &Server) -> Self {
        Self {
            address: server.address,
            config: Arc::new(tls::outside(tls::Servers::Any, None).unwrap()),
            connection: None,
        }
    }

    async fn connect(&self) -> Sender {
        let tcp = TcpStream::connect(self.address).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let name = ServerName::try_from("kubernetes.default.svc").unwrap();
        let stream = tokio_rustls::TlsConnector::from(Arc::clone(&self.config)).connect(name, tcp).await.unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    async fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(String, String)],
        body: &[u8],
    ) -> http::Response<hyper::body::Incoming> {
        loop {
            let (mut sender, fresh) = match self.connection.take() {
                Some(kept) => (kept, false),
                None => (self.connect().await, true),
            };
            let mut request = http::Request::builder().method(method).uri(escape(path)).header("host", "k");
            for (name, value) in headers {
                request = request.header(name, value);
            }
            let request = request.body(Full::from(body.to_vec())).unwrap();
            match sender.send_request(request).await {
                Ok(response) => {
                    self.connection = Some(sender);
                    return response;
                }
                Err(error) if fresh => panic!("{method} {path}: {error}"),
                // The server had closed what was kept.
                Err(_) => {}
            }
        }
    }

    pub async fn ask(&mut self, method: &str, path: &str, headers: &[(String, String)], body: &[u8]) -> Reply {
        let (parts, body) = self.send(method, path, headers, body).await.into_parts();
        let mut body = body.collect().await.unwrap().to_bytes();
        if parts.headers.get("content-encoding").is_some_and(|v| v == "gzip") {
            let mut plain = Vec::new();
            flate2::read::GzDecoder::new(&*body).read_to_end(&mut plain).unwrap();
            body = plain.into();
        }
        Reply { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    /// A watch, or what was answered instead.
    pub async fn open(&mut self, path: &str, headers: &[(String, String)]) -> Result<Lines, Reply> {
        let (parts, body) = self.send("GET", path, headers, b"").await.into_parts();
        let mut reply = Reply { status: parts.status.as_u16(), headers: parts.headers, body: Bytes::new() };
        if reply.status != 200 {
            reply.body = body.collect().await.unwrap().to_bytes();
            return Err(reply);
        }
        // What follows on this connection is the rest of the watch.
        self.connection = None;
        Ok(Lines { reply, body, rest: Vec::new() })
    }

    /// For so long, or until so many events have come.
    pub async fn watch(
        &mut self,
        path: &str,
        headers: &[(String, String)],
        time: Duration,
        until: Option<usize>,
    ) -> Watched {
        let end = Instant::now() + time;
        let mut lines = match self.open(path, headers).await {
            Ok(lines) => lines,
            Err(reply) => return Watched { reply, events: Vec::new(), closed: true },
        };
        let (mut events, mut closed) = (Vec::new(), false);
        while until.is_none_or(|n| events.len() < n) {
            match tokio::time::timeout_at(end, lines.next()).await {
                Err(_) => break,
                Ok(Some(event)) => events.push(event),
                Ok(None) => {
                    closed = true;
                    break;
                }
            }
        }
        Watched { reply: lines.reply, events, closed }
    }
}

/// What a watch tells, event by event.
pub struct Lines {
    reply: Reply,
    body: hyper::body::Incoming,
    rest: Vec<u8>,
}

impl Lines {
    /// `None` where it ended.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            while let Some(at) = self.rest.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=at).collect();
                if !line.trim_ascii().is_empty() {
                    return Some(serde_json::from_slice(&line).unwrap());
                }
            }
            let frame = self.body.frame().await?.ok()?;
            self.rest.extend_from_slice(frame.data_ref().map_or(&[][..], |d| d));
        }
    }
}

/// What may not stand in a request's line as it is.
fn escape(path: &str) -> String {
    const PLAIN: &[u8] = b"/%?=&:;,+$@!*'()~-._|";
    let one = |b: u8| match b {
        b'|' => "%7C".to_owned(),
        b if b.is_ascii_alphanumeric() || PLAIN.contains(&b) => char::from(b).to_string(),
        b => format!("%{b:02X}"),
    };
    path.bytes().map(one).collect()
}
