//! ResourceClaim, and the template that one for each pod is made from.

use kedge_api::resource::{Column, known};
use kedge_api::{Key, Resource, Snapshot};
use serde_json::{Value, json};

use super::{GROUP, request, status};
use crate::errors::{Errors, Path};
use crate::golang;
use crate::kinds::{STATUS, columns, resource};
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

const COLUMNS: &[Column] = &[columns::text("State", |o| state(o).into()), columns::AGE];

/// Namespaces where devices may be used beside those that have them.
const ADMIN_LABEL: &str = "resource.kubernetes.io/admin-access";

pub(crate) fn row() -> Row {
    let schema = "io.k8s.api.resource.v1.ResourceClaim";
    let base = resource(GROUP, "resourceclaims", "resourceclaim", "ResourceClaim", schema, COLUMNS);
    let strategy = Strategy {
        status: true,
        returns_deleted: true,
        default,
        prepare_create: |claim| claim.set("status", json!({})),
        validate_create: |claim, errors| request::validate(claim.look("spec"), &Path::root("spec"), errors),
        validate_update: |new, old, errors| {
            if new.look("spec") != old.look("spec") {
                let shown = golang::show(new.look("spec"), "ResourceClaimSpec");
                errors.invalid_json(&Path::root("spec"), &shown, "field is immutable");
            }
        },
        validate_status: status::validate,
        validate_within: |snapshot, claim, errors| admit(snapshot, claim, "spec", errors),
        ..Strategy::PLAIN
    };
    Row::new(Resource { subresources: &[STATUS], ..base }, strategy)
}

pub(crate) fn template_row() -> Row {
    let schema = "io.k8s.api.resource.v1.ResourceClaimTemplate";
    let (plural, singular) = ("resourceclaimtemplates", "resourceclaimtemplate");
    let resource = resource(GROUP, plural, singular, "ResourceClaimTemplate", schema, &[columns::AGE]);
    let strategy = Strategy {
        returns_deleted: true,
        default: |template| {
            template.fill("spec.metadata", json!({}));
            template.fill("spec.spec", json!({}));
            request::default(template.slot("spec.spec"));
        },
        validate_create: validate_template,
        validate_update: |new, old, errors| {
            if new.look("spec") != old.look("spec") {
                let shown = golang::show(new.look("spec"), "ResourceClaimTemplateSpec");
                errors.invalid_json(&Path::root("spec"), &shown, "field is immutable");
            }
        },
        validate_within: |snapshot, template, errors| admit(snapshot, template, "spec.spec", errors),
        ..Strategy::PLAIN
    };
    Row::new(resource, strategy)
}

fn state(claim: &Value) -> String {
    let deleted = claim.has("metadata.deletionTimestamp");
    let allocated = claim.has("status.allocation");
    let states = [
        (deleted, "deleted"),
        (!allocated && !deleted, "pending"),
        (allocated, "allocated"),
        (allocated && !claim.items("status.reservedFor").is_empty(), "reserved"),
    ];
    states.iter().filter(|(is, _)| *is).map(|(_, name)| *name).collect::<Vec<_>>().join(",")
}

fn default(claim: &mut Value) {
    for field in ["spec", "status"] {
        claim.fill(field, json!({}));
    }
    request::default(claim.slot("spec"));
    if claim.has("status.allocation") {
        claim.fill("status.allocation.devices", json!({}));
        for result in claim.items_mut("status.allocation.devices.results") {
            for toleration in result.items_mut("tolerations") {
                toleration.fill_text("operator", "Equal");
            }
        }
    }
}

fn validate_template(template: &Value, errors: &mut Errors) {
    let spec = Path::root("spec");
    let meta = spec.child("metadata");
    let metadata = template.look("spec.metadata");
    crate::metadata::labels(metadata.look("labels"), &meta.child("labels"), errors);
    crate::metadata::annotations(metadata.look("annotations"), &meta.child("annotations"), errors);
    request::validate(template.look("spec.spec"), &spec.child("spec"), errors);
}

/// Administrators' access is for namespaces of administrators.
fn admit(snapshot: &Snapshot, new: &Value, at: &str, errors: &mut Errors) {
    let wanted = request::admin_accesses(new.look(at));
    if wanted.is_empty() {
        return;
    }
    let key = Key::new(known::NAMESPACES, "", new.text("metadata.namespace"));
    let labels = snapshot.get(&key).and_then(|namespace| namespace.meta.labels.clone()).unwrap_or_default();
    if labels.get(ADMIN_LABEL).map(String::as_str) == Some("true") {
        return;
    }
    let root = Path::root(at);
    let list = root.child("devices.requests");
    for at in wanted {
        let why =
            format!("admin access to devices requires the `{ADMIN_LABEL}: true` label on the containing namespace");
        errors.forbidden(&list.index(at).child("exactly.adminAccess"), &why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_says_how_far_it_is() {
        assert_eq!(state(&json!({})), "pending");
        assert_eq!(state(&json!({"status": {"allocation": {}}})), "allocated");
        let reserved =
            json!({"status": {"allocation": {}, "reservedFor": [{}]}, "metadata": {"deletionTimestamp": "x"}});
        assert_eq!(state(&reserved), "deleted,allocated,reserved");
    }

    #[test]
    fn a_refused_change_shows_all_of_the_specification() {
        let mut claim =
            json!({"spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c"}}]}}});
        default(&mut claim);
        assert_eq!(
            golang::show(claim.look("spec"), "ResourceClaimSpec"),
            r#"{"Devices":{"Requests":[{"Name":"r","Exactly":{"DeviceClassName":"c","Selectors":null,"AllocationMode":"ExactCount","Count":1,"AdminAccess":null,"Tolerations":null,"Capacity":null},"FirstAvailable":null}],"Constraints":null,"Config":null}}"#
        );
    }
}
