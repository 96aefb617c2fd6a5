//! Signed tokens in compact form (RFC 7515): three parts of base64, of which the last signs the other two.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

/// What an unmodified client sends is about 1 KiB.
const MAX_TOKEN: usize = 16 * 1024;

#[derive(Debug, Deserialize)]
pub struct Header {
    pub alg: String,
    pub kid: Option<String>,
}

/// A token taken apart; nothing of it is proven.
pub struct Jws<'a> {
    pub header: Header,
    /// What the signature is over.
    pub signed: &'a str,
    pub payload: Vec<u8>,
    pub signature: Vec<u8>,
}

impl<'a> Jws<'a> {
    pub fn parse(token: &'a str) -> Option<Self> {
        if token.len() > MAX_TOKEN {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        let bytes = |part| URL_SAFE_NO_PAD.decode(part).ok();
        let header = serde_json::from_slice(&bytes(header)?).ok()?;
        Some(Self { header, signed, payload: bytes(payload)?, signature: bytes(signature)? })
    }

    /// Who it says that it is from.
    pub fn issuer(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Claims {
            iss: String,
        }
        serde_json::from_slice(&self.payload).ok().map(|claims: Claims| claims.iss)
    }
}
