//! The question that a webhook is asked, and what its answer means.

use base64::Engine as _;
use kedge_api::status::{Cause, Details};
use kedge_api::{Reason, Resource, Status, Verb};
use serde_json::{Value, json};

use super::Failure;
use crate::admission::matching::Asked;
use crate::admission::{Operation, Writer};
use crate::errors::{internal, quote};
use crate::notes;
use crate::patch::json as patching;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};
use crate::verbs::incoming::{self, Expected, Strictness};

/// What an answer that lets the object pass says beside.
#[derive(Debug, Default)]
pub(super) struct Response {
    pub(super) patch: Option<Value>,
    pub(super) warnings: Vec<String>,
}

/// What a webhook wants noted in the audit log, under its own name.
fn note(name: &str, response: &Value) {
    for (key, value) in response.entries("auditAnnotations") {
        if let Some(text) = value.as_str() {
            notes::note(format!("{name}/{key}"), || text.to_owned());
        }
    }
}

pub(super) fn wrap(version: &str, request: Value) -> Value {
    json!({"kind": "AdmissionReview", "apiVersion": format!("admission.k8s.io/{version}"), "request": request})
}

pub(super) fn request(writer: &Writer<'_>, asked: &Asked<'_>, uid: &str) -> Value {
    let mut request = about(writer, asked);
    request.set("uid", uid);
    request.set("object", json!(asked.object));
    request.set("oldObject", json!(asked.old));
    request
}

/// The request without the objects: what policies see of it, too.
pub(in crate::admission) fn about(writer: &Writer<'_>, asked: &Asked<'_>) -> Value {
    let attributes = asked.attributes;
    let kind = |kind: Expected<'_>| json!({"group": kind.group, "version": kind.version, "kind": kind.kind});
    let plural = |resource: &Resource| {
        let id = &resource.id;
        json!({"group": id.group.as_str(), "version": resource.version, "resource": id.resource.as_str()})
    };
    let own = attributes.kind.unwrap_or_else(|| Expected::of(attributes.resource));
    let mut user = json!({"username": &*writer.who.name, "groups": &*writer.who.groups});
    if !writer.who.uid.is_empty() {
        user.set("uid", &*writer.who.uid);
    }
    if !writer.who.extra.is_empty() {
        user.set("extra", json!(&*writer.who.extra));
    }
    let mut request = json!({
        "kind": kind(asked.kind()), "resource": plural(&asked.row.resource),
        "requestKind": kind(own), "requestResource": plural(attributes.resource),
        "operation": attributes.operation.as_str(), "userInfo": user, "dryRun": writer.dry_run,
        "options": options(writer, attributes.operation),
    });
    let (name, namespace) = (asked.name(), asked.namespace());
    let subresource = attributes.subresource;
    let parts =
        [("name", name), ("namespace", namespace), ("subResource", subresource), ("requestSubResource", subresource)];
    for (field, value) in parts.into_iter().filter(|(_, value)| !value.is_empty()) {
        request.set(field, value);
    }
    request
}

fn options(writer: &Writer<'_>, operation: Operation) -> Value {
    let kind = match (writer.verb, operation) {
        // How a connection is opened is the object itself.
        (_, Operation::Connect) => return Value::Null,
        (Verb::Patch, _) => "PatchOptions",
        (_, Operation::Create) => "CreateOptions",
        (_, Operation::Update) => "UpdateOptions",
        (_, Operation::Delete) => "DeleteOptions",
    };
    let mut options = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
    if writer.dry_run {
        options.set("dryRun", json!(["All"]));
    }
    if operation != Operation::Delete {
        let texts =
            [("fieldManager", &writer.options.field_manager), ("fieldValidation", &writer.options.field_validation)];
        for (field, value) in texts {
            if let Some(value) = value {
                options.set(field, value.as_str());
            }
        }
    }
    options
}

/// Reads the review that a webhook called `name` answered.
pub(super) fn response(
    name: &str,
    version: &str,
    uid: &str,
    review: &Value,
    mutating: bool,
) -> Result<Response, Failure> {
    let invalid = |why: String| Failure::Broken(format!("received invalid webhook response: {why}"));
    let response = review.look("response");
    if response.is_null() {
        return Err(invalid("webhook response was absent".to_owned()));
    }
    // The older version asked for neither.
    if version == "v1" {
        let expected = "admission.k8s.io/v1, Kind=AdmissionReview";
        let got = format!("{}, Kind={}", review.text("apiVersion"), review.text("kind"));
        if got != expected {
            return Err(invalid(format!("expected webhook response of {expected}, got {got}")));
        }
        let got = response.text("uid");
        if got != uid {
            return Err(invalid(format!("expected response.uid={}, got {}", quote(uid), quote(got))));
        }
    }
    note(name, response);
    if !response.flag("allowed") {
        return Err(Failure::Refused(denied(name, response.look("status"))));
    }
    let warnings = response.items("warnings").iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let (patch, kind) = (response.text("patch"), response.text("patchType"));
    let wrong = match (mutating, patch, kind) {
        (_, "", "") => return Ok(Response { patch: None, warnings }),
        (true, _, "JSONPatch") if !patch.is_empty() => None,
        (false, _, _) => Some("validating webhook may not return response.patch".to_owned()),
        (true, "", _) => Some("webhook returned response.patchType but not response.patch".to_owned()),
        (true, _, "") if version == "v1" => {
            Some("webhook returned response.patch but not response.patchType".to_owned())
        }
        (true, _, "") => None,
        (true, _, other) => Some(format!("webhook returned invalid response.patchType of {}", quote(other))),
    };
    if let Some(why) = wrong {
        return Err(invalid(why));
    }
    let bytes = base64::engine::general_purpose::STANDARD.decode(patch).map_err(|e| invalid(e.to_string()))?;
    let patch = serde_json::from_slice(&bytes).map_err(|e| Failure::Refused(internal(e.to_string())))?;
    Ok(Response { patch: Some(patch), warnings })
}

/// A refusal in the webhook's words, with its code and reason where it gives them.
fn denied(name: &str, status: &Value) -> Status {
    let code = status.int("code").and_then(|code| u16::try_from(code).ok()).unwrap_or(0).max(400);
    let by = format!("admission webhook {} denied the request", quote(name));
    let (message, reason) = (status.text("message"), status.text("reason"));
    let message = match (message, reason) {
        ("", "") => format!("{by} without explanation"),
        ("", reason) => format!("{by}: {reason}"),
        (message, _) => format!("{by}: {message}"),
    };
    let known = Reason::NAMED.iter().copied().find(|known| format!("{known:?}") == reason && known.code() == code);
    let details = status.look("details");
    let causes = details.items("causes").iter().map(|cause| Cause {
        reason: cause.text("reason").to_owned(),
        message: cause.text("message").to_owned(),
        field: cause.text("field").to_owned(),
    });
    let details = details.is_object().then(|| {
        Box::new(Details {
            name: details.text("name").to_owned(),
            group: details.text("group").to_owned(),
            kind: details.text("kind").to_owned(),
            uid: details.text("uid").to_owned(),
            causes: causes.collect(),
            retry_after_seconds: details.int("retryAfterSeconds").and_then(|s| u32::try_from(s).ok()),
            ..Details::default()
        })
    });
    Status { reason: known.unwrap_or(Reason::Plain(code)), message, details }
}

/// What a patch makes of an object that was `shown`.
pub(in crate::admission) fn patched(own: &Row, shown: &Asked<'_>, patch: &Value) -> Result<Value, Status> {
    let object = shown.object.clone().unwrap_or_default();
    let patched = patching::apply(object, patch).map_err(|status| internal(status.message))?;
    changed(own, shown, patched)
}

/// What was made of an object that was `shown`: again one of its kind, defaulted, in the form that the rules of the request's `own` row see.
pub(in crate::admission) fn changed(own: &Row, shown: &Asked<'_>, made: Value) -> Result<Value, Status> {
    let failed = |status: Status| internal(status.message);
    if let Some(kind) = shown.attributes.kind {
        return Ok(incoming::conform(made, Vec::new(), &kind, Strictness::Ignore).map_err(failed)?.value);
    }
    let mut value = incoming::conform_to(shown.row, made, Vec::new(), Strictness::Ignore).map_err(failed)?.value;
    incoming::store_form(shown.row, &mut value);
    (shown.row.strategy.default)(&mut value);
    if let Some(custom) = &own.custom {
        custom.convert_to(&own.resource, &mut value)?;
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(review: Value, mutating: bool) -> Result<Response, Result<Status, String>> {
        response("a.example.com", "v1", "u", &review, mutating).map_err(|failure| match failure {
            Failure::Refused(status) => Ok(status),
            Failure::Broken(why) => Err(why),
        })
    }

    fn answer(response: Value) -> Value {
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
    }

    #[test]
    fn answers_are_read_and_faults_in_them_told() {
        let patch = base64::engine::general_purpose::STANDARD.encode(r#"[{"op":"remove","path":"/a"}]"#);
        let fine =
            answer(json!({"uid": "u", "allowed": true, "patch": patch, "patchType": "JSONPatch", "warnings": ["w"]}));
        let read_well = read(fine.clone(), true).unwrap();
        assert_eq!(read_well.patch, Some(json!([{"op": "remove", "path": "/a"}])));
        assert_eq!(read_well.warnings, ["w"]);
        for (review, mutating, why) in [
            (fine, false, "validating webhook may not return response.patch"),
            (json!({}), true, "webhook response was absent"),
            (
                json!({"kind": "X", "apiVersion": "v1", "response": {}}),
                true,
                "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got v1, Kind=X",
            ),
            (answer(json!({"uid": "v"})), true, "expected response.uid=\"u\", got \"v\""),
            (
                answer(json!({"uid": "u", "allowed": true, "patch": "W10="})),
                true,
                "webhook returned response.patch but not response.patchType",
            ),
        ] {
            let said = read(review, mutating).unwrap_err().unwrap_err();
            assert_eq!(said, format!("received invalid webhook response: {why}"));
        }
    }

    #[test]
    fn refusals_keep_the_webhooks_words() {
        for (status, code, reason, message) in [
            (json!(null), 400, json!(null), " without explanation"),
            (json!({"message": "no"}), 400, json!(null), ": no"),
            (json!({"code": 403, "reason": "Forbidden", "message": "no"}), 403, json!("Forbidden"), ": no"),
            (json!({"code": 418, "reason": "Teapot"}), 418, json!(null), ": Teapot"),
            (json!({"code": 200}), 400, json!(null), " without explanation"),
        ] {
            let refused = read(answer(json!({"uid": "u", "status": status})), false).unwrap_err().unwrap().to_value();
            assert_eq!((&refused["code"], &refused["reason"]), (&json!(code), &reason));
            let whole = format!("admission webhook \"a.example.com\" denied the request{message}");
            assert_eq!(refused["message"], whole.as_str());
        }
    }
}
