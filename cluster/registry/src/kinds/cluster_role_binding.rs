//! ClusterRoleBinding.

use kedge_api::Resource;

use super::resource;
use super::role::GROUP;
use super::role_binding::{BINDING, CLUSTER_ROLE, COLUMNS, binding};
use crate::strategy::Strategy;
use crate::table::Row;

pub(crate) fn row() -> Row {
    let schema = "io.k8s.api.rbac.v1.ClusterRoleBinding";
    let base = resource(GROUP, "clusterrolebindings", "clusterrolebinding", "ClusterRoleBinding", schema, COLUMNS);
    let strategy = Strategy { validate: |b, errors| binding(b, &[CLUSTER_ROLE], false, errors), ..BINDING };
    Row::new(Resource { namespaced: false, ..base }, strategy)
}
