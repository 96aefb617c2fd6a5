//! DaemonSet.

use std::borrow::Cow;

use kedge_api::Resource;
use kedge_api::resource::Column;
use serde_json::{Value, json};

use super::columns::{self, count};
use super::pod::affinity;
use super::{STATUS, deployment, resource, workload};
use crate::errors::{Errors, Path};
use crate::golang;
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

const COLUMNS: &[Column] = &[
    columns::number("Desired", |o| count(o, "status.desiredNumberScheduled").into()),
    columns::number("Current", |o| count(o, "status.currentNumberScheduled").into()),
    columns::number("Ready", |o| count(o, "status.numberReady").into()),
    columns::number("Up-to-date", |o| count(o, "status.updatedNumberScheduled").into()),
    columns::number("Available", |o| count(o, "status.numberAvailable").into()),
    columns::text("Node Selector", |o| columns::labels(o.look("spec.template.spec.nodeSelector")).into()),
    columns::AGE,
    columns::CONTAINERS,
    columns::IMAGES,
    columns::SELECTOR,
];

/// Counts changes of the template. A field of the first API version, carried on as an annotation.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

pub(crate) fn row() -> Row {
    let base = resource("apps", "daemonsets", "daemonset", "DaemonSet", "io.k8s.api.apps.v1.DaemonSet", COLUMNS);
    let resource = Resource {
        short_names: Cow::Borrowed(&["ds"]),
        categories: Cow::Borrowed(&["all"]),
        subresources: &[STATUS],
        made_annotations: &[TEMPLATE_GENERATION],
        ..base
    };
    let strategy = Strategy {
        default,
        prepare_create,
        prepare_update,
        prepare_status: |new, old| set_template_generation(new, template_generation(old)),
        validate_create: validate,
        // In this order, unlike other workloads.
        validate_update: |new, old, errors| {
            workload::same_selector(new, old, errors);
            validate(new, errors);
        },
        validate_status,
        warnings: |new, old| match old {
            Some(old) if new.look("spec.template") == old.look("spec.template") => Vec::new(),
            _ => workload::warnings(new, None),
        },
        ..Strategy::SPEC
    };
    Row::new(resource, strategy)
}

const STATUS_COUNTS: &[&str] =
    &["currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady"];

fn default(set: &mut Value) {
    workload::default_template(set);
    // A selector that is absent is an empty one in upstream's internal type.
    set.fill_text("spec.updateStrategy.type", "RollingUpdate");
    if set.text("spec.updateStrategy.type") == "RollingUpdate" {
        set.fill("spec.updateStrategy.rollingUpdate.maxUnavailable", 1);
        set.fill("spec.updateStrategy.rollingUpdate.maxSurge", 0);
    }
    set.fill("spec.revisionHistoryLimit", 10);
    workload::null_times(set, "status.conditions", &["lastTransitionTime"]);
    for field in STATUS_COUNTS {
        set.fill(&format!("status.{field}"), 0);
    }
}

fn template_generation(set: &Value) -> i64 {
    let found = set.look("metadata.annotations").get(TEMPLATE_GENERATION);
    found.and_then(Value::as_str).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn set_template_generation(set: &mut Value, number: i64) {
    let annotations = set.slot("metadata.annotations");
    if !annotations.is_object() {
        *annotations = json!({});
    }
    if let Some(map) = annotations.map_mut() {
        map.insert(TEMPLATE_GENERATION.into(), number.to_string().into());
    }
}

fn prepare_create(set: &mut Value) {
    set_template_generation(set, template_generation(set).max(1));
    let counts: serde_json::Map<String, Value> = STATUS_COUNTS.iter().map(|c| ((*c).to_owned(), json!(0))).collect();
    set.set("status", counts);
}

fn prepare_update(new: &mut Value, old: &Value) {
    let changed = new.look("spec.template") != old.look("spec.template");
    set_template_generation(new, template_generation(old) + i64::from(changed));
}

fn validate(set: &Value, errors: &mut Errors) {
    let selector = set.look("spec.selector");
    let path = Path::root("spec.selector");
    let parts = selector.entries("matchLabels").count() + selector.items("matchExpressions").len();
    affinity::tolerant_label_selector(selector, &path, errors);
    workload::chosen_if_read(set, errors);
    if selector.is_object() && parts == 0 {
        errors.invalid_json(&path, &workload::shown(selector), "empty selector is invalid for daemonset");
    }
    let template = Path::root("spec.template");
    workload::pod_template(set.look("spec.template"), &template, errors);
    let restart = set.text("spec.template.spec.restartPolicy");
    if restart != "Always" {
        errors.not_supported(&template.child("spec.restartPolicy"), restart, &["Always"]);
    }
    if set.has("spec.template.spec.activeDeadlineSeconds") {
        let why = "activeDeadlineSeconds in DaemonSet is not Supported";
        errors.forbidden(&template.child("spec.activeDeadlineSeconds"), why);
    }
    workload::counts(set, &["spec.minReadySeconds"], errors);
    strategy(set.look("spec.updateStrategy"), errors);
    workload::counts(set, &["spec.revisionHistoryLimit"], errors);
}

fn strategy(strategy: &Value, errors: &mut Errors) {
    let path = Path::root("spec.updateStrategy");
    let here = path.child("rollingUpdate");
    let rolling = strategy.look("rollingUpdate");
    match strategy.text("type") {
        "OnDelete" => {}
        "RollingUpdate" => {
            let (unavailable, surge) = (rolling.look("maxUnavailable"), rolling.look("maxSurge"));
            workload::int_or_percent(unavailable, &here.child("maxUnavailable"), errors);
            workload::int_or_percent(surge, &here.child("maxSurge"), errors);
            workload::not_over_hundred(unavailable, &here.child("maxUnavailable"), errors);
            workload::not_over_hundred(surge, &here.child("maxSurge"), errors);
            match (workload::is_zero(unavailable), workload::is_zero(surge)) {
                (true, true) => errors.required(&here.child("maxUnavailable"), "cannot be 0 when maxSurge is 0"),
                (false, false) => {
                    let why = "may not be set when maxUnavailable is non-zero";
                    errors.invalid(&here.child("maxSurge"), surge.clone(), why);
                }
                _ => {}
            }
        }
        _ => {
            let shown = golang::show(strategy, "RollingStrategy");
            errors.not_supported_json(&path, &shown, &["RollingUpdate", "OnDelete"]);
        }
    }
}

fn validate_status(new: &Value, old: &Value, errors: &mut Errors) {
    const COUNTS: &[&str] = &[
        "status.currentNumberScheduled",
        "status.numberMisscheduled",
        "status.desiredNumberScheduled",
        "status.numberReady",
        "status.observedGeneration",
        "status.updatedNumberScheduled",
        "status.numberAvailable",
        "status.numberUnavailable",
        "status.collisionCount",
    ];
    workload::counts(new, COUNTS, errors);
    deployment::collisions(new, old, errors);
}
