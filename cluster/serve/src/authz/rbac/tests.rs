use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::fixture::Objects;

fn rule(verbs: &[&str], group: &str, resource: &str) -> Value {
    json!({"verbs": verbs, "apiGroups": [group], "resources": [resource]})
}

fn role(name: &str, namespace: &str, rules: &[Value]) -> Value {
    json!({"metadata": {"name": name, "namespace": namespace}, "rules": rules})
}

fn bind(name: &str, namespace: &str, role: (&str, &str), subjects: &[Value]) -> Value {
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": role.0, "name": role.1});
    json!({"metadata": {"name": name, "namespace": namespace}, "roleRef": role, "subjects": subjects})
}

fn subject(kind: &str, name: &str) -> Value {
    json!({"kind": kind, "name": name})
}

fn ask(rbac: &Rbac, user: &User, verb: &str, namespace: &str, resource: &str) -> Result<String, String> {
    let attributes = Attributes { namespace, ..Attributes::resource(user, verb, "", resource) };
    match rbac.decide(&attributes) {
        Decision::Allow(why) => Ok(why),
        Decision::NoOpinion(why) => Err(why),
        other => panic!("{other:?}"),
    }
}

#[test]
fn bindings_count_where_they_are() {
    let objects = Arc::new(Objects::default());
    let rbac = Rbac::new(objects.clone());
    let (jane, ann) = (User::new("jane", &["devs"]), User::new("system:serviceaccount:a:ann", &[]));
    assert_eq!(ask(&rbac, &jane, "get", "a", "pods"), Err(String::new()));
    objects.put(known::CLUSTER_ROLES, role("reader", "", &[rule(&["get"], "", "pods")]));
    objects.put(known::ROLES, role("writer", "a", &[rule(&["update"], "", "pods")]));
    objects.put(known::ROLE_BINDINGS, bind("r", "a", ("ClusterRole", "reader"), &[subject("Group", "devs")]));
    objects.put(
        known::ROLE_BINDINGS,
        bind("w", "a", ("Role", "writer"), &[subject("User", "jane"), subject("ServiceAccount", "ann")]),
    );
    let why = r#"RBAC: allowed by RoleBinding "r/a" of ClusterRole "reader" to Group "devs""#;
    assert_eq!(ask(&rbac, &jane, "get", "a", "pods"), Ok(why.to_owned()));
    for (user, verb, namespace, want) in [
        (&jane, "update", "a", true),
        // An account without a namespace is of the binding's own.
        (&ann, "update", "a", true),
        (&ann, "get", "a", false),
        (&jane, "get", "b", false),
        (&jane, "get", "", false),
    ] {
        assert_eq!(ask(&rbac, user, verb, namespace, "pods").is_ok(), want, "{} {verb} {namespace:?}", user.name);
    }
    objects.put(known::CLUSTER_ROLE_BINDINGS, bind("all", "", ("ClusterRole", "reader"), &[subject("User", "jane")]));
    let why = r#"RBAC: allowed by ClusterRoleBinding "all" of ClusterRole "reader" to User "jane""#;
    for namespace in ["", "a", "b"] {
        assert_eq!(ask(&rbac, &jane, "get", namespace, "pods"), Ok(why.to_owned()));
    }
    assert_eq!(rbac.rules(&jane, "a").len(), 3);
    assert_eq!(rbac.rules(&jane, "b").len(), 1);
}

#[test]
fn a_change_counts_at_once() {
    let objects = Arc::new(Objects::default());
    let rbac = Rbac::new(objects.clone());
    let jane = User::new("jane", &[]);
    let may = || ask(&rbac, &jane, "get", "a", "pods").is_ok();
    objects.put(known::ROLE_BINDINGS, bind("b", "a", ("Role", "r"), &[subject("User", "jane")]));
    let missing = r#"RBAC: role.rbac.authorization.k8s.io "r" not found"#;
    assert_eq!(ask(&rbac, &jane, "get", "a", "pods"), Err(missing.to_owned()));
    objects.put(known::ROLES, role("r", "a", &[rule(&["get"], "", "pods")]));
    assert!(may());
    objects.put(known::ROLES, role("r", "a", &[rule(&["list"], "", "pods")]));
    assert!(!may());
    objects.put(known::ROLES, role("r", "a", &[rule(&["*"], "*", "*")]));
    assert!(may());
    objects.put(known::ROLE_BINDINGS, bind("b", "a", ("Role", "r"), &[subject("User", "ann")]));
    assert!(!may());
    objects
        .put(known::ROLE_BINDINGS, bind("b", "a", ("Role", "r"), &[subject("User", "ann"), subject("User", "jane")]));
    assert!(may());
    objects.remove(known::ROLE_BINDINGS, "a", "b");
    assert!(!may());
    objects.put(known::ROLE_BINDINGS, bind("o", "a", ("Role", "r"), &[subject("Other", "jane")]));
    assert!(!may());
    // Lists that are not there are empty.
    objects.put(known::ROLES, json!({"metadata": {"name": "r", "namespace": "a"}, "rules": null}));
    objects.put(
        known::ROLE_BINDINGS,
        json!({"metadata": {"name": "n", "namespace": "a"}, "roleRef": {"kind": "Role", "name": "r"}}),
    );
    assert!(!may());
}

#[test]
fn paths_are_granted_for_the_whole_cluster_only() {
    let objects = Arc::new(Objects::default());
    let rbac = Rbac::new(objects.clone());
    let jane = User::new("jane", &[]);
    let urls = json!({"verbs": ["get"], "nonResourceURLs": ["/metrics", "/logs/*"]});
    objects.put(known::CLUSTER_ROLES, role("urls", "", &[urls]));
    objects.put(known::ROLE_BINDINGS, bind("b", "a", ("ClusterRole", "urls"), &[subject("User", "jane")]));
    let may = |path: &str| matches!(rbac.decide(&Attributes::path(&jane, "get", path)), Decision::Allow(_));
    assert!(!may("/metrics"));
    objects.put(known::CLUSTER_ROLE_BINDINGS, bind("b", "", ("ClusterRole", "urls"), &[subject("User", "jane")]));
    assert!(may("/metrics") && may("/logs/a/b") && !may("/logs"));
}

/// A write of a role or binding, or its removal.
#[derive(Clone, Debug)]
struct Step {
    resource: GroupResource,
    namespace: &'static str,
    name: &'static str,
    object: Option<Value>,
}

fn step() -> impl Strategy<Value = Step> {
    let one = |of: &'static [&'static str]| proptest::sample::select(of);
    let subjects = proptest::sample::subsequence(
        vec![
            subject("User", "jane"),
            subject("Group", "devs"),
            subject("ServiceAccount", "ann"),
            subject("User", "ann"),
        ],
        0..3,
    );
    let parts = (one(&["a", "b", ""]), one(&["x", "y"]), one(&["x", "y"]), one(&["get", "list", "*"]), subjects);
    (parts, any::<(bool, bool, bool)>()).prop_map(|((namespace, name, other, verb, subjects), (role, there, local))| {
        let cluster = namespace.is_empty();
        let resource = match (role, cluster) {
            (true, true) => known::CLUSTER_ROLES,
            (true, false) => known::ROLES,
            (false, true) => known::CLUSTER_ROLE_BINDINGS,
            (false, false) => known::ROLE_BINDINGS,
        };
        let kind = if local && !cluster { "Role" } else { "ClusterRole" };
        let object = match role {
            true => self::role(name, namespace, &[rule(&[verb], "", "pods")]),
            false => bind(name, namespace, (kind, other), &subjects),
        };
        Step { resource, namespace, name, object: there.then_some(object) }
    })
}

proptest! {
    /// An index that followed every change answers as one that was made from what is there now.
    #[test]
    fn following_is_as_good_as_reading_anew(steps in proptest::collection::vec(step(), 1..40)) {
        let objects = Arc::new(Objects::default());
        let followed = Rbac::new(objects.clone());
        let users = [User::new("jane", &["devs"]), User::new("ann", &[]), User::new("system:serviceaccount:a:ann", &["devs"])];
        for Step { resource, namespace, name, object } in steps {
            let there = objects.snapshot().get(&Key::new(resource.clone(), namespace, name)).is_some();
            match object {
                Some(object) => objects.put(resource, object),
                None if there => objects.remove(resource, namespace, name),
                None => continue,
            }
            let anew = Rbac::new(objects.clone());
            for user in &users {
                for (verb, namespace) in [("get", "a"), ("list", "b"), ("get", ""), ("list", "a")] {
                    prop_assert_eq!(ask(&followed, user, verb, namespace, "pods"), ask(&anew, user, verb, namespace, "pods"));
                    prop_assert_eq!(followed.rules(user, namespace), anew.rules(user, namespace));
                }
            }
        }
    }
}
