//! CustomResourceDefinition: makes kinds. What is done about one once it is stored, `crate::custom` does.

mod field_path;
pub(crate) mod regex;
mod rules;
mod schema;
mod structure;
mod validate;

use std::borrow::Cow;

use kedge_api::Resource;
use kedge_api::resource::Column;
use serde_json::{Value, json};

use super::{STATUS, resource};
use crate::custom::rows::DEFINITIONS;
use crate::custom::status;
use crate::errors::{Errors, Path};
use crate::strategy::Strategy;
use crate::structure::conform;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

const PROPS: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

const COLUMNS: &[Column] = &[Column {
    name: "Created At",
    r#type: "date",
    format: "",
    priority: 0,
    cell: |o| o.look("metadata.creationTimestamp").clone(),
}];

pub(crate) fn row() -> Row {
    let base = resource(
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        "customresourcedefinition",
        "CustomResourceDefinition",
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
        COLUMNS,
    );
    let resource = Resource {
        id: DEFINITIONS,
        short_names: Cow::Borrowed(&["crd", "crds"]),
        categories: Cow::Borrowed(&["api-extensions"]),
        namespaced: false,
        subresources: &[STATUS],
        // Upstream has never stopped storing definitions in the version they began in.
        stored_in: Some(("apiextensions.k8s.io", "v1beta1")),
        ..base
    };
    let strategy = Strategy {
        unconditional_update: false,
        default,
        prepare_create,
        prepare_update,
        validate_create,
        validate_update,
        validate_status,
        // The first request to delete marks it; `tasks::removal` lets it go.
        held: |crd| !crd.has("metadata.deletionTimestamp"),
        on_delete: status::mark,
        marks_grace: false,
        ..Strategy::SPEC
    };
    Row::new(resource, strategy)
}

fn default(crd: &mut Value) {
    let kind = crd.text("spec.names.kind").to_owned();
    crd.fill_text("spec.names.singular", &kind.to_lowercase());
    if !kind.is_empty() {
        crd.fill_text("spec.names.listKind", &format!("{kind}List"));
    }
    if crd.text("spec.names.singular").is_empty() {
        crd.cut("spec.names.singular");
    }
    crd.fill("spec.conversion", json!({"strategy": "None"}));
    if crd.has("spec.conversion.webhook.clientConfig.service") {
        crd.fill("spec.conversion.webhook.clientConfig.service.port", 443);
    }
    for version in crd.items_mut("spec.versions") {
        if let Some(schema) = version.find_mut("schema.openAPIV3Schema") {
            tidy(schema);
        }
    }
}

/// Schemas below `items` and `additionalProperties`, which may be something else than a schema, get the form of one.
fn tidy(schema: &mut Value) {
    for name in ["items", "additionalProperties"] {
        if let (Some(inner @ Value::Object(_)), Some(t)) = (schema.get_mut(name), kedge_api::schema::get(PROPS)) {
            // What cannot be one is refused by validation.
            let _conformed = conform(t, inner);
            tidy(inner);
        }
    }
    for name in ["properties", "patternProperties", "definitions"] {
        if let Some(Value::Object(map)) = schema.get_mut(name) {
            map.values_mut().for_each(tidy);
        }
    }
    for name in ["allOf", "anyOf", "oneOf"] {
        schema.items_mut(name).iter_mut().for_each(tidy);
    }
    if let Some(not) = schema.get_mut("not") {
        tidy(not);
    }
}

/// The name of the version that objects are stored in.
fn storage(crd: &Value) -> Option<&str> {
    crd.items("spec.versions").iter().find(|version| version.flag("storage")).map(|version| version.text("name"))
}

fn prepare_create(crd: &mut Value) {
    let stored = storage(crd).map_or(Value::Null, |name| json!([name]));
    crd.set(
        "status",
        json!({"conditions": null, "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": stored}),
    );
}

/// Whatever was stored in once stays known until someone has migrated it and says so.
fn prepare_update(new: &mut Value, _: &Value) {
    let mut stored = new.items("status.storedVersions").to_vec();
    if let Some(name) = storage(new).filter(|name| !stored.iter().any(|known| known == name)) {
        stored.push(name.into());
        new.set("status.storedVersions", stored);
    }
}

fn validate_create(crd: &Value, errors: &mut Errors) {
    let name = crd.text("metadata.name");
    if !name.is_empty() && name != format!("{}.{}", crd.text("spec.names.plural"), crd.text("spec.group")) {
        errors.first(|errors| {
            errors.invalid(&Path::root("metadata.name"), name, "must be spec.names.plural+\".\"+spec.group");
        });
    }
    validate::spec(crd, None, errors);
    validate::stored(crd, errors);
    validate::approval(crd, None, errors);
    validate::preserve(crd, None, errors);
}

fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    validate::spec(new, Some(old), errors);
    let immutable: &[&str] = if status::condition(old, "Established") == Some("True") {
        &["spec.scope", "spec.names.kind", "spec.group", "spec.names.plural"]
    } else {
        &["spec.group", "spec.names.plural"]
    };
    for field in immutable {
        if new.text(field) != old.text(field) {
            errors.invalid(&Path::root(field), new.text(field), "field is immutable");
        }
    }
    validate::stored(new, errors);
    validate::approval(new, Some(old), errors);
    validate::preserve(new, Some(old), errors);
}

fn validate_status(new: &Value, _: &Value, errors: &mut Errors) {
    validate::accepted(new, errors);
}
