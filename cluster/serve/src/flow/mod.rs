//! Priority and fairness: whose requests wait when there is more to do than can be done at once, and in which order.
//!
//! Owns the classes of requests (FlowSchemas), the seats of each class (PriorityLevelConfigurations) and the queues before them. What is
//! configured counts as soon as it is written: it is compared with what was read before at each request, which costs two pointers where
//! nothing changed. Clients in this process do not pass here: there are few of them, each does one thing at a time, and nothing that the
//! server needs to get on may wait behind those it serves.
//!
//! ```text
//! enter ─▶ schema::Schema::matches ─▶ work (how wide?) ─▶ Level::arrive ─▶ queues::Queues ─▶ Seat (held until the answer is written)
//!              ▲                                                │  └▶ Refused (429)
//!   Flow::config ◀─ Informer                                    └▶ shuffle (which queue?)
//! run ─▶ every ten seconds: demand ─▶ borrow (who has how many seats) ─▶ Level::give
//! ```

mod borrow;
pub mod dangling;
mod demand;
mod dropped;
mod dump;
mod level;
mod metrics;
mod queues;
mod schema;
mod shuffle;
mod watchers;
mod work;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use kedge_api::resource::known::{FLOW_SCHEMAS, PRIORITY_LEVELS};
use kedge_api::{GroupResource, Informer, Snapshot};

use self::borrow::Bounds;
use self::dropped::Dropped;
pub use self::level::Details;
use self::level::{Level, Place};
use self::metrics::Metrics;
use self::schema::{CATCH_ALL, EXEMPT, LevelConfig, Schema};
pub use self::watchers::Registered;
use self::watchers::Watchers;
use self::work::{Stored, Work};
use crate::authz::{Attributes, What};

/// How often seats are lent and given back.
const PERIOD: Duration = Duration::from_secs(10);
/// Objects looked at to tell how large those of a resource are.
const SAMPLE: usize = 32;

/// What is in force.
struct Config {
    seen: Snapshot,
    /// In the order in which they are asked; each has a level.
    schemas: Vec<Arc<Schema>>,
    levels: BTreeMap<Arc<str>, Level>,
    fair_fraction: f64,
}

pub struct Flow {
    informer: Arc<dyn Informer>,
    /// Of the whole server.
    seats: u64,
    /// Swapped whole when the configuration changes.
    config: RwLock<Arc<Config>>,
    watchers: Watchers,
    metrics: Arc<Metrics>,
    /// Held to count one request that is turned away.
    dropped: Mutex<HashMap<Arc<str>, Dropped>>,
    began: Instant,
}

/// What a request is sorted under; told to the client in headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    pub schema_uid: Arc<str>,
    pub level_uid: Arc<str>,
}

/// Leave to be carried out, until dropped.
pub struct Seat {
    _place: Place,
}

/// There is no place for the request.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    pub retry_after: u64,
}

/// What is asked for with a list, as far as it makes it wide.
#[derive(Clone, Copy, Debug, Default)]
pub struct Listed {
    pub limit: u64,
    pub initial_events: bool,
}

impl Flow {
    pub fn new(informer: Arc<dyn Informer>, seats: u64) -> Self {
        let empty = Config { seen: Snapshot::default(), schemas: vec![], levels: BTreeMap::new(), fair_fraction: 0.0 };
        let (now, metrics) = (Instant::now(), Arc::default());
        let config = RwLock::new(Arc::new(empty.next(&informer.snapshot(), seats, &metrics, now)));
        let (watchers, dropped) = (Watchers::default(), Mutex::default());
        Self { informer, seats, config, watchers, metrics, dropped, began: now }
    }

    /// Waits for a seat, no longer than until `end`. Says first what the request is sorted under.
    pub async fn enter(
        &self,
        asked: &Attributes<'_>,
        listed: Listed,
        details: Details,
        end: Instant,
        told: impl FnOnce(Class),
    ) -> Result<Seat, Refused> {
        let config = self.config();
        let Some((schema, level)) = config.classify(asked) else { return Err(Refused { retry_after: 1 }) };
        told(Class { schema_uid: Arc::clone(&schema.uid), level_uid: Arc::clone(&level.config.uid) });
        let distinguisher = if level.tells_flows_apart() { schema.distinguisher(asked) } else { "" };
        let hash = shuffle::hash(&schema.name, distinguisher);
        let work = if level.is_exempt() { Work::LEAST } else { self.work(asked, listed, level) };
        let now = Instant::now();
        let note = (Arc::clone(&schema.name), distinguisher.to_owned(), details);
        let (mut place, woken) = match level.arrive(work, hash, note, now) {
            Ok(arrived) => arrived,
            Err(_) => return Err(self.refuse(level)),
        };
        if let Some(woken) = woken
            && tokio::time::timeout_at(end.into(), woken).await.is_err()
            && place.leaves(now, Instant::now())
        {
            return Err(self.refuse(level));
        }
        place.begins(now, Instant::now());
        Ok(Seat { _place: place })
    }

    /// Counts a watch until what this gives is dropped.
    pub fn watching(&self, asked: &Attributes<'_>) -> Registered {
        self.watchers.register(asked)
    }

    fn refuse(&self, level: &Level) -> Refused {
        let second = self.began.elapsed().as_secs();
        let mut dropped = self.dropped.lock().unwrap_or_else(PoisonError::into_inner);
        let of_level = dropped.entry(Arc::clone(&level.config.name)).or_insert_with(|| Dropped::new(second));
        Refused { retry_after: of_level.note(second) }
    }

    fn work(&self, asked: &Attributes<'_>, listed: Listed, level: &Level) -> Work {
        if asked.what != What::Resource {
            return Work::LEAST;
        }
        match asked.verb {
            "list" => self.list(asked, listed, level),
            "watch" if listed.initial_events => self.list(asked, listed, level),
            // A token is nothing that anybody watches.
            "create" if asked.resource == "serviceaccounts" && asked.subresource == "token" => Work::LEAST,
            "create" | "update" | "patch" | "delete" => {
                work::write(self.watchers.interested(asked), level.most_seats())
            }
            _ => Work::LEAST,
        }
    }

    fn list(&self, asked: &Attributes<'_>, listed: Listed, level: &Level) -> Work {
        let resource = GroupResource { group: asked.group.into(), resource: asked.resource.into() };
        let snapshot = self.informer.snapshot();
        let objects = snapshot.len(&resource) as u64;
        let sizes = snapshot.list(&resource, "").take(SAMPLE).map(|object| object.json.len() as u64);
        let (count, sum) = sizes.fold((0, 0), |(count, sum), size| (count + 1, sum + size));
        let bytes = sum * objects / u64::max(count, 1);
        work::list(Stored { objects, bytes }, !asked.name.is_empty(), listed.limit, level.most_seats())
    }

    /// What is in force now.
    fn config(&self) -> Arc<Config> {
        let snapshot = self.informer.snapshot();
        let config = Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner));
        if config.shows(&snapshot) {
            return config;
        }
        let mut config = self.config.write().unwrap_or_else(PoisonError::into_inner);
        if !config.shows(&snapshot) {
            *config = Arc::new(config.next(&snapshot, self.seats, &self.metrics, Instant::now()));
        }
        Arc::clone(&config)
    }

    /// Shares seats out anew, by what was wanted since the last time.
    pub fn adjust(&self) {
        let mut config = self.config.write().unwrap_or_else(PoisonError::into_inner);
        *config = Arc::new(config.next(&self.informer.snapshot(), self.seats, &self.metrics, Instant::now()));
    }

    /// Keeps sharing seats out. Never ends.
    pub async fn run(&self) {
        let mut tick = tokio::time::interval(PERIOD);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        tick.tick().await;
        loop {
            tick.tick().await;
            self.adjust();
        }
    }
}

impl Config {
    fn shows(&self, snapshot: &Snapshot) -> bool {
        [FLOW_SCHEMAS, PRIORITY_LEVELS].iter().all(|resource| self.seen.is_same(snapshot, resource))
    }

    /// The schema of a request, and its level.
    fn classify(&self, asked: &Attributes<'_>) -> Option<(&Arc<Schema>, &Level)> {
        let found = self.schemas.iter().find(|schema| schema.matches(asked));
        let schema = found.or_else(|| self.schemas.iter().find(|schema| *schema.name == *CATCH_ALL))?;
        Some((schema, self.levels.get(&schema.level)?))
    }

    /// What is in force from now on.
    fn next(&self, snapshot: &Snapshot, seats: u64, metrics: &Arc<Metrics>, now: Instant) -> Self {
        let mut configs: BTreeMap<Arc<str>, (LevelConfig, bool)> = BTreeMap::new();
        for config in snapshot.list(&PRIORITY_LEVELS, "").filter_map(|object| LevelConfig::of(object)) {
            configs.insert(Arc::clone(&config.name), (config, false));
        }
        for name in [EXEMPT, CATCH_ALL] {
            configs.entry(name.into()).or_insert_with(|| (LevelConfig::mandatory(name), false));
        }
        let busy = self.levels.values().filter(|level| !level.at_work().queues.is_idle());
        for level in busy {
            let name = Arc::clone(&level.config.name);
            configs.entry(name).or_insert_with(|| (level.config.clone(), true));
        }
        let shares: u64 = configs.values().map(|(config, _)| config.shares).sum();
        let level = |(name, (config, quiescing)): (Arc<str>, (LevelConfig, bool))| {
            let bounds = bounds(&config, seats, shares);
            let level = Level::new((config, quiescing), bounds, metrics, self.levels.get(&name), now);
            (name, level)
        };
        let levels: BTreeMap<Arc<str>, Level> = configs.into_iter().map(level).collect();
        let claims: Vec<_> = levels.values().map(|level| level.claim(now)).collect();
        let (given, fair_fraction) = borrow::allocate(&claims);
        for (level, given) in levels.values().zip(given) {
            level.give(given, now);
        }
        let seen = snapshot.only(&[FLOW_SCHEMAS, PRIORITY_LEVELS]);
        Self { schemas: schemas(snapshot, &levels), seen, levels, fair_fraction }
    }
}

/// Those that lead to a level, in order.
fn schemas(snapshot: &Snapshot, levels: &BTreeMap<Arc<str>, Level>) -> Vec<Arc<Schema>> {
    let mut schemas: Vec<_> = snapshot.list(&FLOW_SCHEMAS, "").filter_map(|object| Schema::of(object)).collect();
    for name in [EXEMPT, CATCH_ALL] {
        if !schemas.iter().any(|schema| *schema.name == *name) {
            schemas.push(Schema::mandatory(name));
        }
    }
    schemas.retain(|schema| levels.get(&schema.level).is_some_and(|level| !level.quiescing));
    schemas.sort_by_key(Schema::order);
    schemas.into_iter().map(Arc::new).collect()
}

/// A level's part of the server's seats.
fn bounds(config: &LevelConfig, seats: u64, shares: u64) -> Bounds {
    let nominal = (seats * config.shares).div_ceil(shares.max(1));
    let percent = |part: u64| (nominal * part + 50) / 100;
    let upper = nominal + config.borrowing_percent.map_or(seats, percent);
    Bounds { nominal, lower: nominal - percent(config.lendable_percent.min(100)), upper }
}

#[cfg(test)]
mod tests;
