//! ComponentStatus: whether the parts of the control plane are well. Not kept, but found out when asked.

use std::borrow::Cow;

use kedge_api::resource::Column;
use kedge_api::{Resource, Verb};
use serde_json::{Value, json};

use super::{columns, resource};
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::Look as _;

const COLUMNS: &[Column] = &[
    columns::text("Status", |o| status(o).into()),
    columns::text("Message", |o| healthy(o).text("message").into()),
    columns::text("Error", |o| healthy(o).text("error").into()),
];

pub(crate) fn row() -> Row {
    let schema = "io.k8s.api.core.v1.ComponentStatus";
    let base = resource("", "componentstatuses", "componentstatus", "ComponentStatus", schema, COLUMNS);
    let resource = Resource {
        short_names: Cow::Borrowed(&["cs"]),
        namespaced: false,
        verbs: &[Verb::Get, Verb::List],
        deprecated: Some("v1 ComponentStatus is deprecated in v1.19+"),
        ..base
    };
    Row::new(resource, Strategy { made: Some(components), ..Strategy::PLAIN })
}

fn healthy(component: &Value) -> &Value {
    let conditions = component.items("conditions").iter();
    conditions.into_iter().find(|c| c.text("type") == "Healthy").unwrap_or(&Value::Null)
}

fn status(component: &Value) -> &'static str {
    match healthy(component).text("status") {
        "True" => "Healthy",
        "False" => "Unhealthy",
        _ => "Unknown",
    }
}

/// All parts run in the process that answers, and each of them is started anew when it stops: who can ask has them.
fn components() -> Vec<Value> {
    let one = |name: &str| {
        let condition = json!({"type": "Healthy", "status": "True", "message": "ok"});
        json!({"apiVersion": "v1", "kind": "ComponentStatus", "metadata": {"name": name}, "conditions": [condition]})
    };
    ["controller-manager", "etcd-0", "scheduler"].map(one).to_vec()
}
