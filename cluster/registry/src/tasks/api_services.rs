//! An APIService for each version of each definition, as upstream's aggregator has it: labelled as kept by the server, put back when
//! somebody changes or deletes it, and gone with its version.

use std::collections::BTreeMap;

use async_trait::async_trait;
use kedge_api::resource::known::API_SERVICES;
use kedge_api::{GroupResource, Reason, Status, Verb};
use serde_json::{Value, json};

use super::Task;
use crate::Registry;
use crate::custom::rows::DEFINITIONS;
use crate::value::Look as _;
use crate::verbs::bootstrap::write;

const LABEL: &str = "kube-aggregator.kubernetes.io/automanaged";

pub(super) struct ApiServices;

#[async_trait]
impl Task for ApiServices {
    const WHAT: &str = "APIServices of custom resources";
    const RESOURCES: &[GroupResource] = &[DEFINITIONS, API_SERVICES];

    async fn converge(&mut self, registry: &Registry) -> Result<bool, Status> {
        let snapshot = registry.cache.snapshot();
        let definitions: Result<Vec<Value>, Status> =
            snapshot.list(&DEFINITIONS, "").map(|object| object.decode()).collect();
        let mut wanted = wanted(&definitions?);
        for object in snapshot.list(&API_SERVICES, "") {
            let wish = wanted.remove(&*object.key.name);
            // What somebody made themselves is theirs.
            if object.meta.labels.as_ref().and_then(|labels| labels.get(LABEL)).is_none_or(|how| how != "true") {
                continue;
            }
            let mut stored: Value = object.decode()?;
            let step = match wish {
                None => Some((Verb::Delete, stored)),
                Some(wish) if wish.look("spec") == stored.look("spec") => None,
                Some(mut wish) => {
                    if let (Some(stored), Some(spec)) = (stored.as_object_mut(), wish.get_mut("spec")) {
                        stored.insert("spec".to_owned(), spec.take());
                    }
                    Some((Verb::Update, stored))
                }
            };
            if let Some((verb, object)) = step {
                settled(write(registry, verb, API_SERVICES, object).await)?;
            }
        }
        for service in wanted.into_values() {
            settled(write(registry, Verb::Create, API_SERVICES, service).await)?;
        }
        Ok(true)
    }
}

/// The APIServices that the definitions ask for, by name.
fn wanted(definitions: &[Value]) -> BTreeMap<String, Value> {
    let versions = definitions.iter().flat_map(|definition| {
        let group = definition.text("spec.group");
        let served = definition.items("spec.versions").iter().filter(|version| version.flag("served"));
        served.map(move |version| (group, version.text("name")))
    });
    let service = |(group, version): (&str, &str)| {
        let name = format!("{version}.{group}");
        let spec = json!({"group": group, "version": version, "groupPriorityMinimum": 1000, "versionPriority": 100});
        let metadata = json!({"name": name, "labels": {LABEL: "true"}});
        let kind = ("apiregistration.k8s.io/v1", "APIService");
        (name, json!({"apiVersion": kind.0, "kind": kind.1, "metadata": metadata, "spec": spec}))
    };
    versions.map(service).collect()
}

/// Somebody was faster: the change that they made wakes us again.
fn settled(written: Result<(), Status>) -> Result<(), Status> {
    match written {
        Err(status) if [Reason::NotFound, Reason::Conflict, Reason::AlreadyExists].contains(&status.reason) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_served_version_has_one() {
        let definition = json!({"spec": {"group": "e.com", "versions": [
            {"name": "v1", "served": true}, {"name": "v2", "served": false}, {"name": "v3", "served": true}]}});
        let names: Vec<String> = wanted(&[definition]).into_keys().collect();
        assert_eq!(names, ["v1.e.com", "v3.e.com"]);
    }
}
