//! Reads ranges of a file that lies on a web server or in an OCI registry.
//!
//! ```text
//! File::open(url) ─▶ oci (manifest ─▶ blob) │ http(s) ─▶ client: redirects, TLS ─▶ connection, kept between ranges
//! ```
//! Owns: which servers are trusted, how long each step may take, what counts as the same file. Never knows what it reads, and never
//! believes it: whoever reads checks. Memory is bounded by what was asked for.
#![forbid(unsafe_code)]

mod client;
mod file;
pub mod oci;
mod url;

pub use client::{Client, Resolve, trusting};
pub use file::File;
pub use url::{Url, UrlError};

#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error("{host}: its name is not known: {source}")]
    Lookup { host: String, source: std::io::Error },
    #[error("{host}: {what}: {source}")]
    Connection { host: String, what: &'static str, source: std::io::Error },
    #[error("{host}: nothing came for {seconds} s ({what})")]
    Silent { host: String, what: &'static str, seconds: u64 },
    #[error("{url}: the server answered {status}{}", told(.message))]
    Status { url: String, status: http::StatusCode, message: String },
    #[error("{url}: {what}")]
    Answer { url: String, what: String },
    /// What was read before belongs to something else.
    #[error("{url}: it has become another file while it was read")]
    Changed { url: String },
}

/// Whether an HTTP server at an address answers as one that is well does: with a status below 400, as the kubelet sees it.
pub async fn probe(host: &str, port: u16, path: &str) -> Result<(), String> {
    let nobody: Resolve = std::sync::Arc::new(|_| Box::pin(async { Err(std::io::ErrorKind::Unsupported.into()) }));
    let tls = trusting(&[]).map_err(|error| error.to_string())?;
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let slash = if path.starts_with('/') { "" } else { "/" };
    let url = Url::parse(&format!("http://{host}:{port}{slash}{path}")).map_err(|error| error.to_string())?;
    let answered = Client::new(tls, nobody).get(&url, &http::HeaderMap::new()).await;
    let status = answered.map_err(|error| error.to_string())?.response.status();
    if status.as_u16() < 400 { Ok(()) } else { Err(format!("{url} answers {status}")) }
}

fn told(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(" ({message})") }
}

impl FetchError {
    /// Whether the same may go well later.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Lookup { .. } | Self::Connection { .. } | Self::Silent { .. } => true,
            Self::Status { status, .. } => status.is_server_error() || matches!(status.as_u16(), 404 | 408 | 425 | 429),
            Self::Url(_) | Self::Answer { .. } | Self::Changed { .. } => false,
        }
    }
}
