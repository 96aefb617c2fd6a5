//! Ed25519 public keys that a device trusts for its systems, and signatures by them.
//!
//! The initramfs holds the list ([`crate::names::STAGE1_KEYS`]): one key a line, as 64 hexadecimal digits.

use crate::hex;
use ring::digest::{SHA256, digest};
use ring::signature::{ED25519, UnparsedPublicKey};
use std::fmt;

pub const KEY_BYTES: usize = 32;
pub const SIGNATURE_BYTES: usize = 64;
/// A list longer than this is refused.
pub const MOST_KEYS: usize = 16;

/// Names a key: the first eight bytes of its SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyId([u8; 8]);

impl KeyId {
    pub fn parse(text: &str) -> Option<Self> {
        hex::decode(text).map(Self)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&hex::encode(&self.0))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key([u8; KEY_BYTES]);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    #[error("signed by key {key}, which is not trusted here; trusted are {trusted}")]
    Unknown { key: KeyId, trusted: String },
    #[error("the signature by key {0} is wrong")]
    Wrong(KeyId),
    #[error("line {line} of the list of keys: \"{found}\", expected 64 hexadecimal digits")]
    List { line: usize, found: String },
    #[error("the list of keys has more than {MOST_KEYS}")]
    Many,
}

impl Key {
    pub fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    pub fn id(&self) -> KeyId {
        let sum = digest(&SHA256, &self.0);
        KeyId(sum.as_ref().first_chunk().copied().unwrap_or_default())
    }

    pub fn verify(&self, message: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> Result<(), SignatureError> {
        UnparsedPublicKey::new(&ED25519, self.0)
            .verify(message, signature)
            .map_err(|_| SignatureError::Wrong(self.id()))
    }

    /// The key called `id` among those that are trusted.
    pub fn find(keys: &[Self], id: KeyId) -> Result<&Self, SignatureError> {
        let all = || keys.iter().map(|key| key.id().to_string()).collect::<Vec<_>>().join(", ");
        let trusted = || if keys.is_empty() { "none".to_owned() } else { all() };
        keys.iter().find(|key| key.id() == id).ok_or_else(|| SignatureError::Unknown { key: id, trusted: trusted() })
    }

    /// Reads a list.
    pub fn list(text: &str) -> Result<Vec<Self>, SignatureError> {
        let line = |(at, line): (usize, &str)| {
            let found = || SignatureError::List { line: at + 1, found: line.chars().take(80).collect() };
            hex::decode(line).map(Self).ok_or_else(found)
        };
        if text.lines().count() > MOST_KEYS {
            return Err(SignatureError::Many);
        }
        text.lines().enumerate().map(line).collect()
    }

    /// Writes one.
    pub fn to_list(keys: &[Self]) -> String {
        keys.iter().map(|key| hex::encode(&key.0) + "\n").collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032, 7.1, test 2.
    const KEY: &str = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
    const SIGNATURE: &str = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
                             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";

    #[test]
    fn a_signature_is_that_of_the_rfc() {
        let key = Key::list(&format!("{KEY}\n")).unwrap()[0];
        let mut signature = hex::decode(SIGNATURE).unwrap();
        assert_eq!(key.verify(&[0x72], &signature), Ok(()));
        assert_eq!(key.verify(&[0x73], &signature), Err(SignatureError::Wrong(key.id())));
        signature[40] ^= 1;
        assert_eq!(key.verify(&[0x72], &signature), Err(SignatureError::Wrong(key.id())));
    }

    #[test]
    fn a_list_is_read_as_it_is_written_and_what_is_none_is_told() {
        let keys = [Key::new([1; 32]), Key::new([2; 32])];
        assert_eq!(Key::list(&Key::to_list(&keys)).unwrap(), keys);
        assert_eq!(Key::find(&keys, keys[1].id()), Ok(&keys[1]));
        let error = Key::find(&keys[..1], keys[1].id()).unwrap_err().to_string();
        assert!(error.contains(&keys[1].id().to_string()) && error.contains(&keys[0].id().to_string()), "{error}");
        assert!(Key::find(&[], keys[0].id()).unwrap_err().to_string().ends_with("trusted are none"));
        assert_eq!(
            Key::list(&format!("{KEY}\n\n")).unwrap_err(),
            SignatureError::List { line: 2, found: String::new() }
        );
        assert_eq!(Key::list(&format!("{KEY}\n").repeat(17)).unwrap_err(), SignatureError::Many);
    }
}
