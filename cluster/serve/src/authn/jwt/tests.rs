//! Tokens of an issuer that serves its keys over TLS on loopback.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use jiff::Timestamp;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RsaEncoding, RsaKeyPair,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::json;

use super::config::Authentication;
use super::*;
use crate::document::Document;
use crate::fixture::outside;
use crate::pki::{Names, Pki, Signer};

const START: i64 = 1_790_000_000;
/// Made for these tests alone.
const RSA: &[u8] = include_bytes!("rsa.pem");

enum Key {
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
    Ec(EcdsaKeyPair, &'static str),
}

impl Key {
    fn rsa(padding: &'static dyn RsaEncoding) -> Self {
        let der = PrivatePkcs8KeyDer::from_pem_slice(RSA).unwrap();
        Self::Rsa(RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).unwrap(), padding)
    }

    fn ec(algorithm: &'static EcdsaSigningAlgorithm, curve: &'static str) -> Self {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        Self::Ec(EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap(), curve)
    }

    fn public(&self, id: &str) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Self::Rsa(key, _) => {
                let PublicKeyComponents::<Vec<u8>> { n, e } = key.public().into();
                json!({"kty": "RSA", "kid": id, "use": "sig", "n": text(&n), "e": text(&e)})
            }
            Self::Ec(key, curve) => {
                let (x, y) = key.public_key().as_ref()[1..].split_at(key.public_key().as_ref().len() / 2);
                json!({"kty": "EC", "kid": id, "crv": curve, "x": text(x), "y": text(y)})
            }
        }
    }

    fn sign(&self, algorithm: &str, id: &str, claims: &Value) -> String {
        let header = json!({"alg": algorithm, "kid": id}).to_string();
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims.to_string()));
        let random = SystemRandom::new();
        let signature = match self {
            Self::Rsa(key, padding) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(*padding, &random, signed.as_bytes(), &mut signature).unwrap();
                signature
            }
            Self::Ec(key, _) => key.sign(&random, signed.as_bytes()).unwrap().as_ref().to_vec(),
        };
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

struct World {
    _dir: tempfile::TempDir,
    url: String,
    issuer: Issuer,
    keys: Arc<Mutex<Value>>,
    asked: Arc<AtomicUsize>,
    now: Arc<AtomicI64>,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let now = Arc::new(AtomicI64::new(START));
        let shared = Arc::clone(&now);
        let clock = Clock::new(move || Timestamp::from_second(shared.load(Ordering::Relaxed)).unwrap());
        let pki = Pki::open(dir.path(), Names::new("n1", vec![]), Clock::system()).unwrap();
        let (keys, asked) = (Arc::new(Mutex::new(json!([]))), Arc::new(AtomicUsize::new(0)));
        let (own_keys, own_asked) = (Arc::clone(&keys), Arc::clone(&asked));
        let port = outside(&pki, move |request| {
            let (keys, asked) = (Arc::clone(&own_keys), Arc::clone(&own_asked));
            async move {
                let host = request.headers()["host"].to_str().unwrap();
                let body = match request.uri().path() {
                    "/tenant/.well-known/openid-configuration" => {
                        json!({"issuer": format!("https://{host}/tenant"), "jwks_uri": format!("https://{host}/keys?v=1")})
                    }
                    "/keys" => {
                        asked.fetch_add(1, Ordering::Relaxed);
                        json!({"keys": *keys.lock().unwrap()})
                    }
                    path => panic!("asked for {path}"),
                };
                http::Response::new(Bytes::from(body.to_string()))
            }
        })
        .await;
        let url = format!("https://127.0.0.1:{port}/tenant");
        let config = json!({
            "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration",
            "jwt": [{
                "issuer": {
                    "url": url, "audiences": ["kedge", "other"], "audienceMatchPolicy": "MatchAny",
                    "certificateAuthority": pki.authority_pem(Signer::Server),
                },
                "claimMappings": {"username": {"claim": "sub", "prefix": "o:"}},
            }],
        });
        let document = Document { name: "f".into(), text: config.to_string() };
        let trusted = Authentication::parse(&document).unwrap().issuers.remove(0);
        let issuer = Issuer::new(trusted, clock).unwrap();
        Self { _dir: dir, url, issuer, keys, asked, now }
    }

    fn claims(&self, change: &[(&str, Value)]) -> Value {
        let mut claims = json!({"iss": self.url, "aud": "kedge", "sub": "jane", "exp": START + 600});
        for (name, value) in change {
            claims[name] = value.clone();
        }
        claims
    }

    async fn ask(&self, token: &str) -> Result<String, String> {
        let token = Jws::parse(token).unwrap();
        assert!(self.issuer.issued(&token.issuer().unwrap()));
        self.issuer.user(&token).await.map(|user| user.name.to_string())
    }
}

#[tokio::test]
async fn a_token_of_each_algorithm_makes_a_user() {
    let world = World::new().await;
    let p256 = || Key::ec(&ECDSA_P256_SHA256_FIXED_SIGNING, "P-256");
    let all = [
        ("RS256", Key::rsa(&RSA_PKCS1_SHA256)),
        ("RS512", Key::rsa(&RSA_PKCS1_SHA512)),
        ("PS256", Key::rsa(&RSA_PSS_SHA256)),
        ("PS384", Key::rsa(&RSA_PSS_SHA384)),
        ("ES256", p256()),
        ("ES384", Key::ec(&ECDSA_P384_SHA384_FIXED_SIGNING, "P-384")),
    ];
    *world.keys.lock().unwrap() = all.iter().map(|(name, key)| key.public(name)).collect();
    for (name, key) in &all {
        assert_eq!(world.ask(&key.sign(name, name, &world.claims(&[]))).await.as_deref(), Ok("o:jane"), "{name}");
    }
    // Keys stay while they fit.
    assert_eq!(world.asked.load(Ordering::Relaxed), 1);
    const UNSIGNED: &str = "verify token: failed to verify signature: failed to verify id token signature";
    let key = &all[4].1;
    for (token, why) in [
        (p256().sign("ES256", "ES256", &world.claims(&[])), UNSIGNED),
        (key.sign("ES256", "ES384", &world.claims(&[])), UNSIGNED),
        (key.sign("RS256", "ES256", &world.claims(&[])), UNSIGNED),
        (
            key.sign("none", "ES256", &world.claims(&[])),
            "verify token: id token signed with unsupported algorithm, got \"none\"",
        ),
        (
            key.sign("ES256", "ES256", &world.claims(&[("aud", json!(["a", "b"]))])),
            "verify token: expected audience in [\"kedge\", \"other\"] got [\"a\", \"b\"]",
        ),
        (key.sign("ES256", "ES256", &world.claims(&[("exp", json!(START - 1))])), "verify token: token is expired"),
        (
            key.sign("ES256", "ES256", &world.claims(&[("nbf", json!(START + 301))])),
            "verify token: current time before the nbf (not before) time",
        ),
    ] {
        assert_eq!(world.ask(&token).await.unwrap_err(), why);
    }
}

#[tokio::test]
async fn keys_are_asked_for_anew_when_they_do_not_fit_but_not_for_every_token() {
    let world = World::new().await;
    let of = || Key::ec(&ECDSA_P256_SHA256_FIXED_SIGNING, "P-256");
    let (old, new) = (of(), of());
    let asked = || world.asked.load(Ordering::Relaxed);
    *world.keys.lock().unwrap() = json!([old.public("old")]);
    let token = |key: &Key, id: &str| key.sign("ES256", id, &world.claims(&[("exp", json!(START + 9_000))]));
    assert!(world.ask(&token(&old, "old")).await.is_ok());
    *world.keys.lock().unwrap() = json!([new.public("new")]);
    // Just asked: it is not asked again at once.
    assert!(world.ask(&token(&new, "new")).await.is_err());
    assert_eq!(asked(), 1);
    world.now.store(START + 11, Ordering::Relaxed);
    assert!(world.ask(&token(&new, "new")).await.is_ok());
    assert!(world.ask(&token(&old, "old")).await.is_err());
    assert_eq!(asked(), 2);
    // Keys that are old are asked for even though they fit.
    *world.keys.lock().unwrap() = json!([]);
    world.now.store(START + 11 + 3_600, Ordering::Relaxed);
    assert!(world.ask(&token(&new, "new")).await.is_err());
    assert_eq!(asked(), 3);
}
