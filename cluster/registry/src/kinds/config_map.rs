//! ConfigMap.

use std::borrow::Cow;

use kedge_api::Resource;
use kedge_api::resource::Column;
use serde_json::Value;

use super::{columns, resource};
use crate::errors::{Errors, Path};
use crate::names;
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::Look as _;

const COLUMNS: &[Column] =
    &[columns::text("Data", |o| (o.entries("data").count() + o.entries("binaryData").count()).into()), columns::AGE];

/// All keys and values together.
pub(crate) const MOST_BYTES: usize = 1 << 20;

pub(crate) fn row() -> Row {
    let base = resource("", "configmaps", "configmap", "ConfigMap", "io.k8s.api.core.v1.ConfigMap", COLUMNS);
    let resource = Resource { short_names: Cow::Borrowed(&["cm"]), ..base };
    Row::new(
        resource,
        Strategy { metadata_checks: (1, 1), validate_create: validate, validate_update, ..Strategy::PLAIN },
    )
}

fn validate(map: &Value, errors: &mut Errors) {
    let mut bytes = 0;
    let (data, binary) = (Path::root("data"), Path::root("binaryData"));
    for (key, value) in map.entries("data") {
        errors.all_invalid(&data.key(key), key, names::config_key(key));
        if map.look("binaryData").get(key).is_some() {
            errors.invalid(&data.key(key), key.as_str(), "duplicate of key present in binaryData");
        }
        bytes += value.as_str().map_or(0, str::len);
    }
    for (key, value) in map.entries("binaryData") {
        errors.all_invalid(&binary.key(key), key, names::config_key(key));
        bytes += value.as_str().map_or(0, decoded_len);
    }
    if bytes > MOST_BYTES {
        // Upstream reports this at an empty path, which Go prints so.
        errors.too_long(&Path::root("[]"), MOST_BYTES);
    }
}

/// Bytes that base64 text stands for.
pub(crate) fn decoded_len(text: &str) -> usize {
    text.len() / 4 * 3 - text.bytes().rev().take_while(|b| *b == b'=').count()
}

fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    const WHY: &str = "field is immutable when `immutable` is set";
    if old.flag("immutable") {
        if !new.flag("immutable") {
            errors.forbidden(&Path::root("immutable"), WHY);
        }
        for field in ["data", "binaryData"] {
            if new.look(field) != old.look(field) {
                errors.forbidden(&Path::root(field), WHY);
            }
        }
    }
    validate(new, errors);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::cases;
    use serde_json::json;

    #[test]
    fn keys_are_of_one_of_the_two_and_what_is_immutable_stays() {
        cases::created(
            &row(),
            &json!({"data": {"a": "b"}}),
            &[
                (
                    "/binaryData",
                    json!({"a": ""}),
                    &["data[a]: Invalid value: \"a\": duplicate of key present in binaryData"],
                ),
                (
                    "/data",
                    json!({"a": "x".repeat((1 << 20) + 1)}),
                    &["[]: Too long: may not be more than 1048576 bytes"],
                ),
            ],
        );
        const WHY: &str = "Forbidden: field is immutable when `immutable` is set";
        cases::updated(
            &row(),
            &json!({"data": {"a": "b"}, "immutable": true}),
            &[
                (
                    "/data",
                    json!({"..": "b"}),
                    &[&format!("data: {WHY}"), "data[..]: Invalid value: \"..\": must not be '..'"],
                ),
                ("/immutable", Value::Null, &[&format!("immutable: {WHY}")]),
                ("/binaryData", json!({"b": ""}), &[&format!("binaryData: {WHY}")]),
            ],
        );
    }
}
