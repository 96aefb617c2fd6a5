//! The registry's answer as an HTTP response: stored bytes as they are where the client wants just those, reshaped where not.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Response};
use kedge_api::request::Payload;
use kedge_api::{Answer, Object, Reason, Resource, Status};
use serde_json::{Value, json};

use super::respond::{self, Body};
use super::table::{self, Include, Style};
use super::{chunks, item};
use crate::wire::media::{Accepted, Format, Shape};
use crate::wire::query::Query;
use crate::wire::{protobuf, set};

/// How the client wants its answer.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    pub accepted: Accepted,
    pub pretty: bool,
    pub include: Include,
    pub gzip: bool,
}

/// Whether a person is to read the answer.
pub fn is_pretty(query: &Query, headers: &HeaderMap) -> bool {
    let agent = headers.get(http::header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    // People who use these read the answer themselves.
    let person = ["curl", "Wget", "Mozilla/5.0"].iter().any(|tool| agent.starts_with(tool));
    query.first("pretty").map_or(person, |_| query.flag("pretty"))
}

impl Wanted {
    pub fn new(accepted: Accepted, query: &Query, headers: &HeaderMap) -> Result<Self, Status> {
        let pretty = is_pretty(query, headers);
        Ok(Self { accepted, pretty, include: Include::of(query)?, gzip: chunks::takes_gzip(headers) })
    }

    fn style<'a>(&self, row: &'a Resource) -> Style<'a> {
        Style { row, include: self.include, meta_version: self.accepted.meta_version }
    }

    /// Whether stored bytes can be sent as they are.
    fn verbatim(&self) -> bool {
        self.accepted.shape == Shape::Plain && self.accepted.format == Format::Json && !self.pretty
    }
}

/// Everything but a watch, which [`super::watch`] answers.
pub fn answer(answer: Answer, row: &Arc<Resource>, wanted: &Wanted) -> Response<Body> {
    let Answer { code, warnings, payload } = answer;
    let mut response = match payload {
        Payload::Stored(object) if wanted.verbatim() => {
            respond::respond(code, respond::JSON, respond::full(object.json.clone()))
        }
        Payload::Stored(object) => reshaped(code, item::parse(&object), row, wanted),
        Payload::Value(value) => reshaped(code, Ok(value), row, wanted),
        Payload::List { api_version, kind, revision, r#continue, remaining, items } => {
            let mut metadata = json!({"resourceVersion": revision.to_string()});
            if row.custom.is_some() && wanted.accepted.shape == Shape::Plain {
                // Lists of custom resources always say it.
                set(&mut metadata, "continue", "");
            }
            if let Some(token) = r#continue {
                set(&mut metadata, "continue", token);
            }
            if let Some(remaining) = remaining {
                set(&mut metadata, "remainingItemCount", remaining);
            }
            list(code, List { api_version, kind, metadata, items }, row, wanted)
        }
        Payload::Watch(_) => respond::status(&Status::internal("a watch was answered where none was asked for")),
    };
    respond::warn(response.headers_mut(), &warnings);
    response
}

fn reshaped(code: u16, value: Result<Value, Status>, row: &Resource, wanted: &Wanted) -> Response<Body> {
    let value = match value {
        Ok(value) => value,
        Err(error) => return respond::status(&error),
    };
    let is_object = value.get("kind").and_then(Value::as_str) == Some(&*row.kind);
    let value = match wanted.accepted.shape {
        Shape::Table if is_object => {
            let style = wanted.style(row);
            let version = value.pointer("/metadata/resourceVersion").cloned().unwrap_or_default();
            style.table(json!({"resourceVersion": version}), vec![style.line(&value)])
        }
        Shape::Table if value.get("kind").and_then(Value::as_str) == Some("Scale") => {
            table::scale(&wanted.style(row), &value)
        }
        Shape::PartialObjectMetadataList if is_object => {
            return respond::status(&unlike("PartialObjectMetadataList", "is not a list", row, ""));
        }
        Shape::PartialObjectMetadata if is_object => item::partial(&value, wanted.accepted.meta_version),
        // A Status, a Scale, a TokenRequest stay what they are.
        Shape::Table
        | Shape::PartialObjectMetadata
        | Shape::PartialObjectMetadataList
        | Shape::Plain
        | Shape::Discovery => value,
    };
    respond::value(code, &value, wanted.accepted, wanted.pretty)
}

/// One object was asked for as many, or many as one; Go's type is told.
fn unlike(asked: &str, why: &str, row: &Resource, suffix: &str) -> Status {
    let package = row.id.group.as_str().split('.').next().filter(|group| !group.is_empty()).unwrap_or("core");
    let what = format!("you requested {asked}, but the requested object {why} (*{package}.{}{suffix})", row.kind);
    Status::new(Reason::NotAcceptable, what)
}

struct List {
    api_version: String,
    kind: String,
    metadata: Value,
    items: Vec<Arc<Object>>,
}

/// One item's bytes within a list.
type Write = Box<dyn Fn(&Object) -> Result<Vec<Bytes>, Status> + Send>;

fn list(code: u16, list: List, row: &Arc<Resource>, wanted: &Wanted) -> Response<Body> {
    if wanted.accepted.shape == Shape::PartialObjectMetadata {
        return respond::status(&unlike("PartialObjectMetadata", "is a list", row, "List"));
    }
    let meta = wanted.accepted.meta_version;
    let written = |value: Value| {
        serde_json::to_vec(&value).map(|b| vec![Bytes::from(b)]).map_err(|e| Status::internal(e.to_string()))
    };
    if wanted.accepted.shape == Shape::Table && list.items.is_empty() {
        let table = wanted.style(row).table(list.metadata, Vec::new());
        return respond::value(code, &table, wanted.accepted, wanted.pretty);
    }
    let (head, key, write): (Value, &str, Write) = match wanted.accepted.shape {
        Shape::Plain | Shape::Discovery => {
            let head = json!({"kind": list.kind, "apiVersion": list.api_version, "metadata": list.metadata});
            // Only built-in kinds leave out what the list has said already.
            let whole = row.custom.is_some();
            let write =
                move |object: &Object| Ok(if whole { vec![object.json.clone()] } else { item::untyped(&object.json) });
            (head, "items", Box::new(write))
        }
        Shape::Table => {
            let mut head = wanted.style(row).table(list.metadata, Vec::new());
            if let Some(head) = head.as_object_mut() {
                head.remove("rows");
            }
            let (row, wanted) = (Arc::clone(row), *wanted);
            (head, "rows", Box::new(move |object| written(wanted.style(&row).line(&item::parse(object)?))))
        }
        Shape::PartialObjectMetadata | Shape::PartialObjectMetadataList => {
            let head = json!({"kind": "PartialObjectMetadataList", "apiVersion": format!("meta.k8s.io/{meta}"), "metadata": list.metadata});
            (head, "items", Box::new(move |object| written(item::partial(&item::parse(object)?, meta))))
        }
    };
    if wanted.accepted.format == Format::Protobuf
        && wanted.accepted.shape == Shape::Plain
        && let Some(parts) = protobuf::list(&head, list.items.iter().map(|object| object.json.as_ref()))
    {
        return match parts {
            Ok(parts) => {
                let size = parts.iter().map(Bytes::len).sum();
                streamed(code, protobuf::MEDIA_TYPE, parts.into_iter(), size, wanted.gzip)
            }
            Err(error) => respond::status(&Status::internal(format!("decoding a stored object: {error}"))),
        };
    }
    let head = head.to_string();
    let head = head.strip_suffix('}').unwrap_or(&head);
    let first = Bytes::from(format!("{head},\"{key}\":["));
    let size = list.items.iter().map(|object| object.json.len()).sum::<usize>() + first.len();
    let mut separator = false;
    let items = list.items.into_iter().flat_map(move |object| {
        // An object that cannot be read is one we stored: leaving it out would be a silent loss.
        let mut parts = write(&object).unwrap_or_else(|error| {
            tracing::error!(%error, key = %object.key, "cannot encode a stored object; sending it whole");
            vec![object.json.clone()]
        });
        if std::mem::replace(&mut separator, true) {
            parts.insert(0, Bytes::from_static(b","));
        }
        parts
    });
    let parts = std::iter::once(first).chain(items).chain(std::iter::once(Bytes::from_static(b"]}")));
    if wanted.accepted.format == Format::Json && !wanted.pretty {
        return streamed(code, respond::JSON, parts, size, wanted.gzip);
    }
    // For people: whole, since neither YAML nor indented JSON can be joined from parts.
    let whole: Vec<u8> = parts.flatten().collect();
    match serde_json::from_slice::<Value>(&whole) {
        Ok(value) => respond::value(code, &value, wanted.accepted, wanted.pretty),
        Err(e) => respond::status(&Status::internal(format!("encoding a list: {e}"))),
    }
}

fn streamed(
    code: u16,
    media_type: &'static str,
    parts: impl Iterator<Item = Bytes> + Send + 'static,
    size: usize,
    gzip: bool,
) -> Response<Body> {
    let mut headers = HeaderMap::new();
    let body = chunks::body(parts, size, gzip, &mut headers);
    let mut response = respond::respond(code, media_type, body);
    response.headers_mut().extend(headers);
    response
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use http_body_util::BodyExt;
    use kedge_api::resource::{Column, known};
    use kedge_api::{Key, Revision, Verb};

    use super::*;
    use crate::wire::media::{Offer, negotiate};

    fn row() -> Arc<Resource> {
        Arc::new(Resource {
            id: known::CONFIG_MAPS,
            version: Cow::Borrowed("v1"),
            kind: Cow::Borrowed("ConfigMap"),
            singular: Cow::Borrowed("configmap"),
            short_names: Cow::Borrowed(&["cm"]),
            categories: Cow::Borrowed(&[]),
            namespaced: true,
            verbs: &[Verb::Get],
            subresources: &[],
            columns: &[Column {
                name: "Data",
                r#type: "string",
                format: "",
                priority: 0,
                cell: |o| o.get("data").and_then(Value::as_object).map_or(0, serde_json::Map::len).into(),
            }],
            selectable: &[],
            schema: Cow::Borrowed("io.k8s.api.core.v1.ConfigMap"),
            volatile: false,
            deprecated: None,
            stored_in: None,
            made_annotations: &[],
            custom: None,
        })
    }

    fn objects(count: usize) -> Vec<Arc<Object>> {
        (0..count)
            .map(|n| {
                let value = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"k": "v".repeat(n % 50)},
                    "metadata": {"name": format!("c{n}"), "namespace": "n", "resourceVersion": (n + 1).to_string()}});
                Arc::new(Object {
                    key: Key::new(known::CONFIG_MAPS, "n", &format!("c{n}")),
                    revision: Revision(n as u64 + 1),
                    meta: serde_json::from_value(value["metadata"].clone()).unwrap(),
                    json: value.to_string().into(),
                })
            })
            .collect()
    }

    async fn ask(payload: Payload, accept: &str, query: &str) -> (http::response::Parts, Vec<u8>) {
        let accepted = negotiate(Some(accept), Offer::Objects).unwrap();
        let wanted = Wanted::new(accepted, &Query::parse(query), &HeaderMap::new()).unwrap();
        let answer = Answer { code: 200, warnings: vec!["careful \"you\"".into()], payload };
        let (parts, body) = super::answer(answer, &row(), &wanted).into_parts();
        (parts, body.collect().await.unwrap().to_bytes().to_vec())
    }

    fn list_of(count: usize) -> Payload {
        Payload::List {
            api_version: "v1".into(),
            kind: "ConfigMapList".into(),
            revision: Revision(9),
            r#continue: Some("tok".into()),
            remaining: Some(4),
            items: objects(count),
        }
    }

    const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

    #[tokio::test]
    async fn lists_state_their_type_once() {
        for count in [0, 1, 2, 3000] {
            let (parts, body) = ask(list_of(count), "application/json", "").await;
            assert_eq!(parts.headers["warning"], "299 - \"careful \\\"you\\\"\"");
            let value: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(value["metadata"], json!({"resourceVersion": "9", "continue": "tok", "remainingItemCount": 4}));
            assert_eq!(value["items"].as_array().unwrap().len(), count);
            if count > 0 {
                assert_eq!(
                    value["items"][0],
                    json!({"data": {"k": ""}, "metadata": {"name": "c0", "namespace": "n", "resourceVersion": "1"}})
                );
            }
        }
    }

    #[tokio::test]
    async fn tables_and_partial_objects_follow_the_accept_header() {
        let (_, body) = ask(list_of(2), TABLE, "includeObject=None").await;
        let value: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(value["rows"], json!([{"cells": ["c0", 1], "object": null}, {"cells": ["c1", 1], "object": null}]));
        assert_eq!(value["columnDefinitions"][0]["name"], "Name");
        assert_eq!(value["columnDefinitions"][1]["name"], "Data");
        let (_, body) = ask(Payload::Stored(objects(1).remove(0)), TABLE, "").await;
        let value: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&value["kind"], &value["metadata"]["resourceVersion"]), (&json!("Table"), &json!("1")));
        assert_eq!(value["rows"][0]["object"]["kind"], "PartialObjectMetadata");
        let (_, body) = ask(Payload::Value(json!({"kind": "Status", "apiVersion": "v1"})), TABLE, "").await;
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["kind"], "Status");
        let (_, body) = ask(list_of(1), "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", "").await;
        let value: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&value["kind"], value["items"][0].get("data")), (&json!("PartialObjectMetadataList"), None));
    }

    #[tokio::test]
    async fn people_get_lines_and_yaml() {
        let (_, body) = ask(Payload::Stored(objects(1).remove(0)), "application/json", "pretty=true").await;
        assert!(String::from_utf8(body).unwrap().contains("\n  \"kind\""));
        let (parts, body) = ask(list_of(2), "application/yaml", "").await;
        assert_eq!(parts.headers["content-type"], "application/yaml");
        let value: Value = serde_yaml::from_slice(&body).unwrap();
        assert_eq!(value["items"][1]["metadata"]["name"], "c1");
    }
}
