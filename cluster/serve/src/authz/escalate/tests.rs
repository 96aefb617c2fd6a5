use std::sync::Arc;

use kedge_registry::Guard;

use super::*;
use crate::fixture::Objects;

const VERSION: &str = "v1";

fn world() -> (Arc<Objects>, Authorizer) {
    let objects = Arc::new(Objects::default());
    let grant = |verbs: &[&str], group: &str, resource: &str| json!({"verbs": verbs, "apiGroups": [group], "resources": [resource]});
    let rules = |name: &str| match name {
        "held" => grant(&["get", "list"], "", "configmaps"),
        "more" => grant(&["get"], "apps", "deployments"),
        "escalate" => grant(&["escalate"], GROUP, "roles"),
        _ => json!({"verbs": ["bind"], "apiGroups": [GROUP], "resources": ["clusterroles"], "resourceNames": ["more"]}),
    };
    for name in ["held", "more", "escalate", "bind"] {
        objects.put(known::CLUSTER_ROLES, json!({"metadata": {"name": name}, "rules": [rules(name)]}));
    }
    for (user, roles) in [("jane", &["held"][..]), ("eve", &["escalate"]), ("bob", &["bind"])] {
        for role in roles {
            objects.put(
                known::ROLE_BINDINGS,
                json!({"metadata": {"namespace": "n", "name": format!("{user}-{role}")}, "subjects": [{"kind": "User", "name": user}],
                       "roleRef": {"kind": "ClusterRole", "name": role}}),
            );
        }
    }
    let authorizer = Authorizer::new(objects.clone());
    (objects, authorizer)
}

fn target(resource: GroupResource, namespace: &str, name: &str) -> Target {
    Target {
        resource,
        version: VERSION.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        subresource: String::new(),
    }
}

fn grant(authorizer: &Authorizer, user: &str, groups: &[&str], rules: Value, old: Option<Value>) -> Result<(), String> {
    let new = json!({"metadata": {"name": "r"}, "rules": rules});
    let at = target(known::ROLES, "n", "");
    authorizer.may_grant(&User::new(user, groups), &at, &new, old.as_ref()).map_err(|status| status.message)
}

fn bind(authorizer: &Authorizer, user: &str, kind: &str, name: &str) -> Result<(), Status> {
    let new = json!({"metadata": {"name": "b"}, "roleRef": {"apiGroup": GROUP, "kind": kind, "name": name}});
    authorizer.may_grant(&User::new(user, &[]), &target(known::ROLE_BINDINGS, "n", ""), &new, None)
}

#[test]
fn a_role_grants_no_more_than_its_writer_has() {
    let (_, authorizer) = world();
    let held = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a"]}]);
    let more = json!([{"verbs": ["get", "delete"], "apiGroups": ["", "apps"], "resources": ["configmaps"]}]);
    assert_eq!(grant(&authorizer, "jane", &["devs"], held.clone(), None), Ok(()));
    assert_eq!(
        grant(&authorizer, "jane", &["devs", "ops"], more.clone(), None).unwrap_err(),
        "roles.rbac.authorization.k8s.io \"r\" is forbidden: user \"jane\" (groups=[\"devs\" \"ops\"]) is attempting to grant RBAC \
         permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"configmaps\"], Verbs:[\"delete\"]}\n\
         {APIGroups:[\"apps\"], Resources:[\"configmaps\"], Verbs:[\"get\" \"delete\"]}"
    );
    assert_eq!(grant(&authorizer, "eve", &[], more.clone(), None), Ok(()));
    assert_eq!(grant(&authorizer, "root", &[MASTERS], more.clone(), None), Ok(()));
    // Who takes a finalizer off grants nothing, though the role is more than they have.
    let old = json!({"metadata": {"name": "r", "finalizers": ["x"]}, "rules": more});
    assert_eq!(grant(&authorizer, "jane", &[], more.clone(), Some(old.clone())), Ok(()));
    let relabelled = json!({"metadata": {"name": "r", "labels": {"a": "b"}}, "rules": more});
    assert!(grant(&authorizer, "jane", &[], more, Some(relabelled)).is_err());
}

#[test]
fn only_who_may_do_anything_may_gather_anything() {
    let (_, authorizer) = world();
    let role = json!({"metadata": {"name": "r"}, "rules": null, "aggregationRule": {"clusterRoleSelectors": [{}]}});
    let plain = json!({"metadata": {"name": "r"}, "rules": null});
    let at = target(known::CLUSTER_ROLES, "", "r");
    let jane = User::new("jane", &[]);
    for (new, old) in [(&role, None), (&plain, Some(&role))] {
        let refused = authorizer.may_grant(&jane, &at, new, old).unwrap_err();
        let want = "clusterroles.rbac.authorization.k8s.io \"r\" is forbidden: must have cluster-admin privileges to use the aggregationRule";
        assert_eq!(refused.message, want);
    }
    assert!(authorizer.may_grant(&jane, &at, &plain, None).is_ok());
}

#[test]
fn a_binding_hands_on_what_its_writer_has_or_may_bind() {
    let (objects, authorizer) = world();
    assert!(bind(&authorizer, "jane", "ClusterRole", "held").is_ok());
    let refused = bind(&authorizer, "jane", "ClusterRole", "more").unwrap_err();
    assert!(
        refused
            .message
            .starts_with("rolebindings.rbac.authorization.k8s.io \"b\" is forbidden: user \"jane\" (groups=[])")
    );
    assert!(bind(&authorizer, "bob", "ClusterRole", "more").is_ok());
    assert!(bind(&authorizer, "bob", "ClusterRole", "held").is_err());
    let missing = bind(&authorizer, "jane", "Role", "held").unwrap_err();
    assert_eq!(missing.message, "rolebindings.rbac.authorization.k8s.io \"held\" not found");
    objects.put(known::ROLES, json!({"metadata": {"namespace": "n", "name": "held"}, "rules": null}));
    assert!(bind(&authorizer, "jane", "Role", "held").is_ok());
}

#[test]
fn a_put_that_creates_needs_leave_to_create() {
    let (objects, authorizer) = world();
    let put = |old: Option<&Value>| {
        let at = target(known::CONFIG_MAPS, "n", "a");
        authorizer.may_write(&User::new("jane", &[]), &at, &json!({"metadata": {"name": "a"}}), old)
    };
    assert_eq!(put(None).unwrap_err().message, "configmaps \"a\" is forbidden: ");
    assert!(put(Some(&json!({}))).is_ok());
    let rule = json!({"verbs": ["create"], "apiGroups": [""], "resources": ["configmaps"]});
    objects.put(known::CLUSTER_ROLES, json!({"metadata": {"name": "held"}, "rules": [rule]}));
    assert!(put(None).is_ok());
}
