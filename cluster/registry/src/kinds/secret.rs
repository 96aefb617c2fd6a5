//! Secret, with the rules of its well-known types.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kedge_api::Resource;
use kedge_api::resource::Column;
use serde_json::Value;

use super::config_map::{MOST_BYTES, decoded_len};
use super::{columns, resource};
use crate::errors::{Errors, Path};
use crate::gojson;
use crate::names;
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

const COLUMNS: &[Column] = &[
    columns::text("Type", |o| o.text("type").into()),
    columns::text("Data", |o| o.entries("data").count().into()),
    columns::AGE,
];

pub(crate) fn row() -> Row {
    let base = resource("", "secrets", "secret", "Secret", "io.k8s.api.core.v1.Secret", COLUMNS);
    let resource = Resource { selectable: &["type"], ..base };
    Row::new(
        resource,
        Strategy { metadata_checks: (1, 1), default, validate_create: validate, validate_update, ..Strategy::PLAIN },
    )
}

/// `stringData` is only a way to write `data`.
fn default(secret: &mut Value) {
    if let Some(Value::Object(plain)) = secret.cut("stringData") {
        for (key, value) in plain {
            let encoded = STANDARD.encode(value.as_str().unwrap_or_default());
            let data = secret.slot("data");
            if !data.is_object() {
                *data = Value::Object(serde_json::Map::new());
            }
            if let Some(map) = data.map_mut() {
                map.insert(key, encoded.into());
            }
        }
    }
    secret.fill_text("type", "Opaque");
}

fn validate(secret: &Value, errors: &mut Errors) {
    let data = Path::root("data");
    let mut bytes = 0;
    for (key, value) in secret.entries("data") {
        errors.all_invalid(&data.key(key), key, names::config_key(key));
        bytes += value.as_str().map_or(0, decoded_len);
    }
    if bytes > MOST_BYTES {
        errors.too_long(&data, MOST_BYTES);
    }
    let value = |key: &str| secret.look("data").get(key).and_then(Value::as_str);
    let needs = |key: &str, errors: &mut Errors| {
        if value(key).is_none() {
            errors.required(&data.key(key), "");
        }
    };
    match secret.text("type") {
        "kubernetes.io/service-account-token" => {
            let name = secret.look("metadata.annotations").get("kubernetes.io/service-account.name");
            if name.and_then(Value::as_str).unwrap_or_default().is_empty() {
                let path = Path::root("metadata.annotations");
                errors.required(&path.key("kubernetes.io/service-account.name"), "");
            }
        }
        "kubernetes.io/dockercfg" => json_value(secret, ".dockercfg", errors),
        "kubernetes.io/dockerconfigjson" => json_value(secret, ".dockerconfigjson", errors),
        "kubernetes.io/basic-auth" if value("username").is_none() && value("password").is_none() => {
            needs("username", errors);
            needs("password", errors);
        }
        "kubernetes.io/ssh-auth" if value("ssh-privatekey").unwrap_or_default().is_empty() => {
            errors.required(&data.key("ssh-privatekey"), "");
        }
        "kubernetes.io/tls" => {
            needs("tls.crt", errors);
            needs("tls.key", errors);
        }
        _ => {}
    }
}

fn json_value(secret: &Value, key: &str, errors: &mut Errors) {
    let data = Path::root("data");
    let Some(text) = secret.look("data").get(key).and_then(Value::as_str) else {
        errors.required(&data.key(key), "");
        return;
    };
    let bytes = STANDARD.decode(text).unwrap_or_default();
    if let Some(why) = gojson::error(&bytes) {
        errors.invalid(&data.key(key), "<secret contents redacted>", &why);
    }
}

fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    if new.text("type") != old.text("type") {
        errors.invalid(&Path::root("type"), new.text("type"), "field is immutable");
    }
    if old.flag("immutable") {
        const WHY: &str = "field is immutable when `immutable` is set";
        if !new.flag("immutable") {
            errors.forbidden(&Path::root("immutable"), WHY);
        }
        if new.look("data") != old.look("data") {
            errors.forbidden(&Path::root("data"), WHY);
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
    fn what_cannot_change_is_told_before_what_is_wrong() {
        let old = json!({"type": "Opaque", "immutable": true, "data": {"a": "YQ=="}});
        const WHY: &str = "Forbidden: field is immutable when `immutable` is set";
        cases::updated(
            &row(),
            &old,
            &[
                ("/immutable", json!(false), &[&format!("immutable: {WHY}")]),
                (
                    "/type",
                    json!("kubernetes.io/tls"),
                    &[
                        "type: Invalid value: \"kubernetes.io/tls\": field is immutable",
                        "data[tls.crt]: Required value",
                        "data[tls.key]: Required value",
                    ],
                ),
                (
                    "/data",
                    json!({"..": ""}),
                    &[&format!("data: {WHY}"), "data[..]: Invalid value: \"..\": must not be '..'"],
                ),
            ],
        );
        cases::created(
            &row(),
            &json!({}),
            &[
                (
                    "/type",
                    json!("kubernetes.io/basic-auth"),
                    &["data[username]: Required value", "data[password]: Required value"],
                ),
                ("/type", json!("kubernetes.io/ssh-auth"), &["data[ssh-privatekey]: Required value"]),
                (
                    "/type",
                    json!("kubernetes.io/service-account-token"),
                    &["metadata.annotations[kubernetes.io/service-account.name]: Required value"],
                ),
                ("/type", json!("kubernetes.io/dockercfg"), &["data[.dockercfg]: Required value"]),
                ("/type", json!("example.com/own"), &[]),
            ],
        );
    }
}
