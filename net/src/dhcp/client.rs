//! The client's sockets and timer around its state machine.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket as StdUdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::sockopt::BindToDevice;
use nix::sys::socket::{LinkAddr, MsgFlags, bind, sendto, setsockopt};
use rustix::net::sockopt::{set_socket_broadcast, set_socket_reuseaddr};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use tokio::io::unix::AsyncFd;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::lease::{Event, Options};
use super::machine::{Action, Destination, Listening, Machine};
use super::message::decode;
use super::packet::{CLIENT_PORT, SERVER_PORT, unwrap, wrap};
use crate::link::{self, Links};
use crate::{Mac, sys};

/// Why a client stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("interface `{0}` has no Ethernet address")]
    NoMac(String),
    #[error("cannot open a DHCP socket on `{interface}`: {source}")]
    Open { interface: String, source: io::Error },
    #[error("cannot receive on `{interface}`: {source}")]
    Receive { interface: String, source: io::Error },
    #[error(transparent)]
    Link(#[from] link::Error),
}

/// Gets an address for one interface and keeps it.
#[derive(Debug)]
pub struct Client {
    interface: String,
    index: u32,
    mac: Mac,
    links: Links,
    options: Options,
}

/// Where answers come from in a state.
#[derive(Debug)]
enum Socket {
    None,
    Link(AsyncFd<OwnedFd>, LinkAddr),
    Address(UdpSocket),
}

const LARGEST: usize = 1500;

impl Client {
    /// The interface must be up.
    pub async fn new(links: Links, interface: &str, options: Options) -> Result<Self, Error> {
        let link = links.get(interface).await?.ok_or_else(|| link::Error::NoSuchLink(interface.to_owned()))?;
        let mac = link.mac.ok_or_else(|| Error::NoMac(interface.to_owned()))?;
        Ok(Self { interface: interface.to_owned(), index: link.index, mac, links, options })
    }

    /// Tells what happens to the lease until the receiver is dropped. Whoever receives applies it.
    pub async fn run(self, events: mpsc::Sender<Event>) -> Result<(), Error> {
        let origin = Instant::now();
        let now = || origin.elapsed();
        let mut changes = Links::changes()?;
        let mut carrier = true;
        let mut machine = Machine::new(self.mac, self.options.clone(), seed(), now());
        let mut socket = Socket::None;
        let mut buffer = vec![0; LARGEST];
        loop {
            let actions = tokio::select! {
                () = tokio::time::sleep_until(origin + machine.deadline()) => machine.tick(now()),
                received = socket.receive(&mut buffer) => {
                    let length = received.map_err(|source| Error::Receive { interface: self.interface.clone(), source })?;
                    let message = buffer.get(..length).and_then(|packet| socket.message(packet));
                    match message.and_then(|message| decode(message, self.mac)) {
                        Some(reply) => machine.receive(reply, now()),
                        None => Vec::new(),
                    }
                }
                changed = changes.next() => {
                    changed?;
                    let had = carrier;
                    carrier = self.links.get(&self.interface).await?.is_some_and(|link| link.carrier);
                    if carrier && !had { machine.restart(now()) } else { Vec::new() }
                }
                () = events.closed() => return Ok(()),
            };
            self.listen(&mut socket, machine.listening())?;
            for action in actions {
                match action {
                    Action::Send { message, to } => self.send(&socket, &message, to).await,
                    Action::Tell(event) => {
                        if events.send(event).await.is_err() {
                            return Ok(());
                        }
                    }
                }
            }
        }
    }

    /// Has the socket that the state needs; none while nothing is expected.
    fn listen(&self, socket: &mut Socket, listening: Listening) -> Result<(), Error> {
        let failed = |source| Error::Open { interface: self.interface.clone(), source };
        match (listening, &socket) {
            (Listening::No, _) => *socket = Socket::None,
            (Listening::Link, Socket::Link(..)) | (Listening::Address, Socket::Address(_)) => {}
            (Listening::Link, Socket::None | Socket::Address(_)) => {
                *socket = self.open_link().map_err(failed)?;
            }
            (Listening::Address, Socket::None | Socket::Link(..)) => {
                *socket = Socket::Address(self.open_udp().map_err(failed)?);
            }
        }
        Ok(())
    }

    fn open_link(&self) -> io::Result<Socket> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // Protocol 0 receives nothing until the filter is in place and the socket bound.
        let fd = socket_with(AddressFamily::PACKET, SocketType::DGRAM, flags, None)?;
        sys::only_udp_to(fd.as_fd(), CLIENT_PORT)?;
        let everyone = sys::everyone_on(self.index).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        bind(fd.as_raw_fd(), &everyone)?;
        Ok(Socket::Link(sys::watch(fd)?, everyone))
    }

    fn open_udp(&self) -> io::Result<UdpSocket> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
        set_socket_reuseaddr(&fd, true)?;
        set_socket_broadcast(&fd, true)?;
        setsockopt(&fd, BindToDevice, &self.interface.clone().into())?;
        rustix::net::bind(&fd, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT))?;
        UdpSocket::from_std(StdUdpSocket::from(fd))
    }

    /// A message that cannot be sent is one that got lost: it is sent again later.
    async fn send(&self, socket: &Socket, message: &[u8], to: Destination) {
        let sent = match (socket, to) {
            (Socket::Link(fd, everyone), Destination::Everyone) => {
                sendto(fd.as_raw_fd(), &wrap(message), everyone, MsgFlags::empty()).map_err(io::Error::from)
            }
            (Socket::Address(socket), Destination::FromAddress { server, .. }) => {
                let to = SocketAddr::from((server.unwrap_or(Ipv4Addr::BROADCAST), SERVER_PORT));
                socket.send_to(message, to).await
            }
            (Socket::None | Socket::Link(..) | Socket::Address(_), _) => Err(io::ErrorKind::NotConnected.into()),
        };
        if let Err(error) = sent {
            tracing::debug!(interface = %self.interface, %error, "a DHCP message could not be sent");
        }
    }
}

impl Socket {
    async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::None => std::future::pending().await,
            Self::Link(fd, _) => loop {
                let mut ready = fd.readable().await?;
                let read = |fd: &AsyncFd<OwnedFd>| {
                    rustix::net::recv(fd, &mut *buffer, rustix::net::RecvFlags::empty())
                        .map(|(length, _)| length)
                        .map_err(io::Error::from)
                };
                match ready.try_io(read) {
                    Ok(Err(error)) if is_passing(&error) => {}
                    Ok(result) => return result,
                    Err(_would_block) => {}
                }
            },
            Self::Address(socket) => loop {
                match socket.recv(buffer).await {
                    Err(error) if is_passing(&error) => {}
                    result => return result,
                }
            },
        }
    }

    fn message<'a>(&self, packet: &'a [u8]) -> Option<&'a [u8]> {
        match self {
            Self::Link(..) => unwrap(packet),
            Self::None | Self::Address(_) => Some(packet),
        }
    }
}

/// The interface went down, or the server's machine said "unreachable": both may pass.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(
        error.kind(),
        K::NetworkDown | K::ConnectionRefused | K::HostUnreachable | K::NetworkUnreachable | K::Interrupted
    )
}

/// The standard library's per-process random state: enough to differ from other devices.
fn seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// How long a boot should wait for a first lease before it goes on without.
pub const USUAL_PATIENCE: Duration = Duration::from_secs(15);
