//! What the work queue does, under the names that upstream's queues have: a queue a controller.

use std::time::Duration;

use kedge_api::metrics::{Family, Source, Text};

const SECONDS: &[f64] = &[1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1.0, 10.0];

#[derive(Debug)]
pub struct Counted {
    adds: Family,
    depth: Family,
    work: Family,
    retries: Family,
}

impl Default for Counted {
    fn default() -> Self {
        Self {
            adds: Family::counter("workqueue_adds_total", "Keys added.", &["name"]),
            depth: Family::gauge("workqueue_depth", "Keys that wait to be worked on.", &["name"]),
            work: Family::histogram(
                "workqueue_work_duration_seconds",
                "Time that working on a key took.",
                &["name"],
                SECONDS,
            ),
            retries: Family::counter("workqueue_retries_total", "Keys to be tried again after a failure.", &["name"]),
        }
    }
}

impl Counted {
    pub(crate) fn added(&self, name: &str) {
        self.adds.inc(&[name]);
    }

    pub(crate) fn waiting(&self, name: &str, keys: usize) {
        self.depth.set(&[name], keys as f64);
    }

    pub(crate) fn worked(&self, name: &str, took: Duration, failed: bool) {
        self.work.observe(&[name], took.as_secs_f64());
        if failed {
            self.retries.inc(&[name]);
        }
    }
}

impl Source for Counted {
    fn tell(&self, text: &mut Text) {
        [&self.adds, &self.depth, &self.retries, &self.work].into_iter().for_each(|family| family.tell(text));
    }
}
