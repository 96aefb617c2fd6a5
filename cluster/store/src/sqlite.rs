//! The default store: one SQLite file in WAL mode, written by one thread.
//!
//! ```text
//! commit ─▶ queue ─▶ writer::run: as many waiting commits as there are ─▶ one transaction ─▶ fsync ─▶ Hub ─▶ acknowledge each
//! ```
//! Volatile resources (leases, events) live in the writer's memory only. Revisions are handed out from a block that was reserved on disk
//! before, so that none is ever handed out twice, volatile writes and crashes included.

mod database;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt as _};
use kedge_api::{GroupResource, Key, Object, Revision};
use tokio::sync::{mpsc, oneshot};

use crate::{Commit, Error, Event, Expect, Range, Store, Write};
use database::Database;
use writer::Job;

/// Requests that may wait for the writer before callers are held back.
const QUEUE: usize = 256;

#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Resources that are never written to disk and are gone after a restart.
    pub volatile: Vec<GroupResource>,
    /// The database file may not grow beyond this.
    pub max_bytes: Option<u64>,
}

pub struct Sqlite {
    jobs: mpsc::Sender<Job>,
}

impl Sqlite {
    /// Opens or creates the database. Blocks; also on a large file only for as long as recovery takes.
    pub fn open(path: impl Into<PathBuf>, options: Options) -> Result<Self, Error> {
        let path = path.into();
        let database = Database::open(path.clone(), options.max_bytes)?;
        let (jobs, queue) = mpsc::channel(QUEUE);
        let writer = writer::Writer::new(database, options.volatile)?;
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

    async fn list(&self, range: &Range) -> Result<(Revision, Vec<Arc<Object>>), Error> {
        self.ask(|reply| Job::List { range: range.clone(), reply }).await
    }

    async fn commit(&self, expect: Expect, write: Write) -> Result<Commit, Error> {
        self.ask(|reply| Job::Commit { expect, write, reply }).await
    }

    async fn watch(&self, after: Revision) -> Result<BoxStream<'static, Event>, Error> {
        let receiver = self.ask(|reply| Job::Watch { after, reply }).await?;
        Ok(stream::unfold(receiver, |mut r| async move { r.recv().await.map(|event| (event, r)) }).boxed())
    }
}
