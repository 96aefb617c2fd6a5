use std::time::Duration;

use kedge_api::resource::known::{EVENTS, LEASES, NODES};
use serde_json::{Value, json};

use super::*;
use crate::fake::{self, Api, Machine as FakeMachine};

struct Node {
    api: Arc<Api>,
    machine: Arc<FakeMachine>,
    dir: tempfile::TempDir,
    agent: tokio::task::JoinHandle<Result<(), AgentError>>,
}

impl Node {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (api, machine) = (Api::new(), FakeMachine::new(dir.path()));
        let agent = spawn(&api, &machine, dir.path());
        let node = Self { api, machine, dir, agent };
        node.until("node", || node.api.get(&LEASES, "kube-node-lease", "n1").is_some()).await;
        node
    }

    /// The agent goes away and comes again; containers go on.
    async fn restart(&mut self) {
        self.agent.abort();
        let _ = (&mut self.agent).await;
        self.agent = spawn(&self.api, &self.machine, self.dir.path());
    }

    async fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        for _ in 0..400 {
            if holds() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let pods: Vec<_> =
            self.api.snapshot().list(&PODS, "").map(|o| String::from_utf8_lossy(&o.json).into_owned()).collect();
        panic!("{what} never came to be\nasked: {:#?}\npods: {pods:#?}", self.machine.asked.lock().unwrap());
    }

    fn pod(&self, name: &str) -> Value {
        self.api.get(&PODS, "shop", name).unwrap_or_default()
    }

    fn create(&self, name: &str, spec: Value) {
        let mut pod =
            json!({"metadata": {"namespace": "shop", "name": name, "uid": format!("uid-{name}")}, "spec": spec});
        pod["spec"]["nodeName"] = "n1".into();
        self.api.put(&PODS, pod);
    }

    async fn until_phase(&self, name: &str, phase: &str) {
        self.until(&format!("{name} {phase}"), || self.pod(name)["status"]["phase"] == phase).await;
    }

    fn waiting(&self, name: &str) -> String {
        let pod = self.pod(name);
        pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"].as_str().unwrap_or_default().to_owned()
    }

    fn reasons(&self, name: &str) -> Vec<String> {
        let snapshot = self.api.snapshot();
        let events = snapshot.list(&EVENTS, "shop").map(|o| serde_json::from_slice::<Value>(&o.json).unwrap());
        let mut events: Vec<_> = events.filter(|e| e["involvedObject"]["name"] == name).collect();
        events.sort_by_key(|e| e["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap());
        events.iter().map(|e| e["reason"].as_str().unwrap().to_owned()).collect()
    }
}

fn spawn(
    api: &Arc<Api>,
    machine: &Arc<FakeMachine>,
    dir: &std::path::Path,
) -> tokio::task::JoinHandle<Result<(), AgentError>> {
    let options = AgentOptions {
        node_name: "n1".into(),
        addresses: watch::channel(vec![fake::host()]).1,
        labels: BTreeMap::new(),
        taints: Vec::new(),
        pod_cidrs: vec!["10.42.0.0/24".into()],
        state_dir: dir.join("state"),
        run_dir: dir.join("run"),
        listen: "127.0.0.1:0".parse().unwrap(),
        tls: crate::serve::tests::Authority::generate().tls(),
        cluster_dns: vec!["10.43.0.10".parse().unwrap()],
        cluster_domain: "cluster.local".into(),
        machine: Machine { cpus: 2, memory: 256 << 20, ..Machine::default() },
        host: Arc::new(crate::Unmanaged),
    };
    tokio::spawn(Agent::new(options, api.clone(), api.clone(), machine.clone(), machine.clone(), machine.clone()).run())
}

fn busybox() -> Value {
    json!({"containers": [{"name": "main", "image": "busybox"}]})
}

#[tokio::test]
async fn a_pod_lives_and_is_deleted() {
    let node = Node::start().await;
    node.create("web", busybox());
    node.until_phase("web", "Running").await;
    let pod = node.pod("web");
    assert_eq!(pod["status"]["podIP"], "127.0.0.1");
    assert_eq!(pod["status"]["hostIP"], "192.0.2.7");
    assert_eq!(pod["status"]["qosClass"], "BestEffort");
    assert_eq!(pod["status"]["containerStatuses"][0]["containerID"], "kedge://uidweb-c0-0");
    assert_eq!(pod["status"]["containerStatuses"][0]["imageID"], "busybox@sha256:1");
    let spec = node.machine.containers.lock().unwrap()["uidweb-c0-0"].0.clone();
    assert_eq!(spec.cgroup, "/kubepods/besteffort/poduid-web/uidweb-c0-0");
    assert!(spec.log.unwrap().ends_with("logs/shop_web_uid-web/main/0.log"));
    let mut deleted = pod;
    deleted["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    deleted["metadata"]["deletionGracePeriodSeconds"] = json!(30);
    node.api.put(&PODS, deleted);
    node.until("deleted", || node.pod("web").is_null()).await;
    let asked = node.machine.asked.lock().unwrap().clone();
    assert_eq!(
        asked,
        [
            "attach uid-web",
            "create uidweb-c0-0",
            "start uidweb-c0-0",
            "kill 15 uidweb-c0-0",
            "remove uidweb-c0-0",
            "detach uid-web",
            "remove_sandbox uid-web",
            "remove_cgroup /kubepods/besteffort/poduid-web"
        ]
    );
    assert_eq!(node.reasons("web"), ["Pulled", "Created", "Started", "Killing"]);
    let run = node.dir.path().join("run/pods");
    node.until("clean", || std::fs::read_dir(&run).unwrap().next().is_none()).await;
}

#[tokio::test]
async fn a_job_runs_to_its_end() {
    let node = Node::start().await;
    let mut spec = busybox();
    spec["restartPolicy"] = "Never".into();
    node.create("job", spec);
    node.until_phase("job", "Running").await;
    std::fs::write(node.dir.path().join("run/pods/uid-job/words/c0-0"), "last words").unwrap();
    node.machine.end("uidjob-c0-0", 3);
    node.until_phase("job", "Failed").await;
    let end = node.pod("job")["status"]["containerStatuses"][0]["state"]["terminated"].clone();
    assert_eq!((&end["exitCode"], &end["reason"], &end["message"]), (&json!(3), &json!("Error"), &json!("last words")));
    node.until("released", || node.machine.asked.lock().unwrap().contains(&"detach uid-job".to_owned())).await;
}

#[tokio::test]
async fn what_is_missing_is_told_and_waited_for() {
    let node = Node::start().await;
    node.create("pull", json!({"containers": [{"name": "main", "image": "nowhere"}]}));
    node.until("pull error", || node.waiting("pull") == "ErrImagePull").await;
    node.create("never", json!({"containers": [{"name": "main", "image": "nowhere", "imagePullPolicy": "Never"}]}));
    node.until("never", || node.waiting("never") == "ErrImageNeverPull").await;
    let env = json!([{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "a"}}}]);
    node.create("conf", json!({"containers": [{"name": "main", "image": "busybox", "env": env}]}));
    node.until("config error", || node.waiting("conf") == "CreateContainerConfigError").await;
    node.api.put(&CONFIG_MAPS, json!({"metadata": {"namespace": "shop", "name": "conf"}, "data": {"a": "1"}}));
    node.until_phase("conf", "Running").await;
    node.create(
        "bad",
        json!({"restartPolicy": "Never", "containers": [{"name": "main", "image": "busybox", "command": ["missing"]}]}),
    );
    node.until_phase("bad", "Failed").await;
    let end = node.pod("bad")["status"]["containerStatuses"][0]["state"]["terminated"].clone();
    assert_eq!((&end["exitCode"], &end["reason"]), (&json!(128), &json!("StartError")));
    assert_eq!(node.reasons("pull")[..2], ["Failed", "Failed"]);
}

#[tokio::test]
async fn volumes_follow_their_sources() {
    let node = Node::start().await;
    node.api.put(&CONFIG_MAPS, json!({"metadata": {"namespace": "shop", "name": "conf"}, "data": {"a": "1"}}));
    node.create("vol", json!({
        "serviceAccountName": "robot",
        "containers": [{"name": "main", "image": "busybox", "volumeMounts": [{"name": "conf", "mountPath": "/conf"}, {"name": "tmp", "mountPath": "/tmp", "subPath": "x"}]}],
        "volumes": [{"name": "conf", "configMap": {"name": "conf"}}, {"name": "tmp", "emptyDir": {}}, {"name": "mem", "emptyDir": {"medium": "Memory"}},
            {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}]}));
    node.until_phase("vol", "Running").await;
    let room = node.dir.path().join("run/pods/uid-vol/volumes");
    assert_eq!(std::fs::read_to_string(room.join("token/token")).unwrap(), "token of robot");
    assert!(node.dir.path().join("state/pods/uid-vol/empty/tmp/x").is_dir());
    assert!(node.machine.asked.lock().unwrap().contains(&"tmpfs mem".to_owned()));
    let mounts = node.machine.containers.lock().unwrap()["uidvol-c0-0"].0.mounts.clone();
    assert!(
        mounts
            .iter()
            .any(|m| m.target == "/conf" && m.source.ends_with("volumes/conf") && m.options.contains(&"ro".to_owned()))
    );
    node.api.put(&CONFIG_MAPS, json!({"metadata": {"namespace": "shop", "name": "conf"}, "data": {"a": "2"}}));
    node.until("new data", || std::fs::read_to_string(room.join("conf/a")).is_ok_and(|t| t == "2")).await;
}

#[tokio::test]
async fn probes_ask_the_container() {
    let node = Node::start().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = |status: &'static str| async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream
                .write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok").as_bytes())
                .await;
        }
    };
    let server = tokio::spawn(serve("200 OK"));
    node.create(
        "probed",
        json!({"containers": [
        {"name": "main", "image": "busybox", "readinessProbe": {"httpGet": {"port": port, "path": "/x"}}},
        {"name": "more", "image": "busybox", "readinessProbe": {"exec": {"command": ["check", "1"]}},
            "livenessProbe": {"tcpSocket": {"port": port}}}]}),
    );
    let ready = |name: &str, i: usize| node.pod(name)["status"]["containerStatuses"][i]["ready"].clone();
    node.until("ready", || ready("probed", 0) == true).await;
    assert_eq!(ready("probed", 1), false, "the command exits with 1");
    node.until("told", || node.reasons("probed").contains(&"Unhealthy".to_owned())).await;
    server.abort();
}

#[tokio::test]
async fn a_new_agent_takes_over_what_runs() {
    let mut node = Node::start().await;
    for name in ["stays", "ends", "goes"] {
        node.create(name, busybox());
        node.until_phase(name, "Running").await;
    }
    node.agent.abort();
    tokio::time::sleep(Duration::from_millis(50)).await;
    node.machine.end("uidends-c0-0", 1);
    node.api.remove(&PODS, "shop", "goes");
    node.restart().await;
    node.until("restarted", || node.machine.running() == ["uidends-c0-1", "uidstays-c0-0"]).await;
    node.until("told", || node.pod("ends")["status"]["containerStatuses"][0]["restartCount"] == 1).await;
    let asked = node.machine.asked.lock().unwrap().clone();
    assert_eq!(asked.iter().filter(|a| a.ends_with("start uidstays-c0-0")).count(), 1, "it was not started again");
    assert_eq!(
        asked.iter().filter(|a| *a == "attach uid-stays").count(),
        2,
        "the network was told that it is still there"
    );
    assert!(asked.contains(&"remove uidgoes-c0-0".to_owned()) && asked.contains(&"detach uid-goes".to_owned()));
    assert!(!node.dir.path().join("run/pods/uid-goes").exists());
}

#[tokio::test]
async fn the_node_and_its_services_are_kept() {
    let node = Node::start().await;
    let object = node.api.get(&NODES, "", "n1").unwrap();
    assert_eq!(object["metadata"]["labels"]["kubernetes.io/hostname"], "n1");
    assert_eq!(object["spec"]["podCIDR"], "10.42.0.0/24");
    assert_eq!(object["status"]["conditions"][3]["type"], "Ready");
    assert_eq!(object["status"]["addresses"][0], json!({"type": "InternalIP", "address": "192.0.2.7"}));
    let spec = json!({"clusterIP": "10.43.0.5", "ports": [{"port": 80}]});
    node.api.put(&SERVICES, json!({"metadata": {"namespace": "shop", "name": "web"}, "spec": spec}));
    node.until("rules", || node.machine.tables.lock().unwrap().last().is_some_and(|t| t.services.len() == 1)).await;
    let tables = node.machine.tables.lock().unwrap().len();
    node.api
        .put(&SERVICES, json!({"metadata": {"namespace": "shop", "name": "web", "labels": {"a": "b"}}, "spec": spec}));
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(node.machine.tables.lock().unwrap().len(), tables, "what changes no rule is not set again");
}
