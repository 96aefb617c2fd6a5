//! The kinds: one file each, with its row and its strategy.

mod address;
mod admission_policy;
mod admission_policy_binding;
mod admission_rule;
pub(crate) mod api_service;
mod binding;
#[cfg(test)]
mod cases;
pub(crate) mod certificate;
mod cluster_role;
mod cluster_role_binding;
pub(crate) mod columns;
mod component_status;
mod conditions;
mod config_map;
mod controller_revision;
mod cron_job;
mod custom_resource_definition;
mod daemon_set;
mod deployment;
mod device;
mod disruption_budget;
mod endpoint_slice;
mod endpoints;
mod event;
pub(crate) mod flow;
mod horizontal_pod_autoscaler;
mod ingress;
mod ingress_class;
mod ip_address;
mod job;
#[cfg(test)]
mod late;
mod lease;
mod limit_range;
pub(crate) mod namespace;
mod network_policy;
mod node;
pub(crate) mod persistent_volume;
pub(crate) mod persistent_volume_claim;
pub(crate) mod pod;
mod pod_template;
pub(crate) mod priority_class;
mod replica_set;
mod replication_controller;
mod resource_quota;
mod role;
mod role_binding;
mod runtime_class;
mod secret;
mod service;
mod service_account;
mod service_cidr;
mod stateful_set;
pub(crate) mod storage;
mod webhook_configuration;
pub(crate) mod workload;

use std::borrow::Cow;
use std::sync::Arc;

use kedge_api::resource::Column;
use kedge_api::{GroupResource, Resource, Verb};

pub(crate) use crate::table::{READ_WRITE, SCALE, STATUS};
use crate::table::{Row, Table};

/// The table of the built-in kinds.
pub(crate) fn table() -> Table {
    Table::of(rows().into_iter().map(Arc::new).collect())
}

/// Resources that the store keeps in memory only.
pub fn volatile() -> Vec<GroupResource> {
    rows()
        .into_iter()
        .filter(|row| row.resource.volatile && row.stored_as.is_none())
        .map(|row| row.resource.id)
        .collect()
}

/// All built-in rows, in the order of discovery.
fn rows() -> Vec<Row> {
    let mut rows = vec![
        admission_policy::mutating_row(),
        admission_policy_binding::mutating_row(),
        webhook_configuration::mutating_row(),
        admission_policy::validating_row(),
        admission_policy_binding::validating_row(),
        webhook_configuration::validating_row(),
        api_service::row(),
        binding::row(),
        component_status::row(),
        config_map::row(),
        endpoints::row(),
        event::core_row(),
        limit_range::row(),
        namespace::row(),
        node::row(),
        persistent_volume_claim::row(),
        persistent_volume::row(),
        pod::row(),
        pod_template::row(),
        replication_controller::row(),
        resource_quota::row(),
        secret::row(),
        service_account::row(),
        service::row(),
        custom_resource_definition::row(),
        controller_revision::row(),
        daemon_set::row(),
        deployment::row(),
        replica_set::row(),
        stateful_set::row(),
        horizontal_pod_autoscaler::row(),
        horizontal_pod_autoscaler::older_row(),
        cron_job::row(),
        job::row(),
        lease::row(),
        endpoint_slice::row(),
        event::events_row(),
        runtime_class::row(),
        disruption_budget::row(),
        priority_class::row(),
        storage::driver::row(),
        storage::node::row(),
        storage::capacity::row(),
        storage::class::row(),
        storage::attachment::row(),
        storage::attributes_class::row(),
        certificate::row(),
        flow::schema::row(),
        flow::level::row(),
        ingress_class::row(),
        ingress::row(),
        ip_address::row(),
        network_policy::row(),
        service_cidr::row(),
        device::class::row(),
        device::claim::row(),
        device::claim::template_row(),
        device::slice::row(),
        cluster_role_binding::row(),
        cluster_role::row(),
        role_binding::row(),
        role::row(),
    ];
    rows.shrink_to_fit();
    rows
}

pub(crate) const ALL: &[Verb] = &[
    Verb::Create,
    Verb::Delete,
    Verb::DeleteCollection,
    Verb::Get,
    Verb::List,
    Verb::Patch,
    Verb::Update,
    Verb::Watch,
];

/// The category of what changes how the API itself behaves.
pub(crate) const API_EXTENSIONS: &[&str] = &["api-extensions"];

/// As `resource`, of the cluster.
pub(crate) fn cluster_resource(
    group: &'static str,
    plural: &'static str,
    singular: &'static str,
    kind: &'static str,
    schema: &'static str,
    columns: &'static [Column],
) -> Resource {
    Resource { namespaced: false, ..resource(group, plural, singular, kind, schema, columns) }
}

/// A namespaced resource of version `v1` with all verbs and no more; a row says where it differs.
pub(crate) fn resource(
    group: &'static str,
    plural: &'static str,
    singular: &'static str,
    kind: &'static str,
    schema: &'static str,
    columns: &'static [Column],
) -> Resource {
    Resource {
        id: GroupResource::of(group, plural),
        version: Cow::Borrowed("v1"),
        kind: Cow::Borrowed(kind),
        singular: Cow::Borrowed(singular),
        short_names: Cow::Borrowed(&[]),
        categories: Cow::Borrowed(&[]),
        namespaced: true,
        verbs: ALL,
        subresources: &[],
        columns,
        selectable: &[],
        schema: Cow::Borrowed(schema),
        volatile: false,
        deprecated: None,
        stored_in: None,
        made_annotations: &[],
        custom: None,
    }
}
