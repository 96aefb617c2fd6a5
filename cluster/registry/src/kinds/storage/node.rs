//! CSINode: the drivers of a node, and what it is called by each.

use std::collections::{BTreeMap, HashSet};

use kedge_api::resource::Column;
use serde_json::Value;

use super::cluster_wide;
use crate::errors::{Errors, Path};
use crate::golang;
use crate::kinds::columns;
use crate::names;
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

const COLUMNS: &[Column] = &[columns::number("Drivers", |o| o.items("spec.drivers").len().into()), columns::AGE];

pub(crate) fn row() -> Row {
    let resource = cluster_wide("csinodes", "csinode", "CSINode", "io.k8s.api.storage.v1.CSINode", COLUMNS);
    let strategy = Strategy {
        returns_deleted: true,
        unconditional_update: false,
        default,
        validate,
        validate_update,
        ..Strategy::PLAIN
    };
    Row::new(resource, strategy)
}

fn default(node: &mut Value) {
    if node.items("spec.drivers").is_empty() {
        node.set("spec.drivers", Value::Null);
    }
    for driver in node.items_mut("spec.drivers") {
        if driver.items("topologyKeys").is_empty() {
            driver.set("topologyKeys", Value::Null);
        }
    }
}

fn validate(node: &Value, errors: &mut Errors) {
    const LONGEST: usize = 256;
    let root = Path::root("spec.drivers");
    let mut seen = HashSet::new();
    for (at, driver) in node.items("spec.drivers").iter().enumerate() {
        let path = root.index(at);
        let name = driver.text("name");
        super::driver(name, &path.child("name"), errors);
        let id = driver.text("nodeID");
        if id.is_empty() {
            errors.required(&path.child("nodeID"), "");
        }
        if id.len() > LONGEST {
            errors.invalid(&path.child("nodeID"), id, &format!("must be {LONGEST} characters or less"));
        }
        if let Some(count) = driver.int("allocatable.count").filter(|c| *c < 0) {
            let here = path.child("allocatable");
            errors.invalid(&here.child("count"), count, "must be greater than or equal to 0");
        }
        if !seen.insert(name) {
            errors.duplicate(&path.child("name"), name);
        }
        let mut keys = HashSet::new();
        for key in driver.items("topologyKeys").iter().filter_map(Value::as_str) {
            if key.is_empty() {
                errors.required(&path, "");
            }
            if !keys.insert(key) {
                errors.duplicate(&path, key);
            }
            errors.all_invalid(&path, key, names::qualified(key));
        }
    }
}

/// A driver that stays, stays what it is; only how many volumes it can have may be learnt anew.
fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    let fixed = |driver: &Value| {
        let mut driver = driver.clone();
        driver.cut("allocatable");
        driver
    };
    let mut now: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for driver in new.items("spec.drivers") {
        now.entry(driver.text("name")).or_default().push(fixed(driver));
    }
    for before in old.items("spec.drivers") {
        let was = fixed(before);
        for driver in now.get(before.text("name")).into_iter().flatten().filter(|driver| **driver != was) {
            let shown = golang::show(driver, "CSINodeDriver");
            errors.invalid_json(&Path::root("spec.drivers"), &shown, "field is immutable");
        }
    }
}
