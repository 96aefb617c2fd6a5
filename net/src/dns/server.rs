//! The sockets: who asks, and where the answer is looked for.
//!
//! ```text
//! bytes ─▶ message::read ─▶ Zone::answer ─▶ message::encode ─▶ bytes
//!                              └ not mine ─▶ Cache::get ─▶ ┘
//!                                               └ unknown ─▶ upstream::resolve (in a task) ─▶ Cache::put ─▶ ┘
//! ```

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::cache::{Cache, Key};
use super::message::{Question, Received, encode, read};
use super::upstream;
use super::zone::Zone;

/// Why the server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen for DNS on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("cannot receive DNS queries on {address}: {source}")]
    Receive { address: SocketAddr, source: io::Error },
}

/// Queries to other servers at once; beyond it clients are told to try again.
const MOST_FORWARDED: usize = 256;
/// TCP connections at once, over all addresses; beyond it new ones wait.
const MOST_CONNECTIONS: usize = 64;
const CONNECTION_IDLE: Duration = Duration::from_secs(10);
const LARGEST_QUERY: usize = 4096;
const TCP_LIMIT: usize = u16::MAX as usize;

/// A bound server. Dropping it closes its sockets.
#[derive(Debug)]
pub struct Server<Z> {
    listeners: Vec<(SocketAddr, Arc<UdpSocket>, TcpListener)>,
    shared: Arc<Shared<Z>>,
}

#[derive(Debug)]
struct Shared<Z> {
    zone: Z,
    upstreams: watch::Receiver<Vec<SocketAddr>>,
    /// Addresses that are our own and so never asked.
    own: Vec<SocketAddr>,
    /// Held only for one look-up or insertion: no order with anything else.
    cache: Mutex<Cache>,
    forwarded: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    origin: Instant,
}

/// Either an answer, or what has to be asked elsewhere.
enum Answer {
    Now(Message),
    Forward(Question),
}

impl<Z: Zone> Server<Z> {
    /// Listens on UDP and TCP of each address. `upstreams` may change at any time; what was cached is then forgotten.
    pub async fn bind(
        addresses: &[SocketAddr],
        zone: Z,
        upstreams: watch::Receiver<Vec<SocketAddr>>,
    ) -> Result<Self, Error> {
        let mut listeners = Vec::with_capacity(addresses.len());
        for address in addresses {
            let failed = |source| Error::Listen { address: *address, source };
            let udp = UdpSocket::bind(address).await.map_err(failed)?;
            let address = udp.local_addr().map_err(failed)?;
            let tcp = TcpListener::bind(address).await.map_err(failed)?;
            listeners.push((address, Arc::new(udp), tcp));
        }
        let shared = Shared {
            zone,
            upstreams,
            own: listeners.iter().map(|(address, ..)| *address).collect(),
            cache: Mutex::new(Cache::default()),
            forwarded: Arc::new(Semaphore::new(MOST_FORWARDED)),
            connections: Arc::new(Semaphore::new(MOST_CONNECTIONS)),
            origin: Instant::now(),
        };
        Ok(Self { listeners, shared: Arc::new(shared) })
    }

    /// Where it listens: for a port of 0 the one that was given.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(|(address, ..)| *address).collect()
    }

    /// Answers until a socket fails or the future is dropped.
    pub async fn run(self) -> Result<(), Error> {
        let mut tasks = JoinSet::new();
        for (address, udp, tcp) in self.listeners {
            let shared = self.shared.clone();
            tasks.spawn(
                async move { serve_udp(shared, udp).await.map_err(|source| Error::Receive { address, source }) },
            );
            let shared = self.shared.clone();
            tasks.spawn(async move { serve_tcp(shared, tcp).await });
        }
        let shared = self.shared.clone();
        tasks.spawn(async move {
            let mut upstreams = shared.upstreams.clone();
            while upstreams.changed().await.is_ok() {
                shared.cache().clear();
            }
            // Nobody will ever change them again; that is no reason to stop.
            std::future::pending().await
        });
        match tasks.join_next().await {
            Some(Ok(result)) => result,
            Some(Err(panic)) if panic.is_panic() => std::panic::resume_unwind(panic.into_panic()),
            Some(Err(_)) | None => Ok(()),
        }
    }

    /// [`Server::bind`] and [`Server::run`].
    pub async fn serve(
        addresses: &[SocketAddr],
        zone: Z,
        upstreams: watch::Receiver<Vec<SocketAddr>>,
    ) -> Result<(), Error> {
        Self::bind(addresses, zone, upstreams).await?.run().await
    }
}

async fn serve_udp<Z: Zone>(shared: Arc<Shared<Z>>, socket: Arc<UdpSocket>) -> io::Result<()> {
    let mut forwards = JoinSet::new();
    let mut buffer = vec![0; LARGEST_QUERY];
    loop {
        let (length, client) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // An ICMP error about an answer sent before.
            Err(error) if is_passing(&error) => continue,
            Err(error) => return Err(error),
        };
        while forwards.try_join_next().is_some() {}
        let limit_of = |question: &Question| question.udp_limit();
        let Some((answer, limit)) = shared.answer(buffer.get(..length).unwrap_or_default(), limit_of) else { continue };
        match answer {
            Answer::Now(message) => reply(&socket, message, limit, client).await,
            Answer::Forward(question) => match shared.forwarded.clone().try_acquire_owned() {
                Ok(permit) => {
                    let (shared, socket) = (shared.clone(), socket.clone());
                    forwards.spawn(async move {
                        let message = shared.forward(&question).await;
                        drop(permit);
                        reply(&socket, message, limit, client).await;
                    });
                }
                Err(_) => reply(&socket, question.answer(ResponseCode::ServFail), limit, client).await,
            },
        }
    }
}

/// An answer that cannot be sent is one that got lost: the client asks again.
async fn reply(socket: &UdpSocket, message: Message, limit: usize, client: SocketAddr) {
    if let Some(bytes) = encode(message, limit)
        && let Err(error) = socket.send_to(&bytes, client).await
    {
        tracing::debug!(%client, %error, "a DNS answer could not be sent");
    }
}

async fn serve_tcp<Z: Zone>(shared: Arc<Shared<Z>>, listener: TcpListener) -> Result<(), Error> {
    let mut connections = JoinSet::new();
    loop {
        let permit = shared.connections.clone().acquire_owned().await;
        while connections.try_join_next().is_some() {}
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors or memory: others' connections end, and then it goes on.
                tracing::debug!(%error, "a DNS connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let shared = shared.clone();
        connections.spawn(async move {
            let _permit = permit;
            if let Err(error) = converse(&shared, stream).await {
                tracing::debug!(%error, "a DNS connection ended");
            }
        });
    }
}

async fn converse<Z: Zone>(shared: &Shared<Z>, mut stream: TcpStream) -> io::Result<()> {
    loop {
        let Ok(read) = timeout(CONNECTION_IDLE, upstream::read(&mut stream)).await else { return Ok(()) };
        let query = match read {
            Ok(query) => query,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        };
        let Some((answer, limit)) = shared.answer(&query, |_| TCP_LIMIT) else { return Ok(()) };
        let message = match answer {
            Answer::Now(message) => message,
            Answer::Forward(question) => match shared.forwarded.try_acquire() {
                Ok(_permit) => shared.forward(&question).await,
                Err(_) => question.answer(ResponseCode::ServFail),
            },
        };
        let Some(bytes) = encode(message, limit) else { return Ok(()) };
        match timeout(CONNECTION_IDLE, upstream::write(&mut stream, &bytes)).await {
            Ok(written) => written?,
            Err(_) => return Ok(()),
        }
    }
}

impl<Z: Zone> Shared<Z> {
    /// What can be said at once, and how long it may be; `None` to say nothing.
    fn answer(&self, bytes: &[u8], limit: impl Fn(&Question) -> usize) -> Option<(Answer, usize)> {
        let question = match read(bytes) {
            Received::Question(question) => question,
            Received::Refuse(message) => return Some((Answer::Now(message), LARGEST_QUERY)),
            Received::Ignore => return None,
        };
        let limit = limit(&question);
        let zone = self.zone.answer(&question.name, question.record_type());
        if let Some(message) = question.answer_of_zone(zone, self.zone.authority(&question.name)) {
            return Some((Answer::Now(message), limit));
        }
        let cached = self.cache().get(&key(&question), self.origin.elapsed());
        Some(match cached {
            Some((message, age)) => (Answer::Now(question.relay(&message, age)), limit),
            None => (Answer::Forward(question), limit),
        })
    }

    /// What another server says, or that none does.
    async fn forward(&self, question: &Question) -> Message {
        let mut servers = self.upstreams.borrow().clone();
        servers.retain(|server| !self.own.contains(server));
        match upstream::resolve(&question.query, &servers).await {
            Some(message) => {
                // Asked of servers that are not ours any more: the answer is good, but not to be kept.
                if self.upstreams.borrow().iter().filter(|server| !self.own.contains(server)).eq(&servers) {
                    self.cache().put(key(question), &message, self.origin.elapsed());
                }
                question.relay(&message, 0)
            }
            None => question.answer(ResponseCode::ServFail),
        }
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        // A panic elsewhere leaves the cache as whole as it was.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(question: &Question) -> Key {
    (question.name.clone(), question.query.query_type().into())
}

fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(
        error.kind(),
        K::ConnectionRefused | K::ConnectionReset | K::HostUnreachable | K::NetworkUnreachable | K::Interrupted
    )
}
