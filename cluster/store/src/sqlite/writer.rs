//! The one thread that touches the database: takes all commits that wait, makes them durable together, then answers each.

use std::path::PathBuf;
use std::sync::Arc;

use kedge_api::{GroupResource, Key, Object, Revision};
use tokio::sync::{mpsc, oneshot};

use super::check::{Depth, Summary};
use super::database::Database;
use super::reseal::{After, Step};
use super::rows::Found;
use super::volatile::Volatile;
use crate::hub::Hub;
use crate::{Commit, Error, Event, Expect, Listing, Range, Write};

/// Commits in one transaction at most.
const BATCH: usize = 64;
/// Revisions reserved at a time: how many volatile writes cost one write to disk.
const BLOCK: u64 = 16_384;

type Reply<T> = oneshot::Sender<Result<T, Error>>;

pub(super) enum Job {
    Commit {
        expect: Expect,
        write: Write,
        reply: Reply<Commit>,
    },
    Get {
        key: Key,
        reply: Reply<Option<Arc<Object>>>,
    },
    List {
        range: Range,
        reply: Reply<Listing>,
    },
    Watch {
        after: Revision,
        reply: Reply<mpsc::Receiver<Event>>,
    },
    /// A copy of what is durable, as it is between two transactions.
    Copy {
        to: PathBuf,
        reply: Reply<()>,
    },
    Check {
        reply: Reply<Summary>,
    },
    /// Some rows after `after`, so that others come between.
    Reseal {
        after: After,
        reply: Reply<Step>,
    },
    /// Leaves nothing of what the file once held in an old form.
    Scrub {
        reply: Reply<()>,
    },
}

struct Pending {
    expect: Expect,
    write: Write,
    reply: Reply<Commit>,
}

pub(super) struct Writer {
    database: Database,
    volatile_resources: Vec<GroupResource>,
    volatile: Volatile,
    /// The newest revision handed out.
    head: Revision,
    /// Revisions up to this may be handed out without telling the disk.
    reserved: Revision,
    hub: Hub,
}

impl Writer {
    pub(super) fn new(
        database: Database,
        volatile_resources: Vec<GroupResource>,
        notes: Option<PathBuf>,
    ) -> Result<Self, Error> {
        let head = database.reserved()?;
        let hub = Hub::new(head);
        let volatile = Volatile::open(notes, database.identity()?);
        Ok(Self { database, volatile_resources, volatile, head, reserved: head, hub })
    }

    /// Runs until every handle to the queue is gone.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut jobs = Vec::with_capacity(BATCH);
        while queue.blocking_recv_many(&mut jobs, BATCH) > 0 {
            let mut durable = Vec::new();
            let mut volatile = Vec::new();
            let mut rest = Vec::new();
            for job in jobs.drain(..) {
                match job {
                    Job::Commit { expect, write, reply } => {
                        let pending = Pending { expect, write, reply };
                        let kept = !self.volatile_resources.contains(&pending.write.key().resource);
                        if kept { durable.push(pending) } else { volatile.push(pending) }
                    }
                    other => rest.push(other),
                }
            }
            self.commit_durable(durable);
            self.commit_volatile(volatile);
            for job in rest {
                self.answer(job);
            }
        }
    }

    fn answer(&mut self, job: Job) {
        // A receiver that is gone no longer wants its answer.
        match job {
            Job::Get { key, reply } => {
                let found = match self.volatile.get(&key) {
                    Some(object) => Ok(Some(object)),
                    None => self.database.get(&key),
                };
                let _ = reply.send(found);
            }
            Job::List { range, reply } => {
                let listed = self.database.list(&range).map(|Found { mut objects, unreadable }| {
                    objects.extend(self.volatile.within(&range));
                    Listing { revision: self.head, objects, unreadable }
                });
                let _ = reply.send(listed);
            }
            Job::Watch { after, reply } => {
                let _ = reply.send(self.hub.watch(after));
            }
            Job::Copy { to, reply } => {
                let _ = reply.send(self.database.copy(&to));
            }
            Job::Check { reply } => {
                let _ = reply.send(self.database.check(Depth::Whole));
            }
            Job::Reseal { after, reply } => {
                let _ = reply.send(self.database.reseal(&after));
            }
            Job::Scrub { reply } => {
                let _ = reply.send(self.database.scrub());
            }
            Job::Commit { expect, write, reply } => self.commit_durable(vec![Pending { expect, write, reply }]),
        }
    }

    /// One transaction for all. If the database fails, nothing happened and everyone is told the same error.
    fn commit_durable(&mut self, batch: Vec<Pending>) {
        if batch.is_empty() {
            return;
        }
        match self.transact(&batch) {
            Ok((head, reserved, results)) => {
                (self.head, self.reserved) = (head, reserved);
                for (pending, result) in batch.into_iter().zip(results) {
                    self.acknowledge(pending, result);
                }
            }
            Err(error) => {
                self.database.roll_back();
                tracing::error!(%error, commits = batch.len(), "writing");
                for pending in batch {
                    let _ = pending.reply.send(Err(error.clone()));
                }
            }
        }
    }

    #[expect(clippy::type_complexity, reason = "one use, named at its destructuring")]
    fn transact(&self, batch: &[Pending]) -> Result<(Revision, Revision, Vec<Result<Event, Error>>), Error> {
        let mut head = self.head;
        let mut reserved = self.reserved;
        self.database.begin()?;
        let mut results = Vec::with_capacity(batch.len());
        for Pending { expect, write, .. } in batch {
            let revision = Revision(head.0 + 1);
            let applied = self.database.apply(*expect, write, revision)?;
            if applied.is_ok() {
                head = revision;
            }
            results.push(applied.map(|after| Event { revision, key: write.key().clone(), after }));
        }
        if head > reserved {
            reserved = Revision(head.0 + BLOCK);
            self.database.reserve(reserved)?;
        }
        self.database.finish()?;
        Ok((head, reserved, results))
    }

    fn commit_volatile(&mut self, batch: Vec<Pending>) {
        if batch.is_empty() {
            return;
        }
        let mut results = Vec::with_capacity(batch.len());
        for Pending { expect, write, .. } in &batch {
            let revision = Revision(self.head.0 + 1);
            let result = self.reserve(revision).and_then(|()| self.volatile.swap(revision, *expect, write));
            if result.is_ok() {
                self.head = revision;
            }
            results.push(result);
        }
        self.volatile.note();
        for (pending, result) in batch.into_iter().zip(results) {
            self.acknowledge(pending, result);
        }
    }

    fn reserve(&mut self, revision: Revision) -> Result<(), Error> {
        if revision > self.reserved {
            let reserved = Revision(revision.0 + BLOCK);
            self.database.reserve(reserved)?;
            self.reserved = reserved;
        }
        Ok(())
    }

    fn acknowledge(&mut self, pending: Pending, result: Result<Event, Error>) {
        let answer = result.map(|event| {
            // A watcher that is behind holds back the writer: its queue is bounded, and nothing is lost.
            self.hub.publish(&event, |watcher, event| watcher.blocking_send(event).is_ok());
            Commit { revision: event.revision, object: event.after }
        });
        let _ = pending.reply.send(answer);
    }
}
