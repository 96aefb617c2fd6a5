//! Replacing and patching: of an object, or of its status.

use std::sync::Arc;

use kedge_api::{Answer, Body, Object, Options, PatchType, Reason, Request, Status};
use serde_json::Value;

use super::incoming::{self, Incoming, Strictness};
use super::write::{self, ATTEMPTS, How, Written};
use super::{answer, create, get, options};
use crate::admission::Writer;
use crate::apply::{self, Author};
use crate::errors::Errors;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};
use crate::{Registry, metadata, patch as patching};

/// A write on its way: who makes it, and of what.
struct Editor<'a> {
    registry: &'a Registry,
    row: &'a Arc<Row>,
    request: &'a Request,
    how: How,
    writer: Writer<'a>,
}

/// What is there, and what is to be there instead.
struct Edit {
    object: Arc<Object>,
    old: Value,
    new: Value,
    warnings: Vec<String>,
}

impl<'a> Editor<'a> {
    fn new(registry: &'a Registry, row: &'a Arc<Row>, request: &'a Request, dry_run: bool) -> Self {
        Self { registry, row, request, how: how(request), writer: Writer::of(request, dry_run) }
    }

    /// Makes the object that is not there yet, if its writer may. Without an author it is noted already who made what.
    async fn make(self, mut incoming: Incoming, author: Option<&Author<'_>>) -> Result<Answer, Status> {
        self.registry.guard(self.request, &incoming.value, None)?;
        incoming.borrow(self.row);
        if let Some(author) = author {
            author.track(None, &mut incoming.value)?;
        }
        create::store(self.registry, self.row, incoming, self.writer, false).await
    }

    /// Puts the new object in the place of the old one, if its writer may. `None`: someone else wrote in between.
    async fn put(&mut self, edit: Edit, author: Option<&Author<'_>>) -> Result<Option<Answer>, Status> {
        let (registry, row, how) = (self.registry, self.row, self.how);
        let Edit { object, old, mut new, mut warnings } = edit;
        registry.guard(self.request, &new, Some(&old))?;
        if let Some(author) = author {
            author.track(Some(&old), &mut new)?;
        }
        // What the kind warns of: not of what only its status's writer sends along.
        match how {
            How::Main => warnings.extend((row.strategy.warnings)(&new, Some(&old))),
            How::Status => warnings.extend((row.strategy.status_warnings)(&new)),
            _ => {}
        }
        let written = write::replace(registry, row, &object, &old, new, how, &mut self.writer).await?;
        let Some(written) = written else { return Ok(None) };
        warnings.append(&mut self.writer.warnings);
        Ok(Some(answer(200, warnings, written.payload(row).await?)))
    }
}

pub(crate) async fn update(registry: &Registry, row: &Arc<Row>, mut request: Request) -> Result<Answer, Status> {
    let dry_run = options::write(&request.options, "UpdateOptions")?;
    let incoming = incoming::object(row, &mut request)?;
    check_name(&incoming.value, &request.target.name)?;
    let wanted = wanted_version(&incoming.value)?;
    let author = Author::of(registry, row, &request);
    let mut editor = Editor::new(registry, row, &request, dry_run);
    for _ in 0..ATTEMPTS {
        let object = match get::find(registry, row, &request.target) {
            Ok(object) => object,
            Err(missing)
                if missing.is(Reason::NotFound) && row.strategy.create_on_update && editor.how == How::Main =>
            {
                return editor.make(named(incoming, &request), Some(&author)).await;
            }
            Err(missing) => return Err(missing),
        };
        check_version(row, &object, wanted)?;
        write::check_uid(row, &object, incoming.value.text("metadata.uid"))?;
        let old = get::decode(row, &object).await?;
        if wanted.is_none() && !row.strategy.unconditional_update {
            write::version_required(row, &request.target.name)?;
        }
        let edit = Edit { object, old, new: incoming.value.clone(), warnings: incoming.warnings.clone() };
        if let Some(answer) = editor.put(edit, Some(&author)).await? {
            return Ok(answer);
        }
    }
    Err(write::modified(row, &request.target.name))
}

fn named(mut incoming: Incoming, request: &Request) -> Incoming {
    incoming.value.set("metadata.name", request.target.name.as_str());
    incoming
}

pub(crate) fn how(request: &Request) -> How {
    if ["status", "approval"].contains(&request.target.subresource.as_str()) { How::Status } else { How::Main }
}

fn check_name(value: &Value, name: &str) -> Result<(), Status> {
    match value.text("metadata.name") {
        "" => Err(Status::bad_request("name must be provided")),
        same if same == name => Ok(()),
        other => Err(Status::bad_request(format!(
            "the name of the object ({other}) does not match the name on the URL ({name})"
        ))),
    }
}

/// The version that a body wants to replace.
pub(crate) fn wanted_version(value: &Value) -> Result<Option<u64>, Status> {
    match value.text("metadata.resourceVersion") {
        "" | "0" => Ok(None),
        text => {
            let invalid =
                |_| Status::new(Reason::Unknown, format!("strconv.ParseUint: parsing {text:?}: invalid syntax"));
            text.parse().map(Some).map_err(invalid)
        }
    }
}

pub(crate) fn check_version(row: &Row, object: &Object, wanted: Option<u64>) -> Result<(), Status> {
    match wanted {
        Some(version) if version != object.revision.0 => Err(write::modified(row, &object.key.name)),
        _ => Ok(()),
    }
}

pub(crate) async fn patch(registry: &Registry, row: &Arc<Row>, mut request: Request) -> Result<Answer, Status> {
    let dry_run = options::change(&request)?;
    let Body::Patch(kind, patch) = std::mem::take(&mut request.body) else {
        return Err(Status::bad_request("a patch must have a body"));
    };
    if kind == PatchType::Apply {
        return apply(registry, row, &request, &patch, dry_run).await;
    }
    let author = Author::of(registry, row, &request);
    let mut editor = Editor::new(registry, row, &request, dry_run);
    for _ in 0..ATTEMPTS {
        let object = get::find(registry, row, &request.target)?;
        let shown = get::alias(row, object.clone()).await?;
        let current: Value = shown.decode()?;
        let patched = patching::patch(kind, &row.resource, &current, &patch)?;
        let Incoming { value: mut new, warnings, .. } = accept(row, patched, &patch, &[], &request.options)?;
        check_patched(row, &new, &object)?;
        check_version(row, &object, wanted_version(&new)?)?;
        incoming::store_form(row, &mut new);
        (row.strategy.default)(&mut new);
        let old = stored(row, &object, current).await?;
        if let Some(answer) = editor.put(Edit { object, old, new, warnings }, Some(&author)).await? {
            return Ok(answer);
        }
        // The patched object carries the version it was made from; it is made anew from the next one.
    }
    Err(write::modified(row, &request.target.name))
}

/// Server-side apply: what is applied is laid over what is there, or is all there is.
async fn apply(
    registry: &Registry,
    row: &Arc<Row>,
    request: &Request,
    config: &Value,
    dry_run: bool,
) -> Result<Answer, Status> {
    let force = request.options.force.unwrap_or(false);
    let name = &request.target.name;
    for _ in 0..ATTEMPTS {
        let author = Author::of(registry, row, request);
        let mut editor = Editor::new(registry, row, request, dry_run);
        let object = get::find(registry, row, &request.target);
        let live: Option<Value> = match &object {
            Ok(object) => Some(get::alias(row, object.clone()).await?.decode()?),
            Err(missing) if missing.is(Reason::NotFound) && editor.how == How::Main => None,
            Err(missing) => return Err(missing.clone()),
        };
        let applied = author.apply(live.as_ref(), config, force)?;
        let Incoming { value: mut new, .. } = incoming::conform_to(row, applied, Vec::new(), Strictness::Ignore)
            .map_err(|status| unconverted(config, row, &status))?;
        let Ok(object) = object else {
            let uid = new.text("metadata.uid");
            if !uid.is_empty() {
                let why =
                    format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
                return Err(Status::conflict(&row.resource.id, name, &why));
            }
            incoming::place(row, &mut new, &request.target.namespace)?;
            check_patched_name(&new, name)?;
            incoming::store_form(row, &mut new);
            (row.strategy.default)(&mut new);
            match editor.make(Incoming { value: new, warnings: Vec::new(), borrows: false }, None).await {
                Err(status) if status.is(Reason::AlreadyExists) && !dry_run => continue,
                answered => return answered,
            }
        };
        check_patched(row, &new, &object)?;
        check_version(row, &object, wanted_version(&new)?)?;
        incoming::store_form(row, &mut new);
        (row.strategy.default)(&mut new);
        let old = stored(row, &object, live.unwrap_or_default()).await?;
        if let Some(answer) = editor.put(Edit { object, old, new, warnings: Vec::new() }, None).await? {
            return Ok(answer);
        }
    }
    Err(write::modified(row, name))
}

/// The stored form of what was shown, which most often is the same.
async fn stored(row: &Row, object: &Object, shown: Value) -> Result<Value, Status> {
    if row.stored_as.is_none() { Ok(shown) } else { get::decode(row, object).await }
}

/// What fits the schema, but not the type: a quantity that is none, a time.
fn unconverted(config: &Value, row: &Row, status: &Status) -> Status {
    let handled = format!("cannot be handled as a {}: ", row.resource.kind);
    let why = status.message.split_once(&handled).map_or(&*status.message, |(_, why)| why);
    let (what, gvk) = (apply::named(config), apply::gvk(config));
    let message = format!(
        "failed to convert new object ({what}) to proper version: unable to convert unstructured object to {gvk}: {why}"
    );
    Status::new(Reason::Unknown, message)
}

/// A patched object is checked as a body is, but refused in other words.
pub(crate) fn accept(
    row: &Row,
    patched: Value,
    patch: &Value,
    duplicates: &[String],
    options: &Options,
) -> Result<Incoming, Status> {
    let strictness = Strictness::of(options);
    let warn = if strictness == Strictness::Strict { Strictness::Warn } else { strictness };
    let incoming = incoming::conform_to(row, patched, duplicates.to_vec(), warn)
        .map_err(|status| patching::refused(patch, &status.message))?;
    if strictness == Strictness::Strict && !incoming.warnings.is_empty() {
        let why = format!("strict decoding error: {}", incoming.warnings.join(", "));
        return Err(patching::refused(patch, &why));
    }
    Ok(incoming)
}

fn check_patched_name(new: &Value, name: &str) -> Result<(), Status> {
    match new.text("metadata.name") {
        "" => {
            let why = format!("the name of the object ({name} based on URL) was undeterminable: name must be provided");
            Err(Status::bad_request(why))
        }
        same if same == name => Ok(()),
        other => Err(Status::bad_request(format!(
            "the name of the object ({other}) does not match the name on the URL ({name})"
        ))),
    }
}

/// A patch cannot make another object of it.
fn check_patched(row: &Row, new: &Value, object: &Object) -> Result<(), Status> {
    let name = &*object.key.name;
    check_patched_name(new, name)?;
    if new.text("metadata.namespace") != &*object.key.namespace {
        let why = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Status::bad_request(why));
    }
    let mut errors = Errors::default();
    let uid = new.text("metadata.uid");
    if uid != object.uid() {
        metadata::immutable("uid", uid, &row.strategy, &mut errors);
    }
    let deleted = new.text("metadata.deletionTimestamp");
    if !deleted.is_empty() && !object.is_deleting() {
        metadata::immutable("deletionTimestamp", deleted, &row.strategy, &mut errors);
    }
    errors.of(&row.resource, name)
}

/// Applies `change` to the stored object until no one interferes: what subresources do.
pub(crate) async fn modify(
    registry: &Registry,
    row: &Row,
    how: How,
    writer: &mut Writer<'_>,
    change: impl Fn(&Object, &mut Value) -> Result<(), Status>,
) -> Result<Written, Status> {
    for _ in 0..ATTEMPTS {
        let object = get::find(registry, row, writer.target)?;
        let old = get::decode(row, &object).await?;
        let mut new = old.clone();
        change(&object, &mut new)?;
        if let Some(written) = write::replace(registry, row, &object, &old, new, how, writer).await? {
            return Ok(written);
        }
    }
    Err(write::modified(row, &writer.target.name))
}
