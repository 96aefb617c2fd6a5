//! Who has the cluster roles from the start.

use super::policy::{Binding, Who, binding};
use super::roles::OWN;

const AUTHENTICATED: Who = Who::Group("system:authenticated");
const MANAGER: Who = Who::User("system:kube-controller-manager");
const SCHEDULER: Who = Who::User("system:kube-scheduler");

pub(super) fn all() -> impl Iterator<Item = Binding> {
    BINDINGS.iter().copied()
}

const BINDINGS: &[Binding] = &[
    binding("cluster-admin", &[Who::Group(kedge_api::rbac::MASTERS)]),
    binding("system:monitoring", &[Who::Group("system:monitoring")]),
    binding("system:discovery", &[AUTHENTICATED]),
    binding("system:basic-user", &[AUTHENTICATED]),
    binding("system:public-info-viewer", &[AUTHENTICATED, Who::Group("system:unauthenticated")]),
    binding("system:service-account-issuer-discovery", &[Who::Group("system:serviceaccounts")]),
    binding("system:node-proxier", &[Who::User("system:kube-proxy")]),
    binding("system:kube-controller-manager", &[MANAGER]),
    binding("system:kube-dns", &[Who::Account("kube-dns")]),
    binding("system:kube-scheduler", &[SCHEDULER]),
    binding("system:volume-scheduler", &[SCHEDULER]),
    // Nodes have the Node authorizer; nobody has the role.
    binding("system:node", &[]),
    Binding { origin: OWN.origin, ..binding(OWN.name, &[MANAGER]) },
];
