//! Which writes a rule, a webhook or a policy is about: by operation and resource, and by labels of the object and of its namespace.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kedge_api::resource::known;
use kedge_api::selector::Selector;
use kedge_api::{Key, Snapshot, Status};
use serde::Deserialize as _;
use serde_json::Value;

use super::{Attributes, Operation};
use crate::table::Row;
use crate::value::Look as _;

/// What nothing that is configured is asked about, lest it lock everybody out: the configurations themselves.
const EXEMPT: &str = "admissionregistration.k8s.io";

/// An object on its way, as webhooks and policies are asked about it.
pub(super) struct Asked<'a> {
    pub(super) attributes: &'a Attributes<'a>,
    /// In the row's form; none for a deletion.
    pub(super) object: Option<Value>,
    pub(super) old: Option<Value>,
}

impl<'a> Asked<'a> {
    pub(super) fn of(row: &Row, attributes: &'a Attributes<'a>, object: &Value) -> Self {
        let shown = |value: &Value| {
            let mut value = value.clone();
            if let Some(face) = row.stored_as {
                (face.show)(&mut value);
            }
            value
        };
        let object = (attributes.operation != Operation::Delete).then(|| shown(object));
        Self { attributes, object, old: attributes.old.map(shown) }
    }

    /// The name that is asked for, or that the object has.
    pub(super) fn name(&self) -> &str {
        let own = self.object.as_ref().map(|object| object.text("metadata.name")).unwrap_or_default();
        if self.attributes.name.is_empty() { own } else { self.attributes.name }
    }

    /// Upstream finds a namespace in itself.
    pub(super) fn namespace(&self) -> &str {
        if self.attributes.resource.id == known::NAMESPACES { self.name() } else { self.attributes.namespace }
    }
}

pub(super) fn is_exempt(asked: &Asked<'_>) -> bool {
    asked.attributes.resource.id.group.as_str() == EXEMPT
}

/// Whether a `namespaceSelector` and an `objectSelector` choose the object.
pub(super) fn selects(criteria: &Value, snapshot: &Snapshot, asked: &Asked<'_>) -> Result<bool, Status> {
    Ok(in_namespace(criteria.look("namespaceSelector"), snapshot, asked)?
        && has_labels(criteria.look("objectSelector"), asked)?)
}

/// Whether a policy's constraints, or a binding's, are about the object. Without rules they are about all.
pub(super) fn matches(criteria: &Value, snapshot: &Snapshot, asked: &Asked<'_>) -> Result<bool, Status> {
    let named = |rule: &&Value| {
        let names = rule.items("resourceNames");
        names.is_empty() || names.iter().any(|name| name == asked.name())
    };
    let any = |list: &str| criteria.items(list).iter().filter(named).any(|rule| covers(rule, asked));
    let ruled = criteria.items("resourceRules").is_empty() || any("resourceRules");
    Ok(ruled && !any("excludeResourceRules") && selects(criteria, snapshot, asked)?)
}

/// Whether a rule is about the operation and the resource.
pub(super) fn covers(rule: &Value, asked: &Asked<'_>) -> bool {
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
        let asked = Asked::of(&row, &attributes, &object);
        let rules = webhook.items("rules");
        rules.iter().any(|rule| covers(rule, &asked)) && selects(&webhook, &snapshot, &asked).unwrap()
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
