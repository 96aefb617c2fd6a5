//! Deployments and replica sets: from a Deployment to its pods, with a watch cache that lags.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kedge_api::resource::known::*;
use kedge_api::{Informer, Reason, Status};
use kedge_control::controller::Controller;
use kedge_control::deployment::Deployments;
use kedge_control::replicaset::ReplicaSets;
use kedge_control::runner::Runner;
use serde_json::{Value, json};

use crate::world::World;

fn start(world: &Arc<World>) {
    let controllers: Vec<Arc<dyn Controller>> = vec![Arc::new(Deployments), Arc::new(ReplicaSets::SETS)];
    let informer: Arc<dyn Informer> = world.clone();
    tokio::spawn(Runner::new(controllers, &|_| world.clone(), informer, Arc::default()).run());
    tokio::spawn(world.clone().run_agent());
}

fn node(name: &str, cpu: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {},
        "status": {"allocatable": {"cpu": cpu, "memory": "1Gi", "pods": "110"}}})
}

fn deployment(replicas: i32, image: &str, strategy: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "strategy": strategy, "revisionHistoryLimit": 1,
            "progressDeadlineSeconds": 600,
            "template": {
                "metadata": {"labels": {"app": "web"}},
                // Bound from the start: no scheduler runs in this test.
                "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": image}]},
            },
        },
    })
}

fn rolling(surge: Value, unavailable: Value) -> Value {
    json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}})
}

fn images(world: &World) -> Vec<String> {
    let live = |pod: &Value| pod["metadata"]["deletionTimestamp"].is_null();
    world
        .list(&PODS)
        .iter()
        .filter(|p| live(p))
        .map(|p| p["spec"]["containers"][0]["image"].as_str().unwrap().into())
        .collect()
}

fn complete(world: &World, replicas: i64) -> bool {
    let status = &world.get(&DEPLOYMENTS, "default", "web").unwrap()["status"];
    let full =
        ["replicas", "updatedReplicas", "availableReplicas", "readyReplicas"].iter().all(|f| status[f] == replicas);
    let progressing = status["conditions"].as_array().into_iter().flatten().find(|c| c["type"] == "Progressing");
    full && progressing.is_some_and(|c| c["reason"] == "NewReplicaSetAvailable")
}

async fn image(world: &World, image: &str) {
    let containers = json!([{"name": "c", "image": image}]);
    world
        .patch(DEPLOYMENTS, "default", "web", "", json!({"spec": {"template": {"spec": {"containers": containers}}}}))
        .await;
}

fn creations(world: &World, what: &str) -> usize {
    world.log().iter().filter(|line| *line == &format!("create {what}")).count()
}

#[tokio::test]
async fn a_deployment_becomes_pods_and_rolls_though_the_cache_lags() {
    let world = World::new(Duration::from_millis(15));
    start(&world);
    world.put(DEPLOYMENTS, deployment(3, "v1", &rolling(json!("25%"), json!("25%")))).await;
    world.until("three pods of v1", |w| complete(w, 3)).await;
    assert_eq!((creations(&world, "pods"), creations(&world, "replicasets.apps")), (3, 1), "nothing was created twice");
    let annotation = |w: &World| {
        w.get(&DEPLOYMENTS, "default", "web").unwrap()["metadata"]["annotations"]["deployment.kubernetes.io/revision"]
            .clone()
    };
    assert_eq!(annotation(&world), "1");

    image(&world, "v2").await;
    // maxSurge 1, maxUnavailable 0: never fewer than three, never more than four.
    let watcher = world.clone();
    let bounds = tokio::spawn(async move {
        loop {
            let n = images(&watcher).len();
            assert!((3..=4).contains(&n), "{n} pods");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    world.until("three pods of v2", |w| complete(w, 3) && images(w) == ["v2"; 3]).await;
    assert!(!bounds.is_finished(), "the bounds were left");
    bounds.abort();
    assert_eq!((creations(&world, "pods"), creations(&world, "replicasets.apps")), (6, 2));
    assert_eq!(annotation(&world), "2");

    // Back to v1: the old set is taken again with a new revision.
    image(&world, "v1").await;
    world.until("v1 again", |w| complete(w, 3) && images(w) == ["v1"; 3]).await;
    assert_eq!(annotation(&world), "3");
    assert_eq!(world.list(&REPLICA_SETS).len(), 2);
    // History limit 1: of v1, v2, v3 one old set stays.
    image(&world, "v3").await;
    world.until("v3", |w| complete(w, 3) && images(w) == ["v3"; 3] && w.list(&REPLICA_SETS).len() == 2).await;
    let events: Vec<_> = world.list(&EVENTS).iter().map(|e| e["message"].as_str().unwrap().to_owned()).collect();
    assert!(
        events.iter().any(|m| m.starts_with("Scaled up replica set web-") && m.ends_with("from 0 to 3")),
        "{events:?}"
    );
    assert!(
        events.iter().any(|m| m.starts_with("Scaled down replica set web-") && m.ends_with("from 1 to 0")),
        "{events:?}"
    );
    assert!(events.iter().any(|m| m.starts_with("Created pod: web-")), "{events:?}");
}

#[tokio::test]
async fn pods_of_a_deployment_are_scheduled_as_nodes_and_room_allow() {
    let world = World::new(Duration::from_millis(5));
    start(&world);
    tokio::spawn(kedge_schedule::run(world.clone(), world.clone(), kedge_schedule::Options::default()));
    let mut object = deployment(3, "v1", &rolling(json!(1), json!(1)));
    let spec = &mut object["spec"]["template"]["spec"];
    spec.as_object_mut().unwrap().remove("nodeName");
    spec["containers"][0]["resources"] = json!({"requests": {"cpu": "500m"}});
    world.put(DEPLOYMENTS, object).await;
    let waiting = |w: &World, message: &str| {
        let waits = |pod: &Value| {
            pod["spec"]["nodeName"].is_null()
                && pod["status"]["conditions"].as_array().into_iter().flatten().any(|c| {
                    c["type"] == "PodScheduled"
                        && c["reason"] == "Unschedulable"
                        && c["message"].as_str().unwrap().starts_with(message)
                })
        };
        w.list(&PODS).iter().filter(|pod| waits(pod)).count()
    };
    world.until("three wait for any node", |w| waiting(w, "no nodes available to schedule pods") == 3).await;
    world.put(NODES, node("n1", "1")).await;
    let on = |w: &World, node: &str| w.list(&PODS).iter().filter(|pod| pod["spec"]["nodeName"] == node).count();
    let short = "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption:";
    world.until("two on the node, one waits", |w| on(w, "n1") == 2 && waiting(w, short) == 1).await;
    world.put(NODES, node("n2", "1")).await;
    world.until("all run", |w| complete(w, 3)).await;
    assert_eq!((on(&world, "n1"), on(&world, "n2")), (2, 1));
    assert_eq!(creations(&world, "pods/binding"), 3, "nothing was bound twice");
    let events = world.list(&EVENTS);
    let told = |reason: &str| {
        events.iter().filter(|e| e["reason"] == reason && e["source"]["component"] == "default-scheduler").count()
    };
    assert_eq!(told("Scheduled"), 3);
    assert!(told("FailedScheduling") >= 4, "{:#?}", world.log());
    // A pod that goes makes room for one that waits.
    world.patch(DEPLOYMENTS, "default", "web", "", json!({"spec": {"replicas": 5}})).await;
    world
        .until("four run, one waits", |w| {
            on(w, "n2") == 2 && waiting(w, "0/2 nodes are available: 2 Insufficient cpu.") == 1
        })
        .await;
    let first = world.list(&PODS)[0]["metadata"]["name"].as_str().unwrap().to_owned();
    world.delete(PODS, "default", &first, json!({})).await;
    world
        .until("the room is taken", |w| {
            let gone = w.get(&PODS, "default", &first).is_none();
            gone && on(w, "n1") + on(w, "n2") == 4 && waiting(w, "0/2 nodes") == 1
        })
        .await;
}

#[tokio::test]
async fn resizing_pausing_and_recreating() {
    let world = World::new(Duration::ZERO);
    start(&world);
    world.put(DEPLOYMENTS, deployment(2, "v1", &json!({"type": "Recreate"}))).await;
    world.until("two pods", |w| complete(w, 2)).await;
    world.patch(DEPLOYMENTS, "default", "web", "", json!({"spec": {"replicas": 5}})).await;
    world.until("five pods", |w| complete(w, 5)).await;
    world.patch(DEPLOYMENTS, "default", "web", "", json!({"spec": {"replicas": 1, "paused": true}})).await;
    world.until("one pod", |w| images(w).len() == 1).await;
    image(&world, "v2").await;
    world
        .until("the pause is noted", |w| {
            let conditions = w.get(&DEPLOYMENTS, "default", "web").unwrap()["status"]["conditions"].clone();
            conditions.as_array().unwrap().iter().any(|c| c["reason"] == "DeploymentPaused")
        })
        .await;
    assert_eq!((images(&world), world.list(&REPLICA_SETS).len()), (vec!["v1".to_owned()], 1));
    world.patch(DEPLOYMENTS, "default", "web", "", json!({"spec": {"paused": false}})).await;
    world.until("v2", |w| complete(w, 1) && images(w) == ["v2"]).await;
}

#[tokio::test]
async fn sick_pods_stop_a_rollout_and_do_not_stop_a_rollback() {
    let world = World::new(Duration::ZERO);
    start(&world);
    world.put(DEPLOYMENTS, deployment(4, "v1", &rolling(json!(1), json!(1)))).await;
    world.until("four pods", |w| complete(w, 4)).await;
    world.healthy.store(false, Ordering::Relaxed);
    image(&world, "bad").await;
    let count = |w: &World, image: &str| images(w).iter().filter(|i| *i == image).count();
    world.until("stuck", |w| count(w, "v1") == 3 && count(w, "bad") == 2).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!((count(&world, "v1"), count(&world, "bad")), (3, 2));
    world.healthy.store(true, Ordering::Relaxed);
    image(&world, "v1").await;
    world.until("back", |w| complete(w, 4) && images(w) == ["v1"; 4]).await;
}

#[tokio::test]
async fn refused_pods_are_told_and_tried_again() {
    let world = World::new(Duration::ZERO);
    let quota = Status::about(Reason::Forbidden, &PODS, "", "pods is forbidden: exceeded quota".into());
    world.refuse("create", PODS, quota);
    start(&world);
    world.put(DEPLOYMENTS, deployment(8, "v1", &rolling(json!(1), json!(1)))).await;
    let failure = |w: &World| {
        let conditions = w.get(&DEPLOYMENTS, "default", "web").unwrap()["status"]["conditions"].clone();
        conditions.as_array().into_iter().flatten().any(|c| {
            c["type"] == "ReplicaFailure"
                && c["reason"] == "FailedCreate"
                && c["message"] == "pods is forbidden: exceeded quota"
        })
    };
    world.until("the failure is in the status", failure).await;
    // Slow start: a refusal costs one attempt, not eight.
    assert!(creations(&world, "pods") < 8, "{}", creations(&world, "pods"));
    assert!(world.list(&EVENTS).iter().any(|e| e["reason"] == "FailedCreate" && e["type"] == "Warning"));
    world.forgive();
    world.until("all run", |w| complete(w, 8) && !failure(w)).await;
}

#[tokio::test]
async fn orphans_are_adopted_and_strangers_released() {
    let world = World::new(Duration::from_millis(5));
    let pod = |name: &str, app: &str| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default", "labels": {"app": app}},
            "spec": {"nodeName": "n1", "containers": [{"name": "c"}]}})
    };
    world.put(PODS, pod("orphan", "web")).await;
    world.put(PODS, pod("stranger", "other")).await;
    start(&world);
    let mut set = deployment(2, "v1", &Value::Null);
    set["kind"] = "ReplicaSet".into();
    set["spec"].as_object_mut().unwrap().retain(|k, _| ["replicas", "selector", "template"].contains(&k.as_str()));
    world.put(REPLICA_SETS, set).await;
    let ready = |w: &World| w.get(&REPLICA_SETS, "default", "web").unwrap()["status"]["readyReplicas"] == 2;
    world.until("two ready", ready).await;
    let owner = |w: &World, name: &str| {
        w.get(&PODS, "default", name).unwrap()["metadata"]["ownerReferences"][0]["name"].clone()
    };
    assert_eq!((owner(&world, "orphan"), owner(&world, "stranger")), (json!("web"), Value::Null));
    world.patch(PODS, "default", "orphan", "", json!({"metadata": {"labels": {"app": "free"}}})).await;
    world
        .until("released and replaced", |w| owner(w, "orphan").is_null() && w.list(&PODS).len() == 4 && ready(w))
        .await;
}
