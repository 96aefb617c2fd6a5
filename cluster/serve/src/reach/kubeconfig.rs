//! A kubeconfig as the way to a server that is asked for a review: where it is, whom to trust, and what to show.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, StatusCode, header};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;
use serde_json::Value;

use super::Server;
use crate::http::respond::full;
use crate::tls::{self, Servers};
use crate::webhook;

/// Where reviews are sent.
#[derive(Clone)]
pub struct Destination {
    pub(super) server: Server,
    /// Path and query.
    path: String,
    url: String,
    authorization: Option<String>,
}

impl std::fmt::Debug for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Destination({})", self.url)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Config {
    #[serde(default)]
    current_context: String,
    #[serde(default)]
    contexts: Vec<Named<Context>>,
    #[serde(default)]
    clusters: Vec<Named<Cluster>>,
    #[serde(default)]
    users: Vec<Named<User>>,
}

#[derive(Deserialize)]
struct Named<T> {
    name: String,
    #[serde(alias = "context", alias = "cluster", alias = "user")]
    of: T,
}

#[derive(Clone, Deserialize)]
struct Context {
    cluster: String,
    #[serde(default)]
    user: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", default)]
#[derive(Default)]
struct Cluster {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    insecure_skip_tls_verify: bool,
    tls_server_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", default)]
#[derive(Default)]
struct User {
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
    username: Option<String>,
    password: Option<String>,
}

/// What stands in the document, or in a file that it names beside itself.
fn data(inline: Option<&String>, file: Option<&PathBuf>, folder: &Path) -> Result<Option<Vec<u8>>, String> {
    if let Some(text) = inline.filter(|text| !text.is_empty()) {
        return STANDARD.decode(text).map(Some).map_err(|error| format!("data in base64: {error}"));
    }
    let Some(path) = file.filter(|path| !path.as_os_str().is_empty()) else { return Ok(None) };
    let path = folder.join(path);
    std::fs::read(&path).map(Some).map_err(|error| format!("{}: {}", path.display(), tls::plain(error)))
}

fn pick<T>(all: Vec<Named<T>>, name: &str, what: &str) -> Result<T, String> {
    let found = all.into_iter().find(|one| one.name == name).map(|one| one.of);
    found.ok_or_else(|| format!("{what} {name:?} does not exist"))
}

impl Destination {
    /// `folder` is where files are that it names.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, String> {
        let config: Config = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
        let context = pick(config.contexts, &config.current_context, "context")?;
        let cluster = pick(config.clusters, &context.cluster, "cluster")?;
        let user = match context.user.as_str() {
            "" => User::default(),
            name => pick(config.users, name, "user")?,
        };
        let uri: http::Uri = cluster.server.parse().map_err(|error| format!("server {:?}: {error}", cluster.server))?;
        if uri.scheme_str() != Some("https") {
            return Err(format!("server {:?}, expected a URL that starts with \"https://\"", cluster.server));
        }
        let bundle = data(cluster.certificate_authority_data.as_ref(), cluster.certificate_authority.as_ref(), folder)?;
        let bundle = bundle.unwrap_or_default();
        let trusted = if cluster.insecure_skip_tls_verify { Servers::Any } else { Servers::Of(&bundle) };
        let certificate = data(user.client_certificate_data.as_ref(), user.client_certificate.as_ref(), folder)?;
        let key = data(user.client_key_data.as_ref(), user.client_key.as_ref(), folder)?;
        let shown = match (certificate, key) {
            (Some(certificate), Some(key)) => {
                let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&certificate).collect();
                let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| format!("client key: {error}"))?;
                Some((chain.map_err(|error| format!("client certificate: {error}"))?, key))
            }
            _ => None,
        };
        let config = tls::outside(trusted, shown).map_err(|error| error.to_string())?;
        let mut server = Server::of_url(&uri, Arc::new(config));
        if let Some(name) = cluster.tls_server_name.filter(|name| !name.is_empty()) {
            server.name = name;
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let authorization = authorization(&user, folder)?;
        Ok(Self { server, path, url: cluster.server, authorization })
    }

    /// Sends a review; the one that comes back.
    pub async fn ask(&self, review: &Value, timeout: Duration) -> Result<Value, String> {
        let (status, body) = self.post(review.to_string().into(), timeout).await?;
        webhook::read(status, &body)
    }

    /// Sends JSON; what comes back.
    pub async fn post(&self, json: Bytes, timeout: Duration) -> Result<(StatusCode, Vec<u8>), String> {
        let mut request = Request::post(&self.path)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, "kube-apiserver");
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let request = request.body(full(json)).map_err(|error| error.to_string())?;
        self.server.ask(request, timeout).await.map_err(|error| format!("Post {:?}: {error}", self.url))
    }
}

fn authorization(user: &User, folder: &Path) -> Result<Option<String>, String> {
    if let Some(token) = user.token.as_ref().filter(|token| !token.is_empty()) {
        return Ok(Some(format!("Bearer {token}")));
    }
    if let Some(token) = data(None, user.token_file.as_ref(), folder)? {
        return Ok(Some(format!("Bearer {}", String::from_utf8_lossy(&token).trim())));
    }
    let basic = user.username.as_ref().zip(user.password.as_ref());
    Ok(basic.map(|(name, password)| format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_tells_the_way() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("token"), "t0ken\n").unwrap();
        let text = |server: &str, user: &str| {
            format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n\
                 clusters: [{{name: k, cluster: {{server: '{server}', insecure-skip-tls-verify: true, tls-server-name: n}}}}]\n\
                 users: [{{name: u, user: {user}}}]\n"
            )
        };
        let parse = |text: &str| Destination::parse(text, dir.path());
        let found = parse(&text("https://h:8443/authorize?a=b", "{tokenFile: token}")).unwrap();
        assert_eq!((found.path.as_str(), found.server.name.as_str()), ("/authorize?a=b", "n"));
        assert_eq!(found.server.dial, [("h".to_owned(), 8443)]);
        assert_eq!(found.authorization.as_deref(), Some("Bearer t0ken"));
        let basic = parse(&text("https://h", "{username: u, password: p}")).unwrap();
        assert_eq!(basic.authorization.as_deref(), Some("Basic dTpw"));
        for (text, why) in [
            (text("http://h", "{}"), "server \"http://h\", expected a URL that starts with \"https://\""),
            (text("https://h", "{tokenFile: none}"), "none: no such file or directory"),
            (
                text("https://h", "{client-key-data: '*', client-certificate-data: '*'}"),
                "data in base64: Invalid symbol",
            ),
            ("current-context: d\n".to_owned(), "context \"d\" does not exist"),
        ] {
            let told = parse(&text).unwrap_err();
            assert!(told.contains(why), "{told}");
        }
    }
}
