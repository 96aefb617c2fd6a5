//! What the gates find out about a request on its way, for those who come after: headers of the answer, and what is held until it is written.

use std::time::Instant;

use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Response};
use hyper::body::Body as _;
use kedge_api::{Answer, Request, Status};
use kedge_registry::noting;

use crate::audit::{Arrived, Completes, Stage, Trail};
use crate::authz::Refusal;
use crate::backend::Backend;
use crate::flow::{Class, Refused, Registered, Seat};
use crate::http::held::{Kept, held, until};
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
    /// For the audit log: what came, as long as nobody has asked what is to be noted of it.
    pub(super) arrived: Option<Arrived>,
    pub(super) trail: Option<Trail>,
    /// How the trail ends.
    pub(super) ends: Ends,
}

/// Which stages of a request follow its being received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Ends {
    /// The answer is complete.
    #[default]
    Complete,
    /// It begins, then it is complete.
    Lasting,
    /// It begins: nobody knows who asked, who has shown so much.
    Unknown(String),
    Panicked,
}

impl Course {
    /// The answer with what is known of its way.
    pub(super) fn finish(mut self, mut response: Response<Body>, failure: Option<&Status>) -> Response<Body> {
        let completes = self.end_trail(response.status().as_u16(), failure);
        let headers = response.headers_mut();
        if let Some(class) = &self.class {
            add(headers, SCHEMA, &class.schema_uid);
            add(headers, LEVEL, &class.level_uid);
        }
        let large = response.body().size_hint().exact().is_none_or(|size| size > SMALL);
        let (to_the_end, to_quiet): (Option<Kept>, Option<Kept>) = match (self.watching, self.seat, self.end) {
            (Some(watching), Some(seat), _) => (Some(Box::new((watching, completes))), Some(Box::new(seat))),
            (None, Some(seat), Some(end)) if large => (Some(Box::new((until(seat, end), completes))), None),
            (watching, _, _) if watching.is_some() || completes.is_some() => {
                (Some(Box::new((watching, completes))), None)
            }
            _ => return response,
        };
        response.map(|body| held(body, to_the_end, to_quiet))
    }

    /// Why the authorizer lets the request pass, or not.
    pub(super) fn decided(&mut self, decision: &Result<String, Refusal>) {
        let Some(trail) = &mut self.trail else { return };
        let (word, why) = match decision {
            Ok(why) => ("allow", why),
            Err(refusal) => ("forbid", &refusal.why),
        };
        trail.annotate("authorization.k8s.io/decision", word);
        trail.annotate("authorization.k8s.io/reason", why.as_str());
    }

    /// Lets the backend do it; what admission has to say goes into the trail.
    pub(super) async fn carry_out(&mut self, backend: &dyn Backend, request: Request) -> Result<Answer, Status> {
        let Some(trail) = &mut self.trail else { return backend.carry_out(request).await };
        let (answer, notes) = noting(backend.carry_out(request)).await;
        notes.into_iter().for_each(|(key, value)| trail.annotate(key, value));
        answer
    }

    /// A request of this process's own has its answer.
    pub(super) fn own(mut self, answer: &Result<Answer, Status>) {
        if let (Some(trail), Ok(answer)) = (&mut self.trail, answer) {
            trail.response(&answer.payload);
        }
        let code = answer.as_ref().map_or_else(|failure| failure.reason.code(), |answer| answer.code);
        drop(self.end_trail(code, answer.as_ref().err()));
    }

    fn end_trail(&mut self, code: u16, failure: Option<&Status>) -> Option<Completes> {
        let mut trail = self.trail.take()?;
        trail.status(code, failure);
        match std::mem::take(&mut self.ends) {
            Ends::Complete => return Some(Completes(trail)),
            Ends::Lasting => {
                trail.stage(Stage::ResponseStarted);
                return Some(Completes(trail));
            }
            Ends::Unknown(shown) => {
                trail.status_message(&shown);
                trail.stage(Stage::ResponseStarted);
            }
            Ends::Panicked => trail.stage(Stage::Panic),
        }
        None
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
