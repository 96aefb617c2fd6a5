//! The roles and bindings inside `kube-system` and `kube-public`.

use super::policy::{Binding, CORE, EVENTS, Grant, READ, Role, Who, binding, named, on, role};

const SYSTEM: &str = "kube-system";
const PUBLIC: &str = "kube-public";
const LOCKS: &[Grant] = &[
    on("create get list update watch", "coordination.k8s.io", "leases"),
    on("create get list update watch", "coordination.k8s.io", "leasecandidates"),
];

const fn within(namespace: &'static str, role: Role) -> Role {
    Role { namespace, ..role }
}

const fn bound(namespace: &'static str, binding: Binding) -> Binding {
    Binding { namespace, ..binding }
}

pub(super) const ROLES: &[Role] = &[
    within(
        SYSTEM,
        role(
            "extension-apiserver-authentication-reader",
            &[named(READ, CORE, "configmaps", "extension-apiserver-authentication")],
        ),
    ),
    within(SYSTEM, role("system:controller:bootstrap-signer", &[on(READ, CORE, "secrets")])),
    within(SYSTEM, role("system:controller:cloud-provider", &[on("create get list watch", CORE, "configmaps")])),
    within(SYSTEM, role("system:controller:token-cleaner", &[on("delete get list watch", CORE, "secrets"), EVENTS])),
    within(SYSTEM, role("system::leader-locking-kube-controller-manager", LOCKS)),
    within(SYSTEM, role("system::leader-locking-kube-scheduler", LOCKS)),
    within(
        PUBLIC,
        role(
            "system:controller:bootstrap-signer",
            &[on(READ, CORE, "configmaps"), named("update", CORE, "configmaps", "cluster-info"), EVENTS],
        ),
    ),
];

const MANAGER: Who = Who::User("system:kube-controller-manager");
const SCHEDULER: Who = Who::User("system:kube-scheduler");

pub(super) const BINDINGS: &[Binding] = &[
    bound(
        SYSTEM,
        Binding {
            name: "system::extension-apiserver-authentication-reader",
            ..binding("extension-apiserver-authentication-reader", &[MANAGER, SCHEDULER])
        },
    ),
    bound(
        SYSTEM,
        binding("system::leader-locking-kube-controller-manager", &[MANAGER, Who::Account("kube-controller-manager")]),
    ),
    bound(SYSTEM, binding("system::leader-locking-kube-scheduler", &[SCHEDULER, Who::Account("kube-scheduler")])),
    bound(SYSTEM, binding("system:controller:bootstrap-signer", &[Who::Account("bootstrap-signer")])),
    bound(SYSTEM, binding("system:controller:cloud-provider", &[Who::Account("cloud-provider")])),
    bound(SYSTEM, binding("system:controller:token-cleaner", &[Who::Account("token-cleaner")])),
    bound(PUBLIC, binding("system:controller:bootstrap-signer", &[Who::Account("bootstrap-signer")])),
];
