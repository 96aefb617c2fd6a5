//! One HTTP GET as probes and hooks make it: no redirects, no verification of certificates, little of the body.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Upstream keeps as much of an answer for messages.
const BODY: usize = 10 << 10;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("port {0} is neither a number nor a port of the container")]
    Port(String),
    #[error("host {0:?} cannot be resolved")]
    Host(String),
    #[error("dial tcp {address}: {source}")]
    Connect { address: SocketAddr, source: std::io::Error },
    #[error("HTTP request could not be made: {0}")]
    Request(#[from] http::Error),
    #[error("HTTP: {0}")]
    Http(#[from] hyper::Error),
    #[error("HTTP probe failed with statuscode: {0}")]
    Status(u16),
}

/// The number of a port that may be given by its name.
pub fn port(port: &IntOrString, container: &Container) -> Result<u16, Error> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|p| p.name.as_ref() == Some(name));
            named.map(|p| p.container_port).or_else(|| name.parse().ok())
        }
    };
    let shown = || match port {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(name) => format!("{name:?}"),
    };
    number.and_then(|n| u16::try_from(n).ok()).filter(|n| *n > 0).ok_or_else(|| Error::Port(shown()))
}

/// The address to connect to: the pod's own unless the action names a host.
pub async fn target(host: Option<&str>, pod: IpAddr, port: u16) -> Result<SocketAddr, Error> {
    let Some(host) = host.filter(|h| !h.is_empty()) else { return Ok(SocketAddr::new(pod, port)) };
    let unknown = || Error::Host(host.to_owned());
    let mut found = tokio::net::lookup_host((host, port)).await.map_err(|_| unknown())?;
    found.next().ok_or_else(unknown)
}

pub async fn connect(address: SocketAddr) -> Result<TcpStream, Error> {
    TcpStream::connect(address).await.map_err(|source| Error::Connect { address, source })
}

/// Answers with the beginning of the body if the status is a success or a redirection.
pub async fn get(action: &HTTPGetAction, container: &Container, pod: IpAddr) -> Result<Bytes, Error> {
    let address = target(action.host.as_deref(), pod, port(&action.port, container)?).await?;
    let stream = connect(address).await?;
    if action.scheme.as_deref() == Some("HTTPS") {
        let connector = tokio_rustls::TlsConnector::from(unverified());
        let name = rustls::pki_types::ServerName::IpAddress(address.ip().into());
        let tls = connector.connect(name, stream).await.map_err(|source| Error::Connect { address, source })?;
        return exchange(tls, action, address).await;
    }
    exchange(stream, action, address).await
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    action: &HTTPGetAction,
    address: SocketAddr,
) -> Result<Bytes, Error> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let path = action.path.as_deref().filter(|p| !p.is_empty()).unwrap_or("/");
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let mut request = http::Request::get(path).header("user-agent", "kube-probe/1.36").header("accept", "*/*");
    let own = action.http_headers.iter().flatten();
    let named = own.clone().any(|h| h.name.eq_ignore_ascii_case("host"));
    if !named {
        request = request
            .header("host", action.host.clone().filter(|h| !h.is_empty()).unwrap_or_else(|| address.to_string()));
    }
    for header in own {
        request = request.header(&header.name, &header.value);
    }
    let request = request.header("connection", "close").body(Empty::<Bytes>::new())?;
    let asking = async {
        let mut response = sender.send_request(request).await?;
        let mut body = Vec::new();
        while body.len() < BODY
            && let Some(frame) = response.frame().await
        {
            if let Some(data) = frame?.data_ref() {
                body.extend_from_slice(data);
            }
        }
        match response.status().as_u16() {
            200..400 => Ok(Bytes::from(body)),
            code => Err(Error::Status(code)),
        }
    };
    // The connection moves only while it is polled; both end together, without a task of its own.
    tokio::pin!(asking, connection);
    tokio::select! {
        biased;
        answer = &mut asking => answer,
        ended = &mut connection => {
            ended?;
            asking.await
        }
    }
}

/// Upstream's probes do not verify certificates: they ask whether a server answers, not who it is.
fn unverified() -> Arc<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(Anyone(provider.clone()));
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    match builder {
        Ok(builder) => Arc::new(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()),
        // The default provider has the default versions; without them TLS would fail in the handshake.
        Err(_) => Arc::new(
            rustls::ClientConfig::builder()
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth(),
        ),
    }
}

#[derive(Debug)]
struct Anyone(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &rustls::pki_types::CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &rustls::pki_types::CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
