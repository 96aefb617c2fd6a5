//! The one loop that runs all controllers.
//!
//! Owns when a key is planned and acted on; never knows what a controller is about. Woken by the informer and by its own timers,
//! never by polling. Changes are answered from the newest snapshot, and a key that wrote is held back until the snapshot shows it.
//!
//! ```text
//! Informer::subscribe ──change──▶ Controller::keys ──▶ Queue ──take──▶ held back? ──no──▶ Controller::plan ──▶ Actor::carry_out
//!                                                       ▲  ▲              │ yes: until shown                     │
//!                                                       │  └──────────────┘                                      │
//!                                                       └──────────── done · failed · again ◀────────────────────┘
//! ```

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::stream::{BoxStream, FuturesUnordered};
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use kedge_api::event::Recorder;
use kedge_api::{Change, Client, GroupResource, Informer, Key, Reason, Snapshot, Status};

use crate::act::{Actor, Receipt, is_terminating};
use crate::controller::{Controller, Plan};
use crate::counted::Counted;
use crate::queue::Queue;

/// Plans carried out at the same time.
const WORKERS: usize = 4;
/// Changes taken from the informer before plans are made.
const BATCH: usize = 256;
/// A write that no snapshot shows after this time has been overwritten unseen, or changed nothing.
const PATIENCE: Duration = Duration::from_secs(5);
/// From this many failures in a row on, a key's trouble is worth a warning.
const WORTH_A_WARNING: u32 = 5;

/// A controller's place in the list, and the key.
type Id = (usize, Key);

struct Member {
    controller: Arc<dyn Controller>,
    actor: Arc<Actor>,
}

struct Outcome {
    id: Id,
    began: Instant,
    receipt: Receipt,
    result: Result<Option<Duration>, Status>,
}

pub struct Runner {
    members: Vec<Member>,
    informer: Arc<dyn Informer>,
    queue: Queue<Id>,
    /// What a key has written and no snapshot has shown yet.
    unseen: HashMap<Id, (Receipt, Instant)>,
    /// Keys that were due but had unseen writes.
    held: Vec<Id>,
    running: FuturesUnordered<BoxFuture<'static, Outcome>>,
    counted: Arc<Counted>,
}

impl Runner {
    /// `client` gives the client of a controller's account.
    pub fn new(
        controllers: Vec<Arc<dyn Controller>>,
        client: &dyn Fn(&str) -> Arc<dyn Client>,
        informer: Arc<dyn Informer>,
        counted: Arc<Counted>,
    ) -> Self {
        let member = |controller: Arc<dyn Controller>| {
            let client = client(controller.account());
            let recorder = Recorder::new(client.clone(), controller.name(), "");
            Member { controller, actor: Arc::new(Actor { client, recorder }) }
        };
        Self {
            members: controllers.into_iter().map(member).collect(),
            informer,
            queue: Queue::default(),
            unseen: HashMap::new(),
            held: Vec::new(),
            running: FuturesUnordered::new(),
            counted,
        }
    }

    /// Runs until the future is dropped.
    pub async fn run(mut self) {
        let resources = self.resources();
        loop {
            let (snapshot, changes) = self.informer.subscribe(&resources);
            self.everything(&snapshot);
            self.follow(changes).await;
            tracing::debug!("the informer dropped the controllers' subscription: starting from a new snapshot");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What all controllers watch together; none means all.
    fn resources(&self) -> Vec<GroupResource> {
        if self.members.iter().any(|m| m.controller.watches().is_empty()) {
            return Vec::new();
        }
        let mut all: Vec<_> = self.members.iter().flat_map(|m| m.controller.watches()).cloned().collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    async fn follow(&mut self, mut changes: BoxStream<'static, Change>) {
        loop {
            self.start_work();
            for (i, member) in self.members.iter().enumerate() {
                let waiting = self.queue.ready().filter(|(at, _)| *at == i).count();
                self.counted.waiting(member.controller.name(), waiting);
            }
            let due = self.queue.next_due();
            let timer = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                change = changes.next() => {
                    let Some(change) = change else { return };
                    self.route(change);
                    for _ in 1..BATCH {
                        match changes.next().now_or_never() {
                            Some(Some(change)) => self.route(change),
                            Some(None) => return,
                            None => break,
                        }
                    }
                    self.release();
                }
                Some(outcome) = self.running.next(), if !self.running.is_empty() => self.finish(outcome),
                () = timer => {}
            }
        }
    }

    fn everything(&mut self, snapshot: &Snapshot) {
        let mut keys = Vec::new();
        for (i, member) in self.members.iter().enumerate() {
            let watches = member.controller.watches();
            let all: Vec<_> =
                if watches.is_empty() { snapshot.resources().collect() } else { watches.iter().collect() };
            for object in all.into_iter().flat_map(|resource| snapshot.list(resource, "")) {
                let change = Change {
                    revision: object.revision,
                    key: object.key.clone(),
                    before: None,
                    after: Some(object.clone()),
                };
                member.controller.keys(snapshot, &change, &mut keys);
                keys.drain(..).for_each(|key| {
                    self.counted.added(member.controller.name());
                    self.queue.add((i, key));
                });
            }
        }
    }

    fn route(&mut self, change: Change) {
        let snapshot = self.informer.snapshot();
        let mut keys = Vec::new();
        for (i, member) in self.members.iter().enumerate() {
            let watches = member.controller.watches();
            if watches.is_empty() || watches.contains(&change.key.resource) {
                member.controller.keys(&snapshot, &change, &mut keys);
                keys.drain(..).for_each(|key| {
                    self.counted.added(member.controller.name());
                    self.queue.add((i, key));
                });
            }
        }
    }

    /// Forgets writes that are now shown, and lets go of the keys that waited for them.
    fn release(&mut self) {
        if self.unseen.is_empty() {
            return;
        }
        let snapshot = self.informer.snapshot();
        self.unseen.retain(|_, (receipt, _)| !receipt.shown_by(&snapshot));
        for id in self.held.extract_if(.., |id| !self.unseen.contains_key(id)) {
            self.queue.add(id);
        }
    }

    fn start_work(&mut self) {
        let now = Instant::now();
        while self.running.len() < WORKERS {
            let Some(id) = self.queue.take(now) else { return };
            let snapshot = self.informer.snapshot();
            if let Some((receipt, since)) = self.unseen.get(&id) {
                if !receipt.shown_by(&snapshot) && now < *since + PATIENCE {
                    let until = *since + PATIENCE;
                    self.queue.put_back(&id);
                    self.queue.add_at(id.clone(), until);
                    if !self.held.contains(&id) {
                        self.held.push(id);
                    }
                    continue;
                }
                self.unseen.remove(&id);
                self.held.retain(|other| *other != id);
            }
            let Some(member) = self.members.get(id.0) else { continue };
            let began = Instant::now();
            match member.controller.plan(&snapshot, &id.1, Timestamp::now()) {
                Ok(plan) if plan.steps.is_empty() => {
                    self.finish(Outcome { id, began, receipt: Receipt::default(), result: Ok(plan.again) });
                }
                Ok(plan) => {
                    let (controller, actor) = (member.controller.clone(), member.actor.clone());
                    let acting = act(controller, actor, self.informer.clone(), id, plan);
                    let outcome = acting.map(move |(id, receipt, result)| Outcome { id, began, receipt, result });
                    self.running.push(outcome.boxed());
                }
                Err(status) => self.finish(Outcome { id, began, receipt: Receipt::default(), result: Err(status) }),
            }
        }
    }

    fn finish(&mut self, outcome: Outcome) {
        let now = Instant::now();
        let Outcome { id, began, receipt, result } = outcome;
        let name = self.members.get(id.0).map_or("", |m| m.controller.name());
        self.counted.worked(name, now.duration_since(began), result.is_err());
        if !receipt.is_empty() && !receipt.shown_by(&self.informer.snapshot()) {
            self.unseen.insert(id.clone(), (receipt, now));
        }
        match result {
            Ok(again) => {
                self.queue.done(&id);
                if let Some(delay) = again {
                    self.queue.add_at(id, now + delay);
                }
            }
            Err(status) => {
                self.queue.failed(&id, now);
                // A conflict says only that the snapshot was old; a leaving namespace takes nothing new.
                let expected = status.is(Reason::Conflict) || is_terminating(&status);
                if !expected && self.queue.failures(&id) >= WORTH_A_WARNING {
                    tracing::warn!(controller = name, key = %id.1, error = %status, "keeps failing, will be tried again");
                } else {
                    tracing::debug!(controller = name, key = %id.1, error = %status, "failed, will be tried again");
                }
            }
        }
    }
}

async fn act(
    controller: Arc<dyn Controller>,
    actor: Arc<Actor>,
    informer: Arc<dyn Informer>,
    id: Id,
    plan: Plan,
) -> (Id, Receipt, Result<Option<Duration>, Status>) {
    let mut receipt = Receipt::default();
    let mut result = actor.carry_out(plan.steps, &mut receipt).await.map(|()| plan.again);
    if let Err(status) = &result {
        let fallback = controller.failed(&informer.snapshot(), &id.1, Timestamp::now(), status);
        if let Err(second) = match fallback {
            Ok(plan) => actor.carry_out(plan.steps, &mut receipt).await,
            Err(status) => Err(status),
        } {
            tracing::debug!(controller = controller.name(), key = %id.1, error = %second, "failure not noted in the object");
        }
        if status.is(Reason::NotFound) {
            // The object went away under the plan; a change for it is on its way.
            result = Ok(Some(Duration::from_secs(1)));
        }
    }
    (id, receipt, result)
}
