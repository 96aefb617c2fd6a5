//! The gates that every new object passes between defaulting and validation, in order.

mod namespace;
mod node;
mod pod_defaults;
mod service_account;
mod storage;

use kedge_api::{Resource, Status};
use serde_json::Value;

use crate::strategy::Scope;
use crate::table::Row;

type Gate = fn(&Scope<'_>, &Resource, &mut Value) -> Result<(), Status>;

/// Upstream's order: NamespaceLifecycle, ServiceAccount, TaintNodesByCondition, Priority, DefaultTolerationSeconds, StorageObjectInUseProtection, RuntimeClass.
const GATES: &[Gate] = &[
    namespace::lifecycle,
    service_account::default,
    node::taint,
    pod_defaults::priority,
    pod_defaults::tolerations,
    storage::protect,
    pod_defaults::runtime_class,
];

pub(crate) fn admit(scope: &Scope<'_>, row: &Row, object: &mut Value) -> Result<(), Status> {
    GATES.iter().try_for_each(|gate| gate(scope, &row.resource, object))
}

pub(crate) use pod_defaults::tolerate;

fn forbidden(resource: &Resource, name: &str, why: &str) -> Status {
    let message = format!("{} \"{name}\" is forbidden: {why}", resource.id);
    Status::about(kedge_api::Reason::Forbidden, &resource.id, name, message)
}
