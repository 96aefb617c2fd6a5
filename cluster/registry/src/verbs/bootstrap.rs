//! What exists in every cluster before anyone asks for it.

use kedge_api::client::User;
use kedge_api::request::Target;
use kedge_api::resource::known;
use kedge_api::{Options, Reason, Request, Status, Verb};
use serde_json::json;

use crate::Registry;
use crate::kinds::priority_class;

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// Creates what Kubernetes takes for granted, where it is missing: namespaces and the system's priority classes.
pub async fn bootstrap(registry: &Registry) -> Result<(), Status> {
    let namespaces =
        NAMESPACES.map(|name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
    let namespaces = namespaces.into_iter().map(|object| (known::NAMESPACES, object));
    for (resource, object) in namespaces.chain(priority_class::bootstrap().map(|o| (known::PRIORITY_CLASSES, o))) {
        let target = Target {
            resource,
            version: String::new(),
            namespace: String::new(),
            name: String::new(),
            subresource: String::new(),
        };
        let who = User::new("system:apiserver", &["system:masters"]);
        let options = Options { field_manager: Some("kube-apiserver".into()), ..Options::default() };
        let request = Request { who, verb: Verb::Create, target, options, body: object.into() };
        match registry.carry_out(request).await {
            Ok(_) => {}
            Err(status) if status.is(Reason::AlreadyExists) => {}
            Err(status) => return Err(status),
        }
    }
    Ok(())
}
