//! PodDisruptionBudget: how many pods of a kind may be gone at once on purpose.

use std::borrow::Cow;

use kedge_api::Resource;
use kedge_api::resource::Column;
use serde_json::{Value, json};

use super::pod::affinity;
use super::{STATUS, columns, conditions, resource, workload};
use crate::errors::{Errors, Path};
use crate::golang;
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

const COLUMNS: &[Column] = &[
    columns::text("Min Available", |o| amount(o.look("spec.minAvailable")).into()),
    columns::text("Max Unavailable", |o| amount(o.look("spec.maxUnavailable")).into()),
    columns::number("Allowed Disruptions", |o| columns::count(o, "status.disruptionsAllowed").into()),
    columns::AGE,
];

const COUNTS: [&str; 4] = ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"];

pub(crate) fn row() -> Row {
    let schema = "io.k8s.api.policy.v1.PodDisruptionBudget";
    let base =
        resource("policy", "poddisruptionbudgets", "poddisruptionbudget", "PodDisruptionBudget", schema, COLUMNS);
    let resource = Resource { short_names: Cow::Borrowed(&["pdb"]), subresources: &[STATUS], ..base };
    let strategy = Strategy {
        unconditional_update: false,
        default,
        prepare_create: |budget| {
            budget.set("status", json!({}));
            default(budget);
        },
        validate,
        validate_status,
        ..Strategy::SPEC
    };
    Row::new(resource, strategy)
}

fn amount(value: &Value) -> String {
    match value {
        Value::Null => "N/A".into(),
        Value::String(text) => text.clone(),
        number => number.to_string(),
    }
}

fn default(budget: &mut Value) {
    budget.fill("spec", json!({}));
    for count in COUNTS {
        budget.fill(&format!("status.{count}"), 0);
    }
    for condition in budget.items_mut("status.conditions") {
        condition.fill("lastTransitionTime", Value::Null);
        for text in ["reason", "message"] {
            condition.fill(text, "");
        }
    }
}

fn validate(budget: &Value, errors: &mut Errors) {
    const POLICIES: &[&str] = &["AlwaysAllow", "IfHealthyBudget"];
    let path = Path::root("spec");
    let spec = budget.look("spec");
    if spec.has("minAvailable") && spec.has("maxUnavailable") {
        let why = "minAvailable and maxUnavailable cannot be both set";
        errors.invalid_json(&path, &golang::show(spec, "PodDisruptionBudgetSpec"), why);
    }
    for field in ["minAvailable", "maxUnavailable"] {
        workload::int_or_percent(spec.look(field), &path.child(field), errors);
        workload::not_over_hundred(spec.look(field), &path.child(field), errors);
    }
    affinity::tolerant_label_selector(spec.look("selector"), &path.child("selector"), errors);
    if let Some(policy) = spec.look("unhealthyPodEvictionPolicy").as_str().filter(|p| !POLICIES.contains(p)) {
        errors.not_supported(&path.child("unhealthyPodEvictionPolicy"), policy, POLICIES);
    }
}

fn validate_status(new: &Value, _: &Value, errors: &mut Errors) {
    let status = Path::root("status");
    conditions::validate(new.items("status.conditions"), &status.child("conditions"), errors);
    for count in COUNTS {
        if let Some(number) = new.look("status").int(count).filter(|n| *n < 0) {
            errors.invalid(&status.child(count), number, "must be greater than or equal to 0");
        }
    }
}
