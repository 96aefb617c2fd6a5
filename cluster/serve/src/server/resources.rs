//! Requests about resources: the row, the verb, the body, then whoever answers.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::header::{CONTENT_TYPE, HeaderMap, USER_AGENT};
use http::{Method, Request, Response};
use hyper::body::Incoming;
use kedge_api::request::Payload;
use kedge_api::{Body as RequestBody, PatchType, Reason, Request as ApiRequest, Resource, Status, User, Verb};

use super::course::Course;
use super::front::Front;
use super::paths::accept;
use super::read::Read;
use crate::authz::{Attributes, Selectors};
use crate::http::answer::{Wanted, answer};
use crate::http::respond::{self, Body, method_not_allowed, not_found, page_not_found};
use crate::http::{watch, websocket};
use crate::proxy::{Connection, Passed, connection};
use crate::wire::media::{BodyType, Format, Offer, Shape, body_type, negotiate, unknown_stream};
use crate::wire::path::ResourceAsked;
use crate::wire::query::Query;

impl Front {
    pub(super) async fn resource(
        &self,
        user: User,
        asked: &ResourceAsked,
        query: &Query,
        request: Request<Incoming>,
        course: &mut Course,
    ) -> Result<Response<Body>, Status> {
        let target = &asked.target;
        let (group, plural) = (target.resource.group.as_str(), target.resource.resource.as_str());
        let Some(row) = self.catalog.find(group, &target.version, plural) else {
            return if self.catalog.has_group(group) { Err(not_found()) } else { Ok(page_not_found()) };
        };
        if let Some(connection) = connection(plural, group, &target.subresource) {
            return self.connect(&user, connection, asked, query, request).await;
        }
        // Upstream's routes of built-in kinds know no HEAD; those of custom kinds take it for a GET.
        if *request.method() == Method::HEAD && row.custom.is_none() {
            return Err(method_not_allowed());
        }
        if row.custom.is_some()
            && (row.namespaced == target.namespace.is_empty() && !lists(asked) || !asked.rest.is_empty())
        {
            return Ok(page_not_found());
        }
        self.answered(user, &row, asked, query, request, course).await.or_else(|status| refused(&row, status))
    }

    /// By whoever carries it out: the backend, or this crate.
    async fn answered(
        &self,
        user: User,
        row: &Arc<Resource>,
        asked: &ResourceAsked,
        query: &Query,
        mut request: Request<Incoming>,
        course: &mut Course,
    ) -> Result<Response<Body>, Status> {
        let target = &asked.target;
        let kind = check(row, asked)?;
        let accepted =
            negotiate(accept(request.headers()), if self.catalog.is_own(row) { Offer::Plain } else { Offer::Objects })?;
        if asked.verb == Verb::Watch && accepted.format == Format::Yaml {
            return Err(unknown_stream());
        }
        let wanted = Wanted::new(accepted, query, request.headers())?;
        let mut options = query.options()?;
        if asked.verb == Verb::Watch && !target.name.is_empty() {
            options.field_selector = Some(format!("metadata.name={}", target.name));
        }
        if row.custom.is_some() {
            takes_body(asked.verb, request.headers())?;
            if accepted.format == Format::Protobuf && accepted.shape == Shape::Plain {
                return Err(no_protobuf());
            }
        }
        let strict = options.field_validation.as_deref() == Some("Strict");
        let socket = (asked.verb == Verb::Watch).then(|| websocket::take(&mut request)).flatten();
        let (parts, body) = request.into_parts();
        let Read { body, warnings, document } = self.body(asked.verb, &kind, strict, &parts.headers, body).await?;
        if options.field_manager.is_none() && !matches!(body, RequestBody::Patch(PatchType::Apply, _)) {
            options.field_manager = manager(&parts.headers);
        }
        if let Some(trail) = &mut course.trail {
            trail.request(&body);
        }
        let timeout = options.timeout_seconds;
        let request = ApiRequest { who: user, verb: asked.verb, target: target.clone(), options, body };
        let ignored = request.options.field_validation.as_deref() == Some("Ignore");
        let mut answered = match self.catalog.is_own(row) {
            true => self.reviewer().answer(request).await?,
            false => {
                let carried = course.carry_out(&*self.backend, request).await;
                carried.map_err(|status| document.arranged(status))?
            }
        };
        document.arrange(&mut answered.warnings);
        if !ignored {
            answered.warnings.extend(warnings);
        }
        if let Some(trail) = &mut course.trail {
            trail.response(&answered.payload);
        }
        match answered.payload {
            Payload::Watch(events) => {
                let spread = self.watches.fetch_add(7919, Ordering::Relaxed);
                let events = watch::respond(
                    events,
                    Arc::clone(row),
                    wanted,
                    Arc::clone(&self.lines),
                    timeout,
                    spread,
                    self.shutdown.clone().cancelled_owned(),
                );
                Ok(match socket {
                    Some(socket) => socket.watch(events),
                    None => events,
                })
            }
            Payload::Stored(_) | Payload::Value(_) | Payload::List { .. } => Ok(answer(answered, row, &wanted)),
        }
    }

    async fn connect(
        &self,
        user: &User,
        connection: Connection,
        asked: &ResourceAsked,
        query: &Query,
        mut request: Request<Incoming>,
    ) -> Result<Response<Body>, Status> {
        let read = *request.method() == Method::GET;
        let socket = (connection == Connection::Log).then(|| websocket::take(&mut request)).flatten();
        if connection == Connection::Log && !read || connection.upgrades() && *request.method() == Method::HEAD {
            return Err(method_not_allowed());
        }
        if connection.upgrades() && read {
            // A WebSocket is opened by GET, but running a command is no reading: upstream asks for both since 1.35.
            let attributes = Attributes::request(user, Verb::Connect, &asked.target, Selectors::default());
            self.authorizer.check(&attributes).await?;
        }
        if let Some(options) = connection.options(query, &asked.rest) {
            let (who, target) = (user.clone(), asked.target.clone());
            let options =
                ApiRequest { who, verb: Verb::Connect, target, options: Default::default(), body: options.into() };
            self.backend.carry_out(options).await?;
        }
        let raw_query = request.uri().query().unwrap_or_default().to_owned();
        let raw_path = request.uri().path().to_owned();
        let slash = raw_path.ends_with('/');
        let passed = Passed { connection, asked, query, raw_query: &raw_query, raw_path: &raw_path, slash };
        let answer = self.proxy.pass(passed, request).await?;
        match socket {
            Some(socket) => socket.log(answer),
            None => Ok(answer),
        }
    }
}

/// A refusal carries the warning that every answer about a deprecated resource does.
fn refused(row: &Resource, status: Status) -> Result<Response<Body>, Status> {
    let Some(why) = row.deprecation() else { return Err(status) };
    let mut response = respond::status(&status);
    respond::warn(response.headers_mut(), &[why]);
    Ok(response)
}

/// Whether a request may do without a namespace: it is about all of them.
fn lists(asked: &ResourceAsked) -> bool {
    asked.target.namespace.is_empty() && matches!(asked.verb, Verb::List | Verb::Watch)
}

/// Whether the row takes the request as it is; gives the kind that a body should be.
fn check(row: &Resource, asked: &ResourceAsked) -> Result<String, Status> {
    let target = &asked.target;
    let named = !target.name.is_empty();
    if row.namespaced && target.namespace.is_empty() {
        // Without a namespace there are only all of them.
        return match asked.verb {
            Verb::List | Verb::Watch if row.verbs.contains(&asked.verb) => Ok(row.kind.to_string()),
            _ if named => Err(not_found()),
            _ => Err(method_not_allowed()),
        };
    }
    if (!row.namespaced && !target.namespace.is_empty()) || !asked.rest.is_empty() {
        return Err(not_found());
    }
    let (verbs, kind) = match target.subresource.as_str() {
        "" => (row.verbs, row.kind.to_string()),
        name => {
            let missing = || match row.custom {
                Some(_) => Status::not_found(&row.id, &target.name),
                None => not_found(),
            };
            let sub = row.subresources.iter().find(|sub| sub.name == name).ok_or_else(missing)?;
            (sub.verbs, if sub.kind.is_empty() { row.kind.to_string() } else { sub.kind.to_owned() })
        }
    };
    let creates_named = asked.verb == Verb::Create && named && target.subresource.is_empty();
    let changes_many = matches!(asked.verb, Verb::Update | Verb::Patch) && !named;
    if !verbs.contains(&asked.verb) || creates_named || changes_many {
        return Err(method_not_allowed());
    }
    Ok(kind)
}

/// Custom resources have neither a Go type, which a strategic merge patch needs, nor a protobuf form.
fn takes_body(verb: Verb, headers: &HeaderMap) -> Result<(), Status> {
    let media = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok());
    let types = match (verb, body_type(media, verb == Verb::Patch)) {
        (Verb::Patch, Ok(BodyType::Patch(PatchType::Strategic, _))) => {
            "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"
        }
        (Verb::Create | Verb::Update, Ok(BodyType::Object(Format::Protobuf))) => "application/json, application/yaml",
        _ => return Ok(()),
    };
    let message = format!("the body of the request was in an unknown format - accepted media types include: {types}");
    Err(Status::new(Reason::UnsupportedMediaType, message))
}

fn no_protobuf() -> Status {
    let message = "only the following media types are accepted: application/json, application/yaml";
    Status::new(Reason::NotAcceptable, message)
}

/// Bytes of a manager's name.
const LONGEST_MANAGER: usize = 128;

/// Who is noted as the manager of fields where the client does not say: the first word of its user agent.
fn manager(headers: &HeaderMap) -> Option<String> {
    let agent = headers.get(USER_AGENT)?.to_str().ok()?;
    let name = agent.split('/').next().unwrap_or_default();
    let mut manager = String::new();
    for c in name.chars().filter(|c| !c.is_control()) {
        if manager.len() + c.len_utf8() > LONGEST_MANAGER {
            break;
        }
        manager.push(c);
    }
    (!manager.is_empty()).then_some(manager)
}
