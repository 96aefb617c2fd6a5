//! Values as they lie encrypted in the database: which resources, by which providers, under which keys.
//!
//! Owns the form of such a value, byte for byte as upstream's API server has it in etcd, so that either reads what the other wrote. Never
//! knows where values lie, nor where keys come from. Start reading at [`Keyring`].
//!
//! ```text
//! Keyring ─▶ the rule of the resource ─▶ its providers: the first one writes, each reads ─▶ `k8s:enc:PROVIDER:v1:KEY:` and the sealed value
//! ```
#![forbid(unsafe_code)]

mod cipher;
mod keys;
mod provider;
mod rules;

use std::borrow::Cow;
use std::sync::Arc;

use kedge_api::GroupResource;

pub use cipher::{Cipher, KeyLength};
pub use keys::Keys;
pub use provider::{Error, NamedKey, Provider, sealed_by};
pub use rules::{Masked, Pattern};

/// How every encrypted value begins.
pub const ENCRYPTED: &[u8] = b"k8s:enc:";

/// A value as it was read.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened<'a> {
    pub plain: Cow<'a, [u8]>,
    /// Whether it would be written otherwise today.
    pub stale: bool,
}

/// One way in which values of some resources may lie, for an administrator to see.
#[derive(Debug, PartialEq, Eq)]
pub struct Way<'a> {
    pub rule: &'a Pattern,
    pub provider: &'static str,
    /// Its name; `identity` has none.
    pub key: Option<&'a str>,
    /// Whether new values lie so.
    pub writes: bool,
}

/// The providers of each resource. One that no rule is about lies as it is.
#[derive(Debug)]
pub struct Keyring {
    rules: rules::Rules,
    otherwise: [Arc<Provider>; 1],
}

impl Default for Keyring {
    /// Nothing is encrypted.
    fn default() -> Self {
        Self { rules: rules::Rules::default(), otherwise: [Arc::new(Provider::Identity)] }
    }
}

impl Keyring {
    /// In the order in which they stand in the configuration: a rule that an earlier one leaves nothing is refused.
    pub fn new(rules: impl IntoIterator<Item = (Pattern, Vec<Arc<Provider>>)>) -> Result<Self, Masked> {
        Ok(Self { rules: rules::Rules::new(rules)?, ..Self::default() })
    }

    /// Whether a rule is about the resource.
    pub fn concerns(&self, resource: &GroupResource) -> bool {
        self.rules.of(resource).is_some()
    }

    fn providers(&self, resource: &GroupResource) -> &[Arc<Provider>] {
        self.rules.of(resource).filter(|found| !found.is_empty()).unwrap_or(&self.otherwise)
    }

    /// All ways in which values may lie, as the configuration has them.
    pub fn ways(&self) -> impl Iterator<Item = Way<'_>> {
        self.rules.all().flat_map(|(rule, providers)| {
            let ways = providers.iter().flat_map(|provider| provider.ways());
            ways.enumerate().map(move |(at, (provider, key))| Way { rule, provider, key, writes: at == 0 })
        })
    }

    /// Whether new values of the resource are encrypted, and how that is told: `secretbox key "a"`.
    pub fn writes(&self, resource: &GroupResource) -> Option<String> {
        self.providers(resource).first().and_then(|provider| provider.writes())
    }

    /// The value as it is to lie at `place`.
    pub fn seal<'a>(&self, resource: &GroupResource, place: &str, plain: &'a [u8]) -> Result<Cow<'a, [u8]>, Error> {
        match self.providers(resource).first() {
            Some(provider) => provider.seal(place.as_bytes(), plain),
            None => Ok(Cow::Borrowed(plain)),
        }
    }

    /// The value that lies at `place`. Each provider whose mark it bears is tried; what the last of them says is told, as upstream tells it.
    pub fn open<'a>(&self, resource: &GroupResource, place: &str, stored: &'a [u8]) -> Result<Opened<'a>, Error> {
        let mut errors = Vec::new();
        for (at, provider) in self.providers(resource).iter().enumerate() {
            match provider.open(place.as_bytes(), stored) {
                None => {}
                Some(Ok(opened)) => return Ok(Opened { stale: opened.stale || at != 0, ..opened }),
                Some(Err(error)) => errors.push(error),
            }
        }
        Err(Error::of_all(errors))
    }
}

#[cfg(test)]
mod tests;
