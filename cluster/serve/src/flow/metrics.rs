//! What is counted of flows, under upstream's names.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use super::Flow;
use super::level::Level;
use super::work::as_f64;

const SECONDS: &[f64] = &[0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0];
const LENGTHS: &[f64] = &[0.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0];
const SEATS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 100.0];

/// A distribution.
#[derive(Clone, Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    buckets: Vec<u64>,
    count: u64,
    sum: f64,
}

impl Histogram {
    const fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, buckets: Vec::new(), count: 0, sum: 0.0 }
    }

    pub fn note(&mut self, value: f64) {
        self.buckets.resize(self.bounds.len(), 0);
        for (bucket, bound) in self.buckets.iter_mut().zip(self.bounds) {
            *bucket += u64::from(value <= *bound);
        }
        self.count += 1;
        self.sum += value;
    }
}

/// Of one schema in one level.
#[derive(Clone, Debug)]
pub struct Counts {
    pub dispatched: u64,
    rejected: BTreeMap<&'static str, u64>,
    pub waited: Histogram,
    pub gave_up: Histogram,
    pub executed: Histogram,
    pub length: Histogram,
    pub estimated: Histogram,
}

impl Default for Counts {
    fn default() -> Self {
        let seconds = Histogram::new(SECONDS);
        Self {
            dispatched: 0,
            rejected: BTreeMap::new(),
            waited: seconds.clone(),
            gave_up: seconds.clone(),
            executed: seconds,
            length: Histogram::new(LENGTHS),
            estimated: Histogram::new(SEATS),
        }
    }
}

impl Counts {
    pub fn reject(&mut self, why: &'static str) {
        *self.rejected.entry(why).or_default() += 1;
    }

    pub fn rejected(&self, why: &str) -> u64 {
        self.rejected.get(why).copied().unwrap_or_default()
    }

    pub fn all_rejected(&self) -> u64 {
        self.rejected.values().sum()
    }
}

/// What one level and one schema show at the moment of the report.
struct Line {
    level: Arc<str>,
    schema: Arc<str>,
    counts: Counts,
    waiting: (u64, u64),
    executing: (u64, u64),
}

fn lines(level: &Level) -> Vec<Line> {
    let work = level.at_work();
    let mut now: BTreeMap<&str, [u64; 4]> = BTreeMap::new();
    let waiting = work.queues.queues().iter().flat_map(|queue| &queue.waiting).map(|held| (0, held));
    for (at, held) in waiting.chain(work.queues.executing().map(|(_, held)| (2, held))) {
        let [waits, waiting_seats, runs, seats] = now.entry(&held.note.schema).or_default();
        let (count, sum) = if at == 0 { (waits, waiting_seats) } else { (runs, seats) };
        *count += 1;
        *sum += held.work.seats();
    }
    let line = |(schema, counts): (&Arc<str>, &Counts)| {
        let [waits, waiting_seats, runs, seats] = now.get(&**schema).copied().unwrap_or_default();
        Line {
            level: Arc::clone(&level.config.name),
            schema: Arc::clone(schema),
            counts: counts.clone(),
            waiting: (waits, waiting_seats),
            executing: (runs, seats),
        }
    };
    work.counts.iter().map(line).collect()
}

type Gauge = (&'static str, &'static str, fn(&Line) -> u64);
const OF_SCHEMAS: &[Gauge] = &[
    ("dispatched_requests_total", "Requests that were begun.", |line| line.counts.dispatched),
    ("current_inqueue_requests", "Requests that wait in queues.", |line| line.waiting.0),
    ("current_inqueue_seats", "Seats that requests in queues wait for.", |line| line.waiting.1),
    ("current_executing_requests", "Requests that are carried out; of watches, while they begin.", |line| {
        line.executing.0
    }),
    ("current_executing_seats", "Seats held by requests that are carried out.", |line| line.executing.1),
];

type Spread = (&'static str, &'static str, &'static str, fn(&Counts) -> &Histogram);
const HISTOGRAMS: &[Spread] = &[
    ("request_wait_duration_seconds", "Time in a queue.", ",execute=\"true\"", |counts| &counts.waited),
    ("request_wait_duration_seconds", "", ",execute=\"false\"", |counts| &counts.gave_up),
    ("request_execution_seconds", "Time of being carried out; of watches, until they had begun.", "", |counts| {
        &counts.executed
    }),
    ("request_queue_length_after_enqueue", "Length of its queue as each request saw it.", "", |counts| &counts.length),
    ("work_estimated_seats", "Seats that requests were thought to need.", "", |counts| &counts.estimated),
];

type OfLevel = (&'static str, &'static str, fn(&Level) -> f64);
const OF_LEVELS: &[OfLevel] = &[
    ("nominal_limit_seats", "Seats of each level by its shares.", |level| as_f64(level.bounds.nominal)),
    ("lower_limit_seats", "Seats that a level does not lend.", |level| as_f64(level.bounds.lower)),
    ("upper_limit_seats", "Seats with all that a level may borrow.", |level| as_f64(level.bounds.upper)),
    ("current_limit_seats", "Seats of each level now.", |level| as_f64(level.at_work().queues.limit())),
    ("demand_seats_high_watermark", "The most seats wanted at once, in the last period.", |l| {
        l.at_work().demand.high_watermark
    }),
    ("demand_seats_average", "Seats wanted on average, in the last period.", |l| l.at_work().demand.average),
    ("demand_seats_stdev", "Standard deviation of seats wanted, in the last period.", |l| l.at_work().demand.deviation),
    ("demand_seats_smoothed", "Seats wanted, smoothed over periods.", |l| l.at_work().demand.smoothed),
    ("target_seats", "Seats that a level is to have if there are enough.", |l| l.at_work().given.target),
];

impl Flow {
    /// In Prometheus' text format.
    pub fn report(&self, out: &mut String) {
        let config = self.config();
        let all: Vec<Line> = config.levels.values().flat_map(lines).collect();
        for (name, help, value) in OF_SCHEMAS {
            head(out, name, if name.ends_with("_total") { "counter" } else { "gauge" }, help);
            for line in &all {
                let _ = writeln!(out, "{PREFIX}{name}{{{}}} {}", labels(line), value(line));
            }
        }
        head(out, "rejected_requests_total", "counter", "Requests that were turned away.");
        for line in &all {
            for (why, count) in &line.counts.rejected {
                let _ = writeln!(out, "{PREFIX}rejected_requests_total{{{},reason=\"{why}\"}} {count}", labels(line));
            }
        }
        for (name, help, also, of) in HISTOGRAMS {
            if !help.is_empty() {
                head(out, name, "histogram", help);
            }
            for line in &all {
                histogram(out, name, &format!("{}{also}", labels(line)), of(&line.counts));
            }
        }
        for (name, help, value) in OF_LEVELS {
            head(out, name, "gauge", help);
            for level in config.levels.values() {
                let _ = writeln!(out, "{PREFIX}{name}{{priority_level=\"{}\"}} {}", level.config.name, value(level));
            }
        }
        head(out, "seat_fair_frac", "gauge", "The part of its target that each level gets which can use it.");
        let _ = writeln!(out, "{PREFIX}seat_fair_frac {}", self.fair_fraction());
    }
}

const PREFIX: &str = "apiserver_flowcontrol_";

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {kind}");
}

/// Names of objects hold nothing to escape.
fn labels(line: &Line) -> String {
    format!("flow_schema=\"{}\",priority_level=\"{}\"", line.schema, line.level)
}

fn histogram(out: &mut String, name: &str, labels: &str, held: &Histogram) {
    if held.count == 0 {
        return;
    }
    for (count, bound) in held.buckets.iter().zip(held.bounds) {
        let _ = writeln!(out, "{PREFIX}{name}_bucket{{{labels},le=\"{bound}\"}} {count}");
    }
    let _ = writeln!(out, "{PREFIX}{name}_bucket{{{labels},le=\"+Inf\"}} {}", held.count);
    let _ =
        writeln!(out, "{PREFIX}{name}_sum{{{labels}}} {}\n{PREFIX}{name}_count{{{labels}}} {}", held.sum, held.count);
}
