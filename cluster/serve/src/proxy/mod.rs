//! Requests that end at a node: logs, exec, attach, port-forward, and the kubelet's API itself. And those that end at a pod or service.
//!
//! ```text
//! client ─▶ handle ─▶ plan (pod, container, node) ─▶ kubelet::send ─▶ answer streamed, or both connections spliced
//! ```
//!
//! What goes over an upgraded connection is between client and kubelet: bytes are passed on, not read.

mod kubelet;
mod outside;
mod plan;
mod splice;

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use kedge_api::{Informer, Status};

use crate::http::place::Place;
use crate::http::respond::{self, Body};
use crate::pki::Pki;
use crate::wire::path::ResourceAsked;
use crate::wire::query::Query;
pub use plan::{Connection, connection};

/// Reaches kubelets.
pub struct Proxy {
    pki: Arc<Pki>,
    informer: Arc<dyn Informer>,
}

/// What the client sent, as far as it is passed on.
pub struct Passed<'a> {
    pub connection: Connection,
    pub asked: &'a ResourceAsked,
    pub query: &'a Query,
    pub raw_query: &'a str,
    pub raw_path: &'a str,
    /// The path ends in one.
    pub slash: bool,
}

impl Proxy {
    pub fn new(pki: Arc<Pki>, informer: Arc<dyn Informer>) -> Self {
        Self { pki, informer }
    }

    pub async fn pass(&self, passed: Passed<'_>, request: Request<Incoming>) -> Result<Response<Body>, Status> {
        if matches!(passed.connection, Connection::Pod | Connection::Service) {
            return self.pass_out(&passed, request).await;
        }
        let plan = plan::plan(&passed, &self.informer.snapshot())?;
        let Some(plan) = plan else {
            // A pod that is nowhere yet has no log.
            let mut empty = respond::respond(204, respond::TEXT, respond::full(""));
            empty.headers_mut().remove(header::CONTENT_TYPE);
            return Ok(empty);
        };
        let upgrade = request.headers().contains_key(header::UPGRADE);
        if passed.connection.upgrades() && !upgrade {
            return Err(Status::bad_request("Upgrade request required"));
        }
        let (parts, body) = request.into_parts();
        let headers = forwarded(&parts.headers, &plan.authority, upgrade);
        let mut outgoing =
            Request::new(if upgrade { respond::full("") } else { body.map_err(std::io::Error::other).boxed_unsync() });
        *outgoing.method_mut() =
            if passed.connection == Connection::Node { parts.method.clone() } else { method(&parts.method) };
        *outgoing.uri_mut() =
            plan.path.parse().map_err(|e| Status::bad_request(format!("the path for the node is not a URL: {e}")))?;
        *outgoing.headers_mut() = headers;
        let answer = kubelet::send(&self.pki, &plan, outgoing).await;
        let answer = answer.map_err(|error| plan.unreachable(passed.connection, &error))?;
        if answer.status() == http::StatusCode::SWITCHING_PROTOCOLS {
            if !upgrade {
                return Err(Status::internal(format!("node {} switched protocols unasked", plan.node)));
            }
            return Ok(switched(Request::from_parts(parts, ()), answer));
        }
        let (mut head, body) = end_to_end(answer);
        if passed.connection == Connection::Log {
            head.headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static(respond::TEXT));
        }
        Ok(Response::from_parts(head, body.map_err(std::io::Error::other).boxed_unsync()))
    }

    /// To a pod's own server, or one behind a service.
    async fn pass_out(&self, passed: &Passed<'_>, request: Request<Incoming>) -> Result<Response<Body>, Status> {
        let to = outside::locate(passed, &self.informer.snapshot())?;
        if let Some(location) = outside::redirect(passed, request.method()) {
            let mut moved = respond::respond(301, respond::TEXT, respond::full(""));
            let location = HeaderValue::from_str(&location).map_err(|e| Status::bad_request(e.to_string()))?;
            moved.headers_mut().insert(header::LOCATION, location);
            return Ok(moved);
        }
        let upgrade = request.headers().contains_key(header::UPGRADE);
        let (parts, body) = request.into_parts();
        let mut outgoing =
            Request::new(if upgrade { respond::full("") } else { body.map_err(std::io::Error::other).boxed_unsync() });
        *outgoing.method_mut() = parts.method.clone();
        *outgoing.uri_mut() =
            to.path.parse().map_err(|e| Status::bad_request(format!("the path is not a URL: {e}")))?;
        *outgoing.headers_mut() = forwarded(&parts.headers, &to.authority, upgrade);
        let answer = outside::send(&to, outgoing).await.map_err(|error| plan::no_answer(&error))?;
        if upgrade && answer.status() == http::StatusCode::SWITCHING_PROTOCOLS {
            return Ok(switched(Request::from_parts(parts, ()), answer));
        }
        let (head, body) = end_to_end(answer);
        Ok(Response::from_parts(head, body.map_err(std::io::Error::other).boxed_unsync()))
    }
}

/// Both connections become one.
pub(crate) fn switched(ours: Request<()>, mut answer: Response<Incoming>) -> Response<Body> {
    let theirs = hyper::upgrade::on(&mut answer);
    let place = ours.extensions().get::<Place>().cloned();
    let spliced = splice::splice(hyper::upgrade::on(ours), theirs);
    tokio::spawn(async move {
        spliced.await;
        drop(place);
    });
    answer.map(|_| respond::full(""))
}

/// Without what was said of the connection behind.
pub(crate) fn end_to_end(answer: Response<Incoming>) -> (http::response::Parts, Incoming) {
    let (mut head, body) = answer.into_parts();
    for name in HOP_BY_HOP {
        head.headers.remove(name);
    }
    (head, body)
}

fn method(method: &Method) -> Method {
    if *method == Method::POST { Method::POST } else { Method::GET }
}

/// Headers that are about one connection (RFC 9110, 7.6.1).
const HOP_BY_HOP: [header::HeaderName; 7] = [
    header::CONNECTION,
    header::UPGRADE,
    header::TRANSFER_ENCODING,
    header::TE,
    header::TRAILER,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
];

/// What the node gets to see: nothing of who the client is.
pub(crate) fn forwarded(headers: &HeaderMap, authority: &str, upgrade: bool) -> HeaderMap {
    let secret = |name: &str| {
        let told = ["impersonate-", "x-remote-"].iter().any(|prefix| name.starts_with(prefix));
        told || name == "authorization" || name == "cookie"
    };
    let mut out: HeaderMap = headers
        .iter()
        .filter(|(name, _)| !secret(name.as_str()) && **name != header::HOST)
        .filter(|(name, _)| upgrade || !HOP_BY_HOP.contains(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if upgrade {
        out.remove(header::CONTENT_LENGTH);
        out.remove(header::TRANSFER_ENCODING);
    }
    if let Ok(host) = HeaderValue::from_str(authority) {
        out.insert(header::HOST, host);
    }
    out
}
