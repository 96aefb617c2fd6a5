//! One request through the gates.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use futures::FutureExt;
use http::header::HeaderValue;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use kedge_api::{Reason, Status, User};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::paths::accept;
use crate::aggregate::Aggregator;
use crate::authn::token::Tokens;
use crate::authn::{Authenticator, Peer, impersonated, unauthorized};
use crate::authz::{Attributes, Authorizer};
use crate::backend::{Backend, Catalog};
use crate::clock::Clock;
use crate::describe::health::Health;
use crate::describe::metrics::Metrics;
use crate::http::answer::is_pretty;
use crate::http::respond::{self, Body};
use crate::proxy::Proxy;
use crate::review::Reviewer;
use crate::wire::media::{Accepted, Offer, negotiate};
use crate::wire::path::{About, Asked, parse};
use crate::wire::query::Query;

/// What the front is made of.
pub struct Parts {
    pub authenticator: Authenticator,
    pub authorizer: Arc<Authorizer>,
    pub backend: Arc<dyn Backend>,
    pub tokens: Arc<Tokens>,
    pub proxy: Proxy,
    pub aggregator: Arc<Aggregator>,
    pub health: Health,
    pub clock: Clock,
    /// `10.0.0.5:6443`, told to clients that ask where else to go.
    pub address: String,
    /// Requests worked on at once; watches, logs and connections do not count once they run.
    pub max_in_flight: usize,
    /// Ends watches when the server is to stop.
    pub shutdown: CancellationToken,
}

pub struct Front {
    pub(super) authenticator: Authenticator,
    pub(super) authorizer: Arc<Authorizer>,
    pub(super) backend: Arc<dyn Backend>,
    pub(super) catalog: Catalog,
    pub(super) tokens: Arc<Tokens>,
    pub(super) proxy: Proxy,
    pub(super) aggregator: Arc<Aggregator>,
    pub(super) health: Health,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Clock,
    pub(super) address: String,
    pub(super) shutdown: CancellationToken,
    in_flight: Semaphore,
    /// Bytes of bodies held at once.
    pub(super) body_bytes: Arc<Semaphore>,
    pub(super) watches: AtomicU64,
}

/// Memory for bodies that are being read: a few of the largest size.
const BODY_BYTES: usize = 16 * 1024 * 1024;

impl Front {
    pub fn new(parts: Parts) -> Self {
        Self {
            authenticator: parts.authenticator,
            authorizer: parts.authorizer,
            catalog: Catalog::new(Arc::clone(&parts.backend)),
            backend: parts.backend,
            tokens: parts.tokens,
            proxy: parts.proxy,
            aggregator: parts.aggregator,
            health: parts.health,
            metrics: Arc::default(),
            clock: parts.clock,
            address: parts.address,
            shutdown: parts.shutdown,
            in_flight: Semaphore::new(parts.max_in_flight),
            body_bytes: Arc::new(Semaphore::new(BODY_BYTES)),
            watches: AtomicU64::new(0),
        }
    }

    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    pub(super) fn reviewer(&self) -> Reviewer<'_> {
        Reviewer { authenticator: &self.authenticator, authorizer: &self.authorizer, clock: &self.clock }
    }

    pub(super) fn who(&self, peer: &Peer, headers: &http::HeaderMap) -> Result<User, Status> {
        let user = self.authenticator.authenticate(peer, headers)?;
        impersonated(user, headers, &self.authorizer)
    }

    /// Answers one request; whatever happens, with an answer.
    pub async fn handle(&self, peer: &Peer, request: Request<Incoming>) -> Response<Body> {
        let began = Instant::now();
        let audit = request.headers().get("audit-id").cloned();
        let audit = audit.or_else(|| HeaderValue::from_str(&uuid::Uuid::new_v4().to_string()).ok());
        let method = request.method().clone();
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let asked = parse(&method, request.uri().path(), &query);
        let labels = self.labels(asked.as_ref().ok());
        let accepted = negotiate(accept(request.headers()), Offer::Objects).unwrap_or(Accepted::JSON);
        let pretty = is_pretty(&query, request.headers());
        let answered = AssertUnwindSafe(self.limited(peer, asked, query, request)).catch_unwind().await;
        let mut response = match answered {
            Ok(Ok(response)) => response,
            Ok(Err(status)) => respond::status_in(accepted, pretty, &status),
            Err(_) => {
                tracing::error!(%method, ?labels, "a request's handler panicked");
                respond::status(&Status::internal("an internal error stopped the request; the server's log has it"))
            }
        };
        if let Some(audit) = audit {
            response.headers_mut().insert("audit-id", audit);
        }
        let (verb, group, resource) = labels;
        self.metrics.count(verb, &group, &resource, response.status().as_u16(), began.elapsed());
        response
    }

    /// What a request is counted under: names of rows only, so that clients cannot make labels up.
    fn labels(&self, asked: Option<&Asked>) -> (&'static str, String, String) {
        match asked.map(|asked| &asked.about) {
            Some(About::Resource(r)) => {
                let (group, resource) = (r.target.resource.group.as_str(), r.target.resource.resource.as_str());
                let known = self.catalog.find(group, &r.target.version, resource).is_some();
                let name = |text: &str| if known { text.to_owned() } else { String::new() };
                (r.verb.as_str(), name(group), name(resource))
            }
            Some(About::Path { verb }) => (verb, String::new(), String::new()),
            None => ("other", String::new(), String::new()),
        }
    }

    async fn limited(
        &self,
        peer: &Peer,
        asked: Result<Asked, crate::wire::path::BadPath>,
        query: Query,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Status> {
        let asked = asked.map_err(|e| Status::bad_request(e.to_string()))?;
        let Ok(_permit) = self.in_flight.try_acquire() else {
            self.metrics.rejected.fetch_add(1, Ordering::Relaxed);
            return Err(Status::new(Reason::TooManyRequests, "Too many requests, please try again later."));
        };
        self.metrics.in_flight.fetch_add(1, Ordering::Relaxed);
        let _counted = Counted(&self.metrics.in_flight);
        self.gates(peer, &asked, &query, request).await
    }

    async fn gates(
        &self,
        peer: &Peer,
        asked: &Asked,
        query: &Query,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Status> {
        let user = self.who(peer, request.headers())?;
        if *request.method() == Method::OPTIONS
            || *request.method() == Method::CONNECT
            || *request.method() == Method::TRACE
        {
            return Err(if user.name.is_empty() { unauthorized() } else { respond::method_not_allowed() });
        }
        let selector = query.first("fieldSelector").unwrap_or_default();
        self.authorizer.check(&Attributes::asked(&user, asked, selector))?;
        if let Some(service) = self.aggregator.remote(&asked.path) {
            return Ok(self.aggregator.pass(&service, &user, request).await);
        }
        match &asked.about {
            About::Path { verb } => self.path(verb, &asked.path, query, &request),
            About::Resource(resource) => self.resource(user, resource, query, request).await,
        }
    }
}

/// Takes one off a gauge when dropped.
pub(super) struct Counted<'a>(pub &'a AtomicU64);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
