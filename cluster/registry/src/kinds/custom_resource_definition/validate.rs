//! The rules of a definition's specification, in upstream's order.
//!
//! Upstream validates its internal form, in which what all versions have alike stands once at the top: paths name that place.

use serde_json::{Map, Value};

use super::super::webhook_configuration;
use super::{field_path, schema};
use crate::custom::status::{is_protected, is_url};
use crate::errors::{Errors, Path, is_hidden, quote};
use crate::names;
use crate::value::Look as _;

const APPROVED: &str = "api-approved.kubernetes.io";

/// The parts of a version that may stand at the top, as the internal form calls them.
const SHARED: [(&str, &str); 4] = [
    ("schema", "Schema"),
    ("subresources", "Subresources"),
    ("additionalPrinterColumns", "AdditionalPrinterColumns"),
    ("selectableFields", "SelectableFields"),
];

fn shared(crd: &Value, part: &str) -> bool {
    let mut versions = crd.items("spec.versions").iter().map(|version| version.look(part));
    let first = versions.next();
    versions.all(|part| Some(part) == first)
}

/// The schema that a version had.
fn schema_of<'a>(old: Option<&'a Value>, version: &Value) -> Option<&'a Value> {
    let named = |known: &&Value| known.text("name") == version.text("name");
    old?.items("spec.versions").iter().find(named).map(|version| version.look("schema.openAPIV3Schema"))
}

pub(super) fn spec(crd: &Value, old: Option<&Value>, errors: &mut Errors) {
    let path = Path::root("spec");
    let group = crd.text("spec.group");
    let at = path.child("group");
    match names::subdomain(group) {
        _ if group.is_empty() => errors.required(&at, ""),
        wrong if !wrong.is_empty() => errors.invalid(&at, group, &wrong.join(",")),
        _ if !group.contains('.') => errors.invalid(&at, group, "should be a domain with at least one dot"),
        _ => {}
    }
    one_of(crd.text("spec.scope"), &["Cluster", "Namespaced"], &path.child("scope"), errors);
    let versions = crd.items("spec.versions");
    let at = path.child("versions");
    for (index, version) in versions.iter().enumerate() {
        if !version.has("schema.openAPIV3Schema") {
            errors.required(&at.index(index).child("schema").child("openAPIV3Schema"), "");
        }
    }
    for (index, version) in versions.iter().enumerate() {
        self::version(crd, old, version, &at.index(index), errors);
    }
    let mut called: Vec<&str> = versions.iter().map(|version| version.text("name")).collect();
    called.sort_unstable();
    if called.windows(2).any(|pair| matches!(pair, [a, b] if a == b)) {
        errors.invalid_json(&at, &shown(crd), "must contain unique version names");
    }
    if versions.iter().filter(|version| version.flag("storage")).count() != 1 {
        errors.invalid_json(&at, &shown(crd), "must have exactly one version marked as storage version");
    }
    if let Some(first) = versions.first().filter(|first| !first.text("name").is_empty()) {
        label(first.text("name"), first.text("name"), "", &path.child("version"), errors);
    }
    let at = path.child("names");
    for field in ["plural", "singular", "kind", "listKind"] {
        if crd.look("spec.names").text(field).is_empty() {
            errors.required(&at.child(field), "");
        }
    }
    all_names(crd.look("spec.names"), &at, errors);
    if let Some(first) = versions.first() {
        if shared(crd, "schema") {
            let status = versions.iter().any(|version| version.has("subresources.status"));
            schema::validate(first, schema_of(old, first), status, &path.child("validation"), errors);
        }
        if shared(crd, "subresources") {
            subresources(first, &path.child("subresources"), errors);
        }
        if shared(crd, "additionalPrinterColumns") {
            columns(first, &path.child("additionalPrinterColumns"), errors);
        }
        if shared(crd, "selectableFields") {
            selectable(first, &path.child("selectableFields"), errors);
        }
    }
    conversion(crd.look("spec.conversion"), &path.child("conversion"), errors);
}

fn version(crd: &Value, old: Option<&Value>, version: &Value, path: &Path<'_>, errors: &mut Errors) {
    let name = version.text("name");
    label(name, name, "", &path.child("name"), errors);
    if let Some(warning) = version.look("deprecationWarning").as_str() {
        let at = path.child("deprecationWarning");
        if !version.flag("deprecated") {
            errors.invalid(&at, warning, "can only be set for deprecated versions");
        } else if warning.len() > 256 {
            errors.invalid(&at, warning, "must be <= 256 characters long");
        } else if warning.is_empty() {
            errors.invalid(&at, warning, "must not be an empty string");
        }
        if let Some((at_byte, _)) = warning.char_indices().find(|(_, c)| is_hidden(*c) && version.flag("deprecated")) {
            let detail = format!(
                "must only contain printable UTF-8 characters; non-printable character found at index {at_byte}"
            );
            errors.invalid(&at, warning, &detail);
        }
    }
    if !shared(crd, "schema") {
        let status = version.has("subresources.status");
        schema::validate(version, schema_of(old, version), status, &path.child("schema"), errors);
    }
    if !shared(crd, "subresources") {
        subresources(version, &path.child("subresources"), errors);
    }
    if !shared(crd, "additionalPrinterColumns") {
        columns(version, &path.child("additionalPrinterColumns"), errors);
    }
    if !shared(crd, "selectableFields") {
        selectable(version, &path.child("selectableFields"), errors);
    }
}

/// The versions as Go writes the internal form.
fn shown(crd: &Value) -> String {
    let one = |version: &Value| {
        let mut fields = vec![
            format!("\"Name\":{}", version.look("name")),
            format!("\"Served\":{}", version.flag("served")),
            format!("\"Storage\":{}", version.flag("storage")),
            format!("\"Deprecated\":{}", version.flag("deprecated")),
            format!("\"DeprecationWarning\":{}", version.look("deprecationWarning")),
        ];
        fields.extend(SHARED.map(|(part, name)| match version.look(part) {
            part_value if !part_value.is_null() && !shared(crd, part) => format!("{}:{part_value}", quote(name)),
            _ => format!("{}:null", quote(name)),
        }));
        format!("{{{}}}", fields.join(","))
    };
    format!("[{}]", crd.items("spec.versions").iter().map(one).collect::<Vec<_>>().join(","))
}

fn one_of(value: &str, allowed: &[&str], path: &Path<'_>, errors: &mut Errors) {
    if value.is_empty() {
        errors.required(path, "");
    } else if !allowed.contains(&value) {
        errors.not_supported(path, value, allowed);
    }
}

/// `text` must be a label; `value` is how it was written.
fn label(text: &str, value: &str, prefix: &str, path: &Path<'_>, errors: &mut Errors) {
    let wrong = names::label_1035(text);
    if !wrong.is_empty() {
        errors.invalid(path, value, &format!("{prefix}{}", wrong.join(",")));
    }
}

fn all_names(names: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mixed = "may have mixed case, but should otherwise match: ";
    for (field, prefix) in [("plural", ""), ("singular", ""), ("kind", mixed), ("listKind", mixed)] {
        let name = names.text(field);
        let text = if prefix.is_empty() { name.to_owned() } else { name.to_lowercase() };
        if !name.is_empty() {
            label(&text, name, prefix, &path.child(field), errors);
        }
    }
    for (field, list) in ["shortNames", "categories"].map(|field| (field, names.items(field))) {
        for (index, name) in list.iter().enumerate() {
            let name = name.as_str().unwrap_or_default();
            label(name, name, "", &path.child(field).index(index), errors);
        }
        let kind = names.text("kind");
        if field == "shortNames" && !kind.is_empty() && kind == names.text("listKind") {
            errors.invalid(&path.child("listKind"), kind, "kind and listKind may not be the same");
        }
    }
}

/// No more is asked of a path than that it begins as one.
fn simple(text: &str, path: &Path<'_>, errors: &mut Errors) -> bool {
    let fine = text.starts_with('.');
    if !fine {
        errors.invalid(path, text, "must be a simple json path starting with .");
    }
    fine
}

fn subresources(version: &Value, path: &Path<'_>, errors: &mut Errors) {
    let scale = version.look("subresources.scale");
    if !scale.is_object() {
        return;
    }
    let at = path.child("scale");
    for (field, roots, detail) in [
        ("specReplicasPath", &[".spec."][..], "should be a json path under .spec"),
        ("statusReplicasPath", &[".status."], "should be a json path under .status"),
        ("labelSelectorPath", &[".spec.", ".status."], "should be a json path under either .spec or .status"),
    ] {
        let text = scale.text(field);
        let at = at.child(field);
        if text.is_empty() {
            if field != "labelSelectorPath" {
                errors.required(&at, "");
            }
        } else if simple(text, &at, errors) && !roots.iter().any(|root| text.starts_with(root)) {
            errors.invalid(&at, text, detail);
        }
    }
}

fn columns(version: &Value, path: &Path<'_>, errors: &mut Errors) {
    for (index, column) in version.items("additionalPrinterColumns").iter().enumerate() {
        let at = path.index(index);
        let (name, kind, format, json_path) =
            (column.text("name"), column.text("type"), column.text("format"), column.text("jsonPath"));
        if name.is_empty() {
            errors.required(&at.child("name"), "");
        }
        let detail = "must be one of boolean,date,integer,number,string";
        if kind.is_empty() {
            errors.required(&at.child("type"), detail);
        } else if !["boolean", "date", "integer", "number", "string"].contains(&kind) {
            errors.invalid(&at.child("type"), kind, detail);
        }
        let formats = ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
        if !format.is_empty() && !formats.contains(&format) {
            errors.invalid(&at.child("format"), format, &format!("must be one of {}", formats.join(",")));
        }
        // As the internal form calls it.
        let at = at.child("JSONPath");
        if json_path.is_empty() {
            errors.required(&at, "");
        } else {
            simple(json_path, &at, errors);
        }
    }
}

fn selectable(version: &Value, path: &Path<'_>, errors: &mut Errors) {
    const MOST: usize = 8;
    let mut seen = Vec::new();
    for (index, field) in version.items("selectableFields").iter().enumerate() {
        let text = field.text("jsonPath");
        let entry = path.index(index);
        let at = entry.child("jsonPath");
        if text.is_empty() {
            errors.required(&at, "");
            continue;
        }
        let found = match field_path::find(version.look("schema.openAPIV3Schema"), text, false) {
            Ok(found) => found,
            Err(why) => {
                errors.invalid(&at, text, &format!("is an invalid path: {why}"));
                continue;
            }
        };
        if found.names.first().is_some_and(|name| name == "metadata") {
            errors.invalid(&at, text, "must not point to fields in metadata");
        }
        if !matches!(found.schema.text("type"), "string" | "boolean" | "integer") {
            let detail = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
            errors.invalid(&at, text, detail);
        }
        if seen.contains(&found.names) {
            errors.duplicate(&at, text);
        } else {
            seen.push(found.names);
        }
    }
    if seen.len() > MOST {
        errors.too_many(path, seen.len(), MOST);
    }
}

fn conversion(conversion: &Value, path: &Path<'_>, errors: &mut Errors) {
    let strategy = conversion.text("strategy");
    one_of(strategy, &["None", "Webhook"], &path.child("strategy"), errors);
    let (client, versions) =
        (conversion.look("webhook.clientConfig"), conversion.items("webhook.conversionReviewVersions"));
    let (at_client, at_versions) = (path.child("webhookClientConfig"), path.child("conversionReviewVersions"));
    if strategy != "Webhook" {
        if client.is_object() {
            errors.forbidden(&at_client, "should not be set when strategy is not set to Webhook");
        }
        if !versions.is_empty() {
            errors.forbidden(&at_versions, "should not be set when strategy is not set to Webhook");
        }
        return;
    }
    if client.is_object() {
        webhook_configuration::validate_client(client, &at_client, errors);
    } else {
        errors.required(&at_client, "required when strategy is set to Webhook");
    }
    webhook_configuration::validate_review_versions(versions, "", &at_versions, errors);
}

pub(super) fn accepted(crd: &Value, errors: &mut Errors) {
    all_names(crd.look("status.acceptedNames"), &Path::root("status.acceptedNames"), errors);
}

/// Whatever objects may lie in the store in stays a version.
pub(super) fn stored(crd: &Value, errors: &mut Errors) {
    accepted(crd, errors);
    let at = Path::root("status.storedVersions");
    let (stored, versions) = (crd.items("status.storedVersions"), crd.items("spec.versions"));
    if stored.is_empty() {
        return errors.invalid(&at, Value::Null, "must have at least one stored version");
    }
    for version in versions.iter().filter(|version| version.flag("storage")).map(|version| version.look("name")) {
        if !stored.contains(version) {
            let detail = format!("must have the storage version {}", version.as_str().unwrap_or_default());
            errors.invalid(&at, stored.to_vec(), &detail);
        }
    }
    for (index, name) in stored.iter().enumerate() {
        if !versions.iter().any(|version| version.look("name") == name) {
            let (name, at) = (name.as_str().unwrap_or_default(), at.index(index));
            let detail = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until a storage \
                 migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
            );
            errors.invalid(&at, name, &detail);
        }
    }
}

/// Groups of the Kubernetes community need its approval.
pub(super) fn approval(crd: &Value, old: Option<&Value>, errors: &mut Errors) {
    let annotation = |crd: &Value| crd.look("metadata.annotations").get(APPROVED).cloned();
    let found = annotation(crd);
    if !is_protected(crd.text("spec.group")) || old.is_some_and(|old| annotation(old) == found) {
        return;
    }
    let (annotations, see) =
        (Path::root("metadata.annotations"), "see https://github.com/kubernetes/enhancements/pull/1111");
    let at = annotations.key(APPROVED);
    match found.as_ref().and_then(Value::as_str).unwrap_or_default() {
        "" => errors.required(&at, &format!("protected groups must have approval annotation {APPROVED:?}, {see}")),
        text if text.starts_with("unapproved") || is_url(text) => {}
        text => {
            let detail = format!(
                "protected groups must have approval annotation {APPROVED:?} with either a URL or a reason starting with \"unapproved\", {see}"
            );
            errors.invalid(&at, text, &detail);
        }
    }
}

pub(super) fn preserve(crd: &Value, old: Option<&Value>, errors: &mut Errors) {
    let had = old.is_some_and(|old| old.flag("spec.preserveUnknownFields"));
    if crd.flag("spec.preserveUnknownFields") && !had {
        let detail =
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.invalid(&Path::root("spec.preserveUnknownFields"), true, detail);
    }
}

/// A part of a schema that is a map.
pub(super) fn map<'a>(schema: &'a Value, part: &str) -> Option<&'a Map<String, Value>> {
    schema.get(part).and_then(Value::as_object)
}
