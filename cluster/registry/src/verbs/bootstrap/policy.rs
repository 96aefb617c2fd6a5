//! Roles and bindings that every cluster has, and how they are kept at every start.
//!
//! As upstream reconciles them: what is missing is added, what someone added stays, and an object whose annotation says that it does not
//! want to be updated is left alone.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream;
use kedge_api::rbac::{self, GROUP, Rule};
use kedge_api::resource::known;
use kedge_api::{GroupResource, Key, Object, Status, Verb};
use serde_json::{Map, Value, json};

use self::table::{Binding, Grant, Role, Who};
use super::write;
use crate::Registry;
use crate::value::{Fill as _, Look as _};

mod table;

const LABEL: &str = "kubernetes.io/bootstrapping";
/// The core group, as the table calls it.
const CORE: &str = "core";
const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
/// Writes on their way at once: the store commits them in groups.
const AT_ONCE: usize = 32;

/// Sees to it that all of them are there, in the order roles, bindings. A write that is refused is told and no more: an admission webhook
/// may stand in its way that only runs once the API server does.
pub(super) async fn reconcile(registry: &Registry) {
    let (roles, bindings) = table::read();
    for objects in [roles.iter().map(Role::object).collect::<Vec<_>>(), bindings.iter().map(Binding::object).collect()]
    {
        let each = stream::iter(objects).for_each_concurrent(AT_ONCE, async |(resource, object)| {
            let name = object.text("metadata.name").to_owned();
            if let Err(status) = ensure(registry, resource.clone(), object).await {
                tracing::error!(%resource, name, error = %status, "what every cluster has could not be written");
            }
        });
        each.await;
    }
}

async fn ensure(registry: &Registry, resource: GroupResource, wanted: Value) -> Result<(), Status> {
    let key = Key::new(resource.clone(), wanted.text("metadata.namespace"), wanted.text("metadata.name"));
    let found: Option<Arc<Object>> = registry.cache.snapshot().get(&key).cloned();
    let Some(found) = found else { return write(registry, Verb::Create, resource, wanted).await };
    let found: Value = found.decode()?;
    match merged(&found, &wanted) {
        Merged::Same => Ok(()),
        Merged::Changed(new) => write(registry, Verb::Update, resource, new).await,
        // A binding's role is for ever.
        Merged::Other => {
            write(registry, Verb::Delete, resource.clone(), found).await?;
            write(registry, Verb::Create, resource, wanted).await
        }
    }
}

#[derive(Debug, PartialEq)]
enum Merged {
    Same,
    Changed(Value),
    Other,
}

/// What is there with what is wanted added to it.
fn merged(found: &Value, wanted: &Value) -> Merged {
    if found.look("metadata.annotations").get(AUTOUPDATE).is_some_and(|v| v == "false") {
        return Merged::Same;
    }
    if found.look("roleRef") != wanted.look("roleRef") {
        return Merged::Other;
    }
    let mut new = found.clone();
    for path in ["metadata.labels", "metadata.annotations"] {
        let mut map = wanted.look(path).as_object().cloned().unwrap_or_default();
        map.extend(found.look(path).as_object().cloned().unwrap_or_default());
        new.set(path, map);
    }
    let missing = rbac::missing(&rules(found), &rules(wanted));
    if !missing.is_empty() {
        let mut all = found.items("rules").to_vec();
        all.extend(missing.iter().map(|rule| json!(rule)));
        new.set("rules", all);
    }
    for path in ["subjects", "aggregationRule.clusterRoleSelectors"] {
        let mut all = found.items(path).to_vec();
        all.extend(wanted.items(path).iter().filter(|item| !found.items(path).contains(item)).cloned());
        if all.len() > found.items(path).len() {
            new.set(path, all);
        }
    }
    if new == *found { Merged::Same } else { Merged::Changed(new) }
}

fn rules(role: &Value) -> Vec<Rule> {
    serde_json::from_value(role.look("rules").clone()).unwrap_or_default()
}

impl Grant {
    fn rule(&self) -> Rule {
        let list = |text: &str| table::words(text, |word| word.to_owned());
        Rule {
            verbs: list(self.verbs),
            api_groups: table::words(self.groups, |group| if group == CORE { String::new() } else { group.to_owned() }),
            resources: list(self.resources),
            resource_names: list(self.names),
            non_resource_urls: list(self.urls),
        }
    }
}

fn object(kind: &str, namespace: &str, name: &str, labels: Map<String, Value>) -> Value {
    let mut metadata = json!({"name": name, "labels": labels, "annotations": {AUTOUPDATE: "true"}});
    if !namespace.is_empty() {
        metadata.set("namespace", namespace);
    }
    json!({"apiVersion": format!("{GROUP}/v1"), "kind": kind, "metadata": metadata})
}

/// The labels of an object: who brought it, and what gathers it.
fn labels(origin: &str, gathered: &str) -> Map<String, Value> {
    let gathered = Some(gathered).filter(|label| !label.is_empty());
    let gathered = gathered.map(|label| (format!("{GROUP}/{label}"), "true".into()));
    [(LABEL.to_owned(), origin.into())].into_iter().chain(gathered).collect()
}

impl Role {
    fn object(&self) -> (GroupResource, Value) {
        let cluster = self.namespace.is_empty();
        let (resource, kind) = if cluster { (known::CLUSTER_ROLES, "ClusterRole") } else { (known::ROLES, "Role") };
        let mut role = object(kind, self.namespace, &self.name, labels(self.origin, self.adds_to));
        if self.gathers.is_empty() {
            let rules: Vec<Rule> = self.grants.iter().map(Grant::rule).collect();
            role.set("rules", json!(rules));
        } else {
            let label = format!("{GROUP}/{}", self.gathers);
            let selector = json!({"matchLabels": {label: "true"}});
            role.set("aggregationRule", json!({"clusterRoleSelectors": [selector]}));
        }
        (resource, role)
    }
}

impl Binding {
    fn object(&self) -> (GroupResource, Value) {
        let (resource, kind, role) = match self.namespace {
            "" => (known::CLUSTER_ROLE_BINDINGS, "ClusterRoleBinding", "ClusterRole"),
            _ => (known::ROLE_BINDINGS, "RoleBinding", "Role"),
        };
        let mut binding = object(kind, self.namespace, &self.name, labels(self.origin, ""));
        binding.set("roleRef", json!({"apiGroup": GROUP, "kind": role, "name": &*self.role}));
        if !self.subjects.is_empty() {
            let subjects: Vec<Value> = self.subjects.iter().map(Who::subject).collect();
            binding.set("subjects", subjects);
        }
        (resource, binding)
    }
}

impl Who {
    fn subject(&self) -> Value {
        match self {
            Self::User(name) => json!({"kind": "User", "apiGroup": GROUP, "name": name}),
            Self::Group(name) => json!({"kind": "Group", "apiGroup": GROUP, "name": name}),
            Self::Account(name) => json!({"kind": "ServiceAccount", "name": name, "namespace": "kube-system"}),
        }
    }
}

#[cfg(test)]
mod tests;
