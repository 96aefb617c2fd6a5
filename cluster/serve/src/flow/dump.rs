//! `/debug/api_priority_and_fairness/…`: levels, queues and requests as they are now, in upstream's columns.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::Flow;
use super::level::{Level, Note};
use super::queues::Held;

type Table = Vec<Vec<String>>;

const LEVELS: &[&str] = &[
    "PriorityLevelName",
    "ActiveQueues",
    "IsIdle",
    "IsQuiescing",
    "WaitingRequests",
    "ExecutingRequests",
    "DispatchedRequests",
    "RejectedRequests",
    "TimedoutRequests",
    "CancelledRequests",
];
const QUEUES: &[&str] = &[
    "PriorityLevelName",
    "Index",
    "PendingRequests",
    "ExecutingRequests",
    "SeatsInUse",
    "NextDispatchR",
    "InitialSeatsSum",
    "MaxSeatsSum",
    "TotalWorkSum",
];
const REQUESTS: &[&str] = &[
    "PriorityLevelName",
    "FlowSchemaName",
    "QueueIndex",
    "RequestIndexInQueue",
    "FlowDistingsher",
    "ArriveTime",
    "InitialSeats",
    "FinalSeats",
    "AdditionalLatency",
    "StartTime",
];
const DETAILS: &[&str] = &["UserName", "Verb", "APIPath", "Namespace", "Name", "APIVersion", "Resource", "SubResource"];

/// The moment of a look, on both clocks.
#[derive(Clone, Copy)]
struct Look {
    now: Instant,
    wall: Timestamp,
}

impl Flow {
    /// The dump of that name; `None`, if there is no such.
    pub fn dump(&self, name: &str, details: bool, wall: Timestamp) -> Option<String> {
        let config = self.config();
        let (look, levels) = (Look { now: Instant::now(), wall }, config.levels.values());
        let columns = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let (head, rows): (Vec<String>, Table) = match name {
            "dump_priority_levels" => (columns(LEVELS), levels.map(level).collect()),
            "dump_queues" => (columns(QUEUES), levels.flat_map(queues).collect()),
            "dump_requests" => {
                let more = if details { DETAILS } else { &[] };
                (columns(&[REQUESTS, more].concat()), levels.flat_map(|level| requests(level, look, details)).collect())
            }
            _ => return None,
        };
        Some(aligned(std::iter::once(head).chain(rows).collect()))
    }
}

fn level(level: &Level) -> Vec<String> {
    let work = level.at_work();
    let active = work.queues.queues().iter().filter(|queue| !queue.waiting.is_empty()).count();
    let (waiting, executing) = work.queues.counts();
    vec![
        level.config.name.to_string(),
        active.to_string(),
        work.queues.is_idle().to_string(),
        level.quiescing.to_string(),
        waiting.to_string(),
        executing.to_string(),
        work.dispatched.to_string(),
        work.rejected.to_string(),
        // Upstream counts whoever leaves a queue as cancelled.
        "0".to_owned(),
        work.cancelled.to_string(),
    ]
}

fn queues(level: &Level) -> Table {
    let work = level.at_work();
    let row = |(at, queue): (usize, &super::queues::Queue<Note>)| {
        let sum = |of: fn(&Held<Note>) -> u64| queue.waiting.iter().map(of).sum::<u64>().to_string();
        vec![
            level.config.name.to_string(),
            at.to_string(),
            queue.waiting.len().to_string(),
            queue.executing.to_string(),
            queue.seats.to_string(),
            format!("{:.8}ss", queue.next_start),
            sum(|held| held.work.initial),
            sum(|held| held.work.seats()),
            format!("{:.8}ss", queue.waiting_work()),
        ]
    };
    work.queues.queues().iter().enumerate().map(row).collect()
}

fn requests(level: &Level, look: Look, details: bool) -> Table {
    let work = level.at_work();
    let waiting = work.queues.queues().iter().enumerate().flat_map(|(queue, held)| {
        held.waiting.iter().enumerate().map(move |(at, held)| (queue.to_string(), at.to_string(), held))
    });
    let none = || "-1".to_owned();
    let executing = work.queues.executing();
    let executing = executing.map(|(queue, held)| (queue.map_or_else(none, |at| at.to_string()), none(), held));
    let row = |(queue, at, held): (String, String, &Held<Note>)| {
        let note = &held.note;
        let mut row = vec![
            level.config.name.to_string(),
            note.schema.to_string(),
            queue,
            at,
            note.distinguisher.clone(),
            look.at(held.arrived),
            held.work.initial.to_string(),
            held.work.last.to_string(),
            in_words(held.work.lingers),
            held.started.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |at| look.at(at)),
        ];
        if details {
            let about = note.details.clone();
            row.extend([about.user.to_string(), about.verb, about.path, about.namespace, about.name]);
            row.extend([about.api_version, about.resource, about.subresource]);
        }
        row
    };
    waiting.chain(executing).map(row).collect()
}

impl Look {
    fn at(self, then: Instant) -> String {
        let before = self.now.saturating_duration_since(then);
        self.wall.checked_sub(before).unwrap_or(self.wall).to_string()
    }
}

/// As Go writes it.
fn in_words(time: Duration) -> String {
    match time.as_nanos() {
        0 => "0s".to_owned(),
        nanos if nanos < 1_000_000 => format!("{}µs", time.as_secs_f64() * 1e6),
        nanos if nanos < 1_000_000_000 => format!("{}ms", time.as_secs_f64() * 1e3),
        _ => format!("{}s", time.as_secs_f64()),
    }
}

/// In columns, as Go's tabwriter lays out cells that end in a comma: each as wide as its widest, with a space, and at least eight.
fn aligned(table: Table) -> String {
    let columns = table.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let cells = table.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count() + 2).max().unwrap_or_default().max(8)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let (last, cells) = row.split_last().map_or(("", &[][..]), |(last, cells)| (last.as_str(), cells));
        let cells = cells.iter().zip(&widths).map(|(cell, width)| format!("{:width$}", format!("{cell},")));
        format!("{}{last}\n", cells.collect::<String>())
    };
    table.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_in_columns() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).into();
        let table = vec![row(["PriorityLevelName", "Index", "X"]), row(["a", "12", "0.5ss"])];
        assert_eq!(aligned(table), "PriorityLevelName, Index,  X\na,                 12,     0.5ss\n");
    }

    #[test]
    fn times_are_in_gos_words() {
        for (time, want) in [(0, "0s"), (5_000, "5ms"), (12_500, "12.5ms"), (250, "250µs"), (2_000_000, "2s")] {
            assert_eq!(in_words(Duration::from_micros(time)), want);
        }
    }
}
