//! FlowSchemas and PriorityLevelConfigurations, read once into what requests are matched by.

use std::sync::Arc;

use kedge_api::Object;
use serde_json::Value;

use super::queues::Shape;
use super::shuffle::Dealer;
use crate::authz::{Attributes, What};

/// The level and the schema that are always there, and catch whatever nothing else does.
pub const CATCH_ALL: &str = "catch-all";
pub const EXEMPT: &str = "exempt";

/// By what a schema tells flows apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    None,
    ByUser,
    ByNamespace,
}

#[derive(Debug)]
pub struct Schema {
    pub name: Arc<str>,
    pub uid: Arc<str>,
    pub level: Arc<str>,
    precedence: i64,
    method: Method,
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    subjects: Vec<Subject>,
    resources: Vec<ResourceRule>,
    paths: Vec<PathRule>,
}

#[derive(Debug)]
enum Subject {
    User(String),
    Group(String),
    Account { namespace: String, name: String },
}

#[derive(Debug)]
struct ResourceRule {
    verbs: Names,
    groups: Names,
    resources: Names,
    namespaces: Names,
    cluster: bool,
}

#[derive(Debug)]
struct PathRule {
    verbs: Names,
    paths: Vec<String>,
}

/// Some names, or all.
#[derive(Debug)]
struct Names(Option<Vec<String>>);

impl Names {
    fn read(rule: &Value, field: &str) -> Self {
        let names = texts(rule, field);
        Self((names != ["*"]).then_some(names))
    }

    fn has(&self, name: &str) -> bool {
        self.0.as_ref().is_none_or(|names| names.iter().any(|n| n == name))
    }
}

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

fn number(value: &Value, path: &str) -> Option<u64> {
    value.pointer(path).and_then(Value::as_u64)
}

fn items<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn texts(value: &Value, field: &str) -> Vec<String> {
    items(value, field).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

impl Schema {
    /// Of an object that passed validation; `None`, if it cannot be read.
    pub fn of(object: &Object) -> Option<Self> {
        let value: Value = object.decode().ok()?;
        let spec = value.get("spec")?;
        Some(Self {
            name: Arc::clone(&object.key.name),
            uid: object.uid().into(),
            level: text(spec, "/priorityLevelConfiguration/name").into(),
            precedence: spec.get("matchingPrecedence").and_then(Value::as_i64)?,
            method: match text(spec, "/distinguisherMethod/type") {
                "ByUser" => Method::ByUser,
                "ByNamespace" => Method::ByNamespace,
                _ => Method::None,
            },
            rules: items(spec, "rules").iter().map(Rule::of).collect(),
        })
    }

    /// In which order schemas are asked.
    pub fn order(&self) -> (i64, Arc<str>) {
        (self.precedence, Arc::clone(&self.name))
    }

    pub fn matches(&self, asked: &Attributes<'_>) -> bool {
        self.rules.iter().any(|rule| rule.matches(asked))
    }

    /// What tells the flows of the schema apart.
    pub fn distinguisher<'a>(&self, asked: &Attributes<'a>) -> &'a str {
        match self.method {
            Method::None => "",
            Method::ByUser => &asked.user.name,
            Method::ByNamespace => asked.namespace,
        }
    }
}

impl Rule {
    fn of(rule: &Value) -> Self {
        Self {
            subjects: items(rule, "subjects").iter().filter_map(Subject::of).collect(),
            resources: items(rule, "resourceRules").iter().map(ResourceRule::of).collect(),
            paths: items(rule, "nonResourceRules").iter().map(PathRule::of).collect(),
        }
    }

    fn matches(&self, asked: &Attributes<'_>) -> bool {
        self.subjects.iter().any(|subject| subject.is(asked))
            && match asked.what {
                What::Resource => self.resources.iter().any(|rule| rule.matches(asked)),
                What::Path(path) => self.paths.iter().any(|rule| rule.matches(asked.verb, path)),
            }
    }
}

impl Subject {
    fn of(subject: &Value) -> Option<Self> {
        let named = |kind: &str| text(subject, &format!("/{kind}/name")).to_owned();
        match text(subject, "/kind") {
            "User" => Some(Self::User(named("user"))),
            "Group" => Some(Self::Group(named("group"))),
            "ServiceAccount" => {
                let namespace = text(subject, "/serviceAccount/namespace").to_owned();
                Some(Self::Account { namespace, name: named("serviceAccount") })
            }
            _ => None,
        }
    }

    fn is(&self, asked: &Attributes<'_>) -> bool {
        let user = asked.user;
        match self {
            Self::User(name) => name == "*" || *name == *user.name,
            Self::Group(name) => name == "*" || user.groups.contains(name),
            Self::Account { namespace, name } => {
                let account = user.name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
                account.is_some_and(|(ns, account)| ns == namespace && (name == "*" || name == account))
            }
        }
    }
}

impl ResourceRule {
    fn of(rule: &Value) -> Self {
        Self {
            verbs: Names::read(rule, "verbs"),
            groups: Names::read(rule, "apiGroups"),
            resources: Names::read(rule, "resources"),
            namespaces: Names::read(rule, "namespaces"),
            cluster: rule.get("clusterScope").and_then(Value::as_bool).unwrap_or_default(),
        }
    }

    fn matches(&self, asked: &Attributes<'_>) -> bool {
        let resource = match asked.subresource {
            "" => asked.resource.to_owned(),
            subresource => format!("{}/{subresource}", asked.resource),
        };
        let scope = if asked.namespace.is_empty() { self.cluster } else { self.namespaces.has(asked.namespace) };
        scope && self.verbs.has(asked.verb) && self.groups.has(asked.group) && self.resources.has(&resource)
    }
}

impl PathRule {
    fn of(rule: &Value) -> Self {
        Self { verbs: Names::read(rule, "verbs"), paths: texts(rule, "nonResourceURLs") }
    }

    /// A path, and all below it.
    fn matches(&self, verb: &str, path: &str) -> bool {
        let below = |named: &str| {
            let prefix = named.strip_suffix('*').unwrap_or(named).trim_end_matches('/');
            path.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'))
        };
        self.verbs.has(verb) && self.paths.iter().any(|named| named == "*" || named == path || below(named))
    }
}

/// A PriorityLevelConfiguration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LevelConfig {
    pub name: Arc<str>,
    pub uid: Arc<str>,
    pub shape: Shape,
    pub shares: u64,
    pub lendable_percent: u64,
    /// Without one, all that others lend.
    pub borrowing_percent: Option<u64>,
}

impl LevelConfig {
    /// Of an object that passed validation; `None`, if it cannot be read.
    pub fn of(object: &Object) -> Option<Self> {
        let value: Value = object.decode().ok()?;
        let spec = value.get("spec")?;
        let exempt = text(spec, "/type") == "Exempt";
        let held = if exempt { "/exempt" } else { "/limited" };
        let field = |name: &str| number(spec, &format!("{held}/{name}"));
        let queuing = |name: &str| number(spec, &format!("/limited/limitResponse/queuing/{name}"));
        let shape = match (exempt, text(spec, "/limited/limitResponse/type")) {
            (true, _) => Shape::Exempt,
            (false, "Queue") => {
                let dealer = Dealer::new(queuing("queues")?, queuing("handSize")?)?;
                Shape::Queue { dealer, length: queuing("queueLengthLimit")? }
            }
            (false, _) => Shape::Reject,
        };
        Some(Self {
            name: Arc::clone(&object.key.name),
            uid: object.uid().into(),
            shape,
            shares: field("nominalConcurrencyShares").unwrap_or(if exempt { 0 } else { 30 }),
            lendable_percent: field("lendablePercent").unwrap_or_default(),
            borrowing_percent: field("borrowingLimitPercent"),
        })
    }

    /// One of the two that are always there, where the cluster does not have it for the moment.
    pub fn mandatory(name: &str) -> Self {
        let (shape, shares) = if name == EXEMPT { (Shape::Exempt, 0) } else { (Shape::Reject, 5) };
        Self { name: name.into(), uid: "".into(), shape, shares, lendable_percent: 0, borrowing_percent: None }
    }
}

impl Schema {
    /// One of the two that are always there: the masters', who never wait, or everybody's.
    pub fn mandatory(name: &str) -> Self {
        let all = || Names(None);
        let (precedence, method, subject) = match name {
            EXEMPT => (1, Method::None, "system:masters"),
            _ => (10_000, Method::ByUser, "*"),
        };
        let resources =
            ResourceRule { verbs: all(), groups: all(), resources: all(), namespaces: all(), cluster: true };
        let paths = PathRule { verbs: all(), paths: vec!["*".to_owned()] };
        let subjects = vec![Subject::Group(subject.to_owned())];
        let rules = vec![Rule { subjects, resources: vec![resources], paths: vec![paths] }];
        Self { name: name.into(), uid: "".into(), level: name.into(), precedence, method, rules }
    }
}

#[cfg(test)]
mod tests {
    use kedge_api::User;
    use serde_json::json;

    use super::*;

    fn rule(value: Value) -> Rule {
        Rule::of(&value)
    }

    #[test]
    fn rules_match_subjects_and_what_they_do() {
        let jane = User::new("jane", &["devs", "system:authenticated"]);
        let robot = User::new("system:serviceaccount:ns:robot", &["system:serviceaccounts"]);
        let pods = json!([{"verbs": ["list", "get"], "apiGroups": [""], "resources": ["pods", "pods/status"], "namespaces": ["ns"]}]);
        let nodes = json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true}]);
        let (user, group) = (
            json!([{"kind": "User", "user": {"name": "jane"}}]),
            json!([{"kind": "Group", "group": {"name": "devs"}}]),
        );
        let account =
            |name: &str| json!([{"kind": "ServiceAccount", "serviceAccount": {"namespace": "ns", "name": name}}]);
        let list = |who, namespace| Attributes { namespace, ..Attributes::resource(who, "list", "", "pods") };
        for (subjects, rules, asked, want) in [
            (user.clone(), &pods, list(&jane, "ns"), true),
            (user.clone(), &pods, list(&robot, "ns"), false),
            (user.clone(), &pods, list(&jane, "other"), false),
            (user.clone(), &pods, list(&jane, ""), false),
            (group.clone(), &pods, Attributes { subresource: "status", ..list(&jane, "ns") }, true),
            (group.clone(), &pods, Attributes { subresource: "log", ..list(&jane, "ns") }, false),
            (group.clone(), &pods, Attributes { verb: "watch", ..list(&jane, "ns") }, false),
            (group.clone(), &nodes, list(&jane, ""), true),
            (group, &nodes, list(&jane, "ns"), false),
            (account("*"), &pods, list(&robot, "ns"), true),
            (account("robot"), &pods, list(&robot, "ns"), true),
            (account("robo"), &pods, list(&robot, "ns"), false),
            (json!([{"kind": "User", "user": {"name": "*"}}]), &pods, list(&robot, "ns"), true),
        ] {
            let told = format!("{subjects} {rules} {asked:?}");
            assert_eq!(rule(json!({"subjects": subjects, "resourceRules": rules})).matches(&asked), want, "{told}");
        }
        let paths = json!({"subjects": user, "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/a/*"]}]});
        for (path, want) in
            [("/healthz", true), ("/healthz/etcd", true), ("/healthzz", false), ("/a/b", true), ("/a", false)]
        {
            assert_eq!(rule(paths.clone()).matches(&Attributes::path(&jane, "get", path)), want, "{path}");
        }
        assert!(!rule(paths).matches(&list(&jane, "ns")));
    }
}
