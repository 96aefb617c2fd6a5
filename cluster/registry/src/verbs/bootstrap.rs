//! What exists in every cluster before anyone asks for it.

use kedge_api::client::User;
use kedge_api::request::Target;
use kedge_api::resource::known;
use kedge_api::{Body, GroupResource, Options, PatchType, Reason, Request, Status, Verb};
use serde_json::{Value, json};

use crate::Registry;
use crate::kinds::api_service;
use crate::kinds::flow::bootstrap as flow;
use crate::kinds::priority_class;
use crate::metadata::stamp;

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// Creates what Kubernetes takes for granted, where it is missing: namespaces, the system's priority classes, who waits when the
/// server is busy, what it answers for itself, and the network of services.
pub async fn bootstrap(registry: &Registry) -> Result<(), Status> {
    for name in NAMESPACES {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        create(registry, known::NAMESPACES, namespace).await?;
    }
    for class in priority_class::bootstrap() {
        create(registry, known::PRIORITY_CLASSES, class).await?;
    }
    for level in flow::levels() {
        create(registry, known::PRIORITY_LEVELS, level).await?;
    }
    for schema in flow::schemas() {
        create(registry, known::FLOW_SCHEMAS, schema).await?;
    }
    for api in api_service::local() {
        create(registry, known::API_SERVICES, api).await?;
    }
    service_network(registry).await
}

/// The network that services have been given addresses from since before there were objects for such.
async fn service_network(registry: &Registry) -> Result<(), Status> {
    let (address, bits) = registry.options.settings.service_network;
    let spec = json!({"cidrs": [format!("{address}/{bits}")]});
    let cidr = json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "kubernetes"}, "spec": spec});
    let condition = json!({"type": "Ready", "status": "True", "lastTransitionTime": stamp((registry.options.now)()), "reason": "",
        "message": "Kubernetes default Service CIDR is ready"});
    if create(registry, known::SERVICE_CIDRS, cidr).await? {
        let patch = Body::Patch(PatchType::Merge, json!({"status": {"conditions": [condition]}}));
        let target = Target { name: "kubernetes".into(), subresource: "status".into(), ..all_of(known::SERVICE_CIDRS) };
        carry_out(registry, Verb::Patch, target, patch).await?;
    }
    Ok(())
}

/// Whether there was none yet.
async fn create(registry: &Registry, resource: GroupResource, object: Value) -> Result<bool, Status> {
    match carry_out(registry, Verb::Create, all_of(resource), object.into()).await {
        Ok(()) => Ok(true),
        Err(status) if status.is(Reason::AlreadyExists) => Ok(false),
        Err(status) => Err(status),
    }
}

fn all_of(resource: GroupResource) -> Target {
    Target {
        resource,
        version: String::new(),
        namespace: String::new(),
        name: String::new(),
        subresource: String::new(),
    }
}

async fn carry_out(registry: &Registry, verb: Verb, target: Target, body: Body) -> Result<(), Status> {
    let who = User::new("system:apiserver", &["system:masters"]);
    let options = Options { field_manager: Some("kube-apiserver".into()), ..Options::default() };
    registry.carry_out(Request { who, verb, target, options, body }).await.map(drop)
}
