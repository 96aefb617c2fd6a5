//! The cluster's own certificates: two authorities made on first boot, and what they sign.
//!
//! Owns the directory `/var/lib/kedge/pki`: one file a key with its certificate, so that a power cut leaves either the
//! old pair or the new one. Authorities and the token key are roots: if one cannot be read, that is an error that names the
//! file. All else follows from them and is made again when it is damaged, due, or says something outdated.
//!
//! ```text
//! open ─▶ authority ×2 ─▶ identity(profile) ─▶ Resolver (hot-swapped in TLS)
//!                              ▲
//!          renew · set_names ──┘
//! ```

pub mod certify;
pub mod disk;
pub mod kubeconfig;
mod mint;
mod profile;
mod resolver;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;

use crate::clock::Clock;
pub use mint::{Identity, MintError, Seen};
pub use profile::{Facts, Names, Profile, Signer};
pub use resolver::Resolver;

const TOKEN_KEY: &str = "service-account.key";

#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("reading {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("writing {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error(
        "{} is damaged: {why}; put a copy of it back, or delete the directory to give the cluster new certificates \
         (every kubeconfig and every token handed out becomes invalid)",
        path.display()
    )]
    Damaged { path: PathBuf, why: String },
    #[error("making {what}: {source}")]
    Mint { what: &'static str, source: MintError },
    #[error("the system's random numbers failed while making {what}")]
    Random { what: &'static str },
    #[error("rustls refuses the key of {what}: {source}")]
    Tls { what: &'static str, source: rustls::Error },
}

/// The authorities and everything they signed.
#[derive(Debug)]
pub struct Pki {
    dir: PathBuf,
    clock: Clock,
    server: Identity,
    client: Identity,
    front_proxy: Identity,
    token_key: PrivatePkcs8KeyDer<'static>,
    state: Mutex<State>,
}

/// One lock: an identity is never handed out of names that were replaced.
#[derive(Debug)]
struct State {
    names: Names,
    identities: HashMap<Profile, Arc<Identity>>,
    resolvers: HashMap<Profile, Arc<Resolver>>,
}

impl Pki {
    /// Reads `dir`, making what is missing.
    pub fn open(dir: &Path, names: Names, clock: Clock) -> Result<Self, PkiError> {
        disk::make_dir(dir)?;
        let now = clock.unix();
        Ok(Self {
            dir: dir.to_owned(),
            server: root(dir, Signer::Server, now)?,
            client: root(dir, Signer::Client, now)?,
            front_proxy: root(dir, Signer::FrontProxy, now)?,
            token_key: token_key(dir)?,
            clock,
            state: Mutex::new(State { names, identities: HashMap::new(), resolvers: HashMap::new() }),
        })
    }

    /// The authority's certificate.
    pub fn authority(&self, signer: Signer) -> &CertificateDer<'static> {
        &self.signer(signer).certificate
    }

    pub fn authority_pem(&self, signer: Signer) -> &str {
        self.signer(signer).certificate_pem()
    }

    /// The key that signs ServiceAccount tokens, PKCS #8.
    pub fn token_key(&self) -> &PrivatePkcs8KeyDer<'static> {
        &self.token_key
    }

    /// The holder's certificate and key: from memory, from disk, or made now.
    pub fn identity(&self, profile: &Profile) -> Result<Arc<Identity>, PkiError> {
        self.current(&mut self.lock(), profile)
    }

    /// What a TLS server takes its certificate from; follows renewals.
    pub fn resolver(&self, profile: &Profile) -> Result<Arc<Resolver>, PkiError> {
        let mut state = self.lock();
        if let Some(resolver) = state.resolvers.get(profile) {
            return Ok(Arc::clone(resolver));
        }
        let identity = self.current(&mut state, profile)?;
        let resolver = Arc::new(Resolver::new(&identity, profile.file())?);
        state.resolvers.insert(profile.clone(), Arc::clone(&resolver));
        Ok(resolver)
    }

    /// Takes other names and addresses over; certificates that say otherwise are replaced at once.
    pub fn set_names(&self, names: Names) -> Result<(), PkiError> {
        let mut state = self.lock();
        if state.names == names {
            return Ok(());
        }
        state.names = names;
        self.refresh(&mut state)
    }

    /// Replaces what is due. To be called when the clock was stepped, and every few hours.
    pub fn renew(&self) -> Result<(), PkiError> {
        self.refresh(&mut self.lock())
    }

    fn refresh(&self, state: &mut State) -> Result<(), PkiError> {
        for profile in state.identities.keys().cloned().collect::<Vec<_>>() {
            let identity = self.current(state, &profile)?;
            if let Some(resolver) = state.resolvers.get(&profile) {
                resolver.replace(&identity, profile.file())?;
            }
        }
        Ok(())
    }

    fn current(&self, state: &mut State, profile: &Profile) -> Result<Arc<Identity>, PkiError> {
        let (now, facts) = (self.clock.unix(), profile.facts(&state.names));
        let good = |identity: &Identity| identity.is_for(&facts) && !identity.is_due(now);
        if let Some(identity) = state.identities.get(profile).filter(|i| good(i)) {
            return Ok(Arc::clone(identity));
        }
        let path = self.dir.join(profile.file());
        let signer = self.signer(facts.signer);
        let stored = match disk::read(&path)?.map(|pem| Identity::parse(&pem)).transpose() {
            Ok(stored) => stored.filter(|i| good(i) && signed_by(i, signer)),
            Err(why) => {
                tracing::warn!(path = %path.display(), %why, "replacing a damaged certificate");
                None
            }
        };
        let identity = match stored {
            Some(identity) => identity,
            None => {
                let made = mint::leaf(&facts, signer, now);
                let made = made.map_err(|source| PkiError::Mint { what: profile.file(), source })?;
                disk::write(&path, &made.pem)?;
                made
            }
        };
        let identity = Arc::new(identity);
        state.identities.insert(profile.clone(), Arc::clone(&identity));
        Ok(identity)
    }

    fn signer(&self, signer: Signer) -> &Identity {
        match signer {
            Signer::Server => &self.server,
            Signer::Client => &self.client,
            Signer::FrontProxy => &self.front_proxy,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every write to the maps is one insert: a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn root(dir: &Path, signer: Signer, now: u64) -> Result<Identity, PkiError> {
    let path = dir.join(signer.file());
    if let Some(pem) = disk::read(&path)? {
        let damaged = |why: MintError| PkiError::Damaged { path: path.clone(), why: why.to_string() };
        let identity = Identity::parse(&pem).map_err(damaged)?;
        return if identity.seen.authority { Ok(identity) } else { Err(damaged(MintError::NotAuthority)) };
    }
    let made = mint::authority(signer, now).map_err(|source| PkiError::Mint { what: signer.file(), source })?;
    disk::write(&path, &made.pem)?;
    Ok(made)
}

fn token_key(dir: &Path) -> Result<PrivatePkcs8KeyDer<'static>, PkiError> {
    let path = dir.join(TOKEN_KEY);
    let random = SystemRandom::new();
    if let Some(pem) = disk::read(&path)? {
        let damaged = |why: String| PkiError::Damaged { path: path.clone(), why };
        let key = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|e| damaged(e.to_string()))?;
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.secret_pkcs8_der(), &random)
            .map_err(|e| damaged(e.to_string()))?;
        return Ok(key);
    }
    let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
        .map_err(|_| PkiError::Random { what: TOKEN_KEY })?;
    disk::write(&path, &kubeconfig::pem("PRIVATE KEY", made.as_ref()))?;
    Ok(PrivatePkcs8KeyDer::from(made.as_ref().to_vec()))
}

/// Whether the authority on disk is still the one that signed this.
fn signed_by(leaf: &Identity, signer: &Identity) -> bool {
    use x509_parser::prelude::{FromDer, X509Certificate};
    let parsed = |der| X509Certificate::from_der(der).map(|(_, certificate)| certificate);
    match (parsed(&leaf.certificate), parsed(&signer.certificate)) {
        (Ok(leaf), Ok(signer)) => {
            let key_id = |c: &X509Certificate<'_>| {
                c.iter_extensions().find_map(|e| match e.parsed_extension() {
                    x509_parser::extensions::ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
                    _ => None,
                })
            };
            let named = leaf.iter_extensions().find_map(|e| match e.parsed_extension() {
                x509_parser::extensions::ParsedExtension::AuthorityKeyIdentifier(id) => {
                    id.key_identifier.as_ref().map(|id| id.0.to_vec())
                }
                _ => None,
            });
            named.is_some() && named == key_id(&signer)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
