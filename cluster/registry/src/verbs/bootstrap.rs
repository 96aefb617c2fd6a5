//! What exists in every cluster before anyone asks for it.

use kedge_api::client::User;
use kedge_api::request::Target;
use kedge_api::resource::known;
use kedge_api::{Options, Reason, Request, Status, Verb};
use serde_json::json;

use crate::Registry;

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// Creates the namespaces that Kubernetes takes for granted, where they are missing.
pub async fn bootstrap(registry: &Registry) -> Result<(), Status> {
    for name in NAMESPACES {
        let target = Target {
            resource: known::NAMESPACES,
            version: String::new(),
            namespace: String::new(),
            name: String::new(),
            subresource: String::new(),
        };
        let who = User::new("system:apiserver", &["system:masters"]);
        let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}).into();
        let request = Request { who, verb: Verb::Create, target, options: Options::default(), body };
        match registry.carry_out(request).await {
            Ok(_) => {}
            Err(status) if status.is(Reason::AlreadyExists) => {}
            Err(status) => return Err(status),
        }
    }
    Ok(())
}
