//! Networks and addresses of services, kept true while services come and go.

use async_trait::async_trait;
use kedge_api::resource::known::{IP_ADDRESSES, SERVICE_CIDRS, SERVICES};
use kedge_api::{GroupResource, Reason, Status, Verb};
use serde_json::json;

use super::Task;
use crate::Registry;
use crate::networks::{MANAGED, Parent, Step, plan};
use crate::verbs::bootstrap;

pub(super) struct Addresses;

#[async_trait]
impl Task for Addresses {
    const WHAT: &str = "addresses of services";
    const RESOURCES: &[GroupResource] = &[SERVICES, IP_ADDRESSES, SERVICE_CIDRS];

    async fn converge(&mut self, registry: &Registry) -> Result<bool, Status> {
        let steps = plan(&registry.cache.snapshot());
        let settled = steps.is_empty();
        for step in steps {
            match carry_out(registry, step).await {
                // Someone else was there before: the next look tells.
                Err(status) if status.is(Reason::NotFound) || status.is(Reason::AlreadyExists) => {}
                other => other?,
            }
        }
        Ok(settled)
    }
}

async fn carry_out(registry: &Registry, step: Step) -> Result<(), Status> {
    match step {
        Step::Default => bootstrap::service_network(registry).await,
        Step::Note(address, parent) => {
            let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
            let labels = json!({"ipaddress.kubernetes.io/ip-family": family, MANAGED.0: MANAGED.1});
            let Parent { resource, namespace, name } = parent;
            let object = json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
                "metadata": {"name": address.to_string(), "labels": labels},
                "spec": {"parentRef": {"group": "", "resource": resource, "namespace": namespace, "name": name}},
            });
            bootstrap::write(registry, Verb::Create, IP_ADDRESSES, object).await
        }
        Step::Forget(name) => {
            bootstrap::write(registry, Verb::Delete, IP_ADDRESSES, json!({"metadata": {"name": name}})).await
        }
    }
}
