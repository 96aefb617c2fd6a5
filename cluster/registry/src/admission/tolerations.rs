//! A pod that says nothing about it is patient with a node in trouble for a while.

use kedge_api::Status;
use serde_json::{Value, json};

use super::Attributes;
use crate::strategy::Scope;
use crate::value::{Fill as _, Look as _};

const SECONDS: i64 = 300;

pub(super) fn default(_: &Scope<'_>, _: &Attributes<'_>, pod: &mut Value) -> Result<(), Status> {
    tolerate(pod);
    Ok(())
}

/// Patience with a node in trouble, unless the pod says how much it has.
pub(crate) fn tolerate(pod: &mut Value) {
    let mut tolerations = pod.items("spec.tolerations").to_vec();
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerated = tolerations.iter().any(|t| {
            let same = t.text("key") == key || t.text("key").is_empty();
            same && ["NoExecute", ""].contains(&t.text("effect"))
        });
        if !tolerated {
            tolerations
                .push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS}));
        }
    }
    pod.set("spec.tolerations", tolerations);
}
