//! The loop: takes changes in, tries the waiting pods one by one, and binds while it goes on deciding.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::stream::{BoxStream, FuturesUnordered};
use futures::{FutureExt, StreamExt};
use kedge_api::event::Recorder;
use kedge_api::resource::known::{NODES, PODS};
use kedge_api::{Change, Client, Informer, Object, Status};

use crate::bind::{Outcome, bind, note};
use crate::cache::Cache;
use crate::decide::{Decision, decide};
use crate::plugins::Wake;
use crate::pod::{PodInfo, Standing};
use crate::queue::Queue;

/// Bindings and failure notes under way at the same time.
const WORKERS: usize = 8;
const BATCH: usize = 256;

#[derive(Clone, Debug)]
pub struct Options {
    /// Pods with this `schedulerName` are ours; also the name in events.
    pub name: &'static str,
}

impl Default for Options {
    fn default() -> Self {
        Self { name: "default-scheduler" }
    }
}

struct Scheduler {
    name: &'static str,
    client: Arc<dyn Client>,
    recorder: Arc<Recorder>,
    cache: Cache,
    queue: Queue,
    turn: usize,
    running: FuturesUnordered<BoxFuture<'static, Outcome>>,
}

/// Runs until the future is dropped.
pub async fn run(client: Arc<dyn Client>, informer: Arc<dyn Informer>, options: Options) {
    let recorder = Arc::new(Recorder::new(client.clone(), options.name, ""));
    loop {
        let mut scheduler = Scheduler {
            name: options.name,
            client: client.clone(),
            recorder: recorder.clone(),
            cache: Cache::default(),
            queue: Queue::default(),
            turn: 0,
            running: FuturesUnordered::new(),
        };
        let (snapshot, changes) = informer.subscribe(&[PODS, NODES]);
        for resource in [&NODES, &PODS] {
            for object in snapshot.list(resource, "") {
                let (revision, key) = (object.revision, object.key.clone());
                scheduler.take_in(&Change { revision, key, before: None, after: Some(object.clone()) });
            }
        }
        drop(snapshot);
        scheduler.follow(changes).await;
        tracing::debug!("the informer dropped the scheduler's subscription: starting from a new snapshot");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

impl Scheduler {
    async fn follow(&mut self, mut changes: BoxStream<'static, Change>) {
        loop {
            while self.running.len() < WORKERS {
                let Some(pod) = self.queue.take(Instant::now()) else { break };
                self.attempt(pod);
            }
            let due = self.queue.next_due().filter(|_| self.running.len() < WORKERS);
            let timer = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                change = changes.next() => {
                    let Some(change) = change else { break };
                    self.take_in(&change);
                    for _ in 1..BATCH {
                        match changes.next().now_or_never() {
                            Some(Some(change)) => self.take_in(&change),
                            Some(None) | None => break,
                        }
                    }
                }
                Some(outcome) = self.running.next(), if !self.running.is_empty() => self.finish(outcome),
                () = timer => {}
            }
        }
        // What was decided is carried out before a new start counts from the snapshot.
        while self.running.next().await.is_some() {}
    }

    fn take_in(&mut self, change: &Change) {
        let result = if change.key.resource == NODES { self.node(change) } else { self.pod(change) };
        if let Err(status) = result {
            tracing::warn!(key = %change.key, error = %status, "cannot be read, so it is left out of scheduling");
        }
    }

    fn node(&mut self, change: &Change) -> Result<(), Status> {
        if self.cache.node_changed(change)? {
            self.queue.wake(Wake::Node, Instant::now());
        }
        Ok(())
    }

    fn pod(&mut self, change: &Change) -> Result<(), Status> {
        let replaced = |before: &&Arc<Object>| change.after.as_ref().is_none_or(|after| after.uid() != before.uid());
        if let Some(gone) = change.before.as_ref().filter(replaced) {
            self.forget(gone.uid());
        }
        let Some(object) = &change.after else { return Ok(()) };
        let uid = object.uid();
        match Standing::of(object, self.name)? {
            Standing::Nothing => self.forget(uid),
            Standing::Waiting if self.cache.node_of(uid).is_some() => {} // Assumed: its binding is on the way.
            Standing::Waiting => {
                let pod = PodInfo::read(object)?;
                match self.queue.get(uid) {
                    Some(known) if known.spec == pod.spec && known.object.meta.labels == object.meta.labels => {
                        self.queue.refresh(pod);
                    }
                    Some(_) | None => self.queue.add(pod),
                }
            }
            Standing::Placed(node) => self.placed(object, &node)?,
        }
        Ok(())
    }

    fn placed(&mut self, object: &Arc<Object>, node: &str) -> Result<(), Status> {
        let uid = object.uid();
        self.queue.remove(uid);
        let known = self.cache.node_of(uid).map(str::to_owned);
        if known.as_deref() == Some(node) {
            let state = self.cache.nodes.get(node).and_then(|state| state.pods.get(uid));
            let same =
                |old: &Object| old.meta.generation == object.meta.generation && old.meta.labels == object.meta.labels;
            if state.is_some_and(|old| same(&old.object)) {
                self.cache.refresh(object);
                return Ok(());
            }
        }
        self.cache.place(&PodInfo::read(object)?, node);
        let now = Instant::now();
        self.queue.wake(Wake::PodPlaced, now);
        if known.is_some() {
            // Resized in place, or bound elsewhere than assumed: there may be room now.
            self.queue.wake(Wake::PodGone, now);
        }
        Ok(())
    }

    fn forget(&mut self, uid: &str) {
        self.queue.remove(uid);
        if self.cache.remove(uid) {
            self.queue.wake(Wake::PodGone, Instant::now());
        }
    }

    fn attempt(&mut self, pod: Arc<PodInfo>) {
        self.turn = self.turn.wrapping_add(1);
        match decide(&pod, &self.cache, self.turn) {
            Decision::Bind(node) => {
                self.cache.place(&pod, &node);
                self.running.push(bind(self.client.clone(), self.recorder.clone(), pod, node).boxed());
            }
            Decision::Refused { message, helped_by } => {
                self.queue.refused(pod.uid(), helped_by, Instant::now());
                self.running.push(note(self.client.clone(), self.recorder.clone(), pod, message).boxed());
            }
        }
    }

    fn finish(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Bound | Outcome::Noted => {}
            Outcome::BindFailed { uid, why } => {
                tracing::debug!(uid, error = %why, "binding failed");
                // A pod that is no more waiting was placed or removed by a change, which knows better.
                if self.queue.get(&uid).is_some() {
                    self.cache.remove(&uid);
                    let now = Instant::now();
                    self.queue.wake(Wake::PodGone, now);
                    self.queue.failed(&uid, now);
                }
            }
        }
    }
}
