//! Finalizers: what holds an object that is deleted.

use kedge_api::Object;
use serde_json::{Value, json};

use crate::controller::Plan;

pub fn holds(object: &Object, finalizer: &str) -> bool {
    object.meta.finalizers.iter().flatten().any(|f| f == finalizer)
}

/// Takes a finalizer off an object that has not changed since.
pub fn lift(object: &Object, finalizer: &str, plan: &mut Plan) {
    let left: Vec<_> = object.meta.finalizers.iter().flatten().filter(|f| *f != finalizer).collect();
    let finalizers = if left.is_empty() { Value::Null } else { json!(left) };
    let revision = object.revision.to_string();
    plan.patch(
        object,
        "",
        json!({"metadata": {"uid": object.uid(), "resourceVersion": revision, "finalizers": finalizers}}),
    );
}
