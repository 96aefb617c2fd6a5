//! When a container of its own policy starts again.

use serde_json::Value;

use crate::errors::{Errors, Path};
use crate::value::Look as _;

const POLICIES: &[&str] = &["Always", "Never", "OnFailure"];
const ACTIONS: &[&str] = &["Restart", "RestartAllContainers"];
const OPERATORS: &[&str] = &["In", "NotIn"];
const UNSAID: &str = "must specify restartPolicy when restart rules are used";
const MOST_RULES: usize = 20;
const MOST_CODES: usize = 255;

/// Of a container that comes first, rules without a policy are not looked at any further.
pub(crate) fn of_init(container: &Value, path: &Path<'_>, errors: &mut Errors) {
    if container.has("restartPolicy") {
        policy(container, path, errors);
    } else if !container.items("restartPolicyRules").is_empty() {
        errors.required(&path.child("restartPolicy"), UNSAID);
    }
}

pub(crate) fn policy(container: &Value, path: &Path<'_>, errors: &mut Errors) {
    let rules = container.items("restartPolicyRules");
    let here = path.child("restartPolicy");
    match container.look("restartPolicy").as_str() {
        None if rules.is_empty() => return,
        None => errors.required(&here, UNSAID),
        Some(policy) if !POLICIES.contains(&policy) => errors.not_supported(&here, policy, POLICIES),
        Some(_) => {}
    }
    let list = path.child("restartPolicyRules");
    if rules.len() > MOST_RULES {
        errors.too_many(&list, rules.len(), MOST_RULES);
    }
    for (at, rule) in rules.iter().enumerate() {
        let item = list.index(at);
        let action = rule.text("action");
        if !ACTIONS.contains(&action) {
            errors.not_supported(&item.child("action"), action, ACTIONS);
        }
        let codes = item.child("exitCodes");
        if !rule.has("exitCodes") {
            errors.required(&codes, "must be specified");
            continue;
        }
        let operator = rule.text("exitCodes.operator");
        if !OPERATORS.contains(&operator) {
            errors.not_supported(&codes.child("operator"), operator, OPERATORS);
        }
        let values = rule.items("exitCodes.values");
        if values.len() > MOST_CODES {
            errors.too_many(&codes.child("values"), values.len(), MOST_CODES);
        }
    }
}
