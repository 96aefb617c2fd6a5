//! Subresources: a part of an object with verbs of its own.

mod evict;
mod pods;
mod scale;
mod tokens;

use std::sync::Arc;

use kedge_api::request::Payload;
use kedge_api::resource::known;
use kedge_api::{Answer, Request, Status, Verb};
use serde_json::{Value, json};

pub(crate) use pods::create_binding;

use super::incoming::Expected;
use super::write::How;
use super::{answer, get, incoming, options, update};
use crate::Registry;
use crate::admission::{self, Operation, Writer};
use crate::errors::Errors;
use crate::kinds::{certificate, namespace};
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

pub(crate) async fn carry_out(registry: &Registry, row: &Arc<Row>, request: Request) -> Result<Answer, Status> {
    if request.verb == Verb::Connect {
        return connect(registry, row, request).await;
    }
    let name = request.target.subresource.clone();
    let known = row.resource.subresources.iter().find(|s| s.name == name).ok_or_else(crate::no_resource)?;
    if !known.verbs.contains(&request.verb) {
        return Err(crate::no_method());
    }
    match (name.as_str(), request.verb) {
        ("status" | "approval" | "ephemeralcontainers" | "resize", Verb::Get) => {
            get::get(registry, row, &request).await
        }
        ("status", Verb::Update) => update::update(registry, row, request).await,
        ("status", Verb::Patch) => update::patch(registry, row, request).await,
        ("approval", Verb::Update) => update::update(registry, &Arc::new(certificate::approval(row)), request).await,
        ("approval", Verb::Patch) => update::patch(registry, &Arc::new(certificate::approval(row)), request).await,
        ("scale", _) => scale::scale(registry, row, request).await,
        ("finalize", Verb::Update) => finalize(registry, row, request).await,
        ("binding", Verb::Create) => pods::bind(registry, row, request).await,
        ("eviction", Verb::Create) => evict::evict(registry, row, request).await,
        ("ephemeralcontainers" | "resize", Verb::Update | Verb::Patch) => pods::change(registry, row, request).await,
        ("token", Verb::Create) if row.resource.id == known::SERVICE_ACCOUNTS => {
            tokens::issue(registry, row, request).await
        }
        // Connections to nodes and pods are made before a request comes here.
        _ => Err(crate::no_method()),
    }
}

/// Whether a connection may be opened as the options in the body say. Nothing is opened here.
async fn connect(registry: &Registry, row: &Arc<Row>, mut request: Request) -> Result<Answer, Status> {
    let (options, _) = incoming::body(&mut request);
    let kind = Expected { group: "", version: "v1", kind: options.text("kind"), schema: "" };
    let mut writer = Writer::of(&request, false).of_kind(kind);
    admission::validate(registry, row, &mut writer, Operation::Connect, &options, None).await?;
    Ok(answer(200, writer.warnings, Payload::Value(Value::Null)))
}

/// Replaces a namespace's own finalizers: the last one takes the namespace with it.
async fn finalize(registry: &Registry, row: &Arc<Row>, mut request: Request) -> Result<Answer, Status> {
    let dry_run = options::write(&request.options, "UpdateOptions")?;
    let incoming = incoming::object(row, &mut request)?;
    let wanted = update::wanted_version(&incoming.value)?;
    let author = crate::apply::Author::of(registry, row, &request);
    let mut writer = Writer::of(&request, dry_run);
    let written = update::modify(registry, row, How::Special, &mut writer, |object, new| {
        update::check_version(row, object, wanted)?;
        let before = new.clone();
        // Metadata and finalizers are the body's; what only the server sets is kept by the write.
        new.set("metadata", incoming.value.look("metadata").clone());
        match incoming.value.items("spec.finalizers") {
            [] => {
                new.cut("spec.finalizers");
            }
            finalizers => new.set("spec.finalizers", finalizers.to_vec()),
        }
        let mut errors = Errors::default();
        namespace::validate_finalize(new, &mut errors);
        row.refuse(errors, &object.key.name)?;
        author.track(Some(&before), new)?;
        Ok(())
    })
    .await?;
    let warnings = incoming.warnings.into_iter().chain(writer.warnings).collect();
    Ok(answer(200, warnings, written.payload(row).await?))
}

/// The Status of a subresource that was created and is not kept.
fn success() -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})
}
