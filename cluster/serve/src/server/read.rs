//! A request's body: bounded in size, time and sum, then decoded as its type says.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderMap};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use kedge_api::status::{Cause, Details};
use kedge_api::{Body, PatchType, Reason, Status, Verb};
use serde_json::{Map, Value};
use tokio::sync::SemaphorePermit;

use super::front::Front;
use crate::wire::body::{Decoded, decode, excerpt, unrecognized};
use crate::wire::media::{BodyType, Format, body_type};
use crate::wire::order::Document;

/// Upstream's limit.
const MAX_BODY: usize = 3 * 1024 * 1024;
const READ: Duration = Duration::from_secs(60);
/// For others to give back what they hold of the memory for bodies. Bodies that wait for each other end so, too.
const ROOM: Duration = Duration::from_secs(5);

/// A body that was read.
#[derive(Default)]
pub(super) struct Read {
    pub(super) body: Body,
    /// What to warn of in it.
    pub(super) warnings: Vec<String>,
    /// What tells the order of what is found wrong later.
    pub(super) document: Document,
}

impl Front {
    /// Reads the body that `verb` takes; `kind` is what it should be.
    pub(super) async fn body(
        &self,
        verb: Verb,
        kind: &str,
        strict: bool,
        headers: &HeaderMap,
        body: Incoming,
    ) -> Result<Read, Status> {
        match verb {
            Verb::Get | Verb::List | Verb::Watch | Verb::Connect => return Ok(Read::default()),
            Verb::Create | Verb::Update | Verb::Patch | Verb::Delete | Verb::DeleteCollection => {}
        }
        let patch = verb == Verb::Patch;
        let content_type = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok());
        let empty = body.is_end_stream();
        let media = match verb {
            // A DELETE without options may say anything of the body it does not have.
            Verb::Delete | Verb::DeleteCollection if empty => return Ok(Read::default()),
            _ => body_type(content_type, patch)?,
        };
        let read = tokio::time::timeout(READ, self.collect(body)).await;
        let (bytes, _held) = read.map_err(|_| {
            Status::new(Reason::Timeout, format!("the body did not come within {} s", READ.as_secs()))
        })??;
        match (media, verb) {
            (BodyType::Patch(kind, format), _) => {
                let (body, warnings) = patch_body(&bytes, kind, format, strict)?;
                Ok(Read { body, warnings, ..Read::default() })
            }
            (BodyType::Object(format), Verb::Delete | Verb::DeleteCollection) => {
                Ok(Read { body: delete_options(&bytes, format)?, ..Read::default() })
            }
            (BodyType::Object(format), _) => {
                let document = if format == Format::Json { Document::new(&bytes) } else { Document::default() };
                Ok(Read { body: object(&bytes, format, kind, strict)?, document, ..Read::default() })
            }
        }
    }
}

impl Front {
    /// The whole body, and what it holds of the memory for all: as much as has come, so that whoever promises much and sends it slowly
    /// takes nothing from others.
    async fn collect(&self, mut body: Incoming) -> Result<(Bytes, Option<SemaphorePermit<'_>>), Status> {
        let long =
            || Status::new(Reason::RequestEntityTooLarge, format!("Request entity too large: limit is {MAX_BODY}"));
        if body.size_hint().lower() > MAX_BODY as u64 {
            return Err(long());
        }
        let (mut bytes, mut held) = (BytesMut::new(), None::<SemaphorePermit<'_>>);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Status::bad_request(format!("the body broke off: {error}")))?;
            let Ok(data) = frame.into_data() else { continue };
            if bytes.len() + data.len() > MAX_BODY {
                return Err(long());
            }
            let size = u32::try_from(data.len()).unwrap_or(u32::MAX);
            let more = tokio::time::timeout(ROOM, self.body_bytes.acquire_many(size)).await;
            let more = more
                .map_err(|_| Status::new(Reason::TooManyRequests, "Too many requests, please try again later."))?
                .map_err(|_| Status::internal("the server is stopping"))?;
            match &mut held {
                Some(held) => held.merge(more),
                None => held = Some(more),
            }
            bytes.extend_from_slice(&data);
        }
        Ok((bytes.freeze(), held))
    }
}

fn object(bytes: &Bytes, format: Format, kind: &str, strict: bool) -> Result<Body, Status> {
    let decoded = decode(bytes, format, strict).map_err(|why| unrecognized(kind, &why, bytes, format))?;
    let value = match decoded.value {
        Value::Object(map) => match unnamed(&map) {
            Some(why) => return Err(unrecognized(kind, &why, bytes, format)),
            None => Value::Object(map),
        },
        Value::Null => Value::Object(Map::new()),
        other => {
            return Err(unrecognized(kind, &kindless(&other), bytes, format));
        }
    };
    Ok(Body::Object { value, duplicates: decoded.duplicates })
}

/// What has no fields can have no kind.
fn kindless(value: &Value) -> String {
    let name = kind_of(value);
    format!(
        "json: cannot unmarshal {name} into Go value of type struct {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \
         \"json:\\\"kind,omitempty\\\"\" }}"
    )
}

fn delete_options(bytes: &Bytes, format: Format) -> Result<Body, Status> {
    if bytes.is_empty() {
        return Ok(Body::None);
    }
    let prefix = if format == Format::Json { "couldn't get version/kind; json parse error: " } else { "" };
    let value = decode(bytes, format, false).map_err(|why| Status::bad_request(format!("{prefix}{why}")))?.value;
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    match &value {
        Value::Object(_) => {}
        Value::Null => return Ok(Body::None),
        other => return Err(Status::bad_request(format!("{prefix}{}", kindless(other)))),
    }
    if !matches!(text("kind"), "" | "DeleteOptions") {
        let (kind, version) = (text("kind"), text("apiVersion"));
        return Err(Status::bad_request(format!(
            "no kind {kind:?} is registered for version {version:?} in scheme \
             \"k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme/register.go:27\""
        )));
    }
    Ok(value.into())
}

/// Why what an object says that it is cannot be read.
fn unnamed(object: &Map<String, Value>) -> Option<String> {
    let odd = |name: &&str| object.get(*name).is_some_and(|value| !value.is_string() && !value.is_null());
    let name = ["apiVersion", "kind"].into_iter().find(odd)?;
    let found = kind_of(object.get(name)?);
    Some(format!("json: cannot unmarshal {found} into Go struct field .{name} of type string"))
}

fn patch_body(bytes: &Bytes, kind: PatchType, format: Format, strict: bool) -> Result<(Body, Vec<String>), Status> {
    let wrong = |why: String| {
        Status::bad_request(match kind {
            PatchType::Json | PatchType::Merge => format!("error decoding patch: {why}"),
            PatchType::Strategic => why,
            PatchType::Apply => format!("error decoding YAML: {why}"),
        })
    };
    let applies = kind == PatchType::Apply;
    let unread = |why: String| if applies { format!("error converting YAML to JSON: {why}") } else { why };
    let decoded = decode(bytes, format, applies && strict).map_err(|why| wrong(unread(why)))?;
    let Decoded { mut value, duplicates } = decoded;
    if kind == PatchType::Json {
        if value.is_null() {
            value = Value::Array(Vec::new());
        }
        operations(&value).map_err(wrong)?;
    }
    let fits = match kind {
        PatchType::Json => value.is_array(),
        // `null` is for the registry: it means something else to each of them.
        PatchType::Merge | PatchType::Strategic | PatchType::Apply => value.is_object() || value.is_null(),
    };
    if !fits {
        let into = if kind == PatchType::Json { "[]handlers.jsonPatchOp" } else { "map[string]interface {}" };
        let why = format!("json: cannot unmarshal {} into Go value of type {into}", kind_of(&value));
        return Err(wrong(if applies { format!("error unmarshaling JSON: while decoding JSON: {why}") } else { why }));
    }
    let warnings = match kind {
        PatchType::Json => json_patch_oddities(&value, duplicates),
        PatchType::Merge | PatchType::Strategic | PatchType::Apply => duplicates,
    };
    if strict && applies && !warnings.is_empty() {
        return Err(Status::bad_request(format!("error strict decoding YAML: {}", unread(warnings.join(", ")))));
    }
    if strict && !warnings.is_empty() {
        return Err(strict_patch(bytes, &warnings));
    }
    Ok((Body::Patch(kind, value), warnings))
}

/// Whether what a JSON patch lists are operations: what they do is for the registry to find out.
fn operations(patch: &Value) -> Result<(), String> {
    for operation in patch.as_array().into_iter().flatten() {
        let Value::Object(members) = operation else {
            if operation.is_null() {
                continue;
            }
            let found = kind_of(operation);
            return Err(format!("json: cannot unmarshal {found} into Go value of type handlers.jsonPatchOp"));
        };
        let odd = |(name, value): &(&String, &Value)| {
            matches!(name.as_str(), "op" | "path" | "from") && !value.is_string() && !value.is_null()
        };
        if let Some((name, value)) = members.iter().find(odd) {
            let found = kind_of(value);
            return Err(format!(
                "json: cannot unmarshal {found} into Go struct field jsonPatchOp.{name} of type string"
            ));
        }
    }
    Ok(())
}

/// Members of operations that mean nothing, and such as stand twice.
fn json_patch_oddities(patch: &Value, duplicates: Vec<String>) -> Vec<String> {
    let operations = patch.as_array().map(Vec::as_slice).unwrap_or_default();
    let unknown = operations.iter().enumerate().flat_map(|(at, operation)| {
        let names = operation.as_object().into_iter().flat_map(|o| o.keys());
        let names = names.filter(|name| !matches!(name.as_str(), "op" | "path" | "from" | "value"));
        names.map(move |name| format!("json patch unknown field \"[{at}].{name}\""))
    });
    unknown.chain(duplicates.into_iter().map(|text| format!("json patch {text}"))).collect()
}

fn strict_patch(bytes: &Bytes, wrong: &[String]) -> Status {
    let message = format!("Invalid value: {:?}: strict decoding error: {}", excerpt(bytes), wrong.join(", "));
    let cause = Cause { reason: "FieldValueInvalid".to_owned(), message: message.clone(), field: "patch".to_owned() };
    let details = Details { causes: vec![cause], ..Details::default() };
    let text = format!(" \"\" is invalid: patch: {message}");
    Status { details: Some(Box::new(details)), ..Status::new(Reason::Invalid, text) }
}

/// Go's name for what a value is.
fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
