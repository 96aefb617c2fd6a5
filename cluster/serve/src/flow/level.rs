//! A priority level at work: its configuration, its seats, its queues, and who holds a seat.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::oneshot;

use super::borrow::{Bounds, Claim, Given};
use super::demand::Demand;
use super::metrics::Metrics;
use super::queues::{Id, Lingering, Queues, Rejected, Shape};
use super::schema::LevelConfig;
use super::work::{Work, as_f64};

/// A request as those see it who look at the queues.
#[derive(Debug)]
pub struct Note {
    pub schema: Arc<str>,
    pub distinguisher: String,
    pub details: Details,
    /// Told when it may begin.
    wake: Option<oneshot::Sender<()>>,
}

#[derive(Clone, Debug, Default)]
pub struct Details {
    pub user: Arc<str>,
    pub verb: String,
    pub path: String,
    pub namespace: String,
    pub name: String,
    pub api_version: String,
    pub resource: String,
    pub subresource: String,
}

/// One level of the configuration that is in force.
#[derive(Clone)]
pub struct Level {
    pub config: LevelConfig,
    pub bounds: Bounds,
    /// No schema leads here any more: it is left until its requests are done.
    pub quiescing: bool,
    metrics: Arc<Metrics>,
    work: Arc<Mutex<AtWork>>,
}

/// What lives on from configuration to configuration.
pub struct AtWork {
    pub queues: Queues<Note>,
    pub demand: Demand,
    pub given: Given,
    /// All that ever led here.
    pub schemas: BTreeSet<Arc<str>>,
    pub dispatched: u64,
    pub rejected: u64,
    /// Of those that were rejected: those that had waited.
    pub cancelled: u64,
}

impl AtWork {
    /// Lets all begin that can.
    fn begin(&mut self, now: Instant) {
        while let Some(held) = self.queues.next(now) {
            // Who is not there any more gives the seat back.
            if let Some(wake) = held.note.wake.take() {
                let _gone = wake.send(());
            }
        }
    }
}

impl Level {
    /// With what `before` has at work, or with empty queues.
    pub fn new(
        (config, quiescing): (LevelConfig, bool),
        bounds: Bounds,
        metrics: &Arc<Metrics>,
        before: Option<&Self>,
        now: Instant,
    ) -> Self {
        let fresh = || {
            Arc::new(Mutex::new(AtWork {
                queues: Queues::new(config.shape, bounds.nominal, now),
                demand: Demand::default(),
                given: Given::default(),
                schemas: BTreeSet::new(),
                dispatched: 0,
                rejected: 0,
                cancelled: 0,
            }))
        };
        let work = before.map_or_else(fresh, |before| Arc::clone(&before.work));
        Self { config, bounds, quiescing, metrics: Arc::clone(metrics), work }
    }

    /// Held for one step of a request; orders what happens to the level's queues.
    pub fn at_work(&self) -> MutexGuard<'_, AtWork> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_exempt(&self) -> bool {
        self.config.shape == Shape::Exempt
    }

    /// More than one queue: flows are told apart.
    pub fn tells_flows_apart(&self) -> bool {
        matches!(self.config.shape, Shape::Queue { dealer, .. } if dealer.deck() > 1)
    }

    /// The most seats that one request is thought to need: 15 of a hundred, and no more than a flow's share.
    pub fn most_seats(&self) -> Option<u64> {
        let Shape::Queue { dealer, .. } = self.config.shape else { return None };
        let nominal = self.bounds.nominal;
        Some((nominal * 15).div_ceil(100).min(nominal / dealer.hand()).max(1))
    }

    /// Its part in sharing seats out, for the period that ends now.
    pub fn claim(&self, now: Instant) -> Claim {
        let mut work = self.at_work();
        let seen = work.queues.take_demand(now);
        work.demand.update(seen);
        Claim { bounds: self.bounds, demand: work.demand, exempt: self.is_exempt() }
    }

    pub fn give(&self, given: Given, now: Instant) {
        let mut work = self.at_work();
        work.given = given;
        work.queues.configure(self.config.shape, given.seats, now);
        work.begin(now);
    }

    /// A request comes: it has a seat, or is told when it has, or is turned away.
    pub fn arrive(
        &self,
        work: Work,
        hash: u64,
        (schema, distinguisher, details): (Arc<str>, String, Details),
        now: Instant,
    ) -> Result<(Place, Option<oneshot::Receiver<()>>), Rejected> {
        let (wake, woken) = oneshot::channel();
        let note = Note { schema: Arc::clone(&schema), distinguisher, details, wake: Some(wake) };
        let mut held = self.at_work();
        held.schemas.insert(Arc::clone(&schema));
        let flow = [&*schema, &*self.config.name];
        self.metrics.estimated.observe(&flow, as_f64(work.seats()));
        let arrived = held.queues.arrive(work, hash, note, now);
        match arrived {
            Err(why) => {
                held.rejected += 1;
                self.metrics.rejected.inc(&[flow[0], flow[1], why.as_str()]);
                Err(why)
            }
            Ok((id, length)) => {
                if let Some(length) = length {
                    self.metrics.length.observe(&flow, as_f64(length));
                }
                held.begin(now);
                drop(held);
                let place = Place { level: self.clone(), schema, id, state: State::Waiting };
                Ok((place, length.map(|_| woken)))
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Executing { since: Instant },
    Gone,
}

/// A request's place: in a queue, then on seats; given up when dropped.
pub struct Place {
    level: Level,
    schema: Arc<str>,
    id: Id,
    state: State,
}

impl Place {
    /// It begins, after it has waited so long.
    pub fn begins(&mut self, arrived: Instant, now: Instant) {
        self.state = State::Executing { since: now };
        self.level.at_work().dispatched += 1;
        self.level.metrics.dispatched.inc(&[&self.schema, &self.level.config.name]);
        if !self.level.is_exempt() {
            self.waited("true", arrived, now);
        }
    }

    fn waited(&self, executes: &str, arrived: Instant, now: Instant) {
        let time = now.saturating_duration_since(arrived).as_secs_f64();
        self.level.metrics.waited.observe(&[executes, &self.schema, &self.level.config.name], time);
    }

    fn turned_away(&self, work: &mut AtWork, why: &str) {
        work.rejected += 1;
        work.cancelled += 1;
        self.level.metrics.rejected.inc(&[&self.schema, &self.level.config.name, why]);
    }

    /// Its time to wait is up. Whether it left its queue; if not, it has begun.
    pub fn leaves(&mut self, arrived: Instant, now: Instant) -> bool {
        let mut work = self.level.at_work();
        if work.queues.give_up(self.id, now).is_none() {
            return false;
        }
        self.turned_away(&mut work, "time-out");
        work.begin(now);
        drop(work);
        self.waited("false", arrived, now);
        self.state = State::Gone;
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut work = self.level.at_work();
        let left = self.state == State::Waiting && work.queues.give_up(self.id, now).is_some();
        if left {
            self.turned_away(&mut work, "cancelled");
        } else if self.state != State::Gone
            && let Some((_, lingering)) = work.queues.finish(self.id, now)
        {
            if let State::Executing { since } = self.state {
                let took = now.saturating_duration_since(since).as_secs_f64();
                self.level.metrics.executed.observe(&[&self.schema, &self.level.config.name, "regular"], took);
            }
            if let Some(kept) = lingering {
                linger(self.level.clone(), kept);
            }
        }
        work.begin(now);
    }
}

/// Gives seats back after a while.
fn linger(level: Level, kept: Lingering) {
    // Without a runtime the server is gone.
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    runtime.spawn(async move {
        tokio::time::sleep(kept.time).await;
        let now = Instant::now();
        let mut work = level.at_work();
        work.queues.release(kept, now);
        work.begin(now);
    });
}
