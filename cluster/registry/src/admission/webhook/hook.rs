//! One webhook of a configuration: whether it is asked about a write, and how it wants to be.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kedge_api::resource::known;
use kedge_api::selector::Selector;
use kedge_api::{GroupResource, Key, Snapshot, Status};
use serde::Deserialize as _;
use serde_json::Value;

use super::Asked;
use crate::Registry;
use crate::admission::Operation;
use crate::value::Look as _;

/// What no webhook is asked about, lest one lock everybody out: the configurations themselves.
const EXEMPT: &str = "admissionregistration.k8s.io";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct Hook {
    configuration: String,
    webhook: Value,
}

impl Hook {
    pub(super) fn name(&self) -> &str {
        self.webhook.text("name")
    }

    pub(super) fn id(&self) -> (String, String) {
        (self.configuration.clone(), self.name().to_owned())
    }

    pub(super) fn client_config(&self) -> &Value {
        self.webhook.look("clientConfig")
    }

    pub(super) fn timeout(&self) -> Duration {
        let seconds = self.webhook.int("timeoutSeconds").and_then(|s| u64::try_from(s).ok());
        seconds.map_or(DEFAULT_TIMEOUT, Duration::from_secs)
    }

    pub(super) fn ignores_failures(&self) -> bool {
        self.webhook.text("failurePolicy") == "Ignore"
    }

    pub(super) fn has_side_effects(&self) -> bool {
        !["None", "NoneOnDryRun"].contains(&self.webhook.text("sideEffects"))
    }

    pub(super) fn wants_repetition(&self) -> bool {
        self.webhook.text("reinvocationPolicy") == "IfNeeded"
    }

    /// The first version of reviews that both know.
    pub(super) fn review_version(&self) -> &'static str {
        let known = |version: &Value| ["v1", "v1beta1"].into_iter().find(|v| version == v);
        self.webhook.items("admissionReviewVersions").iter().find_map(known).unwrap_or("v1")
    }

    fn matches(&self, snapshot: &Snapshot, asked: &Asked<'_>) -> Result<bool, Status> {
        let rules = self.webhook.items("rules");
        Ok(rules.iter().any(|rule| covers(rule, asked))
            && in_namespace(self.webhook.look("namespaceSelector"), snapshot, asked)?
            && has_labels(self.webhook.look("objectSelector"), asked)?)
    }
}

/// The webhooks of all configurations of a kind that are to be asked, in their order.
pub(super) fn matching(registry: &Registry, kind: &GroupResource, asked: &Asked<'_>) -> Result<Vec<Hook>, Status> {
    let snapshot = registry.cache.snapshot();
    let mut hooks = Vec::new();
    if asked.attributes.resource.id.group.as_str() == EXEMPT {
        return Ok(hooks);
    }
    for object in snapshot.list(kind, "") {
        let configuration: Value = object.decode()?;
        for webhook in configuration.items("webhooks") {
            let hook = Hook { configuration: object.key.name.to_string(), webhook: webhook.clone() };
            if hook.matches(&snapshot, asked)? {
                hooks.push(hook);
            }
        }
    }
    Ok(hooks)
}

/// Whether a rule is about the operation and the resource.
fn covers(rule: &Value, asked: &Asked<'_>) -> bool {
    let attributes = asked.attributes;
    let id = &attributes.resource.id;
    let names = |list: &str, value: &str| rule.items(list).iter().any(|item| item == "*" || item == value);
    let resource = |pattern: &Value| {
        let (resource, subresource) =
            pattern.as_str().map(|p| p.split_once('/').unwrap_or((p, ""))).unwrap_or_default();
        (resource == "*" || resource == id.resource.as_str())
            && (subresource == "*" || subresource == attributes.subresource)
    };
    let scope = match rule.text("scope") {
        "Namespaced" => attributes.resource.namespaced,
        "Cluster" => !attributes.resource.namespaced,
        _ => true,
    };
    scope
        && names("operations", attributes.operation.as_str())
        && names("apiGroups", id.group.as_str())
        && names("apiVersions", &attributes.resource.version)
        && rule.items("resources").iter().any(resource)
}

fn selector(value: &Value) -> Result<Selector, Status> {
    if value.is_null() {
        return Ok(Selector::everything());
    }
    let parsed = LabelSelector::deserialize(value).map_err(|e| Status::internal(e.to_string()))?;
    Selector::from_label_selector(Some(&parsed)).map_err(|e| Status::internal(e.to_string()))
}

fn labels(object: &Value) -> BTreeMap<String, String> {
    object.entries("metadata.labels").filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect()
}

/// By the labels of the object's namespace; of a namespace, by its own. What is in no namespace always matches.
fn in_namespace(value: &Value, snapshot: &Snapshot, asked: &Asked<'_>) -> Result<bool, Status> {
    let selector = selector(value)?;
    let attributes = asked.attributes;
    if selector.is_everything() {
        return Ok(true);
    }
    if attributes.resource.id == known::NAMESPACES {
        let own = asked.object.as_ref().filter(|_| attributes.operation != Operation::Delete).or(asked.old.as_ref());
        return Ok(own.is_some_and(|own| selector.matches(&labels(own))));
    }
    if !attributes.resource.namespaced {
        return Ok(true);
    }
    let key = Key::new(known::NAMESPACES, "", attributes.namespace);
    Ok(snapshot.get(&key).is_some_and(|namespace| selector.matches(&namespace.meta.labels)))
}

/// By the object's labels, as they are or as they were.
fn has_labels(value: &Value, asked: &Asked<'_>) -> Result<bool, Status> {
    let selector = selector(value)?;
    let both = [&asked.object, &asked.old];
    Ok(selector.is_everything() || both.into_iter().flatten().any(|object| selector.matches(&labels(object))))
}

#[cfg(test)]
mod tests {
    use kedge_api::Resource;
    use serde_json::json;

    use super::*;
    use crate::admission::Attributes;
    use crate::strategy::Strategy;
    use crate::table::Row;

    fn row() -> Row {
        let base = crate::kinds::resource("apps", "deployments", "", "Deployment", "", &[]);
        Row::new(Resource { ..base }, Strategy::PLAIN)
    }

    fn matches(webhook: Value, subresource: &str) -> bool {
        let row = row();
        let object = json!({"metadata": {"labels": {"app": "new"}}});
        let old = json!({"metadata": {"labels": {"app": "old"}}});
        let mut snapshot = Snapshot::default();
        let space = json!({"metadata": {"name": "n", "labels": {"team": "a"}}});
        let bytes = serde_json::to_vec(&space).unwrap();
        let key = Key::new(known::NAMESPACES, "", "n");
        snapshot.insert(std::sync::Arc::new(kedge_store::decode(key, kedge_api::Revision(1), bytes.into()).unwrap()));
        let attributes = Attributes {
            operation: Operation::Update,
            resource: &row.resource,
            subresource,
            namespace: "n",
            name: "d",
            old: Some(&old),
            dry_run: false,
        };
        let asked = Asked::of(&row, &attributes, Some(&object));
        Hook { configuration: "c".into(), webhook }.matches(&snapshot, &asked).unwrap()
    }

    fn rule(resources: &[&str]) -> Value {
        json!({"operations": ["UPDATE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": resources, "scope": "*"})
    }

    #[test]
    fn rules_are_about_operations_and_resources() {
        for (resources, of_object, of_status) in [
            (&["deployments"][..], true, false),
            (&["deployments/status"], false, true),
            (&["deployments/*"], true, true),
            (&["*"], true, false),
            (&["*/*"], true, true),
            (&["*/scale"], false, false),
            (&["pods", "*/status"], false, true),
        ] {
            let webhook = json!({"rules": [rule(resources)]});
            assert_eq!(matches(webhook.clone(), ""), of_object, "{resources:?}");
            assert_eq!(matches(webhook, "status"), of_status, "{resources:?}");
        }
        for (field, value, expected) in [
            ("operations", json!(["CREATE", "DELETE"]), false),
            ("operations", json!(["*"]), true),
            ("apiGroups", json!([""]), false),
            ("apiGroups", json!(["", "*"]), true),
            ("apiVersions", json!(["v2"]), false),
            ("scope", json!("Cluster"), false),
            ("scope", json!("Namespaced"), true),
        ] {
            let mut changed = rule(&["deployments"]);
            changed[field] = value;
            assert_eq!(matches(json!({"rules": [changed]}), ""), expected, "{field}");
        }
        assert!(!matches(json!({}), ""));
    }

    #[test]
    fn selectors_choose_by_namespace_and_object() {
        for (namespace, object, expected) in [
            (json!({}), json!({}), true),
            (json!({"matchLabels": {"team": "a"}}), json!({}), true),
            (json!({"matchLabels": {"team": "b"}}), json!({}), false),
            (json!({}), json!({"matchLabels": {"app": "new"}}), true),
            (json!({}), json!({"matchLabels": {"app": "old"}}), true),
            (json!({}), json!({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}), false),
        ] {
            let webhook = json!({"rules": [rule(&["*"])], "namespaceSelector": namespace, "objectSelector": object});
            assert_eq!(matches(webhook.clone(), ""), expected, "{webhook}");
        }
    }
}
