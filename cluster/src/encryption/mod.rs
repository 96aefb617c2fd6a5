//! Encryption of stored values at rest: where its keys come from, and that everything lies as they say.
//!
//! ```text
//! EncryptionConfiguration of the administrator, read again when it changes ─┐
//! DIR/encryption-config.json, a key of the server's own ────────────────────┴─▶ Keys ─▶ settle: all rewritten ─▶ old own keys dropped
//!                                    POST /kedge/secrets-encrypt/rotate-keys ─▶ a new key before the old one ─▶ settle
//! ```
//! A key is in its file, on the medium, before anything is encrypted by it, and leaves the file when nothing needs it: whenever the process
//! ends, the next one reads everything and goes on where this one was.

mod config;
mod managed;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use kedge_api::Status;
use kedge_encrypt::{Keyring, Keys, Way};
use kedge_serve::document::{Document, Given, Mistakes, Watched};
use kedge_serve::pki::{PkiError, disk};
use kedge_serve::server::{Own, OwnAnswer};
use kedge_store::{Resealed, Store, Unreadable, place};
use serde_json::{Value, json};

use crate::settings::Encryption as Wanted;
use crate::snapshots::Snapshots;
use managed::Managed;

/// Below the state directory; of its form.
const FILE: &str = "encryption-config.json";
/// How often a configuration is looked at, and what failed is tried again.
const LOOK: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Config(#[from] Mistakes),
    #[error("{0}")]
    File(#[from] PkiError),
    #[error("{}: it is not as the server wrote it", path.display())]
    Foreign { path: PathBuf },
    #[error("making a key: {0}")]
    Random(#[from] getrandom::Error),
    #[error("{0}")]
    Store(#[from] kedge_store::Error),
    #[error("{0}")]
    Refused(String),
}

pub(crate) struct Encryption {
    pub(crate) keys: Arc<Keys>,
    source: Source,
    stage: Mutex<Stage>,
}

enum Source {
    Given(Given, Watched<Keyring>),
    /// None: the server never had a key of its own. Held while it is turned over.
    Own(PathBuf, tokio::sync::Mutex<Option<Managed>>),
}

/// How far what is stored is as the keys say.
enum Stage {
    Rewriting,
    Settled(Resealed),
    Failed(String),
}

impl Encryption {
    /// Reads the keys, and makes the first own one if that is wanted.
    pub(crate) fn open(wanted: &Wanted, state: &Path) -> Result<Self, Error> {
        let (source, ring) = match wanted {
            Wanted::Given(given) => {
                let watched = Watched::open(given.clone(), config::parse)?;
                let ring = watched.current();
                (Source::Given(given.clone(), watched), ring)
            }
            Wanted::Off | Wanted::Own => {
                let path = state.join(FILE);
                let managed = open_own(&path, matches!(wanted, Wanted::Own))?;
                let ring = managed.as_ref().map_or_else(|| Ok(Arc::default()), |managed| ring(&path, managed))?;
                (Source::Own(path, tokio::sync::Mutex::new(managed)), ring)
            }
        };
        Ok(Self { keys: Arc::new(Keys::new(ring)), source, stage: Mutex::new(Stage::Rewriting) })
    }

    fn stage(&self, stage: Stage) {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = stage;
    }

    /// Where the keys are, for messages.
    fn source(&self) -> String {
        match &self.source {
            Source::Given(Given::File(path), _) | Source::Own(path, _) => path.display().to_string(),
            Source::Given(Given::Text { name, .. }, _) => name.clone(),
        }
    }
}

fn open_own(path: &Path, enabled: bool) -> Result<Option<Managed>, Error> {
    let found = match disk::read(path)? {
        None => None,
        Some(text) => {
            let document = Document { name: path.display().to_string(), text };
            config::parse(&document)?;
            Some(Managed::of(&config::form(&document)?).ok_or_else(|| Error::Foreign { path: path.to_owned() })?)
        }
    };
    let wanted = match found.clone() {
        None if !enabled => return Ok(None),
        None => Managed::new(managed::fresh_key(jiff::Timestamp::now())?),
        Some(managed) => managed.turned(enabled),
    };
    if found.as_ref() != Some(&wanted) {
        write(path, &wanted)?;
    }
    Ok(Some(wanted))
}

fn write(path: &Path, managed: &Managed) -> Result<(), Error> {
    Ok(disk::write(path, &managed.text())?)
}

fn ring(path: &Path, managed: &Managed) -> Result<Arc<Keyring>, Error> {
    let document = Document { name: path.display().to_string(), text: managed.text() };
    Ok(Arc::new(config::parse(&document)?))
}

/// Of a running control plane.
pub(crate) struct Rotation {
    encryption: Encryption,
    store: Arc<dyn Store>,
    snapshots: Arc<Snapshots>,
}

impl Rotation {
    pub(crate) fn new(encryption: Encryption, store: Arc<dyn Store>, snapshots: Arc<Snapshots>) -> Self {
        Self { encryption, store, snapshots }
    }

    /// Sees to it that everything lies as the keys say, now and whenever they change. Never ends.
    pub(crate) async fn run(&self) {
        loop {
            let settled = match &self.encryption.source {
                Source::Given(..) => self.rewrite().await.map(drop),
                Source::Own(path, managed) => self.settle(path, &mut *managed.lock().await).await,
            };
            if let Err(error) = settled {
                tracing::error!(%error, "encrypting what is stored");
                tokio::time::sleep(RETRY).await;
                continue;
            }
            let Source::Given(_, watched) = &self.encryption.source else { return std::future::pending().await };
            let before = watched.current();
            while Arc::ptr_eq(&before, &watched.current()) {
                tokio::time::sleep(LOOK).await;
                watched.look();
            }
            self.encryption.keys.replace(watched.current());
        }
    }

    /// Everything that lies otherwise than it is to is written anew.
    async fn rewrite(&self) -> Result<(), Error> {
        self.encryption.stage(Stage::Rewriting);
        match self.store.reseal().await {
            Ok(done) => {
                if done.rewritten > 0 {
                    tracing::info!(
                        values = done.rewritten,
                        keys = self.encryption.source(),
                        "stored values were rewritten"
                    );
                }
                for told in missing(&done.unreadable, &self.encryption.source()) {
                    tracing::error!("{told}");
                }
                self.encryption.stage(Stage::Settled(done));
                Ok(())
            }
            Err(error) => {
                self.encryption.stage(Stage::Failed(error.to_string()));
                Err(error.into())
            }
        }
    }

    /// The same with own keys, of which then only the newest is kept.
    async fn settle(&self, path: &Path, own: &mut Option<Managed>) -> Result<(), Error> {
        self.rewrite().await?;
        let Some(managed) = own.as_ref().filter(|managed| managed.has_old_keys()) else { return Ok(()) };
        // A damaged database is returned to the newest snapshot: that must not ask for a key that is gone.
        self.snapshots.take_automatic().await?;
        let managed = managed.clone().settled();
        let ring = ring(path, &managed)?;
        write(path, &managed)?;
        self.encryption.keys.replace(ring);
        *own = Some(managed);
        tracing::info!(file = %path.display(), "the old keys are gone");
        Ok(())
    }

    /// A new own key takes the place of the one there is.
    async fn rotate(&self) -> Result<(), Error> {
        let Source::Own(path, own) = &self.encryption.source else {
            let why = format!("the keys are those of {}: put a new one first there", self.encryption.source());
            return Err(Error::Refused(why));
        };
        let mut own = own.lock().await;
        if !own.as_ref().is_some_and(Managed::is_enabled) {
            return Err(Error::Refused("secrets encryption is disabled".to_owned()));
        }
        // One that an earlier process did not end, or that the disk had no room for.
        self.settle(path, &mut own).await?;
        let Some(before) = own.clone() else { return Ok(()) };
        let managed = before.rotated(managed::fresh_key(jiff::Timestamp::now())?);
        let ring = ring(path, &managed)?;
        write(path, &managed)?;
        self.encryption.keys.replace(ring);
        *own = Some(managed);
        self.settle(path, &mut own).await
    }

    fn told(&self) -> Value {
        let ring = self.encryption.keys.current();
        let ways: Vec<Value> = ring.ways().map(|Way { rule, provider, key, writes }| {
            json!({"resources": rule.to_string(), "provider": provider, "key": key, "active": writes})
        }).collect();
        let enabled = ring.ways().any(|way| way.writes && way.key.is_some());
        let source = self.encryption.source();
        let (stage, rewritten, missing) = match &*self.encryption.stage.lock().unwrap_or_else(PoisonError::into_inner) {
            Stage::Rewriting => ("stored values are being rewritten".to_owned(), 0, Vec::new()),
            Stage::Settled(done) => {
                ("all stored values are up to date".to_owned(), done.rewritten, missing(&done.unreadable, &source))
            }
            Stage::Failed(why) => (format!("rewriting stored values failed: {why}"), 0, Vec::new()),
        };
        json!({
            "enabled": enabled, "source": source, "keys": ways, "stage": stage, "rewritten": rewritten, "unreadable": missing,
        })
    }
}

/// A line for each key that is missing or wrong.
fn missing(unreadable: &[Unreadable], source: &str) -> Vec<String> {
    let mut by_key: BTreeMap<(&str, &str), Vec<&Unreadable>> = BTreeMap::new();
    for value in unreadable {
        by_key.entry((value.sealed_by.as_deref().unwrap_or("no key"), &value.why)).or_default().push(value);
    }
    let line = |((key, why), values): ((&str, &str), Vec<&Unreadable>)| {
        let first = values.first().map(|value| place(&value.key)).unwrap_or_default();
        format!(
            "{} stored values, {first} among them, are encrypted by {key}, and {source} does not open them: {why}",
            values.len()
        )
    };
    by_key.into_iter().map(line).collect()
}

#[async_trait]
impl Own for Rotation {
    async fn answer(&self, verb: &str, path: &[&str]) -> Option<Result<OwnAnswer, Status>> {
        let done = match (verb, path) {
            ("get", ["secrets-encrypt"]) => Ok(()),
            ("post", ["secrets-encrypt", "rotate-keys"]) => self.rotate().await,
            _ => return None,
        };
        Some(match done {
            Ok(()) => Ok(OwnAnswer::Value(self.told())),
            Err(Error::Refused(why)) => Err(Status::bad_request(why)),
            Err(error) => Err(Status::internal(error.to_string())),
        })
    }
}
