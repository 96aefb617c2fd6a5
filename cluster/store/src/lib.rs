//! The one place where the cluster's state is kept.
//!
//! Owns durability, the revision counter and compare-and-swap. Invariant: it never looks into an object beyond its metadata, and never
//! learns what a Pod is. Start reading at [`Store`]; [`sqlite`] is what a device runs on, [`memory`] what tests run on.
//!
//! ```text
//! commit(expect, write) ──▶ writer ──▶ disk ──▶ Hub ──▶ watch(after) ──▶ the watch cache
//!        ▲                    │ acknowledged only when durable
//!        └──── Commit ◀───────┘
//! ```
#![forbid(unsafe_code)]

pub mod counted;
mod document;
mod hub;
pub mod memory;
mod place;
pub mod sqlite;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use kedge_api::{GroupResource, Key, Object, Revision};

pub use counted::Counted;
pub use document::{Draft, EncodeError, decode, restamp};
pub use memory::Memory;
pub use place::place;
pub use sqlite::{Sqlite, Summary};

/// etcd's semantics: one revision counter over all keys, compare-and-swap as the only write, ordered events from a revision on.
#[async_trait]
pub trait Store: Send + Sync {
    async fn get(&self, key: &Key) -> Result<Option<Arc<Object>>, Error>;

    /// All objects in `range`.
    async fn list(&self, range: &Range) -> Result<Listing, Error>;

    /// Writes if `expect` holds. Returns after the write is as durable as its resource is meant to be.
    async fn commit(&self, expect: Expect, write: Write) -> Result<Commit, Error>;

    /// Every write after `after`, in order, without a gap. The stream ends when the store closes.
    async fn watch(&self, after: Revision) -> Result<BoxStream<'static, Event>, Error>;

    /// Writes all that is durable, as of one revision, to a new file at `to`; everything else goes on meanwhile.
    async fn snapshot(&self, to: &Path) -> Result<Summary, Error>;

    /// Looks at everything that is durable, however long that takes.
    async fn check(&self) -> Result<Summary, Error>;

    /// Writes anew what lies there otherwise than it would be written today, and leaves no trace of how it lay. No revision changes.
    async fn reseal(&self) -> Result<Resealed, Error> {
        Ok(Resealed::default())
    }
}

/// What was in a range.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// At which this was the whole truth.
    pub revision: Revision,
    pub objects: Vec<Arc<Object>>,
    /// Those that are there, too, but that no key opens.
    pub unreadable: Vec<Unreadable>,
}

/// An object that is encrypted in a way that this server has no key for, or that was tampered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    pub key: Key,
    /// In upstream's words.
    pub why: String,
    /// What it says of itself: `secretbox key "a"`.
    pub sealed_by: Option<String>,
}

impl Unreadable {
    pub(crate) fn new(key: Key, stored: &[u8], why: &impl ToString) -> Self {
        Self { key, why: why.to_string(), sealed_by: kedge_encrypt::sealed_by(stored) }
    }
}

/// What [`Store::reseal`] did, and what it could not read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    pub rewritten: u64,
    pub unreadable: Vec<Unreadable>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Range {
    All,
    Resource(GroupResource),
    Namespace(GroupResource, Arc<str>),
}

impl Range {
    pub fn contains(&self, key: &Key) -> bool {
        match self {
            Self::All => true,
            Self::Resource(resource) => key.resource == *resource,
            Self::Namespace(resource, namespace) => key.resource == *resource && key.namespace == *namespace,
        }
    }
}

/// What must be true of the key for a write to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    Absent,
    /// The key's newest version was written by this revision.
    Revision(Revision),
}

impl Expect {
    /// Whether `found`, the revision of the key's newest version, is what is expected.
    pub fn holds(self, found: Option<Revision>) -> bool {
        match self {
            Self::Absent => found.is_none(),
            Self::Revision(revision) => found == Some(revision),
        }
    }
}

#[derive(Clone, Debug)]
pub enum Write {
    Put(Draft),
    Delete(Key),
}

impl Write {
    pub fn key(&self) -> &Key {
        match self {
            Self::Put(draft) => draft.key(),
            Self::Delete(key) => key,
        }
    }
}

/// A write that happened.
#[derive(Clone, Debug)]
pub struct Commit {
    pub revision: Revision,
    /// The version written; `None` after a deletion.
    pub object: Option<Arc<Object>>,
}

/// A write, as watchers see it.
#[derive(Clone, Debug)]
pub struct Event {
    pub revision: Revision,
    pub key: Key,
    /// `None`: deleted.
    pub after: Option<Arc<Object>>,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    #[error("{key} was expected {expect:?}, but is {found:?}")]
    Conflict { key: Key, expect: Expect, found: Option<Revision> },
    #[error("writing {}: the file system is full; free space on it, reads go on meanwhile", path.display())]
    Full { path: PathBuf },
    #[error("the database {} is corrupt: {what}; restore it from a snapshot", path.display())]
    Corrupt { path: PathBuf, what: String },
    #[error("opening {}: {what}", path.display())]
    Open { path: PathBuf, what: String },
    #[error("the database {} failed: {what}", path.display())]
    Database { path: PathBuf, what: String },
    #[error("unable to transform key \"{place}\": {why}")]
    Unreadable { place: String, why: String },
    #[error("encrypting {place}: {why}")]
    Seal { place: String, why: String },
    #[error("revision {asked} is no longer known; the oldest is {oldest}")]
    Compacted { asked: Revision, oldest: Revision },
    #[error("the store is closed")]
    Closed,
    #[error("the store is in memory only: there is nothing to look at or to copy")]
    Nothing,
}
