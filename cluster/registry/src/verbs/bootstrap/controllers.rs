//! The cluster roles of upstream's controllers, each bound to a service account of the controller's name in `kube-system`.

use super::policy::{Binding, CORE, EVENTS, READ, Role, Who, binding, named, on, role};

pub(super) fn roles() -> impl Iterator<Item = Role> {
    CONTROLLERS.iter().map(|(role, _)| *role)
}

pub(super) fn bindings() -> impl Iterator<Item = Binding> {
    CONTROLLERS.iter().map(|(role, accounts)| binding(role.name, accounts))
}

/// A controller's role, and the account that has it. A macro, since the role's name is made of the account's at compile time.
macro_rules! controller {
    ($account:literal, [$($grant:expr),+ $(,)?]) => {
        (role(concat!("system:controller:", $account), &[$($grant),+]), &[Who::Account($account)])
    };
}

const SIGNERS: &str = "certificates.k8s.io";
const DISCOVERY: &str = "discovery.k8s.io";
const DRA: &str = "resource.k8s.io";
const STORAGE: &str = "storage.k8s.io";
const APPS: &str = "apps extensions";

const CONTROLLERS: &[(Role, &[Who])] = &[
    controller!(
        "attachdetach-controller",
        [
            on("list watch", CORE, "persistentvolumes persistentvolumeclaims"),
            on(READ, CORE, "nodes"),
            on("patch update", CORE, "nodes/status"),
            on("list watch", CORE, "pods"),
            EVENTS,
            on("get create delete list watch", STORAGE, "volumeattachments"),
            on(READ, STORAGE, "csidrivers"),
            on(READ, STORAGE, "csinodes"),
        ]
    ),
    controller!(
        "clusterrole-aggregation-controller",
        [on("escalate get list watch update patch", "rbac.authorization.k8s.io", "clusterroles"),]
    ),
    controller!(
        "cronjob-controller",
        [
            on("get list watch update", "batch", "cronjobs"),
            on("get list watch create update delete patch", "batch", "jobs"),
            on("update", "batch", "cronjobs/status"),
            on("update", "batch", "cronjobs/finalizers"),
            on("list watch delete", CORE, "pods"),
            EVENTS,
        ]
    ),
    controller!(
        "daemon-set-controller",
        [
            on(READ, APPS, "daemonsets"),
            on("update", APPS, "daemonsets/status"),
            on("update", APPS, "daemonsets/finalizers"),
            on("list watch", CORE, "nodes"),
            on("list watch create delete patch", CORE, "pods"),
            on("create", CORE, "pods/binding"),
            on("get list watch create delete update patch", "apps", "controllerrevisions"),
            EVENTS,
        ]
    ),
    controller!(
        "deployment-controller",
        [
            on("get list watch update", APPS, "deployments"),
            on("update", APPS, "deployments/status"),
            on("update", APPS, "deployments/finalizers"),
            on("get list watch create update patch delete", APPS, "replicasets"),
            on("get list watch update", CORE, "pods"),
            EVENTS,
        ]
    ),
    controller!(
        "disruption-controller",
        [
            on(READ, APPS, "deployments"),
            on(READ, APPS, "replicasets"),
            on(READ, CORE, "replicationcontrollers"),
            on(READ, "policy", "poddisruptionbudgets"),
            on(READ, "apps", "statefulsets"),
            on("update", "policy", "poddisruptionbudgets/status"),
            on("patch update", CORE, "pods/status"),
            on("get", "*", "*/scale"),
            EVENTS,
        ]
    ),
    controller!(
        "endpoint-controller",
        [
            on(READ, CORE, "services pods"),
            on("get list watch create update delete", CORE, "endpoints"),
            on("create", CORE, "endpoints/restricted"),
            EVENTS,
        ]
    ),
    controller!(
        "endpointslice-controller",
        [
            on(READ, CORE, "services pods nodes"),
            on("update", CORE, "services/finalizers"),
            on("get list watch create update delete", DISCOVERY, "endpointslices"),
            EVENTS,
        ]
    ),
    controller!(
        "endpointslicemirroring-controller",
        [
            on(READ, CORE, "services endpoints"),
            on("update", CORE, "services/finalizers"),
            on("update", CORE, "endpoints/finalizers"),
            on("get list watch create update delete", DISCOVERY, "endpointslices"),
            EVENTS,
        ]
    ),
    controller!(
        "expand-controller",
        [
            on("get list watch update patch", CORE, "persistentvolumes"),
            on("update patch", CORE, "persistentvolumeclaims/status"),
            on(READ, CORE, "persistentvolumeclaims"),
            EVENTS,
        ]
    ),
    controller!(
        "ephemeral-volume-controller",
        [
            on(READ, CORE, "pods"),
            on("update", CORE, "pods/finalizers"),
            on("get list watch create", CORE, "persistentvolumeclaims"),
            EVENTS,
        ]
    ),
    controller!(
        "resource-claim-controller",
        [
            on(READ, CORE, "pods"),
            on("update", CORE, "pods/finalizers"),
            on("get list watch create delete", DRA, "resourceclaims"),
            on("update patch", DRA, "resourceclaims resourceclaims/status"),
            on("update patch", CORE, "pods/status"),
            EVENTS,
            on("patch update", DRA, "resourceclaims/binding"),
        ]
    ),
    controller!(
        "device-taint-eviction-controller",
        [
            on("get list watch delete", CORE, "pods"),
            on("update patch", CORE, "pods/status"),
            on(READ, DRA, "resourceclaims"),
            on(READ, DRA, "resourceslices"),
            on(READ, DRA, "deviceclasses"),
            EVENTS,
        ]
    ),
    controller!("generic-garbage-collector", [on("get list watch patch update delete", "*", "*"), EVENTS,]),
    controller!(
        "horizontal-pod-autoscaler",
        [
            on(READ, "autoscaling", "horizontalpodautoscalers"),
            on("update", "autoscaling", "horizontalpodautoscalers/status"),
            on("get update", "*", "*/scale"),
            on("list watch", CORE, "pods"),
            on("list watch", "metrics.k8s.io", "pods"),
            on(READ, "custom.metrics.k8s.io", "*"),
            on(READ, "external.metrics.k8s.io", "*"),
            EVENTS,
        ]
    ),
    controller!(
        "job-controller",
        [
            on("get list watch update patch", "batch", "jobs"),
            on("update", "batch", "jobs/status"),
            on("update", "batch", "jobs/finalizers"),
            on("list watch create delete patch", CORE, "pods"),
            EVENTS,
        ]
    ),
    controller!(
        "namespace-controller",
        [
            on("get list watch delete", CORE, "namespaces"),
            on("update", CORE, "namespaces/finalize namespaces/status"),
            on("get list watch delete deletecollection", "*", "*"),
        ]
    ),
    controller!(
        "node-controller",
        [
            on("get list watch update delete patch", CORE, "nodes"),
            on("patch update", CORE, "nodes/status"),
            on("patch update", CORE, "pods/status"),
            on("list watch get delete", CORE, "pods"),
            EVENTS,
        ]
    ),
    controller!(
        "persistent-volume-binder",
        [
            on("get list watch update create delete", CORE, "persistentvolumes"),
            on("update", CORE, "persistentvolumes/status"),
            on("get list watch update", CORE, "persistentvolumeclaims"),
            on("update", CORE, "persistentvolumeclaims/status"),
            on("list watch get create delete", CORE, "pods"),
            on(READ, STORAGE, "storageclasses"),
            on("list watch", CORE, "nodes"),
            EVENTS,
            on("watch", CORE, "events"),
        ]
    ),
    controller!(
        "pod-garbage-collector",
        [on("list watch delete", CORE, "pods"), on(READ, CORE, "nodes"), on("patch", CORE, "pods/status"),]
    ),
    controller!(
        "replicaset-controller",
        [
            on("get list watch update", APPS, "replicasets"),
            on("update", APPS, "replicasets/status"),
            on("update", APPS, "replicasets/finalizers"),
            on("list watch patch create delete", CORE, "pods"),
            EVENTS,
        ]
    ),
    controller!(
        "replication-controller",
        [
            on("get list watch update", CORE, "replicationcontrollers"),
            on("update", CORE, "replicationcontrollers/status"),
            on("update", CORE, "replicationcontrollers/finalizers"),
            on("list watch patch create delete", CORE, "pods"),
            EVENTS,
        ]
    ),
    controller!(
        "resourcequota-controller",
        [on("list watch", "*", "*"), on("update", CORE, "resourcequotas/status"), EVENTS,]
    ),
    controller!("route-controller", [on("list watch", CORE, "nodes"), on("patch", CORE, "nodes/status"), EVENTS,]),
    controller!("service-account-controller", [on("create", CORE, "serviceaccounts"), EVENTS]),
    controller!(
        "service-controller",
        [
            on(READ, CORE, "services"),
            on("patch update", CORE, "services/status"),
            on("list watch", CORE, "nodes"),
            EVENTS,
        ]
    ),
    controller!(
        "service-cidrs-controller",
        [
            on("get list watch patch update", "networking.k8s.io", "servicecidrs"),
            on("patch update", "networking.k8s.io", "servicecidrs/finalizers"),
            on("patch update", "networking.k8s.io", "servicecidrs/status"),
            on(READ, "networking.k8s.io", "ipaddresses"),
            EVENTS,
        ]
    ),
    controller!(
        "statefulset-controller",
        [
            on("list watch", CORE, "pods"),
            on(READ, "apps", "statefulsets"),
            on("update", "apps", "statefulsets/status"),
            on("update", "apps", "statefulsets/finalizers"),
            on("get create delete update patch", CORE, "pods"),
            on("get create delete update patch list watch", "apps", "controllerrevisions"),
            on("get create list watch", CORE, "persistentvolumeclaims"),
            on("update delete", CORE, "persistentvolumeclaims"),
            on("update", CORE, "pods/finalizers"),
            EVENTS,
        ]
    ),
    controller!("ttl-controller", [on("update patch list watch", CORE, "nodes"), EVENTS]),
    controller!(
        "certificate-controller",
        [
            on("get list watch delete", SIGNERS, "certificatesigningrequests"),
            on("update", SIGNERS, "certificatesigningrequests/status certificatesigningrequests/approval"),
            named("approve", SIGNERS, "signers", "kubernetes.io/kube-apiserver-client-kubelet"),
            named(
                "sign",
                SIGNERS,
                "signers",
                "kubernetes.io/legacy-unknown kubernetes.io/kube-apiserver-client \
                                           kubernetes.io/kube-apiserver-client-kubelet kubernetes.io/kubelet-serving"
            ),
            on("create", "authorization.k8s.io", "subjectaccessreviews"),
            EVENTS,
        ]
    ),
    controller!(
        "pvc-protection-controller",
        [
            on("get list watch update", CORE, "persistentvolumeclaims"),
            on("update", CORE, "persistentvolumeclaims/status"),
            on(READ, CORE, "pods"),
            EVENTS,
        ]
    ),
    controller!("pv-protection-controller", [on("get list watch update", CORE, "persistentvolumes"), EVENTS]),
    controller!(
        "volumeattributesclass-protection-controller",
        [
            on(READ, CORE, "persistentvolumeclaims"),
            on(READ, CORE, "persistentvolumes"),
            on("get list watch update", STORAGE, "volumeattributesclasses"),
            EVENTS,
        ]
    ),
    controller!("ttl-after-finished-controller", [on("get list watch delete", "batch", "jobs"), EVENTS]),
    controller!("root-ca-cert-publisher", [on("create update", CORE, "configmaps"), EVENTS]),
    controller!(
        "validatingadmissionpolicy-status-controller",
        [
            on(READ, "admissionregistration.k8s.io", "validatingadmissionpolicies"),
            on("get patch update", "admissionregistration.k8s.io", "validatingadmissionpolicies/status"),
            EVENTS,
        ]
    ),
    controller!(
        "legacy-service-account-token-cleaner",
        [
            named("get", CORE, "configmaps", "kube-apiserver-legacy-service-account-token-tracking"),
            on("patch delete", CORE, "secrets"),
        ]
    ),
    controller!(
        "selinux-warning-controller",
        [
            EVENTS,
            on(READ, CORE, "persistentvolumes"),
            on(READ, CORE, "persistentvolumeclaims"),
            on(READ, CORE, "pods"),
            on(READ, STORAGE, "csidrivers"),
        ]
    ),
];
