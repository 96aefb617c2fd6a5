//! Reading one object.

use std::sync::Arc;
use std::time::Duration;

use kedge_api::request::Payload;
use kedge_api::status::{Cause, Details};
use kedge_api::{Answer, Key, Object, Reason, Request, Revision, Status, Target};
use serde_json::Value;

use super::answer;
use crate::Registry;
use crate::table::Row;

/// How long a reader waits for a revision that is not there yet.
const PATIENCE: Duration = Duration::from_secs(3);

pub(crate) async fn get(registry: &Registry, row: &Arc<Row>, request: &Request) -> Result<Answer, Status> {
    if let Some(revision) = parse_version(request.options.resource_version.as_deref())? {
        reach(registry, revision).await?;
    }
    let object = find(registry, row, &request.target)?;
    Ok(answer(200, Vec::new(), show(row, object).await?))
}

pub(crate) fn key(row: &Row, target: &Target) -> Key {
    Key::new(row.storage(), &target.namespace, &target.name)
}

pub(crate) fn find(registry: &Registry, row: &Row, target: &Target) -> Result<Arc<Object>, Status> {
    let key = key(row, target);
    let found = registry.cache.snapshot().get(&key).cloned();
    found.ok_or_else(|| match registry.cache.unreadable(&key) {
        Some(why) => unreadable(&why),
        None => Status::not_found(&row.resource.id, &target.name),
    })
}

/// What is there, but encrypted in a way that this server cannot read.
pub(crate) fn unreadable(why: &str) -> Status {
    Status::internal(format!("Internal error occurred: {why}"))
}

/// The object as this row shows it.
pub(crate) async fn show(row: &Row, object: Arc<Object>) -> Result<Payload, Status> {
    alias(row, object).await.map(Payload::Stored)
}

/// The object as the row's rules see it: in the stored form, but for custom resources in that of the row's version.
pub(crate) async fn decode(row: &Row, object: &Object) -> Result<Value, Status> {
    let mut value = object.decode()?;
    if let Some(custom) = &row.custom {
        custom.show(&row.resource, &mut value).await?;
    }
    Ok(value)
}

/// The object in this row's form: the very same one, but for rows that are another face of a resource.
pub(crate) async fn alias(row: &Row, object: Arc<Object>) -> Result<Arc<Object>, Status> {
    if let Some(custom) = &row.custom {
        return custom.shown(&row.resource, object).await;
    }
    of_face(row, object)
}

/// The object as another face of its resource shows it, if the row is one.
fn of_face(row: &Row, object: Arc<Object>) -> Result<Arc<Object>, Status> {
    let Some(face) = row.stored_as else { return Ok(object) };
    let mut value: Value = object.decode()?;
    (face.show)(&mut value);
    let json = serde_json::to_vec(&value).map_err(|e| Status::internal(format!("encoding {}: {e}", object.key)))?;
    let Object { key, revision, meta, .. } = &*object;
    Ok(Arc::new(Object { key: key.clone(), revision: *revision, meta: meta.clone(), json: json.into() }))
}

/// The same for many.
pub(crate) async fn alias_all(row: &Row, objects: Vec<Arc<Object>>) -> Result<Vec<Arc<Object>>, Status> {
    match &row.custom {
        Some(custom) => custom.shown_all(&row.resource, objects).await,
        None if row.stored_as.is_none() => Ok(objects),
        None => objects.into_iter().map(|object| of_face(row, object)).collect(),
    }
}

/// A resourceVersion of a query; none and `0` ask for nothing in particular.
pub(crate) fn parse_version(text: Option<&str>) -> Result<Option<Revision>, Status> {
    match text {
        None | Some("" | "0") => Ok(None),
        Some(text) => text.parse().map(|n| Some(Revision(n))).map_err(|_| {
            let what = format!(
                "resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
            );
            Status::new(Reason::Unknown, what)
        }),
    }
}

/// Waits a moment for the cache to show `revision`.
pub(crate) async fn reach(registry: &Registry, revision: Revision) -> Result<(), Status> {
    match tokio::time::timeout(PATIENCE, registry.cache.reach(revision)).await {
        Ok(reached) => reached.map_err(|e| Status::internal(e.to_string())),
        Err(_) => {
            let now = registry.cache.snapshot().revision;
            let message = format!("Timeout: Too large resource version: {revision}, current: {now}");
            let cause = Cause {
                reason: "ResourceVersionTooLarge".into(),
                message: "Too large resource version".into(),
                field: String::new(),
            };
            let details = Details { causes: vec![cause], retry_after_seconds: Some(1), ..Details::default() };
            Err(Status { details: Some(Box::new(details)), ..Status::new(Reason::Timeout, message) })
        }
    }
}
