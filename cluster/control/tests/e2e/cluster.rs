//! All controllers and the scheduler together.

use std::sync::Arc;
use std::time::Duration;

use kedge_api::GroupResource;
use kedge_api::resource::known::*;
use kedge_control::Options;
use serde_json::{Value, json};

use crate::world::World;

fn mapped(api_version: &str, kind: &str) -> Option<(GroupResource, bool)> {
    Some(match (api_version, kind) {
        ("apps/v1", "Deployment") => (DEPLOYMENTS, true),
        ("apps/v1", "ReplicaSet") => (REPLICA_SETS, true),
        ("apps/v1", "DaemonSet") => (DAEMON_SETS, true),
        ("batch/v1", "Job") => (JOBS, true),
        ("v1", "ConfigMap") => (CONFIG_MAPS, true),
        ("v1", "ReplicationController") => (REPLICATION_CONTROLLERS, true),
        ("v1", "Service") => (SERVICES, true),
        ("v1", "Node") => (NODES, false),
        _ => return None,
    })
}

async fn start(lag: u64) -> Arc<World> {
    let world = World::new(Duration::from_millis(lag));
    let options = Options {
        ca_pem: "PEM".into(),
        certify: Arc::new(|_| Ok(kedge_control::certificates::Signed::Unknown)),
        sign: Arc::new(|_| Ok("TOKEN".into())),
        mapper: Arc::new(mapped),
        type_check: Arc::new(|_| Vec::new()),
        counted: Arc::default(),
    };
    tokio::spawn(kedge_control::run(&|_| world.clone(), world.clone(), options));
    tokio::spawn(kedge_schedule::run(world.clone(), world.clone(), kedge_schedule::Options::default()));
    tokio::spawn(world.clone().run_agent());
    world.put(NODES, node("n1", json!({}))).await;
    world.put(NAMESPACES, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}, "spec": {"finalizers": ["kubernetes"]}})).await;
    world
}

fn node(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": "z"}}, "spec": spec,
        "status": {"allocatable": {"cpu": "8", "memory": "8Gi", "pods": "110"}}})
}

fn template(app: &str, more: Value) -> Value {
    let mut template = json!({
        "metadata": {"labels": {"app": app}},
        "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]}]},
    });
    if let Value::Object(more) = more {
        template["metadata"].as_object_mut().unwrap().extend(more);
    }
    template
}

fn deployment(replicas: i32) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"}, "spec": {
        "replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template("web", Value::Null),
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}}})
}

fn running(world: &World) -> usize {
    world
        .list(&PODS)
        .iter()
        .filter(|p| p["status"]["phase"] == "Running" && p["metadata"]["deletionTimestamp"].is_null())
        .count()
}

#[tokio::test]
async fn a_namespace_has_its_defaults_and_goes_with_all_it_holds() {
    let world = start(5).await;
    world
        .until("account and bundle", |w| {
            w.get(&SERVICE_ACCOUNTS, "default", "default").is_some()
                && w.get(&CONFIG_MAPS, "default", "kube-root-ca.crt").is_some_and(|map| map["data"]["ca.crt"] == "PEM")
        })
        .await;
    world.delete(SERVICE_ACCOUNTS, "default", "default", json!({})).await;
    world.patch(CONFIG_MAPS, "default", "kube-root-ca.crt", "", json!({"data": {"ca.crt": "other", "x": "y"}})).await;
    world
        .until("both are restored", |w| {
            w.get(&SERVICE_ACCOUNTS, "default", "default").is_some()
                && w.get(&CONFIG_MAPS, "default", "kube-root-ca.crt")
                    .is_some_and(|map| map["data"] == json!({"ca.crt": "PEM"}))
        })
        .await;
    world.put(DEPLOYMENTS, deployment(2)).await;
    world.put(CONFIG_MAPS, json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "held", "namespace": "default", "finalizers": ["example.com/x"]}})).await;
    world.until("two run", |w| running(w) == 2).await;
    world.delete(NAMESPACES, "", "default", json!({})).await;
    let condition = |w: &World, kind: &str| {
        let conditions = w.get(&NAMESPACES, "", "default")?["status"]["conditions"].clone();
        conditions.as_array()?.iter().find(|c| c["type"] == kind).cloned()
    };
    world
        .until("only the held object is left", |w| {
            condition(w, "NamespaceContentRemaining")
                .is_some_and(|c| c["message"] == "Some resources are remaining: configmaps has 1 resource instances")
        })
        .await;
    let held = condition(&world, "NamespaceFinalizersRemaining").unwrap();
    assert_eq!(
        held["message"],
        "Some content in the namespace has finalizers remaining: example.com/x in 1 resource instances"
    );
    assert_eq!((world.list(&PODS).len(), world.list(&DEPLOYMENTS).len()), (0, 0));
    world.patch(CONFIG_MAPS, "default", "held", "", json!({"metadata": {"finalizers": null}})).await;
    world.until("the namespace is gone", |w| w.list(&NAMESPACES).is_empty()).await;
}

#[tokio::test]
async fn owners_take_their_dependents_along_or_leave_them() {
    let world = start(5).await;
    world.put(DEPLOYMENTS, deployment(2)).await;
    world.until("two run", |w| running(w) == 2).await;
    world.delete(DEPLOYMENTS, "default", "web", json!({"propagationPolicy": "Orphan"})).await;
    world.until("the deployment is gone", |w| w.list(&DEPLOYMENTS).is_empty()).await;
    let sets = world.list(&REPLICA_SETS);
    assert_eq!((sets.len(), &sets[0]["metadata"]["ownerReferences"], running(&world)), (1, &Value::Null, 2));

    world.put(DEPLOYMENTS, deployment(2)).await;
    world.until("the orphan is adopted", |w| !w.list(&REPLICA_SETS)[0]["metadata"]["ownerReferences"].is_null()).await;
    assert_eq!(world.list(&REPLICA_SETS).len(), 1);
    world.delete(DEPLOYMENTS, "default", "web", json!({"propagationPolicy": "Foreground"})).await;
    world.until("the deployment is gone", |w| w.list(&DEPLOYMENTS).is_empty()).await;
    assert_eq!((world.list(&REPLICA_SETS).len(), world.list(&PODS).len()), (0, 0), "the dependents went first");

    world.put(DEPLOYMENTS, deployment(2)).await;
    world.until("two run", |w| running(w) == 2).await;
    world.delete(DEPLOYMENTS, "default", "web", json!({})).await;
    world.until("all are gone", |w| w.list(&REPLICA_SETS).is_empty() && w.list(&PODS).is_empty()).await;
}

#[tokio::test]
async fn owners_in_a_circle_do_not_wait_for_each_other() {
    let world = start(5).await;
    let map = |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}});
    let names = ["one", "two", "three"];
    let mut uids = Vec::new();
    for name in names {
        uids.push(world.put(CONFIG_MAPS, map(name)).await["metadata"]["uid"].clone());
    }
    for (name, owner) in [(0, 2), (1, 0), (2, 1)] {
        let reference = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": names[owner], "uid": uids[owner], "controller": true,
            "blockOwnerDeletion": true});
        let patch = json!({"metadata": {"ownerReferences": [reference]}});
        world.patch(CONFIG_MAPS, "default", names[name], "", patch).await;
    }
    world.delete(CONFIG_MAPS, "default", "one", json!({"propagationPolicy": "Foreground"})).await;
    world.until("all are gone", |w| names.iter().all(|name| w.get(&CONFIG_MAPS, "default", name).is_none())).await;
}

#[tokio::test]
async fn what_pods_live_by_outlasts_them_in_a_namespace_that_goes() {
    let world = start(5).await;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "slow", "namespace": "default", "finalizers": ["example.com/x"]},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    world.put(PODS, pod).await;
    world
        .put(
            CONFIG_MAPS,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kept", "namespace": "default"}}),
        )
        .await;
    world.delete(NAMESPACES, "", "default", json!({})).await;
    world
        .until("only the pod is told", |w| {
            let namespace = w.get(&NAMESPACES, "", "default").unwrap();
            let mut conditions = namespace["status"]["conditions"].as_array().into_iter().flatten();
            conditions.any(|c| c["message"] == "Some resources are remaining: pods has 1 resource instances")
        })
        .await;
    assert!(world.get(&CONFIG_MAPS, "default", "kept").is_some());
    world.patch(PODS, "default", "slow", "", json!({"metadata": {"finalizers": null}})).await;
    world.until("all is gone", |w| w.list(&NAMESPACES).is_empty() && w.list(&CONFIG_MAPS).is_empty()).await;
}

#[tokio::test]
async fn a_replication_controller_keeps_its_number_of_pods() {
    let world = start(5).await;
    world.put(REPLICATION_CONTROLLERS, json!({"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "rc", "namespace": "default"},
        "spec": {"replicas": 2, "selector": {"app": "rc"}, "template": template("rc", Value::Null)}})).await;
    let status = |w: &World| w.get(&REPLICATION_CONTROLLERS, "default", "rc").unwrap()["status"].clone();
    world.until("two run", |w| running(w) == 2 && status(w)["availableReplicas"] == 2).await;
    assert_eq!(
        status(&world),
        json!({"replicas": 2, "fullyLabeledReplicas": 2, "readyReplicas": 2, "availableReplicas": 2, "observedGeneration": 1})
    );
    let pods = world.list(&PODS);
    let owner = &pods[0]["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["apiVersion"], &owner["kind"]), (&json!("v1"), &json!("ReplicationController")));
    let stranger = pods[0]["metadata"]["name"].as_str().unwrap().to_owned();
    world.patch(PODS, "default", &stranger, "", json!({"metadata": {"labels": {"app": "other"}}})).await;
    world
        .until("the stranger is let go and replaced", |w| {
            running(w) == 3 && w.get(&PODS, "default", &stranger).unwrap()["metadata"]["ownerReferences"].is_null()
        })
        .await;
    world.patch(REPLICATION_CONTROLLERS, "default", "rc", "", json!({"spec": {"replicas": 0}})).await;
    world.until("only the stranger is left", |w| w.list(&PODS).len() == 1 && status(w)["replicas"] == 0).await;
}

#[tokio::test]
async fn services_have_their_endpoints() {
    let world = start(5).await;
    world.put(SERVICES, json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default", "labels": {"a": "b"}},
        "spec": {"selector": {"app": "web"}, "clusterIP": "10.43.0.5", "ipFamilies": ["IPv4"],
            "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}]}})).await;
    let slices = |w: &World| w.list(&ENDPOINT_SLICES);
    world.until("an empty slice and empty endpoints", |w| slices(w).len() == 1 && w.list(&ENDPOINTS).len() == 1).await;
    assert_eq!(
        (&slices(&world)[0]["endpoints"], &slices(&world)[0]["metadata"]["labels"]["a"]),
        (&json!([]), &json!("b"))
    );
    world.put(DEPLOYMENTS, deployment(3)).await;
    let ready = |w: &World| {
        let all: Vec<_> = slices(w).iter().flat_map(|s| s["endpoints"].as_array().unwrap().clone()).collect();
        all.iter().filter(|e| e["conditions"] == json!({"ready": true, "serving": true, "terminating": false})).count()
    };
    let addresses = |w: &World| {
        let endpoints = w.get(&ENDPOINTS, "default", "web").unwrap();
        endpoints["subsets"][0]["addresses"].as_array().map_or(0, Vec::len)
    };
    world.until("three endpoints", |w| ready(w) == 3 && slices(w).len() == 1 && addresses(w) == 3).await;
    let slice = slices(&world)[0].clone();
    assert_eq!(slice["ports"], json!([{"name": "http", "port": 8080, "protocol": "TCP"}]));
    assert_eq!((&slice["endpoints"][0]["nodeName"], &slice["endpoints"][0]["zone"]), (&json!("n1"), &json!("z")));
    assert_eq!(slice["metadata"]["ownerReferences"][0]["kind"], "Service");
    world.patch(DEPLOYMENTS, "default", "web", "", json!({"spec": {"replicas": 1}})).await;
    world.until("one endpoint", |w| ready(w) == 1 && addresses(w) == 1).await;
    // Whatever someone writes into a slice is put right.
    let name = slices(&world)[0]["metadata"]["name"].as_str().unwrap().to_owned();
    world.patch(ENDPOINT_SLICES, "default", &name, "", json!({"endpoints": []})).await;
    world.until("repaired", |w| ready(w) == 1).await;
    world.delete(SERVICES, "default", "web", json!({})).await;
    world.until("all is gone", |w| slices(w).is_empty() && w.list(&ENDPOINTS).is_empty()).await;
}

fn job(name: &str, outcome: &str, spec: Value) -> Value {
    let mut object = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": "default"}, "spec": {
        "selector": {"matchLabels": {"app": name}}, "template": template(name, json!({"annotations": {"outcome": outcome}}))}});
    object["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    object["spec"]["template"]["spec"]["restartPolicy"] = "Never".into();
    object
}

fn condition(world: &World, job: &str, kind: &str) -> Option<Value> {
    let conditions = world.get(&JOBS, "default", job)?["status"]["conditions"].clone();
    conditions.as_array()?.iter().find(|c| c["type"] == kind && c["status"] == "True").cloned()
}

fn status(world: &World, job: &str, field: &str) -> Value {
    world.get(&JOBS, "default", job).unwrap()["status"][field].clone()
}

#[tokio::test]
async fn jobs_complete_and_are_counted_once() {
    let world = start(10).await;
    world.put(JOBS, job("j", "Succeeded", json!({"completions": 5, "parallelism": 2}))).await;
    world.until("complete", |w| condition(w, "j", "Complete").is_some()).await;
    let pods = world.list(&PODS);
    assert_eq!(
        (pods.len(), status(&world, "j", "succeeded"), status(&world, "j", "failed")),
        (5, json!(5), Value::Null)
    );
    world.until("let go", |w| w.list(&PODS).iter().all(|p| p["metadata"]["finalizers"].is_null())).await;
    assert_eq!(status(&world, "j", "uncountedTerminatedPods"), json!({}));
    assert!(condition(&world, "j", "SuccessCriteriaMet").is_some());
    world
        .until("told", |w| {
            w.list(&EVENTS).iter().any(|e| e["reason"] == "Completed" && e["message"] == "Job completed")
        })
        .await;

    world
        .put(JOBS, job("i", "Succeeded", json!({"completions": 4, "parallelism": 2, "completionMode": "Indexed"})))
        .await;
    world.until("complete", |w| condition(w, "i", "Complete").is_some()).await;
    assert_eq!((status(&world, "i", "completedIndexes"), status(&world, "i", "succeeded")), (json!("0-3"), json!(4)));
    let mut indexes: Vec<_> = world
        .list(&PODS)
        .iter()
        .filter_map(|p| {
            p["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"].as_str().map(str::to_owned)
        })
        .collect();
    indexes.sort();
    assert_eq!(indexes, ["0", "1", "2", "3"]);
}

#[tokio::test]
async fn jobs_fail_suspend_and_expire() {
    let world = start(0).await;
    world.put(JOBS, job("f", "Failed", json!({"backoffLimit": 0}))).await;
    world.until("failed", |w| condition(w, "f", "Failed").is_some_and(|c| c["reason"] == "BackoffLimitExceeded")).await;
    assert_eq!((status(&world, "f", "failed"), world.list(&PODS).len()), (json!(1), 1));
    world.patch(JOBS, "default", "f", "", json!({"spec": {"ttlSecondsAfterFinished": 1}})).await;

    let slow = "";
    let mut deadline = job("d", slow, json!({"activeDeadlineSeconds": 1, "parallelism": 2}));
    deadline["spec"]["template"]["metadata"]["annotations"] = Value::Null;
    world.put(JOBS, deadline).await;
    world.until("too long", |w| condition(w, "d", "Failed").is_some_and(|c| c["reason"] == "DeadlineExceeded")).await;
    assert_eq!(status(&world, "d", "failed"), json!(2), "what was stopped counts as failed");

    let mut paused = job("s", slow, json!({"suspend": true}));
    paused["spec"]["template"]["metadata"]["annotations"] = Value::Null;
    world.put(JOBS, paused).await;
    world.until("suspended", |w| condition(w, "s", "Suspended").is_some()).await;
    world.patch(JOBS, "default", "s", "", json!({"spec": {"suspend": false}})).await;
    world.until("runs", |w| status(w, "s", "active") == 1 && status(w, "s", "ready") == 1).await;
    world.patch(JOBS, "default", "s", "", json!({"spec": {"suspend": true}})).await;
    world.until("stopped", |w| condition(w, "s", "Suspended").is_some() && running(w) == 0).await;
    assert_eq!(status(&world, "s", "failed"), Value::Null, "a suspended pod has not failed");
    world.until("the finished job expires", |w| w.get(&JOBS, "default", "f").is_none()).await;
    world.until("with its pod", |w| !w.list(&PODS).iter().any(|p| p["metadata"]["labels"]["app"] == "f")).await;
}

#[tokio::test]
async fn daemons_run_on_every_fit_node_and_roll() {
    let world = start(5).await;
    world.put(NODES, node("n2", json!({}))).await;
    world.put(NODES, node("n3", json!({"taints": [{"key": "k", "effect": "NoSchedule"}]}))).await;
    world.put(DAEMON_SETS, json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "d", "namespace": "default"}, "spec": {
        "selector": {"matchLabels": {"app": "d"}}, "template": template("d", Value::Null),
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}}}})).await;
    let status = |w: &World| w.get(&DAEMON_SETS, "default", "d").unwrap()["status"].clone();
    let full = |w: &World, n: i32| {
        let status = status(w);
        ["desiredNumberScheduled", "currentNumberScheduled", "numberReady", "updatedNumberScheduled", "numberAvailable"]
            .iter()
            .all(|f| status[f] == n)
    };
    world.until("one on each", |w| full(w, 2)).await;
    let on = |w: &World| {
        let mut nodes: Vec<_> = w
            .list(&PODS)
            .iter()
            .filter(|p| p["metadata"]["deletionTimestamp"].is_null())
            .map(|p| p["spec"]["nodeName"].as_str().unwrap_or("").to_owned())
            .collect();
        nodes.sort();
        nodes
    };
    assert_eq!(on(&world), ["n1", "n2"]);
    let cordon = json!({"spec": {"unschedulable": true}});
    world.patch(NODES, "", "n1", "", cordon).await;
    world.patch(NODES, "", "n3", "", json!({"spec": {"taints": null}})).await;
    world.until("also on the third; a cordon drives none away", |w| full(w, 3) && on(w) == ["n1", "n2", "n3"]).await;
    world
        .patch(
            DAEMON_SETS,
            "default",
            "d",
            "",
            json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "new"}]}}}}),
        )
        .await;
    let fewest = world.clone();
    let bounds = tokio::spawn(async move {
        loop {
            assert!(running(&fewest) >= 2, "more than one is away");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    world
        .until("all are new", |w| {
            full(w, 3) && w.list(&PODS).iter().all(|p| p["spec"]["containers"][0]["image"] == "new")
        })
        .await;
    assert!(!bounds.is_finished());
    bounds.abort();
}
