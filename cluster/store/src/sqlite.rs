//! The default store: one SQLite file in WAL mode, written by one thread.
//!
//! ```text
//! commit ─▶ queue ─▶ writer::run: as many waiting commits as there are ─▶ one transaction ─▶ fsync ─▶ Hub ─▶ acknowledge each
//! ```
//! Volatile resources (leases, events) live in the writer's memory, and in a file in memory for its successor. Revisions are handed out
//! from a block that was reserved on disk before, so that none is ever handed out twice, volatile writes and crashes included.

mod check;
mod damage;
mod database;
mod layout;
mod reseal;
mod rows;
mod snapshot;
mod volatile;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt as _};
use kedge_api::{GroupResource, Key, Object, Revision};
use kedge_encrypt::Keys;
use tokio::sync::{mpsc, oneshot};

use crate::{Commit, Error, Event, Expect, Listing, Range, Resealed, Store, Write};
pub use check::Summary;
pub use damage::Damage;
pub use snapshot::{inspect, restore};

use check::Depth;
use database::Database;
use writer::Job;

/// Requests that may wait for the writer before callers are held back.
const QUEUE: usize = 256;
/// How long a start looks at the structure of the file. Some ten thousand objects take a tenth of it.
const START_CHECK: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Resources that are never written to disk.
    pub volatile: Vec<GroupResource>,
    /// A file in memory where they outlive the process; without it they are gone with it.
    pub notes: Option<PathBuf>,
    /// The database file may not grow beyond this.
    pub max_bytes: Option<u64>,
    /// By which values are written and read; whoever holds them, too, may replace them.
    pub keys: Arc<Keys>,
}

pub struct Sqlite {
    jobs: mpsc::Sender<Job>,
}

impl Sqlite {
    /// Opens or creates the database, and checks it: every row, and the structure as far as [`START_CHECK`] goes. Blocks.
    pub fn open(path: impl Into<PathBuf>, options: Options) -> Result<Self, Error> {
        let path = path.into();
        if std::fs::symlink_metadata(&path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
            snapshot::create(&path)?;
        }
        let database = Database::open(path.clone(), options.max_bytes)?.with_keys(options.keys);
        if !database.check(Depth::Within(START_CHECK))?.whole {
            tracing::info!(path = %path.display(), "the database is large: its structure was not checked to the end");
        }
        let (jobs, queue) = mpsc::channel(QUEUE);
        let writer = writer::Writer::new(database, options.volatile, options.notes)?;
        std::thread::Builder::new()
            .name("store".into())
            .spawn(move || writer.run(queue))
            .map_err(|e| Error::Open { path, what: format!("starting its writer thread: {e}") })?;
        Ok(Self { jobs })
    }

    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Job) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.jobs.send(job(reply)).await.map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }
}

#[async_trait]
impl Store for Sqlite {
    async fn get(&self, key: &Key) -> Result<Option<Arc<Object>>, Error> {
        self.ask(|reply| Job::Get { key: key.clone(), reply }).await
    }

    async fn list(&self, range: &Range) -> Result<Listing, Error> {
        self.ask(|reply| Job::List { range: range.clone(), reply }).await
    }

    async fn commit(&self, expect: Expect, write: Write) -> Result<Commit, Error> {
        self.ask(|reply| Job::Commit { expect, write, reply }).await
    }

    async fn watch(&self, after: Revision) -> Result<BoxStream<'static, Event>, Error> {
        let receiver = self.ask(|reply| Job::Watch { after, reply }).await?;
        Ok(stream::unfold(receiver, |mut r| async move { r.recv().await.map(|event| (event, r)) }).boxed())
    }

    async fn snapshot(&self, to: &Path) -> Result<Summary, Error> {
        let to = to.to_owned();
        let partial = snapshot::partial(&to);
        self.ask(|reply| Job::Copy { to: partial, reply }).await?;
        tokio::task::spawn_blocking(move || snapshot::finish(&to)).await.map_err(|_| Error::Closed)?
    }

    async fn check(&self) -> Result<Summary, Error> {
        self.ask(|reply| Job::Check { reply }).await
    }

    async fn reseal(&self) -> Result<Resealed, Error> {
        let (mut done, mut after) = (Resealed::default(), Some(reseal::After::default()));
        while let Some(from) = after {
            let step = self.ask(|reply| Job::Reseal { after: from, reply }).await?;
            done.rewritten += step.rewritten;
            done.unreadable.extend(step.unreadable);
            after = step.next;
        }
        self.ask(|reply| Job::Scrub { reply }).await?;
        Ok(done)
    }
}
