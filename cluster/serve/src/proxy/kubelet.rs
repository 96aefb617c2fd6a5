//! One request to a node's kubelet: TCP, TLS with our certificate, HTTP/1.1 on a connection of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::plan::Plan;
use crate::http::respond::Body;
use crate::pki::{Pki, PkiError, Profile, Signer};
use crate::tls::{self, TlsError};

const CONNECT: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum KubeletError {
    #[error("dial tcp {to}: connect: {source}")]
    Connect { to: SocketAddr, source: std::io::Error },
    #[error("dial tcp {to}: i/o timeout")]
    Timeout { to: SocketAddr },
    #[error("tls: {to}: {source}")]
    Handshake { to: SocketAddr, source: std::io::Error },
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("our own certificate: {0}")]
    Pki(#[from] PkiError),
    #[error("{0}")]
    Tls(#[from] TlsError),
}

pub async fn send(pki: &Pki, plan: &Plan, request: Request<Body>) -> Result<Response<Incoming>, KubeletError> {
    let to = plan.address;
    let config = tls::client_config(&*pki.identity(&Profile::KubeletClient)?, pki.authority(Signer::Server))?;
    let connect = async {
        let tcp =
            TcpStream::connect(to).await.map_err(|source| KubeletError::Connect { to, source: tls::plain(source) })?;
        tcp.set_nodelay(true).map_err(|source| KubeletError::Connect { to, source })?;
        let name = ServerName::IpAddress(to.ip().into());
        let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await;
        tls.map_err(|source| KubeletError::Handshake { to, source })
    };
    let tls = tokio::time::timeout(CONNECT, connect).await.map_err(|_| KubeletError::Timeout { to })??;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, %to, "a connection to a node broke");
        }
    });
    Ok(sender.send_request(request).await?)
}
