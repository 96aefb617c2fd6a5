//! The objects that a binding gives a policy as parameters.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kedge_api::selector::Selector;
use kedge_api::{Key, Object, Snapshot, Status};
use serde::Deserialize as _;
use serde_json::Value;

use crate::Registry;
use crate::admission::matching::Asked;
use crate::expressions::Policy;
use crate::table::Row;
use crate::value::Look as _;

/// Why a policy or binding cannot be asked.
pub(super) struct Unset {
    pub(super) of_binding: bool,
    pub(super) message: String,
}

fn binding(why: &str) -> Unset {
    Unset { of_binding: true, message: format!("failed to configure binding: {why}") }
}

/// One evaluation for each; a single one without a parameter where there are none to be had.
pub(super) fn collect(
    registry: &Registry,
    snapshot: &Snapshot,
    policy: &Policy,
    bound: &Value,
    asked: &Asked<'_>,
) -> Result<Vec<Option<Value>>, Unset> {
    let (kind, reference) = (policy.value.look("spec.paramKind"), bound.look("spec.paramRef"));
    if kind.is_null() {
        return Ok(vec![None]);
    }
    let (api_version, name) = (kind.text("apiVersion"), kind.text("kind"));
    let table = registry.table();
    let row = table.rows().find(|row| row.resource.api_version() == api_version && row.resource.kind == name);
    let Some(row) = row else {
        let said = api_version.split_once('/').map_or_else(|| format!("/{api_version}"), |(g, v)| format!("{g}/{v}"));
        let message = format!(
            "failed to configure policy: failed to find resource referenced by paramKind: '{said}, Kind={name}'"
        );
        return Err(Unset { of_binding: false, message });
    };
    if reference.is_null() {
        return Ok(vec![None]);
    }
    let given = reference.text("namespace");
    let namespace = match (row.resource.namespaced, given, asked.namespace()) {
        (false, "", _) => "",
        (false, ..) => {
            return Err(binding("paramRef.namespace must not be provided for a cluster-scoped `paramKind`"));
        }
        (true, "", "") => {
            return Err(binding(
                "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources",
            ));
        }
        (true, "", own) => own,
        (true, given, _) => given,
    };
    let name = reference.text("name");
    let found: Vec<_> = if name.is_empty() {
        let selector = LabelSelector::deserialize(reference.look("selector")).map_err(|e| binding(&e.to_string()))?;
        let selector = Selector::from_label_selector(Some(&selector)).map_err(|e| binding(&e.to_string()))?;
        let all = snapshot.list(&row.storage(), namespace);
        all.filter(|object| selector.matches(&object.meta.labels)).cloned().collect()
    } else {
        snapshot.get(&Key::new(row.storage(), namespace, name)).cloned().into_iter().collect()
    };
    if found.is_empty() && reference.text("parameterNotFoundAction") == "Deny" {
        return Err(binding("no params found for policy binding with `Deny` parameterNotFoundAction"));
    }
    found
        .iter()
        .map(|object| shown(row, object).map(Some))
        .collect::<Result<_, _>>()
        .map_err(|status| binding(&status.message))
}

fn shown(row: &Row, object: &Object) -> Result<Value, Status> {
    let mut value = object.decode()?;
    if let Some(custom) = &row.custom {
        custom.show_here(&row.resource, &mut value)?;
    }
    Ok(value)
}
