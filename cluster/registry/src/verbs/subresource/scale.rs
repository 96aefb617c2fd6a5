//! `scale`: how many replicas, in one form for every workload.

use std::sync::Arc;

use kedge_api::request::Payload;
use kedge_api::{Answer, Body, Object, PatchType, Request, Status, Verb};
use serde_json::{Value, json};

use super::super::incoming::{self, Expected, Strictness};
use super::super::write::{self, ATTEMPTS, How, Written};
use super::super::{answer, get, options, update};
use crate::admission::{self, Operation, Writer};
use crate::apply::{self, Author, scale};
use crate::errors::{Errors, Path};
use crate::kinds::columns;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};
use crate::{Registry, patch};

const EXPECTED: Expected<'_> =
    Expected { group: "autoscaling", version: "v1", kind: "Scale", schema: "io.k8s.api.autoscaling.v1.Scale" };

pub(super) async fn scale(registry: &Registry, row: &Arc<Row>, mut request: Request) -> Result<Answer, Status> {
    if request.verb == Verb::Get {
        let object = get::find(registry, row, &request.target)?;
        return Ok(answer(200, Vec::new(), Payload::Value(of(row, &object).await?)));
    }
    let dry_run = options::change(&request)?;
    let author = Author::with(registry, row, EXPECTED, &request);
    let strictness = Strictness::of(&request.options);
    let name = request.target.name.clone();
    let body = std::mem::take(&mut request.body);
    let make = |parent: &Value| -> Result<Value, Status> {
        let mut current = show(row, parent);
        scale::show(parent, &row.resource.api_version(), paths(row).0, &mut current);
        let before = current.clone();
        let mut value = match &body {
            Body::Patch(PatchType::Apply, config) => {
                let applied = author.apply(Some(&current), config, request.options.force.unwrap_or(false))?;
                incoming::conform(applied, Vec::new(), &EXPECTED, Strictness::Ignore)?.value
            }
            Body::Patch(kind, change) => {
                let schema = kedge_api::Resource { schema: EXPECTED.schema.into(), ..row.resource.clone() };
                current = patch::patch(*kind, &schema, &current, change)?;
                let conformed = incoming::conform(current, Vec::new(), &EXPECTED, strictness);
                conformed.map_err(|status| patch::refused(change, &status.message))?.value
            }
            Body::Object { value, duplicates } => {
                incoming::conform(value.clone(), duplicates.clone(), &EXPECTED, strictness)?.value
            }
            Body::None => incoming::conform(Value::Null, Vec::new(), &EXPECTED, strictness)?.value,
        };
        if value.text("metadata.name") != name {
            let other = value.text("metadata.name");
            return Err(Status::bad_request(if other.is_empty() {
                "name must be provided".to_owned()
            } else {
                format!("the name of the object ({other}) does not match the name on the URL ({name})")
            }));
        }
        if !matches!(body, Body::Patch(PatchType::Apply, _)) {
            author.track(Some(&before), &mut value)?;
        }
        Ok(value)
    };
    let mut writer = Writer::of(&request, dry_run).of_kind(EXPECTED);
    for _ in 0..ATTEMPTS {
        let object = get::find(registry, row, &request.target)?;
        let old = get::decode(row, &object).await?;
        let (before, mut scale) = (show(row, &old), make(&old)?);
        admission::mutate(registry, row, &mut writer, &mut scale, Some(&before)).await?;
        update::check_version(row, &object, update::wanted_version(&scale)?)?;
        let replicas = scale.int("spec.replicas").unwrap_or(0);
        // Custom resources are refused as such, by their own validation.
        let mut errors = Errors::default();
        if replicas < 0 && row.custom.is_none() {
            errors.invalid(&Path::root("spec.replicas"), replicas, "must be greater than or equal to 0");
        }
        errors.into_result(EXPECTED.group, EXPECTED.kind, &name)?;
        admission::validate(registry, row, &mut writer, Operation::Update, &scale, Some(&before)).await?;
        let mut new = old.clone();
        new.set(paths(row).0, replicas);
        apply::scale::keep(&mut new, &row.resource.api_version(), paths(row).0, &scale);
        let mut inner = Writer::of(&request, dry_run).admitted();
        let written = write::replace(registry, row, &object, &old, new, How::Main, &mut inner).await?;
        let value = match written {
            Some(Written::Stored(object) | Written::Same(object) | Written::Deleted(object)) => {
                of(row, &object).await?
            }
            Some(Written::Dry(value)) => show(row, &value),
            None => continue,
        };
        return Ok(answer(200, writer.warnings, Payload::Value(value)));
    }
    Err(write::modified(row, &name))
}

async fn of(row: &Row, object: &Object) -> Result<Value, Status> {
    get::decode(row, object).await.map(|value| show(row, &value))
}

/// The oldest of workloads chooses by labels alone.
fn selector(object: &Value) -> String {
    let selector = object.look("spec.selector");
    if object.text("kind") == "ReplicationController" {
        return columns::labels(selector);
    }
    columns::label_selector(selector)
}

/// Where the counts stand: wanted, there.
fn paths(row: &Row) -> (&str, &str) {
    let scale = row.custom.as_ref().and_then(|custom| custom.scale.as_ref());
    scale.map_or(("spec.replicas", "status.replicas"), |scale| (&scale.spec, &scale.status))
}

fn show(row: &Row, object: &Value) -> Value {
    let mut meta = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        let value = object.look("metadata").look(field);
        if !value.is_null() {
            meta.set(field, value.clone());
        }
    }
    let (wanted, there) = paths(row);
    let mut spec = json!({});
    let replicas = object.int(wanted).unwrap_or(0);
    if replicas != 0 {
        spec.set("replicas", replicas);
    }
    let mut status = json!({"replicas": object.int(there).unwrap_or(0)});
    let selector = match &row.custom {
        Some(custom) => {
            custom.scale.iter().flat_map(|s| &s.selector).map(|path| object.text(path).to_owned()).collect()
        }
        None => selector(object),
    };
    if !selector.is_empty() {
        status.set("selector", selector);
    }
    json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": meta, "spec": spec, "status": status})
}
