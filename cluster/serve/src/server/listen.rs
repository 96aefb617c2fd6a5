//! Connections: accepted, bounded in number and in time, each served by a task of its own.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::batch::Batched;
use super::front::Front;
use super::streams::streams;
use super::waits::{Told, Waits};
use crate::http::place::Place;

/// Each costs some 50 kB with its TLS and HTTP/2 buffers.
const MAX_CONNECTIONS: u32 = 512;
const HANDSHAKE: Duration = Duration::from_secs(10);
/// As upstream: just less than a request may take, and as long as Go's clients keep connections for later.
const HEADERS: Duration = Duration::from_secs(32);
const IDLE: Duration = Duration::from_secs(90);
const MAX_HEADER_BYTES: u32 = 64 * 1024;
/// How long connections have to finish what they do when the server stops.
const DRAIN: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("accepting connections: {0}")]
    Accept(io::Error),
}

/// What connections are held to.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// At one time, those that have become another protocol with them. More wait until one ends.
    pub connections: u32,
    pub handshake: Duration,
    /// For a request's headers, and after the handshake for a request to begin at all.
    pub headers: Duration,
    /// Between two requests of HTTP/1.1.
    pub idle: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { connections: MAX_CONNECTIONS, handshake: HANDSHAKE, headers: HEADERS, idle: IDLE }
    }
}

/// Serves until `stop`; then lets open requests finish for a few seconds.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    front: Arc<Front>,
    stop: CancellationToken,
) -> Result<(), ListenError> {
    serve_within(Bounds::default(), listener, tls, front, stop).await
}

/// The same within other bounds.
pub async fn serve_within(
    bounds: Bounds,
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    front: Arc<Front>,
    stop: CancellationToken,
) -> Result<(), ListenError> {
    let slots = Arc::new(Semaphore::new(bounds.connections as usize));
    let acceptor = TlsAcceptor::from(tls);
    loop {
        let next = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            let accepted = listener.accept().await;
            (slot, accepted)
        };
        let (slot, accepted) = tokio::select! {
            () = stop.cancelled() => break,
            next = next => next,
        };
        match (slot, accepted) {
            (Ok(slot), Ok(client)) => {
                let place = Place(Arc::new(slot));
                tokio::spawn(connection(bounds, client, acceptor.clone(), Arc::clone(&front), stop.clone(), place));
            }
            // The client was gone before we took it.
            (_, Err(e))
                if matches!(
                    e.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
                ) => {}
            // Out of descriptors or memory: others will be given back.
            (_, Err(e)) if matches!(e.raw_os_error(), Some(23 | 24 | 12 | 105)) => {
                tracing::warn!(error = %e, "cannot accept a connection now");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            (_, Err(e)) => return Err(ListenError::Accept(e)),
            (Err(_), _) => break,
        }
    }
    drop(listener);
    // All slots free: nobody is connected any more.
    if tokio::time::timeout(DRAIN, slots.acquire_many(bounds.connections)).await.is_err() {
        tracing::info!("stopped with connections open");
    }
    if let Some(audit) = &front.audit {
        audit.flush().await;
    }
    Ok(())
}

async fn connection(
    bounds: Bounds,
    (tcp, from): (TcpStream, SocketAddr),
    acceptor: TlsAcceptor,
    front: Arc<Front>,
    stop: CancellationToken,
    place: Place,
) {
    if let Err(error) = tcp.set_nodelay(true) {
        tracing::debug!(%error, "a connection broke at once");
        return;
    }
    let tls = match tokio::time::timeout(bounds.handshake, acceptor.accept(tcp)).await {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => {
            front.metrics().handshake_failed();
            tracing::debug!(%error, "a TLS handshake failed");
            return;
        }
        Err(_) => {
            front.metrics().handshake_failed();
            tracing::debug!("a TLS handshake took too long");
            return;
        }
    };
    let peer = Arc::new(front.authenticator.peer(tls.get_ref().1.peer_certificates()));
    let asked = Arc::new(Notify::new());
    let begun = Arc::clone(&asked);
    let work = move |mut request: Request<Incoming>| {
        let (front, peer) = (Arc::clone(&front), Arc::clone(&peer));
        begun.notify_one();
        request.extensions_mut().insert(place.clone());
        async move { front.handle(&peer, from, request).await }
    };
    let served = async {
        match tls.get_ref().1.alpn_protocol() {
            Some(b"h2") => {
                // In a task of its own: what takes long holds up no other stream.
                let service = service_fn(move |request| {
                    let work = AbortOnDropHandle::new(tokio::spawn(work(request)));
                    async move { work.await.map_err(io::Error::other) }
                });
                let (within, streams) = streams();
                let builder = builder(bounds, within).http2_only();
                let io = TokioIo::new(Batched::new(tls));
                let serving = builder.serve_connection(io, service).into_owned();
                streams.drive(until(serving, |c| c.graceful_shutdown(), &stop)).await
            }
            _ => {
                let waits = Waits::new();
                let begun = waits.clone();
                let service = service_fn(move |request| {
                    let (busy, work) = (begun.work(), work(request));
                    async move {
                        let answer = work.await;
                        drop(busy);
                        Ok::<_, std::convert::Infallible>(answer)
                    }
                });
                let builder = builder(bounds, TokioExecutor::new());
                let io = TokioIo::new(Told::new(tls, waits.clone()));
                let serving = builder.serve_connection_with_upgrades(io, service).into_owned();
                tokio::select! {
                    ended = until(serving, |c| c.graceful_shutdown(), &stop) => ended,
                    () = waits.overdue(bounds.headers) => Err("the headers of a request took too long".into()),
                }
            }
        }
    };
    // Until the first bytes have told the version of HTTP nothing else watches the time.
    let silent = async {
        if tokio::time::timeout(bounds.headers, asked.notified()).await.is_ok() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        ended = served => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended");
            }
        }
        () = silent => tracing::debug!("a connection brought no request"),
    }
}

/// Serves until the client has had enough; from `stop` on, only what was begun.
async fn until<C: Future>(serving: C, shutdown: fn(Pin<&mut C>), stop: &CancellationToken) -> C::Output {
    let mut serving = pin!(serving);
    tokio::select! {
        ended = serving.as_mut() => ended,
        () = stop.cancelled() => {
            shutdown(serving.as_mut());
            serving.await
        }
    }
}

fn builder<E>(bounds: Bounds, executor: E) -> Builder<E> {
    let mut builder = Builder::new(executor);
    builder
        .http1()
        .timer(TokioTimer::new())
        // Runs while nothing comes, too; headers that come slowly are watched by `Waits`.
        .header_read_timeout(bounds.idle.max(bounds.headers))
        .max_buf_size(MAX_HEADER_BYTES as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(MAX_HEADER_BYTES)
        .max_concurrent_streams(100)
        .initial_connection_window_size(1024 * 1024)
        .initial_stream_window_size(256 * 1024)
        // Finds out that a client is gone whose watch has nothing to say.
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(15));
    builder
}
