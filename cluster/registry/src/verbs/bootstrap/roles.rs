//! The cluster roles of people, of the system's parts, and of what everyone may see. Names and permissions are upstream's of 1.36.

use super::policy::{CORE, EVENTS, Grant, READ, READ_WRITE, Role, WRITE, named, on, role, urls};

pub(super) fn all() -> impl Iterator<Item = Role> {
    ROLES.iter().copied()
}

const fn part(name: &'static str, adds_to: &'static str, grants: &'static [Grant]) -> Role {
    Role { adds_to, ..role(name, grants) }
}

const fn sum(name: &'static str, gathers: &'static str, adds_to: &'static str) -> Role {
    Role { gathers, adds_to, ..role(name, &[]) }
}

const SIGNERS: &str = "certificates.k8s.io";
const LEASES: &str = "coordination.k8s.io";
const DRA: &str = "resource.k8s.io";
const STORAGE: &str = "storage.k8s.io";

const ROLES: &[Role] = &[
    role("cluster-admin", &[on("*", "*", "*"), urls("*", "*")]),
    // What users of a namespace have: roles that gather parts, which operators may add to by label.
    sum("admin", "aggregate-to-admin", ""),
    sum("edit", "aggregate-to-edit", "aggregate-to-admin"),
    sum("view", "aggregate-to-view", "aggregate-to-edit"),
    part(
        "system:aggregate-to-admin",
        "aggregate-to-admin",
        &[
            on("create", "authorization.k8s.io", "localsubjectaccessreviews"),
            on(READ_WRITE, "rbac.authorization.k8s.io", "roles rolebindings"),
        ],
    ),
    part(
        "system:aggregate-to-edit",
        "aggregate-to-edit",
        &[
            on(READ, CORE, "pods/attach pods/proxy pods/exec pods/portforward secrets services/proxy"),
            on("impersonate", CORE, "serviceaccounts"),
            on(WRITE, CORE, "pods pods/attach pods/proxy pods/exec pods/portforward"),
            on("create", CORE, "pods/eviction"),
            on(
                WRITE,
                CORE,
                "replicationcontrollers replicationcontrollers/scale serviceaccounts services services/proxy \
                         persistentvolumeclaims configmaps secrets",
            ),
            on("create", CORE, "serviceaccounts/token"),
            on(WRITE, " events.k8s.io", "events"),
            on(
                WRITE,
                "apps",
                "statefulsets statefulsets/scale daemonsets deployments deployments/scale deployments/rollback \
                           replicasets replicasets/scale",
            ),
            on(WRITE, "autoscaling", "horizontalpodautoscalers"),
            on(WRITE, "batch", "jobs cronjobs"),
            on(
                WRITE,
                "extensions",
                "daemonsets deployments deployments/scale deployments/rollback ingresses replicasets \
                                 replicasets/scale replicationcontrollers/scale networkpolicies",
            ),
            on(WRITE, "policy", "poddisruptionbudgets"),
            on(WRITE, "networking.k8s.io", "networkpolicies ingresses"),
            on(READ_WRITE, LEASES, "leases"),
            on(WRITE, DRA, "resourceclaims resourceclaimtemplates"),
        ],
    ),
    part(
        "system:aggregate-to-view",
        "aggregate-to-view",
        &[
            on(
                READ,
                CORE,
                "pods replicationcontrollers replicationcontrollers/scale serviceaccounts services services/status endpoints \
                        persistentvolumeclaims persistentvolumeclaims/status configmaps",
            ),
            on(
                READ,
                CORE,
                "limitranges resourcequotas bindings pods/status resourcequotas/status namespaces/status \
                        replicationcontrollers/status pods/log",
            ),
            on(READ, CORE, "namespaces"),
            on(READ, " events.k8s.io", "events"),
            on(READ, "discovery.k8s.io", "endpointslices"),
            on(
                READ,
                "apps",
                "controllerrevisions statefulsets statefulsets/status statefulsets/scale daemonsets daemonsets/status \
                          deployments deployments/status deployments/scale replicasets replicasets/status replicasets/scale",
            ),
            on(READ, "autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
            on(READ, "batch", "jobs cronjobs cronjobs/status jobs/status"),
            on(
                READ,
                "extensions",
                "daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses \
                                ingresses/status replicasets replicasets/scale replicasets/status replicationcontrollers/scale \
                                networkpolicies",
            ),
            on(READ, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
            on(READ, "networking.k8s.io", "networkpolicies ingresses ingresses/status"),
            on(READ, DRA, "resourceclaims resourceclaims/status resourceclaimtemplates"),
        ],
    ),
    // What everyone may see and ask.
    role(
        "system:discovery",
        &[urls("get", "/livez /readyz /healthz /version /version/ /openapi /openapi/* /api /api/* /apis /apis/*")],
    ),
    role("system:public-info-viewer", &[urls("get", "/livez /readyz /healthz /version /version/")]),
    role(
        "system:basic-user",
        &[
            on("create", "authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews"),
            on("create", "authentication.k8s.io", "selfsubjectreviews"),
        ],
    ),
    role(
        "system:service-account-issuer-discovery",
        &[urls(
            "get",
            "/.well-known/openid-configuration /.well-known/openid-configuration/ /openid/v1/jwks /openid/v1/jwks/",
        )],
    ),
    role(
        "system:monitoring",
        &[urls("get", "/metrics /metrics/slis /livez /readyz /healthz /livez/* /readyz/* /healthz/*")],
    ),
    role(
        "system:auth-delegator",
        &[
            on("create", "authentication.k8s.io", "tokenreviews"),
            on("create", "authorization.k8s.io", "subjectaccessreviews"),
        ],
    ),
    // Nodes. What the Node authorizer grants stands there; the role is for those who bind it themselves.
    role(
        "system:node",
        &[
            on("create", "authentication.k8s.io", "tokenreviews"),
            on("create", "authorization.k8s.io", "subjectaccessreviews localsubjectaccessreviews"),
            on(READ, CORE, "services"),
            on("create get list watch", CORE, "nodes"),
            on("update patch", CORE, "nodes/status"),
            on("update patch", CORE, "nodes"),
            on("create update patch", CORE, "events"),
            on(READ, CORE, "pods"),
            on("create delete", CORE, "pods"),
            on("update patch", CORE, "pods/status"),
            on("create", CORE, "pods/eviction"),
            on(READ, CORE, "secrets configmaps"),
            on("get", CORE, "persistentvolumeclaims persistentvolumes"),
            on("get", CORE, "endpoints"),
            on("create get list watch", SIGNERS, "certificatesigningrequests"),
            on("get create update patch delete", LEASES, "leases"),
            on("get", STORAGE, "volumeattachments"),
            on("create", CORE, "serviceaccounts/token"),
            on("get update patch", CORE, "persistentvolumeclaims/status"),
            on(READ, STORAGE, "csidrivers"),
            on("get create update patch delete", STORAGE, "csinodes"),
            on(READ, "node.k8s.io", "runtimeclasses"),
            on("get", DRA, "resourceclaims"),
            on("deletecollection", DRA, "resourceslices"),
            on("get", CORE, "serviceaccounts"),
        ],
    ),
    role(
        "system:node-proxier",
        &[
            on("list watch", CORE, "services endpoints"),
            on(READ, CORE, "nodes"),
            EVENTS,
            on("list watch", "networking.k8s.io", "servicecidrs"),
            on("list watch", "discovery.k8s.io", "endpointslices"),
        ],
    ),
    role("system:node-problem-detector", &[on("get", CORE, "nodes"), on("patch", CORE, "nodes/status"), EVENTS]),
    role("system:node-bootstrapper", &[on("create get list watch", SIGNERS, "certificatesigningrequests")]),
    role(
        "system:kubelet-api-admin",
        &[
            on(READ, CORE, "nodes"),
            on("proxy", CORE, "nodes"),
            on("*", CORE, "nodes/proxy nodes/metrics nodes/stats nodes/log"),
            on("*", CORE, "nodes/configz nodes/healthz nodes/pods"),
        ],
    ),
    // Signing of certificates.
    role(
        "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        &[on("create", SIGNERS, "certificatesigningrequests/nodeclient")],
    ),
    role(
        "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        &[on("create", SIGNERS, "certificatesigningrequests/selfnodeclient")],
    ),
    role(
        "system:certificates.k8s.io:legacy-unknown-approver",
        &[named("approve", SIGNERS, "signers", "kubernetes.io/legacy-unknown")],
    ),
    role(
        "system:certificates.k8s.io:kubelet-serving-approver",
        &[named("approve", SIGNERS, "signers", "kubernetes.io/kubelet-serving")],
    ),
    role(
        "system:certificates.k8s.io:kube-apiserver-client-approver",
        &[named("approve", SIGNERS, "signers", "kubernetes.io/kube-apiserver-client")],
    ),
    role(
        "system:certificates.k8s.io:kube-apiserver-client-kubelet-approver",
        &[named("approve", SIGNERS, "signers", "kubernetes.io/kube-apiserver-client-kubelet")],
    ),
    // The system's parts.
    role(
        "system:kube-controller-manager",
        &[
            EVENTS,
            on("create", LEASES, "leases"),
            named("get update", LEASES, "leases", "kube-controller-manager"),
            on("create", CORE, "secrets serviceaccounts"),
            on("delete", CORE, "secrets"),
            on("get", CORE, "namespaces secrets serviceaccounts configmaps"),
            on("update", CORE, "secrets serviceaccounts"),
            on("create", "authentication.k8s.io", "tokenreviews"),
            on("create", "authorization.k8s.io", "subjectaccessreviews"),
            on("list watch", "*", "*"),
            on("create", CORE, "serviceaccounts/token"),
        ],
    ),
    role(
        "system:kube-scheduler",
        &[
            EVENTS,
            on("create", LEASES, "leases"),
            named("get list update watch", LEASES, "leases", "kube-scheduler"),
            on(READ_WRITE, LEASES, "leasecandidates"),
            on(READ, CORE, "nodes"),
            on("get list watch delete", CORE, "pods"),
            on("create", CORE, "pods/binding bindings"),
            on("patch update", CORE, "pods/status"),
            on(READ, CORE, "services replicationcontrollers"),
            on(READ, "apps extensions", "replicasets"),
            on(READ, "apps", "statefulsets"),
            on(READ, "policy", "poddisruptionbudgets"),
            on(READ, CORE, "persistentvolumeclaims persistentvolumes"),
            on("create", "authentication.k8s.io", "tokenreviews"),
            on("create", "authorization.k8s.io", "subjectaccessreviews"),
            on(READ, STORAGE, "csinodes"),
            on(READ, STORAGE, "volumeattachments"),
            on(READ, CORE, "namespaces"),
            on(READ, STORAGE, "csidrivers"),
            on(READ, STORAGE, "csistoragecapacities"),
            on(READ, DRA, "deviceclasses"),
            on("get list watch update patch", DRA, "resourceclaims"),
            on("get list watch update patch", DRA, "resourceclaims/status"),
            on("update", CORE, "pods/finalizers"),
            on(READ, DRA, "resourceslices"),
            on("create delete", DRA, "resourceclaims"),
            on("patch update", DRA, "resourceclaims/binding"),
        ],
    ),
    role(
        "system:volume-scheduler",
        &[
            on("get list watch patch update", CORE, "persistentvolumes"),
            on(READ, STORAGE, "storageclasses"),
            on("get list watch patch update", CORE, "persistentvolumeclaims"),
        ],
    ),
    role("system:kube-aggregator", &[on(READ, CORE, "services endpoints")]),
    role("system:kube-dns", &[on("list watch", CORE, "endpoints services")]),
    role(
        "system:persistent-volume-provisioner",
        &[
            on("get list watch create delete", CORE, "persistentvolumes"),
            on("get list watch update", CORE, "persistentvolumeclaims"),
            on(READ, STORAGE, "storageclasses"),
            on("watch", CORE, "events"),
            EVENTS,
        ],
    ),
    role("system:heapster", &[on(READ, CORE, "events pods nodes namespaces"), on(READ, "extensions", "deployments")]),
    OWN,
];

/// Upstream gives each controller a service account of its own. Here all act as `system:kube-controller-manager` and patch where
/// upstream's replace, so that user has this role beside upstream's. Garbage collection and namespace deletion reach every kind there is.
pub(super) const OWN: Role = Role {
    origin: "kedge-defaults",
    ..role(
        "kedge:kube-controller-manager",
        &[
            on("get list watch update patch delete deletecollection", "*", "*"),
            on(
                "create",
                CORE,
                "configmaps endpoints namespaces persistentvolumeclaims persistentvolumes pods pods/eviction secrets \
                            serviceaccounts serviceaccounts/token services",
            ),
            on("create", "apps", "controllerrevisions replicasets"),
            on("create", "batch", "jobs"),
            on("create", "discovery.k8s.io", "endpointslices"),
            on("create", LEASES, "leases"),
            on("create", DRA, "resourceclaims"),
            on("approve sign", SIGNERS, "signers"),
            // The rules that a role gathers may be more than the controller's own.
            on("escalate", "rbac.authorization.k8s.io", "clusterroles"),
        ],
    )
};
