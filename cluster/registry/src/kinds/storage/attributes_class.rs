//! VolumeAttributesClass: attributes of volumes that may change while they are used.

use std::borrow::Cow;

use kedge_api::Resource;
use kedge_api::resource::Column;
use serde_json::Value;

use super::{cluster_wide, parameters, provisioner};
use crate::errors::{Errors, Path};
use crate::kinds::columns;
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::Look as _;

const COLUMNS: &[Column] = &[columns::text("DriverName", |o| o.text("driverName").into()), columns::AGE];

pub(crate) fn row() -> Row {
    let schema = "io.k8s.api.storage.v1.VolumeAttributesClass";
    let base =
        cluster_wide("volumeattributesclasses", "volumeattributesclass", "VolumeAttributesClass", schema, COLUMNS);
    let resource = Resource { short_names: Cow::Borrowed(&["vac"]), ..base };
    let strategy = Strategy { returns_deleted: true, validate, validate_update, ..Strategy::PLAIN };
    Row::new(resource, strategy)
}

fn validate(class: &Value, errors: &mut Errors) {
    provisioner(class.text("driverName"), &Path::root("driverName"), errors);
    let path = Path::root("parameters");
    if class.entries("parameters").count() == 0 {
        errors.required(&path, "must contain at least one key/value pair");
    }
    parameters(class.look("parameters"), &path, errors);
}

fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    for field in ["driverName", "parameters"] {
        if new.look(field) != old.look(field) {
            errors.forbidden(&Path::root(field), &format!("updates to {field} are forbidden."));
        }
    }
    // Upstream checks all of it a second time.
    validate(new, errors);
}
