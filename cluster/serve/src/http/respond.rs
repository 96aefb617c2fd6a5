//! Answers as hyper wants them, and the headers that all of them carry.

use std::convert::Infallible;

use bytes::Bytes;
use futures::Stream;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, WARNING};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body as _, Frame};
use kedge_api::{Reason, Status};
use serde_json::Value;

use crate::wire::media::{Accepted, Format};
use crate::wire::protobuf;

/// A body that is written as it comes. An error breaks the connection off, so that the client sees it is not whole.
pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;

pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

pub fn stream(frames: impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static) -> Body {
    use futures::StreamExt;
    StreamBody::new(frames.map(|bytes| bytes.map(Frame::data))).boxed_unsync()
}

pub const TEXT: &str = "text/plain; charset=utf-8";
pub const JSON: &str = "application/json";

/// The answer to a HEAD: what a GET would tell, without its body, which HTTP/2 has no place for (RFC 9110, 9.3.2).
pub fn bodiless(response: Response<Body>) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact() {
        head.headers.entry(CONTENT_LENGTH).or_insert_with(|| length.into());
    }
    Response::from_parts(head, full(Bytes::new()))
}

pub fn respond(code: u16, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

pub fn text(code: u16, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = respond(code, TEXT, full(body));
    response.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

pub fn page_not_found() -> Response<Body> {
    text(404, "404 page not found\n")
}

/// A value in the form that was accepted; as JSON where it has no protobuf form.
pub fn value(code: u16, value: &Value, accepted: Accepted, pretty: bool) -> Response<Body> {
    if accepted.format == Format::Protobuf
        && let Some(bytes) = protobuf::encode(value)
    {
        return respond(code, protobuf::MEDIA_TYPE, full(bytes));
    }
    let format = if accepted.format == Format::Yaml { Format::Yaml } else { Format::Json };
    match write(value, format, pretty) {
        Ok(bytes) => respond(code, format.media_type(), full(bytes)),
        Err(error) => status(&error),
    }
}

pub fn json(value: &Value) -> Response<Body> {
    self::value(200, value, Accepted::JSON, false)
}

pub fn write(value: &Value, format: Format, pretty: bool) -> Result<Bytes, Status> {
    let wrong = |e: &dyn std::fmt::Display| Status::internal(format!("encoding an answer: {e}"));
    match (format, pretty) {
        (Format::Yaml, _) => serde_yaml::to_string(value).map(Bytes::from).map_err(|e| wrong(&e)),
        (Format::Json | Format::Protobuf, true) => {
            serde_json::to_vec_pretty(value).map(Bytes::from).map_err(|e| wrong(&e))
        }
        (Format::Json | Format::Protobuf, false) => serde_json::to_vec(value).map(Bytes::from).map_err(|e| wrong(&e)),
    }
}

/// A failure as its `Status` object, with `Retry-After` where the client should come again.
pub fn status(status: &Status) -> Response<Body> {
    status_in(Accepted::JSON, false, status)
}

/// The same in the form that the client takes.
pub fn status_in(accepted: Accepted, pretty: bool, status: &Status) -> Response<Body> {
    let mut response = value(status.reason.code(), &status.to_value(), accepted, pretty);
    let after = status.details.as_ref().and_then(|d| d.retry_after_seconds);
    if let Some(seconds) = after.or((status.reason == Reason::TooManyRequests).then_some(1)) {
        response.headers_mut().insert("retry-after", HeaderValue::from(seconds));
    }
    response
}

pub fn not_found() -> Status {
    bare(Reason::NotFound, "the server could not find the requested resource")
}

pub fn method_not_allowed() -> Status {
    bare(Reason::MethodNotAllowed, "the server does not allow this method on the requested resource")
}

/// A status about no object in particular, which upstream writes with empty details.
fn bare(reason: Reason, message: &str) -> Status {
    Status { details: Some(Box::default()), ..Status::new(reason, message) }
}

/// Adds `Warning: 299 - "…"` headers (RFC 9110 took them out; Kubernetes' clients read them).
pub fn warn(headers: &mut HeaderMap, warnings: &[String]) {
    for warning in warnings {
        let clean: String = warning.chars().filter(|c| !c.is_control()).collect();
        let escaped = clean.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{escaped}\"")) {
            headers.append(WARNING, value);
        }
    }
}
