//! Asking other servers: one after the other, by UDP and, when an answer is too long for that, by TCP.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, Query};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::message::{PAYLOAD, ask, read_answer};

/// One server's time to answer; resolvers' own clients wait about five seconds altogether.
const PATIENCE: Duration = Duration::from_millis(1500);
const ROUNDS: usize = 2;

/// The first answer that a server gives; `None` when none does.
pub async fn resolve(query: &Query, servers: &[SocketAddr]) -> Option<Message> {
    for server in std::iter::repeat_n(servers, ROUNDS).flatten() {
        match timeout(PATIENCE, exchange(query, *server)).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => tracing::debug!(%server, name = %query.name(), %error, "no answer from a DNS server"),
            Err(_) => tracing::debug!(%server, name = %query.name(), "a DNS server is silent"),
        }
    }
    None
}

async fn exchange(query: &Query, server: SocketAddr) -> io::Result<Message> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // A port of its own for each query: with the number and the name it is what a forger has to guess.
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(server).await?;
    let id = random();
    let message = ask(query, id).ok_or(io::ErrorKind::InvalidData)?;
    socket.send(&message).await?;
    let mut buffer = [0; PAYLOAD as usize];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let Some(answer) = buffer.get(..length).and_then(|bytes| read_answer(bytes, query, id)) else { continue };
        if answer.metadata.truncation {
            return by_tcp(query, server).await;
        }
        return Ok(answer);
    }
}

async fn by_tcp(query: &Query, server: SocketAddr) -> io::Result<Message> {
    let id = random();
    let message = ask(query, id).ok_or(io::ErrorKind::InvalidData)?;
    let mut stream = TcpStream::connect(server).await?;
    write(&mut stream, &message).await?;
    let answer = read(&mut stream).await?;
    read_answer(&answer, query, id).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// A message by TCP has its length before it, RFC 1035 4.2.2.
pub async fn read(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; length.into()];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

pub async fn write(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    // One write, so that it leaves as one segment.
    stream.write_all(&[&length.to_be_bytes(), message].concat()).await
}

fn random() -> u16 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish() as u16
}
