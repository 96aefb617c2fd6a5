//! What is counted of flows, under upstream's names.

use std::collections::BTreeMap;

use kedge_api::metrics::{Family, Kind, Source, Text};

use super::Flow;
use super::level::Level;
use super::work::as_f64;

const SECONDS: &[f64] = &[0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0];
const LENGTHS: &[f64] = &[0.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0];
const SEATS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 100.0];

/// By which all of them are told apart.
const FLOW: &[&str] = &["flow_schema", "priority_level"];

pub struct Metrics {
    pub dispatched: Family,
    pub rejected: Family,
    pub waited: Family,
    pub executed: Family,
    pub length: Family,
    pub estimated: Family,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            dispatched: Family::counter(
                "apiserver_flowcontrol_dispatched_requests_total",
                "Requests that were begun.",
                FLOW,
            ),
            rejected: Family::counter(
                "apiserver_flowcontrol_rejected_requests_total",
                "Requests that were turned away.",
                &["flow_schema", "priority_level", "reason"],
            ),
            waited: Family::histogram(
                "apiserver_flowcontrol_request_wait_duration_seconds",
                "Time in a queue.",
                &["execute", "flow_schema", "priority_level"],
                SECONDS,
            ),
            executed: Family::histogram(
                "apiserver_flowcontrol_request_execution_seconds",
                "Time of being carried out; of watches, until they had begun.",
                &["flow_schema", "priority_level", "type"],
                SECONDS,
            ),
            length: Family::histogram(
                "apiserver_flowcontrol_request_queue_length_after_enqueue",
                "Length of its queue as each request saw it.",
                FLOW,
                LENGTHS,
            ),
            estimated: Family::histogram(
                "apiserver_flowcontrol_work_estimated_seats",
                "Seats that requests were thought to need.",
                FLOW,
                SEATS,
            ),
        }
    }
}

impl Metrics {
    fn families(&self) -> [&Family; 6] {
        [&self.dispatched, &self.rejected, &self.waited, &self.executed, &self.length, &self.estimated]
    }
}

type OfFlow = (&'static str, &'static str);
/// Of requests that wait, then of those that are carried out: how many, and their seats.
const NOW: [OfFlow; 4] = [
    ("apiserver_flowcontrol_current_inqueue_requests", "Requests that wait in queues."),
    ("apiserver_flowcontrol_current_inqueue_seats", "Seats that requests in queues wait for."),
    (
        "apiserver_flowcontrol_current_executing_requests",
        "Requests that are carried out; of watches, those that begin.",
    ),
    ("apiserver_flowcontrol_current_executing_seats", "Seats held by requests that are carried out."),
];

type OfLevel = (&'static str, &'static str, fn(&Level) -> f64);
const OF_LEVELS: &[OfLevel] = &[
    ("apiserver_flowcontrol_nominal_limit_seats", "Seats of a level by its shares.", |l| as_f64(l.bounds.nominal)),
    ("apiserver_flowcontrol_lower_limit_seats", "Seats that a level does not lend.", |l| as_f64(l.bounds.lower)),
    ("apiserver_flowcontrol_upper_limit_seats", "Seats with all that a level may borrow.", |l| as_f64(l.bounds.upper)),
    ("apiserver_flowcontrol_current_limit_seats", "Seats of a level now.", |l| as_f64(l.at_work().queues.limit())),
    ("apiserver_flowcontrol_demand_seats_high_watermark", "The most seats wanted at once, in the last period.", |l| {
        l.at_work().demand.high_watermark
    }),
    ("apiserver_flowcontrol_demand_seats_average", "Seats wanted on average, in the last period.", |l| {
        l.at_work().demand.average
    }),
    ("apiserver_flowcontrol_demand_seats_stdev", "Standard deviation of seats wanted, in the last period.", |l| {
        l.at_work().demand.deviation
    }),
    ("apiserver_flowcontrol_demand_seats_smoothed", "Seats wanted, smoothed over periods.", |l| {
        l.at_work().demand.smoothed
    }),
    ("apiserver_flowcontrol_target_seats", "Seats that a level is to have if there are enough.", |l| {
        l.at_work().given.target
    }),
];

/// What a level holds now, by schema: in the order of [`NOW`].
fn held(level: &Level) -> Vec<(String, [u64; 4])> {
    let work = level.at_work();
    let mut now: BTreeMap<String, [u64; 4]> = BTreeMap::new();
    // Schemas that had requests once stand at nothing rather than vanish.
    for schema in &work.schemas {
        now.insert(schema.to_string(), [0; 4]);
    }
    let waiting = work.queues.queues().iter().flat_map(|queue| &queue.waiting).map(|held| (true, held));
    for (waits, held) in waiting.chain(work.queues.executing().map(|(_, held)| (false, held))) {
        let [waiting, wanted, executing, seats] = now.entry(held.note.schema.to_string()).or_default();
        let (count, sum) = if waits { (waiting, wanted) } else { (executing, seats) };
        *count += 1;
        *sum += held.work.seats();
    }
    now.into_iter().collect()
}

impl Source for Flow {
    fn tell(&self, text: &mut Text) {
        self.metrics.families().into_iter().for_each(|family| family.tell(text));
        let config = self.config();
        let all: Vec<_> = config.levels.values().map(|level| (&*level.config.name, held(level))).collect();
        for (at, (name, help)) in NOW.iter().enumerate() {
            text.head(name, Kind::Gauge, help);
            for (level, schemas) in &all {
                for (schema, now) in schemas {
                    let value = now.get(at).copied().unwrap_or_default();
                    text.value(&[("flow_schema", schema), ("priority_level", level)], as_f64(value));
                }
            }
        }
        for (name, help, value) in OF_LEVELS {
            text.head(name, Kind::Gauge, help);
            for level in config.levels.values() {
                text.value(&[("priority_level", &level.config.name)], value(level));
            }
        }
        let name = "apiserver_flowcontrol_seat_fair_frac";
        text.head(name, Kind::Gauge, "The part of its target that each level gets which can use it.");
        text.value(&[], config.fair_fraction);
    }
}
