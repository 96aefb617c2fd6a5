//! A provider: a cipher and its keys, or none; and what is said of a value that none of them reads.

use std::borrow::Cow;
use std::fmt;

use crate::cipher::Lock;
use crate::{Cipher, ENCRYPTED, KeyLength, Opened};

/// In upstream's words: clients see them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("no matching prefix found")]
    NoProvider,
    #[error("no matching key was found for the provided {0} transformer")]
    NoKey(&'static str),
    #[error("cipher: message authentication failed")]
    Tampered,
    #[error("output array was not large enough for encryption")]
    Box,
    #[error("the stored data was shorter than the required size")]
    Short,
    #[error("the stored data is not a multiple of the block size")]
    Blocks,
    #[error("invalid padding on input")]
    Padding,
    #[error("unable to read sufficient random bytes")]
    Random,
    #[error("the value could not be encrypted")]
    Seal,
    /// What several providers said, each once.
    #[error("[{0}]")]
    Several(String),
}

impl Error {
    pub(crate) fn of_all(mut errors: Vec<Self>) -> Self {
        match errors.len() {
            0 => Self::NoProvider,
            1 => errors.remove(0),
            _ => {
                let mut told: Vec<String> = Vec::new();
                for text in errors.iter().map(ToString::to_string) {
                    if !told.contains(&text) {
                        told.push(text);
                    }
                }
                if told.len() == 1 { errors.remove(0) } else { Self::Several(told.join(", ")) }
            }
        }
    }
}

pub struct NamedKey {
    /// Stands in the mark of what it sealed.
    name: String,
    lock: Box<dyn Lock>,
}

impl NamedKey {
    pub fn new(cipher: Cipher, name: &str, key: &[u8]) -> Result<Self, KeyLength> {
        Ok(Self { name: name.to_owned(), lock: cipher.lock(key)? })
    }
}

/// Never the key itself.
impl fmt::Debug for NamedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NamedKey").field(&self.name).finish()
    }
}

#[derive(Debug)]
pub enum Provider {
    /// Values lie as they are.
    Identity,
    /// The first key seals, each opens.
    Keys(Cipher, Vec<NamedKey>),
}

impl Provider {
    fn mark(cipher: Cipher) -> String {
        format!("k8s:enc:{}:v1:", cipher.name())
    }

    /// Its name with that of each of its keys.
    pub(crate) fn ways(&self) -> Vec<(&'static str, Option<&str>)> {
        match self {
            Self::Identity => vec![("identity", None)],
            Self::Keys(cipher, keys) => keys.iter().map(|key| (cipher.name(), Some(key.name.as_str()))).collect(),
        }
    }

    pub(crate) fn writes(&self) -> Option<String> {
        match self {
            Self::Identity => None,
            Self::Keys(cipher, keys) => keys.first().map(|key| format!("{} key {:?}", cipher.name(), key.name)),
        }
    }

    pub(crate) fn seal<'a>(&self, place: &[u8], plain: &'a [u8]) -> Result<Cow<'a, [u8]>, Error> {
        match self {
            Self::Identity => Ok(Cow::Borrowed(plain)),
            Self::Keys(cipher, keys) => {
                let key = keys.first().ok_or(Error::NoKey(cipher.family()))?;
                let mut sealed = format!("{}{}:", Self::mark(*cipher), key.name).into_bytes();
                sealed.extend_from_slice(&key.lock.lock(place, plain)?);
                Ok(Cow::Owned(sealed))
            }
        }
    }

    /// `None`: the value does not bear the mark of this provider.
    pub(crate) fn open<'a>(&self, place: &[u8], stored: &'a [u8]) -> Option<Result<Opened<'a>, Error>> {
        match self {
            // What is encrypted is another's, wherever this one stands.
            Self::Identity if stored.starts_with(ENCRYPTED) => None,
            Self::Identity => Some(Ok(Opened { plain: Cow::Borrowed(stored), stale: false })),
            Self::Keys(cipher, keys) => {
                let sealed = stored.strip_prefix(Self::mark(*cipher).as_bytes())?;
                Some(unlock(*cipher, keys, place, sealed))
            }
        }
    }
}

/// Keys may share a name: each of that name is tried.
fn unlock<'a>(cipher: Cipher, keys: &[NamedKey], place: &[u8], sealed: &[u8]) -> Result<Opened<'a>, Error> {
    let mut errors = Vec::new();
    for (at, key) in keys.iter().enumerate() {
        let named = sealed.strip_prefix(key.name.as_bytes()).and_then(|rest| rest.strip_prefix(b":"));
        match named.map(|sealed| key.lock.unlock(place, sealed)) {
            None => {}
            Some(Ok(plain)) => return Ok(Opened { plain: Cow::Owned(plain), stale: at != 0 }),
            Some(Err(error)) => errors.push(error),
        }
    }
    Err(if errors.is_empty() { Error::NoKey(cipher.family()) } else { Error::of_all(errors) })
}

/// Provider, version and key of an encrypted value, as it says itself.
pub(crate) fn parts(stored: &[u8]) -> Option<[Cow<'_, str>; 3]> {
    let mut parts = stored.strip_prefix(ENCRYPTED)?.splitn(4, |byte| *byte == b':').map(String::from_utf8_lossy);
    let found = [parts.next()?, parts.next()?, parts.next()?];
    // Behind each of them stands a colon.
    parts.next().map(|_sealed| found)
}

/// What a value was encrypted by, as far as that can be seen: `secretbox key "a"`.
pub fn sealed_by(stored: &[u8]) -> Option<String> {
    parts(stored).map(|[provider, _, key]| format!("{provider} key {key:?}"))
}
