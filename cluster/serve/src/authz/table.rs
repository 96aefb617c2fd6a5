//! The rules that hold from the first boot, as a table: who, which verbs, on what. Names follow upstream's bootstrap roles.

use std::borrow::Cow;

use kedge_api::User;

use super::{Attributes, Decision, Source, What};

/// A user or a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    User(&'static str),
    Group(&'static str),
}

type Texts = Cow<'static, [Cow<'static, str>]>;

/// What is allowed; `*` stands for anything. Rules about resources have no paths, rules about paths no resources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    pub verbs: Texts,
    pub groups: Texts,
    /// `pods`, `pods/log`, `*/scale`.
    pub resources: Texts,
    /// None means all.
    pub names: Texts,
    /// May end in `*`.
    pub paths: Texts,
}

/// A rule of the static table.
struct Row {
    who: Who,
    verbs: &'static [&'static str],
    groups: &'static [&'static str],
    resources: &'static [&'static str],
    paths: &'static [&'static str],
}

const fn on(
    who: Who,
    verbs: &'static [&'static str],
    groups: &'static [&'static str],
    resources: &'static [&'static str],
) -> Row {
    Row { who, verbs, groups, resources, paths: &[] }
}

const fn paths(who: Who, verbs: &'static [&'static str], paths: &'static [&'static str]) -> Row {
    Row { who, verbs, groups: &[], resources: &[], paths }
}

const MASTERS: Who = Who::Group("system:masters");
const EVERYONE: Who = Who::Group("system:authenticated");
const ANYONE: Who = Who::Group("system:unauthenticated");
const MONITORING: Who = Who::Group("system:monitoring");
const ACCOUNTS: Who = Who::Group("system:serviceaccounts");
const MANAGER: Who = Who::User("system:kube-controller-manager");
const SCHEDULER: Who = Who::User("system:kube-scheduler");

const ANY: &[&str] = &["*"];
const READ: &[&str] = &["get", "list", "watch"];
const CORE: &[&str] = &[""];
const EVENTS: &[&str] = &["", "events.k8s.io"];
/// `system:public-info-viewer`
const PUBLIC: &[&str] = &["/healthz", "/livez", "/readyz", "/version", "/version/"];
/// `system:discovery`
const DISCOVERY: &[&str] = &[
    "/api",
    "/api/*",
    "/apis",
    "/apis/*",
    "/healthz",
    "/livez",
    "/openapi",
    "/openapi/*",
    "/readyz",
    "/version",
    "/version/",
];
/// `system:monitoring`
const METRICS: &[&str] =
    &["/healthz", "/healthz/*", "/livez", "/livez/*", "/metrics", "/metrics/slis", "/readyz", "/readyz/*"];

const TABLE: &[Row] = &[
    on(MASTERS, ANY, ANY, ANY),
    paths(MASTERS, ANY, ANY),
    paths(EVERYONE, &["get"], PUBLIC),
    paths(ANYONE, &["get"], PUBLIC),
    paths(EVERYONE, &["get"], DISCOVERY),
    on(EVERYONE, &["create"], &["authorization.k8s.io"], &["selfsubjectaccessreviews", "selfsubjectrulesreviews"]),
    on(EVERYONE, &["create"], &["authentication.k8s.io"], &["selfsubjectreviews"]),
    paths(ACCOUNTS, &["get"], &["/.well-known/openid-configuration", "/openid/v1/jwks"]),
    paths(MONITORING, &["get"], METRICS),
    // Garbage collection and namespace deletion reach every kind there is.
    on(MANAGER, &["get", "list", "watch", "update", "patch", "delete", "deletecollection"], ANY, ANY),
    on(
        MANAGER,
        &["create"],
        CORE,
        &[
            "configmaps",
            "endpoints",
            "namespaces",
            "persistentvolumeclaims",
            "persistentvolumes",
            "pods",
            "pods/eviction",
            "secrets",
            "serviceaccounts",
            "serviceaccounts/token",
            "services",
        ],
    ),
    on(MANAGER, &["create"], &["apps"], &["controllerrevisions", "replicasets"]),
    on(MANAGER, &["create"], &["batch"], &["jobs"]),
    on(MANAGER, &["create"], &["discovery.k8s.io"], &["endpointslices"]),
    on(MANAGER, &["create"], &["coordination.k8s.io"], &["leases"]),
    on(MANAGER, &["create"], &["rbac.authorization.k8s.io"], ANY),
    on(MANAGER, &["create"], &["authentication.k8s.io"], &["tokenreviews"]),
    on(MANAGER, &["create"], &["authorization.k8s.io"], &["subjectaccessreviews"]),
    on(MANAGER, &["create"], EVENTS, &["events"]),
    on(
        SCHEDULER,
        READ,
        CORE,
        &[
            "namespaces",
            "nodes",
            "persistentvolumeclaims",
            "persistentvolumes",
            "pods",
            "replicationcontrollers",
            "services",
        ],
    ),
    on(SCHEDULER, &["delete"], CORE, &["pods"]),
    on(SCHEDULER, &["create"], CORE, &["bindings", "pods/binding"]),
    on(SCHEDULER, &["patch", "update"], CORE, &["pods/status"]),
    on(SCHEDULER, READ, &["apps"], &["replicasets", "statefulsets"]),
    on(SCHEDULER, READ, &["policy"], &["poddisruptionbudgets"]),
    on(SCHEDULER, READ, &["scheduling.k8s.io"], &["priorityclasses"]),
    on(
        SCHEDULER,
        READ,
        &["storage.k8s.io"],
        &["csidrivers", "csinodes", "csistoragecapacities", "storageclasses", "volumeattachments"],
    ),
    on(SCHEDULER, &["create", "get", "list", "update", "watch"], &["coordination.k8s.io"], &["leases"]),
    on(SCHEDULER, &["create", "patch", "update"], EVENTS, &["events"]),
];

/// The static table as a source.
#[derive(Debug)]
pub struct Table;

impl Source for Table {
    fn decide(&self, attributes: &Attributes<'_>) -> Decision {
        match TABLE.iter().find(|row| row.who.is(attributes.user) && row.allows(attributes)) {
            // As upstream: masters are not asked for a reason.
            Some(row) if row.who == MASTERS => Decision::Allow(String::new()),
            Some(row) => Decision::Allow(format!("allowed to {}", row.who)),
            None => Decision::NoOpinion(String::new()),
        }
    }

    fn rules(&self, user: &User, _: &str) -> Vec<Rule> {
        let texts = |texts: &'static [&'static str]| texts.iter().copied().map(Cow::Borrowed).collect();
        let rule = |row: &Row| Rule {
            verbs: texts(row.verbs),
            groups: texts(row.groups),
            resources: texts(row.resources),
            names: Texts::default(),
            paths: texts(row.paths),
        };
        TABLE.iter().filter(|row| row.who.is(user)).map(rule).collect()
    }
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::User(name) => write!(f, "User {name:?}"),
            Self::Group(name) => write!(f, "Group {name:?}"),
        }
    }
}

impl Who {
    fn is(self, user: &User) -> bool {
        match self {
            Self::User(name) => *user.name == *name,
            Self::Group(group) => user.groups.iter().any(|g| g == group),
        }
    }
}

impl Row {
    fn allows(&self, a: &Attributes<'_>) -> bool {
        let has = |list: &[&str], value: &str| list.iter().any(|item| *item == "*" || *item == value);
        has(self.verbs, a.verb)
            && match a.what {
                What::Path(path) => self.paths.iter().any(|p| matches_path(p, path)),
                What::Resource => {
                    has(self.groups, a.group)
                        && self.resources.iter().any(|r| matches_resource(r, a.resource, a.subresource))
                }
            }
    }
}

fn matches_path(pattern: &str, path: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == path, |prefix| path.starts_with(prefix))
}

/// `pods` is not `pods/log`; `*` is everything; `*/scale` is the scale of everything.
pub fn matches_resource(pattern: &str, resource: &str, subresource: &str) -> bool {
    match pattern.split_once('/') {
        None => pattern == "*" || (pattern == resource && subresource.is_empty()),
        Some((left, right)) => (left == "*" || left == resource) && right == subresource && !subresource.is_empty(),
    }
}
