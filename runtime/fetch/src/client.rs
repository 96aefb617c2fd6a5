//! Requests of HTTP/1.1: names resolved, TLS, redirects, time limits. A connection is kept for the next request to the same server.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::FetchError;
use crate::url::{Scheme, Url};

const CONNECT: Duration = Duration::from_secs(10);
/// For an answer's head, and between two parts of its body.
const PATIENCE: Duration = Duration::from_secs(30);
const REDIRECTS: usize = 5;
/// Of what a server says in words about a refusal.
const MOST_WORDS: usize = 200;

/// The addresses of a host's name.
pub type Resolve = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

/// A client's TLS that believes the authorities that browsers believe, and those in `bundles` (PEM). What is no certificate there is passed over.
pub fn trusting(bundles: &[&[u8]]) -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for bundle in bundles {
        let certificates = rustls::pki_types::CertificateDer::pem_slice_iter(bundle).filter_map(Result::ok);
        let (_added, _ignored) = roots.add_parsable_certificates(certificates);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

pub struct Client {
    tls: TlsConnector,
    resolve: Resolve,
    open: Option<(Url, SendRequest<Empty<Bytes>>)>,
}

/// An answer, and who gave it after all redirects.
pub struct Answer {
    pub url: Url,
    pub response: Response<Incoming>,
}

impl Client {
    pub fn new(tls: ClientConfig, resolve: Resolve) -> Self {
        Self { tls: TlsConnector::from(Arc::new(tls)), resolve, open: None }
    }

    /// Asks, and goes where it is sent. `Authorization` stays with the server that it is for.
    pub async fn get(&mut self, url: &Url, headers: &HeaderMap) -> Result<Answer, FetchError> {
        let mut url = url.clone();
        let mut headers = headers.clone();
        for _ in 0..=REDIRECTS {
            let response = self.ask(&url, &headers).await?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(Answer { url, response });
            }
            let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            let location = location.ok_or_else(|| answer(&url, "it sends us elsewhere and does not say where"))?;
            let next = url.join(location)?;
            if next.scheme == Scheme::Http && url.scheme == Scheme::Https {
                return Err(answer(&url, &format!("it sends us to {next}, which is not protected as it is itself")));
            }
            if !next.same_server(&url) {
                headers.remove(header::AUTHORIZATION);
            }
            url = next;
        }
        Err(answer(&url, "it sends us on and on"))
    }

    async fn ask(&mut self, url: &Url, headers: &HeaderMap) -> Result<Response<Incoming>, FetchError> {
        let kept = self.open.take().filter(|(server, sender)| server.same_server(url) && !sender.is_closed());
        if let Some((server, mut sender)) = kept {
            // A server may close what it kept open just when it is asked: then it is asked anew.
            if let Ok(response) = self.send(&mut sender, url, headers).await {
                self.open = Some((server, sender));
                return Ok(response);
            }
        }
        let mut sender = self.connect(url).await?;
        let response = self.send(&mut sender, url, headers).await?;
        self.open = Some((url.clone(), sender));
        Ok(response)
    }

    async fn send(
        &self,
        sender: &mut SendRequest<Empty<Bytes>>,
        url: &Url,
        headers: &HeaderMap,
    ) -> Result<Response<Incoming>, FetchError> {
        within(url, "waiting for the last answer's end", PATIENCE, sender.ready()).await?;
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = url.path.parse().map_err(|_| answer(url, "its path cannot be asked for"))?;
        *request.headers_mut() = headers.clone();
        let host = HeaderValue::from_str(&url.authority()).map_err(|_| answer(url, "its name cannot be asked for"))?;
        request.headers_mut().insert(header::HOST, host);
        let agent = HeaderValue::from_static(concat!("kedge/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().insert(header::USER_AGENT, agent);
        within(url, "waiting for its answer", PATIENCE, sender.send_request(request)).await
    }

    async fn connect(&self, url: &Url) -> Result<SendRequest<Empty<Bytes>>, FetchError> {
        let tcp = self.dial(url).await?;
        match url.scheme {
            Scheme::Http => shake(url, tcp).await,
            Scheme::Https => {
                let name = ServerName::try_from(url.host.clone()).map_err(|_| answer(url, "its name is none"))?;
                let tls = within(url, "TLS", CONNECT, self.tls.connect(name, tcp)).await?;
                shake(url, tls).await
            }
        }
    }

    /// To the first address that answers; else the last one's failure.
    async fn dial(&self, url: &Url) -> Result<TcpStream, FetchError> {
        let addresses = match url.host.parse() {
            Ok(address) => vec![address],
            Err(_) => (self.resolve)(url.host.clone())
                .await
                .map_err(|source| FetchError::Lookup { host: url.host.clone(), source })?,
        };
        let nobody = io::Error::new(io::ErrorKind::NotFound, "it has no address");
        let mut failed = FetchError::Lookup { host: url.host.clone(), source: nobody };
        for address in addresses {
            match within(url, "connecting", CONNECT, TcpStream::connect(SocketAddr::new(address, url.port))).await {
                Ok(tcp) => {
                    let _only_slower = tcp.set_nodelay(true);
                    return Ok(tcp);
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }
}

async fn shake(
    url: &Url,
    io: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
) -> Result<SendRequest<Empty<Bytes>>, FetchError> {
    let (sender, connection) = within(url, "HTTP", CONNECT, handshake(TokioIo::new(io))).await?;
    // Ends when the sender is dropped and the last answer was read.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to fetch by ended");
        }
    });
    Ok(sender)
}

async fn within<T, E>(
    url: &Url,
    what: &'static str,
    limit: Duration,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, FetchError>
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let host = || url.authority();
    match timeout(limit, work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(FetchError::Connection { host: host(), what, source: io::Error::other(error) }),
        Err(_) => Err(FetchError::Silent { host: host(), what, seconds: limit.as_secs() }),
    }
}

pub(crate) fn answer(url: &Url, what: &str) -> FetchError {
    FetchError::Answer { url: url.to_string(), what: what.to_owned() }
}

/// The body's bytes, which are to be no more than `most`.
pub(crate) async fn collect(answered: Answer, most: usize) -> Result<Vec<u8>, FetchError> {
    let Answer { url, mut response } = answered;
    let mut bytes = Vec::new();
    let body = response.body_mut();
    loop {
        let frame = timeout(PATIENCE, body.frame()).await.map_err(|_| FetchError::Silent {
            host: url.authority(),
            what: "in the middle of an answer",
            seconds: PATIENCE.as_secs(),
        })?;
        match frame {
            None => return Ok(bytes),
            Some(Ok(frame)) => {
                let data = frame.into_data().unwrap_or_default();
                if bytes.len() + data.len() > most {
                    return Err(answer(&url, &format!("it answers with more than {most} bytes")));
                }
                bytes.extend_from_slice(&data);
            }
            Some(Err(error)) => {
                let source = io::Error::other(error);
                return Err(FetchError::Connection { host: url.authority(), what: "reading", source });
            }
        }
    }
}

/// The error that a refusal is, with the first of its words.
pub(crate) async fn refused(answered: Answer) -> FetchError {
    let (url, status) = (answered.url.to_string(), answered.response.status());
    let kind = answered.response.headers().get(header::CONTENT_TYPE);
    let plain = !kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    let words = if plain { collect(answered, 64 << 10).await.unwrap_or_default() } else { Vec::new() };
    let words = String::from_utf8_lossy(&words);
    let message = words.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MOST_WORDS).collect();
    FetchError::Status { url, status, message }
}

/// Whether the answer is what was asked for.
pub(crate) fn is_good(response: &Response<Incoming>) -> bool {
    matches!(response.status(), StatusCode::OK | StatusCode::PARTIAL_CONTENT)
}
