//! Servers that extend the API: an APIService names one for a version of a group, and what is asked of that version goes there.
//!
//! ```text
//! Front::gates ─▶ remote (path → APIService) ─▶ pass: who asks in headers, our certificate as a proxy ─▶ the server, streamed both ways
//! availability::run ─▶ is its service there? ─▶ GET /apis/GROUP/VERSION ─▶ condition Available, and what it has ─▶ discovery
//! ```

pub mod availability;
pub mod discovery;
mod index;
mod published;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use http::header::{HeaderName, HeaderValue, LOCATION, UPGRADE};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use kedge_api::{Informer, Snapshot, User};
use serde_json::{Value, json};

use crate::authn::front_proxy;
use crate::describe::openapi::others::Spec;
use crate::http::respond::{self, Body};
use crate::pki::{Pki, Profile};
use crate::proxy::{end_to_end, forwarded, switched};
use crate::reach::{self, Server, service};
use crate::tls::{self, Servers};
use crate::wire::set;
use discovery::Form;
use index::Index;
pub use index::{Remote, Service};

/// What a server said of itself when it was last asked.
#[derive(Clone, Default)]
struct Learned {
    /// As aggregated discovery lists them.
    resources: Arc<[Value]>,
    /// Where its OpenAPI of version 3 is.
    openapi: Option<String>,
    /// Its OpenAPI of version 2.
    spec: Option<Arc<Spec>>,
    fresh: bool,
}

pub struct Aggregator {
    informer: Arc<dyn Informer>,
    pki: Arc<Pki>,
    /// Held for writing only while changed APIServices are read in.
    index: RwLock<Index>,
    /// By the APIService's name. Orders nothing: each entry is replaced whole.
    learned: Mutex<HashMap<String, Learned>>,
}

impl Aggregator {
    pub fn new(pki: Arc<Pki>, informer: Arc<dyn Informer>) -> Self {
        Self { informer, pki, index: RwLock::default(), learned: Mutex::default() }
    }

    fn services_in(&self, snapshot: &Snapshot) -> Arc<[Arc<Service>]> {
        {
            let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
            if index.shows(snapshot) {
                return Arc::clone(&index.services);
            }
        }
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        index.follow(snapshot);
        Arc::clone(&index.services)
    }

    fn services(&self) -> Arc<[Arc<Service>]> {
        self.services_in(&self.informer.snapshot())
    }

    /// Who answers for a path instead of this server: `/apis/GROUP/VERSION` and all below, and what describes it.
    pub fn remote(&self, path: &str) -> Option<Arc<Service>> {
        let rest = path.strip_prefix("/apis/").or_else(|| path.strip_prefix("/openapi/v3/apis/"))?;
        let mut parts = rest.split('/');
        let (group, version) = (parts.next()?, parts.next()?);
        self.services().iter().find(|s| s.remote.is_some() && s.is(group, version)).cloned()
    }

    /// Passes a request on to the server behind `service`, and its answer back.
    pub async fn pass(&self, service: &Service, user: &User, request: Request<Incoming>) -> Response<Body> {
        let unavailable = || respond::text(503, "service unavailable\n");
        let Some(remote) = service.remote.as_ref().filter(|_| service.available) else { return unavailable() };
        let server = match self.server(remote, &self.informer.snapshot()) {
            Ok(server) => server,
            Err(why) => {
                tracing::debug!(service = service.name, %why, "a server that extends the API cannot be reached");
                return unavailable();
            }
        };
        let upgrade = request.headers().contains_key(UPGRADE);
        let (parts, body) = request.into_parts();
        let mut outgoing =
            Request::new(if upgrade { respond::full("") } else { body.map_err(std::io::Error::other).boxed_unsync() });
        *outgoing.method_mut() = parts.method.clone();
        *outgoing.uri_mut() = parts.uri.path_and_query().map(|path| path.clone().into()).unwrap_or_default();
        *outgoing.headers_mut() = forwarded(&parts.headers, &server.authority, upgrade);
        say_who(outgoing.headers_mut(), user);
        let answer = match server.send(outgoing).await {
            Ok(answer) => answer,
            Err(why) => return respond::text(503, format!("error trying to reach service: {why}\n")),
        };
        if upgrade && answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return switched(Request::from_parts(parts, ()), answer);
        }
        if answer.status().is_redirection() && answer.headers().contains_key(LOCATION) {
            // It could send the client, with its credentials, anywhere.
            return respond::text(502, "the backend attempted to redirect this request, which is not permitted");
        }
        let (head, body) = end_to_end(answer);
        Response::from_parts(head, body.map_err(std::io::Error::other).boxed_unsync())
    }

    /// The way to a server, with what we show it and by what it must prove itself.
    fn server(&self, remote: &Remote, snapshot: &Snapshot) -> Result<Server, reach::Error> {
        let wrong = |error: &dyn std::fmt::Display| reach::Error::Config(error.to_string());
        let identity = self.pki.identity(&Profile::FrontProxy).map_err(|e| wrong(&e))?;
        let shown = (vec![identity.certificate.clone()], identity.key.clone_key());
        let trusted = if remote.insecure { Servers::Any } else { Servers::Of(&remote.ca_bundle) };
        let tls = tls::outside(trusted, Some(shown)).map_err(|e| wrong(&e))?;
        let dial = service::addresses(snapshot, &remote.namespace, &remote.name, remote.port);
        let dial = dial.map_err(reach::Error::Config)?;
        let name = format!("{}.{}.svc", remote.name, remote.namespace);
        Ok(Server { authority: format!("{name}:{}", remote.port), name, dial, tls: Arc::new(tls) })
    }

    fn learned(&self, service: &Service) -> Learned {
        let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        learned.get(&service.name).cloned().unwrap_or_default()
    }

    /// Puts what other servers have into a list of groups.
    pub fn merge(&self, list: &mut Value, form: Form) {
        let field = if form == Form::Legacy { "groups" } else { "items" };
        let Some(Value::Array(groups)) = list.get_mut(field) else { return };
        *groups = self.merged(std::mem::take(groups), &self.services(), form);
    }

    fn merged(&self, groups: Vec<Value>, services: &[Arc<Service>], form: Form) -> Vec<Value> {
        discovery::merged(groups, services, form, |service| match form {
            Form::Legacy => discovery::legacy(service),
            Form::Aggregated => {
                let learned = self.learned(service);
                discovery::aggregated(service, Some(&learned.resources), learned.fresh && service.available)
            }
        })
    }

    /// `/apis/GROUP`, of this server's versions and others'.
    pub fn group(&self, own: Option<Value>, name: &str) -> Option<Value> {
        let services: Vec<_> = self.services().iter().filter(|s| s.group == name).cloned().collect();
        let mut group = self.merged(own.into_iter().collect(), &services, Form::Legacy).into_iter().next()?;
        set(&mut group, "kind", "APIGroup");
        set(&mut group, "apiVersion", "v1");
        Some(group)
    }

    /// The paths of `/` that other servers answer.
    pub fn add_paths(&self, root: &mut Value) {
        let services = self.services();
        let Some(Value::Array(paths)) = root.get_mut("paths") else { return };
        for service in services.iter().filter(|s| s.remote.is_some()) {
            paths.push(format!("/apis/{}", service.group).into());
            paths.push(format!("/apis/{}/{}", service.group, service.version).into());
        }
        paths.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
        paths.dedup();
    }

    /// What other servers told of themselves for `/openapi/v2`, those before others first.
    pub fn specs(&self) -> Vec<Arc<Spec>> {
        let services = self.services();
        services.iter().filter(|s| s.remote.is_some()).filter_map(|s| self.learned(s).spec).collect()
    }

    /// The documents of `/openapi/v3` that other servers have.
    pub fn add_documents(&self, index: &mut Value) {
        let Some(Value::Object(paths)) = index.get_mut("paths") else { return };
        for service in self.services().iter().filter(|s| s.remote.is_some() && s.available) {
            let name = format!("apis/{}/{}", service.group, service.version);
            if let Some(url) = self.learned(service).openapi {
                paths.insert(name, json!({"serverRelativeURL": url}));
            }
        }
    }
}

/// Says in headers who asks, as a proxy that is believed says it.
fn say_who(headers: &mut HeaderMap, user: &User) {
    let mut add = |name: &str, value: &str| {
        // A client cannot have made up a name that HTTP has no form for; whoever did is not named.
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value.as_bytes()))
        {
            headers.append(name, value);
        }
    };
    add(front_proxy::USER, &user.name);
    if !user.uid.is_empty() {
        add(front_proxy::UID, &user.uid);
    }
    for group in user.groups.iter() {
        add(front_proxy::GROUP, group);
    }
    for (key, values) in user.extra.iter() {
        let name = format!("{}{}", front_proxy::EXTRA, escaped(key));
        values.iter().for_each(|value| add(&name, value));
    }
}

/// A key in the alphabet of header names (RFC 9110, 5.6.2), everything else percent-encoded.
fn escaped(key: &str) -> String {
    key.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
        text
    })
}
