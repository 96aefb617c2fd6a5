//! Upgrades of a cluster whose machines are simulated: objects whose status goes on as a device's would. Everything else is real: server,
//! controllers, scheduler, disruption budgets, kubectl.

use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};

use super::client::{Clients, Request, identity};
use super::kubectl::Kubectl;
use super::{LIMIT, Server, free_port};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const MACHINES: &str = "/apis/kedge.dev/v1alpha1/machines";
const NODES: &str = "/api/v1/nodes";
const SOURCE: &str = "https://example.com/{board}.kedge";

/// A server, its nodes, and what stands for their machines.
struct Fleet {
    server: Server,
    kubectl: Kubectl,
    client: Clients,
    failing: Vec<&'static str>,
}

impl Fleet {
    fn start(folder: &Path, nodes: &[&str]) -> Self {
        let (data, port) = (folder.join("data"), free_port());
        let mut fleet = Self::at(Server::start(&data, port));
        let any = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        let schema = json!({"type": "object", "properties": {"spec": any, "status": any}});
        let version = json!({"name": "v1alpha1", "served": true, "storage": true, "subresources": {"status": {}},
            "schema": {"openAPIV3Schema": schema}});
        let names = json!({"plural": "machines", "singular": "machine", "kind": "Machine", "listKind": "MachineList"});
        let spec = json!({"group": "kedge.dev", "scope": "Cluster", "names": names, "versions": [version]});
        fleet.post(DEFINITIONS, json!({"metadata": {"name": "machines.kedge.dev"}, "spec": spec}));
        for name in nodes {
            let role = if name.starts_with("server") { "node-role.kubernetes.io/control-plane" } else { "agent" };
            let room = json!({"cpu": "4", "memory": "4Gi", "pods": "20"});
            fleet.post(NODES, json!({"metadata": {"name": name, "labels": {role: "", "name": name}}}));
            let status = json!({"capacity": room, "allocatable": room});
            fleet.patch(&format!("{NODES}/{name}/status"), json!({"status": status}));
            fleet.ready(name, true);
            while fleet.try_post(
                MACHINES,
                json!({"apiVersion": "kedge.dev/v1alpha1", "kind": "Machine", "metadata": {"name": name}, "spec": {}}),
            )["kind"]
                != "Machine"
            {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        }
        let established = "jsonpath={.status.conditions[?(@.type==\"Established\")].status}";
        let args = ["get", "crd", "upgrades.kedge.dev", "-o", established];
        fleet.until("the kind Upgrade", |fleet| fleet.kubectl.run(&args).is_ok_and(|said| said == "True"));
        fleet
    }

    fn at(server: Server) -> Self {
        let config = server.data.join("admin.kubeconfig");
        let client = Clients::open(1, server.port, &identity(&config));
        Self { kubectl: Kubectl::new(&config).unwrap(), client, server, failing: Vec::new() }
    }

    /// The server is killed, and another one started on what is left.
    fn restart(mut self) -> Self {
        self.server.signal("-KILL");
        self.server.process.wait().unwrap();
        let (data, port, failing) = (self.server.data.clone(), self.server.port, self.failing.clone());
        Self { failing, ..Self::at(Server::start(&data, port)) }
    }

    fn ask(&mut self, method: &str, path: &str, kind: &str, body: &Value) -> Value {
        let body = body.to_string();
        let body = Some((kind, body.as_bytes())).filter(|_| method != "GET");
        serde_json::from_slice(&self.client.ask(&Request { method, path, accept: "application/json", body })).unwrap()
    }

    fn try_post(&mut self, path: &str, body: Value) -> Value {
        self.ask("POST", path, "application/json", &body)
    }

    fn post(&mut self, path: &str, body: Value) {
        let made = self.try_post(path, body);
        assert!(made["metadata"]["uid"].is_string(), "{path}: {made}");
    }

    fn patch(&mut self, path: &str, patch: Value) -> Value {
        self.ask("PATCH", path, "application/merge-patch+json", &patch)
    }

    fn items(&mut self, path: &str) -> Vec<Value> {
        self.ask("GET", path, "", &Value::Null)["items"].as_array().unwrap().clone()
    }

    fn run(&self, args: &[&str]) -> String {
        self.kubectl.run(args).unwrap()
    }

    fn get(&self, path: &str) -> String {
        self.run(&["get", "upgrade", "fleet", "-o", &format!("jsonpath={{{path}}}")])
    }

    /// kubectl with a manifest; what it says, whether or not it likes it.
    fn apply(&self, manifest: &str) -> String {
        let file = self.server.data.with_extension("yaml");
        std::fs::write(&file, manifest).unwrap();
        let output = self.kubectl.output(&["apply", "-f", file.to_str().unwrap()]).unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    }

    fn edit(&self, spec: &str) {
        self.run(&["patch", "upgrade", "fleet", "--type=merge", "-p", &format!("{{\"spec\":{spec}}}")]);
    }

    fn ready(&mut self, node: &str, ready: bool) {
        // Nobody renews a lease here: the node is heard of for an hour.
        let heard = (jiff::Timestamp::now() + std::time::Duration::from_secs(3600)).strftime("%Y-%m-%dT%H:%M:%SZ");
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let status = if ready { "True" } else { "False" };
        let condition = json!({"type": "Ready", "status": status, "reason": "Simulated", "message": "",
            "lastHeartbeatTime": heard.to_string(), "lastTransitionTime": now});
        self.patch(&format!("{NODES}/{node}/status"), json!({"status": {"conditions": [condition]}}));
    }

    /// Each machine goes one step on, and each node does what its agent would with pods.
    fn tick(&mut self) {
        for machine in self.items(MACHINES) {
            let name = machine["metadata"]["name"].as_str().unwrap();
            let wish = &machine["spec"]["upgrade"];
            let told = &machine["status"]["upgrade"];
            let same = told["source"] == wish["source"];
            let phase = if same { told["phase"].as_str().unwrap_or_default() } else { "" };
            let next = match phase {
                "" if wish["source"].is_string() => "Fetching",
                "Fetching" => "Installed",
                "Installed" if wish["activate"] == true => "Trying",
                "Trying" if self.failing.contains(&name) => "Failed",
                "Trying" => "Committed",
                _ => continue,
            };
            if phase == "Installed" || phase == "Trying" {
                self.ready(name, phase == "Trying");
            }
            let message =
                if next == "Failed" { "pods of kube-system were not Ready within 300 s; back on 0.4.0" } else { "" };
            let told =
                json!({"source": wish["source"], "digest": "", "version": "0.5.0", "phase": next, "message": message});
            self.patch(&format!("{MACHINES}/{name}/status"), json!({"status": {"upgrade": told}}));
        }
        for pod in self.items("/api/v1/pods") {
            let (meta, node) = (&pod["metadata"], &pod["spec"]["nodeName"]);
            let path = format!(
                "/api/v1/namespaces/{}/pods/{}",
                meta["namespace"].as_str().unwrap(),
                meta["name"].as_str().unwrap()
            );
            if node.is_string() && meta["deletionTimestamp"].is_string() {
                self.ask("DELETE", &path, "application/json", &json!({"gracePeriodSeconds": 0}));
            } else if node.is_string() && pod["status"]["phase"] == "Pending" {
                let ready =
                    json!([{"type": "Ready", "status": "True", "lastTransitionTime": meta["creationTimestamp"]}]);
                self.patch(&format!("{path}/status"), json!({"status": {"phase": "Running", "conditions": ready}}));
            }
        }
    }

    /// Lets machines go on until something holds.
    fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !holds(self) {
            if start.elapsed() > LIMIT {
                let log = std::fs::read_to_string(self.server.data.with_extension("log")).unwrap_or_default();
                panic!("never: {what}\n{}\n{log}", self.kubectl.run(&["describe", "upgrades"]).unwrap_or_default());
            }
            if self.kubectl.run(&["get", "machines"]).is_ok() {
                self.tick();
            }
        }
    }

    fn phase(&mut self, phase: &str) {
        self.until(phase, |fleet| fleet.get(".status.phase") == phase);
    }

    fn stage(&self, node: &str) -> String {
        self.get(&format!(".status.nodes[?(@.name==\"{node}\")].phase"))
    }

    fn unschedulable(&self) -> String {
        self.run(&["get", "nodes", "-o", "jsonpath={.items[?(@.spec.unschedulable==true)].metadata.name}"])
    }
}

fn has(text: &str, words: &[&str]) {
    words.iter().for_each(|word| assert!(text.contains(word), "{word:?} is not in:\n{text}"));
}

const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      nodeSelector: {agent: ''}
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: name, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}}
      containers: [{name: web, image: web}]
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web}
spec: {maxUnavailable: 0, selector: {matchLabels: {app: web}}}
";

fn upgrade(more: &str) -> String {
    format!(
        "apiVersion: kedge.dev/v1alpha1\nkind: Upgrade\nmetadata: {{name: fleet}}\nspec:\n  source: '{SOURCE}'\n{more}"
    )
}

#[test]
fn servers_then_agents_are_drained_and_upgraded_over_a_restart_of_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(folder.path(), &["server-1", "agent-1", "agent-2", "agent-3", "agent-4", "agent-5"]);
    fleet.run(&["cordon", "agent-4"]);
    fleet.apply(WEB);
    fleet.until("three pods run", |fleet| {
        fleet.run(&["get", "deployment", "web", "-o", "jsonpath={.status.readyReplicas}"]) == "3"
    });
    has(&fleet.apply(&upgrade("")), &["upgrade.kedge.dev/fleet created"]);
    // The server comes first, alone; then the first agent, whose pod is held.
    let first = fleet.run(&["get", "pods", "-o", "jsonpath={.items[*].spec.nodeName}"]);
    let first = first.split(' ').min().unwrap().to_owned();
    fleet.until("a drain that is held", |fleet| {
        fleet.get(".status.message").contains("disruption budget web allows none")
    });
    assert_eq!((fleet.stage("server-1").as_str(), fleet.get(".status.current").as_str()), ("Completed", &*first));
    let table = fleet.run(&["get", "upgrades"]);
    let row: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!((row[1], row[3], row[4], row[5]), ("Progressing", "0", &*first, "0.5.0"), "{table}");
    assert_eq!(fleet.unschedulable().split(' ').collect::<Vec<_>>().len(), 2, "agent-4 was before");
    let mut fleet = fleet.restart();
    fleet.until("it is held still", |fleet| fleet.get(".status.message").contains("disruption budget web allows none"));
    fleet.edit("{\"paused\":true}");
    fleet.run(&["patch", "pdb", "web", "--type=merge", "-p", "{\"spec\":{\"maxUnavailable\":1}}"]);
    let own = first.clone();
    fleet.until("the node that had begun ends", |fleet| {
        fleet.stage(&own) == "Completed" && fleet.get(".status.current").is_empty()
    });
    assert_eq!((fleet.get(".status.phase").as_str(), fleet.unschedulable().as_str()), ("Paused", "agent-4"));
    let mut fleet = fleet.restart();
    fleet.edit("{\"paused\":false,\"concurrency\":\"40%\"}");
    fleet.phase("Completed");
    assert_eq!((fleet.get(".status.counts.nodes").as_str(), fleet.unschedulable().as_str()), ("6/6", "agent-4"));
    let table = fleet.run(&["get", "upg"]);
    let row: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[..5], ["fleet", "Completed", "6/6", "0", "0.5.0"], "{table}");
    let told = fleet.run(&["describe", "upgrade", "fleet"]);
    has(
        &told,
        &["Started", "NodeDraining", "NodeUpgrading", "NodeUpgraded", "Paused", "Completed", "Node agent-5 runs 0.5.0"],
    );
    has(
        &fleet.run(&["describe", "node", "agent-5"]),
        &["NodeDraining", "upgrade-controller", "Upgrade fleet: Node agent-5 runs 0.5.0"],
    );
    fleet.run(&["wait", "--for=condition=Complete", "upgrade/fleet", "--timeout=10s"]);
    fleet.run(&["delete", "upgrade", "fleet", "--timeout=20s"]);
}

fn plan(name: &str, image: &str, more: &str) -> String {
    format!(
        "apiVersion: upgrade.cattle.io/v1\nkind: Plan\nmetadata: {{name: {name}, namespace: system-upgrade}}\nspec:\n  \
         concurrency: 2\n  version: v0.5.0+kedge1\n  nodeSelector: {{matchExpressions: [{{key: agent, operator: Exists}}]}}\n  \
         serviceAccountName: system-upgrade\n  drain: {{force: true}}\n  upgrade: {{image: '{image}'}}\n{more}"
    )
}

#[test]
fn a_plan_of_k3s_is_an_upgrade_where_it_can_be_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(folder.path(), &["server-1", "agent-1", "agent-2"]);
    fleet.run(&["create", "namespace", "system-upgrade"]);
    let get = |fleet: &Fleet, name: &str, path: &str| {
        fleet.run(&["get", "plan", name, "-n", "system-upgrade", "-o", &format!("jsonpath={{{path}}}")])
    };
    // As k3s' documentation has it.
    fleet.apply(&plan(
        "k3s-agent",
        "rancher/k3s-upgrade",
        "  prepare: {image: rancher/k3s-upgrade, args: [prepare, k3s-server]}\n",
    ));
    fleet.until("a refusal", |fleet| {
        get(fleet, "k3s-agent", ".status.conditions[?(@.type==\"Validated\")].reason") == "NotABundle"
    });
    fleet.apply(&plan("k3s-server", "rancher/k3s-upgrade", ""));
    fleet.until("another", |fleet| {
        get(fleet, "k3s-server", ".status.conditions[?(@.type==\"Validated\")].reason") == "NotABundle"
    });
    assert_eq!(fleet.run(&["get", "upgrades", "-o", "name"]), "");
    has(
        &fleet.run(&["describe", "plan", "k3s-server", "-n", "system-upgrade"]),
        &["ValidateFailed", "system-upgrade-controller", "none is run on Kedge"],
    );

    has(
        &fleet.apply(&plan("agents", "registry.example.com/kedge/{board}", "")),
        &["plan.upgrade.cattle.io/agents created"],
    );
    fleet.until("complete", |fleet| {
        get(fleet, "agents", ".status.conditions[?(@.type==\"Complete\")].status") == "True"
    });
    let table = fleet.run(&["get", "plans", "-A"]);
    has(
        &table,
        &[
            "NAMESPACE        NAME         IMAGE",
            "v0.5.0+kedge1",
            "True",
            "is a container that upgrades another system",
        ],
    );
    let upgrades = fleet.run(&["get", "upgrades", "-o", "wide"]);
    has(
        &upgrades,
        &["system-upgrade.agents", "Completed", "2/2", "oci://registry.example.com/kedge/{board}:v0.5.0-kedge1"],
    );
    let hash = get(&fleet, "agents", ".status.latestHash");
    let labelled = fleet.run(&["get", "nodes", "-l", &format!("plan.upgrade.cattle.io/agents={hash}"), "-o", "name"]);
    assert_eq!(labelled, "node/agent-1\nnode/agent-2\n");
    fleet.run(&["delete", "plan", "agents", "-n", "system-upgrade", "--timeout=20s"]);
    fleet.until("its Upgrade goes with it", |fleet| fleet.run(&["get", "upgrades", "-o", "name"]).is_empty());

    // Somebody else's definition of the kind: theirs are the Plans.
    let schema = "{\"spec\":{\"versions\":[{\"name\":\"v1\",\"served\":true,\"storage\":true,\"subresources\":{\"status\":{}},\
        \"schema\":{\"openAPIV3Schema\":{\"type\":\"object\",\"description\":\"Plan represents a set of Jobs\",\
        \"x-kubernetes-preserve-unknown-fields\":true}}}]}}";
    fleet.run(&["patch", "crd", "plans.upgrade.cattle.io", "--type=merge", "-p", schema]);
    fleet.apply(&plan("theirs", "registry.example.com/kedge/{board}", ""));
    // An Upgrade of our own goes its whole way meanwhile.
    fleet.apply(&upgrade(""));
    fleet.phase("Completed");
    assert_eq!(
        (fleet.run(&["get", "upgrades", "-o", "name"]).as_str(), get(&fleet, "theirs", ".status").as_str()),
        ("upgrade.kedge.dev/fleet\n", "")
    );
}

#[test]
fn a_failure_stops_it_and_an_abort_takes_back_what_has_not_begun() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(folder.path(), &["server-1", "server-2", "agent-1", "agent-2", "agent-3"]);
    fleet.failing = vec!["agent-1"];
    for (said, told) in [
        ("  concurrency: 0\n", "must be at least 1, or 1% to 100%"),
        ("  concurrency: 0%\n", "must be at least 1, or 1% to 100%"),
        ("  digest: abc\n", "spec.digest"),
        ("  window: {start: '2:00', end: '05:00'}\n", "spec.window.start"),
        ("  window: {start: '05:00', end: '05:00'}\n", "start and end must differ"),
        ("  nodeSelector: {matchExpressions: [{key: a, operator: In}]}\n", "In and NotIn need values"),
        ("  maxFailures: -1\n", "spec.maxFailures"),
        ("  drain: {timeoutSeconds: 0}\n", "spec.drain.timeoutSeconds"),
        ("  drian: {}\n", "unknown field \"spec.drian\""),
    ] {
        has(&fleet.apply(&upgrade(said)), &[told]);
    }
    has(
        &fleet.apply(&upgrade("").replace(SOURCE, "ftp://example.com/x")),
        &["must be http(s)://HOST/…/NAME.kedge or oci://"],
    );
    has(&fleet.apply(&upgrade("  concurrency: 2\n")), &["created"]);
    fleet.phase("Stopped");
    fleet.until("its neighbour ends", |fleet| fleet.get(".status.current").is_empty());
    assert_eq!((fleet.stage("agent-1").as_str(), fleet.stage("agent-3").as_str()), ("Failed", "Installed"));
    assert_eq!(fleet.unschedulable(), "");
    has(&fleet.get(".status.message"), &["agent-1 failed: pods of kube-system were not Ready", "nothing new begins"]);
    let told = fleet.run(&["describe", "upgrade", "fleet"]);
    has(&told, &["Warning", "NodeUpgradeFailed", "Stopped"]);
    fleet.edit("{\"abort\":true}");
    fleet.phase("Aborted");
    let wish = |fleet: &Fleet, name: &str| fleet.run(&["get", "machine", name, "-o", "jsonpath={.spec.upgrade}"]);
    fleet.until("what had not begun is taken back", |fleet| wish(fleet, "agent-3").is_empty());
    // Deleted in the midst of it, nothing stays cordoned.
    fleet.failing.clear();
    fleet.edit(&format!("{{\"abort\":false,\"source\":\"{}\"}}", SOURCE.replace("board", "board}-2{board")));
    fleet.until("a server is out of service", |fleet| fleet.unschedulable().starts_with("server"));
    fleet.run(&["delete", "upgrade", "fleet", "--timeout=20s"]);
    assert_eq!(fleet.unschedulable(), "");
    assert_eq!(wish(&fleet, "agent-3"), "");
}
