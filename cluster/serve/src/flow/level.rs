//! A priority level at work: its configuration, its seats, its queues, and who holds a seat.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::oneshot;

use super::borrow::{Bounds, Claim, Given};
use super::demand::Demand;
use super::metrics::Counts;
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
    work: Arc<Mutex<AtWork>>,
}

/// What lives on from configuration to configuration.
pub struct AtWork {
    pub queues: Queues<Note>,
    pub demand: Demand,
    pub given: Given,
    /// By schema.
    pub counts: BTreeMap<Arc<str>, Counts>,
}

impl AtWork {
    pub fn count(&mut self, schema: &Arc<str>) -> &mut Counts {
        self.counts.entry(Arc::clone(schema)).or_default()
    }

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
    pub fn new(config: LevelConfig, bounds: Bounds, quiescing: bool, before: Option<&Self>, now: Instant) -> Self {
        let fresh = || {
            Arc::new(Mutex::new(AtWork {
                queues: Queues::new(config.shape, bounds.nominal, now),
                demand: Demand::default(),
                given: Given::default(),
                counts: BTreeMap::new(),
            }))
        };
        let work = before.map_or_else(fresh, |before| Arc::clone(&before.work));
        Self { config, bounds, quiescing, work }
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
        held.count(&schema).estimated.note(as_f64(work.seats()));
        let arrived = held.queues.arrive(work, hash, note, now);
        match arrived {
            Err(why) => {
                held.count(&schema).reject(why.as_str());
                Err(why)
            }
            Ok((id, length)) => {
                if let Some(length) = length {
                    held.count(&schema).length.note(as_f64(length));
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
        let exempt = self.level.is_exempt();
        let mut work = self.level.at_work();
        let counts = work.count(&self.schema);
        counts.dispatched += 1;
        if !exempt {
            counts.waited.note(now.saturating_duration_since(arrived).as_secs_f64());
        }
    }

    /// Its time to wait is up. Whether it left its queue; if not, it has begun.
    pub fn leaves(&mut self, arrived: Instant, now: Instant) -> bool {
        let mut work = self.level.at_work();
        if work.queues.give_up(self.id, now).is_none() {
            return false;
        }
        let counts = work.count(&self.schema);
        counts.reject("time-out");
        counts.gave_up.note(now.saturating_duration_since(arrived).as_secs_f64());
        work.begin(now);
        drop(work);
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
            work.count(&self.schema).reject("cancelled");
        } else if self.state != State::Gone
            && let Some((_, lingering)) = work.queues.finish(self.id, now)
        {
            if let State::Executing { since } = self.state {
                work.count(&self.schema).executed.note(now.saturating_duration_since(since).as_secs_f64());
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
    let release = move || {
        let now = Instant::now();
        let mut work = level.at_work();
        work.queues.release(kept, now);
        work.begin(now);
    };
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn(async move {
            tokio::time::sleep(kept.time).await;
            release();
        })),
        // The server is gone.
        Err(_) => {}
    }
}
