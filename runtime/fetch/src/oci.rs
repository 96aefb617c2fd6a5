//! A file as the one layer of an OCI artifact (distribution specification 1.1): its manifest is found by tag or digest, its blob read.
//!
//! A registry that wants a token is asked for one where it says, without a name (as for public repositories).

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::FetchError;
use crate::client::{Answer, Client, answer, collect, is_good, refused};
use crate::url::{Url, UrlError};

/// The media type of an upgrade bundle's layer.
pub const BUNDLE: &str = "application/vnd.kedge.bundle.v1";
const MANIFESTS: &str =
    "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";
/// Of a manifest: what registries take at most.
const MOST_MANIFEST: usize = 4 << 20;
const MOST_TOKEN: usize = 64 << 10;

/// `oci://HOST[:PORT]/REPOSITORY[:TAG|@sha256:…]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Where the registry's API begins.
    registry: String,
    repository: String,
    /// A tag or a digest.
    version: String,
}

impl Reference {
    /// `None` where the address is none of a registry.
    pub fn parse(text: &str) -> Result<Option<Self>, UrlError> {
        let (scheme, rest) = match (text.strip_prefix("oci://"), text.strip_prefix("oci+http://")) {
            (Some(rest), _) => ("https", rest),
            (None, Some(rest)) => ("http", rest),
            (None, None) => return Ok(None),
        };
        let (host, name) = rest.split_once('/').unwrap_or((rest, ""));
        let (repository, version) = match name.split_once('@') {
            // A tag beside a digest says nothing more.
            Some((name, digest)) => (name.rsplit_once(':').map_or(name, |(name, _)| name), digest),
            None => name.rsplit_once(':').unwrap_or((name, "latest")),
        };
        // So that a mistake is told with the address' own words.
        Url::parse(&format!("{scheme}://{host}/v2/{repository}/manifests/{version}"))?;
        let registry = format!("{scheme}://{host}");
        Ok(Some(Self { registry, repository: repository.to_owned(), version: version.to_owned() }))
    }

    fn url(&self, kind: &str, version: &str) -> Result<Url, UrlError> {
        Url::parse(&format!("{}/v2/{}/{kind}/{version}", self.registry, self.repository))
    }
}

#[derive(Debug, Deserialize)]
struct Manifest {
    #[serde(default)]
    layers: Vec<Layer>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    media_type: String,
    digest: String,
}

/// A blob, and what the registry lets it be read with.
pub struct Blob {
    url: Url,
    authorization: Option<HeaderValue>,
}

/// The artifact's layer.
pub async fn find(client: &mut Client, reference: &Reference) -> Result<Blob, FetchError> {
    let url = reference.url("manifests", &reference.version)?;
    let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(MANIFESTS))]);
    let mut blob = Blob { url, authorization: None };
    let answered = blob.get(client, headers).await?;
    if !is_good(&answered.response) {
        return Err(refused(answered).await);
    }
    let bytes = collect(answered, MOST_MANIFEST).await?;
    if let Some(wanted) = reference.version.strip_prefix("sha256:") {
        let found: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        if found != wanted {
            return Err(answer(&blob.url, &format!("its manifest's digest is sha256:{found}")));
        }
    }
    let manifest: Manifest = serde_json::from_slice(&bytes)
        .map_err(|error| answer(&blob.url, &format!("its manifest cannot be read: {error}")))?;
    let layer = manifest.layers.iter().find(|layer| layer.media_type == BUNDLE);
    let layer = layer.ok_or_else(|| answer(&blob.url, &format!("it has no layer of the type {BUNDLE}")))?;
    blob.url = reference.url("blobs", &layer.digest)?;
    Ok(blob)
}

impl Blob {
    /// Asks; with a token where the registry wants one, and with a new one where the old one is over.
    pub(crate) async fn get(&mut self, client: &mut Client, mut headers: HeaderMap) -> Result<Answer, FetchError> {
        if let Some(authorization) = &self.authorization {
            headers.insert(header::AUTHORIZATION, authorization.clone());
        }
        let answered = client.get(&self.url, &headers).await?;
        if answered.response.status() != StatusCode::UNAUTHORIZED {
            return Ok(answered);
        }
        let wanted = answered.response.headers().get(header::WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
        let Some(challenge) = wanted.and_then(Challenge::parse) else { return Ok(answered) };
        let authorization = token(client, &challenge).await?;
        headers.insert(header::AUTHORIZATION, authorization.clone());
        self.authorization = Some(authorization);
        client.get(&self.url, &headers).await
    }
}

/// `Bearer realm="…",service="…",scope="…"` (the distribution project's token specification).
#[derive(Debug, PartialEq, Eq)]
struct Challenge {
    realm: String,
    query: String,
}

impl Challenge {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, mut rest) = text.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut query) = (None, String::new());
        while let Some((name, after)) = rest.split_once("=\"") {
            let (value, after) = after.split_once('"')?;
            let name = name.trim_matches([',', ' ']);
            match name {
                "realm" => realm = Some(value.to_owned()),
                "service" | "scope" => {
                    let separator = if query.is_empty() { '?' } else { '&' };
                    query.push_str(&format!("{separator}{name}={}", escape(value)));
                }
                _ => {}
            }
            rest = after;
        }
        Some(Self { realm: realm?, query })
    }
}

/// For a query's value (RFC 3986, 2.3).
fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b':' | b',' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

async fn token(client: &mut Client, challenge: &Challenge) -> Result<HeaderValue, FetchError> {
    let url = Url::parse(&format!("{}{}", challenge.realm, challenge.query))?;
    let answered = client.get(&url, &HeaderMap::new()).await?;
    if !is_good(&answered.response) {
        return Err(refused(answered).await);
    }
    let token: Option<Token> = serde_json::from_slice(&collect(answered, MOST_TOKEN).await?).ok();
    let token = token.and_then(|token| token.token.or(token.access_token));
    let value = token.and_then(|token| HeaderValue::from_str(&format!("Bearer {token}")).ok());
    value.ok_or_else(|| answer(&url, "it gives no token"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_as_registries_write_them() {
        let read = |text: &str| {
            let reference = Reference::parse(text).unwrap().unwrap();
            reference.url("manifests", &reference.version).unwrap().to_string()
        };
        assert_eq!(read("oci://r.example/fleet/kedge:v2"), "https://r.example/v2/fleet/kedge/manifests/v2");
        assert_eq!(read("oci+http://10.0.2.2:5000/kedge"), "http://10.0.2.2:5000/v2/kedge/manifests/latest");
        let digest = format!("sha256:{}", "0".repeat(64));
        assert_eq!(read(&format!("oci://r/k:v2@{digest}")), format!("https://r/v2/k/manifests/{digest}"));
        assert_eq!(Reference::parse("https://r/k").unwrap(), None);
        assert!(Reference::parse("oci:// r/k").is_err());
    }

    #[test]
    fn a_challenge_says_where_tokens_are() {
        let text = r#"Bearer realm="https://auth.example/token",service="r.example",scope="repository:a/b:pull""#;
        let challenge = Challenge::parse(text).unwrap();
        assert_eq!(challenge.realm, "https://auth.example/token");
        assert_eq!(challenge.query, "?service=r.example&scope=repository:a/b:pull");
        assert_eq!(Challenge::parse("Basic realm=\"x\""), None);
        assert_eq!(Challenge::parse("Bearer service=\"x\""), None);
        assert_eq!(Challenge::parse("Bearer realm=\"x"), None);
    }
}
