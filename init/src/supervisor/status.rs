//! How the services are, for each other and for people.

use std::time::Duration;
use tokio::sync::watch;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// For those it stands after.
    Waiting,
    Starting,
    Ready,
    Failed {
        why: String,
        restarts_in: Duration,
    },
    Stopped,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub name: &'static str,
    pub phase: Phase,
    /// What it says about itself; empty when it has nothing to say.
    pub note: String,
    /// Failures since the process started.
    pub failures: u32,
}

/// The statuses of a table, in its order. Cheap to clone; every clone is the same.
#[derive(Clone)]
pub struct Statuses {
    all: watch::Sender<Vec<Status>>,
}

impl Statuses {
    pub fn new(names: impl Iterator<Item = &'static str>) -> Self {
        let status = |name| Status { name, phase: Phase::Waiting, note: String::new(), failures: 0 };
        Self { all: watch::Sender::new(names.map(status).collect()) }
    }

    pub fn subscribe(&self) -> watch::Receiver<Vec<Status>> {
        self.all.subscribe()
    }

    pub fn set(&self, name: &str, phase: Phase) {
        self.change(name, |status| {
            if status.phase == phase {
                return false;
            }
            if matches!(phase, Phase::Failed { .. }) {
                status.failures = status.failures.saturating_add(1);
                status.note.clear();
            }
            status.phase = phase;
            true
        });
    }

    pub fn note(&self, name: &str, note: String) {
        self.change(name, |status| {
            let changed = status.note != note;
            status.note = note;
            changed
        });
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Status) -> bool) {
        self.all.send_if_modified(|all| all.iter_mut().find(|status| status.name == name).is_some_and(change));
    }

    /// Completes when `condition` holds of all.
    pub async fn wait(&self, condition: impl FnMut(&[Status]) -> bool) {
        let mut condition = condition;
        // The sender lives as long as `self`, so that this never fails.
        let _ = self.subscribe().wait_for(|all| condition(all)).await;
    }
}
