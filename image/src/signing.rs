//! The keys by which systems are signed. A private key is PKCS #8 in PEM, as `openssl genpkey -algorithm ed25519` writes it too; beside it,
//! as `.pub`, lies the public key in the form in which devices have it.

use kedge_config::signing::{Key, SignatureError};
use kedge_config::slot_manifest::{ManifestError, Sealed, SlotManifest};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Of a build that names no key; beside what it builds.
pub const DEVELOPMENT: &str = "development.key";

const PEM: &str = "PRIVATE KEY";
/// What stands before the seed (RFC 8410, 7: version 0, Ed25519, an octet string in an octet string).
const PKCS8: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
    #[error(
        "{0} is there already: a key is never overwritten, for what it signed would be worth nothing; name another file"
    )]
    Exists(String),
    #[error(
        "{0} is no private key that can sign: expected Ed25519 as PKCS #8 in PEM (\"kedge-image keys FILE\" makes one)"
    )]
    Private(String),
    #[error("{path} is no list of public keys: {source}")]
    Public { path: String, source: SignatureError },
    #[error("{0} holds no public key")]
    NoKey(String),
    #[error("the system gives no random numbers")]
    Random,
    #[error("more than {} keys to trust", kedge_config::signing::MOST_KEYS)]
    Many,
}

pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// Makes a key and writes it to `path`, for its owner alone, and its public half beside it.
    pub fn create(path: &Path) -> Result<Self, KeyError> {
        let mut seed = [0; 32];
        SystemRandom::new().fill(&mut seed).map_err(|_| KeyError::Random)?;
        let key = Self::from_seed(seed);
        let public = public_path(path);
        if public.exists() {
            return Err(KeyError::Exists(public.display().to_string()));
        }
        write_new(path, &text_of(&seed), 0o600)?;
        write_new(&public, &Key::to_list(&[key.public()]), 0o644)?;
        Ok(key)
    }

    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let text = std::fs::read(path).map_err(|source| io_error(path, source))?;
        let private = || KeyError::Private(path.display().to_string());
        let block = pem::parse(text).map_err(|_| private())?;
        if block.tag() != PEM {
            return Err(private());
        }
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(block.contents()).map(Self).map_err(|_| private())
    }

    pub fn from_seed(seed: [u8; 32]) -> Self {
        #[expect(clippy::expect_used, reason = "every 32 bytes are a seed; only another length is refused")]
        Self(Ed25519KeyPair::from_seed_unchecked(&seed).expect("a seed of 32 bytes"))
    }

    pub fn public(&self) -> Key {
        let mut bytes = [0; kedge_config::signing::KEY_BYTES];
        bytes.iter_mut().zip(self.0.public_key().as_ref()).for_each(|(to, from)| *to = *from);
        Key::new(bytes)
    }

    pub fn sign(&self, message: &[u8]) -> [u8; kedge_config::signing::SIGNATURE_BYTES] {
        let mut bytes = [0; kedge_config::signing::SIGNATURE_BYTES];
        bytes.iter_mut().zip(self.0.sign(message).as_ref()).for_each(|(to, from)| *to = *from);
        bytes
    }

    pub fn seal(&self, manifest: &SlotManifest) -> Result<Sealed, ManifestError> {
        Sealed::new(manifest, self.public().id(), self.sign(manifest.body()?.as_bytes()))
    }
}

/// What a private key's file holds.
pub(crate) fn text_of(seed: &[u8; 32]) -> String {
    pem::encode(&pem::Pem::new(PEM, [&PKCS8[..], seed].concat()))
}

/// Where the public half of the key at `path` lies.
pub fn public_path(path: &Path) -> PathBuf {
    path.with_added_extension("pub")
}

/// The public keys that a file lists.
pub fn public(path: &Path) -> Result<Vec<Key>, KeyError> {
    let text = std::fs::read_to_string(path).map_err(|source| io_error(path, source))?;
    let keys = Key::list(&text).map_err(|source| KeyError::Public { path: path.display().to_string(), source })?;
    if keys.is_empty() { Err(KeyError::NoKey(path.display().to_string())) } else { Ok(keys) }
}

/// What a build signs with, and what its devices trust.
pub struct Signing {
    pub key: SigningKey,
    pub trusted: Vec<Key>,
    /// The file of a development key, and whether it was made now.
    pub development: Option<(PathBuf, bool)>,
}

impl Signing {
    /// With the key at `given`, else with the development key of the folder `out`, which is made where it is not there. Devices trust that
    /// key and those of the files `further`.
    pub fn get(given: Option<&Path>, further: &[PathBuf], out: &Path) -> Result<Self, KeyError> {
        let own = out.join(DEVELOPMENT);
        let (key, development) = match given {
            Some(path) => (SigningKey::read(path)?, None),
            None if own.exists() => (SigningKey::read(&own)?, Some((own, false))),
            None => (SigningKey::create(&own)?, Some((own, true))),
        };
        let mut trusted = vec![key.public()];
        for path in further {
            let new: Vec<Key> = public(path)?.into_iter().filter(|key| !trusted.contains(key)).collect();
            trusted.extend(new);
        }
        if trusted.len() > kedge_config::signing::MOST_KEYS {
            return Err(KeyError::Many);
        }
        Ok(Self { key, trusted, development })
    }

    /// What a person must be told of a development key.
    pub fn warning(&self) -> Option<String> {
        let (path, new) = self.development.as_ref()?;
        let made = if *new { ", made now" } else { "" };
        Some(format!(
            "  note: no --sign-key: signed by the DEVELOPMENT key {}{made}; whoever has this file can sign systems for these devices. \
             For devices that matter: kedge-image keys FILE, then build --sign-key FILE",
            path.display()
        ))
    }
}

fn io_error(path: &Path, source: io::Error) -> KeyError {
    KeyError::Io { path: path.display().to_string(), source }
}

fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), KeyError> {
    let created = File::options().write(true).create_new(true).mode(mode).open(path);
    let mut file = created.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => KeyError::Exists(path.display().to_string()),
        _ => io_error(path, source),
    })?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(|source| io_error(path, source))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    #[test]
    fn a_key_is_its_owners_alone_is_never_overwritten_and_signs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("system.key");
        let key = SigningKey::create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(public(&public_path(&path)).unwrap(), [key.public()]);
        let read = SigningKey::read(&path).unwrap();
        assert_eq!(key.public().verify(b"x", &read.sign(b"x")), Ok(()));
        let before = std::fs::read(&path).unwrap();
        let error = SigningKey::create(&path).err().unwrap().to_string();
        assert!(error.contains("system.key.pub is there already"), "{error}");
        std::fs::remove_file(public_path(&path)).unwrap();
        let error = SigningKey::create(&path).err().unwrap().to_string();
        assert!(error.contains("system.key is there already"), "{error}");
        assert!(std::fs::read(&path).unwrap() == before);
    }

    #[test]
    fn openssl_reads_our_keys_and_we_read_openssls() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, theirs) = (folder.path().join("ours"), folder.path().join("theirs"));
        let key = SigningKey::create(&ours).unwrap();
        let shown = Command::new("openssl").args(["pkey", "-noout", "-text", "-in"]).arg(&ours).output().unwrap();
        let text: String = String::from_utf8_lossy(&shown.stdout).split_whitespace().collect();
        let list = Key::to_list(&[key.public()]);
        let public = list.trim().as_bytes().chunks(2).map(String::from_utf8_lossy).collect::<Vec<_>>();
        assert!(text.ends_with(&format!("pub:{}", public.join(":"))), "{text}");
        let made = Command::new("openssl").args(["genpkey", "-algorithm", "ed25519", "-out"]).arg(&theirs).status();
        assert!(made.unwrap().success());
        let read = SigningKey::read(&theirs).unwrap();
        assert_eq!(read.public().verify(b"x", &read.sign(b"x")), Ok(()));
    }

    #[test]
    fn what_is_no_key_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let told = |text: &str| {
            std::fs::write(&path, text).unwrap();
            (SigningKey::read(&path).err().unwrap().to_string(), public(&path).unwrap_err().to_string())
        };
        let (private, list) = told("hello\n");
        assert!(private.contains("is no private key that can sign") && list.contains("line 1"), "{private} {list}");
        let rsa = pem::encode(&pem::Pem::new(PEM, vec![0x30, 0]));
        assert!(told(&rsa).0.contains("is no private key that can sign"));
        assert!(told("").1.ends_with("holds no public key"));
    }

    #[test]
    fn without_a_key_a_development_key_is_made_once_and_said_so() {
        let folder = tempfile::tempdir().unwrap();
        let first = Signing::get(None, &[], folder.path()).unwrap();
        assert!(first.warning().unwrap().contains("development.key, made now"));
        let second = Signing::get(None, &[], folder.path()).unwrap();
        assert_eq!(first.trusted, second.trusted);
        assert!(!second.warning().unwrap().contains("made now"));

        let other = folder.path().join("other");
        SigningKey::create(&other).unwrap();
        let given =
            Signing::get(Some(&other), &[public_path(&folder.path().join(DEVELOPMENT))], folder.path()).unwrap();
        assert_eq!(given.warning(), None);
        assert_eq!(given.trusted.len(), 2);
        assert_eq!(given.trusted[1], first.trusted[0]);
    }
}
