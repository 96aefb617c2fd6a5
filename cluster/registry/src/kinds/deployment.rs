//! Deployment.

use std::borrow::Cow;

use kedge_api::Resource;
use kedge_api::resource::Column;
use serde_json::{Value, json};

use super::columns::{self, count};
use super::{SCALE, STATUS, resource, workload};
use crate::errors::{Errors, Path};
use crate::golang;
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

const COLUMNS: &[Column] = &[
    columns::text("Ready", |o| format!("{}/{}", count(o, "status.readyReplicas"), count(o, "spec.replicas")).into()),
    columns::text("Up-to-date", |o| count(o, "status.updatedReplicas").into()),
    columns::text("Available", |o| count(o, "status.availableReplicas").into()),
    columns::AGE,
    columns::CONTAINERS,
    columns::IMAGES,
    columns::SELECTOR,
];

pub(crate) fn row() -> Row {
    let base = resource("apps", "deployments", "deployment", "Deployment", "io.k8s.api.apps.v1.Deployment", COLUMNS);
    let resource = Resource {
        short_names: Cow::Borrowed(&["deploy"]),
        categories: Cow::Borrowed(&["all"]),
        subresources: &[SCALE, STATUS],
        ..base
    };
    let strategy = Strategy {
        counts_annotations: true,
        default,
        prepare_create: |d| d.set("status", json!({})),
        prepare_status,
        validate,
        validate_update: workload::same_selector,
        validate_status,
        // Its replica sets get its annotations: they are a change as well.
        warnings: |new, old| match old {
            Some(old) if new.look("metadata.annotations") != old.look("metadata.annotations") => {
                workload::warnings(new, None)
            }
            old => workload::warnings_of_named(new, old),
        },
        status_resets: &["spec", "metadata.labels"],
        ..Strategy::SPEC
    };
    Row::new(resource, strategy)
}

fn default(deployment: &mut Value) {
    workload::default_template(deployment);
    deployment.fill("spec.replicas", 1);
    deployment.fill("spec.strategy", json!({}));
    deployment.fill_text("spec.strategy.type", "RollingUpdate");
    if deployment.text("spec.strategy.type") == "RollingUpdate" {
        deployment.fill("spec.strategy.rollingUpdate.maxUnavailable", "25%");
        deployment.fill("spec.strategy.rollingUpdate.maxSurge", "25%");
    }
    deployment.fill("spec.revisionHistoryLimit", 10);
    deployment.fill("spec.progressDeadlineSeconds", 600);
    deployment.fill("status", json!({}));
    workload::null_times(deployment, "status.conditions", &["lastUpdateTime", "lastTransitionTime"]);
}

fn prepare_status(new: &mut Value, old: &Value) {
    match old.look("metadata.labels") {
        Value::Null => {
            new.cut("metadata.labels");
        }
        labels => new.set("metadata.labels", labels.clone()),
    }
}

fn validate(deployment: &Value, errors: &mut Errors) {
    workload::counts(deployment, &["spec.replicas"], errors);
    workload::selector(deployment, "empty selector is invalid for deployment", errors);
    workload::template(deployment, &["Always"], errors);
    strategy(deployment.look("spec.strategy"), errors);
    workload::counts(
        deployment,
        &["spec.minReadySeconds", "spec.revisionHistoryLimit", "spec.progressDeadlineSeconds"],
        errors,
    );
    let (deadline, ready) = (deployment.int("spec.progressDeadlineSeconds"), count(deployment, "spec.minReadySeconds"));
    if let Some(deadline) = deadline.filter(|d| *d <= ready) {
        errors.invalid(&Path::root("spec.progressDeadlineSeconds"), deadline, "must be greater than minReadySeconds");
    }
}

fn strategy(strategy: &Value, errors: &mut Errors) {
    let path = Path::root("spec.strategy");
    let rolling = strategy.look("rollingUpdate");
    let here = path.child("rollingUpdate");
    match strategy.text("type") {
        "Recreate" => {
            if !rolling.is_null() {
                errors.forbidden(&here, "may not be specified when strategy `type` is 'Recreate'");
            }
        }
        "RollingUpdate" => {
            let (unavailable, surge) = (rolling.look("maxUnavailable"), rolling.look("maxSurge"));
            workload::int_or_percent(unavailable, &here.child("maxUnavailable"), errors);
            workload::int_or_percent(surge, &here.child("maxSurge"), errors);
            if workload::is_zero(unavailable) && workload::is_zero(surge) {
                errors.invalid(&here.child("maxUnavailable"), unavailable.clone(), "may not be 0 when `maxSurge` is 0");
            }
            workload::not_over_hundred(unavailable, &here.child("maxUnavailable"), errors);
        }
        _ => {
            let shown = golang::show(strategy, "RollingStrategy");
            errors.not_supported_json(&path, &shown, &["Recreate", "RollingUpdate"]);
        }
    }
}

fn validate_status(new: &Value, old: &Value, errors: &mut Errors) {
    const COUNTS: &[&str] = &[
        "status.observedGeneration",
        "status.replicas",
        "status.updatedReplicas",
        "status.readyReplicas",
        "status.availableReplicas",
        "status.unavailableReplicas",
        "status.terminatingReplicas",
        "status.collisionCount",
    ];
    workload::counts(new, COUNTS, errors);
    let replicas = count(new, "status.replicas");
    for field in ["status.updatedReplicas", "status.readyReplicas", "status.availableReplicas"] {
        let number = count(new, field);
        if number > replicas {
            errors.invalid(&Path::root(field), number, "cannot be greater than status.replicas");
        }
    }
    let available = count(new, "status.availableReplicas");
    if available > count(new, "status.readyReplicas") {
        errors.invalid(&Path::root("status.availableReplicas"), available, "cannot be greater than readyReplicas");
    }
    collisions(new, old, errors);
}

/// The count of hash collisions only grows.
pub(crate) fn collisions(new: &Value, old: &Value, errors: &mut Errors) {
    let [now, before] = [new, old].map(|object| object.int("status.collisionCount"));
    if before.is_some() && now < before {
        errors.invalid(&Path::root("status.collisionCount"), now.unwrap_or(0), "cannot be decremented");
    }
}
