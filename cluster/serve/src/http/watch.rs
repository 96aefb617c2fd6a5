//! A watch as a stream of JSON lines, each flushed when it is there; ends at its timeout, or when the client is gone.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{BoxStream, Stream, StreamExt};
use http::Response;
use kedge_api::request::WatchEvent;
use kedge_api::{Change, Object, Resource, Revision, Status};
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

/// The lines of a watch. `spread` (0–1799) keeps clients that came together from coming back together.
pub fn respond(
    events: BoxStream<'static, Result<WatchEvent, Status>>,
    row: Arc<Resource>,
    wanted: Wanted,
    shared: Arc<Lines>,
    timeout: Option<u64>,
    spread: u64,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Response<Body> {
    let timeout = timeout.filter(|&t| t > 0).unwrap_or(MIN_SECONDS + spread % MIN_SECONDS);
    let end = Box::pin(async move {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(timeout)) => {}
            () = shutdown => {}
        }
    });
    let form = match wanted.accepted.format {
        Format::Protobuf => PROTOBUF,
        Format::Json | Format::Yaml => respond::JSON,
    };
    let mut response = respond::respond(200, form, respond::stream(lines(events, row, wanted, shared).take_until(end)));
    // Nothing between us and the client may hold lines back.
    response.headers_mut().insert("x-accel-buffering", http::HeaderValue::from_static("no"));
    response
}

fn lines(
    events: BoxStream<'static, Result<WatchEvent, Status>>,
    row: Arc<Resource>,
    wanted: Wanted,
    shared: Arc<Lines>,
) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send {
    let mut first = true;
    let mut failed = false;
    events
        .take_while(move |event| {
            let go_on = !failed;
            failed = event.is_err();
            std::future::ready(go_on)
        })
        .map(move |event| {
            let line = event.and_then(|event| {
                let first = std::mem::take(&mut first);
                shared.of(event, &row, &wanted, first, |event| line(event, &row, &wanted, first))
            });
            Ok(line.unwrap_or_else(|error| written("ERROR", &error.to_value(), wanted.accepted)))
        })
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
        WatchEvent::Object(Change { before, after, revision, .. }) => match (before, after) {
            (None, Some(object)) => ("ADDED", object, None),
            (Some(_), Some(object)) => ("MODIFIED", object, None),
            (Some(object), None) => ("DELETED", object, Some(*revision)),
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
