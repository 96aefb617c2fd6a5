//! ReplicaSet.

use std::borrow::Cow;

use kedge_api::Resource;
use kedge_api::resource::Column;
use serde_json::{Value, json};

use super::columns::{self, count};
use super::{SCALE, STATUS, resource, workload};
use crate::errors::{Errors, Path};
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::Fill as _;

const COLUMNS: &[Column] = &[
    columns::number("Desired", |o| count(o, "spec.replicas").into()),
    columns::number("Current", |o| count(o, "status.replicas").into()),
    columns::number("Ready", |o| count(o, "status.readyReplicas").into()),
    columns::AGE,
    columns::CONTAINERS,
    columns::IMAGES,
    columns::SELECTOR,
];

pub(crate) fn row() -> Row {
    let base = resource("apps", "replicasets", "replicaset", "ReplicaSet", "io.k8s.api.apps.v1.ReplicaSet", COLUMNS);
    let resource = Resource {
        short_names: Cow::Borrowed(&["rs"]),
        categories: Cow::Borrowed(&["all"]),
        subresources: &[SCALE, STATUS],
        ..base
    };
    let strategy = Strategy {
        default,
        prepare_create: |rs| rs.set("status", json!({"replicas": 0})),
        validate,
        validate_update: workload::same_selector,
        validate_status,
        warnings: workload::warnings_of_named,
        ..Strategy::SPEC
    };
    Row::new(resource, strategy)
}

fn default(rs: &mut Value) {
    workload::default_template(rs);
    rs.fill("spec.replicas", 1);
    rs.fill("status.replicas", 0);
    workload::null_times(rs, "status.conditions", &["lastTransitionTime"]);
}

fn validate(rs: &Value, errors: &mut Errors) {
    workload::counts(rs, &["spec.replicas", "spec.minReadySeconds"], errors);
    workload::selector(rs, "empty selector is invalid for deployment", errors);
    workload::template(rs, &["Always"], errors);
}

pub(crate) fn validate_status(new: &Value, _: &Value, errors: &mut Errors) {
    const COUNTS: &[&str] = &[
        "status.replicas",
        "status.fullyLabeledReplicas",
        "status.readyReplicas",
        "status.availableReplicas",
        "status.observedGeneration",
        "status.terminatingReplicas",
    ];
    workload::counts(new, COUNTS, errors);
    let replicas = count(new, "status.replicas");
    for field in ["status.fullyLabeledReplicas", "status.readyReplicas", "status.availableReplicas"] {
        let number = count(new, field);
        if number > replicas {
            errors.invalid(&Path::root(field), number, "cannot be greater than status.replicas");
        }
    }
    let available = count(new, "status.availableReplicas");
    if available > count(new, "status.readyReplicas") {
        errors.invalid(&Path::root("status.availableReplicas"), available, "cannot be greater than readyReplicas");
    }
}
