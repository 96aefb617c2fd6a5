//! The issuer itself: where its keys are, by its own word, and the keys, kept until they are old or do not fit.
//! Source: OpenID Connect Discovery 1.0.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, header};
use rustls::ClientConfig;
use serde::Deserialize;
use tokio::sync::Mutex;

use super::config::Trusted;
use super::keys::KeySet;
use crate::clock::Clock;
use crate::http::respond::full;
use crate::reach::Server;
use crate::tls::{self, Servers, TlsError};

const WELL_KNOWN: &str = "/.well-known/openid-configuration";
const TIMEOUT: Duration = Duration::from_secs(10);
/// Seconds. Keys that the issuer no longer shows are no longer believed after that.
const OLD: u64 = 3600;
/// Seconds between two questions, whatever tokens are shown.
const PAUSE: u64 = 10;

pub struct Provider {
    url: String,
    discovery: String,
    tls: Arc<ClientConfig>,
    clock: Clock,
    /// Held while it is asked, so that it is asked once.
    cached: Mutex<Cached>,
}

#[derive(Default)]
struct Cached {
    keys: Option<Arc<KeySet>>,
    /// When the keys came.
    at: u64,
    /// When it was asked last, and whether that failed.
    asked: Option<u64>,
    failed: Option<String>,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl Provider {
    pub fn new(trusted: &Trusted, clock: Clock) -> Result<Self, TlsError> {
        let tls = Arc::new(tls::outside(Servers::Of(&trusted.authority), None)?);
        let well_known = || format!("{}{WELL_KNOWN}", trusted.url.trim_end_matches('/'));
        let discovery = trusted.discovery.clone().unwrap_or_else(well_known);
        Ok(Self { url: trusted.url.clone(), discovery, tls, clock, cached: Mutex::default() })
    }

    /// Its keys; newer ones than `unfit`, if it has such.
    pub async fn keys(&self, unfit: Option<&Arc<KeySet>>) -> Result<Arc<KeySet>, String> {
        let mut cached = self.cached.lock().await;
        let now = self.clock.unix();
        let since = |at: u64| now.saturating_sub(at);
        let wanted = match (&cached.keys, unfit) {
            (Some(keys), Some(unfit)) => Arc::ptr_eq(keys, unfit),
            (Some(_), None) => since(cached.at) >= OLD,
            (None, _) => true,
        };
        if wanted && cached.asked.is_none_or(|asked| since(asked) >= PAUSE) {
            cached.asked = Some(now);
            match self.ask().await {
                Ok(keys) => *cached = Cached { keys: Some(Arc::new(keys)), at: now, asked: Some(now), failed: None },
                Err(why) => {
                    tracing::warn!(issuer = self.url, why, "an issuer of tokens does not tell its keys");
                    cached.failed = Some(why);
                }
            }
        }
        let failed = || cached.failed.clone().unwrap_or_default();
        cached
            .keys
            .clone()
            .ok_or_else(|| format!("authenticator for issuer {:?} is not initialized: {}", self.url, failed()))
    }

    async fn ask(&self) -> Result<KeySet, String> {
        let body = self.get(&self.discovery).await?;
        let told: Discovery = serde_json::from_slice(&body).map_err(|e| format!("{}: {e}", self.discovery))?;
        if told.issuer != self.url {
            return Err(format!(
                "issuer did not match the issuer returned by provider, expected {:?} got {:?}",
                self.url, told.issuer
            ));
        }
        let body = self.get(&told.jwks_uri).await?;
        KeySet::parse(&body).map_err(|error| format!("{}: {error}", told.jwks_uri))
    }

    async fn get(&self, url: &str) -> Result<Vec<u8>, String> {
        let uri: http::Uri = url.parse().map_err(|error| format!("{url}: {error}"))?;
        if uri.scheme_str() != Some("https") {
            return Err(format!("{url}: expected https"));
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let request = Request::get(path).header(header::ACCEPT, "application/json").body(full(String::new()));
        let request = request.map_err(|error| format!("{url}: {error}"))?;
        let asked = Server::of_url(&uri, Arc::clone(&self.tls)).ask(request, TIMEOUT).await;
        match asked.map_err(|error| format!("Get {url:?}: {error}"))? {
            (status, body) if status.is_success() => Ok(body),
            (status, _) => Err(format!("{url}: {status}")),
        }
    }
}
