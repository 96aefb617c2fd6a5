//! The rules of a definition's specification, in upstream's order.
//!
//! Upstream validates its internal form, in which what all versions have alike stands once at the top: paths name that place.

use serde_json::{Map, Value};

use super::schema;
use crate::custom::json_path::JsonPath;
use crate::custom::status::{is_protected, is_url};
use crate::errors::{Errors, Path, quote};
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

pub(super) fn spec(crd: &Value, errors: &mut Errors) {
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
        self::version(crd, version, &at.index(index), errors);
    }
    let mut called: Vec<&str> = versions.iter().map(|version| version.text("name")).collect();
    called.sort_unstable();
    if called.windows(2).any(|pair| matches!(pair, [a, b] if a == b)) {
        errors.invalid_json(&at, &shown(crd), "must contain unique version names");
    }
    if versions.iter().filter(|version| version.flag("storage")).count() != 1 {
        errors.invalid_json(&at, &shown(crd), "must have exactly one version marked as storage version");
    }
    if let Some(first) = versions.first() {
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
            schema::validate(first, status, &path.child("validation"), errors);
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
    status(crd, errors);
}

fn version(crd: &Value, version: &Value, path: &Path<'_>, errors: &mut Errors) {
    let name = version.text("name");
    label(name, name, "", &path.child("name"), errors);
    if let Some(warning) = version.look("deprecationWarning").as_str() {
        let at = path.child("deprecationWarning");
        if !version.flag("deprecated") {
            errors.invalid(&at, warning, "can only be set for deprecated versions");
        }
        if warning.len() > 256 {
            errors.invalid(&at, warning, "must be <= 256 characters long");
        } else if warning.is_empty() {
            errors.invalid(&at, warning, "must not be empty");
        }
        if let Some((at_byte, _)) = warning.char_indices().find(|(_, c)| c.is_control()) {
            let detail = format!(
                "must only contain printable UTF-8 characters; non-printable character found at index {at_byte}"
            );
            errors.invalid(&at, warning, &detail);
        }
    }
    if !shared(crd, "schema") {
        schema::validate(version, version.has("subresources.status"), &path.child("schema"), errors);
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

/// A path of names alone, below one of the roots.
fn simple(text: &str, path: &Path<'_>, errors: &mut Errors) -> bool {
    let fine = text.starts_with('.') && JsonPath::parse(text).is_ok_and(|path| path.simple().is_some());
    if !fine {
        errors.invalid(path, text, "is an invalid path: only simple paths such as .spec.replicas are allowed");
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
        one_of(kind, &["boolean", "date", "integer", "number", "string"], &at.child("type"), errors);
        let formats = ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
        if !format.is_empty() && !formats.contains(&format) {
            errors.not_supported(&at.child("format"), format, &formats);
        }
        if json_path.is_empty() {
            errors.required(&at.child("jsonPath"), "");
        } else if let Err(why) = JsonPath::parse(json_path) {
            errors.invalid(&at.child("jsonPath"), json_path, &why);
        }
    }
}

fn selectable(version: &Value, path: &Path<'_>, errors: &mut Errors) {
    const MOST: usize = 8;
    let fields = version.items("selectableFields");
    let mut seen: Vec<&str> = Vec::new();
    for (index, field) in fields.iter().enumerate() {
        let text = field.text("jsonPath");
        let entry = path.index(index);
        let at = entry.child("jsonPath");
        if text.is_empty() {
            errors.required(&at, "");
            continue;
        }
        let names = match JsonPath::parse(text) {
            Ok(parsed) => parsed.simple().map(|names| names.into_iter().map(str::to_owned).collect::<Vec<_>>()),
            Err(_) => None,
        };
        match names.filter(|_| text.starts_with('.')) {
            None => {
                errors.invalid(&at, text, "is an invalid path: only simple paths such as .spec.replicas are allowed")
            }
            Some(names) if names.first().is_some_and(|name| name == "metadata") => {
                errors.invalid(&at, text, "must not point to fields in metadata");
            }
            Some(names) => {
                let root = version.look("schema.openAPIV3Schema");
                let found = names.iter().try_fold(root, |schema, name| schema.look("properties").get(name));
                match found {
                    None => errors.invalid(&at, text, "is an invalid path: does not refer to a valid field"),
                    Some(found) if !matches!(found.text("type"), "string" | "boolean" | "integer") => {
                        errors.invalid(&at, text, "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.");
                    }
                    Some(_) => {}
                }
            }
        }
        if seen.contains(&text) {
            errors.duplicate(&at, text);
        }
        seen.push(text);
    }
    if fields.len() > MOST {
        errors.too_many(path, fields.len(), MOST);
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
        webhook(client, &at_client, errors);
    } else {
        errors.required(&at_client, "required when strategy is set to Webhook");
    }
    if versions.is_empty() {
        errors.required(&at_versions, "");
        return;
    }
    for (index, version) in versions.iter().enumerate() {
        let text = version.as_str().unwrap_or_default();
        let at = at_versions.index(index);
        if versions.iter().take(index).any(|known| known == version) {
            errors.invalid(&at, text, "duplicate version");
        }
        label(text, text, "", &at, errors);
    }
    if !versions.iter().any(|version| version == "v1" || version == "v1beta1") {
        errors.invalid(&at_versions, versions.to_vec(), "must include at least one of v1, v1beta1");
    }
}

fn webhook(client: &Value, path: &Path<'_>, errors: &mut Errors) {
    let (url, service) = (client.text("url"), client.look("service"));
    if url.is_empty() != service.is_object() {
        return errors.required(path, "exactly one of url or service is required");
    }
    if !url.is_empty() {
        if !url.starts_with("https://") {
            errors.invalid(
                &path.child("url"),
                url,
                "'https' is the only allowed URL scheme; desired format: https://host[/path]",
            );
        }
        return;
    }
    let at = path.child("service");
    for field in ["name", "namespace"] {
        if service.text(field).is_empty() {
            errors.required(&at.child(field), &format!("service {field} is required"));
        }
    }
    let text = service.text("path");
    if !text.is_empty() && !text.starts_with('/') {
        errors.invalid(&at.child("path"), text, "must start with a '/'");
    }
    if let Some(port) = service.int("port").filter(|port| !(1..=65535).contains(port)) {
        errors.invalid(&at.child("port"), port, "port is not valid: must be between 1 and 65535, inclusive");
    }
}

pub(super) fn status(crd: &Value, errors: &mut Errors) {
    let path = Path::root("status");
    all_names(crd.look("status.acceptedNames"), &path.child("acceptedNames"), errors);
    let at = path.child("storedVersions");
    let (stored, versions) = (crd.items("status.storedVersions"), crd.items("spec.versions"));
    if stored.is_empty() {
        return errors.invalid(&at, Value::Null, "must have at least one stored version");
    }
    if let Some(name) = super::storage(crd).filter(|name| !stored.iter().any(|known| known == name)) {
        errors.invalid(&at, stored.to_vec(), &format!("must have the storage version {name}"));
    }
    for (index, name) in stored.iter().enumerate() {
        if !versions.iter().any(|version| version.look("name") == name) {
            errors.invalid(&at.index(index), name.clone(), "must appear in spec.versions");
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
