//! ServiceAccount tokens: JSON Web Tokens signed with ES256 (RFC 7515, RFC 7519), in the form Kubernetes gives them.
//!
//! Whether what a token is bound to still exists is for [`super`] to say; here is only what the token itself proves.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::jws::Jws;
use crate::clock::Clock;

/// Who signs tokens, and the audience that means this API server.
pub const ISSUER: &str = "https://kubernetes.default.svc";
/// Who signs tokens that stand in secrets.
const ENDLESS_ISSUER: &str = "kubernetes/serviceaccount";
/// By how much clocks may differ.
const LEEWAY: u64 = 60;
/// The lifetime that kubelets ask for, and what they get: clients that read the token once go on working.
const PROJECTED_SECONDS: u64 = 3607;
const EXTENDED_SECONDS: u64 = 365 * 86_400;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TokenError {
    #[error("not a token of three parts")]
    Form,
    #[error("not signed by this cluster's key")]
    Signature,
    #[error("the claims cannot be read: {0}")]
    Claims(String),
    #[error("issued by {0:?}")]
    Issuer(String),
    #[error("for audiences {0:?}")]
    Audience(Vec<String>),
    #[error("expired")]
    Expired,
    #[error("not valid yet")]
    Early,
    #[error("the signing key failed")]
    Sign,
}

/// Name and uid of an object that a token is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ref {
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    pub aud: Audiences,
    pub exp: u64,
    #[serde(default)]
    pub iat: u64,
    pub iss: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub jti: String,
    #[serde(rename = "kubernetes.io")]
    pub bound: Bound,
    #[serde(default)]
    pub nbf: u64,
    pub sub: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    pub namespace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Ref>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Ref>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Ref>,
    pub serviceaccount: Ref,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warnafter: Option<u64>,
}

/// One audience stands without a list in some issuers' tokens (RFC 7519, 4.1.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Audiences {
    Many(Vec<String>),
    One(String),
}

impl Audiences {
    pub fn list(&self) -> Vec<String> {
        match self {
            Self::Many(list) => list.clone(),
            Self::One(one) => vec![one.clone()],
        }
    }
}

/// What a token says that stands in a secret and lives as long as that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endless {
    iss: String,
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    pub namespace: String,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    pub secret: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    pub account: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    pub uid: String,
    pub sub: String,
}

/// Signs tokens and knows its own again.
pub struct Tokens {
    key: EcdsaKeyPair,
    key_id: String,
    clock: Clock,
    random: SystemRandom,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokens({})", self.key_id)
    }
}

impl Tokens {
    pub fn new(key: &PrivatePkcs8KeyDer<'_>, clock: Clock) -> Result<Self, TokenError> {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.secret_pkcs8_der(), &random)
            .map_err(|_| TokenError::Sign)?;
        let key_id = URL_SAFE_NO_PAD.encode(Sha256::digest(key.public_key()));
        Ok(Self { key, key_id, clock, random })
    }

    /// A token for `bound`, valid for about `seconds` from now.
    pub fn issue(&self, bound: Bound, audiences: &[String], seconds: u64) -> Result<String, TokenError> {
        let now = self.clock.unix();
        let audiences = if audiences.is_empty() { vec![ISSUER.to_owned()] } else { audiences.to_vec() };
        let projected = seconds == PROJECTED_SECONDS && bound.pod.is_some() && audiences == [ISSUER];
        let mut bound = bound;
        bound.warnafter = projected.then_some(now.saturating_add(seconds));
        let life = if projected { EXTENDED_SECONDS } else { seconds };
        let claims = Claims {
            aud: Audiences::Many(audiences),
            exp: now.saturating_add(life),
            iat: now,
            iss: ISSUER.to_owned(),
            jti: uuid::Uuid::new_v4().to_string(),
            nbf: now,
            sub: format!("system:serviceaccount:{}:{}", bound.namespace, bound.serviceaccount.name),
            bound,
        };
        self.sign(&claims)
    }

    /// A token without an end, for as long as account and secret are there.
    pub fn issue_endless(&self, namespace: &str, account: &str, uid: &str, secret: &str) -> Result<String, TokenError> {
        self.sign(&Endless {
            iss: ENDLESS_ISSUER.to_owned(),
            namespace: namespace.to_owned(),
            secret: secret.to_owned(),
            account: account.to_owned(),
            uid: uid.to_owned(),
            sub: format!("system:serviceaccount:{namespace}:{account}"),
        })
    }

    /// The claims of such a token, if it is one of ours.
    pub fn endless(&self, token: &str) -> Option<Endless> {
        let payload = self.proven(&Jws::parse(token)?).ok()?;
        serde_json::from_slice(&payload).ok().filter(|claims: &Endless| claims.iss == ENDLESS_ISSUER)
    }

    fn sign(&self, claims: &impl Serialize) -> Result<String, TokenError> {
        let header = serde_json::json!({"alg": "ES256", "kid": self.key_id}).to_string();
        let claims = serde_json::to_vec(claims).map_err(|e| TokenError::Claims(e.to_string()))?;
        let mut token = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = self.key.sign(&self.random, token.as_bytes()).map_err(|_| TokenError::Sign)?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }

    /// The claims of a token that is ours, is meant for one of `audiences`, and is valid now.
    pub fn verify(&self, token: &str, audiences: &[&str]) -> Result<Claims, TokenError> {
        let payload = self.proven(&Jws::parse(token).ok_or(TokenError::Form)?)?;
        let claims: Claims = serde_json::from_slice(&payload).map_err(|e| TokenError::Claims(e.to_string()))?;
        if claims.iss != ISSUER {
            return Err(TokenError::Issuer(claims.iss));
        }
        let now = self.clock.unix();
        if now > claims.exp.saturating_add(LEEWAY) {
            return Err(TokenError::Expired);
        }
        if now.saturating_add(LEEWAY) < claims.nbf {
            return Err(TokenError::Early);
        }
        let named = claims.aud.list();
        if !named.iter().any(|aud| audiences.contains(&aud.as_str())) {
            return Err(TokenError::Audience(named));
        }
        Ok(claims)
    }

    /// What a token says, if this key signed it.
    fn proven(&self, token: &Jws<'_>) -> Result<Vec<u8>, TokenError> {
        let Jws { header, signed, payload, signature } = token;
        if header.alg != "ES256" || header.kid.as_ref().is_some_and(|kid| *kid != self.key_id) {
            return Err(TokenError::Signature);
        }
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key());
        public.verify(signed.as_bytes(), signature).map_err(|_| TokenError::Signature)?;
        Ok(payload.clone())
    }

    /// The public key as a JSON Web Key Set (RFC 7517), for those who check tokens themselves.
    pub fn key_set(&self) -> serde_json::Value {
        let point = self.key.public_key().as_ref();
        // An uncompressed point: 4, then x and y of 32 bytes each.
        let (x, y) = point.get(1..).unwrap_or_default().split_at_checked(32).unwrap_or_default();
        let text = |bytes| URL_SAFE_NO_PAD.encode(bytes);
        serde_json::json!({"keys": [
            {"use": "sig", "kty": "EC", "kid": self.key_id, "crv": "P-256", "alg": "ES256", "x": text(x), "y": text(y)}
        ]})
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;

    const START: i64 = 1_790_000_000;

    fn tokens() -> (Tokens, Arc<AtomicI64>) {
        let now = Arc::new(AtomicI64::new(START));
        let shared = Arc::clone(&now);
        let clock = Clock::new(move || Timestamp::from_second(shared.load(Ordering::Relaxed)).unwrap());
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        (Tokens::new(&PrivatePkcs8KeyDer::from(key.as_ref().to_vec()), clock).unwrap(), now)
    }

    fn bound(pod: bool) -> Bound {
        let of = |name: &str| Ref { name: name.into(), uid: format!("{name}-uid") };
        Bound {
            namespace: "ns".into(),
            node: None,
            pod: pod.then(|| of("web")),
            secret: None,
            serviceaccount: of("sa"),
            warnafter: None,
        }
    }

    #[test]
    fn a_token_proves_what_it_was_issued_for() {
        let (tokens, now) = tokens();
        let token = tokens.issue(bound(true), &[], 600).unwrap();
        let claims = tokens.verify(&token, &[ISSUER]).unwrap();
        assert_eq!((claims.sub.as_str(), &claims.bound), ("system:serviceaccount:ns:sa", &bound(true)));
        assert_eq!(claims.exp, START as u64 + 600);
        now.store(START + 600 + 59, Ordering::Relaxed);
        assert!(tokens.verify(&token, &[ISSUER]).is_ok());
        now.store(START + 600 + 61, Ordering::Relaxed);
        assert_eq!(tokens.verify(&token, &[ISSUER]), Err(TokenError::Expired));
        now.store(START - 61, Ordering::Relaxed);
        assert_eq!(tokens.verify(&token, &[ISSUER]), Err(TokenError::Early));
    }

    #[test]
    fn audience_key_and_algorithm_are_checked() {
        let (tokens, _) = tokens();
        let vault = tokens.issue(bound(false), &["vault".into()], 600).unwrap();
        assert_eq!(tokens.verify(&vault, &[ISSUER]), Err(TokenError::Audience(vec!["vault".into()])));
        assert!(tokens.verify(&vault, &["vault"]).is_ok());
        let (others, _) = super::tests::tokens();
        assert_eq!(others.verify(&vault, &["vault"]), Err(TokenError::Signature));
        let (_, rest) = vault.split_once('.').unwrap();
        for header in [r#"{"alg":"none"}"#, r#"{"alg":"HS256"}"#] {
            let forged = format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header));
            assert_eq!(tokens.verify(&forged, &["vault"]), Err(TokenError::Signature));
        }
    }

    #[test]
    fn a_projected_token_lives_on_but_warns() {
        let (tokens, _) = tokens();
        let claims = tokens.verify(&tokens.issue(bound(true), &[], 3607).unwrap(), &[ISSUER]).unwrap();
        assert_eq!(claims.exp, START as u64 + EXTENDED_SECONDS);
        assert_eq!(claims.bound.warnafter, Some(START as u64 + 3607));
    }

    proptest! {
        #[test]
        fn no_text_is_taken_for_a_token(text in ".{0,200}", flip in 0usize..400, with in any::<char>()) {
            let (tokens, _) = tokens();
            prop_assert!(tokens.verify(&text, &[ISSUER]).is_err());
            let good = tokens.issue(bound(true), &[], 600).unwrap();
            let mut bad: Vec<char> = good.chars().collect();
            let at = flip % bad.len();
            let same = bad[at] == with;
            bad[at] = with;
            let bad: String = bad.into_iter().collect();
            // The last character of base64 holds unused bits that decoders must refuse.
            prop_assert!(same || tokens.verify(&bad, &[ISSUER]).is_err());
        }
    }
}
