//! Many requests at once before the whole server: who waits, who is turned away, who is not held up. Requests are made slow by holding
//! their bodies back.

use std::sync::Arc;
use std::time::Duration;

use kedge_serve::pki::{Profile, Signer};
use kedge_serve::tls;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::has;
use crate::support::World;

const BODY: &str = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"generateName":"slow-"}}"#;
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

const LEVELS: &str = r"
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: PriorityLevelConfiguration
metadata: {name: narrow}
spec:
  type: Limited
  limited:
    nominalConcurrencyShares: 1
    borrowingLimitPercent: 0
    limitResponse: {type: Queue, queuing: {queues: 64, handSize: 1, queueLengthLimit: 2}}
---
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: FlowSchema
metadata: {name: crowd}
spec:
  matchingPrecedence: 50
  priorityLevelConfiguration: {name: narrow}
  distinguisherMethod: {type: ByUser}
  rules:
  - subjects: [{kind: Group, group: {name: crowd}}]
    resourceRules: [{verbs: ['*'], apiGroups: ['*'], resources: ['*'], namespaces: ['*'], clusterScope: true}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: crowd}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: crowd}]
---
apiVersion: v1
kind: Namespace
metadata: {name: default}
";

/// One request on a connection of its own.
struct Asked {
    stream: TlsStream<TcpStream>,
}

struct Answered {
    status: u16,
    head: String,
    body: String,
}

impl Answered {
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

impl Asked {
    /// As someone of the crowd; what is left of a body of so many bytes is sent later.
    async fn send(world: &World, user: &str, line: &str, length: usize, now: &str) -> Self {
        let server = &world.server;
        let identity = server.pki.identity(&Profile::Admin).unwrap();
        let config = tls::client_config(&identity, server.pki.authority(Signer::Server)).unwrap();
        let tcp = TcpStream::connect(server.address).await.unwrap();
        let name = ServerName::try_from("kubernetes.default.svc").unwrap();
        let mut stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
        let head = format!(
            "{line} HTTP/1.1\r\nhost: k\r\nimpersonate-user: {user}\r\nimpersonate-group: crowd\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{now}"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        Self { stream }
    }

    async fn slow(world: &World, user: &str, query: &str) -> Self {
        Self::send(world, user, &format!("POST {MAPS}{query}"), BODY.len(), "").await
    }

    async fn quick(world: &World, user: &str, query: &str) -> Self {
        Self::send(world, user, &format!("GET {MAPS}/none{query}"), 0, "").await
    }

    async fn go_on(&mut self) {
        self.stream.write_all(BODY.as_bytes()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    async fn answer(mut self) -> Answered {
        let mut text = Vec::new();
        let read = self.stream.read_to_end(&mut text).await;
        let text = String::from_utf8(text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{read:?}: {text:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answered { status, head: head.to_owned(), body: body.to_owned() }
    }
}

/// The lines of the level in a dump, as columns.
fn dump(world: &World, name: &str) -> Vec<Vec<String>> {
    let text = world.run(&["get", "--raw", &format!("/debug/api_priority_and_fairness/{name}")]);
    let lines = text.lines().filter(|line| line.starts_with("narrow,"));
    lines.map(|line| line.split(',').map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// Until so many of the level wait and are carried out.
async fn until(world: &World, waiting: u64, executing: u64) {
    let want = [waiting.to_string(), executing.to_string()];
    loop {
        let now = tokio::task::block_in_place(|| dump(world, "dump_priority_levels"));
        if now[0][4..6] == want {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn uid(world: &World, kind: &str, name: &str) -> String {
    let object: Value = serde_json::from_str(&world.run(&["get", kind, name, "-o", "json"])).unwrap();
    object["metadata"]["uid"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_turned_away_and_others_are_served() {
    let world = World::start().await;
    let made = world.feed(&["apply"], LEVELS);
    assert!(made.good, "{made:?}");
    // Three seats, all taken; two more wait; the next is one too many.
    let mut running = Vec::new();
    for _ in 0..3 {
        running.push(Asked::slow(&world, "flood", "").await);
    }
    until(&world, 0, 3).await;
    let waiting = [Asked::quick(&world, "flood", "").await, Asked::quick(&world, "flood", "").await];
    until(&world, 2, 3).await;
    let refused = Asked::quick(&world, "flood", "").await.answer().await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")));
    assert_eq!(refused.body, "Too many requests, please try again later.\n");
    let uids = [uid(&world, "flowschema", "crowd"), uid(&world, "prioritylevelconfiguration", "narrow")];
    let told = |answer: &Answered| {
        let header = |name| answer.header(name).map(str::to_owned);
        [header("x-kubernetes-pf-flowschema-uid"), header("x-kubernetes-pf-prioritylevel-uid")]
    };
    assert_eq!(told(&refused), uids.clone().map(Some));
    // Another flow has a queue of its own, and its turn before those who had theirs.
    let quiet = Asked::quick(&world, "quiet", "").await;
    until(&world, 3, 3).await;
    let requests = dump(&world, "dump_requests?includeRequestDetails=1");
    assert!(requests.iter().any(|row| row[1] == "crowd" && row[4] == "quiet" && row[3] == "0"), "{requests:?}");
    assert_eq!(dump(&world, "dump_queues").len(), 64);
    let mut first = running.remove(0);
    first.go_on().await;
    assert_eq!(first.answer().await.status, 201);
    let quiet = quiet.answer().await;
    assert_eq!((quiet.status, told(&quiet)), (404, uids.map(Some)));
    for mut slow in running {
        slow.go_on().await;
        assert_eq!(slow.answer().await.status, 201);
    }
    for quick in waiting {
        assert_eq!(quick.answer().await.status, 404);
    }
    until(&world, 0, 0).await;
    let labels = "{flow_schema=\"crowd\",priority_level=\"narrow\"";
    let metrics = world.run(&["get", "--raw", "/metrics"]);
    has(
        &metrics,
        &[
            &format!("apiserver_flowcontrol_dispatched_requests_total{labels}}} 6\n"),
            &format!("apiserver_flowcontrol_rejected_requests_total{labels},reason=\"queue-full\"}} 1\n"),
            &format!("apiserver_flowcontrol_current_executing_requests{labels}}} 0\n"),
            "apiserver_flowcontrol_nominal_limit_seats{priority_level=\"narrow\"} 3\n",
        ],
    );
    world.run(&["wait", "--for=condition=Dangling=false", "flowschema/crowd", "--timeout=60s"]);
    let table = world.run(&["get", "flowschemas"]);
    let crowd = table.lines().find(|line| line.starts_with("crowd ")).unwrap();
    assert!(table.starts_with("NAME ") && crowd.ends_with(" False"), "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn time_is_up_for_who_waits_and_for_who_is_slow() {
    let world = World::start().await;
    let made = world.feed(&["apply"], LEVELS);
    assert!(made.good, "{made:?}");
    let late = Asked::slow(&world, "slow", "?timeout=1s").await.answer().await;
    assert_eq!(late.status, 504);
    let status: Value = serde_json::from_str(&late.body).unwrap();
    let want = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Timeout", "code": 504,
        "message": "Timeout: request did not complete within the allotted timeout", "details": {}});
    assert_eq!(status, want);
    let mut running = Vec::new();
    for _ in 0..3 {
        running.push(Asked::slow(&world, "slow", "").await);
    }
    until(&world, 0, 3).await;
    // A quarter of its time is what it may wait.
    let waited = Asked::quick(&world, "slow", "?timeout=1s").await.answer().await;
    assert_eq!(waited.status, 429);
    let bad = Asked::quick(&world, "slow", "?timeout=soon").await.answer().await;
    assert!(bad.status == 400 && bad.body.contains("invalid timeout specified in the request URL"), "{}", bad.body);
    // Who goes away gives the seat back.
    drop(running);
    until(&world, 0, 0).await;
}
