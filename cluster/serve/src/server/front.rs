//! One request through the gates.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use futures::FutureExt;
use http::header::HeaderValue;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use kedge_api::{GroupResource, Informer, Reason, Status};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::course::{Course, Ends, refused};
use super::noting;
use super::own::{self, Own};
use super::paths::accept;
use crate::aggregate::Aggregator;
use crate::audit::Audit;
use crate::authn::token::Tokens;
use crate::authn::{Authenticator, Peer, impersonated, unauthorized};
use crate::authz::{Attributes, Authorizer, Selectors};
use crate::backend::{Backend, Catalog};
use crate::clock::Clock;
use crate::describe::health::Health;
use crate::describe::metrics::{self, Finish, Metrics, Subject};
use crate::flow::{Details, Flow, Listed, Refused};
use crate::http::answer::is_pretty;
use crate::http::lines::Lines;
use crate::http::respond::{self, Body};
use crate::proxy::Proxy;
use crate::review::Reviewer;
use crate::wire::lasting::{LONGEST, Lasting, timeout};
use crate::wire::media::{Accepted, Offer, negotiate};
use crate::wire::path::{About, Asked, ResourceAsked, parse};
use crate::wire::query::Query;

/// What the front is made of.
pub struct Parts {
    pub authenticator: Authenticator,
    pub authorizer: Arc<Authorizer>,
    pub backend: Arc<dyn Backend>,
    pub tokens: Arc<Tokens>,
    pub proxy: Proxy,
    pub aggregator: Arc<Aggregator>,
    pub flow: Arc<Flow>,
    pub audit: Option<Arc<Audit>>,
    pub informer: Arc<dyn Informer>,
    pub health: Health,
    pub clock: Clock,
    /// What is answered below `/kedge`.
    pub own: Option<Arc<dyn Own>>,
    /// `10.0.0.5:6443`, told to clients that ask where else to go.
    pub address: String,
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
    pub(super) flow: Arc<Flow>,
    pub(super) audit: Option<Arc<Audit>>,
    pub(super) informer: Arc<dyn Informer>,
    pub(super) health: Health,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Clock,
    own: Option<Arc<dyn Own>>,
    pub(super) address: String,
    pub(super) shutdown: CancellationToken,
    /// Bytes of bodies held at once.
    pub(super) body_bytes: Arc<Semaphore>,
    pub(super) watches: AtomicU64,
    pub(super) lines: Arc<Lines>,
}

/// Memory for bodies that are being read: a few of the largest size.
const BODY_BYTES: usize = 16 * 1024 * 1024;

/// Paths that upstream has not.
const OWN: &str = "/kedge/";

impl Front {
    pub fn new(parts: Parts) -> Self {
        let metrics = Metrics::default();
        metrics.add(Arc::clone(&parts.flow) as _);
        if let Some(audit) = &parts.audit {
            metrics.add(Arc::clone(audit) as _);
        }
        Self {
            authenticator: parts.authenticator,
            authorizer: parts.authorizer,
            catalog: Catalog::new(Arc::clone(&parts.backend)),
            backend: parts.backend,
            tokens: parts.tokens,
            proxy: parts.proxy,
            aggregator: parts.aggregator,
            flow: parts.flow,
            audit: parts.audit,
            informer: parts.informer,
            health: parts.health,
            metrics: Arc::new(metrics),
            clock: parts.clock,
            own: parts.own,
            address: parts.address,
            shutdown: parts.shutdown,
            body_bytes: Arc::new(Semaphore::new(BODY_BYTES)),
            watches: AtomicU64::new(0),
            lines: Arc::default(),
        }
    }

    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    pub(super) fn reviewer(&self) -> Reviewer<'_> {
        Reviewer { authenticator: &self.authenticator, authorizer: &self.authorizer, clock: &self.clock }
    }

    /// Answers one request; whatever happens, with an answer.
    pub async fn handle(&self, peer: &Peer, from: SocketAddr, request: Request<Incoming>) -> Response<Body> {
        let audit = request.headers().get("audit-id").cloned();
        let audit = audit.or_else(|| HeaderValue::from_str(&uuid::Uuid::new_v4().to_string()).ok());
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let asked = parse(&method, &path, &query);
        let counted = self.subject(asked.as_ref().ok(), &query, request.headers());
        let finish = counted.map(|subject| self.metrics.working(subject));
        let accepted = negotiate(accept(request.headers()), Offer::Objects).unwrap_or(Accepted::JSON);
        let pretty = is_pretty(&query, request.headers());
        let arrived = self.audit.is_some().then(|| noting::arrived(&request, from, audit.as_ref(), self.clock.now()));
        let mut course = Course { arrived, ..Course::default() };
        let subject = finish.as_ref().map(Finish::subject);
        let answered = self.within_time(peer, asked, query, request, subject, &mut course);
        let answered = AssertUnwindSafe(answered).catch_unwind().await;
        let (response, failure) = match answered {
            Ok(Ok(response)) => (response, None),
            Ok(Err(status)) => (respond::status_in(accepted, pretty, &status), Some(status)),
            Err(_) => {
                tracing::error!(%method, path, "a request's handler panicked");
                course.ends = Ends::Panicked;
                let status = Status::internal("an internal error stopped the request; the server's log has it");
                (respond::status(&status), Some(status))
            }
        };
        let mut response = course.finish(response, failure.as_ref());
        if let Some(audit) = audit {
            response.headers_mut().insert("audit-id", audit);
        }
        if method == Method::HEAD {
            response = respond::bodiless(response);
        }
        match finish {
            Some(finish) => metrics::finish(finish, response),
            None => response,
        }
    }

    fn subject(&self, asked: Option<&Asked>, query: &Query, headers: &http::HeaderMap) -> Option<Subject> {
        let asked = asked?;
        let row = match &asked.about {
            About::Resource(ResourceAsked { target, .. }) => {
                let GroupResource { group, resource } = &target.resource;
                self.catalog.find(group.as_str(), &target.version, resource.as_str())
            }
            About::Path { .. } => None,
        };
        Subject::of(asked, row.as_deref(), query, headers)
    }

    /// Most requests must end within a minute, or sooner if the client says so.
    async fn within_time(
        &self,
        peer: &Peer,
        asked: Result<Asked, crate::wire::path::BadPath>,
        query: Query,
        request: Request<Incoming>,
        subject: Option<&Subject>,
        course: &mut Course,
    ) -> Result<Response<Body>, Status> {
        let asked = asked.map_err(|e| Status::bad_request(e.to_string()))?;
        let (lasting, now) = (Lasting::of(&asked), Instant::now());
        let time = if lasting == Lasting::Short { timeout(&query)? } else { LONGEST };
        let limits = Limits { lasting, queued: now + time / QUEUED };
        let gates = self.gates(peer, &asked, &query, request, (limits, subject), course);
        if lasting != Lasting::Short {
            return gates.await;
        }
        let answered = tokio::time::timeout(time, gates).await;
        course.end = Some(now + time);
        answered.unwrap_or_else(|_| {
            self.metrics.terminated(subject, Reason::Timeout.code());
            Err(too_late())
        })
    }

    async fn gates(
        &self,
        peer: &Peer,
        asked: &Asked,
        query: &Query,
        request: Request<Incoming>,
        (limits, subject): (Limits, Option<&Subject>),
        course: &mut Course,
    ) -> Result<Response<Body>, Status> {
        let began = Instant::now();
        let user = self.authenticator.authenticate(peer, request.headers(), &asked.path).await;
        self.metrics.authenticated(user.as_ref().map(|user| &*user.name).map_err(|_| ()), began.elapsed());
        let selectors = Selectors::of(query);
        self.begin_trail(&user, peer, (asked, selectors, limits.lasting), request.headers(), course);
        let user = impersonated(user?, request.headers(), &self.authorizer, asked, selectors).await?;
        if request.headers().contains_key("impersonate-user")
            && let Some(trail) = &mut course.trail
        {
            trail.impersonated(&user);
        }
        if *request.method() == Method::OPTIONS
            || *request.method() == Method::CONNECT
            || *request.method() == Method::TRACE
        {
            return Err(if user.name.is_empty() { unauthorized() } else { respond::method_not_allowed() });
        }
        let attributes = Attributes::asked(&user, asked, selectors);
        if let Err(why) = self.seated(&attributes, asked, query, limits, course).await {
            self.metrics.terminated(subject, Reason::TooManyRequests.code());
            return Ok(refused(&why));
        }
        let began = Instant::now();
        let decision = self.authorizer.decide(&attributes).await;
        self.metrics.authorized(decision.is_ok(), began.elapsed());
        course.decided(&decision);
        decision.map_err(|refusal| refusal.status(&attributes))?;
        if let Some(service) = self.aggregator.remote(&asked.path) {
            if limits.lasting == Lasting::Watch {
                // It begins at the other server.
                course.seat = None;
            }
            return Ok(self.aggregator.pass(&service, &user, request).await);
        }
        if let (Some(own), About::Path { verb }, Some(path)) = (&self.own, &asked.about, asked.path.strip_prefix(OWN)) {
            return own::answer(&**own, verb, path).await;
        }
        match &asked.about {
            About::Path { verb } => self.path(verb, &asked.path, query, &request),
            About::Resource(resource) => self.resource(user, resource, query, request, course).await,
        }
    }

    /// Waits for a seat, until `queued`. Connections and logs need none.
    async fn seated(
        &self,
        attributes: &Attributes<'_>,
        asked: &Asked,
        query: &Query,
        limits: Limits,
        course: &mut Course,
    ) -> Result<(), Refused> {
        if limits.lasting == Lasting::Open {
            return Ok(());
        }
        let listed = Listed {
            limit: query.first("limit").and_then(|limit| limit.parse().ok()).unwrap_or_default(),
            initial_events: query.flag("sendInitialEvents"),
        };
        let class = &mut course.class;
        let seat =
            self.flow.enter(attributes, listed, details(attributes, asked), limits.queued, |told| *class = Some(told));
        course.seat = Some(seat.await?);
        if limits.lasting == Lasting::Watch {
            course.watching = Some(self.flow.watching(attributes));
        }
        Ok(())
    }
}

/// For how long a request may last, and until when it may wait for its seat.
#[derive(Clone, Copy, Debug)]
struct Limits {
    lasting: Lasting,
    queued: Instant,
}

/// The part of its time that a request may wait for a seat.
const QUEUED: u32 = 4;

fn too_late() -> Status {
    let message = "Timeout: request did not complete within the allotted timeout";
    Status { details: Some(Box::default()), ..Status::new(Reason::Timeout, message) }
}

/// For those who look at the queues.
fn details(attributes: &Attributes<'_>, asked: &Asked) -> Details {
    let api_version = match &asked.about {
        About::Resource(resource) if attributes.group.is_empty() => resource.target.version.clone(),
        About::Resource(resource) => format!("{}/{}", attributes.group, resource.target.version),
        About::Path { .. } => String::new(),
    };
    Details {
        user: Arc::clone(&attributes.user.name),
        verb: attributes.verb.to_owned(),
        path: asked.path.clone(),
        namespace: attributes.namespace.to_owned(),
        name: attributes.name.to_owned(),
        api_version,
        resource: attributes.resource.to_owned(),
        subresource: attributes.subresource.to_owned(),
    }
}
