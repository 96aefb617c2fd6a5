//! CertificateSigningRequest: someone asks for a certificate, someone approves, someone signs.

mod request;
mod update;
mod validate;

use std::borrow::Cow;

use kedge_api::resource::{Column, Subresource};
use kedge_api::{Resource, User};
use serde_json::{Value, json};

use super::{READ_WRITE, STATUS, cluster_resource, columns, workload};
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

pub(crate) use request::organizations;

const COLUMNS: &[Column] = &[
    columns::AGE,
    columns::text("SignerName", |o| o.text("spec.signerName").into()),
    columns::text("Requestor", |o| o.text("spec.username").into()),
    columns::text("RequestedDuration", |o| {
        o.int("spec.expirationSeconds").map_or_else(|| columns::or_none(""), columns::duration).into()
    }),
    columns::text("Condition", |o| condition(o).into()),
];

/// Whose word is needed, before anything is signed.
const APPROVAL: Subresource = Subresource { name: "approval", kind: "", group_version: None, verbs: READ_WRITE };

pub(crate) fn row() -> Row {
    let schema = "io.k8s.api.certificates.v1.CertificateSigningRequest";
    let (plural, singular) = ("certificatesigningrequests", "certificatesigningrequest");
    let base = cluster_resource("certificates.k8s.io", plural, singular, "CertificateSigningRequest", schema, COLUMNS);
    let resource = Resource {
        short_names: Cow::Borrowed(&["csr"]),
        subresources: &[APPROVAL, STATUS],
        selectable: &["spec.signerName"],
        ..base
    };
    let strategy = Strategy {
        // Any name does.
        name: |_| Vec::new(),
        status: true,
        default,
        stamp,
        prepare_create: |csr| csr.set("status", json!({})),
        prepare_update: |new, old| new.set("spec", old.look("spec").clone()),
        prepare_status: update::prepare_status,
        validate: validate::validate,
        validate_status: update::validate_status,
        ..Strategy::PLAIN
    };
    Row::new(resource, strategy)
}

/// The row as its approval sees it: conditions only.
pub(crate) fn approval(row: &Row) -> Row {
    let strategy = Strategy {
        prepare_status: update::prepare_approval,
        validate_status: update::validate_approval,
        ..row.strategy
    };
    Row::new(row.resource.clone(), strategy)
}

fn default(csr: &mut Value) {
    for field in ["spec", "status"] {
        csr.fill(field, json!({}));
    }
    workload::null_times(csr, "status.conditions", &["lastUpdateTime", "lastTransitionTime"]);
}

/// Who asks is whoever sends the request, whatever it says.
fn stamp(who: &User, csr: &mut Value) {
    for field in ["username", "uid", "groups", "extra"] {
        csr.cut(&format!("spec.{field}"));
    }
    csr.set("spec.username", &*who.name);
    if !who.uid.is_empty() {
        csr.set("spec.uid", &*who.uid);
    }
    if !who.groups.is_empty() {
        csr.set("spec.groups", who.groups.to_vec());
    }
    if !who.extra.is_empty() {
        csr.set("spec.extra", json!(&*who.extra));
    }
}

fn has(csr: &Value, kind: &str) -> bool {
    csr.items("status.conditions").iter().any(|c| c.text("type") == kind)
}

fn condition(csr: &Value) -> String {
    let verdict = ["Denied", "Approved"].into_iter().find(|kind| has(csr, kind)).unwrap_or("Pending");
    let failed = if has(csr, "Failed") { ",Failed" } else { "" };
    let issued = if csr.text("status.certificate").is_empty() { "" } else { ",Issued" };
    format!("{verdict}{failed}{issued}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_outweighs_an_approval() {
        let csr = |kinds: &[&str]| {
            let conditions: Vec<_> = kinds.iter().map(|kind| json!({"type": kind})).collect();
            json!({"status": {"conditions": conditions}})
        };
        assert_eq!(condition(&csr(&[])), "Pending");
        assert_eq!(condition(&csr(&["Approved", "Denied"])), "Denied");
        assert_eq!(condition(&csr(&["Approved", "Failed"])), "Approved,Failed");
    }

    #[test]
    fn nobody_asks_in_anothers_name() {
        let mut csr =
            json!({"spec": {"username": "fake", "groups": ["fake"], "uid": "fake", "extra": {"a": ["fake"]}}});
        stamp(&User::new("me", &["us"]), &mut csr);
        assert_eq!(csr, json!({"spec": {"username": "me", "groups": ["us"]}}));
    }
}
