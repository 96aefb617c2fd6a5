//! What becomes of a request: conditions through its approval, a certificate through its status, and neither taken back.

use serde_json::{Value, json};

use super::validate::validate;
use crate::errors::{Errors, Path};
use crate::metadata::stamp;
use crate::value::{Fill as _, Look as _};

const VERDICTS: &[&str] = &["Approved", "Denied"];

/// Conditions that are new get the time; those that were there keep when they came about.
fn fill_times(new: &mut Value, old: &Value) {
    let now = stamp(jiff::Timestamp::now());
    for condition in new.items_mut("status.conditions") {
        condition.fill("lastUpdateTime", now.as_str());
        if condition.has("lastTransitionTime") {
            continue;
        }
        let same = |c: &&Value| c.get("type") == condition.get("type") && c.get("status") == condition.get("status");
        let before = old.items("status.conditions").iter().find(same);
        let since = before.map(|c| c.text("lastTransitionTime")).filter(|t| !t.is_empty()).unwrap_or(&now).to_owned();
        condition.set("lastTransitionTime", since);
    }
}

pub(super) fn prepare_status(new: &mut Value, old: &Value) {
    fill_times(new, old);
    // Whatever a signer writes of verdicts that are there, they stay as they were.
    for kind in VERDICTS {
        let mut kept = old.items("status.conditions").iter().filter(|c| c.text("type") == *kind);
        for condition in new.items_mut("status.conditions").iter_mut().filter(|c| c.text("type") == *kind) {
            if let Some(before) = kept.next() {
                *condition = before.clone();
            }
        }
    }
}

pub(super) fn prepare_approval(new: &mut Value, old: &Value) {
    let conditions = new.cut("status.conditions");
    new.set("status", old.get("status").cloned().unwrap_or_else(|| json!({})));
    new.cut("status.conditions");
    if let Some(conditions) = conditions {
        new.set("status.conditions", conditions);
    }
    fill_times(new, old);
}

pub(super) fn validate_status(new: &Value, old: &Value, errors: &mut Errors) {
    validate_change(new, old, false, errors);
}

pub(super) fn validate_approval(new: &Value, old: &Value, errors: &mut Errors) {
    validate_change(new, old, true, errors);
}

fn validate_change(new: &Value, old: &Value, approval: bool, errors: &mut Errors) {
    validate(new, errors);
    let path = Path::root("status.conditions");
    let count =
        |csr: &Value, kind: &str| csr.items("status.conditions").iter().filter(|c| c.text("type") == kind).count();
    for kind in ["Approved", "Denied", "Failed"] {
        if count(new, kind) < count(old, kind) {
            errors.forbidden(&path, &format!("updates may not remove a condition of type {kind:?}"));
        }
    }
    for kind in VERDICTS.iter().filter(|_| !approval) {
        if count(new, kind) > count(old, kind) {
            errors.forbidden(&path, &format!("updates may not add a condition of type {kind:?}"));
        }
    }
    let before = old.text("status.certificate");
    if new.text("status.certificate") != before && !before.is_empty() {
        let why = "updates may not modify existing certificate content";
        errors.forbidden(&Path::root("status.certificate"), why);
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::tests::REQUEST;
    use super::*;

    fn csr(status: Value) -> Value {
        json!({"spec": {"request": REQUEST, "signerName": "example.com/s", "usages": ["client auth"]}, "status": status})
    }

    #[test]
    fn verdicts_come_by_approval_and_stay() {
        let approved = csr(json!({"conditions": [{"type": "Approved", "status": "True"}]}));
        let pending = csr(json!({}));
        for (new, old, approval, wrong) in [
            (&approved, &pending, true, 0),
            (&approved, &pending, false, 1),
            (&pending, &approved, true, 1),
            (&pending, &approved, false, 1),
            (&approved, &approved, false, 0),
        ] {
            let mut errors = Errors::default();
            validate_change(new, old, approval, &mut errors);
            assert_eq!(errors.len(), wrong, "{new} {old} {errors:?}");
        }
    }

    #[test]
    fn an_approval_touches_conditions_only() {
        let old = csr(json!({"certificate": "old"}));
        let mut new = csr(
            json!({"certificate": "new", "conditions": [{"type": "Approved", "status": "True", "lastUpdateTime": null}]}),
        );
        prepare_approval(&mut new, &old);
        assert_eq!(new.text("status.certificate"), "old");
        assert_eq!(new.items("status.conditions").len(), 1);
        assert!(
            new.look("status.conditions")
                .get(0)
                .is_some_and(|c| c.has("lastUpdateTime") && c.has("lastTransitionTime"))
        );
    }

    #[test]
    fn a_signer_does_not_rewrite_a_verdict() {
        let old = csr(json!({"conditions": [{"type": "Approved", "status": "True", "reason": "a"}]}));
        let mut new = csr(json!({"conditions": [{"type": "Approved", "status": "True", "reason": "b"}]}));
        prepare_status(&mut new, &old);
        assert_eq!(new.look("status.conditions"), old.look("status.conditions"));
    }
}
