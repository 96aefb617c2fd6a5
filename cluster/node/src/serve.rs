//! The kubelet's HTTPS API: what the API server asks a node on behalf of people.
//!
//! Owns port 10250. Everyone must show a certificate of the cluster's client authority, and be one who may ask ([`who`]).
//!
//! ```text
//! accept ─▶ TLS ─▶ who ─▶ route (pure) ─┬─ logs ─▶ log::reader (CRI files, inotify)
//!                                       ├─ exec, attach ─▶ upgrade ─▶ websocket │ spdy ─▶ relay ─▶ Runtime
//!                                       ├─ port-forward ─▶ upgrade ─▶ the same ─▶ forward ─▶ the pod's loopback
//!                                       └─ pods, stats, metrics, healthz
//! ```

pub mod forward;
pub mod log;
pub mod mux;
pub mod relay;
pub mod route;
pub mod spdy;
pub mod stats;
pub mod tunnel;
pub mod upgrade;
pub mod websocket;
pub mod who;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ResolvesServerCert, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::site::Site;
use route::Route;

/// Connections at one time: each holds a few buffers, and streams may last for hours.
const CONNECTIONS: usize = 128;
const HANDSHAKE: Duration = Duration::from_secs(10);
const HEADERS: Duration = Duration::from_secs(30);

pub type Body = UnsyncBoxBody<Bytes, io::Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("listen on {address} for the node's API: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("certificates of the node's API: {0}")]
    Tls(#[from] rustls::Error),
    #[error("authority of the node's clients: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    #[error("PEM text of {what}: {source}")]
    Pem { what: &'static str, source: rustls::pki_types::pem::Error },
}

/// Who the server says it is, and whose clients it believes.
#[derive(Clone)]
pub struct Tls {
    pub identity: Arc<dyn ResolvesServerCert>,
    pub client_ca: Vec<CertificateDer<'static>>,
}

impl Tls {
    /// From PEM texts, for a certificate that does not change while the agent runs.
    pub fn from_pem(certificate: &str, key: &str, client_ca: &str) -> Result<Self, Error> {
        let certificates = |what, text: &str| {
            let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
            all.map_err(|source| Error::Pem { what, source })
        };
        let chain = certificates("the certificate", certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes());
        let key = key.map_err(|source| Error::Pem { what: "the key", source })?;
        let provider = rustls::crypto::ring::default_provider();
        let certified = rustls::sign::CertifiedKey::from_der(chain, key, &provider)?;
        let identity = Arc::new(rustls::sign::SingleCertAndKey::from(certified));
        Ok(Self { identity, client_ca: certificates("the client authority", client_ca)? })
    }

    fn acceptor(&self) -> Result<TlsAcceptor, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        for certificate in &self.client_ca {
            roots.add(certificate.clone())?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?;
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(self.identity.clone());
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// Binds the port; [`Server::run`] then serves.
pub struct Server {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    site: Arc<Site>,
}

impl Server {
    pub async fn bind(address: SocketAddr, tls: &Tls, site: Arc<Site>) -> Result<Self, Error> {
        let acceptor = tls.acceptor()?;
        let listener = TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
        Ok(Self { listener, acceptor, site })
    }

    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Connections end with this future.
    pub async fn run(self) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let stream = tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        tracing::warn!(%error, "connection to the node's API is not accepted");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                },
                Some(_) = connections.join_next() => continue,
            };
            let (acceptor, site) = (self.acceptor.clone(), self.site.clone());
            connections.spawn(connection(acceptor, stream, site, upgrade::Place(Arc::new(place))));
        }
    }
}

async fn connection(acceptor: TlsAcceptor, stream: TcpStream, site: Arc<Site>, place: upgrade::Place) {
    let tls = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake with the node's API failed"),
        Err(_) => return tracing::debug!("TLS handshake with the node's API took too long"),
    };
    let certificate = tls.get_ref().1.peer_certificates().and_then(|c| c.first()).cloned();
    let allowed = certificate.as_ref().is_some_and(|c| who::may_ask(c));
    let service = service_fn(move |mut request: Request<Incoming>| {
        let site = site.clone();
        request.extensions_mut().insert(place.clone());
        async move { Ok::<_, Infallible>(if allowed { answer(&site, request).await } else { refused() }) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    let served = builder.timer(TokioTimer::new()).header_read_timeout(HEADERS);
    if let Err(error) = served.serve_connection(TokioIo::new(tls), service).with_upgrades().await {
        tracing::debug!(%error, "connection to the node's API broke");
    }
}

pub fn text(code: StatusCode, text: impl Into<String>) -> Response<Body> {
    bytes(code, "text/plain; charset=utf-8", text.into())
}

pub fn json(value: &serde_json::Value) -> Response<Body> {
    bytes(StatusCode::OK, "application/json", value.to_string())
}

fn bytes(code: StatusCode, kind: &'static str, body: String) -> Response<Body> {
    let body = Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}

fn refused() -> Response<Body> {
    text(StatusCode::FORBIDDEN, "Forbidden: this certificate's user may not ask a node")
}

async fn answer(site: &Arc<Site>, request: Request<Incoming>) -> Response<Body> {
    let route = match Route::parse(request.uri().path(), request.uri().query().unwrap_or_default()) {
        Ok(route) => route,
        Err(error) => return text(error.code(), error.to_string()),
    };
    let allowed = match route {
        Route::Machine(_) => request.method() == Method::POST,
        Route::Exec(_) | Route::Attach(_) | Route::PortForward(_) => true,
        Route::Healthz | Route::Pods | Route::Summary | Route::Metrics | Route::Logs(..) => {
            request.method() == Method::GET
        }
    };
    if !allowed {
        return text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    }
    match route {
        Route::Healthz => text(StatusCode::OK, "ok"),
        Route::Pods => json(&stats::pods(&site.informer.snapshot(), &site.node)),
        Route::Summary => json(&stats::summary(site)),
        Route::Metrics => text(StatusCode::OK, stats::metrics(site)),
        Route::Logs(container, options) => log::answer(site, &container, options).await,
        Route::Exec(session) => relay::answer(site, request, session, relay::Kind::Exec),
        Route::Attach(session) => relay::answer(site, request, session, relay::Kind::Attach),
        Route::PortForward(ports) => forward::answer(site, request, ports),
        Route::Machine(action) => match site.host.ask(&action) {
            Ok(()) => json(&serde_json::json!({"action": action, "status": "accepted"})),
            Err(why) => text(StatusCode::CONFLICT, why),
        },
    }
}

#[cfg(test)]
pub mod tests;
