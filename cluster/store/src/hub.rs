//! Hands committed events to watchers in order, and remembers the last few so that a watcher can begin where its list ended.

use std::collections::VecDeque;

use kedge_api::Revision;
use tokio::sync::mpsc;

use crate::{Error, Event};

/// Enough to bridge the moment between a list and the watch that follows it.
const REMEMBERED: usize = 64;
/// Events that a watcher may be behind.
pub(crate) const BACKLOG: usize = 1024;

pub(crate) struct Hub {
    /// The revision before the oldest remembered event.
    forgotten: Revision,
    recent: VecDeque<Event>,
    watchers: Vec<mpsc::Sender<Event>>,
}

impl Hub {
    pub(crate) fn new(head: Revision) -> Self {
        Self { forgotten: head, recent: VecDeque::new(), watchers: Vec::new() }
    }

    /// Remembers `event` and sends it with `send`; a watcher for which that fails is dropped, which ends its stream.
    pub(crate) fn publish(&mut self, event: &Event, send: impl Fn(&mpsc::Sender<Event>, Event) -> bool) {
        self.watchers.retain(|watcher| send(watcher, event.clone()));
        if self.recent.len() == REMEMBERED
            && let Some(oldest) = self.recent.pop_front()
        {
            self.forgotten = oldest.revision;
        }
        self.recent.push_back(event.clone());
    }

    pub(crate) fn watch(&mut self, after: Revision) -> Result<mpsc::Receiver<Event>, Error> {
        if after < self.forgotten {
            return Err(Error::Compacted { asked: after, oldest: self.forgotten });
        }
        let (sender, receiver) = mpsc::channel(BACKLOG);
        for event in self.recent.iter().filter(|e| e.revision > after) {
            // The channel is empty and larger than what is remembered.
            sender.try_send(event.clone()).map_err(|_| Error::Closed)?;
        }
        self.watchers.push(sender);
        Ok(receiver)
    }
}
