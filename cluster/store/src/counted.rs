//! A store whose every request is counted, under the names that upstream's client of etcd has.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use futures::stream::BoxStream;
use kedge_api::metrics::{Family, Kind, Source, Text};
use kedge_api::{GroupResource, Key, Object, Revision};

use crate::{Commit, Error, Event, Expect, Listing, Range, Resealed, Store, Summary, Write};

const SECONDS: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
];

pub struct Counted {
    inner: Arc<dyn Store>,
    /// The database, where it is one file.
    file: Option<PathBuf>,
    requests: Family,
    errors: Family,
    durations: Family,
}

impl Counted {
    pub fn new(inner: Arc<dyn Store>, file: Option<PathBuf>) -> Self {
        let labels = &["group", "operation", "resource"];
        Self {
            inner,
            file,
            requests: Family::counter("etcd_requests_total", "Requests to the store.", labels),
            errors: Family::counter("etcd_request_errors_total", "Requests to the store that failed.", labels),
            durations: Family::histogram(
                "etcd_request_duration_seconds",
                "Time that requests to the store took.",
                labels,
                SECONDS,
            ),
        }
    }

    async fn count<T>(
        &self,
        operation: &str,
        resource: Option<GroupResource>,
        request: impl Future<Output = Result<T, Error>> + Send,
    ) -> Result<T, Error> {
        let began = Instant::now();
        let answer = request.await;
        let (group, name) = resource.as_ref().map_or(("", ""), |r| (r.group.as_str(), r.resource.as_str()));
        let labels = [group, operation, name];
        self.requests.inc(&labels);
        self.durations.observe(&labels, began.elapsed().as_secs_f64());
        if answer.is_err() {
            self.errors.inc(&labels);
        }
        answer
    }
}

#[async_trait]
impl Store for Counted {
    async fn get(&self, key: &Key) -> Result<Option<Arc<Object>>, Error> {
        self.count("get", Some(key.resource.clone()), self.inner.get(key)).await
    }

    async fn list(&self, range: &Range) -> Result<Listing, Error> {
        let resource = match range {
            Range::All => None,
            Range::Resource(resource) | Range::Namespace(resource, _) => Some(resource.clone()),
        };
        self.count("list", resource, self.inner.list(range)).await
    }

    async fn commit(&self, expect: Expect, write: Write) -> Result<Commit, Error> {
        let operation = match (&write, expect) {
            (Write::Put(_), Expect::Absent) => "create",
            (Write::Put(_), Expect::Revision(_)) => "update",
            (Write::Delete(_), _) => "delete",
        };
        let resource = write.key().resource.clone();
        self.count(operation, Some(resource), self.inner.commit(expect, write)).await
    }

    async fn watch(&self, after: Revision) -> Result<BoxStream<'static, Event>, Error> {
        self.inner.watch(after).await
    }

    async fn snapshot(&self, to: &Path) -> Result<Summary, Error> {
        self.count("snapshot", None, self.inner.snapshot(to)).await
    }

    async fn check(&self) -> Result<Summary, Error> {
        self.count("check", None, self.inner.check()).await
    }

    async fn reseal(&self) -> Result<Resealed, Error> {
        self.count("reseal", None, self.inner.reseal()).await
    }
}

impl Source for Counted {
    fn tell(&self, text: &mut Text) {
        [&self.requests, &self.errors, &self.durations].into_iter().for_each(|family| family.tell(text));
        if let Some(size) = self.file.as_ref().and_then(|file| std::fs::metadata(file).ok()) {
            text.head("apiserver_storage_size_bytes", Kind::Gauge, "Size of the database's file.");
            text.value(&[("storage_cluster_id", "etcd-0")], size.len() as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use kedge_api::metrics::Form;
    use kedge_api::resource::known::PODS;

    use super::*;
    use crate::Memory;

    #[tokio::test]
    async fn requests_are_counted_by_what_they_do() {
        let store = Counted::new(Arc::new(Memory::default()), None);
        let key = Key::new(PODS, "n", "p");
        assert!(store.get(&key).await.unwrap().is_none());
        assert!(store.commit(Expect::Revision(Revision(9)), Write::Delete(key)).await.is_err());
        store.list(&Range::All).await.unwrap();
        let mut text = Text::new(Form::Prometheus);
        store.tell(&mut text);
        let report = text.finish();
        for line in [
            "etcd_requests_total{group=\"\",operation=\"get\",resource=\"pods\"} 1\n",
            "etcd_requests_total{group=\"\",operation=\"list\",resource=\"\"} 1\n",
            "etcd_request_errors_total{group=\"\",operation=\"delete\",resource=\"pods\"} 1\n",
            "etcd_request_duration_seconds_count{group=\"\",operation=\"get\",resource=\"pods\"} 1\n",
        ] {
            assert!(report.contains(line), "{line} in {report}");
        }
    }
}
