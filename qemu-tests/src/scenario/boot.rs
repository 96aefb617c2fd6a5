//! From power-on to a running workload: the node becomes Ready and everything in the demo's sample does what it says.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::{BOOT, SOON, streams};
use crate::guest::{Guest, Setup, fresh_disk};
use crate::kubectl::Kubectl;
use crate::report::step;

/// The sample that `make demo` applies.
pub const SAMPLE: &str = include_str!("../../samples/demo.yaml");

pub fn run(setup: &Setup, dir: &Path) -> Result<()> {
    with_sample(setup, dir, CHECKS)
}

/// Pods that fail, are scaled and are deleted.
pub fn run_changes(setup: &Setup, dir: &Path) -> Result<()> {
    with_sample(setup, dir, CHANGES)
}

fn with_sample(setup: &Setup, dir: &Path, checks: &[Check]) -> Result<()> {
    let disk = fresh_disk(setup, dir)?;
    let mut guest = Guest::boot(setup, &disk, dir, "")?;
    let kubectl = step("the API answers", || guest.kubectl(BOOT))?;
    step("the node is Ready", || ready(&kubectl))?;
    step("the sample is applied", || apply(&kubectl, dir, SAMPLE))?;
    step("the sample runs", || sample_runs(&kubectl))?;
    for check in checks {
        step(check.name, || (check.run)(&kubectl, &guest))?;
    }
    Ok(())
}

pub fn ready(kubectl: &Kubectl) -> Result<()> {
    kubectl.until(BOOT, &["get", "nodes", "--no-headers"], |t| t.contains(" Ready ")).map(drop)
}

pub fn apply(kubectl: &Kubectl, dir: &Path, manifest: &str) -> Result<String> {
    let file = dir.join("manifest.yaml");
    std::fs::write(&file, manifest)?;
    kubectl.run(&["apply", "-f", &file.to_string_lossy()])
}

pub fn sample_runs(kubectl: &Kubectl) -> Result<()> {
    let limit = format!("--timeout={}s", SOON.as_secs());
    kubectl.run(&["rollout", "status", "deployment/web", &limit])?;
    kubectl.run(&["wait", "--for=condition=complete", "job/count", &limit])?;
    kubectl.run(&["wait", "--for=condition=Ready", "pod/client", &limit]).map(drop)
}

struct Check {
    name: &'static str,
    run: fn(&Kubectl, &Guest) -> Result<()>,
}

const CHECKS: &[Check] = &[
    Check { name: "logs of a container", run: logs },
    Check { name: "logs of a Job", run: job_logs },
    Check { name: "exec and its exit code", run: exec },
    Check { name: "exec, attach, cp and port-forward over WebSocket", run: streams::over_websocket },
    Check { name: "exec, attach, cp and port-forward over SPDY", run: streams::over_spdy },
    Check { name: "cluster DNS", run: dns },
    Check { name: "HTTP through the Service's name", run: http },
    Check { name: "HTTP through the NodePort", run: node_port },
    Check { name: "a changed ConfigMap reaches the pod", run: config_map_update },
];

/// What goes wrong, ends or is scaled away: on top of the sample.
const CHANGES: &[Check] = &[
    Check { name: "nothing anonymous", run: anonymous },
    Check { name: "a crashing container backs off and keeps its last log", run: crash_loop },
    Check { name: "a failing liveness probe restarts", run: liveness },
    Check { name: "scaling down and up", run: scale },
    Check { name: "deleting a Deployment deletes its pods", run: garbage },
];

fn logs(kubectl: &Kubectl, _: &Guest) -> Result<()> {
    let text = kubectl.run(&["logs", "client", "--tail=2"])?;
    ensure!(text.contains("hello from kedge on ") && text.contains("prepared by kedge"), "logs client: {text:?}");
    Ok(())
}

fn job_logs(kubectl: &Kubectl, _: &Guest) -> Result<()> {
    let text = kubectl.run(&["logs", "job/count"])?;
    ensure!(text == "counted 1\ncounted 2\ncounted 3\n", "logs job/count: {text:?}");
    Ok(())
}

fn exec(kubectl: &Kubectl, _: &Guest) -> Result<()> {
    let text = kubectl.run(&[
        "exec",
        "client",
        "--",
        "sh",
        "-c",
        "echo $((6 * 7)); cat /etc/hostname 2>/dev/null; hostname",
    ])?;
    ensure!(text.contains("42\n") && text.contains("client"), "exec: {text:?}");
    let failed = kubectl.output(&["exec", "client", "--", "sh", "-c", "exit 7"])?;
    ensure!(failed.status.code() == Some(7), "exit 7 came back as {}", failed.status);
    Ok(())
}

fn dns(kubectl: &Kubectl, _: &Guest) -> Result<()> {
    let service = kubectl.run(&["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"])?;
    let answer = kubectl.run(&["exec", "client", "--", "nslookup", "web.default.svc.cluster.local"])?;
    ensure!(answer.contains(&service), "{service} is not in {answer:?}");
    Ok(())
}

fn http(kubectl: &Kubectl, _: &Guest) -> Result<()> {
    for _ in 0..6 {
        let page = kubectl.run(&["exec", "client", "--", "wget", "-q", "-O", "-", "http://web/"])?;
        ensure!(page.contains("Hello from a Kedge pod"), "http://web/: {page:?}");
    }
    Ok(())
}

fn node_port(_: &Kubectl, guest: &Guest) -> Result<()> {
    let page = http_get(guest.node_port)?;
    ensure!(page.contains("Hello from a Kedge pod"), "node port: {page:?}");
    Ok(())
}

/// One HTTP/1.0 request to a forwarded port.
pub fn http_get(port: u16) -> Result<String> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(5)))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Asks until the page contains `wanted`: QEMU accepts a connection before the guest does, so a lost one shows as silence.
pub fn http_until(port: u16, wanted: &str) -> Result<()> {
    let start = std::time::Instant::now();
    loop {
        let last = match http_get(port) {
            Ok(page) if page.contains(wanted) => return Ok(()),
            Ok(page) => format!("{page:?}"),
            Err(error) => format!("{error:#}"),
        };
        ensure!(start.elapsed() < SOON, "no page with {wanted:?} within {SOON:?}; last: {last}");
        std::thread::sleep(std::time::Duration::from_millis(300));
    }
}

fn config_map_update(kubectl: &Kubectl, guest: &Guest) -> Result<()> {
    let patch = r#"{"data":{"index.html":"<h1>Changed</h1>\n"}}"#;
    kubectl.run(&["patch", "configmap", "greeting", "--type=merge", "-p", patch])?;
    http_until(guest.node_port, "Changed")
}

fn crash_loop(kubectl: &Kubectl, _: &Guest) -> Result<()> {
    kubectl.run(&[
        "run",
        "crash",
        "--image=busybox:debian",
        "--command",
        "--",
        "sh",
        "-c",
        "echo last words; exit 3",
    ])?;
    let reason = "jsonpath={.status.containerStatuses[0].state.waiting.reason} \
                  {.status.containerStatuses[0].lastState.terminated.exitCode}";
    kubectl.until(SOON, &["get", "pod", "crash", "-o", reason], |t| t == "CrashLoopBackOff 3")?;
    let text = kubectl.run(&["logs", "crash", "--previous"])?;
    ensure!(text == "last words\n", "logs --previous: {text:?}");
    kubectl.run(&["delete", "pod", "crash", "--now"]).map(drop)
}

fn liveness(kubectl: &Kubectl, _: &Guest) -> Result<()> {
    let pod = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"sick"},"spec":{"terminationGracePeriodSeconds":1,"containers":[{"name":"c",
        "image":"busybox:debian","command":["sleep","1000"],"livenessProbe":{"exec":{"command":["false"]},"periodSeconds":1,"failureThreshold":2}}]}}"#;
    let file = std::env::temp_dir().join(format!("kedge-sick-{}.json", std::process::id()));
    std::fs::write(&file, pod)?;
    kubectl.run(&["create", "-f", &file.to_string_lossy()])?;
    std::fs::remove_file(&file)?;
    let restarts = "jsonpath={.status.containerStatuses[0].restartCount}";
    kubectl.until(SOON, &["get", "pod", "sick", "-o", restarts], |t| t.parse::<u32>().is_ok_and(|n| n >= 1))?;
    let events = kubectl.run(&[
        "get",
        "events",
        "--field-selector=involvedObject.name=sick",
        "-o",
        "jsonpath={.items[*].reason}",
    ])?;
    ensure!(events.contains("Unhealthy") && events.contains("Killing"), "events of the sick pod: {events}");
    kubectl.run(&["delete", "pod", "sick", "--now"]).map(drop)
}

fn scale(kubectl: &Kubectl, _: &Guest) -> Result<()> {
    for replicas in ["1", "4"] {
        kubectl.run(&["scale", "deployment/web", &format!("--replicas={replicas}")])?;
        kubectl.until(
            SOON,
            &["get", "deployment", "web", "-o", "jsonpath={.status.readyReplicas} {.status.replicas}"],
            |t| t == format!("{replicas} {replicas}"),
        )?;
    }
    Ok(())
}

fn garbage(kubectl: &Kubectl, _: &Guest) -> Result<()> {
    kubectl.run(&["delete", "deployment", "web", "--wait=false"])?;
    kubectl.until(SOON, &["get", "pods,replicasets", "-l", "app=web", "-o", "name"], str::is_empty).map(drop)
}

/// Not with kubectl, which asks a person for a name and a password when it has no credentials.
fn anonymous(kubectl: &Kubectl, guest: &Guest) -> Result<()> {
    let status = |path: &str| -> Result<String> {
        let url = format!("https://127.0.0.1:{}{path}", guest.api_port);
        let mut curl = std::process::Command::new("curl");
        curl.args([
            "--silent",
            "--insecure",
            "--max-time",
            "20",
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_code}",
            &url,
        ]);
        Ok(String::from_utf8(curl.output().context("curl")?.stdout)?)
    };
    for path in ["/healthz", "/livez", "/readyz", "/version"] {
        let answer = status(path)?;
        ensure!(answer == "200", "{path} without credentials: {answer}");
    }
    for path in ["/api", "/api/v1/pods", "/metrics", "/openapi/v3"] {
        let answer = status(path)?;
        // As upstream: without credentials one is system:anonymous, and no role lets that in.
        ensure!(answer == "403", "{path} without credentials: {answer}");
    }
    let server = format!("--server=https://127.0.0.1:{}", guest.api_port);
    let forged = kubectl.output(&[
        "--kubeconfig=/dev/null",
        "--insecure-skip-tls-verify",
        &server,
        "--token=forged",
        "get",
        "pods",
    ])?;
    let said = String::from_utf8_lossy(&forged.stderr);
    ensure!(!forged.status.success() && said.contains("must be logged in"), "a forged token: {said}");
    Ok(())
}
