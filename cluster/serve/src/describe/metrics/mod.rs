//! `/metrics`: what this server counts itself, and what others who count have to tell.
//!
//! ```text
//! Front::handle ─▶ Subject (what a request is counted under) ─▶ Finish ─▶ Metrics ◀─ Source (store, cache, admission, queues)
//!                                  a body still to be written ─▶ Measured ┘
//! ```

mod measured;
mod process;
mod subject;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http::Response;
use kedge_api::Status;
use kedge_api::metrics::{Family, Form, Kind, Source, Text};

pub use self::measured::Finish;
pub use self::subject::Subject;
use super::version;
use crate::http::respond::Body;

const SECONDS: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
];
const SLI_SECONDS: &[f64] =
    &[0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0];
const GATE_SECONDS: &[f64] =
    &[0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384];
const BYTES: &[f64] = &[1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
const EVENT_BYTES: &[f64] = &[1024.0, 2048.0, 4096.0, 8192.0, 16384.0, 32768.0, 65536.0, 131_072.0];

/// Upstream's labels of a request, in the alphabet's order, as all labels here.
const SUBJECT: &[&str] = &["component", "group", "resource", "scope", "subresource", "verb", "version"];

pub struct Metrics {
    requests: Family,
    durations: Family,
    sli_durations: Family,
    sizes: Family,
    in_flight: Family,
    long_running: Family,
    terminations: Family,
    aborts: Family,
    watch_events: Family,
    watch_event_sizes: Family,
    handshake_errors: Family,
    attempts: Family,
    users: Family,
    authentication: Family,
    decisions: Family,
    authorization: Family,
    in_process: Family,
    /// Added while the control plane is put together.
    sources: RwLock<Vec<Arc<dyn Source>>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let dry = &["component", "dry_run", "group", "resource", "scope", "subresource", "verb", "version"];
        let coded = &["code", "component", "group", "resource", "scope", "subresource", "verb", "version"];
        Self {
            requests: Family::counter(
                "apiserver_request_total",
                "Requests answered.",
                &["code", "component", "dry_run", "group", "resource", "scope", "subresource", "verb", "version"],
            ),
            durations: Family::histogram(
                "apiserver_request_duration_seconds",
                "Time until an answer was written; of a watch, until it ended.",
                dry,
                SECONDS,
            ),
            sli_durations: Family::histogram(
                "apiserver_request_sli_duration_seconds",
                "Time until an answer was written, for objectives of service.",
                SUBJECT,
                SLI_SECONDS,
            ),
            sizes: Family::histogram(
                "apiserver_response_sizes",
                "Bytes of the answers to reads, as they were sent.",
                SUBJECT,
                BYTES,
            ),
            in_flight: Family::gauge(
                "apiserver_current_inflight_requests",
                "Requests being worked on, without long-running ones.",
                &["request_kind"],
            ),
            long_running: Family::gauge(
                "apiserver_longrunning_requests",
                "Watches and other answers that last.",
                SUBJECT,
            ),
            terminations: Family::counter(
                "apiserver_request_terminations_total",
                "Requests turned away for overload.",
                coded,
            ),
            aborts: Family::counter(
                "apiserver_request_aborts_total",
                "Requests whose client was gone before the answer.",
                &["group", "resource", "scope", "subresource", "verb", "version"],
            ),
            watch_events: Family::counter(
                "apiserver_watch_events_total",
                "Events sent to watches.",
                &["group", "resource", "version"],
            ),
            watch_event_sizes: Family::histogram(
                "apiserver_watch_events_sizes",
                "Bytes of events sent to watches.",
                &["group", "resource", "version"],
                EVENT_BYTES,
            ),
            handshake_errors: Family::counter(
                "apiserver_tls_handshake_errors_total",
                "Connections that ended before TLS was set up.",
                &[],
            ),
            attempts: Family::counter("authentication_attempts", "Requests asked for their user.", &["result"]),
            users: Family::counter("authenticated_user_requests", "Requests of known users.", &["username"]),
            authentication: Family::histogram(
                "authentication_duration_seconds",
                "Time that finding the user took.",
                &["result"],
                GATE_SECONDS,
            ),
            decisions: Family::counter("authorization_attempts_total", "Requests checked for permission.", &["result"]),
            authorization: Family::histogram(
                "authorization_duration_seconds",
                "Time that checking for permission took.",
                &["result"],
                GATE_SECONDS,
            ),
            in_process: Family::counter(
                "rest_client_requests_total",
                "Requests of this process's own clients, which go through no HTTP.",
                &["code", "host", "method"],
            ),
            sources: RwLock::default(),
        }
    }
}

impl Metrics {
    /// Whoever else has something to tell in every report.
    pub fn add(&self, source: Arc<dyn Source>) {
        self.sources.write().unwrap_or_else(PoisonError::into_inner).push(source);
    }

    fn families(&self) -> [&Family; 17] {
        [
            &self.aborts,
            &self.in_flight,
            &self.long_running,
            &self.durations,
            &self.sli_durations,
            &self.terminations,
            &self.requests,
            &self.sizes,
            &self.handshake_errors,
            &self.watch_event_sizes,
            &self.watch_events,
            &self.users,
            &self.attempts,
            &self.authentication,
            &self.decisions,
            &self.authorization,
            &self.in_process,
        ]
    }

    pub fn report(&self, form: Form) -> String {
        let mut text = Text::new(form);
        self.families().into_iter().for_each(|family| family.tell(&mut text));
        let sources = self.sources.read().unwrap_or_else(PoisonError::into_inner).clone();
        sources.iter().for_each(|source| source.tell(&mut text));
        build(&mut text);
        process::tell(&mut text);
        text.finish()
    }

    /// A request that is being worked on, until it is dropped.
    pub fn working(self: &Arc<Self>, subject: Subject) -> Finish {
        Finish::new(Arc::clone(self), subject)
    }

    /// A request was turned away.
    pub fn terminated(&self, subject: Option<&Subject>, code: u16) {
        let Some(subject) = subject else { return };
        let [component, group, resource, scope, subresource, verb, version] = subject.labels();
        let code = code.to_string();
        self.terminations.inc(&[&code, component, group, resource, scope, subresource, verb, version]);
    }

    pub fn handshake_failed(&self) {
        self.handshake_errors.inc(&[]);
    }

    /// Who a request is of, or that nobody knows.
    pub fn authenticated(&self, user: Result<&str, ()>, took: Duration) {
        let result = match user {
            Ok(name) => {
                self.users.inc(&[subject::of_user(name)]);
                "success"
            }
            Err(()) => "error",
        };
        self.attempts.inc(&[result]);
        self.authentication.observe(&[result], took.as_secs_f64());
    }

    pub fn authorized(&self, allowed: bool, took: Duration) {
        let result = if allowed { "allowed" } else { "no-opinion" };
        self.decisions.inc(&[result]);
        self.authorization.observe(&[result], took.as_secs_f64());
    }

    /// A call of one of this process's own clients.
    pub fn called<T>(&self, verb: kedge_api::Verb, host: &str, answer: &Result<T, Status>) {
        let code = answer.as_ref().map_or_else(|status| status.reason.code(), |_| 200).to_string();
        self.in_process.inc(&[&code, host, subject::method(verb)]);
    }

    /// Watches that are open.
    pub fn open_watches(&self, group: &str, resource: &str, version: &str, scope: &str) -> f64 {
        self.long_running.get(&["apiserver", group, resource, scope, "", "WATCH", version])
    }
}

/// Counts an answer when it is written.
pub fn finish(finish: Finish, response: Response<Body>) -> Response<Body> {
    measured::finish(finish, response)
}

fn build(text: &mut Text) {
    let facts = version::version();
    let fact = |name: &str| facts.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
    let labels = [
        ("build_date", "buildDate"),
        ("compiler", "compiler"),
        ("git_commit", "gitCommit"),
        ("git_tree_state", "gitTreeState"),
        ("git_version", "gitVersion"),
        ("go_version", "goVersion"),
        ("major", "major"),
        ("minor", "minor"),
        ("platform", "platform"),
    ];
    text.head("kubernetes_build_info", Kind::Gauge, "Which build this is.");
    text.value(&labels.map(|(label, name)| (label, fact(name))), 1.0);
}

#[cfg(test)]
mod tests;
