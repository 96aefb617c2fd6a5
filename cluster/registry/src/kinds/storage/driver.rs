//! CSIDriver: what a driver on the nodes can do.

use std::collections::HashSet;

use kedge_api::resource::Column;
use serde_json::{Value, json};

use super::cluster_wide;
use crate::errors::{Errors, Path};
use crate::kinds::columns;
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

const COLUMNS: &[Column] = &[
    columns::boolean("AttachRequired", |o| o.flag("spec.attachRequired").into()),
    columns::boolean("PodInfoOnMount", |o| o.flag("spec.podInfoOnMount").into()),
    columns::boolean("StorageCapacity", |o| o.flag("spec.storageCapacity").into()),
    columns::text("TokenRequests", |o| audiences(o).into()),
    columns::boolean("RequiresRepublish", |o| o.flag("spec.requiresRepublish").into()),
    columns::text("Modes", |o| modes(o).into()),
    columns::AGE,
];

pub(crate) fn row() -> Row {
    let resource = cluster_wide("csidrivers", "csidriver", "CSIDriver", "io.k8s.api.storage.v1.CSIDriver", COLUMNS);
    let strategy = Strategy {
        returns_deleted: true,
        unconditional_update: false,
        default,
        prepare_update,
        validate,
        validate_update,
        warnings,
        ..Strategy::PLAIN
    };
    Row::new(resource, strategy)
}

fn audiences(driver: &Value) -> String {
    match driver.items("spec.tokenRequests") {
        [] => "<unset>".into(),
        requests => requests.iter().map(|r| r.text("audience")).collect::<Vec<_>>().join(","),
    }
}

fn modes(driver: &Value) -> String {
    let modes = driver.items("spec.volumeLifecycleModes").iter().filter_map(Value::as_str);
    columns::or_none(&modes.collect::<Vec<_>>().join(","))
}

fn default(driver: &mut Value) {
    for (field, value) in [
        ("attachRequired", true),
        ("podInfoOnMount", false),
        ("storageCapacity", false),
        ("requiresRepublish", false),
        ("seLinuxMount", false),
    ] {
        driver.fill(&format!("spec.{field}"), value);
    }
    driver.fill("spec.fsGroupPolicy", "ReadWriteOnceWithFSType");
    if driver.items("spec.volumeLifecycleModes").is_empty() {
        driver.set("spec.volumeLifecycleModes", json!(["Persistent"]));
    }
    for request in driver.items_mut("spec.tokenRequests") {
        request.fill("audience", "");
    }
}

/// Counts changes, though it does not begin to on creation.
fn prepare_update(new: &mut Value, old: &Value) {
    if new.look("spec") != old.look("spec") {
        new.set("metadata.generation", old.int("metadata.generation").unwrap_or(0) + 1);
    }
}

fn validate(driver: &Value, errors: &mut Errors) {
    const POLICIES: &[&str] = &["File", "None", "ReadWriteOnceWithFSType"];
    const MODES: &[&str] = &["Persistent", "Ephemeral"];
    const SHORTEST: i64 = 10;
    let spec = Path::root("spec");
    let policy = driver.text("spec.fsGroupPolicy");
    if !POLICIES.contains(&policy) {
        errors.not_supported(&spec.child("fsGroupPolicy"), policy, POLICIES);
    }
    token_requests(driver.items("spec.tokenRequests"), &spec.child("tokenRequests"), errors);
    for mode in driver.items("spec.volumeLifecycleModes").iter().filter_map(Value::as_str) {
        if !MODES.contains(&mode) {
            errors.not_supported(&spec.child("volumeLifecycleModes"), mode, MODES);
        }
    }
    if let Some(seconds) = driver.int("spec.nodeAllocatableUpdatePeriodSeconds").filter(|s| *s < SHORTEST) {
        let why = "must be greater than or equal to 10 seconds";
        errors.invalid(&spec.child("nodeAllocatableUpdatePeriodSeconds"), seconds, why);
    }
    let secret = driver.look("spec.serviceAccountTokenInSecrets");
    if !secret.is_null() && driver.items("spec.tokenRequests").is_empty() {
        let why = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
        errors.invalid(&spec.child("serviceAccountTokenInSecrets"), secret.clone(), why);
    }
}

fn token_requests(requests: &[Value], path: &Path<'_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for (at, request) in requests.iter().enumerate() {
        let item = path.index(at);
        let audience = request.text("audience");
        if !seen.insert(audience) {
            errors.duplicate(&item.child("audience"), audience);
            continue;
        }
        let Some(seconds) = request.int("expirationSeconds") else { continue };
        let here = item.child("expirationSeconds");
        if seconds < 600 {
            errors.invalid(&here, seconds, "may not specify a duration less than 10 minutes");
        }
        if seconds > 1 << 32 {
            errors.invalid(&here, seconds, "may not specify a duration larger than 2^32 seconds");
        }
    }
}

fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    let spec = Path::root("spec");
    for (field, shown) in [("attachRequired", "attachedRequired"), ("volumeLifecycleModes", "volumeLifecycleModes")] {
        let value = new.look("spec").look(field);
        if value != old.look("spec").look(field) {
            errors.invalid(&spec.child(shown), value.clone(), "field is immutable");
        }
    }
}

fn warnings(driver: &Value, _: Option<&Value>) -> Vec<String> {
    let unset = !driver.items("spec.tokenRequests").is_empty() && !driver.has("spec.serviceAccountTokenInSecrets");
    let why = "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of \
               tokens in volume attributes";
    unset.then(|| why.to_owned()).into_iter().collect()
}
