//! A server certificate that can be replaced while connections come in.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::{Identity, PkiError};

/// Gives each TLS handshake the newest certificate.
#[derive(Debug)]
pub struct Resolver(RwLock<Arc<CertifiedKey>>);

impl Resolver {
    pub fn new(identity: &Identity, what: &'static str) -> Result<Self, PkiError> {
        certified(identity, what).map(|key| Self(RwLock::new(key)))
    }

    pub fn replace(&self, identity: &Identity, what: &'static str) -> Result<(), PkiError> {
        let key = certified(identity, what)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = key;
        Ok(())
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn certified(identity: &Identity, what: &'static str) -> Result<Arc<CertifiedKey>, PkiError> {
    let key = rustls::crypto::ring::sign::any_ecdsa_type(&identity.key);
    let key = key.map_err(|source| PkiError::Tls { what, source })?;
    Ok(Arc::new(CertifiedKey::new(vec![identity.certificate.clone()], key)))
}
