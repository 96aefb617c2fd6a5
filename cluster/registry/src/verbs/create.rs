//! Making a new object.

use std::sync::Arc;

use kedge_api::request::Payload;
use kedge_api::{Answer, Key, Request, Status};
use kedge_store::{Error as StoreError, Expect, Write};
use serde_json::Value;

use super::incoming::{self, Incoming};
use super::{answer, get, options, store_failed, write};
use crate::admission::{self, Operation, Writer};
use crate::apply::Author;
use crate::errors::Errors;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};
use crate::{Registry, allocation, metadata, names, rules};

/// Tries to find a free name for `generateName`.
const ATTEMPTS: usize = 8;

pub(crate) async fn create(registry: &Registry, row: &Arc<Row>, mut request: Request) -> Result<Answer, Status> {
    if row.resource.namespaced && request.target.namespace.is_empty() {
        return Err(crate::no_method());
    }
    if row.custom.as_ref().is_some_and(|custom| custom.terminating) {
        let why = "create not allowed while custom resource definition is terminating";
        return Err(Status::about(kedge_api::Reason::MethodNotAllowed, &row.resource.id, "", why.to_owned()));
    }
    let dry_run = options::write(&request.options, "CreateOptions")?;
    let mut incoming = incoming::object(row, &mut request)?;
    registry.guard(&request, &incoming.value, None)?;
    incoming.borrow(row);
    Author::of(registry, row, &request).track(None, &mut incoming.value)?;
    (row.strategy.stamp)(&request.who, &mut incoming.value);
    let versioned = !matches!(incoming.value.text("metadata.resourceVersion"), "" | "0");
    store(registry, row, incoming, Writer::of(&request, dry_run), versioned).await
}

/// From a defaulted object on: admission, preparation, validation, the write. What is `versioned` is stored somewhere already.
pub(crate) async fn store(
    registry: &Registry,
    row: &Arc<Row>,
    incoming: Incoming,
    mut writer: Writer<'_>,
    versioned: bool,
) -> Result<Answer, Status> {
    let Incoming { value: mut object, mut warnings, borrows } = incoming;
    let strategy = &row.strategy;
    let generated = object.text("metadata.name").is_empty();
    let now = (registry.options.now)();

    warnings.extend(metadata::duplicate_owners(&object));
    admission::mutate(registry, row, &mut writer, &mut object, None).await?;
    warnings.append(&mut writer.warnings);
    metadata::prepare_create(&mut object, strategy, now);
    if strategy.status && !strategy.keeps_status_on_create {
        object.cut("status");
    }
    let lent = strategy.borrows.filter(|(to, from)| borrows && object.look(to) == object.look(from));
    (strategy.prepare_create)(&mut object);
    if let Some((to, from)) = lent {
        let whole = object.look(from).clone();
        object.set(to, whole);
    }
    let _allocation = allocation::allocate(registry, row, &mut object, None, writer.dry_run)?;
    let mut errors = Errors::default();
    metadata::validate(&object, &row.resource, strategy, &mut errors);
    let snapshot = registry.cache.snapshot();
    (strategy.validate_within)(&snapshot, &object, &mut errors);
    (strategy.validate)(&object, &mut errors);
    (strategy.validate_create)(&object, &mut errors);
    if let Some(custom) = &row.custom {
        custom.validate(&object, None, &mut errors);
        rules::check(registry.options.rules.as_deref(), &row.resource, &object, None, &mut errors);
    }
    row.refuse(errors, object.text("metadata.name"))?;
    warnings.extend((strategy.warnings)(&object, None));
    admission::validate(registry, row, &mut writer, Operation::Create, &object, None).await?;
    warnings.append(&mut writer.warnings);
    if writer.dry_run {
        let taken = registry.cache.snapshot().get(&key(row, &object)).is_some();
        if taken {
            return Err(Status::already_exists(&row.resource.id, object.text("metadata.name")));
        }
        if let Some(face) = row.stored_as {
            (face.show)(&mut object);
        }
        return Ok(answer(201, warnings, Payload::Value(object)));
    }
    if versioned {
        let why = "resourceVersion should not be set on objects to be created";
        return Err(Status::new(kedge_api::Reason::Unknown, why));
    }
    for _ in 0..ATTEMPTS {
        let key = key(row, &object);
        let draft = write::draft(key.clone(), &object, row).await?;
        match write::commit(registry, Expect::Absent, Write::Put(draft)).await {
            Ok(commit) => {
                let stored = commit.object.ok_or_else(|| Status::internal(format!("{key} was not stored")))?;
                return Ok(answer(201, warnings, get::show(row, stored).await?));
            }
            Err(StoreError::Conflict { .. }) if generated => {
                let name = names::generate(object.text("metadata.generateName"));
                object.set("metadata.name", name);
            }
            Err(StoreError::Conflict { .. }) => {
                return Err(exists(registry, row, &key));
            }
            Err(error) => return Err(store_failed(&error)),
        }
    }
    Err(Status::already_exists(&row.resource.id, object.text("metadata.name")))
}

/// Who comes while the old one is still going is told so.
fn exists(registry: &Registry, row: &Row, key: &Key) -> Status {
    let mut status = Status::already_exists(&row.resource.id, &key.name);
    if registry.cache.snapshot().get(key).is_some_and(|o| o.is_deleting()) {
        status.message = format!("object is being deleted: {}", status.message);
    }
    status
}

fn key(row: &Row, object: &Value) -> Key {
    Key::new(row.storage(), object.text("metadata.namespace"), object.text("metadata.name"))
}
