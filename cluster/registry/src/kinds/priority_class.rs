//! PriorityClass: how much a pod matters more than others.

use std::borrow::Cow;

use kedge_api::Resource;
use kedge_api::resource::Column;
use serde_json::{Value, json};

use super::{columns, resource, workload};
use crate::errors::{Errors, Path};
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

const COLUMNS: &[Column] = &[
    columns::number("Value", |o| columns::count(o, "value").into()),
    columns::boolean("Global-Default", |o| o.flag("globalDefault").into()),
    columns::AGE,
    columns::text("PreemptionPolicy", |o| o.text("preemptionPolicy").into()),
];

/// The classes that exist in every cluster.
pub(crate) const SYSTEM: &[(&str, i64, &str)] = &[
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
];

/// What anyone may define is below what the system keeps for itself.
const HIGHEST: i64 = 1_000_000_000;
const PREFIX: &str = "system-";

pub(crate) fn row() -> Row {
    let schema = "io.k8s.api.scheduling.v1.PriorityClass";
    let base = resource("scheduling.k8s.io", "priorityclasses", "priorityclass", "PriorityClass", schema, COLUMNS);
    let resource = Resource { short_names: Cow::Borrowed(&["pc"]), namespaced: false, ..base };
    let strategy = Strategy {
        default: |class| {
            class.fill("value", 0);
            class.fill_text("preemptionPolicy", "PreemptLowerPriority");
        },
        // It never counts further: what matters cannot change.
        prepare_create: |class| class.set("metadata.generation", 1),
        validate_create: validate,
        validate_update,
        may_delete,
        ..Strategy::PLAIN
    };
    Row::new(resource, strategy)
}

/// The classes that exist in every cluster, as objects.
pub(crate) fn bootstrap() -> impl Iterator<Item = Value> {
    SYSTEM.iter().map(|(name, value, description)| {
        json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": value,
               "description": description})
    })
}

fn validate(class: &Value, errors: &mut Errors) {
    const POLICIES: &[&str] = &["PreemptLowerPriority", "Never"];
    let name = class.text("metadata.name");
    let value = columns::count(class, "value");
    if name.starts_with(PREFIX) {
        if let Some(why) = unfit(name, value, class.flag("globalDefault")) {
            let why =
                format!("priority class names with '{PREFIX}' prefix are reserved for system use only. error: {why}");
            errors.forbidden(&Path::root("metadata.name"), &why);
        }
    } else if value > HIGHEST {
        let why = format!("maximum allowed value of a user defined priority is {HIGHEST}");
        errors.forbidden(&Path::root("value"), &why);
    }
    let policy = class.text("preemptionPolicy");
    if !POLICIES.contains(&policy) {
        errors.not_supported(&Path::root("preemptionPolicy"), policy, POLICIES);
    }
}

/// Why this is not one of the system's classes.
fn unfit(name: &str, value: i64, default: bool) -> Option<String> {
    let Some((_, right, _)) = SYSTEM.iter().find(|(known, ..)| *known == name) else {
        return Some(format!("{name} is not a known system priority class"));
    };
    if value != *right {
        return Some(format!("value of {name} PriorityClass must be {right}"));
    }
    default.then(|| format!("globalDefault of {name} PriorityClass must be false"))
}

fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    if new.look("value") != old.look("value") {
        errors.forbidden(&Path::root("value"), "may not be changed in an update.");
    }
    workload::immutable(new, old, "preemptionPolicy", errors);
}

fn may_delete(name: &str) -> Result<(), String> {
    match SYSTEM.iter().any(|(known, ..)| *known == name) {
        true => Err(format!(
            "priorityclasses.scheduling.k8s.io {name:?} is forbidden: this is a system priority class and cannot be deleted"
        )),
        false => Ok(()),
    }
}
