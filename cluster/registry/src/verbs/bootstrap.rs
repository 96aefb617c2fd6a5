//! What exists in every cluster before anyone asks for it.

mod policy;

use kedge_api::client::User;
use kedge_api::rbac::MASTERS;
use kedge_api::request::Target;
use kedge_api::resource::known;
use kedge_api::{Body, GroupResource, Options, PatchType, Reason, Request, Status, Verb};
use serde_json::{Value, json};

use crate::kinds::api_service;
use crate::kinds::flow::bootstrap as flow;
use crate::kinds::priority_class;
use crate::metadata::stamp;
use crate::value::Look as _;
use crate::{Registry, Settings};

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// Creates what Kubernetes takes for granted, where it is missing: namespaces, the system's priority classes, who waits when the
/// server is busy, what it answers for itself, the network of services and the server's own service in it, roles and who has them.
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
    service_network(registry).await?;
    create(registry, known::SERVICES, service(&registry.options.settings)).await?;
    policy::reconcile(registry).await;
    Ok(())
}

/// How pods find the API server: it has the first address there is. Where it leads is for whoever knows the server's addresses to say.
fn service(settings: &Settings) -> Value {
    let (network, prefix) = settings.service_network;
    let mask = u32::MAX.checked_shl(32u32.saturating_sub(prefix.into())).unwrap_or(0);
    let first = std::net::Ipv4Addr::from((u32::from(network) & mask).wrapping_add(1));
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {
            "clusterIP": first.to_string(), "type": "ClusterIP", "sessionAffinity": "None",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": settings.api_port}],
        },
    })
}

/// The network that services have been given addresses from since before there were objects for such.
pub(crate) async fn service_network(registry: &Registry) -> Result<(), Status> {
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
    match write(registry, Verb::Create, resource, object).await {
        Ok(()) => Ok(true),
        Err(status) if status.is(Reason::AlreadyExists) => Ok(false),
        Err(status) => Err(status),
    }
}

/// Does what `verb` says to an object; for a deletion its name is enough.
pub(crate) async fn write(
    registry: &Registry,
    verb: Verb,
    resource: GroupResource,
    object: Value,
) -> Result<(), Status> {
    let target = Target {
        namespace: object.text("metadata.namespace").to_owned(),
        name: if verb == Verb::Create { String::new() } else { object.text("metadata.name").to_owned() },
        ..all_of(resource)
    };
    let body = if verb == Verb::Delete { Body::None } else { object.into() };
    carry_out(registry, verb, target, body).await
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

pub(crate) async fn carry_out(registry: &Registry, verb: Verb, target: Target, body: Body) -> Result<(), Status> {
    let who = User::new("system:apiserver", &[MASTERS]);
    let options = Options { field_manager: Some("kube-apiserver".into()), ..Options::default() };
    registry.carry_out(Request { who, verb, target, options, body }).await.map(drop)
}
