//! What servers that extend the API have, put among what this one has: in both forms of discovery, ranked by APIServices.

use std::cmp::Reverse;
use std::sync::Arc;

use kedge_api::groups::REGISTRATION;
use kedge_api::resource::version_rank;
use serde_json::{Map, Value, json};

use super::index::{Service, group_priority, version_priority};
use crate::reach::service::{items, text};
use crate::wire::set;

/// How a document calls its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `APIGroupList`
    Legacy,
    /// `APIGroupDiscoveryList`
    Aggregated,
}

impl Form {
    const fn name(self) -> &'static str {
        match self {
            Self::Legacy => "/name",
            Self::Aggregated => "/metadata/name",
        }
    }

    fn group(self, name: &str) -> Value {
        match self {
            Self::Legacy => json!({"name": name, "versions": []}),
            Self::Aggregated => json!({"metadata": {"name": name}, "versions": []}),
        }
    }
}

/// The groups with those of other servers, each version as `version` writes it, all in their order.
pub fn merged(
    mut groups: Vec<Value>,
    services: &[Arc<Service>],
    form: Form,
    version: impl Fn(&Service) -> Value,
) -> Vec<Value> {
    for service in services.iter().filter(|s| s.remote.is_some()) {
        let at = groups.iter().position(|group| text(group, form.name()) == service.group);
        if at.is_none() {
            groups.push(form.group(&service.group));
        }
        let group = match at {
            Some(at) => groups.get_mut(at),
            None => groups.last_mut(),
        };
        if let Some(Value::Array(versions)) = group.and_then(|group| group.get_mut("versions")) {
            versions.retain(|v| text(v, "/version") != service.version);
            versions.push(version(service));
        }
    }
    groups.sort_by_cached_key(|group| {
        let name = text(group, form.name()).to_owned();
        (name != REGISTRATION, Reverse(group_priority(services, &name)), name)
    });
    for group in &mut groups {
        let name = text(group, form.name()).to_owned();
        if let Some(Value::Array(versions)) = group.get_mut("versions") {
            versions.sort_by_cached_key(|v| {
                let version = text(v, "/version");
                Reverse((version_priority(services, &name, version), version_rank(version)))
            });
        }
        if form == Form::Legacy {
            let preferred = items(group, "/versions").first().cloned().unwrap_or_default();
            set(group, "preferredVersion", preferred);
        }
    }
    groups
}

/// A version as `/apis` names it.
pub fn legacy(service: &Service) -> Value {
    json!({"groupVersion": format!("{}/{}", service.group, service.version), "version": service.version})
}

/// A version with its resources; stale where its server does not say them now.
pub fn aggregated(service: &Service, resources: Option<&[Value]>, fresh: bool) -> Value {
    let mut version = json!({"version": service.version, "freshness": if fresh { "Current" } else { "Stale" }});
    if let Some(resources) = resources.filter(|resources| !resources.is_empty()) {
        set(&mut version, "resources", resources.to_vec());
    }
    version
}

/// The resources of an `APIResourceList` as aggregated discovery writes them: subresources below what they are of.
pub fn resources(list: &Value) -> Vec<Value> {
    let mut found: Vec<Value> = Vec::new();
    let (sub, whole): (Vec<&Value>, Vec<&Value>) =
        items(list, "/resources").iter().partition(|r| text(r, "/name").contains('/'));
    for resource in whole {
        let mut entry = json!({"resource": text(resource, "/name"), "responseKind": kind(resource), "scope": scope(resource),
            "singularResource": text(resource, "/singularName"), "verbs": verbs(resource)});
        for field in ["shortNames", "categories"] {
            if let Some(texts) = resource.get(field).filter(|texts| texts.as_array().is_some_and(|t| !t.is_empty())) {
                set(&mut entry, field, texts.clone());
            }
        }
        found.push(entry);
    }
    for resource in sub {
        let (of, name) = text(resource, "/name").split_once('/').unwrap_or_default();
        if !found.iter().any(|parent| text(parent, "/resource") == of) {
            found.push(json!({"resource": of, "responseKind": {"group": "", "version": "", "kind": ""}, "scope": scope(resource), "singularResource": "", "verbs": []}));
        }
        let parent = found.iter_mut().find(|parent| text(parent, "/resource") == of).and_then(Value::as_object_mut);
        let list =
            parent.map(|parent: &mut Map<String, Value>| parent.entry("subresources").or_insert_with(|| json!([])));
        if let Some(Value::Array(list)) = list {
            list.push(json!({"subresource": name, "responseKind": kind(resource), "verbs": verbs(resource)}));
        }
    }
    found
}

fn kind(resource: &Value) -> Value {
    json!({"group": text(resource, "/group"), "version": text(resource, "/version"), "kind": text(resource, "/kind")})
}

fn verbs(resource: &Value) -> Value {
    json!(items(resource, "/verbs"))
}

fn scope(resource: &Value) -> &'static str {
    if resource.get("namespaced") == Some(&Value::Bool(true)) { "Namespaced" } else { "Cluster" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(group: &str, version: &str, priorities: (i64, i64), remote: bool) -> Arc<Service> {
        let remote = remote.then(|| super::super::index::Remote {
            namespace: "n".into(),
            name: "s".into(),
            port: 443,
            ca_bundle: Vec::new(),
            insecure: true,
        });
        Arc::new(Service {
            name: format!("{version}.{group}"),
            group: group.into(),
            version: version.into(),
            group_priority: priorities.0,
            version_priority: priorities.1,
            remote,
            available: true,
        })
    }

    #[test]
    fn groups_and_versions_come_by_their_priorities() {
        let services = [
            service("apps", "v1", (17_800, 15), false),
            service("e.com", "v1", (1000, 100), false),
            service("e.com", "v2", (1000, 100), true),
            service("m.io", "v1beta1", (100, 100), true),
            service("z.io", "v1", (18_000, 10), true),
            service("z.io", "v2", (1, 20), true),
        ];
        let own = |name: &str| json!({"name": name, "versions": [{"version": "v1"}]});
        let list =
            merged(vec![own(REGISTRATION), own("apps"), own("a.com"), own("e.com")], &services, Form::Legacy, legacy);
        let told: Vec<String> = list
            .iter()
            .map(|group| {
                let versions: Vec<&str> = items(group, "/versions").iter().map(|v| text(v, "/version")).collect();
                assert_eq!(group["preferredVersion"]["version"], versions[0]);
                format!("{} {}", text(group, "/name"), versions.join(","))
            })
            .collect();
        assert_eq!(
            told,
            ["apiregistration.k8s.io v1", "z.io v2,v1", "apps v1", "a.com v1", "e.com v2,v1", "m.io v1beta1"]
        );
        let stale = merged(Vec::new(), &services[3..4], Form::Aggregated, |s| aggregated(s, None, false));
        assert_eq!(
            stale,
            [json!({"metadata": {"name": "m.io"}, "versions": [{"version": "v1beta1", "freshness": "Stale"}]})]
        );
    }

    #[test]
    fn subresources_stand_below_what_they_are_of() {
        let list = json!({"resources": [
            {"name": "boats/status", "namespaced": true, "kind": "Boat", "verbs": ["get"]},
            {"name": "boats", "singularName": "boat", "namespaced": true, "kind": "Boat", "verbs": ["list"], "shortNames": ["bt"]},
            {"name": "lost/x", "kind": "X", "group": "g", "version": "v", "verbs": ["create"]}]});
        let told = resources(&list);
        assert_eq!(told.len(), 2);
        assert_eq!(told[0]["subresources"][0]["subresource"], "status");
        assert_eq!((&told[0]["scope"], &told[0]["shortNames"]), (&json!("Namespaced"), &json!(["bt"])));
        assert_eq!(told[1]["subresources"][0]["responseKind"], json!({"group": "g", "version": "v", "kind": "X"}));
    }
}
