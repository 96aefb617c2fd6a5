//! The access reviews: what the question must say, and the authorizer's answer.

use kedge_api::status::{Cause, Details};
use kedge_api::{Reason, Request, Status, User};
use serde_json::{Map, Value, json};

use super::{AUTHORIZATION, Reviewer, strings};
use crate::authz::{Attributes, What};

pub fn of_self(reviewer: &Reviewer<'_>, request: &Request, object: &mut Map<String, Value>) -> Result<Value, Status> {
    let spec = object.get("spec").cloned().unwrap_or_default();
    let mut wrong = Vec::new();
    let attributes = attributes(&spec, &request.who, &mut wrong);
    verdict(reviewer, attributes, wrong)
}

pub fn of_other(reviewer: &Reviewer<'_>, request: &Request, object: &mut Map<String, Value>) -> Result<Value, Status> {
    let spec = object.get("spec").cloned().unwrap_or_default();
    let text = |key: &str| spec.get(key).and_then(Value::as_str).unwrap_or_default();
    let groups = strings(spec.get("groups"));
    let user = User { uid: text("uid").into(), groups: groups.into(), ..User::new(text("user"), &[]) };
    let mut wrong = Vec::new();
    let attributes = attributes(&spec, &user, &mut wrong);
    if user.name.is_empty() && user.groups.is_empty() {
        wrong.push(invalid("spec.user", "\"\"", "at least one of user or group must be specified"));
    }
    let namespace = request.target.namespace.as_str();
    if let (Some(asked), false) = (attributes, namespace.is_empty()) {
        match asked.what {
            What::Path(path) => {
                let value = format!("{{\"Path\":{path:?},\"Verb\":{:?}}}", asked.verb);
                wrong.push(invalid("spec.nonResourceAttributes", &value, "disallowed on this kind of request"));
            }
            What::Resource if asked.namespace != namespace => {
                let value = format!("{:?}", asked.namespace);
                wrong.push(invalid("spec.resourceAttributes.namespace", &value, "must match metadata.namespace"));
            }
            What::Resource => {}
        }
    }
    verdict(reviewer, attributes, wrong)
}

fn attributes<'a>(spec: &'a Value, user: &'a User, wrong: &mut Vec<Cause>) -> Option<Attributes<'a>> {
    let (resource, path) = (spec.get("resourceAttributes"), spec.get("nonResourceAttributes"));
    let text = |key: &str| resource.or(path).and_then(|a| a.get(key)).and_then(Value::as_str).unwrap_or_default();
    match (resource, path) {
        (Some(_), None) => Some(Attributes {
            subresource: text("subresource"),
            namespace: text("namespace"),
            name: text("name"),
            ..Attributes::resource(user, text("verb"), text("group"), text("resource"))
        }),
        (None, Some(_)) => Some(Attributes::path(user, text("verb"), text("path"))),
        (None, None) | (Some(_), Some(_)) => {
            let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            wrong.push(invalid("spec.resourceAttributes", "null", why));
            None
        }
    }
}

fn verdict(reviewer: &Reviewer<'_>, attributes: Option<Attributes<'_>>, wrong: Vec<Cause>) -> Result<Value, Status> {
    let Some(attributes) = attributes.filter(|_| wrong.is_empty()) else { return Err(refused(wrong)) };
    let (allowed, why) = match reviewer.authorizer.decide(&attributes) {
        Ok(why) => (true, why),
        Err(why) => (false, why),
    };
    Ok(if why.is_empty() { json!({"allowed": allowed}) } else { json!({"allowed": allowed, "reason": why}) })
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

/// Leaves empty texts and lists out, as upstream's encoder does.
pub fn prune(spec: &mut Map<String, Value>) {
    spec.retain(|_, value| match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => {
            prune(members);
            true
        }
        Value::Bool(_) | Value::Number(_) => true,
    });
}
