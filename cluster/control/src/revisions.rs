//! ControllerRevisions: which templates a workload has had, in their order, so that it can be taken back to one.
//!
//! Owns number, name and clean-up of revisions; never knows a workload's kind. What is taken back to an earlier template gets that
//! one's revision again, as the newest, and with it the hash that its pods still bear.
//! Source: "ControllerRevisions" of Kubernetes' documentation.

use std::collections::BTreeSet;
use std::sync::Arc;

use kedge_api::resource::known::CONTROLLER_REVISIONS;
use kedge_api::{Object, Snapshot, Status};
use serde_json::{Value, json};

use crate::controller::{Plan, Step, Victim, value};
use crate::owner::Owner;

pub const HASH: &str = "controller-revision-hash";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Revisions that are kept beside the newest, where the workload says nothing of it.
const KEPT: i32 = 10;

/// A workload as its revisions see it.
pub struct Template<'a> {
    /// `spec.template` as it is stored.
    pub template: &'a Value,
    /// Its hash, for a revision yet to be made.
    pub hash: String,
    pub limit: Option<i32>,
    /// Hashes of pods that there are.
    pub live: BTreeSet<String>,
}

struct Revision {
    object: Arc<Object>,
    number: i64,
    data: Value,
}

impl Revision {
    fn hash(&self) -> Option<&str> {
        self.object.meta.labels.as_ref()?.get(HASH).map(String::as_str)
    }

    fn victim(&self) -> Victim {
        Victim::of(&self.object)
    }
}

/// Makes the template's revision the newest and lets old ones go. Gives the hash of pods that are of it.
pub fn plan(snapshot: &Snapshot, owner: &Owner<'_>, of: Template<'_>, plan: &mut Plan) -> Result<String, Status> {
    let mut all = Vec::new();
    for object in owner.claim(snapshot, &CONTROLLER_REVISIONS, plan)? {
        let value: Value = object.decode()?;
        let number = value.get("revision").and_then(Value::as_i64).unwrap_or_default();
        all.push(Revision { object, number, data: value.get("data").cloned().unwrap_or_default() });
    }
    all.sort_by_key(|revision| (revision.number, revision.object.revision));
    let data = data(of.template);
    let (mut same, old): (Vec<Revision>, Vec<Revision>) = all.into_iter().partition(|r| r.data == data);
    let newest = old.last().map_or(0, |revision| revision.number);
    let hash = match same.pop() {
        None => {
            let fresh = revision(owner, of.template, &of.hash, data, newest + 1)?;
            plan.push(Step::Create { resource: CONTROLLER_REVISIONS, objects: vec![fresh], told: None });
            of.hash
        }
        Some(current) => {
            if current.number <= newest {
                plan.patch(
                    &current.object,
                    "",
                    json!({"metadata": {"uid": current.object.uid()}, "revision": newest + 1}),
                );
            }
            current.hash().unwrap_or(&of.hash).to_owned()
        }
    };
    let limit = usize::try_from(of.limit.unwrap_or(KEPT)).unwrap_or(0);
    let surplus = old.len().saturating_sub(limit);
    let is_idle = |revision: &&Revision| revision.hash().is_none_or(|hash| !of.live.contains(hash));
    let idle = old.iter().filter(is_idle);
    // The same template twice is once too many.
    let doomed: Vec<Victim> = same.iter().chain(idle.take(surplus)).map(Revision::victim).collect();
    if !doomed.is_empty() {
        plan.push(Step::Delete { resource: CONTROLLER_REVISIONS, targets: doomed, told: None });
    }
    Ok(hash)
}

/// The strategic merge patch that takes the workload back.
fn data(template: &Value) -> Value {
    let mut template = template.clone();
    if let Value::Object(template) = &mut template {
        template.insert("$patch".to_owned(), "replace".into());
    }
    json!({"spec": {"template": template}})
}

fn revision(owner: &Owner<'_>, template: &Value, hash: &str, data: Value, number: i64) -> Result<Value, Status> {
    let mut labels = template.pointer("/metadata/labels").cloned().unwrap_or_else(|| json!({}));
    if let Value::Object(labels) = &mut labels {
        labels.insert(HASH.to_owned(), hash.into());
    }
    let mut annotations = owner.meta.annotations.clone().unwrap_or_default();
    annotations.remove(LAST_APPLIED);
    let name = owner.meta.name.as_deref().unwrap_or_default();
    Ok(json!({
        "apiVersion": "apps/v1", "kind": "ControllerRevision",
        "metadata": {"name": format!("{name}-{hash}"), "namespace": owner.meta.namespace, "labels": labels,
            "annotations": annotations, "ownerReferences": [value(&owner.reference())?]},
        "data": data, "revision": number,
    }))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::DaemonSet;

    use super::*;
    use crate::testing::Facts;

    fn template(image: &str) -> Value {
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": image}]}})
    }

    /// What is planned for a set with this template.
    fn planned(facts: &Facts, image: &str, limit: i32, live: &[&str]) -> (String, Vec<Step>) {
        let set: DaemonSet = serde_json::from_value(
            json!({"metadata": {"namespace": "n", "name": "d", "uid": "u", "annotations": {"x": "y"}},
            "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template(image)}}),
        )
        .unwrap();
        let owner = Owner::of(&set, Some(&set.spec.as_ref().unwrap().selector)).unwrap();
        let live = live.iter().map(|hash| (*hash).to_owned()).collect();
        let of = Template { template: &template(image), hash: format!("h{image}"), limit: Some(limit), live };
        let mut found = Plan::default();
        let hash = plan(&facts.snapshot, &owner, of, &mut found).unwrap();
        (hash, found.steps)
    }

    /// The plan's one creation, as the API server keeps it.
    fn make(facts: &mut Facts, image: &str) {
        let (_, steps) = planned(facts, image, 10, &[]);
        let [Step::Create { objects, .. }] = &steps[..] else { panic!("{steps:?}") };
        facts.add(CONTROLLER_REVISIONS, objects[0].clone());
        assert_eq!(planned(facts, image, 10, &[]), (format!("h{image}"), Vec::new()));
    }

    fn doomed(steps: &[Step]) -> Vec<&str> {
        let targets =
            steps.iter().filter_map(|s| if let Step::Delete { targets, .. } = s { Some(targets) } else { None });
        targets.flatten().map(|victim| &*victim.name).collect()
    }

    #[test]
    fn each_template_has_a_revision_that_it_gets_again() {
        let mut facts = Facts::default();
        make(&mut facts, "1");
        make(&mut facts, "2");
        let first = facts.snapshot.list(&CONTROLLER_REVISIONS, "n").next().unwrap().decode::<Value>().unwrap();
        assert_eq!((&first["metadata"]["name"], &first["revision"]), (&json!("d-h1"), &json!(1)));
        assert_eq!(first["metadata"]["labels"], json!({"a": "b", (HASH): "h1"}));
        assert_eq!(
            (&first["metadata"]["annotations"], &first["data"]["spec"]["template"]["$patch"]),
            (&json!({"x": "y"}), &json!("replace"))
        );
        let (hash, steps) = planned(&facts, "1", 10, &[]);
        let [Step::Patch { name, patch, .. }] = &steps[..] else { panic!("{steps:?}") };
        assert_eq!((hash.as_str(), name.as_str(), &patch["revision"]), ("h1", "d-h1", &json!(3)));
    }

    #[test]
    fn old_ones_go_unless_pods_are_of_them() {
        let mut facts = Facts::default();
        ["1", "2", "3", "4"].iter().for_each(|image| make(&mut facts, image));
        assert_eq!(doomed(&planned(&facts, "4", 1, &[]).1), ["d-h1", "d-h2"]);
        assert_eq!(doomed(&planned(&facts, "4", 1, &["h1"]).1), ["d-h2", "d-h3"]);
        assert_eq!(doomed(&planned(&facts, "4", 3, &[]).1), <[&str; 0]>::default());
        assert_eq!(doomed(&planned(&facts, "4", 0, &["h4"]).1), ["d-h1", "d-h2", "d-h3"]);
    }

    #[test]
    fn of_two_with_one_template_the_newer_stays() {
        let mut facts = Facts::default();
        make(&mut facts, "1");
        let mut twin = facts.snapshot.list(&CONTROLLER_REVISIONS, "n").next().unwrap().decode::<Value>().unwrap();
        twin["metadata"]["name"] = "twin".into();
        twin["metadata"]["uid"] = "twin".into();
        twin["revision"] = 2.into();
        facts.add(CONTROLLER_REVISIONS, twin);
        let (hash, steps) = planned(&facts, "1", 10, &[]);
        assert_eq!((hash.as_str(), doomed(&steps)), ("h1", vec!["d-h1"]));
    }
}
