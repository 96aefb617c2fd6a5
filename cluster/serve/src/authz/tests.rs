use std::sync::Arc;

use http::Method;
use kedge_api::resource::known;
use serde_json::json;

use super::*;
use crate::fixture::Objects;
use crate::wire::path::parse;
use crate::wire::query::Query;

fn authorizer(objects: Arc<Objects>) -> Authorizer {
    Authorizer::new(objects)
}

async fn ask(authorizer: &Authorizer, user: &User, method: &str, uri: &str) -> Result<(), String> {
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    let method: Method = method.parse().unwrap();
    let query = Query::parse(query);
    let asked = parse(&method, path, &query).unwrap();
    let attributes = Attributes::asked(user, &asked, Selectors::of(&query));
    authorizer.check(&attributes).await.map_err(|status| status.message)
}

#[tokio::test]
async fn role_by_verb_by_kind() {
    let authorizer = authorizer(Arc::new(Objects::bootstrapped().await));
    let admin = User::new("admin", &["system:masters", "system:authenticated"]);
    let jane = User::new("jane", &["system:authenticated"]);
    let account = User::new("system:serviceaccount:a:b", &["system:serviceaccounts", "system:authenticated"]);
    let manager = User::new("system:kube-controller-manager", &["system:authenticated"]);
    let replicas = "system:serviceaccount:kube-system:replicaset-controller";
    let replicas = User::new(replicas, &["system:serviceaccounts", "system:authenticated"]);
    let scheduler = User::new("system:kube-scheduler", &["system:authenticated"]);
    let nobody = User::new("system:anonymous", &["system:unauthenticated"]);
    for (method, uri, allowed) in [
        ("GET", "/api/v1/nodes", &[&admin, &manager, &scheduler][..]),
        ("GET", "/api/v1/namespaces/a/secrets/s", &[&admin, &manager]),
        ("POST", "/api/v1/namespaces/a/pods", &[&admin, &replicas]),
        ("POST", "/api/v1/namespaces/a/secrets", &[&admin, &manager]),
        ("PATCH", "/apis/apps/v1/namespaces/a/replicasets/r/status", &[&admin, &replicas]),
        ("PATCH", "/apis/apps/v1/namespaces/a/deployments/d/status", &[&admin]),
        ("POST", "/apis/apps/v1/namespaces/a/deployments", &[&admin]),
        ("POST", "/api/v1/namespaces/a/pods/p/binding", &[&admin, &scheduler]),
        ("POST", "/api/v1/namespaces/a/pods/p/exec", &[&admin]),
        ("DELETE", "/apis/apps/v1/namespaces/a/replicasets/r", &[&admin]),
        ("DELETE", "/api/v1/namespaces/a/pods/p", &[&admin, &replicas, &scheduler]),
        ("GET", "/apis", &[&admin, &jane, &account, &manager, &replicas, &scheduler]),
        ("GET", "/openapi/v3/apis/apps/v1", &[&admin, &jane, &account, &manager, &replicas, &scheduler]),
        ("GET", "/healthz", &[&admin, &jane, &account, &manager, &replicas, &scheduler, &nobody]),
        ("GET", "/metrics", &[&admin]),
        ("GET", "/healthz/ping", &[&admin]),
        ("GET", "/version", &[&admin, &jane, &account, &manager, &replicas, &scheduler, &nobody]),
        ("GET", "/api", &[&admin, &jane, &account, &manager, &replicas, &scheduler]),
        ("GET", "/openid/v1/jwks", &[&admin, &account, &replicas]),
        (
            "POST",
            "/apis/authentication.k8s.io/v1/selfsubjectreviews",
            &[&admin, &jane, &account, &manager, &replicas, &scheduler],
        ),
        ("POST", "/apis/authentication.k8s.io/v1/tokenreviews", &[&admin, &manager, &scheduler]),
    ] {
        for user in [&admin, &jane, &account, &manager, &replicas, &scheduler, &nobody] {
            let want = allowed.iter().any(|u| u.name == user.name);
            assert_eq!(ask(&authorizer, user, method, uri).await.is_ok(), want, "{} {method} {uri}", user.name);
        }
    }
}

#[tokio::test]
async fn refusals_are_worded_as_upstream_does() {
    let authorizer = authorizer(Arc::default());
    let jane = User::new("jane", &["system:authenticated"]);
    for (method, uri, want) in [
        (
            "GET",
            "/api/v1/namespaces/n/configmaps",
            r#"configmaps is forbidden: User "jane" cannot list resource "configmaps" in API group "" in the namespace "n""#,
        ),
        (
            "DELETE",
            "/api/v1/namespaces/n/configmaps/a",
            r#"configmaps "a" is forbidden: User "jane" cannot delete resource "configmaps" in API group "" in the namespace "n""#,
        ),
        (
            "GET",
            "/api/v1/nodes/n",
            r#"nodes "n" is forbidden: User "jane" cannot get resource "nodes" in API group "" at the cluster scope"#,
        ),
        (
            "GET",
            "/apis/apps/v1/namespaces/n/deployments/d/scale",
            r#"deployments.apps "d" is forbidden: User "jane" cannot get resource "deployments/scale" in API group "apps" in the namespace "n""#,
        ),
        ("GET", "/metrics", r#"forbidden: User "jane" cannot get path "/metrics""#),
        (
            "GET",
            "/apis/nope.example.com/v1/things",
            r#"things.nope.example.com is forbidden: User "jane" cannot list resource "things" in API group "nope.example.com" at the cluster scope"#,
        ),
    ] {
        assert_eq!(ask(&authorizer, &jane, method, uri).await.unwrap_err(), want);
    }
}

#[tokio::test]
async fn a_node_reaches_its_own_and_what_its_pods_name() {
    let objects = Arc::new(Objects::default());
    let pod = |name: &str, node: &str, secret: &str| {
        json!({"metadata": {"namespace": "n", "name": name}, "spec": {"nodeName": node, "serviceAccountName": "sa",
            "volumes": [{"name": "v", "projected": {"sources": [{"configMap": {"name": "cm"}}]}}],
            "initContainers": [{"name": "i", "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": secret, "key": "k"}}}]}]}})
    };
    objects.put(known::PODS, pod("mine", "n1", "s1"));
    objects.put(known::PODS, pod("other", "n2", "s2"));
    let mut claims = pod("claims", "n1", "s1");
    claims["spec"]["volumes"] =
        json!([{"name": "v", "persistentVolumeClaim": {"claimName": "pvc"}}, {"name": "tmp", "ephemeral": {}}]);
    claims["spec"]["resourceClaims"] = json!([{"name": "r", "resourceClaimTemplateName": "t"}]);
    claims["status"] = json!({"resourceClaimStatuses": [{"name": "r", "resourceClaimName": "claims-r-x"}]});
    objects.put(known::PODS, claims);
    let volume = |name: &str, claim: &str| json!({"metadata": {"name": name}, "spec": {"claimRef": {"namespace": "n", "name": claim}}});
    objects.put(known::PERSISTENT_VOLUMES, volume("pv", "pvc"));
    objects.put(known::PERSISTENT_VOLUMES, volume("pv-other", "other"));
    let claim = json!({"metadata": {"namespace": "n", "name": "pvc"}, "spec": {"volumeName": "pv-other"}});
    objects.put(known::PERSISTENT_VOLUME_CLAIMS, claim);
    for (name, node) in [("a1", "n1"), ("a2", "n2")] {
        objects.put(known::VOLUME_ATTACHMENTS, json!({"metadata": {"name": name}, "spec": {"nodeName": node}}));
    }
    let authorizer = authorizer(objects);
    let node = User::new("system:node:n1", &["system:nodes", "system:authenticated"]);
    for (method, uri, want) in [
        ("GET", "/api/v1/namespaces/n/secrets/s1", true),
        ("GET", "/api/v1/namespaces/n/secrets?watch=1&fieldSelector=metadata.name%3Ds1", true),
        ("GET", "/api/v1/namespaces/n/secrets/s2", false),
        ("GET", "/api/v1/namespaces/m/secrets/s1", false),
        ("GET", "/api/v1/namespaces/n/secrets", false),
        ("PUT", "/api/v1/namespaces/n/secrets/s1", false),
        ("GET", "/api/v1/namespaces/n/configmaps/cm", true),
        ("POST", "/api/v1/namespaces/n/serviceaccounts/sa/token", true),
        ("POST", "/api/v1/namespaces/n/serviceaccounts/admin/token", false),
        ("GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1", true),
        ("GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Dn2", false),
        ("GET", "/api/v1/pods", false),
        ("GET", "/api/v1/namespaces/n/pods/mine", true),
        ("GET", "/api/v1/namespaces/n/pods/other", false),
        ("PATCH", "/api/v1/namespaces/n/pods/mine/status", true),
        ("PATCH", "/api/v1/namespaces/n/pods/other/status", false),
        ("DELETE", "/api/v1/namespaces/n/pods/other", false),
        ("PATCH", "/api/v1/nodes/n1/status", true),
        ("PATCH", "/api/v1/nodes/n2/status", false),
        ("DELETE", "/api/v1/nodes/n1", false),
        ("PUT", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1", true),
        ("PUT", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n2", false),
        ("PUT", "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/n1", false),
        ("GET", "/api/v1/namespaces/n/persistentvolumeclaims/pvc", true),
        ("PATCH", "/api/v1/namespaces/n/persistentvolumeclaims/pvc/status", true),
        ("PATCH", "/api/v1/namespaces/n/persistentvolumeclaims/pvc", false),
        ("GET", "/api/v1/namespaces/n/persistentvolumeclaims/claims-tmp", true),
        ("GET", "/api/v1/namespaces/n/persistentvolumeclaims/claims-v", false),
        ("GET", "/api/v1/persistentvolumes/pv", true),
        // A claim may ask for any volume; it is the volume that says whose it is.
        ("GET", "/api/v1/persistentvolumes/pv-other", false),
        ("GET", "/apis/storage.k8s.io/v1/volumeattachments/a1", true),
        ("GET", "/apis/storage.k8s.io/v1/volumeattachments/a2", false),
        ("GET", "/apis/storage.k8s.io/v1/volumeattachments", false),
        ("GET", "/apis/resource.k8s.io/v1/namespaces/n/resourceclaims/claims-r-x", true),
        ("GET", "/apis/resource.k8s.io/v1/namespaces/n/resourceclaims/other", false),
        ("POST", "/api/v1/namespaces/n/events", true),
        ("POST", "/apis/apps/v1/namespaces/n/deployments", false),
    ] {
        assert_eq!(ask(&authorizer, &node, method, uri).await.is_ok(), want, "{method} {uri}");
    }
    let refused = ask(&authorizer, &node, "GET", "/api/v1/namespaces/n/secrets/s2").await.unwrap_err();
    assert!(refused.ends_with(": no relationship found between node 'n1' and this object"), "{refused}");
    // The name alone makes no node.
    let liar = User::new("system:node:n1", &["system:authenticated"]);
    assert!(ask(&authorizer, &liar, "GET", "/api/v1/namespaces/n/secrets/s1").await.is_err());
}
