//! The access reviews: what the question must say, and the authorizer's answer.

use std::sync::Arc;

use kedge_api::selector::{FieldSelector, FieldTerm, Selector, label_key_error, label_value_error};
use kedge_api::status::{Cause, Details};
use kedge_api::{Reason, Request, Status, User};
use serde_json::{Map, Value, json};

use super::{AUTHORIZATION, Reviewer, strings};
use crate::authz::{Attributes, Refusal, Selectors, What};
use crate::wire::set;

pub async fn of_self(reviewer: &Reviewer<'_>, request: &Request, object: &Map<String, Value>) -> Result<Value, Status> {
    let spec = object.get("spec").cloned().unwrap_or_default();
    let mut wrong = Vec::new();
    let kept = KEPT.map(|kept| kept.read(&spec));
    let attributes = attributes(&spec, &request.who, &kept, &mut wrong);
    validate_selectors(&spec, &mut wrong);
    bare(object, false, &mut wrong);
    verdict(reviewer, attributes, &kept, wrong).await
}

pub async fn of_other(
    reviewer: &Reviewer<'_>,
    request: &Request,
    object: &Map<String, Value>,
) -> Result<Value, Status> {
    let spec = object.get("spec").cloned().unwrap_or_default();
    let text = |key: &str| spec.get(key).and_then(Value::as_str).unwrap_or_default();
    let groups = strings(spec.get("groups"));
    let extra = spec.get("extra").and_then(Value::as_object).into_iter().flatten();
    let extra = extra.map(|(key, values)| (key.clone(), strings(Some(values)))).collect();
    let user =
        User { name: text("user").into(), uid: text("uid").into(), groups: groups.into(), extra: Arc::new(extra) };
    let mut wrong = Vec::new();
    let kept = KEPT.map(|kept| kept.read(&spec));
    let attributes = attributes(&spec, &user, &kept, &mut wrong);
    if user.name.is_empty() && user.groups.is_empty() {
        wrong.push(invalid("spec.user", "\"\"", "at least one of user or group must be specified"));
    }
    validate_selectors(&spec, &mut wrong);
    let namespace = request.target.namespace.as_str();
    bare(object, !namespace.is_empty(), &mut wrong);
    if let (Some(asked), false) = (attributes, namespace.is_empty()) {
        match asked.what {
            What::Path(_) => {
                let value = shown_path(spec.get("nonResourceAttributes").unwrap_or(&Value::Null));
                wrong.push(invalid("spec.nonResourceAttributes", &value, "disallowed on this kind of request"));
            }
            What::Resource if asked.namespace != namespace => {
                let value = format!("{:?}", asked.namespace);
                wrong.push(invalid("spec.resourceAttributes.namespace", &value, "must match metadata.namespace"));
            }
            What::Resource => {}
        }
    }
    verdict(reviewer, attributes, &kept, wrong).await
}

/// A question is no object: it has no name, and at most a namespace.
fn bare(object: &Map<String, Value>, namespaced: bool, wrong: &mut Vec<Cause>) {
    let Some(metadata) = object.get("metadata").and_then(Value::as_object) else { return };
    if metadata.keys().any(|key| !(namespaced && key == "namespace") && key != "managedFields") {
        let why = if namespaced { "must be empty except for namespace" } else { "must be empty" };
        wrong.push(invalid("metadata", &Value::from(metadata.clone()).to_string(), why));
    }
}

fn attributes<'a>(
    spec: &'a Value,
    user: &'a User,
    [fields, labels]: &'a [Read; 2],
    wrong: &mut Vec<Cause>,
) -> Option<Attributes<'a>> {
    let (resource, path) = (spec.get("resourceAttributes"), spec.get("nonResourceAttributes"));
    let text = |key: &str| resource.or(path).and_then(|a| a.get(key)).and_then(Value::as_str).unwrap_or_default();
    match (resource, path) {
        (Some(_), None) => Some(Attributes {
            version: if text("version").is_empty() { "*" } else { text("version") },
            subresource: text("subresource"),
            namespace: text("namespace"),
            name: text("name"),
            selectors: Selectors { fields: &fields.text, labels: &labels.text },
            ..Attributes::resource(user, text("verb"), text("group"), text("resource"))
        }),
        (None, Some(_)) => Some(Attributes::path(user, text("verb"), text("path"))),
        (Some(_), Some(path)) => {
            let why = "cannot be specified in combination with resourceAttributes";
            wrong.push(invalid("spec.nonResourceAttributes", &shown_path(path), why));
            None
        }
        (None, None) => {
            let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            wrong.push(invalid("spec.resourceAttributes", "null", why));
            None
        }
    }
}

/// One of the two selectors that a list or watch is kept to.
#[derive(Clone, Copy)]
struct Kept {
    name: &'static str,
    is_text: fn(&str) -> bool,
    /// A single requirement as it is written in a selector.
    written: fn(&Value) -> Option<String>,
    /// What is wrong with a requirement, at its path.
    validate: fn(&Value, &str, &mut Vec<Cause>),
}

const KEPT: [Kept; 2] = [
    Kept {
        name: "fieldSelector",
        is_text: |text| FieldSelector::parse(text).is_ok(),
        written: |one| {
            let [value] = strings(one.get("values")).try_into().ok()?;
            let equal = match text(one, "operator") {
                "In" => true,
                "NotIn" => false,
                _ => return None,
            };
            Some(FieldTerm { field: text(one, "key").to_owned(), equal, value }.text())
        },
        validate: |one, path, wrong| {
            if text(one, "key").is_empty() {
                wrong.push(required(&format!("{path}.key"), "must be specified"));
            }
            values_fit(one, path, wrong);
        },
    },
    Kept {
        name: "labelSelector",
        is_text: |text| Selector::parse(text).is_ok(),
        written: |one| {
            let (key, values) = (text(one, "key"), strings(one.get("values")).join(","));
            match text(one, "operator") {
                "In" => Some(format!("{key} in ({values})")),
                "NotIn" => Some(format!("{key} notin ({values})")),
                "Exists" => Some(key.to_owned()),
                "DoesNotExist" => Some(format!("!{key}")),
                _ => None,
            }
        },
        validate: |one, path, wrong| {
            values_fit(one, path, wrong);
            let key = text(one, "key");
            if let Some(why) = label_key_error(key) {
                wrong.push(invalid(&format!("{path}.key"), &format!("{key:?}"), &why));
            }
            for (at, value) in strings(one.get("values")).iter().enumerate() {
                if let Some(why) = label_value_error(value) {
                    wrong.push(invalid(&format!("{path}.values[{at}]"), &format!("{value:?}"), &why));
                }
            }
        },
    },
];

/// A selector as the authorities are told of it, and what is told the client if not all of it could be read: what is left out only makes
/// the question wider.
#[derive(Default)]
struct Read {
    text: String,
    failed: String,
}

impl Kept {
    fn read(self, spec: &Value) -> Read {
        let Some(selector) = spec.get("resourceAttributes").and_then(|resource| resource.get(self.name)) else {
            return Read::default();
        };
        let raw = text(selector, "rawSelector");
        let requirements = list(selector, "requirements");
        let terms: Vec<String> = requirements.iter().filter_map(self.written).collect();
        let (text, whole) = match requirements.len() {
            0 if (self.is_text)(raw) => (raw.to_owned(), true),
            0 => (String::new(), false),
            all => (terms.join(","), terms.len() == all),
        };
        let partly = if text.is_empty() { "" } else { "partially " };
        let failed = format!("spec.resourceAttributes.{} {partly}ignored due to parse error", self.name);
        Read { text, failed: if whole { String::new() } else { failed } }
    }
}

fn text<'a>(of: &'a Value, name: &str) -> &'a str {
    of.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(of: &'a Value, name: &str) -> &'a [Value] {
    of.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// An operator that is not known may have what values it likes: who asks may be newer.
fn values_fit(one: &Value, path: &str, wrong: &mut Vec<Cause>) {
    let (some, path) = (!list(one, "values").is_empty(), format!("{path}.values"));
    match text(one, "operator") {
        "In" | "NotIn" if !some => {
            wrong.push(required(&path, "must be specified when `operator` is 'In' or 'NotIn'"));
        }
        "Exists" | "DoesNotExist" if some => {
            let why = "Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            wrong.push(Cause { reason: "FieldValueForbidden".to_owned(), message: why.to_owned(), field: path });
        }
        _ => {}
    }
}

/// Selectors are given as text or as requirements, never both.
fn validate_selectors(spec: &Value, wrong: &mut Vec<Cause>) {
    let Some(resource) = spec.get("resourceAttributes") else { return };
    for kept in KEPT {
        let Some(selector) = resource.get(kept.name) else { continue };
        let (raw, requirements) = (text(selector, "rawSelector"), list(selector, "requirements"));
        let path = format!("spec.resourceAttributes.{}", kept.name);
        if !raw.is_empty() && !requirements.is_empty() {
            let why = "may not specified at the same time as requirements";
            wrong.push(invalid(&format!("{path}.rawSelector"), &format!("{raw:?}"), why));
        }
        if raw.is_empty() && requirements.is_empty() {
            let why = format!("when {path} is specified, requirements or rawSelector is required");
            wrong.push(required(&format!("{path}.requirements"), &why));
        }
        for (at, one) in requirements.iter().enumerate() {
            (kept.validate)(one, &format!("{path}.requirements[{at}]"), wrong);
        }
    }
}

fn shown_path(attributes: &Value) -> String {
    let text = |key: &str| attributes.get(key).and_then(Value::as_str).unwrap_or_default();
    format!("{{\"Path\":{:?},\"Verb\":{:?}}}", text("path"), text("verb"))
}

async fn verdict(
    reviewer: &Reviewer<'_>,
    attributes: Option<Attributes<'_>>,
    kept: &[Read; 2],
    wrong: Vec<Cause>,
) -> Result<Value, Status> {
    let Some(attributes) = attributes.filter(|_| wrong.is_empty()) else { return Err(refused(wrong)) };
    let decided = reviewer.authorizer.decide(&attributes).await;
    let mut status = json!({"allowed": decided.is_ok()});
    let refusal = match decided {
        Ok(why) => Refusal { why, ..Refusal::default() },
        Err(refusal) => refusal,
    };
    if refusal.denied {
        set(&mut status, "denied", true);
    }
    let failures = [&refusal.failed].into_iter().chain(kept.iter().map(|read| &read.failed));
    let failed = failures.filter(|text| !text.is_empty()).map(String::as_str).collect::<Vec<_>>().join("; ");
    for (field, text) in [("reason", refusal.why), ("evaluationError", failed)] {
        if !text.is_empty() {
            set(&mut status, field, text);
        }
    }
    Ok(status)
}

fn required(field: &str, why: &str) -> Cause {
    let message = format!("Required value: {why}");
    Cause { reason: "FieldValueRequired".to_owned(), message, field: field.to_owned() }
}

fn invalid(field: &str, value: &str, why: &str) -> Cause {
    let message = format!("Invalid value: {value}: {why}");
    Cause { reason: "FieldValueInvalid".to_owned(), message, field: field.to_owned() }
}

fn refused(causes: Vec<Cause>) -> Status {
    let texts: Vec<String> = causes.iter().map(|c| format!("{}: {}", c.field, c.message)).collect();
    let text = if let [one] = texts.as_slice() { one.clone() } else { format!("[{}]", texts.join(", ")) };
    let details = Details { group: AUTHORIZATION.to_owned(), causes, ..Details::default() };
    // Upstream's error names no kind.
    let message = format!(".{AUTHORIZATION} \"\" is invalid: {text}");
    Status { details: Some(Box::new(details)), ..Status::new(Reason::Invalid, message) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_about_one_thing_and_has_no_name() {
        let user = User::new("u", &[]);
        let told = |spec: Value, metadata: Value, namespaced: bool| -> Vec<String> {
            let mut wrong = Vec::new();
            attributes(&spec, &user, &KEPT.map(|kept| kept.read(&spec)), &mut wrong);
            validate_selectors(&spec, &mut wrong);
            bare(json!({"metadata": metadata}).as_object().unwrap(), namespaced, &mut wrong);
            wrong.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
        };
        let pods = json!({"verb": "list", "resource": "pods"});
        let with = |selector: Value| json!({"resourceAttributes": {"verb": "list", "resource": "pods", "labelSelector": selector}});
        assert_eq!(told(json!({"resourceAttributes": pods}), json!({}), false), Vec::<String>::new());
        assert_eq!(told(with(json!({"rawSelector": "a=b"})), json!({"namespace": "n"}), true), Vec::<String>::new());
        for (spec, metadata, want) in [
            (
                json!({"resourceAttributes": pods, "nonResourceAttributes": {"path": "/x"}}),
                json!({}),
                r#"spec.nonResourceAttributes: Invalid value: {"Path":"/x","Verb":""}: cannot be specified in combination with resourceAttributes"#,
            ),
            (
                json!({}),
                json!({}),
                "spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified",
            ),
            (
                json!({"resourceAttributes": pods}),
                json!({"name": "x"}),
                r#"metadata: Invalid value: {"name":"x"}: must be empty"#,
            ),
            (
                with(json!({})),
                json!({}),
                "spec.resourceAttributes.labelSelector.requirements: Required value: when spec.resourceAttributes.labelSelector is \
                 specified, requirements or rawSelector is required",
            ),
            (
                with(json!({"rawSelector": "a", "requirements": [{"key": "a", "operator": "Exists"}]})),
                json!({}),
                r#"spec.resourceAttributes.labelSelector.rawSelector: Invalid value: "a": may not specified at the same time as requirements"#,
            ),
        ] {
            assert_eq!(told(spec, metadata, false), [want]);
        }
        let requirements = json!([
            {"key": "", "operator": "In"},
            {"key": "a b", "operator": "Exists", "values": ["c d"]},
            {"key": "a", "operator": "Newer"},
        ]);
        let named = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric \
                     character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
                     '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
        let at = "spec.resourceAttributes.labelSelector.requirements";
        let all = told(with(json!({"requirements": requirements})), json!({}), false);
        assert_eq!(
            all.get(..4),
            Some(
                &[
                    format!("{at}[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"),
                    format!("{at}[0].key: Invalid value: \"\": name part must be non-empty"),
                    format!(
                        "{at}[1].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                    ),
                    format!("{at}[1].key: Invalid value: \"a b\": {named}"),
                ][..]
            )
        );
        assert_eq!(
            told(json!({"nonResourceAttributes": {"path": "/x"}}), json!({"name": "x", "namespace": "n"}), true),
            [r#"metadata: Invalid value: {"name":"x","namespace":"n"}: must be empty except for namespace"#]
        );
    }

    #[test]
    fn of_a_selector_counts_what_can_be_read() {
        let read = |at: usize, selector: Value| {
            let spec = json!({"resourceAttributes": {KEPT[at].name: selector}});
            let Read { text, failed } = KEPT[at].read(&spec);
            (text, failed)
        };
        let one =
            |key: &str, operator: &str, values: &[&str]| json!({"key": key, "operator": operator, "values": values});
        let many = |all: &[Value]| json!({ "requirements": all });
        let ignored = |what: &str| format!("spec.resourceAttributes.{what} due to parse error");
        for (at, selector, text, failed) in [
            (0, json!({"rawSelector": "a=b"}), "a=b", String::new()),
            (0, json!({"rawSelector": "a"}), "", ignored("fieldSelector ignored")),
            (0, many(&[one("a", "In", &["b,c"]), one("d", "NotIn", &["e"])]), "a=b\\,c,d!=e", String::new()),
            (
                0,
                many(&[one("a", "In", &["b"]), one("d", "In", &["e", "f"])]),
                "a=b",
                ignored("fieldSelector partially ignored"),
            ),
            (0, many(&[one("a", "Exists", &[])]), "", ignored("fieldSelector ignored")),
            (1, json!({"rawSelector": "a in (b"}), "", ignored("labelSelector ignored")),
            (1, many(&[one("a", "In", &["b", "c"]), one("d", "DoesNotExist", &[])]), "a in (b,c),!d", String::new()),
            (
                1,
                many(&[one("a", "Exists", &[]), one("d", "Newer", &[])]),
                "a",
                ignored("labelSelector partially ignored"),
            ),
        ] {
            assert_eq!(read(at, selector.clone()), (text.to_owned(), failed), "{selector}");
        }
    }
}
