//! The way to servers outside of this process: webhooks, servers that extend the API, issuers of tokens, those that know users or what
//! they may do.
//!
//! ```text
//! service::addresses (Service → EndpointSlices) ─▶ Server ─▶ send: TCP to the first that answers, TLS, HTTP/1.1 on a connection of its own
//!                                                       └▶ ask: the same within a time, with the whole answer
//! ```

pub mod admin;
pub mod kubeconfig;
pub mod service;

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::http::respond::Body;
use crate::tls;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);
/// More than any review of the largest object, or any server's discovery.
const LARGEST: usize = 8 << 20;

/// One that is reached over TLS.
#[derive(Clone)]
pub struct Server {
    /// The name that its certificate must bear.
    pub name: String,
    /// As the `Host` header has it.
    pub authority: String,
    /// Hosts and ports to connect to, in order.
    pub dial: Vec<(String, u16)>,
    pub tls: Arc<ClientConfig>,
}

/// What went wrong, in the words of Go's HTTP client.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Config(String),
    #[error("dial tcp: lookup {host}: no such host")]
    Lookup { host: String },
    #[error("dial tcp {to}: connect: {source}")]
    Connect { to: String, source: std::io::Error },
    #[error("dial tcp {to}: i/o timeout")]
    Timeout { to: String },
    #[error("tls: {0}")]
    Handshake(String),
    #[error("context deadline exceeded")]
    Deadline,
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("{0}")]
    Body(String),
}

impl Server {
    /// The one of an `https` URL.
    pub fn of_url(url: &http::Uri, tls: Arc<ClientConfig>) -> Self {
        let name = url.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let authority = url.authority().map(ToString::to_string).unwrap_or_default();
        let dial = vec![(name.clone(), url.port_u16().unwrap_or(443))];
        Self { name, authority, dial, tls }
    }

    /// Sends one request; the answer's body comes as it is read. A connection that was upgraded can be taken from the answer.
    pub async fn send(&self, mut request: Request<Body>) -> Result<Response<Incoming>, Error> {
        let name = ServerName::try_from(self.name.clone()).map_err(|e| Error::Handshake(e.to_string()))?;
        let host = self.authority.parse().map_err(|_| Error::Config(format!("{:?} is no host", self.authority)))?;
        request.headers_mut().insert(header::HOST, host);
        let connect = async {
            let tls = TlsConnector::from(Arc::clone(&self.tls)).connect(name, self.connect().await?).await;
            tls.map_err(|error| Error::Handshake(tls::in_words(&error)))
        };
        let tls = tokio::time::timeout(CONNECT, connect).await.map_err(|_| Error::Timeout { to: self.first() })??;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls)).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection to a server outside broke");
            }
        });
        Ok(sender.send_request(request).await?)
    }

    /// The whole answer, if it comes in time.
    pub async fn ask(&self, request: Request<Body>, timeout: Duration) -> Result<(StatusCode, Vec<u8>), Error> {
        let answer = async {
            let response = self.send(request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), LARGEST).collect().await;
            Ok((status, body.map_err(|error| Error::Body(error.to_string()))?.to_bytes().to_vec()))
        };
        tokio::time::timeout(timeout, answer).await.unwrap_or(Err(Error::Deadline))
    }

    fn first(&self) -> String {
        self.dial.first().map(|(host, port)| format!("{host}:{port}")).unwrap_or_default()
    }

    /// To the first address that answers; the last one's failure.
    async fn connect(&self) -> Result<TcpStream, Error> {
        let mut failed = Error::Lookup { host: self.dial.first().map(|(h, _)| h.clone()).unwrap_or_default() };
        for (host, port) in &self.dial {
            let Ok(found) = tokio::net::lookup_host((host.as_str(), *port)).await else { continue };
            for to in found {
                match TcpStream::connect(to).await {
                    Ok(tcp) => {
                        let _delayed = tcp.set_nodelay(true);
                        return Ok(tcp);
                    }
                    Err(source) => failed = Error::Connect { to: to.to_string(), source: tls::plain(source) },
                }
            }
        }
        Err(failed)
    }
}
