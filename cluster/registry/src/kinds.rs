//! The kinds: one file each, with its row and its strategy.

mod address;
mod binding;
pub(crate) mod columns;
mod config_map;
mod daemon_set;
mod deployment;
mod endpoint_slice;
mod endpoints;
mod event;
mod job;
mod lease;
mod namespace;
mod node;
pub(crate) mod pod;
mod replica_set;
mod secret;
mod service;
mod service_account;
mod workload;

use std::borrow::Cow;

use kedge_api::resource::{Column, Subresource};
use kedge_api::{GroupResource, Resource, Verb};

use crate::table::Row;

/// All built-in rows, in the order of discovery.
pub(crate) fn rows() -> Vec<Row> {
    let mut rows = vec![
        binding::row(),
        config_map::row(),
        endpoints::row(),
        event::core_row(),
        namespace::row(),
        node::row(),
        pod::row(),
        secret::row(),
        service_account::row(),
        service::row(),
        daemon_set::row(),
        deployment::row(),
        replica_set::row(),
        job::row(),
        lease::row(),
        endpoint_slice::row(),
        event::events_row(),
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

pub(crate) const READ_WRITE: &[Verb] = &[Verb::Get, Verb::Patch, Verb::Update];

/// The `status` subresource.
pub(crate) const STATUS: Subresource = Subresource { name: "status", kind: "", group_version: None, verbs: READ_WRITE };

pub(crate) const SCALE: Subresource =
    Subresource { name: "scale", kind: "Scale", group_version: Some(("autoscaling", "v1")), verbs: READ_WRITE };

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
    }
}
