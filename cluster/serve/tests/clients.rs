//! Clients as people have them, unmodified, before the whole server: kubectl of two versions, Helm 3 and 4, the libraries for Python, Node
//! and Rust.
//!
//! Each but the last, which is built in, is taken from its registry once and kept in the cache folder (`clients/tools.rs`). Where a registry
//! cannot be reached, its test says so and is skipped; that a client fails is never a reason to skip.
#![cfg(test)]

#[path = "support/server.rs"]
mod server;
#[path = "clients/tools.rs"]
mod tools;
#[path = "clients/with_kube.rs"]
mod with_kube;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kedge_serve::pki::Profile;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tools::Tool;

/// A server of the test's own, and how its administrator gets there.
struct World {
    dir: tempfile::TempDir,
    config: PathBuf,
    stop: CancellationToken,
}

impl World {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = server::start(dir.path(), SocketAddr::from(([127, 0, 0, 1], 0)), None).await.unwrap();
        let config = dir.path().join("config");
        let text = server.pki.kubeconfig(&Profile::Admin, &format!("https://{}", server.address)).unwrap();
        std::fs::write(&config, text).unwrap();
        Self { dir, config, stop: server.stop }
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("KUBECONFIG", &self.config).env("HOME", self.dir.path());
        command.env("KUBECACHEDIR", self.dir.path().join("cache"));
        command
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What a command printed.
#[derive(Debug)]
struct Said {
    good: bool,
    out: String,
    err: String,
}

fn run(mut command: Command) -> Said {
    let output = tokio::task::block_in_place(|| command.output().unwrap());
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Said { good: output.status.success(), out: text(output.stdout), err: text(output.stderr) }
}

/// The tool, or `None` after saying why there is none.
fn have(tool: Tool) -> Option<PathBuf> {
    match tokio::task::block_in_place(|| tools::get(tool)) {
        Ok(path) => Some(path),
        Err(why) => {
            eprintln!("skipped: {tool:?} cannot be had: {why}");
            None
        }
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

#[tokio::test(flavor = "multi_thread")]
async fn python_kubernetes() {
    script(Tool::Python, "with_kubernetes.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_kr8s() {
    script(Tool::Python, "with_kr8s.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_client_node() {
    script(Tool::Node, "with_client_node.mjs").await;
}

/// A script that asserts for itself and says at last that it is done.
async fn script(tool: Tool, name: &str) {
    let Some(program) = have(tool) else { return };
    let world = World::start().await;
    let mut command = world.command(&program);
    if tool == Tool::Node {
        // Modules are looked for from where the script lies.
        let there = world.dir.path().join(name);
        std::fs::copy(folder().join(name), &there).unwrap();
        std::os::unix::fs::symlink(tools::modules(), world.dir.path().join("node_modules")).unwrap();
        command.arg(there);
    } else {
        command.arg(folder().join(name));
    }
    let said = run(command);
    assert!(said.good && said.out.ends_with("done\n"), "{name}: {}{}", said.out, said.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_of_1_36() {
    kubectl(Tool::Kubectl36, "36").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_of_1_37() {
    kubectl(Tool::Kubectl37, "37").await;
}

const DEPLOYMENT: &str = r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"},
 "spec":{"replicas":2,"selector":{"matchLabels":{"app":"web"}},
  "template":{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"c","image":"web:1"}]}}}}"#;

async fn kubectl(tool: Tool, minor: &str) {
    let Some(program) = have(tool) else { return };
    let world = World::start().await;
    let manifest = world.dir.path().join("web.json");
    std::fs::write(&manifest, DEPLOYMENT).unwrap();
    let manifest = manifest.to_str().unwrap();
    let say = |line: &str| {
        let mut command = world.command(&program);
        command.args(line.split_whitespace());
        run(command)
    };
    let ok = |line: &str| {
        let said = say(line);
        assert!(said.good, "kubectl {line}: {}{}", said.out, said.err);
        said.out
    };
    let version: Value = serde_json::from_str(&ok("version -o json")).unwrap();
    assert_eq!((&version["clientVersion"]["minor"], &version["serverVersion"]["minor"]), (&json!(minor), &json!("36")));

    assert_eq!(ok(&format!("apply --server-side -f {manifest}")), "deployment.apps/web serverside-applied\n");
    assert_eq!(ok(&format!("apply --server-side --dry-run=server -f {manifest}")).lines().count(), 1);
    assert!(say(&format!("diff --server-side -f {manifest}")).out.is_empty());
    ok("set image deployment/web c=web:2");
    let stolen = say(&format!("apply --server-side -f {manifest}"));
    assert!(!stolen.good && stolen.err.contains("conflict with \"kubectl-set\""), "{}", stolen.err);
    let diff = say(&format!("diff -f {manifest}")).out;
    assert!(diff.contains("- image: web:2\n") && diff.contains("- image: web:1\n"), "{diff}");
    ok(&format!("apply --server-side --force-conflicts -f {manifest}"));
    ok("scale deployment/web --replicas=5");
    assert_eq!(
        ok("get deployment web -o jsonpath={.spec.replicas}/{.spec.template.spec.containers[0].image}"),
        "5/web:1"
    );
    ok(
        "patch deployment web --subresource=status --type=merge -p {\"status\":{\"observedGeneration\":9,\"replicas\":5,\"updatedReplicas\":5,\"readyReplicas\":5,\"availableReplicas\":5}}",
    );
    assert_eq!(ok("rollout status deployment/web --timeout=20s"), "deployment \"web\" successfully rolled out\n");
    assert!(ok("rollout history deployment/web").contains("deployment.apps/web"));
    assert!(ok("get deployment/web -o wide --show-labels").contains("5/5"));

    ok("create configmap c --from-literal=a=1");
    ok("create secret generic s --from-literal=a=1");
    ok("create serviceaccount robot");
    ok("create role reader --verb=get,list --resource=pods,deployments.apps");
    ok("create rolebinding reads --role=reader --serviceaccount=default:robot");
    assert_eq!(ok("auth can-i list pods --as=system:serviceaccount:default:robot"), "yes\n");
    assert!(!say("auth can-i delete pods --as=system:serviceaccount:default:robot").good);
    assert_eq!(ok("create token robot").trim().split('.').count(), 3);
    ok("expose deployment web --port=80 --target-port=8080");
    assert!(ok("describe service web").contains("TargetPort:"));
    ok("create service nodeport out --tcp=80");
    ok("autoscale deployment web --min=1 --max=4 --cpu=50%");
    assert!(ok("get hpa web").contains("Deployment/web"));
    ok("create cronjob tick --image=i --schedule=@hourly");
    ok("create job once --from=cronjob/tick");
    ok("create ingress i --rule=example.com/*=web:80");
    ok("create quota q --hard=count/services=20");
    ok("create pdb p --selector=app=web --min-available=1");
    ok("create priorityclass high --value=1000");
    // No controller makes one.
    ok("create serviceaccount default");
    ok("run pod --image=i --labels=x=y");
    ok("label pod pod a=b");
    ok("annotate pod pod note=x");
    ok("wait pod/pod --for=jsonpath={.status.phase}=Pending --timeout=20s");
    assert!(ok("get pod,svc,hpa,cronjob,job,ingress,quota,pdb -A -o name").lines().count() > 8);
    assert!(ok("get all").contains("deployment.apps/web"));
    assert!(ok("explain pod.spec.containers.resizePolicy").contains("FIELD: resizePolicy"));
    assert!(ok("api-resources --verbs=list --namespaced -o name").lines().count() > 25);
    ok("delete deployment,svc,hpa,cronjob,job,ingress,pdb,pod --all --wait --timeout=30s");
    assert!(ok("get deployment,pod").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn helm_4() {
    helm(Tool::Helm4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn helm_3() {
    helm(Tool::Helm3).await;
}

async fn helm(tool: Tool) {
    let (Some(program), Some(kubectl)) = (have(tool), have(Tool::Kubectl36)) else { return };
    let world = World::start().await;
    let kubectl = |args: &[&str]| {
        let mut command = world.command(&kubectl);
        command.args(["--namespace", "harbour"]).args(args);
        run(command)
    };
    let chart = folder().join("chart");
    let chart = chart.to_str().unwrap();
    let over = AtomicBool::new(false);
    let try_helm = |args: &[&str]| {
        let mut command = world.command(&program);
        command.args(["--namespace", "harbour"]).args(args);
        run(command)
    };
    let helm = |args: &[&str]| {
        let said = try_helm(args);
        assert!(said.good, "helm {}: {}{}", args.join(" "), said.out, said.err);
        said.out
    };
    let get = |what: &[&str]| {
        let said = kubectl(&[&["get"], what].concat());
        assert!(said.good, "kubectl get {what:?}: {}", said.err);
        said.out
    };
    std::thread::scope(|scope| {
        // There is no agent that runs the hooks' jobs, so they are said to be done.
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                finish_jobs(&kubectl);
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        let story = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let out = helm(&["install", "one", chart, "--create-namespace", "--timeout", "60s"]);
            assert!(out.contains("STATUS: deployed\nREVISION: 1"), "{out}");
            assert_eq!(get(&["cm", "one-settings", "-o", "jsonpath={.data.greeting}"]), "ahoy");
            assert_eq!(get(&["boat", "one", "-o", "jsonpath={.spec.berth}"]), "2");
            assert_eq!(get(&["cm", "one-after", "-o", "jsonpath={.data.revision}"]), "1");
            assert!(get(&["jobs", "-o", "name"]).is_empty(), "a hook that succeeded goes");

            helm(&["upgrade", "one", chart, "--set", "berths=3,greeting=hello", "--timeout", "60s"]);
            assert_eq!(get(&["boat", "one", "-o", "jsonpath={.spec.berth}"]), "3");
            assert_eq!(get(&["deploy", "one", "-o", "jsonpath={.spec.replicas}"]), "3");
            assert_eq!(get(&["cm", "one-settings", "-o", "jsonpath={.data.greeting}"]), "hello");

            // What the kind's schema refuses fails as a whole, and is said in the API's words.
            let refused = try_helm(&["upgrade", "one", chart, "--set", "berths=0", "--timeout", "60s"]);
            let words = "spec.berth in body should be greater than or equal to 1";
            assert!(!refused.good && refused.err.contains(words), "{}", refused.err);

            helm(&["rollback", "one", "1", "--timeout", "60s"]);
            assert_eq!(get(&["boat", "one", "-o", "jsonpath={.spec.berth}"]), "2");
            assert_eq!(get(&["cm", "one-settings", "-o", "jsonpath={.data.greeting}"]), "ahoy");
            let history: Value = serde_json::from_str(&helm(&["history", "one", "-o", "json"])).unwrap();
            let states: Vec<&str> = history.as_array().unwrap().iter().map(|r| r["status"].as_str().unwrap()).collect();
            assert_eq!(states, ["superseded", "superseded", "failed", "deployed"]);
            assert!(helm(&["get", "manifest", "one"]).contains("kind: Boat"));
            assert!(helm(&["list"]).contains("harbour-0.1.0"));

            helm(&["uninstall", "one", "--wait", "--timeout", "60s"]);
            assert!(get(&["boat,deploy,svc,secret", "-o", "name"]).is_empty());
            assert!(get(&["crd", "boats.harbour.example.com", "-o", "name"]).contains("boats"), "a chart's kinds stay");
        }));
        over.store(true, Ordering::Relaxed);
        story.unwrap_or_else(|failed| std::panic::resume_unwind(failed));
    });
}

/// As the agent and the controller of jobs would leave them.
fn finish_jobs(kubectl: &impl Fn(&[&str]) -> Said) {
    let list = kubectl(&["get", "jobs", "-o", "json"]);
    let Ok(jobs) = serde_json::from_str::<Value>(&list.out) else { return };
    for job in jobs["items"].as_array().into_iter().flatten().filter(|job| job["status"]["succeeded"].is_null()) {
        let now = &job["metadata"]["creationTimestamp"];
        let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": "CompletionsReached", "lastProbeTime": now, "lastTransitionTime": now});
        let status = json!({"startTime": now, "completionTime": now, "succeeded": 1, "uncountedTerminatedPods": {},
            "conditions": [condition("SuccessCriteriaMet"), condition("Complete")]});
        let patch = json!({"status": status}).to_string();
        let name = job["metadata"]["name"].as_str().unwrap();
        let said = kubectl(&["patch", "job", name, "--subresource=status", "--type=merge", "-p", &patch]);
        // It may be gone again.
        assert!(said.good || said.err.contains("NotFound"), "{}", said.err);
    }
}
