//! ServiceAccount. Its tokens are made by the `token` subresource.

use std::borrow::Cow;

use kedge_api::resource::{Column, Subresource};
use kedge_api::{Resource, Verb};

use super::{columns, resource};
use crate::strategy::Strategy;
use crate::table::Row;

const COLUMNS: &[Column] = &[columns::AGE];

const TOKEN: Subresource = Subresource {
    name: "token",
    kind: "TokenRequest",
    group_version: Some(("authentication.k8s.io", "v1")),
    verbs: &[Verb::Create],
};

pub(crate) fn row() -> Row {
    let schema = "io.k8s.api.core.v1.ServiceAccount";
    let base = resource("", "serviceaccounts", "serviceaccount", "ServiceAccount", schema, COLUMNS);
    let resource = Resource { short_names: Cow::Borrowed(&["sa"]), subresources: &[TOKEN], ..base };
    Row::new(resource, Strategy { metadata_checks: (1, 1), returns_deleted: true, ..Strategy::PLAIN })
}
