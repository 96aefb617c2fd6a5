//! The access reviews: what the question must say, and the authorizer's answer.

use std::sync::Arc;

use kedge_api::status::{Cause, Details};
use kedge_api::{Reason, Request, Status, User};
use serde_json::{Map, Value, json};

use super::{AUTHORIZATION, Reviewer, strings};
use crate::authz::{Attributes, Refusal, What};
use crate::wire::set;

pub async fn of_self(reviewer: &Reviewer<'_>, request: &Request, object: &Map<String, Value>) -> Result<Value, Status> {
    let spec = object.get("spec").cloned().unwrap_or_default();
    let mut wrong = Vec::new();
    let attributes = attributes(&spec, &request.who, &mut wrong);
    validate_selectors(&spec, &mut wrong);
    bare(object, false, &mut wrong);
    verdict(reviewer, attributes, wrong).await
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
    let attributes = attributes(&spec, &user, &mut wrong);
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
    verdict(reviewer, attributes, wrong).await
}

/// A question is no object: it has no name, and at most a namespace.
fn bare(object: &Map<String, Value>, namespaced: bool, wrong: &mut Vec<Cause>) {
    let Some(metadata) = object.get("metadata").and_then(Value::as_object) else { return };
    if metadata.keys().any(|key| !(namespaced && key == "namespace") && key != "managedFields") {
        let why = if namespaced { "must be empty except for namespace" } else { "must be empty" };
        wrong.push(invalid("metadata", &Value::from(metadata.clone()).to_string(), why));
    }
}

fn attributes<'a>(spec: &'a Value, user: &'a User, wrong: &mut Vec<Cause>) -> Option<Attributes<'a>> {
    let (resource, path) = (spec.get("resourceAttributes"), spec.get("nonResourceAttributes"));
    let text = |key: &str| resource.or(path).and_then(|a| a.get(key)).and_then(Value::as_str).unwrap_or_default();
    match (resource, path) {
        (Some(resource), None) => Some(Attributes {
            subresource: text("subresource"),
            namespace: text("namespace"),
            name: text("name"),
            field_selector: raw(resource, "fieldSelector"),
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

/// The text of a selector that restricts a list or watch.
fn raw<'a>(resource: &'a Value, name: &str) -> &'a str {
    let raw = resource.get(name).and_then(|selector| selector.get("rawSelector"));
    raw.and_then(Value::as_str).unwrap_or_default()
}

/// Selectors are given as text or as requirements, never both.
fn validate_selectors(spec: &Value, wrong: &mut Vec<Cause>) {
    let Some(resource) = spec.get("resourceAttributes") else { return };
    for name in ["fieldSelector", "labelSelector"] {
        let Some(selector) = resource.get(name) else { continue };
        let raw = raw(resource, name);
        let required = selector.get("requirements").and_then(Value::as_array).is_some_and(|list| !list.is_empty());
        let path = format!("spec.resourceAttributes.{name}");
        if !raw.is_empty() && required {
            let why = "may not specified at the same time as requirements";
            wrong.push(invalid(&format!("{path}.rawSelector"), &format!("{raw:?}"), why));
        }
        if raw.is_empty() && !required {
            let message = format!("Required value: when {path} is specified, requirements or rawSelector is required");
            wrong.push(Cause {
                reason: "FieldValueRequired".to_owned(),
                message,
                field: format!("{path}.requirements"),
            });
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
    for (field, text) in [("reason", refusal.why), ("evaluationError", refusal.failed)] {
        if !text.is_empty() {
            set(&mut status, field, text);
        }
    }
    Ok(status)
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
            attributes(&spec, &user, &mut wrong);
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
        assert_eq!(
            told(json!({"nonResourceAttributes": {"path": "/x"}}), json!({"name": "x", "namespace": "n"}), true),
            [r#"metadata: Invalid value: {"name":"x","namespace":"n"}: must be empty except for namespace"#]
        );
    }
}
