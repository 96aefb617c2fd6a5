use std::collections::BTreeSet;

use kedge_store::{Memory, Store};
use kedge_watch::Cache;

use super::*;

fn all_roles() -> Vec<Role> {
    table::read().0
}

fn all_bindings() -> Vec<Binding> {
    table::read().1
}

#[test]
fn every_name_stands_once_and_every_binding_finds_its_role() {
    let roles: Vec<_> = all_roles().iter().map(|r| (r.namespace, r.name.clone())).collect();
    let bindings: Vec<_> = all_bindings().iter().map(|b| (b.namespace, b.name.clone())).collect();
    for names in [&roles, &bindings] {
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    }
    for binding in all_bindings() {
        assert!(roles.contains(&(binding.namespace, binding.role.clone())), "{}", binding.name);
    }
}

#[test]
fn every_word_of_a_rule_is_one() {
    for role in all_roles() {
        for rule in role.grants.iter().map(Grant::rule) {
            let lists = [&rule.verbs, &rule.api_groups, &rule.resources, &rule.resource_names, &rule.non_resource_urls];
            for list in lists {
                assert_eq!(list.iter().collect::<BTreeSet<_>>().len(), list.len(), "{}: {rule}", role.name);
                assert!(list.is_sorted(), "{}: {rule}", role.name);
                assert!(list.iter().all(|word| word == word.trim()), "{}: {rule}", role.name);
            }
            assert!(!rule.verbs.is_empty() && rule.resources.iter().all(|r| !r.is_empty()), "{}: {rule}", role.name);
            assert_ne!(rule.resources.is_empty(), rule.non_resource_urls.is_empty(), "{}: {rule}", role.name);
        }
        assert_eq!(role.grants.is_empty(), !role.gathers.is_empty(), "{}", role.name);
    }
}

/// Role by verb by kind: what the roles that people are given may and may not do, as their parts add up.
#[test]
fn admin_edits_edit_views_and_view_reads_no_secrets() {
    let gathered = |label: &str| -> Vec<Rule> {
        let mut labels = vec![label.to_owned()];
        let mut rules = Vec::new();
        while let Some(label) = labels.pop() {
            for role in all_roles().iter().filter(|role| role.adds_to == label) {
                rules.extend(role.grants.iter().map(Grant::rule));
                labels.extend(Some(role.gathers.to_owned()).filter(|g| !g.is_empty()));
            }
        }
        rules
    };
    let (admin, edit, view) =
        (gathered("aggregate-to-admin"), gathered("aggregate-to-edit"), gathered("aggregate-to-view"));
    for (verb, group, resource, subresource, want) in [
        ("get", "", "pods", "", "aev"),
        ("get", "", "pods", "log", "aev"),
        ("get", "", "pods", "exec", "ae"),
        ("create", "", "pods", "exec", "ae"),
        ("list", "", "secrets", "", "ae"),
        ("delete", "apps", "deployments", "", "ae"),
        ("patch", "apps", "deployments", "scale", "ae"),
        ("update", "apps", "deployments", "status", ""),
        ("create", "", "endpoints", "", ""),
        ("create", "rbac.authorization.k8s.io", "rolebindings", "", "a"),
        ("create", "rbac.authorization.k8s.io", "clusterrolebindings", "", ""),
        ("get", "", "nodes", "", ""),
        ("update", "", "resourcequotas", "", ""),
        ("get", "", "resourcequotas", "", "aev"),
        ("impersonate", "", "serviceaccounts", "", "ae"),
    ] {
        let wish = rbac::Wish::Resource { group, resource, subresource, name: "" };
        let may = |rules: &[Rule]| rules.iter().any(|rule| rule.allows(verb, wish));
        let who: String = [('a', &admin), ('e', &edit), ('v', &view)]
            .iter()
            .filter(|(_, rules)| may(rules))
            .map(|(c, _)| c)
            .collect();
        assert_eq!(who, want, "{verb} {group}/{resource}/{subresource}");
    }
}

#[test]
fn what_was_added_stays_and_what_is_missing_comes_back() {
    let (roles, bindings) = table::parse("role x\n get list | core | pods\nbinding x Group:g Account:a");
    let (_, wanted) = roles[0].object();
    assert_eq!(merged(&wanted, &wanted), Merged::Same);
    let mut found = wanted.clone();
    found.set("rules", json!([{"verbs": ["get", "delete"], "apiGroups": [""], "resources": ["pods"]}]));
    found.set("metadata.labels", json!({"own": "1"}));
    let Merged::Changed(new) = merged(&found, &wanted) else { panic!() };
    assert_eq!(
        new.look("rules"),
        &json!([{"verbs": ["get", "delete"], "apiGroups": [""], "resources": ["pods"]},
                {"verbs": ["list"], "apiGroups": [""], "resources": ["pods"]}])
    );
    assert_eq!(new.look("metadata.labels"), &json!({"own": "1", LABEL: "rbac-defaults"}));
    found.set("metadata.annotations", json!({AUTOUPDATE: "false"}));
    assert_eq!(merged(&found, &wanted), Merged::Same);

    let (_, wanted) = bindings[0].object();
    let mut found = wanted.clone();
    found.set("subjects", json!([{"kind": "User", "apiGroup": GROUP, "name": "u"}]));
    let Merged::Changed(new) = merged(&found, &wanted) else { panic!() };
    assert_eq!(new.items("subjects").len(), 3);
    found.set("roleRef.name", "y");
    assert_eq!(merged(&found, &wanted), Merged::Other);
}

#[tokio::test]
async fn a_second_start_writes_nothing_and_a_third_repairs() {
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let cache = Cache::start(store.clone()).await.unwrap();
    let registry = Registry::new(store, cache.clone(), crate::Options::default());
    crate::bootstrap(&registry).await.unwrap();
    let first = cache.snapshot();
    let names = |resource| first.list(&resource, "").count();
    assert_eq!(names(known::CLUSTER_ROLES), all_roles().iter().filter(|r| r.namespace.is_empty()).count());
    assert_eq!(names(known::ROLE_BINDINGS), all_bindings().iter().filter(|b| !b.namespace.is_empty()).count());
    crate::bootstrap(&registry).await.unwrap();
    assert_eq!(cache.snapshot().revision, first.revision);
    let view = json!({"metadata": {"name": "system:discovery"}});
    write(&registry, Verb::Delete, known::CLUSTER_ROLE_BINDINGS, view).await.unwrap();
    crate::bootstrap(&registry).await.unwrap();
    assert_eq!(cache.snapshot().len(&known::CLUSTER_ROLE_BINDINGS), first.len(&known::CLUSTER_ROLE_BINDINGS));
}
