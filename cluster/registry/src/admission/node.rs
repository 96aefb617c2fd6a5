//! A new node takes no pods until a controller has seen it ready.

use kedge_api::Status;
use serde_json::{Value, json};

use super::Attributes;
use crate::strategy::Scope;
use crate::value::{Fill as _, Look as _};

const KEY: &str = "node.kubernetes.io/not-ready";

pub(super) fn taint(_: &Scope<'_>, _: &Attributes<'_>, node: &mut Value) -> Result<(), Status> {
    let has = node.items("spec.taints").iter().any(|t| t.text("key") == KEY && t.text("effect") == "NoSchedule");
    if !has {
        let mut taints = node.items("spec.taints").to_vec();
        taints.push(json!({"key": KEY, "effect": "NoSchedule"}));
        node.set("spec.taints", taints);
    }
    Ok(())
}
