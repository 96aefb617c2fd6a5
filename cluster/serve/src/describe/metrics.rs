//! `/metrics`: a few counters under upstream's names, in Prometheus' text format.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Upper bounds of the buckets of request durations, in seconds.
const BUCKETS: [f64; 8] = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0];
/// Different label sets kept; further ones are counted under "other".
const MAX_SERIES: usize = 512;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Labels {
    verb: &'static str,
    group: String,
    resource: String,
    code: u16,
}

#[derive(Clone, Copy, Debug, Default)]
struct Series {
    count: u64,
    seconds: f64,
    buckets: [u64; BUCKETS.len()],
}

#[derive(Debug, Default)]
pub struct Metrics {
    /// Held for one insertion or one report; orders nothing else.
    requests: Mutex<BTreeMap<Labels, Series>>,
    pub in_flight: AtomicU64,
    pub watches: AtomicU64,
    pub rejected: AtomicU64,
}

impl Metrics {
    pub fn count(&self, verb: &'static str, group: &str, resource: &str, code: u16, took: Duration) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let mut labels = Labels { verb, group: group.to_owned(), resource: resource.to_owned(), code };
        if requests.len() >= MAX_SERIES && !requests.contains_key(&labels) {
            labels = Labels { verb: "other", group: String::new(), resource: String::new(), code };
        }
        let series = requests.entry(labels).or_default();
        let seconds = took.as_secs_f64();
        series.count += 1;
        series.seconds += seconds;
        for (bucket, bound) in series.buckets.iter_mut().zip(BUCKETS) {
            *bucket += u64::from(seconds <= bound);
        }
    }

    pub fn report(&self) -> String {
        // Writing to a String cannot fail.
        let mut out = String::new();
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone();
        head(
            &mut out,
            "apiserver_request_total",
            "counter",
            "Requests by verb, group, resource and HTTP response code.",
        );
        for (labels, series) in &requests {
            let _ =
                writeln!(out, "apiserver_request_total{{{},code=\"{}\"}} {}", labels.text(), labels.code, series.count);
        }
        head(
            &mut out,
            "apiserver_request_duration_seconds",
            "histogram",
            "Response latency in seconds; watches until their answer began.",
        );
        for (labels, series) in &requests {
            let text = labels.text();
            for (count, bound) in series.buckets.iter().zip(BUCKETS) {
                let _ = writeln!(
                    out,
                    "apiserver_request_duration_seconds_bucket{{{text},code=\"{}\",le=\"{bound}\"}} {count}",
                    labels.code
                );
            }
            let _ = writeln!(
                out,
                "apiserver_request_duration_seconds_bucket{{{text},code=\"{}\",le=\"+Inf\"}} {}",
                labels.code, series.count
            );
            let _ = writeln!(
                out,
                "apiserver_request_duration_seconds_sum{{{text},code=\"{}\"}} {}",
                labels.code, series.seconds
            );
            let _ = writeln!(
                out,
                "apiserver_request_duration_seconds_count{{{text},code=\"{}\"}} {}",
                labels.code, series.count
            );
        }
        for (name, kind, help, value) in [
            ("apiserver_current_inflight_requests", "gauge", "Requests being worked on.", &self.in_flight),
            ("apiserver_longrunning_requests", "gauge", "Open watches, logs and connections.", &self.watches),
            ("apiserver_request_terminations_total", "counter", "Requests turned away for overload.", &self.rejected),
        ] {
            head(&mut out, name, kind, help);
            let _ = writeln!(out, "{name} {}", value.load(Ordering::Relaxed));
        }
        out
    }
}

impl Labels {
    fn text(&self) -> String {
        // Names of resources that exist hold nothing to escape; all others are counted without a name.
        format!("verb=\"{}\",group=\"{}\",resource=\"{}\"", self.verb, self.group, self.resource)
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_and_bounded() {
        let metrics = Metrics::default();
        metrics.count("LIST", "apps", "deployments", 200, Duration::from_millis(30));
        metrics.count("LIST", "apps", "deployments", 200, Duration::from_millis(3));
        let report = metrics.report();
        assert!(report.contains(
            "apiserver_request_total{verb=\"LIST\",group=\"apps\",resource=\"deployments\",code=\"200\"} 2\n"
        ));
        assert!(report.contains("code=\"200\",le=\"0.005\"} 1\n") && report.contains("code=\"200\",le=\"0.1\"} 2\n"));
        for n in 0..2000 {
            metrics.count("GET", "", &format!("r{n}"), 404, Duration::ZERO);
        }
        assert!(metrics.report().contains("verb=\"other\""));
        assert!(metrics.requests.lock().unwrap().len() <= MAX_SERIES + 1);
    }
}
