//! Tokens of issuers outside: OpenID Connect, as a configuration says which issuers are believed and whom their tokens make.
//!
//! ```text
//! token ─▶ which issuer? ─▶ provider: keys ─▶ signed? ─▶ time, audience ─▶ mapping: claims ─▶ user
//! ```

pub mod config;
mod keys;
mod mapping;
mod provider;

use kedge_api::User;
use serde::Deserialize;
use serde_json::Value;

use self::config::Trusted;
use self::provider::Provider;
use super::jws::Jws;
use super::token::Audiences;
use crate::clock::Clock;
use crate::tls::TlsError;

/// By how much an issuer's clock may be ahead of ours.
const AHEAD: f64 = 300.0;

/// One issuer that is believed.
pub struct Issuer {
    trusted: Trusted,
    provider: Provider,
    clock: Clock,
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Issuer({})", self.trusted.url)
    }
}

#[derive(Deserialize)]
struct Times {
    aud: Audiences,
    exp: f64,
    nbf: Option<f64>,
}

impl Issuer {
    pub fn new(trusted: Trusted, clock: Clock) -> Result<Self, TlsError> {
        Ok(Self { provider: Provider::new(&trusted, clock.clone())?, trusted, clock })
    }

    pub fn issued(&self, url: &str) -> bool {
        self.trusted.url == url
    }

    /// Whose token it is; it says that it is from this issuer.
    pub async fn user(&self, token: &Jws<'_>) -> Result<User, String> {
        let alg = &token.header.alg;
        if !keys::is_known(alg) {
            return Err(format!("verify token: id token signed with unsupported algorithm, got {alg:?}"));
        }
        let claims: Value = serde_json::from_slice(&token.payload).map_err(|e| format!("verify token: {e}"))?;
        self.valid_now(&claims)?;
        let keys = self.provider.keys(None).await?;
        if !keys.signed(token) && !self.provider.keys(Some(&keys)).await?.signed(token) {
            return Err("verify token: failed to verify signature: failed to verify id token signature".to_owned());
        }
        self.trusted.mapping.user(&claims)
    }

    fn valid_now(&self, claims: &Value) -> Result<(), String> {
        let times = Times::deserialize(claims).map_err(|error| format!("verify token: {error}"))?;
        let audiences = times.aud.list();
        let ours = &self.trusted.audiences;
        if !audiences.iter().any(|audience| ours.contains(audience)) {
            return Err(format!("verify token: expected audience in {ours:?} got {audiences:?}"));
        }
        let now = self.clock.unix() as f64;
        if now > times.exp {
            return Err("verify token: token is expired".to_owned());
        }
        if times.nbf.is_some_and(|from| now + AHEAD < from) {
            return Err("verify token: current time before the nbf (not before) time".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
