//! What becomes of claims when their pod is let go or the set is deleted: they go along with whom they are made to belong to.

use k8s_openapi::api::apps::v1::StatefulSetSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kedge_api::Object;

/// When claims go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// With a pod that is one too many.
    scaled: bool,
    /// With the set.
    deleted: bool,
}

impl Policy {
    pub fn of(spec: &StatefulSetSpec) -> Self {
        let Some(policy) = &spec.persistent_volume_claim_retention_policy else { return Self::default() };
        let deletes = |when: &Option<String>| when.as_deref() == Some("Delete");
        Self { scaled: deletes(&policy.when_scaled), deleted: deletes(&policy.when_deleted) }
    }

    /// Whom a claim belongs to, beside those who are no one's of ours. `pod` is there, `surplus` if it is one too many.
    pub fn owners(
        self,
        set: &OwnerReference,
        pod: Option<&Object>,
        surplus: bool,
        before: &[OwnerReference],
    ) -> Vec<OwnerReference> {
        let is_pod = |owner: &OwnerReference| owner.kind == "Pod" && pod.is_some_and(|pod| owner.name == *pod.key.name);
        let mut owners: Vec<OwnerReference> =
            before.iter().filter(|owner| owner.uid != set.uid && !is_pod(owner)).cloned().collect();
        let goes = self.scaled && surplus;
        if self.deleted && !goes {
            owners.push(OwnerReference { block_owner_deletion: None, ..set.clone() });
        }
        if let Some(pod) = pod.filter(|_| goes) {
            owners.push(OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Pod".to_owned(),
                name: pod.key.name.to_string(),
                uid: pod.uid().to_owned(),
                ..OwnerReference::default()
            });
        }
        owners
    }
}

#[cfg(test)]
mod tests {
    use kedge_api::resource::known::PODS;
    use serde_json::json;

    use super::*;
    use crate::testing::Facts;

    #[test]
    fn a_claim_belongs_to_who_takes_it_along() {
        let pod = Facts::default().add(PODS, json!({"metadata": {"namespace": "n", "name": "w-1"}}));
        let owner = |kind: &str, name: &str| OwnerReference {
            kind: kind.into(),
            name: name.into(),
            uid: name.into(),
            ..Default::default()
        };
        let set =
            OwnerReference { controller: Some(true), block_owner_deletion: Some(true), ..owner("StatefulSet", "w") };
        let before = [owner("Other", "o"), owner("StatefulSet", "w"), owner("Pod", "w-1")];
        for (when_scaled, when_deleted, surplus, expected) in [
            ("Retain", "Retain", false, vec![]),
            ("Retain", "Retain", true, vec![]),
            ("Delete", "Retain", false, vec![]),
            ("Delete", "Retain", true, vec!["w-1"]),
            ("Retain", "Delete", false, vec!["w"]),
            ("Retain", "Delete", true, vec!["w"]),
            ("Delete", "Delete", false, vec!["w"]),
            ("Delete", "Delete", true, vec!["w-1"]),
        ] {
            let policy = json!({"whenScaled": when_scaled, "whenDeleted": when_deleted});
            let spec: StatefulSetSpec =
                serde_json::from_value(json!({"selector": {}, "template": {}, "serviceName": "",
                "persistentVolumeClaimRetentionPolicy": policy}))
                .unwrap();
            let owners = Policy::of(&spec).owners(&set, Some(&pod), surplus, &before);
            let names: Vec<_> = owners.iter().map(|owner| owner.name.as_str()).collect();
            assert_eq!(names, [vec!["o"], expected].concat(), "{policy} {surplus}");
        }
    }
}
