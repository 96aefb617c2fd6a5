//! A watch as a stream of JSON lines, each flushed when it is there; ends at its timeout, or when the client is gone.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt as _};
use futures::stream::{BoxStream, FuturesUnordered, Stream, StreamExt as _};
use http::Response;
use kedge_api::request::WatchEvent;
use kedge_api::{Object, Resource, Revision, Status};
use serde_json::{Value, json};

use super::answer::Wanted;
use super::item;
use super::lines::Lines;
use super::respond::{self, Body};
use super::table::Style;
use crate::wire::media::{Accepted, Format, Shape};
use crate::wire::protobuf;
use crate::wire::set;

/// A stream of length-delimited messages.
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf;stream=watch";

/// How long a watch lasts whose client names no time: upstream's 30 minutes and up to as much again.
const MIN_SECONDS: u64 = 1800;
/// Lines between two looks at whether a stream that is never idle is to end.
const ENDS: u64 = 64;

/// The lines of a watch. `spread` (0–1799) keeps clients that came together from coming back together.
pub fn respond(
    events: BoxStream<'static, Result<WatchEvent, Status>>,
    row: Arc<Resource>,
    wanted: Wanted,
    shared: Arc<Lines>,
    timeout: Option<i64>,
    spread: u64,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Response<Body> {
    let asked = timeout.filter(|&seconds| seconds != 0).map(|seconds| u64::try_from(seconds).unwrap_or(0));
    let timeout = asked.unwrap_or(MIN_SECONDS + spread % MIN_SECONDS);
    let end = async move {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(timeout)) => {}
            () = shutdown => {}
        }
    };
    let form = match wanted.accepted.format {
        Format::Protobuf => PROTOBUF,
        Format::Json | Format::Yaml => respond::JSON,
    };
    let watch =
        Watch { events, end: FuturesUnordered::from_iter([end.boxed()]), row, wanted, shared, sent: 0, ended: false };
    let mut response = respond::respond(200, form, respond::stream(watch));
    // Nothing between us and the client may hold lines back.
    response.headers_mut().insert("x-accel-buffering", http::HeaderValue::from_static("no"));
    response
}

/// The lines, as they are asked for.
struct Watch {
    events: BoxStream<'static, Result<WatchEvent, Status>>,
    /// What ends it. Looked at only when it says so: a timer that is asked at each line costs more than the line.
    end: FuturesUnordered<BoxFuture<'static, ()>>,
    row: Arc<Resource>,
    wanted: Wanted,
    shared: Arc<Lines>,
    sent: u64,
    ended: bool,
}

impl Stream for Watch {
    type Item = Result<Bytes, std::io::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.ended {
            return Poll::Ready(None);
        }
        let next = this.events.poll_next_unpin(cx);
        // When nothing else is to be done, and now and then where that never is.
        if next.is_pending() || this.sent % ENDS == ENDS - 1 {
            this.ended = this.end.poll_next_unpin(cx).is_ready();
        }
        let event = match next {
            Poll::Ready(Some(event)) => event,
            Poll::Pending if !this.ended => return Poll::Pending,
            Poll::Ready(None) | Poll::Pending => {
                this.ended = true;
                return Poll::Ready(None);
            }
        };
        let first = this.sent == 0;
        this.sent += 1;
        let (row, wanted) = (&this.row, &this.wanted);
        let line =
            event.and_then(|event| this.shared.of(event, row, wanted, first, |event| line(event, row, wanted, first)));
        Poll::Ready(Some(Ok(line.unwrap_or_else(|error| {
            // An error is the last line.
            this.ended = true;
            written("ERROR", &error.to_value(), wanted.accepted)
        }))))
    }
}

fn line(event: WatchEvent, row: &Resource, wanted: &Wanted, first: bool) -> Result<Bytes, Status> {
    let (kind, object, deleted_at) = match &event {
        WatchEvent::Bookmark { revision, initial_end } => {
            let mut metadata = json!({"resourceVersion": revision.to_string()});
            if *initial_end {
                set(&mut metadata, "annotations", json!({"k8s.io/initial-events-end": "true"}));
            }
            let object = json!({"kind": row.kind, "apiVersion": row.api_version(), "metadata": metadata});
            return Ok(written("BOOKMARK", &shaped(object, row, wanted, first), wanted.accepted));
        }
        WatchEvent::Object(change) => match (&change.before, &change.after) {
            (None, Some(object)) => ("ADDED", object, None),
            (Some(_), Some(object)) => ("MODIFIED", object, None),
            (Some(object), None) => ("DELETED", object, Some(change.revision)),
            (None, None) => return Err(Status::internal("a change from nothing to nothing")),
        },
    };
    if wanted.accepted.shape == Shape::Plain && wanted.accepted.format == Format::Json && deleted_at.is_none() {
        return Ok(verbatim(kind, object));
    }
    let mut value = item::parse(object)?;
    if let Some(Revision(revision)) = deleted_at
        && let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut)
    {
        // So that a client that goes on from here does not see the deletion again.
        metadata.insert("resourceVersion".to_owned(), revision.to_string().into());
    }
    Ok(written(kind, &shaped(value, row, wanted, first), wanted.accepted))
}

fn shaped(object: Value, row: &Resource, wanted: &Wanted, first: bool) -> Value {
    let meta_version = wanted.accepted.meta_version;
    match wanted.accepted.shape {
        Shape::Plain | Shape::Discovery => object,
        Shape::PartialObjectMetadata | Shape::PartialObjectMetadataList => item::partial(&object, meta_version),
        Shape::Table => {
            let style = Style { row, include: wanted.include, meta_version };
            let version = object.pointer("/metadata/resourceVersion").cloned().unwrap_or_default();
            let mut table = style.table(json!({"resourceVersion": version}), vec![style.line(&object)]);
            if !first && let Some(table) = table.as_object_mut() {
                table.insert("columnDefinitions".to_owned(), Value::Null);
            }
            table
        }
    }
}

fn verbatim(kind: &str, object: &Object) -> Bytes {
    let mut line = Vec::with_capacity(object.json.len() + 32);
    line.extend_from_slice(b"{\"type\":\"");
    line.extend_from_slice(kind.as_bytes());
    line.extend_from_slice(b"\",\"object\":");
    line.extend_from_slice(&object.json);
    line.extend_from_slice(b"}\n");
    line.into()
}

fn written(kind: &str, object: &Value, accepted: Accepted) -> Bytes {
    match accepted.format {
        Format::Protobuf => protobuf::frame(kind, object).into(),
        Format::Json | Format::Yaml => format!("{}\n", json!({"type": kind, "object": object})).into(),
    }
}
