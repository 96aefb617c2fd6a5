//! The way of a finished object into the store, and of changes onto what is stored.

use std::borrow::Cow;
use std::sync::Arc;

use kedge_api::request::Payload;
use kedge_api::{Key, Object, Status};
use kedge_store::{Commit, Draft, Error as StoreError, Expect, Write};
use serde_json::Value;

use super::store_failed;
use crate::admission::{self, Operation, Writer};
use crate::errors::{Errors, Path};
use crate::table::Row;
use crate::value::{DEEPEST, Fill as _, Look as _, is_deeper};
use crate::{Registry, allocation, metadata, rules};

/// One object may not be larger than this; etcd's limit upstream.
const LARGEST: usize = 3 << 19;
/// Attempts to apply a change that does not depend on a certain version.
pub(crate) const ATTEMPTS: usize = 10;

/// Commits and waits until readers see it, or what stood in its way: who tries again begins with that.
pub(crate) async fn commit(registry: &Registry, expect: Expect, write: Write) -> Result<Commit, StoreError> {
    let commit = registry.store.commit(expect, write).await;
    let revision = match &commit {
        Ok(commit) => Some(commit.revision),
        Err(StoreError::Conflict { found, .. }) => *found,
        Err(_) => None,
    };
    if let Some(revision) = revision {
        // A cache that closes while the write is on its way no longer has readers; the write stands.
        let _closed = registry.cache.reach(revision).await;
    }
    commit
}

/// What is to be stored of an object in the row's form.
pub(crate) async fn draft(key: Key, value: &Value, row: &Row) -> Result<Draft, Status> {
    let mut kept = Cow::Borrowed(value);
    if let Some(custom) = &row.custom {
        custom.keep(kept.to_mut()).await?;
    }
    match encode(key.clone(), &kept, row) {
        // Who owns what may be forgotten, so that the object itself has room.
        Err(_) if kept.has("metadata.managedFields") => {
            kept.to_mut().cut("metadata.managedFields");
            encode(key, &kept, row)
        }
        encoded => encoded,
    }
}

fn encode(key: Key, value: &Value, row: &Row) -> Result<Draft, Status> {
    if is_deeper(value, DEEPEST) {
        return Err(Status::bad_request(format!("{} is nested deeper than {DEEPEST} levels", row.resource.id)));
    }
    let draft = Draft::encode(key, value).map_err(|e| Status::internal(e.to_string()))?;
    if draft.len() > LARGEST {
        let message = format!("etcdserver: request is too large: {} is {} bytes", row.resource.id, draft.len());
        return Err(Status::new(kedge_api::Reason::RequestEntityTooLarge, message));
    }
    Ok(draft)
}

/// How a change came about, and so which rules it passes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// The object itself; status stays as it is.
    Main,
    /// Its status; all else stays as it is.
    Status,
    /// A subresource that knows what it does: server-owned fields are kept, nothing else is touched or checked.
    Special,
}

/// What a change did.
pub(crate) enum Written {
    /// The version now stored.
    Stored(Arc<Object>),
    /// Nothing had changed.
    Same(Arc<Object>),
    /// The last finalizer went, and with it the object; this was its last version.
    Deleted(Arc<Object>),
    /// What a dry run would have written.
    Dry(Value),
}

impl Written {
    pub(crate) async fn payload(self, row: &Row) -> Result<Payload, Status> {
        match self {
            Self::Stored(object) | Self::Same(object) | Self::Deleted(object) => super::get::show(row, object).await,
            Self::Dry(mut value) => {
                if let Some(face) = row.stored_as {
                    (face.show)(&mut value);
                }
                Ok(Payload::Value(value))
            }
        }
    }
}

/// Puts `new` in the place of `old`: keeps what only the server sets, checks, counts the generation, commits. `None`: someone else wrote
/// in between.
pub(crate) async fn replace(
    registry: &Registry,
    row: &Row,
    old_object: &Object,
    old: &Value,
    mut new: Value,
    how: How,
    writer: &mut Writer<'_>,
) -> Result<Option<Written>, Status> {
    let strategy = &row.strategy;
    admission::mutate(registry, row, writer, &mut new, Some(old)).await?;
    metadata::prepare_update(&mut new, old, how == How::Special);
    let mut errors = Errors::default();
    let mut _allocation = None;
    match how {
        How::Main => {
            if strategy.status {
                keep(&mut new, old, "status");
            }
            (strategy.prepare_update)(&mut new, old);
            _allocation = allocation::allocate(registry, row, &mut new, Some(old), writer.dry_run)?;
            metadata::validate_update(&new, old, &row.resource, strategy, false, &mut errors);
            strategy.validate_change(&new, old, &mut errors);
            if let Some(custom) = &row.custom {
                custom.validate(&new, Some(old), &mut errors);
                rules::check(registry.options.rules.as_deref(), &row.resource, &new, Some(old), &mut errors);
            }
        }
        How::Status => {
            keep_all_but_status(&mut new, old);
            if row.custom.is_some() {
                keep_metadata(&mut new, old);
            }
            (strategy.prepare_status)(&mut new, old);
            metadata::validate_update(&new, old, &row.resource, strategy, true, &mut errors);
            (strategy.validate_status)(&new, old, &mut errors);
            if let Some(custom) = &row.custom {
                custom.validate(&new, Some(old), &mut errors);
            }
        }
        How::Special => {}
    }
    row.refuse(errors, new.text("metadata.name"))?;
    count_generation(&mut new, old, row, how);
    admission::validate(registry, row, writer, Operation::Update, &new, Some(old)).await?;
    let name = &old_object.key.name;
    if is_unchanged(&new, old) && is_kept(row, &mut new, old, old_object).await? {
        let unchanged = registry.cache.snapshot().get(&old_object.key).cloned();
        return Ok(unchanged.filter(|o| o.revision == old_object.revision).map(Written::Same));
    }
    if writer.dry_run {
        new.set("metadata.resourceVersion", old_object.revision.to_string());
        return Ok(Some(Written::Dry(new)));
    }
    let expect = Expect::Revision(old_object.revision);
    let draft = draft(old_object.key.clone(), &new, row).await?;
    if is_finished(&new, old, row) {
        // What watchers see as the last version is what was stored before, under the deletion's revision.
        return match commit(registry, expect, Write::Delete(old_object.key.clone())).await {
            Ok(deleted) => {
                let mut last = new;
                last.set("metadata.resourceVersion", deleted.revision.to_string());
                Ok(Some(Written::Deleted(Arc::new(loose(&old_object.key, deleted.revision, &last)?))))
            }
            Err(StoreError::Conflict { found: None, .. }) => Err(Status::not_found(&row.resource.id, name)),
            Err(StoreError::Conflict { .. }) => Ok(None),
            Err(error) => Err(store_failed(&error)),
        };
    }
    match commit(registry, expect, Write::Put(draft)).await {
        Ok(commit) => Ok(commit.object.map(Written::Stored)),
        Err(StoreError::Conflict { found: None, .. }) => Err(Status::not_found(&row.resource.id, name)),
        Err(StoreError::Conflict { .. }) => Ok(None),
        Err(error) => Err(store_failed(&error)),
    }
}

/// An object that is in no store.
pub(crate) fn loose(key: &Key, revision: kedge_api::Revision, value: &Value) -> Result<Object, Status> {
    let failed = |e: serde_json::Error| Status::internal(format!("encoding {key}: {e}"));
    let json = serde_json::to_vec(value).map_err(failed)?;
    kedge_store::decode(key.clone(), revision, json.into()).map_err(|e| Status::internal(e.to_string()))
}

fn keep(new: &mut Value, old: &Value, field: &str) {
    match old.get(field) {
        Some(value) => new.set(field, value.clone()),
        None => {
            new.cut(field);
        }
    }
}

/// Status and metadata may come through the status subresource; metadata's rules are checked as ever.
fn keep_all_but_status(new: &mut Value, old: &Value) {
    let names: Vec<String> =
        [&*new, old].into_iter().filter_map(Value::as_object).flat_map(|o| o.keys().cloned()).collect();
    for name in names.iter().filter(|n| !["metadata", "status"].contains(&n.as_str())) {
        keep(new, old, name);
    }
}

/// The status of a custom resource comes alone: of metadata only who wrote it is new.
fn keep_metadata(new: &mut Value, old: &Value) {
    let managed = new.cut("metadata.managedFields");
    new.set("metadata", old.look("metadata").clone());
    match managed {
        Some(managed) => new.set("metadata.managedFields", managed),
        None => {
            new.cut("metadata.managedFields");
        }
    }
}

fn count_generation(new: &mut Value, old: &Value, row: &Row, how: How) {
    if !row.strategy.generation || how != How::Main {
        return;
    }
    let status = row.custom.is_some() && !row.strategy.status;
    let relevant = |value: &Value| -> Vec<(String, Value)> {
        let fields = value.as_object().into_iter().flatten();
        let fields = fields.filter(|(name, _)| match name.as_str() {
            "metadata" | "apiVersion" | "kind" => false,
            "status" => status,
            _ => true,
        });
        fields.map(|(n, v)| (n.clone(), v.clone())).collect()
    };
    let annotated =
        row.strategy.counts_annotations && new.look("metadata.annotations") != old.look("metadata.annotations");
    let labelled = row.strategy.counts_labels && new.look("metadata.labels") != old.look("metadata.labels");
    if annotated || labelled || relevant(new) != relevant(old) {
        let generation = old.int("metadata.generation").unwrap_or(0) + 1;
        new.set("metadata.generation", generation);
    }
}

/// Nothing is new but the times of its managers' entries.
fn is_unchanged(new: &Value, old: &Value) -> bool {
    let same = |a: &Value, b: &Value, ignored: &[&str]| {
        let counted =
            |v: &Value| v.as_object().into_iter().flatten().filter(|(n, _)| !ignored.contains(&n.as_str())).count();
        let mut left = a.as_object().into_iter().flatten().filter(|(n, _)| !ignored.contains(&n.as_str()));
        counted(a) == counted(b) && left.all(|(name, value)| b.get(name) == Some(value))
    };
    same(new.look("metadata"), old.look("metadata"), &["resourceVersion", "managedFields"])
        && same(new, old, &["metadata"])
        && crate::apply::same_but_for_times(new, old)
}

/// The stored form is that of now: it has all defaults of a custom resource's schema, in the version that is stored now.
async fn is_kept(row: &Row, new: &mut Value, old: &Value, old_object: &Object) -> Result<bool, Status> {
    let Some(custom) = &row.custom else { return Ok(true) };
    match old.look("metadata").get("managedFields") {
        // Times of their own make no change.
        Some(managed) => new.set("metadata.managedFields", managed.clone()),
        None => {
            new.cut("metadata.managedFields");
        }
    }
    let mut kept = new.clone();
    custom.keep(&mut kept).await?;
    let mut stored: Value = old_object.decode()?;
    for value in [&mut kept, &mut stored] {
        value.cut("metadata.resourceVersion");
    }
    Ok(kept == stored)
}

/// Being deleted, with no finalizer left and no time to wait for.
fn is_finished(new: &Value, old: &Value, row: &Row) -> bool {
    old.has("metadata.deletionTimestamp")
        && new.items("metadata.finalizers").is_empty()
        && old.int("metadata.deletionGracePeriodSeconds").unwrap_or(0) == 0
        && !(row.strategy.held)(new)
}

/// `409` for a writer whose version is no longer the newest.
pub(crate) fn modified(row: &Row, name: &str) -> Status {
    let why = "the object has been modified; please apply your changes to the latest version and try again";
    Status::conflict(&row.resource.id, name, why)
}

/// The precondition that a body's uid is.
pub(crate) fn check_uid(row: &Row, object: &Object, uid: &str) -> Result<(), Status> {
    if uid.is_empty() || uid == object.uid() {
        return Ok(());
    }
    let Key { namespace, name, .. } = &object.key;
    let place = if namespace.is_empty() { name.to_string() } else { format!("{namespace}/{name}") };
    let why = format!(
        "StorageError: invalid object, Code: 4, Key: /registry/{}/{place}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: \
         UID in precondition: {uid}, UID in object meta: {}",
        row.resource.id.resource,
        object.uid()
    );
    Err(Status::conflict(&row.resource.id, name, &why))
}

/// The resourceVersion that a body must name where a kind demands one.
pub(crate) fn version_required(row: &Row, name: &str) -> Result<(), Status> {
    let mut errors = Errors::default();
    let path = Path::root("metadata");
    errors.invalid(&path.child("resourceVersion"), 0, "must be specified for an update");
    let plural = row.resource.id.to_string();
    // Upstream names the resource, not the kind, here.
    errors.into_result(row.resource.id.group.as_str(), row.resource.id.resource.as_str(), name).map_err(|mut status| {
        status.message =
            status.message.replacen(&format!("{}.{}", row.resource.id.resource, row.resource.id.group), &plural, 1);
        status
    })
}
