//! The queues of one level: who is carried out at once, who waits, who is next, who is turned away. Pure: told the time, and what happened.
//!
//! Fair queuing for requests, after upstream's design (KEP-1040): each queue has a virtual time at which its next request starts. Virtual
//! time R advances at the rate at which each queue that has something to do would be served if all were served evenly. The request that
//! would end first goes first. What a request takes is guessed when it starts and put right when it ends.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::demand::{Followed, Seen};
use super::shuffle::Dealer;
use super::work::{Work, as_f64};

/// What a level does with requests that it has no seats for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// There are always seats.
    Exempt,
    Reject,
    Queue {
        dealer: Dealer,
        /// Requests that wait in one queue.
        length: u64,
    },
}

/// Why a request is turned away, as metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejected {
    ConcurrencyLimit,
    QueueFull,
}

impl Rejected {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConcurrencyLimit => "concurrency-limit",
            Self::QueueFull => "queue-full",
        }
    }
}

pub type Id = u64;

/// A request, as whoever looks on sees it.
#[derive(Debug)]
pub struct Held<T> {
    pub id: Id,
    pub work: Work,
    pub arrived: Instant,
    /// When it was begun, if it was.
    pub started: Option<Instant>,
    /// Whatever the caller knows it by.
    pub note: T,
    arrived_r: f64,
    queue: Option<usize>,
}

#[derive(Debug)]
pub struct Queue<T> {
    pub waiting: VecDeque<Held<T>>,
    /// The virtual time at which its next request starts.
    pub next_start: f64,
    pub executing: u64,
    /// Also those of requests that linger.
    pub seats: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), next_start: 0.0, executing: 0, seats: 0 }
    }
}

impl<T> Queue<T> {
    fn is_active(&self) -> bool {
        !self.waiting.is_empty() || self.executing > 0
    }

    pub fn waiting_work(&self) -> f64 {
        self.waiting.iter().map(|held| held.work.total()).sum()
    }

    /// A queue that always has something but uses less than its share must not save it up: nothing starts before it came.
    fn bound(&mut self) {
        if let Some(first) = self.waiting.front() {
            self.next_start = self.next_start.max(first.arrived_r);
        }
    }
}

/// Seats that a request which has ended keeps for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Lingering {
    pub time: Duration,
    seats: u64,
    queue: Option<usize>,
}

#[derive(Debug)]
pub struct Queues<T> {
    shape: Shape,
    /// Seats there are now.
    limit: u64,
    /// Queues behind those of the shape are left over from a larger one and take no more requests.
    queues: Vec<Queue<T>>,
    executing: HashMap<Id, Held<T>>,
    waiting: u64,
    seats: u64,
    seats_waiting: u64,
    demand: Followed,
    /// Virtual time, in seat-seconds; and when it was that. After a year of full load it is still good to some microseconds.
    now_r: f64,
    at: Instant,
    last_queue: usize,
    ids: Id,
}

impl<T> Queues<T> {
    pub fn new(shape: Shape, limit: u64, now: Instant) -> Self {
        let mut new = Self {
            shape,
            limit,
            queues: Vec::new(),
            executing: HashMap::new(),
            waiting: 0,
            seats: 0,
            seats_waiting: 0,
            demand: Followed::new(now),
            now_r: 0.0,
            at: now,
            last_queue: 0,
            ids: 0,
        };
        new.configure(shape, limit, now);
        new
    }

    pub fn limit(&self) -> u64 {
        self.limit
    }

    pub fn counts(&self) -> (u64, u64) {
        (self.waiting, self.executing.len() as u64)
    }

    /// Waited for, and held.
    #[cfg(test)]
    pub fn seats(&self) -> (u64, u64) {
        (self.seats_waiting, self.seats)
    }

    pub fn queues(&self) -> &[Queue<T>] {
        &self.queues
    }

    pub fn executing(&self) -> impl Iterator<Item = (Option<usize>, &Held<T>)> {
        self.executing.values().map(|held| (held.queue, held))
    }

    /// Nobody waits, is carried out, or lingers.
    pub fn is_idle(&self) -> bool {
        self.waiting == 0 && self.executing.is_empty()
    }

    pub fn take_demand(&mut self, now: Instant) -> Seen {
        self.demand.reset(now)
    }

    /// Takes another shape or number of seats; [`Self::next`] tells who can go now.
    pub fn configure(&mut self, shape: Shape, limit: u64, now: Instant) {
        self.advance(now);
        (self.shape, self.limit) = (shape, limit);
        if self.queues.len() < self.wanted() {
            self.queues.resize_with(self.wanted(), Queue::default);
        }
        self.drop_left_over();
    }

    fn wanted(&self) -> usize {
        match self.shape {
            Shape::Exempt | Shape::Reject => 0,
            Shape::Queue { dealer, .. } => usize::try_from(dealer.deck()).unwrap_or(usize::MAX),
        }
    }

    fn drop_left_over(&mut self) {
        let wanted = self.wanted();
        while self.queues.len() > wanted && self.queues.last().is_some_and(|q| !q.is_active() && q.seats == 0) {
            self.queues.pop();
        }
    }

    /// Brings virtual time up to date; before anything changes.
    fn advance(&mut self, now: Instant) {
        let time = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        let active = self.queues.iter().filter(|queue| queue.is_active()).count() as u64;
        if active > 0 {
            let served = (self.seats + self.seats_waiting).min(self.limit);
            self.now_r += time * as_f64(served) / as_f64(active);
        }
    }

    fn note_demand(&mut self, now: Instant) {
        self.demand.set(as_f64(self.seats + self.seats_waiting), now);
    }

    /// Whether a request of so many seats can begin. One wider than all there are goes alone.
    fn accommodates(&self, seats: u64) -> bool {
        match self.shape {
            Shape::Exempt => true,
            Shape::Reject | Shape::Queue { .. } if seats > self.limit => self.executing.is_empty(),
            Shape::Reject | Shape::Queue { .. } => self.seats + seats <= self.limit,
        }
    }

    /// A request comes. It has begun, or it waits until [`Self::next`] names it; gives the length of its queue.
    pub fn arrive(&mut self, work: Work, hash: u64, note: T, now: Instant) -> Result<(Id, Option<u64>), Rejected> {
        self.advance(now);
        let Shape::Queue { dealer, length } = self.shape else {
            if !self.accommodates(work.seats()) {
                return Err(Rejected::ConcurrencyLimit);
            }
            let held = self.held(work, note, None, now);
            let id = held.id;
            self.begin(held, now);
            return Ok((id, None));
        };
        let at = self.choose(dealer, hash);
        let full = self.queues.get(at).is_none_or(|queue| queue.waiting.len() as u64 >= length);
        if full && self.seats >= self.limit {
            return Err(Rejected::QueueFull);
        }
        let (held, now_r) = (self.held(work, note, Some(at), now), self.now_r);
        let (id, seats) = (held.id, work.seats());
        let Some(queue) = self.queues.get_mut(at) else { return Err(Rejected::QueueFull) };
        if !queue.is_active() {
            queue.next_start = now_r;
        }
        queue.waiting.push_back(held);
        queue.bound();
        let length = queue.waiting.len() as u64;
        self.waiting += 1;
        self.seats_waiting += seats;
        self.note_demand(now);
        Ok((id, Some(length)))
    }

    fn held(&mut self, work: Work, note: T, queue: Option<usize>, now: Instant) -> Held<T> {
        self.ids += 1;
        Held { id: self.ids, work, arrived: now, started: None, note, arrived_r: self.now_r, queue }
    }

    /// The queue of the hand with the least work waiting. Each request begins to look elsewhere, so that equal ones take turns.
    fn choose(&self, dealer: Dealer, hash: u64) -> usize {
        let mut hand = dealer.deal(hash);
        let turn = usize::try_from(self.ids).unwrap_or_default() % hand.len().max(1);
        hand.rotate_left(turn);
        let work = |at: usize| self.queues.get(at).map_or(f64::MAX, Queue::waiting_work);
        let hand = hand.into_iter().filter_map(|at| usize::try_from(at).ok());
        hand.min_by(|a, b| work(*a).total_cmp(&work(*b))).unwrap_or_default()
    }

    fn begin(&mut self, mut held: Held<T>, now: Instant) {
        held.started = Some(now);
        self.seats += held.work.seats();
        self.executing.insert(held.id, held);
        self.note_demand(now);
    }

    /// Begins the next that waits, if there are seats for it.
    pub fn next(&mut self, now: Instant) -> Option<&mut Held<T>> {
        self.advance(now);
        if self.waiting == 0 || self.seats >= self.limit {
            return None;
        }
        let at = self.find()?;
        let (limit, queue) = (self.limit, self.queues.get_mut(at)?);
        let mut held = queue.waiting.pop_front()?;
        self.waiting -= 1;
        self.seats_waiting -= held.work.seats();
        held.work = held.work.within(limit);
        queue.executing += 1;
        queue.seats += held.work.seats();
        queue.next_start += held.work.total();
        queue.bound();
        self.last_queue = at;
        let id = held.id;
        self.begin(held, now);
        self.executing.get_mut(&id)
    }

    /// The queue whose first would end first; of equal ones the one whose turn it is. None, if there are too few seats for it: then
    /// nobody goes before it.
    fn find(&self) -> Option<usize> {
        let count = self.queues.len();
        let order = (1..=count).map(|step| (self.last_queue + step) % count);
        let ends = order.filter_map(|at| {
            let queue = self.queues.get(at)?;
            let first = queue.waiting.front()?;
            Some((queue.next_start + first.work.total(), at, first.work.seats()))
        });
        let (_, at, seats) = ends.min_by(|a, b| a.0.total_cmp(&b.0))?;
        self.accommodates(seats).then_some(at)
    }

    /// A request that waits is given up; `None`, if it did not wait any more.
    pub fn give_up(&mut self, id: Id, now: Instant) -> Option<Held<T>> {
        self.advance(now);
        let find = |queue: &Queue<T>| queue.waiting.iter().position(|held| held.id == id);
        let (queue, at) = self.queues.iter_mut().find_map(|queue| find(queue).map(|at| (queue, at)))?;
        let held = queue.waiting.remove(at)?;
        queue.bound();
        self.waiting -= 1;
        self.seats_waiting -= held.work.seats();
        self.note_demand(now);
        Some(held)
    }

    /// A request has ended. Its seats are free, or kept for a while: then [`Self::release`] them after it.
    pub fn finish(&mut self, id: Id, now: Instant) -> Option<(Held<T>, Option<Lingering>)> {
        self.advance(now);
        let held = self.executing.remove(&id)?;
        let took = now.saturating_duration_since(held.started.unwrap_or(now));
        if let Some(queue) = held.queue.and_then(|at| self.queues.get_mut(at)) {
            queue.executing -= 1;
            queue.next_start -= held.work.overestimated(took);
            queue.bound();
        }
        let lingering = Lingering { time: held.work.lingers, seats: held.work.seats(), queue: held.queue };
        if lingering.time.is_zero() {
            self.release(lingering, now);
            return Some((held, None));
        }
        Some((held, Some(lingering)))
    }

    pub fn release(&mut self, lingering: Lingering, now: Instant) {
        self.advance(now);
        self.seats -= lingering.seats;
        if let Some(queue) = lingering.queue.and_then(|at| self.queues.get_mut(at)) {
            queue.seats -= lingering.seats;
        }
        self.note_demand(now);
        self.drop_left_over();
    }
}

#[cfg(test)]
mod tests;
