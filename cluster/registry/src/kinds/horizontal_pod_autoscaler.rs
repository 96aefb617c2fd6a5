//! HorizontalPodAutoscaler: one object in two versions. It is stored as `v2`; `v1` keeps in annotations what it has no fields for.

mod cells;
mod metrics;
mod v1;

use std::borrow::Cow;

use kedge_api::Resource;
use serde_json::{Value, json};

use super::pod::resources;
use super::{STATUS, resource, workload};
use crate::errors::{Errors, Late, Path};
use crate::strategy::Strategy;
use crate::table::{Alias, Row};
use crate::value::{Fill as _, Look as _};

const GROUP: &str = "autoscaling";
const PLURAL: &str = "horizontalpodautoscalers";
const KIND: &str = "HorizontalPodAutoscaler";

pub(crate) fn row() -> Row {
    let schema = "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler";
    let base = resource(GROUP, PLURAL, "horizontalpodautoscaler", KIND, schema, cells::COLUMNS);
    Row::new(named(Resource { version: Cow::Borrowed("v2"), ..base }), STRATEGY)
}

pub(crate) fn older_row() -> Row {
    let schema = "io.k8s.api.autoscaling.v1.HorizontalPodAutoscaler";
    let base = resource(GROUP, PLURAL, "horizontalpodautoscaler", KIND, schema, cells::OLDER_COLUMNS);
    let resource = Resource { stored_in: Some((GROUP, "v2")), made_annotations: v1::ANNOTATIONS, ..named(base) };
    Row::alias(resource, STRATEGY, Alias { resource: (GROUP, PLURAL), show: v1::show, keep: v1::keep })
}

fn named(resource: Resource) -> Resource {
    Resource {
        short_names: Cow::Borrowed(&["hpa"]),
        categories: Cow::Borrowed(&["all"]),
        subresources: &[STATUS],
        ..resource
    }
}

const STRATEGY: Strategy = Strategy {
    status: true,
    default,
    prepare_create: |scaler| {
        scaler.set("status", json!({}));
        default_status(scaler);
    },
    validate,
    validate_status,
    ..Strategy::PLAIN
};

/// A target for any load: that the processors are not quite busy.
const CPU: i64 = 80;

fn default(scaler: &mut Value) {
    scaler.fill("spec", json!({}));
    scaler.fill("spec.minReplicas", 1);
    scaler.fill("spec.maxReplicas", 0);
    for field in ["kind", "name"] {
        scaler.fill(&format!("spec.scaleTargetRef.{field}"), "");
    }
    if scaler.items("spec.metrics").is_empty() {
        let target = json!({"type": "Utilization", "averageUtilization": CPU});
        scaler.set("spec.metrics", json!([{"type": "Resource", "resource": {"name": "cpu", "target": target}}]));
    }
    if scaler.has("spec.behavior") {
        let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
        let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
        scaler.fill("spec.behavior.scaleUp.stabilizationWindowSeconds", 0);
        scaler.fill("spec.behavior.scaleUp.policies", json!([pods, percent]));
        scaler.fill("spec.behavior.scaleDown.policies", json!([percent]));
        for direction in ["scaleUp", "scaleDown"] {
            scaler.fill(&format!("spec.behavior.{direction}.selectPolicy"), "Max");
        }
    }
    default_status(scaler);
}

fn default_status(scaler: &mut Value) {
    scaler.fill("status.desiredReplicas", 0);
    scaler.fill("status.currentMetrics", Value::Null);
    workload::null_times(scaler, "status.conditions", &["lastTransitionTime"]);
}

fn validate(scaler: &Value, errors: &mut Errors) {
    specified(scaler.look("spec"), scaler.text("spec.scaleTargetRef.kind") == "ReplicationController", errors);
}

const TOO_FEW: &str = "must be greater than or equal to 1";

fn specified(spec: &Value, core: bool, errors: &mut Errors) {
    let path = Path::root("spec");
    let (min, max) = (spec.int("minReplicas").unwrap_or(1), spec.int("maxReplicas").unwrap_or(0));
    let least = path.child("minReplicas");
    if min == 0 {
        errors.late(Late::SomeReplicas, |errors| errors.invalid(&least, min, TOO_FEW));
    } else if min < 0 {
        errors.invalid(&least, min, TOO_FEW);
    }
    let here = path.child("maxReplicas");
    if max == 0 {
        errors.required(&here, "must be set and greater than 0");
    } else if max < 0 {
        errors.invalid(&here, max, "must be greater than 0");
    }
    if max < min {
        errors.invalid(&here, max, "must be greater than or equal to `minReplicas`");
    }
    let target = metrics::Target { core, rule: Late::TargetVersion };
    metrics::reference(spec.look("scaleTargetRef"), target, &path.child("scaleTargetRef"), errors);
    metrics::validate(spec.items("metrics"), min, &path.child("metrics"), errors);
    let behavior = path.child("behavior");
    for direction in ["scaleUp", "scaleDown"] {
        scaling(spec.look("behavior").look(direction), &behavior.child(direction), errors);
    }
}

/// How quickly the number may change in one direction.
fn scaling(rules: &Value, path: &Path<'_>, errors: &mut Errors) {
    const SELECT: &[&str] = &["Disabled", "Max", "Min"];
    const TYPES: &[&str] = &["Percent", "Pods"];
    const LONGEST_WINDOW: i64 = 3600;
    const LONGEST_PERIOD: i64 = 1800;
    if rules.is_null() {
        return;
    }
    let here = path.child("stabilizationWindowSeconds");
    match rules.int("stabilizationWindowSeconds") {
        Some(seconds) if seconds < 0 => errors.invalid(&here, seconds, "must be greater than or equal to zero"),
        Some(seconds) if seconds > LONGEST_WINDOW => {
            errors.invalid(&here, seconds, &format!("must be less than or equal to {LONGEST_WINDOW}"));
        }
        _ => {}
    }
    let select = rules.text("selectPolicy");
    if !SELECT.contains(&select) {
        errors.not_supported(&path.child("selectPolicy"), select, SELECT);
    }
    let list = path.child("policies");
    let policies = rules.items("policies");
    if policies.is_empty() {
        errors.required(&list, "must specify at least one Policy");
    }
    for (at, policy) in policies.iter().enumerate() {
        let item = list.index(at);
        let kind = policy.text("type");
        if !TYPES.contains(&kind) {
            errors.not_supported(&item.child("type"), kind, TYPES);
        }
        for field in ["value", "periodSeconds"] {
            let number = policy.int(field).unwrap_or(0);
            if number <= 0 {
                errors.invalid(&item.child(field), number, "must be greater than zero");
            }
            if field == "periodSeconds" && number > LONGEST_PERIOD {
                let why = format!("must be less than or equal to {LONGEST_PERIOD}");
                errors.invalid(&item.child(field), number, &why);
            }
        }
    }
    resources::negative(rules.look("tolerance"), &path.child("tolerance"), errors);
}

fn validate_status(new: &Value, _: &Value, errors: &mut Errors) {
    workload::counts(new, &["status.currentReplicas", "status.desiredReplicas"], errors);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_one_direction_leaves_the_other_as_it_is() {
        let mut scaler =
            json!({"spec": {"maxReplicas": 3, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 10}}}});
        default(&mut scaler);
        let behavior = &scaler["spec"]["behavior"];
        assert_eq!(behavior["scaleDown"]["policies"], json!([{"type": "Percent", "value": 100, "periodSeconds": 15}]));
        assert_eq!(behavior["scaleUp"]["policies"][0]["type"], "Pods");
        assert_eq!(behavior["scaleUp"]["stabilizationWindowSeconds"], 0);
        let once = scaler.clone();
        default(&mut scaler);
        assert_eq!(scaler, once);
    }
}
