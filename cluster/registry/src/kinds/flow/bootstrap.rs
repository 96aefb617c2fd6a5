//! The levels and schemas of every cluster, as upstream has them. The first two of each are fixed; the others are a suggestion that is
//! kept up to date as long as its annotation says so.

use serde_json::{Value, json};

use super::{EXEMPT, GROUP};
use crate::value::Look as _;

const CATCH_ALL: &str = "catch-all";

/// One level: name, shares, percent that others may borrow, queues, hand size. Without queues what is too much is refused.
type Level = (&'static str, i64, i64, i64, i64);
const LEVELS: &[Level] = &[
    (CATCH_ALL, 5, 0, 0, 0),
    ("system", 30, 33, 64, 6),
    ("node-high", 40, 25, 64, 6),
    ("leader-election", 10, 0, 16, 4),
    ("workload-high", 40, 50, 128, 6),
    ("workload-low", 100, 90, 128, 6),
    ("global-default", 20, 50, 128, 6),
];
const QUEUE_LENGTH: i64 = 50;

fn object(kind: &str, name: &str, spec: Value) -> Value {
    let annotations = json!({"apf.kubernetes.io/autoupdate-spec": "true"});
    json!({"apiVersion": format!("{GROUP}/v1"), "kind": kind, "metadata": {"name": name, "annotations": annotations}, "spec": spec})
}

pub(crate) fn levels() -> Vec<Value> {
    let exempt = json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}});
    let level = |&(name, shares, lendable, queues, hand): &Level| {
        let response = match queues {
            0 => json!({"type": "Reject"}),
            _ => {
                let queuing = json!({"queues": queues, "handSize": hand, "queueLengthLimit": QUEUE_LENGTH});
                json!({"type": "Queue", "queuing": queuing})
            }
        };
        let limited =
            json!({"nominalConcurrencyShares": shares, "lendablePercent": lendable, "limitResponse": response});
        (name, json!({"type": "Limited", "limited": limited}))
    };
    let all = std::iter::once((EXEMPT, exempt)).chain(LEVELS.iter().map(level));
    all.map(|(name, spec)| object("PriorityLevelConfiguration", name, spec)).collect()
}

/// Whom a schema is about.
#[derive(Clone, Copy)]
enum Subject {
    Group(&'static str),
    User(&'static str),
    /// All service accounts of a namespace.
    Accounts(&'static str),
}
use Subject::{Accounts, Group, User};

/// What they do.
enum What {
    Everything,
    /// Read these paths.
    Paths(&'static [&'static str]),
    /// Verbs, group, resources, and whether those of the cluster are meant, too.
    Resources(&'static [(&'static [&'static str], &'static str, &'static [&'static str], bool)]),
}

/// One schema: name, level, precedence, by what flows are told apart, whom and what it is about.
type Schema = (&'static str, &'static str, i64, &'static str, &'static [Subject], What);

const ANYONE: &[Subject] = &[Group("system:unauthenticated"), Group("system:authenticated")];
const MANAGER: Subject = User("system:kube-controller-manager");
const SCHEDULER: Subject = User("system:kube-scheduler");
const NODES: &[Subject] = &[Group("system:nodes")];

const SCHEMAS: &[Schema] = &[
    (EXEMPT, EXEMPT, 1, "", &[Group("system:masters")], What::Everything),
    (CATCH_ALL, CATCH_ALL, 10_000, "ByUser", ANYONE, What::Everything),
    ("probes", EXEMPT, 2, "", ANYONE, What::Paths(&["/healthz", "/readyz", "/livez"])),
    (
        "system-leader-election",
        "leader-election",
        100,
        "ByUser",
        &[MANAGER, SCHEDULER, Accounts("kube-system")],
        What::Resources(&[(&["get", "create", "update"], "coordination.k8s.io", &["leases"], false)]),
    ),
    (
        "system-node-high",
        "node-high",
        400,
        "ByUser",
        NODES,
        What::Resources(&[
            (&["*"], "", &["nodes", "nodes/status"], true),
            (&["*"], "coordination.k8s.io", &["leases"], false),
        ]),
    ),
    ("system-nodes", "system", 500, "ByUser", NODES, What::Everything),
    ("kube-controller-manager", "workload-high", 800, "ByNamespace", &[MANAGER], What::Everything),
    ("kube-scheduler", "workload-high", 800, "ByNamespace", &[SCHEDULER], What::Everything),
    ("kube-system-service-accounts", "workload-high", 900, "ByNamespace", &[Accounts("kube-system")], What::Everything),
    ("service-accounts", "workload-low", 9000, "ByUser", &[Group("system:serviceaccounts")], What::Everything),
    ("global-default", "global-default", 9900, "ByUser", ANYONE, What::Everything),
];

pub(crate) fn schemas() -> Vec<Value> {
    SCHEMAS.iter().map(schema).collect()
}

fn schema((name, level, precedence, method, subjects, what): &Schema) -> Value {
    let subjects: Vec<_> = subjects.iter().map(|s| subject(*s)).collect();
    let rule = match what {
        What::Everything => {
            let resources = json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"]});
            let paths = json!({"verbs": ["*"], "nonResourceURLs": ["*"]});
            json!({"subjects": subjects, "resourceRules": [resources], "nonResourceRules": [paths]})
        }
        What::Paths(paths) => {
            json!({"subjects": subjects, "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": paths}]})
        }
        What::Resources(rules) => {
            let rules: Vec<_> = rules
                .iter()
                .map(|(verbs, group, resources, cluster)| {
                    let mut rule =
                        json!({"verbs": verbs, "apiGroups": [group], "resources": resources, "namespaces": ["*"]});
                    if let (true, Some(rule)) = (*cluster, rule.as_object_mut()) {
                        rule.insert("clusterScope".into(), true.into());
                    }
                    rule
                })
                .collect();
            json!({"subjects": subjects, "resourceRules": rules})
        }
    };
    let mut spec =
        json!({"priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence, "rules": [rule]});
    if let (false, Some(spec)) = (method.is_empty(), spec.as_object_mut()) {
        spec.insert("distinguisherMethod".into(), json!({"type": method}));
    }
    object("FlowSchema", name, spec)
}

fn subject(subject: Subject) -> Value {
    match subject {
        Group(name) => json!({"kind": "Group", "group": {"name": name}}),
        User(name) => json!({"kind": "User", "user": {"name": name}}),
        Accounts(namespace) => {
            json!({"kind": "ServiceAccount", "serviceAccount": {"name": "*", "namespace": namespace}})
        }
    }
}

fn fixed(all: Vec<Value>, name: &str) -> Option<Value> {
    let named = [EXEMPT, CATCH_ALL].contains(&name);
    all.into_iter().find(|object| named && object.text("metadata.name") == name)
}

/// The schema of that name which may not be changed.
pub(super) fn mandatory_schema(name: &str) -> Option<Value> {
    fixed(schemas(), name)
}

pub(super) fn mandatory_level(name: &str) -> Option<Value> {
    fixed(levels(), name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_schema_has_a_level() {
        let levels = levels();
        for schema in schemas() {
            let level = schema.text("spec.priorityLevelConfiguration.name");
            assert!(levels.iter().any(|l| l.text("metadata.name") == level), "{level}");
        }
        assert!(mandatory_schema("probes").is_none());
        assert!(mandatory_level("catch-all").is_some());
    }
}
