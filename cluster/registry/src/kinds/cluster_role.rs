//! ClusterRole: rules for the whole cluster, or gathered from other such roles by their labels.

use kedge_api::Resource;
use kedge_api::selector::Selector;
use serde_json::Value;

use super::pod::affinity;
use super::resource;
use super::role::{COLUMNS, GROUP, STRATEGY, rules};
use crate::errors::{Errors, Path};
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::Look as _;

pub(crate) fn row() -> Row {
    let base = resource(GROUP, "clusterroles", "clusterrole", "ClusterRole", "io.k8s.api.rbac.v1.ClusterRole", COLUMNS);
    Row::new(Resource { namespaced: false, ..base }, Strategy { validate, ..STRATEGY })
}

fn validate(role: &Value, errors: &mut Errors) {
    rules(role, false, errors);
    if !role.has("aggregationRule") {
        return;
    }
    let path = Path::root("aggregationRule.clusterRoleSelectors");
    let selectors = role.items("aggregationRule.clusterRoleSelectors");
    if selectors.is_empty() {
        errors.required(&path, "at least one clusterRoleSelector required if aggregationRule is non-nil");
    }
    for (at, selector) in selectors.iter().enumerate() {
        let path = path.index(at);
        affinity::tolerant_label_selector(selector, &path, errors);
        let typed = serde_json::from_value(selector.clone()).ok();
        if typed.is_none_or(|typed| Selector::from_label_selector(Some(&typed)).is_err()) {
            errors.invalid(&path, Value::Null, "invalid label selector.");
        }
    }
}
