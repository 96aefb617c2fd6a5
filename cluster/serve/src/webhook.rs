//! The way to webhooks: from a `clientConfig` to an address, over TLS, and back with the object that was answered.
//!
//! ```text
//! call ─▶ Endpoint::of (url, or service → EndpointSlices) ─▶ reach (TLS by caBundle) ─▶ POST ─▶ JSON
//! ```

mod endpoint;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{Request, StatusCode, header};
use kedge_api::Informer;
use serde_json::Value;

use self::endpoint::Endpoint;
use crate::http::respond::full;
use crate::reach::{self, Server};
use crate::tls::{self, Servers};

/// Calls webhooks; services are looked up in the informer's snapshot.
pub struct Webhooks {
    informer: Arc<dyn Informer>,
}

impl Webhooks {
    pub fn new(informer: Arc<dyn Informer>) -> Self {
        Self { informer }
    }
}

#[async_trait]
impl kedge_registry::Webhooks for Webhooks {
    async fn call(&self, config: &Value, timeout: Duration, review: &Value) -> Result<Value, String> {
        let endpoint = Endpoint::of(config, timeout, &self.informer.snapshot())?;
        let sent = send(&endpoint, review, timeout).await;
        let (status, body) = sent.map_err(|error| format!("Post \"{}\": {error}", endpoint.url))?;
        read(status, &body)
    }
}

async fn send(endpoint: &Endpoint, review: &Value, timeout: Duration) -> Result<(StatusCode, Vec<u8>), reach::Error> {
    let config = |error: &dyn std::fmt::Display| reach::Error::Config(error.to_string());
    let tls = tls::outside(Servers::Of(&endpoint.ca_bundle), None).map_err(|error| config(&error))?;
    let (name, authority, dial) = (endpoint.host.clone(), endpoint.authority.clone(), endpoint.dial.clone());
    let request = Request::post(&endpoint.path)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, "kube-apiserver-admission")
        .body(full(review.to_string()))
        .map_err(|error| config(&error))?;
    Server { name, authority, dial, tls: Arc::new(tls) }.ask(request, timeout).await
}

/// A webhook's answer is an object, whatever its code, unless it is none.
pub(crate) fn read(status: StatusCode, body: &[u8]) -> Result<Value, String> {
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
