//! Who is asking: a client certificate, a token of a ServiceAccount, of a file, of a node that joins, of an issuer outside or of one whom a
//! server outside knows, whom a trusted proxy names, or nobody.
//!
//! Never says what they may do. Nobody (`system:anonymous`) gets as far as roles let it: to health and version.

pub mod bootstrap;
pub mod fixed;
pub mod front_proxy;
mod headers;
mod impersonate;
pub mod issuer;
mod jws;
mod jwt;
mod methods;
pub mod token;
mod webhook;

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use kedge_api::resource::known;
use kedge_api::{GroupResource, Informer, Key, Reason, Status, User};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use sha2::{Digest, Sha256};

use crate::clock::Clock;
use crate::document::{Document, Given, Mistakes, Watched};
use crate::pki::{Pki, Seen, Signer};
use crate::tls::{self, TlsError};
use bootstrap::BootstrapError;
use fixed::FixedTokens;
pub use impersonate::impersonated;
use jws::Jws;
use methods::Methods;
use token::{Bound, Claims, Endless, ISSUER, Ref, Tokens};
use webhook::TokenWebhook;

pub const AUTHENTICATED: &str = "system:authenticated";
pub const ANONYMOUS: &str = "system:anonymous";
pub const UNAUTHENTICATED: &str = "system:unauthenticated";

/// Why a token is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error(transparent)]
    Token(#[from] token::TokenError),
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    #[error("{0}")]
    Bond(String),
    #[error("oidc: {0}")]
    Issuer(String),
    #[error("{0}")]
    Webhook(String),
}

impl Refused {
    /// As a TokenReview words it.
    pub fn for_review(&self, audiences: &[String]) -> String {
        match self {
            Self::Token(token::TokenError::Audience(named)) => format!(
                "[invalid bearer token, token audiences {named:?} is invalid for the target audiences {audiences:?}]"
            ),
            Self::Token(_) | Self::Bootstrap(_) => "invalid bearer token".to_owned(),
            Self::Bond(_) | Self::Issuer(_) | Self::Webhook(_) => format!("[invalid bearer token, {self}]"),
        }
    }
}

/// What the other side of a connection showed in the TLS handshake; checked once, then only for its time.
#[derive(Clone, Debug)]
pub enum Peer {
    None,
    /// A certificate of our authority.
    Known {
        user: User,
        not_before: u64,
        not_after: u64,
    },
    /// A certificate of a proxy that says in headers who its client is.
    Proxy {
        not_before: u64,
        not_after: u64,
    },
    /// A certificate that is not valid here.
    Unknown {
        why: String,
    },
}

/// Whose certificates are believed.
pub struct Trust {
    pub clients: Arc<dyn ClientCertVerifier>,
    pub proxies: Arc<dyn ClientCertVerifier>,
}

impl Trust {
    pub fn of(pki: &Pki) -> Result<Self, TlsError> {
        let verifier = |signer| tls::client_verifier(pki.authority(signer));
        Ok(Self { clients: verifier(Signer::Client)?, proxies: verifier(Signer::FrontProxy)? })
    }
}

/// Tells who sends a request.
pub struct Authenticator {
    trust: Trust,
    tokens: Arc<Tokens>,
    fixed: FixedTokens,
    informer: Arc<dyn Informer>,
    clock: Clock,
    methods: Watched<Methods>,
    webhook: Option<Watched<TokenWebhook>>,
}

impl Authenticator {
    pub fn new(
        trust: Trust,
        tokens: Arc<Tokens>,
        fixed: FixedTokens,
        informer: Arc<dyn Informer>,
        clock: Clock,
    ) -> Self {
        Self { trust, tokens, fixed, informer, clock, methods: Watched::fixed(Methods::default()), webhook: None }
    }

    /// With what documents say: whose tokens are believed, and the way to a server that knows further ones.
    pub fn with(self, methods: Option<Given>, webhook: Option<Given>) -> Result<Self, Mistakes> {
        let clock = self.clock.clone();
        let read = move |document: &Document| TokenWebhook::read(document, &clock);
        let webhook = webhook.map(|given| Watched::open(given, read)).transpose()?;
        Ok(Self { methods: methods::methods(methods, self.clock.clone())?, webhook, ..self })
    }

    /// Goes by the documents as they change. Never ends.
    pub async fn follow(&self) {
        let webhook = async {
            match &self.webhook {
                Some(webhook) => webhook.follow().await,
                None => std::future::pending().await,
            }
        };
        tokio::join!(self.methods.follow(), webhook);
    }

    /// Checks the certificates of a handshake, the peer's own first.
    pub fn peer(&self, chain: Option<&[CertificateDer<'_>]>) -> Peer {
        let Some((own, rest)) = chain.and_then(<[_]>::split_first) else { return Peer::None };
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(self.clock.unix()));
        let proxy = self.trust.proxies.verify_client_cert(own, rest, now).is_ok();
        if let Err(why) = self.trust.clients.verify_client_cert(own, rest, now)
            && !proxy
        {
            return Peer::Unknown { why: why.to_string() };
        }
        match Seen::of(own) {
            Ok(seen) if proxy && front_proxy::ALLOWED.contains(&seen.common_name.as_str()) => {
                Peer::Proxy { not_before: seen.not_before, not_after: seen.not_after }
            }
            Ok(_) if proxy => Peer::Unknown { why: "it is none of the proxies that are believed".to_owned() },
            Ok(seen) if seen.common_name.is_empty() => Peer::Unknown { why: "it has no common name".to_owned() },
            Ok(seen) => {
                let id =
                    Sha256::digest(own).iter().fold("X509SHA256=".to_owned(), |text, byte| format!("{text}{byte:02x}"));
                let (not_before, not_after) = (seen.not_before, seen.not_after);
                let extra = BTreeMap::from([("authentication.kubernetes.io/credential-id".to_owned(), vec![id])]);
                Peer::Known { user: user(&seen.common_name, "", seen.organizations, extra), not_before, not_after }
            }
            Err(why) => Peer::Unknown { why: why.to_string() },
        }
    }

    /// The user of one request for `path`. Who shows nothing is nobody; who shows something must be right about it.
    pub async fn authenticate(&self, peer: &Peer, headers: &HeaderMap, path: &str) -> Result<User, Status> {
        let now = self.clock.unix();
        let why = match peer {
            Peer::Known { user, not_before, not_after } if (*not_before..=*not_after).contains(&now) => {
                return Ok(user.clone());
            }
            Peer::Proxy { not_before, not_after } if (*not_before..=*not_after).contains(&now) => {
                match front_proxy::user(headers) {
                    Some(user) => return Ok(user),
                    None => "a proxy named nobody".to_owned(),
                }
            }
            Peer::Known { .. } | Peer::Proxy { .. } => "its certificate is not valid now".to_owned(),
            Peer::Unknown { why } => why.clone(),
            Peer::None => String::new(),
        };
        if let Some(token) = bearer(headers) {
            return match self.token(token, &[ISSUER]).await {
                Ok((user, _)) => Ok(user),
                Err(why) => {
                    tracing::debug!(%why, "refused a token");
                    Err(unauthorized())
                }
            };
        }
        if !why.is_empty() {
            tracing::debug!(why, "refused a client certificate");
            return Err(unauthorized());
        }
        match self.methods.current().anonymous.allows(path) {
            true => Ok(User::new(ANONYMOUS, &[UNAUTHENTICATED])),
            false => Err(unauthorized()),
        }
    }

    /// The user of a token that is valid for one of `audiences`, and the audiences it is for.
    pub async fn token(&self, token: &str, audiences: &[&str]) -> Result<(User, Vec<String>), Refused> {
        // Tokens that name no audience are for this server.
        if audiences.contains(&ISSUER) {
            let ours = |user: User| (user, vec![ISSUER.to_owned()]);
            if let Some(user) = self.fixed.user(token) {
                return Ok(ours(user.clone()));
            }
            if let Some((id, secret)) = bootstrap::parts(token) {
                return Ok(bootstrap::user(id, secret, &self.informer.snapshot(), self.clock.now()).map(ours)?);
            }
            if let Some(claims) = self.tokens.endless(token) {
                return self.holder(&claims, token).map(ours).map_err(Refused::Bond);
            }
            let methods = self.methods.current();
            if let Some((issuer, token)) = Jws::parse(token).and_then(|token| Some((methods.issuer(&token)?, token))) {
                return issuer.user(&token).await.map(ours).map_err(Refused::Issuer);
            }
        }
        let claims = match self.tokens.verify(token, audiences) {
            Ok(claims) => claims,
            Err(why) => return self.foreign(token, audiences, why).await,
        };
        self.exists(&claims.bound).map_err(Refused::Bond)?;
        let named = claims.aud.list();
        Ok((service_account(&claims), named))
    }

    /// The user of a token that is not ours, for `why`; tokens that name no audience are for this server.
    async fn foreign(
        &self,
        token: &str,
        audiences: &[&str],
        why: token::TokenError,
    ) -> Result<(User, Vec<String>), Refused> {
        let Some(webhook) = self.webhook.as_ref().filter(|_| audiences.contains(&ISSUER)) else {
            return Err(why.into());
        };
        match webhook.current().user(token).await {
            Ok(Some(user)) => Ok((user, vec![ISSUER.to_owned()])),
            Ok(None) => Err(why.into()),
            Err(why) => Err(Refused::Webhook(why)),
        }
    }

    /// The account of a token that stands in a secret: both must still be there, the secret with that very token.
    fn holder(&self, claims: &Endless, token: &str) -> Result<User, String> {
        #[derive(serde::Deserialize)]
        struct Secret {
            #[serde(default)]
            data: BTreeMap<String, String>,
        }
        let Endless { namespace, secret, account, uid, sub, .. } = claims;
        let snapshot = self.informer.snapshot();
        let held = snapshot.get(&Key::new(known::SECRETS, namespace, secret)).filter(|secret| !secret.is_deleting());
        let held: Option<Secret> = held.and_then(|secret| secret.decode().ok());
        let same = |text: &String| fixed::is_same(text, &base64::engine::general_purpose::STANDARD.encode(token));
        if !held.is_some_and(|held| held.data.get("token").is_some_and(same)) {
            return Err("service account token has been invalidated".to_owned());
        }
        let bond = Ref { name: account.clone(), uid: uid.clone() };
        let bound = Bound {
            namespace: namespace.clone(),
            node: None,
            pod: None,
            secret: None,
            serviceaccount: bond,
            warnafter: None,
        };
        self.exists(&bound)?;
        Ok(user(sub, uid, service_account_groups(namespace), BTreeMap::new()))
    }

    /// Everything a token is bound to must still be the same object.
    fn exists(&self, bound: &Bound) -> Result<(), String> {
        let snapshot = self.informer.snapshot();
        let bonds: [(GroupResource, &str, Option<&Ref>); 4] = [
            (known::SERVICE_ACCOUNTS, &bound.namespace, Some(&bound.serviceaccount)),
            (known::PODS, &bound.namespace, bound.pod.as_ref()),
            (known::SECRETS, &bound.namespace, bound.secret.as_ref()),
            // A pod's token names its node for information only.
            (known::NODES, "", bound.node.as_ref().filter(|_| bound.pod.is_none())),
        ];
        for (resource, namespace, bond) in bonds {
            let Some(bond) = bond else { continue };
            let key = Key::new(resource, namespace, &bond.name);
            match snapshot.get(&key) {
                Some(object) if object.uid() == bond.uid => {}
                Some(_) => return Err(format!("{key} is not the one it was issued for")),
                None => return Err(format!("{key} is gone")),
            }
        }
        Ok(())
    }
}

fn service_account(claims: &Claims) -> User {
    let bound = &claims.bound;
    let mut extra = BTreeMap::new();
    let mut note = |name: &str, value: &str| {
        if !value.is_empty() {
            extra.insert(format!("authentication.kubernetes.io/{name}"), vec![value.to_owned()]);
        }
    };
    if !claims.jti.is_empty() {
        note("credential-id", &format!("JTI={}", claims.jti));
    }
    for (kind, bond) in [("pod", &bound.pod), ("node", &bound.node)] {
        if let Some(bond) = bond {
            note(&format!("{kind}-name"), &bond.name);
            note(&format!("{kind}-uid"), &bond.uid);
        }
    }
    let groups = service_account_groups(&bound.namespace);
    user(&claims.sub, &bound.serviceaccount.uid, groups, extra)
}

/// The groups that every ServiceAccount of a namespace is in.
pub fn service_account_groups(namespace: &str) -> Vec<String> {
    vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")]
}

fn user(name: &str, uid: &str, mut groups: Vec<String>, extra: BTreeMap<String, Vec<String>>) -> User {
    if !groups.iter().any(|g| g == AUTHENTICATED) {
        groups.push(AUTHENTICATED.to_owned());
    }
    User { name: name.into(), uid: uid.into(), groups: groups.into(), extra: Arc::new(extra) }
}

/// The token of `Authorization: Bearer TOKEN`, or of a WebSocket's subprotocol, where browsers can set no header.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    const PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";
    if let Some(value) = headers.get(AUTHORIZATION) {
        // One that is no text is a token all the same, and nobody's.
        let (scheme, token) = value.to_str().unwrap_or("bearer ?").trim().split_once(' ')?;
        let token = token.trim();
        return (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token);
    }
    let protocols = headers.get_all("sec-websocket-protocol").iter().filter_map(|v| v.to_str().ok());
    // Refused rather than ignored: the client meant to show who it is.
    protocols.flat_map(|v| v.split(',')).map(str::trim).find(|p| p.starts_with(PROTOCOL))
}

pub fn unauthorized() -> Status {
    Status::new(Reason::Unauthorized, "Unauthorized")
}

#[cfg(test)]
mod tests;
