//! The audit log: who did what when, as far as the policy wants it noted.
//!
//! Owns the policy, events and where they go. What is noted of a request is gathered on its way in a [`Trail`]; at each stage that the
//! policy wants, it is put into the outlets' queues. No request waits for them: what finds no place is counted and lost.
//!
//! ```text
//! Audit::begin ─▶ policy::Policy::judge ─▶ Trail ─ stage ─▶ outlet::Outlet (bounded) ─▶ log (a thread; a file that is rotated)
//!                                           ▲ gates, bodies, answers                 └▶ webhook (a task; batches over HTTPS)
//! ```

mod event;
pub mod log;
mod outlet;
pub mod policy;
pub mod webhook;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use kedge_api::metrics::{Kind, Source, Text};
use kedge_api::request::Payload;
use kedge_api::{Body, Status, User};
use serde_json::{Value, json};

use self::event::{Event, ObjectRef, UserInfo, micro};
pub use self::outlet::Outlet;
pub use self::policy::Stage;
use self::policy::{Level, Policy};
use crate::authz::{Attributes, What};
use crate::clock::Clock;
use crate::http::item;

/// Upstream cuts user agents here.
const LONGEST_AGENT: usize = 1024;
/// How long the end of the server waits for what was noted to be written.
const FLUSH: Duration = Duration::from_secs(2);

pub struct Audit {
    policy: Policy,
    outlets: Vec<Outlet>,
    clock: Clock,
    events: AtomicU64,
    /// Requests by level, in the order of [`Level::ALL`].
    levels: [AtomicU64; Level::ALL.len()],
}

/// What is known of a request before anything is found out about it.
#[derive(Clone, Debug, Default)]
pub struct Arrived {
    pub audit_id: String,
    pub uri: String,
    pub source_ips: Vec<String>,
    pub user_agent: String,
    pub received: Timestamp,
}

impl Audit {
    pub fn new(policy: Policy, outlets: Vec<Outlet>, clock: Clock) -> Self {
        Self { policy, outlets, clock, events: AtomicU64::new(0), levels: Default::default() }
    }

    /// The trail of a request, if the policy wants one. `user` is nobody where authentication failed.
    pub fn begin(
        self: &Arc<Self>,
        user: Option<&User>,
        asked: &Attributes<'_>,
        version: &str,
        arrived: Arrived,
    ) -> Option<Trail> {
        let verdict = self.policy.judge(user, asked);
        let counted = self.levels.iter().zip(Level::ALL).find(|(_, level)| *level == verdict.level);
        if let Some((count, _)) = counted {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if verdict.level == Level::None {
            return None;
        }
        let object_ref = (asked.what == What::Resource).then(|| ObjectRef {
            resource: asked.resource.to_owned(),
            namespace: asked.namespace.to_owned(),
            name: asked.name.to_owned(),
            api_group: asked.group.to_owned(),
            api_version: version.to_owned(),
            subresource: asked.subresource.to_owned(),
            ..ObjectRef::default()
        });
        let received = micro(arrived.received);
        let event = Event {
            kind: "Event",
            api_version: "audit.k8s.io/v1",
            level: verdict.level,
            audit_id: arrived.audit_id,
            stage: Stage::RequestReceived,
            request_uri: arrived.uri,
            verb: asked.verb.to_owned(),
            user: user.map(UserInfo::from).unwrap_or_default(),
            impersonated_user: None,
            source_ips: arrived.source_ips,
            user_agent: cut(arrived.user_agent),
            object_ref,
            response_status: None,
            request_object: None,
            response_object: None,
            request_received_timestamp: received.clone(),
            stage_timestamp: received,
            annotations: Default::default(),
        };
        let (omit_stages, omit_managed_fields) = (verdict.omit_stages, verdict.omit_managed_fields);
        Some(Trail { audit: Arc::clone(self), event, omit_stages, omit_managed_fields })
    }

    /// Waits a little until all that was noted is written.
    pub async fn flush(&self) {
        let all = futures::future::join_all(self.outlets.iter().map(Outlet::flush));
        if tokio::time::timeout(FLUSH, all).await.is_err() {
            tracing::warn!("not all audit events could be written");
        }
    }
}

impl Source for Audit {
    fn tell(&self, text: &mut Text) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64;
        text.head("apiserver_audit_event_total", Kind::Counter, "Audit events that were made.");
        text.value(&[], read(&self.events));
        text.head("apiserver_audit_level_total", Kind::Counter, "Requests by what the policy wants noted of them.");
        for (count, level) in self.levels.iter().zip(Level::ALL) {
            text.value(&[("level", level.as_str())], read(count));
        }
        text.head("apiserver_audit_error_total", Kind::Counter, "Audit events that were lost, by where.");
        text.value(&[("plugin", "buffered")], self.outlets.iter().map(|outlet| read(&outlet.counts.dropped)).sum());
        for outlet in &self.outlets {
            text.value(&[("plugin", outlet.name)], read(&outlet.counts.failed));
        }
    }
}

fn cut(mut agent: String) -> String {
    if agent.len() > LONGEST_AGENT {
        agent.truncate(agent.floor_char_boundary(LONGEST_AGENT));
        agent.push_str("...TRUNCATED");
    }
    agent
}

/// What is noted of one request.
pub struct Trail {
    audit: Arc<Audit>,
    event: Event,
    omit_stages: Vec<Stage>,
    omit_managed_fields: bool,
}

impl Trail {
    /// The request has come so far: notes it, if the policy wants that.
    pub fn stage(&mut self, stage: Stage) {
        if self.omit_stages.contains(&stage) {
            return;
        }
        self.event.stage = stage;
        if stage != Stage::RequestReceived {
            self.event.stage_timestamp = micro(self.audit.clock.now());
        }
        match serde_json::to_vec(&self.event) {
            Ok(bytes) => {
                self.audit.events.fetch_add(1, Ordering::Relaxed);
                let bytes = bytes::Bytes::from(bytes);
                self.audit.outlets.iter().for_each(|outlet| outlet.offer(bytes.clone()));
            }
            Err(error) => tracing::error!(%error, "an audit event cannot be encoded"),
        }
    }

    /// The first to say something is right.
    pub fn annotate(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.event.annotations.entry(key.into()).or_insert_with(|| value.into());
    }

    pub fn impersonated(&mut self, user: &User) {
        self.event.impersonated_user = Some(user.into());
    }

    /// What came with the request.
    pub fn request(&mut self, body: &Body) {
        let object = match body {
            Body::None => return,
            Body::Object { value, .. } => {
                if let Some(about) = &mut self.event.object_ref {
                    about.complete(value);
                }
                value
            }
            Body::Patch(_, value) => value,
        };
        if self.event.level >= Level::Request {
            self.event.request_object = Some(self.shown(object.clone()));
        }
    }

    /// What is answered.
    pub fn response(&mut self, payload: &Payload) {
        if self.event.level < Level::RequestResponse {
            return;
        }
        let object = match payload {
            Payload::Stored(object) => item::parse(object).ok(),
            Payload::Value(value) => Some(value.clone()),
            Payload::List { api_version, kind, revision, items, .. } => {
                let items: Vec<Value> = items.iter().filter_map(|object| item::parse(object).ok()).collect();
                let metadata = json!({"resourceVersion": revision.to_string()});
                Some(json!({"apiVersion": api_version, "kind": kind, "metadata": metadata, "items": items}))
            }
            // Each event of a watch is none of the answer.
            Payload::Watch(_) => None,
        };
        self.event.response_object = object.map(|object| self.shown(object));
    }

    fn shown(&self, mut value: Value) -> Value {
        if self.omit_managed_fields {
            event::without_managed_fields(&mut value);
        }
        value
    }

    /// The answer's code, and what failed.
    pub fn status(&mut self, code: u16, failure: Option<&Status>) {
        self.event.response_status = Some(event::status(code, failure));
        if let (Level::RequestResponse, Some(failure)) = (self.event.level, failure) {
            self.event.response_object = Some(failure.to_value());
        }
    }

    /// In other words than the failure's own.
    pub fn status_message(&mut self, message: &str) {
        if let Some(status) = self.event.response_status.as_mut().and_then(Value::as_object_mut) {
            status.insert("message".to_owned(), message.into());
        }
    }
}

/// Notes that the answer is complete, when dropped.
pub struct Completes(pub Trail);

impl Drop for Completes {
    fn drop(&mut self) {
        self.0.stage(Stage::ResponseComplete);
    }
}
