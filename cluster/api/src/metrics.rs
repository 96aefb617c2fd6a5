//! Counts that components keep, under upstream's names, and Prometheus' text that tells them.
//!
//! Whoever counts owns a [`Family`] for each of its metrics and is a [`Source`]; `/metrics` asks all sources. Label values come from
//! clients at times, so a family keeps a bounded number of series: what is beyond is counted under `other`.

mod text;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

pub use text::{Form, Text};

/// Whoever has something to tell.
pub trait Source: Send + Sync {
    fn tell(&self, text: &mut Text);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Series that a family keeps; one costs as much as its labels, a histogram's 200 bytes more.
const MAX_SERIES: usize = 1024;
/// The value of every label of what is beyond.
const BEYOND: &str = "other";

/// A metric: one series for each set of label values.
#[derive(Debug)]
pub struct Family {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    /// By name.
    labels: &'static [&'static str],
    /// Upper bounds of a histogram's buckets, rising.
    bounds: &'static [f64],
    /// By their labels as they are written. Held for one look or one report; each series' own is taken within it at most.
    series: Mutex<BTreeMap<Box<str>, Shared>>,
}

type Shared = Arc<Mutex<Series>>;

/// One series of a family, looked up once by who counts in it often.
#[derive(Clone, Debug)]
pub struct Handle {
    bounds: &'static [f64],
    series: Shared,
}

#[derive(Clone, Debug, Default)]
struct Series {
    /// The value; of a histogram the sum.
    value: f64,
    /// How many were in each bucket, and in none; empty but in histograms.
    buckets: Box<[u64]>,
}

impl Family {
    pub const fn counter(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Self {
        Self::new(name, Kind::Counter, help, labels, &[])
    }

    pub const fn gauge(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Self {
        Self::new(name, Kind::Gauge, help, labels, &[])
    }

    pub const fn histogram(
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
        bounds: &'static [f64],
    ) -> Self {
        Self::new(name, Kind::Histogram, help, labels, bounds)
    }

    const fn new(
        name: &'static str,
        kind: Kind,
        help: &'static str,
        labels: &'static [&'static str],
        bounds: &'static [f64],
    ) -> Self {
        Self { name, kind, help, labels, bounds, series: Mutex::new(BTreeMap::new()) }
    }

    /// The series of these values, which stand in the order of the labels.
    pub fn at(&self, values: &[&str]) -> Handle {
        let mut key = self.key(|at| values.get(at).copied().unwrap_or_default());
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let series = match series.get(key.as_str()) {
            Some(series) => Arc::clone(series),
            None => {
                if series.len() >= MAX_SERIES {
                    key = self.key(|_| BEYOND);
                }
                Arc::clone(series.entry(key.into()).or_default())
            }
        };
        Handle { bounds: self.bounds, series }
    }

    /// Counts, or moves a gauge up or down.
    pub fn add(&self, values: &[&str], by: f64) {
        self.at(values).add(by);
    }

    pub fn inc(&self, values: &[&str]) {
        self.add(values, 1.0);
    }

    /// Where a gauge stands.
    pub fn set(&self, values: &[&str], to: f64) {
        self.at(values).change(|series| series.value = to);
    }

    /// Puts what was measured into a histogram.
    pub fn observe(&self, values: &[&str], measured: f64) {
        self.at(values).observe(measured);
    }

    /// What a series stands at; of a histogram, how often it was observed.
    pub fn get(&self, values: &[&str]) -> f64 {
        let series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let found = series.get(self.key(|at| values.get(at).copied().unwrap_or_default()).as_str());
        let Some(found) = found.map(|series| series.lock().unwrap_or_else(PoisonError::into_inner)) else { return 0.0 };
        match self.kind {
            Kind::Histogram => found.buckets.iter().sum::<u64>() as f64,
            Kind::Counter | Kind::Gauge => found.value,
        }
    }

    fn key<'a>(&self, value: impl Fn(usize) -> &'a str) -> String {
        let mut key = String::with_capacity(self.labels.len() * 24);
        for (at, name) in self.labels.iter().enumerate() {
            text::label(&mut key, name, value(at));
        }
        key
    }
}

impl Handle {
    pub fn add(&self, by: f64) {
        self.change(|series| series.value += by);
    }

    pub fn inc(&self) {
        self.add(1.0);
    }

    /// Puts what was measured into a histogram.
    pub fn observe(&self, measured: f64) {
        let at = self.bounds.iter().position(|bound| measured <= *bound).unwrap_or(self.bounds.len());
        self.change(|series| {
            series.value += measured;
            if series.buckets.is_empty() {
                series.buckets = vec![0; self.bounds.len() + 1].into();
            }
            if let Some(bucket) = series.buckets.get_mut(at) {
                *bucket += 1;
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Series)) {
        change(&mut self.series.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Source for Family {
    fn tell(&self, text: &mut Text) {
        let series: Vec<(Box<str>, Series)> = {
            let series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
            let copy = |series: &Shared| series.lock().unwrap_or_else(PoisonError::into_inner).clone();
            series.iter().map(|(labels, series)| (labels.clone(), copy(series))).collect()
        };
        if series.is_empty() {
            return;
        }
        text.head(self.name, self.kind, self.help);
        for (labels, Series { value, buckets }) in &series {
            match self.kind {
                Kind::Counter | Kind::Gauge => text.series(labels, *value),
                // Looked up, and nothing measured yet.
                Kind::Histogram if buckets.is_empty() => {}
                Kind::Histogram => text.histogram_series(labels, self.bounds, buckets, *value),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(family: &Family) -> String {
        let mut text = Text::new(Form::Prometheus);
        family.tell(&mut text);
        text.finish()
    }

    #[test]
    fn series_are_told_by_their_labels() {
        let family = Family::counter("requests_total", "Requests.", &["code", "verb"]);
        assert_eq!(told(&family), "");
        family.inc(&["404", "GET"]);
        family.inc(&["200", "LIST"]);
        family.add(&["200", "LIST"], 2.0);
        let want = "# HELP requests_total Requests.\n# TYPE requests_total counter\n\
                    requests_total{code=\"200\",verb=\"LIST\"} 3\nrequests_total{code=\"404\",verb=\"GET\"} 1\n";
        assert_eq!(told(&family), want);
        assert_eq!((family.get(&["200", "LIST"]), family.get(&["500", "LIST"])), (3.0, 0.0));
    }

    #[test]
    fn a_histogram_counts_what_is_at_most_its_bounds() {
        let family = Family::histogram("took_seconds", "Time.", &[], &[0.5, 1.0, 2.5]);
        for measured in [0.25, 0.5, 1.5, 99.0] {
            family.observe(&[], measured);
        }
        let want = "# HELP took_seconds Time.\n# TYPE took_seconds histogram\n\
                    took_seconds_bucket{le=\"0.5\"} 2\ntook_seconds_bucket{le=\"1\"} 2\ntook_seconds_bucket{le=\"2.5\"} 3\n\
                    took_seconds_bucket{le=\"+Inf\"} 4\ntook_seconds_sum 101.25\ntook_seconds_count 4\n";
        assert_eq!(told(&family), want);
        assert_eq!(family.get(&[]), 4.0);
    }

    #[test]
    fn a_series_looked_up_once_is_the_familys() {
        let family = Family::histogram("sizes", "Bytes.", &["kind"], &[1.0]);
        let handle = family.at(&["a"]);
        assert!(!told(&family).contains("kind"));
        handle.observe(0.5);
        family.observe(&["a"], 7.0);
        assert_eq!(family.get(&["a"]), 2.0);
        assert!(told(&family).ends_with("sizes_sum{kind=\"a\"} 7.5\nsizes_count{kind=\"a\"} 2\n"));
    }

    #[test]
    fn a_gauge_goes_both_ways() {
        let family = Family::gauge("open", "Open.", &["kind"]);
        family.inc(&["a"]);
        family.add(&["a"], -1.0);
        family.set(&["b"], -1.0);
        assert!(told(&family).ends_with("open{kind=\"a\"} 0\nopen{kind=\"b\"} -1\n"));
    }

    #[test]
    fn labels_that_clients_make_up_do_not_fill_memory() {
        let family = Family::counter("requests_total", "Requests.", &["name"]);
        for n in 0..3 * MAX_SERIES {
            family.inc(&[&format!("n{n}")]);
        }
        assert_eq!(family.series.lock().unwrap().len(), MAX_SERIES + 1);
        assert_eq!(family.get(&[BEYOND]), 2.0 * MAX_SERIES as f64);
        family.inc(&["n0"]);
        assert_eq!(family.get(&["n0"]), 2.0);
    }
}
