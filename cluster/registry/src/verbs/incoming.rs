//! A request's body on its way to being an object of its row.

use kedge_api::findings::Findings;
use kedge_api::{Body, Options, Request, Resource, Status, schema};
use serde_json::{Map, Value};

use crate::errors::{Errors, Path};
use crate::structure;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

/// What a body became.
pub(crate) struct Incoming {
    pub(crate) value: Value,
    pub(crate) warnings: Vec<String>,
    /// A part of it is another's until it is stored (`Strategy::borrows`).
    pub(crate) borrows: bool,
}

impl Incoming {
    /// Of an object that is new: the part that is empty is the other one from now on.
    pub(crate) fn borrow(&mut self, row: &Row) {
        if let Some((to, from)) = row.strategy.borrows
            && self.value.entries(to).count() == 0
            && self.value.look(from).is_object()
        {
            let lent = self.value.look(from).clone();
            self.value.set(to, lent);
            self.borrows = true;
        }
    }
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
    sift(value, duplicates, unknown, strictness, refused)
}

/// As `conform`, to the kind of a row.
pub(crate) fn conform_to(
    row: &Row,
    mut value: Value,
    duplicates: Vec<String>,
    strictness: Strictness,
) -> Result<Incoming, Status> {
    let Some(custom) = &row.custom else {
        return conform(value, duplicates, &Expected::of(&row.resource), strictness);
    };
    custom_kind(&row.resource, &value)?;
    let (kind, version) = (&row.resource.kind, &row.resource.version);
    let refused = |what: String| {
        Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {what}"))
    };
    let unknown = custom.conform(&mut value).map_err(refused)?;
    sift(value, duplicates, unknown, strictness, refused)
}

/// A custom resource says what it is itself; upstream has no type that could tell.
fn custom_kind(resource: &Resource, value: &Value) -> Result<(), Status> {
    let (found, kind) = (value.text("kind"), &resource.kind);
    if found.is_empty() {
        let text = value.to_string();
        let shown = text.get(..30).map_or_else(|| text.clone(), |head| format!("{head} ..."));
        let what = format!(
            "the object provided is unrecognized (must be of type {kind}): Object 'Kind' is missing in '{text}' ({shown})"
        );
        return Err(Status::bad_request(what));
    }
    let (version, expected) = (value.text("apiVersion"), resource.api_version());
    if version != expected {
        let what =
            format!("the API version in the data ({version}) does not match the expected API version ({expected})");
        return Err(Status::bad_request(what));
    }
    if found != *kind {
        let mut errors = Errors::default();
        errors.invalid(&Path::root("kind"), found, &format!("must be {kind}"));
        errors.into_result(resource.id.group.as_str(), found, value.text("metadata.name"))?;
    }
    Ok(())
}

/// What to do about unknown and duplicate fields.
fn sift(
    value: Value,
    duplicates: Vec<String>,
    unknown: Vec<String>,
    strictness: Strictness,
    refused: impl Fn(String) -> Status,
) -> Result<Incoming, Status> {
    let mut found = duplicates;
    found.extend(unknown.into_iter().map(|path| format!("unknown field {path:?}")));
    found.truncate(Findings::TOLD);
    match strictness {
        Strictness::Strict if !found.is_empty() => Err(refused(format!("strict decoding error: {}", found.join(", ")))),
        Strictness::Warn => Ok(Incoming { value, warnings: found, borrows: false }),
        Strictness::Strict | Strictness::Ignore => Ok(Incoming { value, warnings: Vec::new(), borrows: false }),
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
        let scheme = match expected.group {
            "apiextensions.k8s.io" => "k8s.io/apiextensions-apiserver/pkg/apiserver/apiserver.go:55",
            "apiregistration.k8s.io" => "k8s.io/kube-aggregator/pkg/apiserver/scheme/scheme.go:28",
            _ => "pkg/api/legacyscheme/scheme.go:30",
        };
        format!("no kind {said:?} is registered for version {registered:?} in scheme {scheme:?}")
    };
    Err(Status::bad_request(format!("{said} in version {said_version:?} cannot be handled as a {kind}: {why}")))
}

/// The body of a create or update of a row's own kind: conformed, in its stored form and defaulted.
pub(crate) fn object(row: &Row, request: &mut Request) -> Result<Incoming, Status> {
    let (value, duplicates) = body(request);
    let strictness = Strictness::of(&request.options);
    let mut incoming = conform_to(row, value, duplicates, strictness)?;
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
        // What has no namespace is in none, whatever it says.
        value.cut("metadata.namespace");
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
