//! Servers on a namespace's own loopback, reached from outside of it.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::{TcpSocket, TcpStream};

const CONNECT: Duration = Duration::from_secs(10);

/// Why nobody answered. `Display` reads as upstream's container runtimes word it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("enter the network namespace: {0}")]
    Enter(io::Error),
    #[error(
        "failed to connect to localhost:{port}, IPv4: dial tcp4 127.0.0.1:{port}: {v4} IPv6: dial tcp6 [::1]:{port}: {v6}"
    )]
    Refused { port: u16, v4: io::Error, v6: io::Error },
}

/// Connects to a port of the namespace's loopback, or of the calling thread's own: by IPv4, else by IPv6.
pub async fn connect(netns: Option<BorrowedFd<'_>>, port: u16) -> Result<TcpStream, Error> {
    let sockets = match netns {
        Some(netns) => sockets_in(netns)?,
        None => sockets(),
    };
    let [v4, v6] = sockets;
    let v4 = match dial(v4, (Ipv4Addr::LOCALHOST, port).into()).await {
        Ok(stream) => return Ok(stream),
        Err(error) => error,
    };
    dial(v6, (Ipv6Addr::LOCALHOST, port).into()).await.map_err(|v6| Error::Refused { port, v4, v6 })
}

type Sockets = [io::Result<TcpSocket>; 2];

/// A socket stays in the namespace it was made in.
fn sockets() -> Sockets {
    [TcpSocket::new_v4(), TcpSocket::new_v6()]
}

fn sockets_in(netns: BorrowedFd<'_>) -> Result<Sockets, Error> {
    std::thread::scope(|scope| {
        let made = std::thread::Builder::new().name("netns".into()).spawn_scoped(scope, || {
            move_into_link_name_space(netns, Some(LinkNameSpaceType::Network)).map(|()| sockets())
        });
        match made.map_err(Error::Enter)?.join() {
            Ok(made) => made.map_err(|errno| Error::Enter(errno.into())),
            Err(_) => Err(Error::Enter(io::Error::other("the thread within panicked"))),
        }
    })
}

async fn dial(socket: io::Result<TcpSocket>, to: SocketAddr) -> io::Result<TcpStream> {
    let stream = tokio::time::timeout(CONNECT, socket?.connect(to)).await??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn either_family_answers_or_both_refusals_are_told() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            // A machine may have no IPv6.
            let Ok(listener) = TcpListener::bind(address).await else { continue };
            let mut stream = connect(None, listener.local_addr().unwrap().port()).await.unwrap();
            let (mut other, _) = listener.accept().await.unwrap();
            stream.write_all(b"x").await.unwrap();
            assert_eq!(other.read_u8().await.unwrap(), b'x');
        }
        let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let error = connect(None, unused).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("failed to connect to localhost:{unused}, IPv4: dial tcp4 ")), "{error}");
    }
}
