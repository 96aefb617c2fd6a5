//! What the expressions of a ValidatingAdmissionPolicy get wrong about the kinds that the policy is for is told in its status, once for each
//! generation.
//!
//! Source: "Type checking" of Kubernetes' page on validating admission policies.

use std::sync::Arc;

use kedge_api::resource::known::VALIDATING_ADMISSION_POLICIES;
use kedge_api::{Change, GroupResource, Key, Snapshot, Status};
use serde_json::{Value, json};

use crate::controller::{Controller, Now, Plan, Step, read};

const WATCHES: &[GroupResource] = &[VALIDATING_ADMISSION_POLICIES];
const NAME: &str = "validatingadmissionpolicy-status-controller";

/// Gives the `expressionWarnings` of a policy.
pub type Check = Arc<dyn Fn(&Value) -> Vec<Value> + Send + Sync>;

pub struct PolicyStatus {
    pub check: Check,
}

impl Controller for PolicyStatus {
    fn name(&self) -> &'static str {
        NAME
    }

    fn watches(&self) -> &'static [GroupResource] {
        WATCHES
    }

    fn keys(&self, _: &Snapshot, change: &Change, keys: &mut Vec<Key>) {
        keys.push(change.key.clone());
    }

    fn plan(&self, snapshot: &Snapshot, key: &Key, _: Now) -> Result<Plan, Status> {
        let mut plan = Plan::default();
        let Some(policy) = read::<Value>(snapshot, key)? else { return Ok(plan) };
        let number = |pointer: &str| policy.pointer(pointer).and_then(Value::as_i64).unwrap_or_default();
        let generation = number("/metadata/generation");
        if generation > number("/status/observedGeneration") {
            let warnings = (self.check)(&policy);
            let checking = if warnings.is_empty() { json!({}) } else { json!({"expressionWarnings": warnings}) };
            let status = json!({"observedGeneration": generation, "typeChecking": checking});
            let object = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
                "metadata": {"name": &*key.name}, "status": status});
            plan.push(Step::Apply { resource: key.resource.clone(), subresource: "status", object, manager: NAME });
        }
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Facts, at};

    #[test]
    fn each_generation_is_checked_once() {
        for (generation, observed, told) in [
            (1, json!({}), true),
            (2, json!({"observedGeneration": 1}), true),
            (2, json!({"observedGeneration": 2}), false),
        ] {
            for warnings in [vec![], vec![json!({"fieldRef": "spec.validations[0].expression", "warning": "w"})]] {
                let mut facts = Facts::default();
                let meta = json!({"name": "p", "generation": generation});
                facts.add(VALIDATING_ADMISSION_POLICIES, json!({"metadata": meta, "status": observed}));
                let found = warnings.clone();
                let controller = PolicyStatus { check: Arc::new(move |_| found.clone()) };
                let key = Key::new(VALIDATING_ADMISSION_POLICIES, "", "p");
                let plan = controller.plan(&facts.snapshot, &key, at(0)).unwrap();
                let statuses: Vec<&Value> = plan
                    .steps
                    .iter()
                    .map(|step| match step {
                        Step::Apply { object, .. } => &object["status"],
                        other => panic!("{other:?}"),
                    })
                    .collect();
                let checking = if warnings.is_empty() { json!({}) } else { json!({"expressionWarnings": warnings}) };
                let expected = json!({"observedGeneration": generation, "typeChecking": checking});
                assert_eq!(statuses, if told { vec![&expected] } else { vec![] });
            }
        }
    }
}
