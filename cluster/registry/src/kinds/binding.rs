//! Bindings are not kept: creating one binds a pod to a node.

use kedge_api::{Resource, Verb};

use super::resource;
use crate::strategy::Strategy;
use crate::table::Row;

pub(crate) fn row() -> Row {
    let base = resource("", "bindings", "binding", "Binding", "io.k8s.api.core.v1.Binding", &[]);
    Row::new(Resource { verbs: &[Verb::Create], ..base }, Strategy::PLAIN)
}
