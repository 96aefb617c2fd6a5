//! StorageClass: how volumes are made for claims.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use kedge_api::Resource;
use kedge_api::resource::Column;
use serde_json::Value;

use super::{cluster_wide, parameters, provisioner};
use crate::errors::{Errors, Path};
use crate::kinds::{columns, pod::warnings as pod_warnings, workload};
use crate::names;
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

const COLUMNS: &[Column] = &[
    columns::name(|o| name(o).into()),
    columns::text("Provisioner", |o| o.text("provisioner").into()),
    columns::text("ReclaimPolicy", |o| o.text("reclaimPolicy").into()),
    columns::text("VolumeBindingMode", |o| o.text("volumeBindingMode").into()),
    columns::text("AllowVolumeExpansion", |o| o.flag("allowVolumeExpansion").into()),
    columns::AGE,
];

const DEFAULT: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

pub(crate) fn row() -> Row {
    let schema = "io.k8s.api.storage.v1.StorageClass";
    let base = cluster_wide("storageclasses", "storageclass", "StorageClass", schema, COLUMNS);
    let resource = Resource { short_names: Cow::Borrowed(&["sc"]), ..base };
    let strategy = Strategy {
        returns_deleted: true,
        default: |class| {
            class.fill("reclaimPolicy", "Delete");
            class.fill("volumeBindingMode", "Immediate");
        },
        validate,
        validate_update: |new, old, errors| {
            for field in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
                workload::immutable(new, old, field, errors);
            }
        },
        warnings,
        ..Strategy::PLAIN
    };
    Row::new(resource, strategy)
}

fn name(class: &Value) -> String {
    let annotations = class.look("metadata.annotations");
    let default = DEFAULT.iter().any(|key| annotations.get(key).is_some_and(|v| v == "true"));
    format!("{}{}", class.text("metadata.name"), if default { " (default)" } else { "" })
}

fn validate(class: &Value, errors: &mut Errors) {
    const POLICIES: &[&str] = &["Delete", "Retain"];
    const BINDING: &[&str] = &["Immediate", "WaitForFirstConsumer"];
    provisioner(class.text("provisioner"), &Path::root("provisioner"), errors);
    parameters(class.look("parameters"), &Path::root("parameters"), errors);
    for (field, known) in [("reclaimPolicy", POLICIES), ("volumeBindingMode", BINDING)] {
        let value = class.text(field);
        // An empty policy is none at all.
        let none = field == "reclaimPolicy" && value.is_empty();
        if !none && !known.contains(&value) {
            errors.not_supported(&Path::root(field), value, known);
        }
    }
    topologies(class.items("allowedTopologies"), errors);
}

fn topologies(terms: &[Value], errors: &mut Errors) {
    let root = Path::root("allowedTopologies");
    let mut all = Vec::new();
    for (at, term) in terms.iter().enumerate() {
        let item = root.index(at);
        let list = item.child("matchLabelExpressions");
        let mut seen: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (nth, expression) in term.items("matchLabelExpressions").iter().enumerate() {
            let path = list.index(nth);
            let here = path.child("values");
            let values = expression.items("values");
            if values.is_empty() {
                errors.required(&here, "");
            }
            let mut set = HashSet::new();
            for (which, value) in values.iter().filter_map(Value::as_str).enumerate() {
                if !set.insert(value) {
                    errors.duplicate(&here.index(which), value);
                }
            }
            let key = expression.text("key");
            errors.all_invalid(&path.child("key"), key, names::qualified(key));
            if seen.insert(key, set.into_iter().collect()).is_some() {
                errors.duplicate(&path.child("key"), key);
            }
        }
        // A term of nothing is one too often, however often it is given.
        if seen.is_empty() || all.contains(&seen) {
            errors.duplicate(&list, "");
        }
        all.push(seen);
    }
}

fn warnings(class: &Value, _: Option<&Value>) -> Vec<String> {
    let mut said = Vec::new();
    for (at, term) in class.items("allowedTopologies").iter().enumerate() {
        for (nth, expression) in term.items("matchLabelExpressions").iter().enumerate() {
            let path = format!("allowedTopologies[{at}].matchLabelExpressions[{nth}].key");
            said.extend(pod_warnings::label(expression.text("key")).map(|why| format!("{path}: {why}")));
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_default_class_is_named_so() {
        let class = |key: &str, value: &str| json!({"metadata": {"name": "a", "annotations": {key: value}}});
        assert_eq!(name(&class(DEFAULT[0], "true")), "a (default)");
        assert_eq!(name(&class(DEFAULT[0], "false")), "a");
        assert_eq!(name(&class("x", "true")), "a");
    }

    #[test]
    fn a_topology_is_given_once() {
        let term = |value: &str| json!({"matchLabelExpressions": [{"key": "zone", "values": [value]}]});
        let mut errors = Errors::default();
        topologies(&[term("a"), term("b"), term("a")], &mut errors);
        assert_eq!(errors.len(), 1);
    }
}
