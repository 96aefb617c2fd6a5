//! ReplicationController: the older form of ReplicaSet.

use std::borrow::Cow;

use kedge_api::Resource;
use kedge_api::resource::Column;
use serde_json::{Value, json};

use super::columns::{self, count};
use super::{SCALE, STATUS, replica_set, resource, workload};
use crate::errors::{Errors, Path};
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

const COLUMNS: &[Column] = &[
    columns::number("Desired", |o| count(o, "spec.replicas").into()),
    columns::number("Current", |o| count(o, "status.replicas").into()),
    columns::number("Ready", |o| count(o, "status.readyReplicas").into()),
    columns::AGE,
    columns::CONTAINERS,
    columns::IMAGES,
    columns::wide("Selector", |o| columns::labels(o.look("spec.selector")).into()),
];

pub(crate) fn row() -> Row {
    let schema = "io.k8s.api.core.v1.ReplicationController";
    let base =
        resource("", "replicationcontrollers", "replicationcontroller", "ReplicationController", schema, COLUMNS);
    let resource = Resource {
        short_names: Cow::Borrowed(&["rc"]),
        categories: Cow::Borrowed(&["all"]),
        subresources: &[SCALE, STATUS],
        selectable: &["status.replicas"],
        ..base
    };
    let strategy = Strategy {
        orphans: true,
        default,
        prepare_create: |rc| rc.set("status", json!({"replicas": 0})),
        validate,
        validate_status: replica_set::validate_status,
        // Upstream takes the two templates for one another: on a change it warns of the old one.
        warnings: |new, old| match old {
            Some(old) => workload::warnings(old, Some(new)),
            None => workload::warnings_of_named(new, None),
        },
        ..Strategy::SPEC
    };
    Row::new(resource, strategy)
}

/// Selector and labels follow those of the template.
fn default(rc: &mut Value) {
    rc.fill("spec", json!({}));
    if rc.has("spec.template") {
        let labels = rc.look("spec.template.metadata.labels").clone();
        if rc.entries("spec.template.metadata.labels").count() > 0 {
            for path in ["spec.selector", "metadata.labels"] {
                if rc.entries(path).count() == 0 {
                    rc.set(path, labels.clone());
                }
            }
        }
        workload::default_pods(rc.slot("spec.template"));
    }
    rc.fill("spec.replicas", 1);
    rc.fill("status.replicas", 0);
    workload::null_times(rc, "status.conditions", &["lastTransitionTime"]);
}

fn validate(rc: &Value, errors: &mut Errors) {
    workload::counts(rc, &["spec.minReadySeconds"], errors);
    let selector = rc.entries("spec.selector");
    if rc.entries("spec.selector").count() == 0 {
        errors.required(&Path::root("spec.selector"), "");
    }
    workload::counts(rc, &["spec.replicas"], errors);
    let path = Path::root("spec.template");
    let template = rc.look("spec.template");
    if template.is_null() {
        errors.required(&path, "");
        return;
    }
    let labels = template.look("metadata.labels");
    let mut selector = selector;
    if !selector.all(|(key, value)| labels.get(key) == Some(value)) {
        let meta = path.child("metadata");
        errors.invalid(&meta.child("labels"), labels.clone(), "`selector` does not match template `labels`");
    }
    workload::pod_template(template, &path, errors);
    let spec = path.child("spec");
    let policy = template.text("spec.restartPolicy");
    if policy != "Always" {
        errors.not_supported(&spec.child("restartPolicy"), policy, &["Always"]);
    }
    if template.has("spec.activeDeadlineSeconds") {
        let why = "activeDeadlineSeconds in ReplicationController is not Supported";
        errors.forbidden(&spec.child("activeDeadlineSeconds"), why);
    }
}
