//! The administrator, as a kubeconfig of ours has him: who asks his own server on the same machine.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use http::{Method, Request};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde_json::Value;

use super::kubeconfig::Destination;
use super::{Error, Server};
use crate::http::respond::full;

/// Of an answer that is a value.
const LONGEST: usize = 1 << 20;
/// For an answer to begin: a snapshot is made before.
const TIMEOUT: Duration = Duration::from_secs(300);

pub struct Admin {
    server: Server,
}

impl Admin {
    /// Of a kubeconfig with everything inline.
    pub fn of_kubeconfig(text: &str) -> Result<Self, Error> {
        let to = Destination::parse(text, Path::new("."));
        Ok(Self { server: to.map_err(Error::Config)?.server })
    }

    /// The value that is answered.
    pub async fn ask(&self, method: Method, path: &str) -> Result<Value, Error> {
        let body = Limited::new(self.send(method, path).await?, LONGEST).collect().await;
        let body = body.map_err(|error| Error::Body(error.to_string()))?.to_bytes();
        serde_json::from_slice(&body).map_err(|error| Error::Body(error.to_string()))
    }

    /// Writes what is answered into a file.
    pub async fn download(&self, path: &str, into: &mut impl Write) -> Result<(), Error> {
        let mut body = self.send(Method::GET, path).await?;
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame?.into_data() {
                into.write_all(&data).map_err(|error| Error::Body(error.to_string()))?;
            }
        }
        Ok(())
    }

    /// The body of the answer; what the server refuses is an error with its words.
    async fn send(&self, method: Method, path: &str) -> Result<Incoming, Error> {
        let request = Request::builder().method(method).uri(path).body(full(""));
        let request = request.map_err(|error| Error::Config(error.to_string()))?;
        let sent = tokio::time::timeout(TIMEOUT, self.server.send(request));
        let response = sent.await.map_err(|_| Error::Deadline)??;
        if response.status().is_success() {
            return Ok(response.into_body());
        }
        let status = response.status();
        let body = Limited::new(response.into_body(), LONGEST).collect().await;
        let body = body.map_err(|error| Error::Body(error.to_string()))?.to_bytes();
        let told: Value = serde_json::from_slice(&body).unwrap_or_default();
        let message = told.get("message").and_then(Value::as_str).map_or_else(|| status.to_string(), ToOwned::to_owned);
        Err(Error::Body(message))
    }
}
