//! What the gates find out about a request on its way, for those who come after: headers of the answer, and what is held until it is written.

use std::time::Instant;

use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Response};
use hyper::body::Body as _;

use crate::flow::{Class, Refused, Registered, Seat};
use crate::http::held::{held, until};
use crate::http::respond::{self, Body};

const SCHEMA: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const LEVEL: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");
/// An answer of so many bytes is written at once.
const SMALL: u64 = 64 * 1024;

#[derive(Default)]
pub(super) struct Course {
    pub(super) class: Option<Class>,
    /// Leave to go on.
    pub(super) seat: Option<Seat>,
    /// Its place among those who watch: then the seat is held while the watch begins only.
    pub(super) watching: Option<Registered>,
    /// When the answer must be written.
    pub(super) end: Option<Instant>,
}

impl Course {
    /// The answer with what is known of its way.
    pub(super) fn finish(self, mut response: Response<Body>) -> Response<Body> {
        let headers = response.headers_mut();
        if let Some(class) = &self.class {
            add(headers, SCHEMA, &class.schema_uid);
            add(headers, LEVEL, &class.level_uid);
        }
        if let Some(watching) = self.watching {
            return response
                .map(|body| held(body, Some(Box::new(watching)), self.seat.map(|seat| Box::new(seat) as _)));
        }
        match (self.seat, self.end) {
            (Some(seat), Some(end)) if response.body().size_hint().exact().is_none_or(|size| size > SMALL) => {
                let kept = until(seat, end);
                response.map(|body| held(body, Some(Box::new(kept)), None))
            }
            _ => response,
        }
    }
}

fn add(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// There is no place: come again later.
pub(super) fn refused(why: &Refused) -> Response<Body> {
    let mut response = respond::text(429, "Too many requests, please try again later.\n");
    response.headers_mut().insert(http::header::RETRY_AFTER, HeaderValue::from(why.retry_after));
    response
}
