//! Cluster roles that gather others: their rules are those of the roles that their selectors choose.
//!
//! Source: "Aggregated ClusterRoles" of Kubernetes' documentation. As upstream, the chosen roles are taken by name, and a rule that two of
//! them have stands once.

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kedge_api::resource::known::CLUSTER_ROLES;
use kedge_api::selector::Selector;
use kedge_api::{Change, GroupResource, Key, Object, Snapshot, Status};
use serde_json::json;

use crate::controller::{Controller, Now, Plan, read};

const WATCHES: &[GroupResource] = &[CLUSTER_ROLES];

pub struct ClusterRoleAggregation;

impl Controller for ClusterRoleAggregation {
    fn name(&self) -> &'static str {
        "clusterrole-aggregation-controller"
    }

    fn watches(&self) -> &'static [GroupResource] {
        WATCHES
    }

    /// Any role may be gathered by any other, so a change concerns all that gather; they are few.
    fn keys(&self, snapshot: &Snapshot, _: &Change, keys: &mut Vec<Key>) {
        let gathering = snapshot.list(&CLUSTER_ROLES, "").filter(|role| may_gather(role));
        keys.extend(gathering.map(|role| role.key.clone()));
    }

    fn plan(&self, snapshot: &Snapshot, key: &Key, _: Now) -> Result<Plan, Status> {
        let mut plan = Plan::default();
        let (Some(object), Some(role)) = (snapshot.get(key), read::<ClusterRole>(snapshot, key)?) else {
            return Ok(plan);
        };
        let selectors = role.aggregation_rule.and_then(|rule| rule.cluster_role_selectors).unwrap_or_default();
        if selectors.is_empty() || object.is_deleting() {
            return Ok(plan);
        }
        let mut rules: Vec<PolicyRule> = Vec::new();
        for selector in &selectors {
            // Validation keeps others out.
            let Ok(selector) = Selector::from_label_selector(Some(selector)) else { return Ok(plan) };
            let chosen = snapshot.list(&CLUSTER_ROLES, "").filter(|other| other.key != *key);
            for other in chosen.filter(|other| selector.matches(&other.meta.labels)) {
                for rule in other.decode::<ClusterRole>()?.rules.unwrap_or_default() {
                    if !rules.contains(&rule) {
                        rules.push(rule);
                    }
                }
            }
        }
        if rules != role.rules.unwrap_or_default() {
            plan.patch(object, "", json!({"metadata": {"uid": object.uid()}, "rules": rules}));
        }
        Ok(plan)
    }
}

/// Told from the text alone; a role that only speaks of it plans nothing.
fn may_gather(role: &Object) -> bool {
    const MARK: &[u8] = b"\"aggregationRule\"";
    role.json.windows(MARK.len()).any(|window| window == MARK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::Step;
    use crate::testing::Facts;

    fn role(name: &str, labels: serde_json::Value, resources: &[&str], gathers: Option<&str>) -> serde_json::Value {
        let rules: Vec<_> =
            resources.iter().map(|r| json!({"verbs": ["get"], "apiGroups": [""], "resources": [r]})).collect();
        let mut role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
                              "metadata": {"name": name, "labels": labels}, "rules": rules});
        if let Some(label) = gathers {
            role["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]});
        }
        role
    }

    fn planned(roles: &[serde_json::Value], name: &str) -> Option<serde_json::Value> {
        let mut facts = Facts::default();
        roles.iter().for_each(|role| drop(facts.add(CLUSTER_ROLES, role.clone())));
        let key = Key::new(CLUSTER_ROLES, "", name);
        let plan = ClusterRoleAggregation.plan(&facts.snapshot, &key, jiff::Timestamp::UNIX_EPOCH).unwrap();
        plan.steps.into_iter().next().map(|step| match step {
            Step::Patch { patch, .. } => {
                patch["rules"].as_array().unwrap().iter().map(|rule| rule["resources"][0].clone()).collect()
            }
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn rules_are_gathered_by_label_each_once_and_never_from_itself() {
        let view = role("view", json!({"to-edit": "true"}), &[], Some("to-view"));
        let parts = [
            role("b", json!({"to-view": "true"}), &["pods", "services"], None),
            role("a", json!({"to-view": "true"}), &["secrets", "pods"], None),
            role("c", json!({"to-view": "false"}), &["nodes"], None),
        ];
        let all: Vec<_> = parts.iter().cloned().chain([view.clone()]).collect();
        assert_eq!(planned(&all, "view"), Some(json!(["secrets", "pods", "services"])));
        assert_eq!(planned(&all, "a"), None);
        let done = role("view", json!({"to-edit": "true"}), &["secrets", "pods", "services"], Some("to-view"));
        let settled: Vec<_> = parts.iter().cloned().chain([done]).collect();
        assert_eq!(planned(&settled, "view"), None);
        let own = role("own", json!({"to-own": "true"}), &["pods"], Some("to-own"));
        assert_eq!(planned(&[own], "own"), Some(json!([])));
    }

    #[test]
    fn any_role_concerns_all_that_gather() {
        let roles = [
            role("a", json!({}), &["pods"], None),
            role("edit", json!({}), &[], Some("to-edit")),
            role("view", json!({}), &[], Some("to-view")),
        ];
        let mut facts = Facts::default();
        roles.into_iter().for_each(|role| drop(facts.add(CLUSTER_ROLES, role)));
        let a = facts.snapshot.get(&Key::new(CLUSTER_ROLES, "", "a")).unwrap().clone();
        let change = Change { revision: a.revision, key: a.key.clone(), before: None, after: Some(a) };
        let mut keys = Vec::new();
        ClusterRoleAggregation.keys(&facts.snapshot, &change, &mut keys);
        assert_eq!(keys.iter().map(|key| &*key.name).collect::<Vec<_>>(), ["edit", "view"]);
    }
}
