//! Which writes a rule, a webhook or a policy is about: by operation and resource, and by labels of the object and of its namespace.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kedge_api::resource::known;
use kedge_api::selector::Selector;
use kedge_api::{Key, Resource, Snapshot, Status};
use serde::Deserialize as _;
use serde_json::Value;

use super::{Attributes, Operation};
use crate::table::{Row, Table};
use crate::value::Look as _;
use crate::verbs::incoming::{self, Expected};

/// What nothing that is configured is asked about, lest it lock everybody out: the configurations themselves.
const EXEMPT: &str = "admissionregistration.k8s.io";

/// An object on its way, as webhooks and policies are asked about it.
pub(super) struct Asked<'a> {
    pub(super) attributes: &'a Attributes<'a>,
    /// In which version of the resource: the request's own, or the one that a rule knows.
    pub(super) row: &'a Row,
    /// In the row's form; none for a deletion.
    pub(super) object: Option<Value>,
    pub(super) old: Option<Value>,
}

impl<'a> Asked<'a> {
    pub(super) fn of(row: &'a Row, attributes: &'a Attributes<'a>, object: &Value) -> Self {
        let shown = |value: &Value| {
            let mut value = value.clone();
            if let Some(face) = row.stored_as.filter(|_| attributes.kind.is_none()) {
                (face.show)(&mut value);
            }
            value
        };
        let object = (attributes.operation != Operation::Delete).then(|| shown(object));
        Self { attributes, row, object, old: attributes.old.map(shown) }
    }

    /// The same in another version of the resource. What a subresource takes is the same in all.
    fn seen_as<'b>(&self, row: &'b Row) -> Result<Asked<'b>, Status>
    where
        'a: 'b,
    {
        let converted = |value: &Option<Value>| {
            let mut value = value.clone();
            if let Some(value) = value.as_mut().filter(|_| self.attributes.kind.is_none()) {
                incoming::store_form(self.row, value);
                match &row.custom {
                    Some(custom) => custom.convert_to(&row.resource, value)?,
                    None => row.stored_as.iter().for_each(|face| (face.show)(value)),
                }
            }
            Ok::<_, Status>(value)
        };
        Ok(Asked { attributes: self.attributes, row, object: converted(&self.object)?, old: converted(&self.old)? })
    }

    /// What the object is.
    pub(super) fn kind(&self) -> Expected<'_> {
        self.attributes.kind.unwrap_or_else(|| Expected::of(&self.row.resource))
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

/// In which version of its resource a webhook or a policy sees an object.
pub(super) enum Seen {
    AsItIs,
    As(Arc<Row>),
}

impl Seen {
    /// None if it is to be seen as it is.
    pub(super) fn view<'b>(&'b self, asked: &Asked<'b>) -> Result<Option<Asked<'b>>, Status> {
        match self {
            Self::AsItIs => Ok(None),
            Self::As(row) => asked.seen_as(row).map(Some),
        }
    }
}

/// What decides whether something is asked: selectors, and rules of which one must be about the object and none that excludes it.
pub(super) struct Criteria<'a> {
    value: &'a Value,
    rules: &'static str,
    /// Without rules they are about everything.
    open: bool,
}

impl<'a> Criteria<'a> {
    pub(super) fn of_webhook(value: &'a Value) -> Self {
        Self { value, rules: "rules", open: false }
    }

    /// A policy's constraints, or a binding's.
    pub(super) fn of_policy(value: &'a Value) -> Self {
        Self { value, rules: "resourceRules", open: true }
    }

    /// As what they see the object; none if they are not about it.
    pub(super) fn seen(&self, table: &Table, snapshot: &Snapshot, asked: &Asked<'_>) -> Result<Option<Seen>, Status> {
        if !in_namespace(self.value.look("namespaceSelector"), snapshot, asked)?
            || !has_labels(self.value.look("objectSelector"), asked)?
            || self.ruled("excludeResourceRules", table, asked).is_some()
        {
            return Ok(None);
        }
        if self.open && self.value.items(self.rules).is_empty() {
            return Ok(Some(Seen::AsItIs));
        }
        Ok(self.ruled(self.rules, table, asked))
    }

    /// By a list of rules: for the object as it is or, unless they are to be taken by the letter, for another version of its resource.
    fn ruled(&self, list: &str, table: &Table, asked: &Asked<'_>) -> Option<Seen> {
        let rules = self.value.items(list);
        let named = |rule: &&Value| {
            let names = rule.items("resourceNames");
            names.is_empty() || names.iter().any(|name| name == asked.name())
        };
        let any = |resource: &Resource| rules.iter().filter(named).any(|rule| covers(rule, asked.attributes, resource));
        if any(asked.attributes.resource) {
            return Some(Seen::AsItIs);
        }
        if rules.is_empty() || self.value.text("matchPolicy") == "Exact" {
            return None;
        }
        let subresource = asked.attributes.subresource;
        let has = |row: &&Arc<Row>| {
            subresource.is_empty() || row.resource.subresources.iter().any(|known| known.name == subresource)
        };
        table.equivalents(asked.row).filter(has).find(|row| any(&row.resource)).map(|row| Seen::As(row.clone()))
    }
}

/// Whether a rule is about the operation and a version of the resource.
fn covers(rule: &Value, attributes: &Attributes<'_>, resource: &Resource) -> bool {
    let id = &resource.id;
    let names = |list: &str, value: &str| rule.items(list).iter().any(|item| item == "*" || item == value);
    let plural = |pattern: &Value| {
        let (plural, subresource) = pattern.as_str().map(|p| p.split_once('/').unwrap_or((p, ""))).unwrap_or_default();
        (plural == "*" || plural == id.resource.as_str())
            && (subresource == "*" || subresource == attributes.subresource)
    };
    let scope = match rule.text("scope") {
        "Namespaced" => resource.namespaced,
        "Cluster" => !resource.namespaced,
        _ => true,
    };
    scope
        && names("operations", attributes.operation.as_str())
        && names("apiGroups", id.group.as_str())
        && names("apiVersions", &resource.version)
        && rule.items("resources").iter().any(plural)
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
    use kedge_api::GroupResource;
    use serde_json::json;

    use super::*;
    use crate::strategy::Strategy;

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
            kind: None,
            dry_run: false,
        };
        let asked = Asked::of(&row, &attributes, &object);
        Criteria::of_webhook(&webhook).seen(&crate::kinds::table(), &snapshot, &asked).unwrap().is_some()
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
    fn another_version_of_the_resource_counts_unless_the_letter_does() {
        let table = crate::kinds::table();
        let scaler = GroupResource::of("autoscaling", "horizontalpodautoscalers");
        let newer = table.find(&scaler, "v2").unwrap();
        let target = json!({"type": "Utilization", "averageUtilization": 50});
        let metrics = json!([{"type": "Resource", "resource": {"name": "cpu", "target": target}}]);
        let object = json!({"apiVersion": "autoscaling/v2", "spec": {"maxReplicas": 3, "metrics": metrics}});
        let attributes = Attributes {
            operation: Operation::Create,
            resource: &newer.resource,
            subresource: "",
            namespace: "n",
            name: "s",
            old: None,
            kind: None,
            dry_run: false,
        };
        let asked = Asked::of(newer, &attributes, &object);
        let rule = |version: &str| json!({"operations": ["*"], "apiGroups": ["autoscaling"], "apiVersions": [version], "resources": ["*"]});
        let seen = |version: &str, policy: &str| {
            let webhook = json!({"rules": [rule(version)], "matchPolicy": policy});
            Criteria::of_webhook(&webhook).seen(&table, &Snapshot::default(), &asked).unwrap()
        };
        assert!(matches!(seen("v2", "Equivalent"), Some(Seen::AsItIs)));
        assert!(seen("v1", "Exact").is_none() && seen("v3", "Equivalent").is_none());
        let seen = seen("v1", "Equivalent").unwrap();
        let shown = seen.view(&asked).unwrap().unwrap();
        assert_eq!((shown.kind().version, &*shown.row.resource.version), ("v1", "v1"));
        assert_eq!(shown.object.unwrap()["spec"]["targetCPUUtilizationPercentage"], 50);
        let excluded = json!({"excludeResourceRules": [rule("v1")]});
        assert!(Criteria::of_policy(&excluded).seen(&table, &Snapshot::default(), &asked).unwrap().is_none());
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
