//! Requests before the levels of a cluster as it comes, and with its configuration changed under them.

use std::sync::Arc;

use kedge_api::User;
use kedge_api::metrics::{Form, Source as _, Text};
use serde_json::{Value, json};

use super::*;
use crate::fixture::Objects;

const SEATS: u64 = 600;

async fn flow() -> (Arc<Objects>, Arc<Flow>) {
    let objects = Arc::new(Objects::bootstrapped().await);
    let flow = Arc::new(Flow::new(objects.clone(), SEATS));
    (objects, flow)
}

fn level(name: &str, shares: u64, response: Value) -> Value {
    json!({"metadata": {"name": name, "uid": format!("level-{name}")}, "spec": {"type": "Limited",
        "limited": {"nominalConcurrencyShares": shares, "lendablePercent": 0, "borrowingLimitPercent": 0, "limitResponse": response}}})
}

fn schema(name: &str, level: &str, user: &str) -> Value {
    let rule = json!({"subjects": [{"kind": "User", "user": {"name": user}}], "resourceRules": [
        {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": true}]});
    json!({"metadata": {"name": name, "uid": format!("schema-{name}")}, "spec": {"matchingPrecedence": 10,
        "priorityLevelConfiguration": {"name": level}, "distinguisherMethod": {"type": "ByUser"}, "rules": [rule]}})
}

struct Asked {
    class: Option<Class>,
    seat: Result<Seat, Refused>,
}

async fn enter(flow: &Flow, user: &str, wait: Duration) -> Asked {
    let user = User::new(user, &["system:authenticated"]);
    let asked = Attributes { namespace: "ns", ..Attributes::resource(&user, "get", "", "pods") };
    let mut class = None;
    let seat =
        flow.enter(&asked, Listed::default(), Details::default(), Instant::now() + wait, |told| class = Some(told));
    let seat = seat.await;
    Asked { class, seat }
}

const SHORT: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn requests_are_sorted_as_the_suggested_configuration_says() {
    let (_, flow) = flow().await;
    let config = flow.config();
    let user = |name: &str, groups: &[&str]| User::new(name, &[groups, &["system:authenticated"]].concat());
    let (master, node) = (user("admin", &["system:masters"]), user("system:node:n1", &["system:nodes"]));
    let manager = user("system:kube-controller-manager", &[]);
    let robot = user("system:serviceaccount:kube-system:robot", &["system:serviceaccounts"]);
    let other = user("system:serviceaccount:default:robot", &["system:serviceaccounts"]);
    let jane = user("jane", &[]);
    let lease = |who| Attributes {
        namespace: "kube-system",
        ..Attributes::resource(who, "update", "coordination.k8s.io", "leases")
    };
    let pods = |who| Attributes { namespace: "ns", ..Attributes::resource(who, "list", "", "pods") };
    for (asked, schema, level) in [
        (pods(&master), "exempt", "exempt"),
        (Attributes::path(&jane, "get", "/readyz"), "probes", "exempt"),
        (lease(&manager), "system-leader-election", "leader-election"),
        (Attributes::resource(&node, "patch", "", "nodes"), "system-node-high", "node-high"),
        (pods(&node), "system-nodes", "system"),
        (pods(&manager), "kube-controller-manager", "workload-high"),
        (pods(&robot), "kube-system-service-accounts", "workload-high"),
        (pods(&other), "service-accounts", "workload-low"),
        (pods(&jane), "global-default", "global-default"),
        (Attributes::path(&jane, "get", "/metrics"), "global-default", "global-default"),
        (pods(&User::new("nobody", &[])), "catch-all", "catch-all"),
    ] {
        let (found, its) = config.classify(&asked).unwrap();
        assert_eq!((&*found.name, &*its.config.name), (schema, level), "{asked:?}");
    }
    // Upstream's figures for 600 seats.
    for (name, nominal, lower) in
        [("workload-low", 245, 24), ("system", 74, 50), ("catch-all", 13, 13), ("exempt", 0, 0)]
    {
        let level = &config.levels[name];
        assert_eq!((level.bounds.nominal, level.bounds.lower), (nominal, lower), "{name}");
    }
    let limits: u64 = config.levels.values().map(|level| level.at_work().queues.limit()).sum();
    assert!(limits.abs_diff(SEATS) < 20, "{limits}");
}

#[tokio::test]
async fn what_is_configured_counts_at_once() {
    let (objects, flow) = flow().await;
    let before = enter(&flow, "jane", SHORT).await;
    assert!(before.seat.is_ok() && !before.class.unwrap().schema_uid.starts_with("schema-"));
    objects.put(FLOW_SCHEMAS, schema("janes", "janes", "jane"));
    let dangling = enter(&flow, "jane", SHORT).await;
    assert!(!dangling.class.unwrap().schema_uid.starts_with("schema-"));
    objects.put(PRIORITY_LEVELS, level("janes", 1, json!({"type": "Reject"})));
    let first = enter(&flow, "jane", SHORT).await;
    let class = first.class.clone().unwrap();
    assert_eq!((&*class.schema_uid, &*class.level_uid), ("schema-janes", "level-janes"));
    let seats = flow.config().levels["janes"].bounds.nominal;
    assert_eq!(seats, 3);
    let more = [enter(&flow, "jane", SHORT).await, enter(&flow, "jane", SHORT).await];
    assert!(more.iter().all(|asked| asked.seat.is_ok()));
    let refused = enter(&flow, "jane", SHORT).await;
    assert_eq!((refused.class, refused.seat.err()), (Some(class), Some(Refused { retry_after: 1 })));
    // The level goes; who holds a seat of it keeps it, everyone else is sorted elsewhere.
    objects.remove(PRIORITY_LEVELS, "", "janes");
    assert!(enter(&flow, "jane", SHORT).await.seat.is_ok());
    assert!(flow.config().levels["janes"].quiescing);
    drop((first, more));
    flow.adjust();
    assert!(!flow.config().levels.contains_key("janes"));
}

#[tokio::test]
async fn who_waits_is_next_when_a_seat_is_free() {
    let (objects, flow) = flow().await;
    objects.put(FLOW_SCHEMAS, schema("janes", "janes", "jane"));
    let queuing = json!({"type": "Queue", "queuing": {"queues": 4, "handSize": 2, "queueLengthLimit": 1}});
    objects.put(PRIORITY_LEVELS, level("janes", 1, queuing));
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(enter(&flow, "jane", LONG).await.seat.unwrap());
    }
    // Two wait, in the two queues of the hand; the next is one too many.
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let flow = flow.clone();
            tokio::spawn(async move { enter(&flow, "jane", LONG).await })
        })
        .collect();
    while flow.config().levels["janes"].at_work().queues.counts() != (2, 3) {
        tokio::task::yield_now().await;
    }
    assert!(enter(&flow, "jane", LONG).await.seat.is_err());
    // Somebody else is not held up.
    assert!(enter(&flow, "joe", SHORT).await.seat.is_ok());
    held.pop();
    held.pop();
    let mut got = Vec::new();
    for waiter in waiting {
        got.push(waiter.await.unwrap().seat.unwrap());
    }
    // One gives up when its time is up, another when its client is gone.
    assert!(enter(&flow, "jane", SHORT).await.seat.is_err());
    let gone = tokio::time::timeout(SHORT, enter(&flow, "jane", LONG)).await;
    assert!(gone.is_err());
    drop((held, got));
    let level = &flow.config().levels["janes"];
    assert!(level.at_work().queues.is_idle());
    let rejected =
        ["queue-full", "time-out", "cancelled"].map(|why| flow.metrics.rejected.get(&["janes", "janes", why]));
    assert_eq!((flow.metrics.dispatched.get(&["janes", "janes"]), rejected), (5.0, [1.0, 1.0, 1.0]));
    let mut text = Text::new(Form::Prometheus);
    flow.tell(&mut text);
    let report = text.finish();
    let wanted = "apiserver_flowcontrol_current_executing_requests{flow_schema=\"janes\",priority_level=\"janes\"} 0\n";
    assert!(report.contains(wanted), "{report}");
}

#[tokio::test]
async fn lists_and_watched_writes_are_wide() {
    let (objects, flow) = flow().await;
    for n in 0..200 {
        let value = json!({"metadata": {"namespace": "ns", "name": format!("m{n}")}, "data": {"x": "y".repeat(2000)}});
        objects.put(kedge_api::resource::known::CONFIG_MAPS, value);
    }
    let user = User::new("jane", &["system:authenticated"]);
    let of = |verb| Attributes { namespace: "ns", ..Attributes::resource(&user, verb, "", "configmaps") };
    let config = flow.config();
    let work = |asked: &Attributes<'_>, listed| flow.work(asked, listed, &config.levels["workload-low"]);
    assert_eq!(work(&of("list"), Listed::default()), Work::of(5));
    assert_eq!(work(&of("list"), Listed { limit: 20, ..Listed::default() }), Work::LEAST);
    assert_eq!(work(&of("watch"), Listed::default()), Work::LEAST);
    assert_eq!(work(&of("watch"), Listed { initial_events: true, ..Listed::default() }), Work::of(5));
    let watching: Vec<_> = (0..40).map(|_| flow.watching(&of("watch"))).collect();
    assert_eq!(work(&of("update"), Listed::default()).last, 4);
    drop(watching);
    assert_eq!(work(&of("update"), Listed::default()), Work::LEAST);
}
