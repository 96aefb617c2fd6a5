//! The keys of an issuer (RFC 7517, RFC 7518), and whether one of them signed a token.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, EcdsaVerificationAlgorithm, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384,
    RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;

use crate::authn::jws::Jws;

/// More keys than any issuer has.
const MOST: usize = 256;

enum Algorithm {
    Rsa(&'static RsaParameters),
    /// With the curve's name and the bytes of a coordinate.
    Ec(&'static EcdsaVerificationAlgorithm, &'static str, usize),
}

/// Those of upstream's but ES512.
const ALGORITHMS: &[(&str, Algorithm)] = &[
    ("RS256", Algorithm::Rsa(&RSA_PKCS1_2048_8192_SHA256)),
    ("RS384", Algorithm::Rsa(&RSA_PKCS1_2048_8192_SHA384)),
    ("RS512", Algorithm::Rsa(&RSA_PKCS1_2048_8192_SHA512)),
    ("PS256", Algorithm::Rsa(&RSA_PSS_2048_8192_SHA256)),
    ("PS384", Algorithm::Rsa(&RSA_PSS_2048_8192_SHA384)),
    ("PS512", Algorithm::Rsa(&RSA_PSS_2048_8192_SHA512)),
    ("ES256", Algorithm::Ec(&ECDSA_P256_SHA256_FIXED, "P-256", 32)),
    ("ES384", Algorithm::Ec(&ECDSA_P384_SHA384_FIXED, "P-384", 48)),
];

pub fn is_known(algorithm: &str) -> bool {
    ALGORITHMS.iter().any(|(name, _)| *name == algorithm)
}

/// One key as the issuer publishes it; what it lacks is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Key {
    kty: String,
    kid: String,
    alg: String,
    r#use: String,
    n: String,
    e: String,
    crv: String,
    x: String,
    y: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeySet(Vec<Key>);

impl KeySet {
    /// Keys of kinds that are not known are passed over, as the RFC has it.
    pub fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<serde_json::Value>,
        }
        let set: Set = serde_json::from_slice(json)?;
        let keys = set.keys.into_iter().take(MOST).filter_map(|key| serde_json::from_value(key).ok());
        Ok(Self(keys.filter(|key: &Key| key.r#use != "enc").collect()))
    }

    /// Whether one of them signed the token: the one that it names, or any that can.
    pub fn signed(&self, token: &Jws<'_>) -> bool {
        let named = |key: &&Key| token.header.kid.as_ref().is_none_or(|kid| *kid == key.kid);
        let meant = |key: &&Key| key.alg.is_empty() || key.alg == token.header.alg;
        let found = ALGORITHMS.iter().find(|(name, _)| *name == token.header.alg);
        found.is_some_and(|(_, algorithm)| {
            self.0.iter().filter(named).filter(meant).any(|key| key.signed(algorithm, token))
        })
    }
}

impl Key {
    fn signed(&self, algorithm: &Algorithm, token: &Jws<'_>) -> bool {
        let (message, signature) = (token.signed.as_bytes(), token.signature.as_slice());
        let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text.trim_end_matches('='));
        match algorithm {
            Algorithm::Rsa(parameters) if self.kty == "RSA" => match (bytes(&self.n), bytes(&self.e)) {
                (Ok(n), Ok(e)) => RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).is_ok(),
                _ => false,
            },
            Algorithm::Ec(algorithm, curve, length) if self.kty == "EC" && self.crv == *curve => {
                match (bytes(&self.x), bytes(&self.y)) {
                    (Ok(x), Ok(y)) if x.len() == *length && y.len() == *length => {
                        // An uncompressed point.
                        let point = [&[4], x.as_slice(), y.as_slice()].concat();
                        UnparsedPublicKey::new(*algorithm, point).verify(message, signature).is_ok()
                    }
                    _ => false,
                }
            }
            Algorithm::Rsa(_) | Algorithm::Ec(..) => false,
        }
    }
}
