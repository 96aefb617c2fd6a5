//! What the audit log holds of what kubectl did, by a policy file.

use std::path::Path;
use std::sync::Arc;

use kedge_serve::audit::Audit;
use kedge_serve::audit::log::{self, LogOptions};
use kedge_serve::audit::policy::Policy;
use kedge_serve::clock::Clock;
use serde_json::{Value, json};

use crate::has;
use crate::support::World;

const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  users: ['system:apiserver']
- level: None
  nonResourceURLs: ['/api*', '/openapi*', /version]
- level: Metadata
  resources: [{group: '', resources: [secrets]}]
- level: RequestResponse
  omitManagedFields: true
  resources: [{group: '', resources: [configmaps]}]
- level: Metadata
  omitStages: [ResponseStarted]
  resources: [{group: '', resources: ['pods/*']}]
- level: Request
";

const OBJECTS: &str = r"
apiVersion: v1
kind: Secret
metadata: {name: hidden}
stringData: {password: hunter2}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: shown}
data: {k: v}
";

fn lines(path: &Path) -> Vec<Value> {
    std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_is_noted_as_the_policy_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let options = LogOptions { path: path.clone(), max_megabytes: 1, max_backups: 1, max_days: 1 };
    let outlets = vec![log::open(options).unwrap()];
    let audit = Arc::new(Audit::new(Policy::parse(POLICY).unwrap(), outlets, Clock::system()));
    let world = World::start_noting(Some(Arc::clone(&audit))).await;
    assert!(world.feed(&["create"], OBJECTS).good);
    world.run(&["get", "configmaps", "shown", "-o", "json", "--as", "jane", "--as-group", "system:masters"]);
    has(&world.fail(&["get", "nodes", "--as", "jane"]), &["is forbidden"]);
    let nobody = world.kubeconfig("nobody", &json!({"token": "wrong"}));
    assert!(!world.command_with(&nobody, &["get", "--raw", "/api/v1/nodes"]).output().unwrap().status.success());
    world.run(&["get", "--raw", "/api/v1/nodes?watch=1&timeoutSeconds=1"]);
    audit.flush().await;
    let events = lines(&path);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains("hunter2") && !text.contains("aHVudGVyMg"), "a secret's content is in the log");
    assert!(!text.contains("managedFields"));
    for event in &events {
        assert_eq!((&event["kind"], &event["apiVersion"]), (&json!("Event"), &json!("audit.k8s.io/v1")));
        assert_ne!(event["stage"], "RequestReceived");
        assert_eq!(event["sourceIPs"], json!(["127.0.0.1"]));
        assert!(event["requestReceivedTimestamp"].as_str() <= event["stageTimestamp"].as_str());
    }
    let find = |verb: &str, resource: &str| {
        let found: Vec<&Value> =
            events.iter().filter(|event| event["verb"] == verb && event["objectRef"]["resource"] == resource).collect();
        assert!(!found.is_empty(), "no {verb} of {resource} in {text}");
        found
    };
    let secret = find("create", "secrets")[0];
    assert_eq!(secret["level"], "Metadata");
    assert_eq!(
        secret["objectRef"],
        json!({"resource": "secrets", "namespace": "default", "name": "hidden", "apiVersion": "v1"})
    );
    assert_eq!(secret["responseStatus"], json!({"metadata": {}, "code": 201}));
    assert!(secret.get("requestObject").is_none() && secret.get("responseObject").is_none());
    assert_eq!(secret["user"]["username"], "admin");
    has(secret["requestURI"].as_str().unwrap(), &["/api/v1/namespaces/default/secrets?fieldManager=kubectl-create"]);
    assert_eq!(secret["annotations"]["authorization.k8s.io/decision"], "allow");
    let map = find("create", "configmaps")[0];
    assert_eq!((&map["level"], &map["requestObject"]["data"]), (&json!("RequestResponse"), &json!({"k": "v"})));
    assert!(map["responseObject"]["metadata"]["uid"].is_string());
    let read =
        find("get", "configmaps").into_iter().find(|event| event["impersonatedUser"]["username"] == "jane").unwrap();
    assert_eq!(
        (&read["user"]["username"], &read["impersonatedUser"]["groups"][0]),
        (&json!("admin"), &json!("system:masters"))
    );
    let listed = find("list", "nodes");
    let forbidden = listed.iter().find(|event| event["responseStatus"]["code"] == 403).unwrap();
    assert_eq!(forbidden["annotations"]["authorization.k8s.io/decision"], "forbid");
    assert_eq!(
        (&forbidden["responseStatus"]["reason"], &forbidden["responseStatus"]["status"]),
        (&json!("Forbidden"), &json!("Failure"))
    );
    let unknown = listed.iter().find(|event| event["responseStatus"]["code"] == 401).unwrap();
    assert_eq!(unknown["stage"], "ResponseStarted");
    assert_eq!(unknown["responseStatus"]["message"], "Authentication failed, attempted: bearer");
    let stages: Vec<&Value> = find("watch", "nodes").iter().map(|event| &event["stage"]).collect();
    assert_eq!(stages, ["ResponseStarted", "ResponseComplete"]);
    let metrics = world.run(&["get", "--raw", "/metrics"]);
    has(
        &metrics,
        &[
            "apiserver_audit_level_total{level=\"RequestResponse\"}",
            "apiserver_audit_error_total{plugin=\"buffered\"} 0\n",
        ],
    );
}
