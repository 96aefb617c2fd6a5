//! VolumeAttachment: that a volume is to be attached to a node.

use kedge_api::Resource;
use kedge_api::resource::Column;
use serde_json::{Value, json};

use super::{cluster_wide, driver};
use crate::errors::{Errors, Path};
use crate::golang;
use crate::kinds::{STATUS, columns, persistent_volume as volume};
use crate::names;
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

const COLUMNS: &[Column] = &[
    columns::name(|o| o.text("metadata.name").into()),
    Column { format: "name", ..columns::text("Attacher", |o| o.text("spec.attacher").into()) },
    columns::text("PV", |o| o.text("spec.source.persistentVolumeName").into()),
    columns::text("Node", |o| o.text("spec.nodeName").into()),
    columns::boolean("Attached", |o| o.flag("status.attached").into()),
    columns::AGE,
];

pub(crate) fn row() -> Row {
    let schema = "io.k8s.api.storage.v1.VolumeAttachment";
    let base = cluster_wide("volumeattachments", "volumeattachment", "VolumeAttachment", schema, COLUMNS);
    let resource = Resource { subresources: &[STATUS], ..base };
    let strategy = Strategy {
        status: true,
        unconditional_update: false,
        returns_deleted: true,
        default: |attachment| {
            attachment.fill("spec.source", json!({}));
            attachment.fill("status.attached", false);
        },
        prepare_create: |attachment| attachment.set("status", json!({"attached": false})),
        validate,
        validate_update,
        validate_status: |new, _, errors| status(new, errors),
        ..Strategy::PLAIN
    };
    Row::new(resource, strategy)
}

fn validate(attachment: &Value, errors: &mut Errors) {
    let spec = Path::root("spec");
    driver(attachment.text("spec.attacher"), &spec.child("attacher"), errors);
    source(attachment.look("spec.source"), &spec.child("source"), errors);
    let node = attachment.text("spec.nodeName");
    errors.all_invalid(&spec.child("nodeName"), node, names::subdomain(node));
    status(attachment, errors);
}

fn source(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    const ONE: &str = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    let here = path.child("persistentVolumeName");
    match (source.look("persistentVolumeName").as_str(), source.look("inlineVolumeSpec")) {
        (None, Value::Null) => errors.required(path, ONE),
        (Some(""), Value::Null) => errors.required(&here, "must specify non empty persistentVolumeName"),
        (Some(name), Value::Null) => errors.all_invalid(&here, name, names::subdomain(name)),
        (Some(_), _) => errors.forbidden(path, ONE),
        (None, inline) => volume::spec(inline, volume::In::Attachment, &path.child("inlineVolumeSpec"), errors),
    }
}

fn status(attachment: &Value, errors: &mut Errors) {
    const MOST_METADATA: usize = 256 << 10;
    const LONGEST_MESSAGE: usize = 1024;
    let path = Path::root("status");
    let metadata = attachment.entries("status.attachmentMetadata");
    if metadata.map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum::<usize>() > MOST_METADATA {
        errors.too_long(&path.child("attachmentMetadata"), MOST_METADATA);
    }
    for field in ["attachError", "detachError"] {
        let (here, failed) = (path.child(field), attachment.look("status").look(field));
        if failed.text("message").len() > LONGEST_MESSAGE {
            // Upstream names the other limit.
            errors.too_long(&here.child("message"), MOST_METADATA);
        }
        if let Some(code) = failed.int("errorCode").filter(|code| *code < 0) {
            errors.invalid(&here.child("errorCode"), code, "must be between 0 and 2147483647, inclusive");
        }
    }
}

fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    // Upstream checks all of it a second time.
    validate(new, errors);
    let spec = new.look("spec");
    if spec != old.look("spec") {
        errors.invalid_json(&Path::root("spec"), &golang::show(spec, "VolumeAttachmentSpec"), "field is immutable");
    }
}
