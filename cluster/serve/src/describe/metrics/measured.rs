//! From a request to the last byte of its answer.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Frame, SizeHint};
use kedge_api::metrics::Handle;

use super::{Metrics, Subject};
use crate::http::respond::Body;

/// A request that is worked on. Dropped before it has an answer, its client is gone.
pub struct Finish {
    metrics: Arc<Metrics>,
    subject: Subject,
    began: Instant,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Working,
    /// The answer's body is being written.
    Writing {
        code: u16,
        bytes: u64,
    },
    Done,
}

impl Finish {
    pub(super) fn new(metrics: Arc<Metrics>, subject: Subject) -> Self {
        let finish = Self { metrics, subject, began: Instant::now(), stage: Stage::Working };
        finish.in_flight(1.0);
        finish
    }

    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    fn in_flight(&self, by: f64) {
        if !self.subject.lasts() {
            let reads = self.subject.reads();
            self.metrics.in_flight.add(&[if reads { "readOnly" } else { "mutating" }], by);
        }
    }

    fn answered(&mut self, code: u16) {
        self.in_flight(-1.0);
        self.stage = Stage::Writing { code, bytes: 0 };
    }

    fn wrote(&mut self, more: u64) {
        if let Stage::Writing { bytes, .. } = &mut self.stage {
            *bytes += more;
        }
    }

    /// What a watch counts its events and their sizes in.
    fn events(&self) -> Option<[Handle; 2]> {
        let Subject { group, resource, version, verb: "WATCH", .. } = &self.subject else { return None };
        let labels = [group.as_ref(), resource.as_ref(), version.as_ref()];
        Some([self.metrics.watch_events.at(&labels), self.metrics.watch_event_sizes.at(&labels)])
    }

    fn lasting(&self, by: f64) {
        if self.subject.lasts() {
            self.metrics.long_running.add(&self.subject.labels(), by);
        }
    }

    fn record(&self, code: u16, bytes: u64) {
        let (metrics, seconds) = (&self.metrics, self.began.elapsed().as_secs_f64());
        let labels = self.subject.labels();
        let [component, group, resource, scope, subresource, verb, version] = labels;
        let dry_run = self.subject.dry_run;
        let code = code.to_string();
        metrics.requests.inc(&[&code, component, dry_run, group, resource, scope, subresource, verb, version]);
        metrics.durations.observe(&[component, dry_run, group, resource, scope, subresource, verb, version], seconds);
        metrics.sli_durations.observe(&labels, seconds);
        if self.subject.reads() {
            metrics.sizes.observe(&labels, bytes as f64);
        }
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Working => {
                self.in_flight(-1.0);
                let [_, group, resource, scope, subresource, verb, version] = self.subject.labels();
                self.metrics.aborts.inc(&[group, resource, scope, subresource, verb, version]);
            }
            Stage::Writing { code, bytes } => self.record(code, bytes),
            Stage::Done => {}
        }
    }
}

/// What is whole is counted at once, so that who asks next finds it counted; what is still to come, when it has come or the client is gone.
pub fn finish(mut finish: Finish, response: Response<Body>) -> Response<Body> {
    finish.answered(response.status().as_u16());
    if let Some(bytes) = response.body().size_hint().exact() {
        finish.wrote(bytes);
        return response;
    }
    finish.lasting(1.0);
    let events = finish.events();
    response.map(|body| Measured { body, finish, events }.boxed_unsync())
}

/// A body whose bytes are counted as they go.
struct Measured {
    body: Body,
    finish: Finish,
    events: Option<[Handle; 2]>,
}

impl hyper::body::Body for Measured {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            let bytes = data.len() as u64;
            self.finish.wrote(bytes);
            if let Some([events, sizes]) = &self.events {
                events.inc();
                sizes.observe(bytes as f64);
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        self.finish.lasting(-1.0);
    }
}
