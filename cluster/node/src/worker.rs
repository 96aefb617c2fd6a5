//! One pod's task: asks the plan what to do, has it done, tells the API how it went.
//!
//! Owns what is known of the pod, and `RUN/pods/UID/observed.json`, from which a successor of this process goes on.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kedge_api::{Reason, Status};
use kedge_runtime::Exit;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::actions::{Job, prepare, release, stop};
use crate::pod::{Action, Event, Observed, Sandbox, SlotId, plan, sooner, status};
use crate::site::Site;
use crate::tell;

/// How long after a refused status it is told again.
const TELL_AGAIN: i64 = 2;

/// What the API wants of a pod now.
#[derive(Clone)]
pub struct Desired {
    pub pod: Arc<Pod>,
    /// The API no longer has it.
    pub gone: bool,
}

/// What happens to a pod from outside.
#[derive(Debug)]
pub enum Message {
    Exited {
        slot: SlotId,
        attempt: u32,
        exit: Exit,
    },
    /// An object that the pod names has changed.
    Changed,
}

/// What comes back from something that was begun.
enum Done {
    Events(Vec<Event>),
    Told(Box<PodStatus>, Result<(), Status>),
}

pub struct Worker {
    site: Arc<Site>,
    desired: watch::Receiver<Desired>,
    messages: mpsc::Receiver<Message>,
    pod: Arc<Pod>,
    gone: bool,
    observed: Observed,
    under_way: JoinSet<Done>,
    telling: bool,
    told: Option<Box<PodStatus>>,
    tell_again: Option<Timestamp>,
    /// Containers that are of no use and in the way.
    useless: Vec<String>,
    /// The checkpoint as it was last written.
    saved: Vec<u8>,
}

/// Where a pod's checkpoint stands.
pub fn checkpoint(site: &Site, uid: &str) -> PathBuf {
    site.run_of(uid).join("observed.json")
}

impl Worker {
    pub fn new(
        site: Arc<Site>,
        desired: watch::Receiver<Desired>,
        messages: mpsc::Receiver<Message>,
        observed: Observed,
        useless: Vec<String>,
    ) -> Self {
        let Desired { pod, gone } = desired.borrow().clone();
        Self {
            site,
            desired,
            messages,
            pod,
            gone,
            observed,
            under_way: JoinSet::new(),
            telling: false,
            told: None,
            tell_again: None,
            useless,
            saved: Vec::new(),
        }
    }

    /// Ends when nothing is left of the pod.
    pub async fn run(mut self) {
        for id in std::mem::take(&mut self.useless) {
            if let Err(error) = self.site.runtime.remove(&id).await {
                tracing::warn!(container = %id, %error, "ended container is not removed");
            }
        }
        if matches!(self.observed.sandbox, Sandbox::Ready { .. }) {
            prepare::reconnect(&self.job()).await;
        }
        loop {
            let now = self.site.now();
            let plan = plan::next(&self.pod, &self.observed, self.gone, now);
            for action in &plan.actions {
                self.observed.begin(action, now, &self.pod);
                match action {
                    Action::Finish => return self.finish(),
                    Action::Delete => self.delete(now),
                    _ => self.begin(action.clone()),
                }
            }
            if !plan.actions.is_empty() {
                continue;
            }
            self.save();
            self.tell(now);
            let wake = sooner(plan.wake, self.tell_again);
            if !self.wait(wake, now).await {
                return;
            }
        }
    }

    fn status(&self, now: Timestamp) -> PodStatus {
        status::of(&self.pod, &self.observed, self.told.as_deref(), &self.site.host_addresses(), now)
    }

    fn job(&self) -> Job {
        Job { site: self.site.clone(), pod: self.pod.clone(), addresses: self.observed.addresses().to_vec() }
    }

    fn begin(&mut self, action: Action) {
        let job = self.job();
        self.under_way.spawn(async move { Done::Events(job.run(action).await) });
    }

    /// Waits for the next thing to happen. `false`: nobody wants this task any more.
    async fn wait(&mut self, wake: Option<Timestamp>, now: Timestamp) -> bool {
        let pause = wake.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO));
        tokio::select! {
            message = self.messages.recv() => match message {
                Some(message) => self.heed(message),
                None => return false,
            },
            changed = self.desired.changed() => {
                if changed.is_err() {
                    return false;
                }
                self.adjust();
            }
            Some(done) = self.under_way.join_next() => match done {
                Ok(done) => self.note(done),
                Err(error) => {
                    // What was begun has no end that is known: start from what the runtime knows, in a new task.
                    tracing::error!(pod = ?self.pod.metadata.name, %error, "an action panicked");
                    return false;
                }
            },
            () = sleep(pause) => self.tell_again = None,
        }
        true
    }

    fn adjust(&mut self) {
        let Desired { pod, gone } = self.desired.borrow_and_update().clone();
        let (before, after) = (&self.pod.metadata, &pod.metadata);
        if before.labels != after.labels || before.annotations != after.annotations {
            self.observed.apply(Event::Changed, self.site.now(), &pod);
        }
        self.pod = pod;
        self.gone = gone;
    }

    fn heed(&mut self, message: Message) {
        let now = self.site.now();
        let event = match message {
            Message::Changed => Event::Changed,
            Message::Exited { slot, attempt, exit } => {
                let started = self.observed.slot(slot).and_then(|s| s.phase.running_since());
                let job = self.job();
                let end = stop::termination(&job, slot, attempt, &exit, started);
                let (runtime, id) = (self.site.runtime.clone(), end.id.clone());
                self.under_way.spawn(async move {
                    if let Err(error) = runtime.remove(&id).await {
                        tracing::warn!(container = %id, %error, "ended container is not removed");
                    }
                    Done::Events(Vec::new())
                });
                Event::Exited { slot, attempt, end }
            }
        };
        self.observed.apply(event, now, &self.pod);
    }

    fn note(&mut self, done: Done) {
        let now = self.site.now();
        match done {
            Done::Events(events) => {
                for event in events {
                    self.observed.apply(event, now, &self.pod);
                }
            }
            Done::Told(status, result) => {
                self.telling = false;
                match result {
                    Ok(()) => self.told = Some(status),
                    // The object went meanwhile: the informer says so, too.
                    Err(error) if error.is(Reason::NotFound) || error.is(Reason::Conflict) => self.told = Some(status),
                    Err(error) => {
                        tracing::warn!(pod = ?self.pod.metadata.name, %error, "status of a pod is refused");
                        self.tell_again = Some(crate::pod::after(now, TELL_AGAIN));
                    }
                }
            }
        }
    }

    fn save(&mut self) {
        let Some(uid) = self.pod.metadata.uid.as_deref() else { return };
        let Ok(json) = serde_json::to_vec(&self.observed) else { return };
        if json == self.saved {
            return;
        }
        let path = checkpoint(&self.site, uid);
        let next = path.with_extension("new");
        let dir = self.site.run_of(uid);
        let write = || {
            std::fs::create_dir_all(dir)?;
            std::fs::write(&next, &json)?;
            std::fs::rename(&next, &path)
        };
        match write() {
            Ok(()) => self.saved = json,
            Err(error) => tracing::warn!(path = %path.display(), %error, "checkpoint of a pod is not written"),
        }
    }

    /// Tells the API the pod's status if it changed. One at a time: what changes meanwhile is told together after.
    fn tell(&mut self, now: Timestamp) {
        if self.telling || self.gone || self.observed.deleted || self.tell_again.is_some_and(|at| at > now) {
            return;
        }
        let status = Box::new(self.status(now));
        // As it is on the wire: there, times have no fractions.
        if self.told.as_ref().is_some_and(|told| serde_json::to_vec(told).ok() == serde_json::to_vec(&status).ok()) {
            return;
        }
        self.telling = true;
        let (site, pod) = (self.site.clone(), self.pod.clone());
        self.under_way.spawn(async move {
            let result = tell::status(&site, &pod, &status).await;
            Done::Told(status, result)
        });
    }

    /// The final status, then the final deletion; repeated until the API agrees.
    fn delete(&mut self, now: Timestamp) {
        let status = self.status(now);
        let (site, pod) = (self.site.clone(), self.pod.clone());
        self.under_way.spawn(async move {
            let mut pause = Duration::from_millis(500);
            while let Err(error) = tell::last(&site, &pod, &status).await {
                tracing::warn!(pod = ?pod.metadata.name, %error, "final deletion of a pod is refused");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(30));
            }
            Done::Events(Vec::new())
        });
    }

    /// Removes the last traces.
    fn finish(&self) {
        let uid = self.pod.metadata.uid.as_deref().unwrap_or_default();
        for path in [self.site.run_of(uid), self.site.state_of(uid), self.site.logs(&self.pod)] {
            release::remove_dir(&path);
        }
    }
}

async fn sleep(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}
