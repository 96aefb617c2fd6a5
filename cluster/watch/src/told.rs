//! What the cache holds and passes on, under upstream's names.

use kedge_api::GroupResource;
use kedge_api::metrics::{Kind, Source, Text};

use crate::Cache;

/// Upstream keeps so many digits of a revision, for what a float can tell apart.
const DIGITS: u64 = 1_000_000_000_000_000;

/// What is told of one resource.
struct Told {
    resource: GroupResource,
    objects: usize,
    bytes: usize,
    changes: u64,
    lagged: u64,
}

type Row = (&'static str, Kind, &'static str, fn(&Told) -> f64);
const ROWS: &[Row] = &[
    ("apiserver_resource_objects", Kind::Gauge, "Objects that are stored.", |t| t.objects as f64),
    ("apiserver_resource_size_estimate_bytes", Kind::Gauge, "Bytes of objects that are stored.", |t| t.bytes as f64),
    ("apiserver_terminated_watchers_total", Kind::Counter, "Watchers too slow for history.", |t| t.lagged as f64),
    ("apiserver_watch_cache_events_dispatched_total", Kind::Counter, "Changes passed on.", |t| t.changes as f64),
    ("apiserver_watch_cache_events_received_total", Kind::Counter, "Changes seen.", |t| t.changes as f64),
];

impl Source for Cache {
    fn tell(&self, text: &mut Text) {
        let snapshot = self.snapshot();
        let mut resources: Vec<GroupResource> = snapshot.resources().cloned().collect();
        resources.sort_unstable();
        let told: Vec<Told> = resources
            .into_iter()
            .map(|resource| {
                let (changes, lagged) = self.shared.counts(&resource);
                let bytes = snapshot.list(&resource, "").map(|object| object.json.len()).sum();
                Told { objects: snapshot.len(&resource), bytes, changes, lagged, resource }
            })
            .collect();
        text.head("apiserver_storage_objects", Kind::Gauge, "Objects that are stored.");
        for told in &told {
            text.value(&[("resource", &told.resource.to_string())], told.objects as f64);
        }
        let labels = |told: &Told| {
            [("group", told.resource.group.to_string()), ("resource", told.resource.resource.to_string())]
        };
        for (name, kind, help, value) in ROWS {
            text.head(name, *kind, help);
            for told in &told {
                let [group, resource] = &labels(told);
                text.value(&[(group.0, &group.1), (resource.0, &resource.1)], value(told));
            }
        }
        text.head("apiserver_watch_cache_resource_version", Kind::Gauge, "The revision that is shown.");
        for told in &told {
            let [group, resource] = &labels(told);
            text.value(&[(group.0, &group.1), (resource.0, &resource.1)], (snapshot.revision.0 % DIGITS) as f64);
        }
    }
}
