//! The way to webhooks: from a `clientConfig` to an address, over TLS, and back with the object that was answered.
//!
//! ```text
//! call ─▶ Endpoint::of (url, or service → EndpointSlices) ─▶ connect ─▶ TLS (caBundle) ─▶ POST ─▶ JSON
//! ```

mod endpoint;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use kedge_api::Informer;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use self::endpoint::Endpoint;
use crate::tls;

/// More than any review of the largest object.
const LARGEST: usize = 8 << 20;

/// Calls webhooks; services are looked up in the informer's snapshot.
pub struct Webhooks {
    informer: Arc<dyn Informer>,
}

impl Webhooks {
    pub fn new(informer: Arc<dyn Informer>) -> Self {
        Self { informer }
    }
}

/// What went wrong, in the words of Go's HTTP client.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("{0}")]
    Config(String),
    #[error("dial tcp: lookup {host}: no such host")]
    Lookup { host: String },
    #[error("dial tcp {to}: connect: {source}")]
    Connect { to: String, source: std::io::Error },
    #[error("tls: {0}")]
    Handshake(String),
    #[error("context deadline exceeded")]
    Deadline,
    #[error("{0}")]
    Http(#[from] hyper::Error),
}

#[async_trait]
impl kedge_registry::Webhooks for Webhooks {
    async fn call(&self, config: &Value, timeout: Duration, review: &Value) -> Result<Value, String> {
        let endpoint = Endpoint::of(config, timeout, &self.informer.snapshot())?;
        let sent = tokio::time::timeout(timeout, send(&endpoint, review)).await;
        let sent = sent.unwrap_or(Err(CallError::Deadline));
        let (status, body) = sent.map_err(|error| format!("Post \"{}\": {error}", endpoint.url))?;
        read(status, &body)
    }
}

async fn send(endpoint: &Endpoint, review: &Value) -> Result<(StatusCode, Vec<u8>), CallError> {
    let config = tls::webhook_config(&endpoint.ca_bundle).map_err(|error| CallError::Config(error.to_string()))?;
    let tcp = dial(endpoint).await?;
    let name = ServerName::try_from(endpoint.host.clone()).map_err(|e| CallError::Handshake(e.to_string()))?;
    let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await;
    let tls = tls.map_err(|error| CallError::Handshake(tls::in_words(&error)))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls)).await?;
    let driver = tokio::spawn(connection);
    let request = Request::post(&endpoint.path)
        .header(header::HOST, &endpoint.authority)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, "kube-apiserver-admission")
        .body(Full::<bytes::Bytes>::from(review.to_string()))
        .map_err(|error| CallError::Config(error.to_string()))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), LARGEST).collect().await;
    let body = body.map_err(|error| CallError::Config(error.to_string()))?.to_bytes().to_vec();
    driver.abort();
    Ok((status, body))
}

/// The first address that answers; the last one's failure.
async fn dial(endpoint: &Endpoint) -> Result<TcpStream, CallError> {
    let mut failed = CallError::Lookup { host: endpoint.dial.first().map(|(h, _)| h.clone()).unwrap_or_default() };
    for (host, port) in &endpoint.dial {
        let Ok(found) = tokio::net::lookup_host((host.as_str(), *port)).await else { continue };
        for to in found {
            match TcpStream::connect(to).await {
                Ok(tcp) => {
                    let _delayed = tcp.set_nodelay(true);
                    return Ok(tcp);
                }
                Err(source) => failed = CallError::Connect { to: to.to_string(), source: tls::plain(source) },
            }
        }
    }
    Err(failed)
}

/// A webhook's answer is an object, whatever its code, unless it is none.
fn read(status: StatusCode, body: &[u8]) -> Result<Value, String> {
    if status.is_success() {
        return serde_json::from_slice(body).map_err(|error| format!("the answer is no JSON: {error}"));
    }
    let said = String::from_utf8_lossy(body);
    Err(match status.as_u16() {
        404 => "the server could not find the requested resource".to_owned(),
        503 => "the server is currently unable to handle the request".to_owned(),
        500.. => format!("an error on the server ({:?}) has prevented the request from succeeding", said.trim()),
        _ => "the server rejected our request for an unknown reason".to_owned(),
    })
}

#[cfg(test)]
mod tests;
