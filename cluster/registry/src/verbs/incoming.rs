//! A request's body on its way to being an object of its row.

use kedge_api::{Body, Options, Request, Resource, Status, schema};
use serde_json::{Map, Value};

use crate::structure;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

/// What a body became.
pub(crate) struct Incoming {
    pub(crate) value: Value,
    pub(crate) warnings: Vec<String>,
}

/// What to do about fields that are unknown or given twice.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strictness {
    Ignore,
    Warn,
    Strict,
}

impl Strictness {
    pub(crate) fn of(options: &Options) -> Self {
        match options.field_validation.as_deref() {
            Some("Ignore") => Self::Ignore,
            Some("Strict") => Self::Strict,
            _ => Self::Warn,
        }
    }
}

/// Kind, group and version that a body must say, and the name of its schema.
#[derive(Clone, Copy)]
pub(crate) struct Expected<'a> {
    pub(crate) group: &'a str,
    pub(crate) version: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) schema: &'a str,
}

impl<'a> Expected<'a> {
    pub(crate) fn of(resource: &'a Resource) -> Self {
        Self {
            group: resource.id.group.as_str(),
            version: &resource.version,
            kind: &resource.kind,
            schema: &resource.schema,
        }
    }

    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }
}

/// Takes the body out of a request of a create or update.
pub(crate) fn body(request: &mut Request) -> (Value, Vec<String>) {
    match std::mem::take(&mut request.body) {
        Body::Object { value, duplicates } => (value, duplicates),
        Body::None | Body::Patch(..) => (Value::Object(Map::new()), Vec::new()),
    }
}

/// Checks kind and structure; fills in kind and version where they are absent.
pub(crate) fn conform(
    mut value: Value,
    duplicates: Vec<String>,
    expected: &Expected<'_>,
    strictness: Strictness,
) -> Result<Incoming, Status> {
    if value.is_null() {
        value = Value::Object(Map::new());
    }
    kind(&mut value, expected)?;
    let refused = |what: String| {
        let Expected { version, kind, .. } = expected;
        Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {what}"))
    };
    let t = schema::get(expected.schema).ok_or_else(|| Status::internal(format!("no schema {}", expected.schema)))?;
    let unknown = structure::conform(t, &mut value).map_err(refused)?;
    let mut found = duplicates;
    found.extend(unknown.into_iter().map(|path| format!("unknown field {path:?}")));
    match strictness {
        Strictness::Strict if !found.is_empty() => Err(refused(format!("strict decoding error: {}", found.join(", ")))),
        Strictness::Warn => Ok(Incoming { value, warnings: found }),
        Strictness::Strict | Strictness::Ignore => Ok(Incoming { value, warnings: Vec::new() }),
    }
}

fn kind(value: &mut Value, expected: &Expected<'_>) -> Result<(), Status> {
    let (found_version, found) = (value.text("apiVersion").to_owned(), value.text("kind").to_owned());
    let api_version = expected.api_version();
    let Expected { version, kind, .. } = expected;
    if (found_version.is_empty() || found_version == api_version) && (found.is_empty() || found == *kind) {
        value.set("apiVersion", api_version);
        value.set("kind", *kind);
        return Ok(());
    }
    let said_version = found_version.rsplit('/').next().filter(|v| !v.is_empty()).unwrap_or(version).to_owned();
    let said = if found.is_empty() { (*kind).to_owned() } else { found };
    let group = found_version.split_once('/').map_or("", |(group, _)| group);
    let known = schema::types().any(|t| t.kinds().any(|(g, v, k)| (g, v, k) == (group, &*said_version, &*said)));
    let why = if known {
        let package =
            if expected.group.is_empty() { "core" } else { expected.group.split('.').next().unwrap_or_default() };
        format!("converting (v1.{said}) to ({package}.{kind}): unknown conversion")
    } else {
        let registered = if found_version.is_empty() { &api_version } else { &found_version };
        format!(
            "no kind {said:?} is registered for version {registered:?} in scheme \"pkg/api/legacyscheme/scheme.go:30\""
        )
    };
    Err(Status::bad_request(format!("{said} in version {said_version:?} cannot be handled as a {kind}: {why}")))
}

/// The body of a create or update of a row's own kind: conformed, in its stored form and defaulted.
pub(crate) fn object(row: &Row, request: &mut Request) -> Result<Incoming, Status> {
    let (value, duplicates) = body(request);
    let strictness = Strictness::of(&request.options);
    let mut incoming = conform(value, duplicates, &Expected::of(&row.resource), strictness)?;
    if !incoming.value.look("metadata").is_object() {
        incoming.value.set("metadata", Map::new());
    }
    place(row, &mut incoming.value, &request.target.namespace)?;
    store_form(row, &mut incoming.value);
    (row.strategy.default)(&mut incoming.value);
    Ok(incoming)
}

pub(crate) fn store_form(row: &Row, value: &mut Value) {
    if let Some(face) = row.stored_as {
        (face.keep)(value);
    }
}

/// The namespace is the path's.
pub(crate) fn place(row: &Row, value: &mut Value, namespace: &str) -> Result<(), Status> {
    if !row.resource.namespaced {
        return Ok(());
    }
    match value.text("metadata.namespace") {
        "" => value.set("metadata.namespace", namespace),
        same if same == namespace => {}
        _ => {
            let why = "the namespace of the provided object does not match the namespace sent on the request";
            return Err(Status::bad_request(why));
        }
    }
    Ok(())
}
