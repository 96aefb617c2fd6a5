//! FlowSchema and PriorityLevelConfiguration: whose requests wait when the API server is busy.

pub(crate) mod bootstrap;
pub(crate) mod level;
pub(crate) mod schema;

use std::collections::HashSet;

use serde_json::{Value, json};

use super::workload;
use crate::errors::{Errors, Path};
use crate::strategy::Strategy;
use crate::value::{Fill as _, Look as _};

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
/// The name of the schema and of the level for those who never wait.
const EXEMPT: &str = "exempt";

/// What both kinds do alike.
const STRATEGY: Strategy = Strategy {
    prepare_create: |object| object.set("status", json!({})),
    validate_status: |new, _, errors| validate_conditions(new, errors),
    ..Strategy::SPEC
};

fn default(object: &mut Value) {
    for field in ["spec", "status"] {
        object.fill(field, json!({}));
    }
    workload::null_times(object, "status.conditions", &["lastTransitionTime"]);
}

fn validate_conditions(object: &Value, errors: &mut Errors) {
    let list = Path::root("status.conditions");
    let mut seen = HashSet::new();
    for (at, condition) in object.items("status.conditions").iter().enumerate() {
        let path = list.index(at);
        let kind = condition.text("type");
        if !seen.insert(kind) {
            errors.duplicate(&path.child("type"), kind);
        }
        if kind.is_empty() {
            errors.required(&path.child("type"), "");
        }
    }
}
