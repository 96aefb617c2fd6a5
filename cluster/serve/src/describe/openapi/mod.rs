//! OpenAPI: version 3 as one document a group-version, version 2 as one for all.
//!
//! Written type by type as the client reads, from `kedge_api::schema` and the catalog: no document is ever held as a value.
//!
//! ```text
//! rows ─▶ paths (names, parameters) ─▶ names of types ─▶ closure ─▶ types (texts) ─▶ components
//!                                                     custom ─────────▲
//! ```

mod custom;
mod names;
pub mod others;
mod parameters;
mod paths;
mod plain;
mod protobuf;
pub(in crate::describe) mod texts;
mod types;

use std::sync::Arc;

use bytes::Bytes;
use kedge_api::{Resource, schema};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use self::others::Spec;
use self::plain::Plain;
use self::protobuf::Writer;
use self::texts::Texts;
use super::discovery;
use super::version::GIT_VERSION;
use crate::wire::media::Format;

/// Which OpenAPI a document is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edition {
    V2,
    V3,
}

impl Edition {
    const fn schema_prefix(self) -> &'static str {
        match self {
            Self::V2 => "#/definitions/",
            Self::V3 => "#/components/schemas/",
        }
    }
}

/// The documents of `/openapi/v3`, named as its index names them: `api/v1`, `apis/apps/v1`, `version`.
fn document_names(rows: &[Arc<Resource>]) -> Vec<String> {
    let mut names: Vec<String> = plain::alone().map(str::to_owned).collect();
    for group in discovery::groups(rows) {
        let prefix = if group.is_empty() { "api".to_owned() } else { format!("apis/{group}") };
        // Definitions bring along versions, not groups.
        if !group.is_empty() && rows.iter().any(|row| row.id.group.as_str() == group && row.custom.is_none()) {
            names.push(prefix.clone());
        }
        names.extend(discovery::versions(rows, group).into_iter().map(|version| format!("{prefix}/{version}")));
    }
    names.sort_unstable();
    names
}

/// `/openapi/v3`
pub fn index(rows: &[Arc<Resource>]) -> Value {
    let entry = |name: String| {
        let url = format!("/openapi/v3/{name}?hash={}", hash(&rows_of(rows, &name)));
        (name, json!({"serverRelativeURL": url}))
    };
    let paths: serde_json::Map<String, Value> = document_names(rows).into_iter().map(entry).collect();
    json!({"paths": paths})
}

/// The rows that a document is about; none for those about plain paths.
fn rows_of(rows: &[Arc<Resource>], name: &str) -> Vec<Arc<Resource>> {
    let of = |row: &&Arc<Resource>| match row.id.group.as_str() {
        "" => name.strip_prefix("api/") == Some(&row.version),
        group => name.strip_prefix("apis/").and_then(|rest| rest.split_once('/')) == Some((group, &row.version)),
    };
    rows.iter().filter(of).cloned().collect()
}

/// Changes when a document may have: the program's version and what the rows say.
fn hash(rows: &[Arc<Resource>]) -> String {
    let mut digest = Sha256::new();
    digest.update(GIT_VERSION);
    for row in rows {
        digest.update(format!("\n{} {} {} {:?}", row.id, row.version, row.schema, row.verbs));
        for sub in row.subresources {
            digest.update(format!(" {}", sub.name));
        }
        if let Some(custom) = &row.custom {
            digest.update(format!(" {} {} {}", row.kind, custom.list_kind, custom.schema));
        }
    }
    digits(&digest.finalize())
}

fn hex(text: &[u8]) -> String {
    digits(&Sha256::digest(text))
}

fn digits(digest: &[u8]) -> String {
    digest.iter().take(16).fold(String::new(), |text, byte| format!("{text}{byte:02X}"))
}

/// A document as parts to be joined.
pub type Parts = Box<dyn Iterator<Item = Bytes> + Send>;

/// One document of `/openapi/v3` and its hash; `None` if there is none of that name.
pub fn v3(rows: &[Arc<Resource>], name: &str, format: Format) -> Option<(String, Parts)> {
    if !document_names(rows).iter().any(|known| known == name) {
        return None;
    }
    let own = rows_of(rows, name);
    let tag = hash(&own);
    let custom = own.first().is_some_and(|row| row.custom.is_some());
    let plain = if custom { Vec::new() } else { vec![Plain::of(name)] };
    let info = match custom {
        true => json!({"title": "Kubernetes CRD Swagger", "version": "v0.1.0"}),
        false => json!({"title": "Kubernetes", "version": GIT_VERSION}),
    };
    let rest = json!({"openapi": "3.0.0", "info": info, "components": {"securitySchemes": {"BearerToken": bearer()}}});
    Some((tag, document(rest, plain, own, &[], Edition::V3, format)))
}

/// `/openapi/v2`, with what other servers describe.
pub fn v2(rows: &[Arc<Resource>], others: &[Arc<Spec>], format: Format) -> (String, Parts) {
    let custom = |name: &String| rows_of(rows, name).first().is_some_and(|row| row.custom.is_some());
    let plain = document_names(rows).iter().filter(|name| !custom(name)).map(|name| Plain::of(name)).collect();
    let rest = json!({"swagger": "2.0", "info": {"title": "Kubernetes", "version": GIT_VERSION},
        "security": [{"BearerToken": []}], "securityDefinitions": {"BearerToken": bearer()}});
    let tags = others.iter().fold(hash(rows), |tags, spec| format!("{tags}{}", spec.tag));
    let tag = if others.is_empty() { tags } else { hex(tags.as_bytes()) };
    (tag, document(rest, plain, rows.to_vec(), others, Edition::V2, format))
}

fn bearer() -> Value {
    json!({"type": "apiKey", "name": "authorization", "in": "header", "description": "Bearer Token authentication"})
}

type Entry = (String, Value);

/// `rest` is what there is besides paths and schemas.
fn document(
    rest: Value,
    plain: Vec<Plain>,
    rows: Vec<Arc<Resource>>,
    others: &[Arc<Spec>],
    edition: Edition,
    format: Format,
) -> Parts {
    let texts = Texts::unpack();
    let closure = types::closure(&rows, &plain);
    let custom: Vec<Entry> = rows.iter().flat_map(|row| custom::schemas(row, edition, &texts)).collect();
    let mut joined = others::join(others, |name| {
        let of_type = || closure.iter().find(|t| t.name() == name).map(|t| types::schema(*t, edition, &texts));
        custom.iter().find(|(known, _)| known == name).map(|(_, schema)| schema.clone()).or_else(of_type)
    });
    let (more_paths, more) = (std::mem::take(&mut joined.paths), std::mem::take(&mut joined.definitions));
    let plain = plain.into_iter().map(move |plain| plain.entry(edition));
    let paths = plain.chain(rows.into_iter().flat_map(move |row| paths::of(&row, edition))).chain(more_paths);
    let schema = move |t: schema::Type| (t.name().to_owned(), types::schema(t, edition, &texts));
    let schemas = closure.into_iter().map(schema).chain(custom).map(move |entry| joined.with_kinds(entry)).chain(more);
    match format {
        Format::Protobuf => messages(rest, paths, schemas, edition),
        Format::Json | Format::Yaml => objects(rest, paths, schemas),
    }
}

fn objects(
    mut rest: Value,
    paths: impl Iterator<Item = Entry> + Send + 'static,
    schemas: impl Iterator<Item = Entry> + Send + 'static,
) -> Parts {
    // Without the brace behind: more follows.
    let open = |object: &Value| object.to_string().strip_suffix('}').unwrap_or_default().to_owned();
    let (between, end) = match rest.as_object_mut().and_then(|rest| rest.remove("components")) {
        Some(components) => (format!("}},\"components\":{},\"schemas\":{{", open(&components)), "}}}"),
        None => ("},\"definitions\":{".to_owned(), "}}"),
    };
    let text = |text: String| std::iter::once(Bytes::from(text));
    let head = text(format!("{},\"paths\":{{", open(&rest)));
    Box::new(head.chain(members(paths)).chain(text(between)).chain(members(schemas)).chain(text(end.to_owned())))
}

/// Each a message of its own: together they are one.
fn messages(
    rest: Value,
    paths: impl Iterator<Item = Entry> + Send + 'static,
    schemas: impl Iterator<Item = Entry> + Send + 'static,
    edition: Edition,
) -> Parts {
    let paths = paths.map(|(name, value)| json!({"paths": {name: value}}));
    let schemas = schemas.map(move |(name, value)| match edition {
        Edition::V2 => json!({"definitions": {name: value}}),
        Edition::V3 => json!({"components": {"schemas": {name: value}}}),
    });
    let writer = Writer::new(edition);
    Box::new(std::iter::once(rest).chain(paths).chain(schemas).map(move |part| writer.part(&part)))
}

/// Members of an object, one buffer each.
fn members(entries: impl Iterator<Item = Entry> + Send) -> impl Iterator<Item = Bytes> + Send {
    let mut separator = "";
    entries.map(move |(name, value)| {
        let text = format!("{separator}{}:{value}", Value::from(name));
        separator = ",";
        text.into()
    })
}

#[cfg(test)]
mod tests;
