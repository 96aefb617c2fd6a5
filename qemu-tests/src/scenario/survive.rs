//! PID 1 replaces itself, and PID 1 crashes: containers run on, their logs and exits are still seen, exec still works.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::{BOOT, SOON, boot};
use crate::guest::{Guest, Setup, fresh_disk};
use crate::kubectl::Kubectl;
use crate::report::step;

const PODS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: ticker}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - {name: c, image: "busybox:debian", command: [sh, -c, "n=0; while true; do echo tick $n; n=$((n+1)); sleep 0.2; done"]}
---
apiVersion: v1
kind: Pod
metadata: {name: waiter}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
    - {name: c, image: "busybox:debian", command: [sh, -c, "while [ ! -e /tmp/go ]; do sleep 0.2; done; exit 5"]}
"#;

struct Fault {
    name: &'static str,
    /// The node's API path that makes PID 1 do it.
    path: &'static str,
    answers: bool,
}

const FAULTS: &[Fault] = &[
    Fault { name: "re-exec", path: "machine/reexec", answers: true },
    Fault { name: "crash (SIGSEGV)", path: "machine/crash", answers: false },
];

pub fn run(setup: &Setup, dir: &Path) -> Result<()> {
    let disk = fresh_disk(setup, dir)?;
    let mut guest = Guest::boot(setup, &disk, dir, "kedge.faults=1")?;
    let kubectl = step("the API answers", || guest.kubectl(BOOT))?;
    step("the node is Ready", || boot::ready(&kubectl))?;
    for fault in FAULTS {
        boot::apply(&kubectl, dir, PODS)?;
        kubectl.run(&[
            "wait",
            "--for=condition=Ready",
            "pod/ticker",
            "pod/waiter",
            &format!("--timeout={}s", SOON.as_secs()),
        ])?;
        let (before, born) = (identities(&kubectl)?, born(&kubectl)?);
        step(fault.name, || {
            // A crash may take its own answer along: whether it happened is seen below.
            let answer = machine(&kubectl, fault.path);
            if fault.answers { answer } else { Ok(()) }
        })?;
        step("another process answers", || {
            std::thread::sleep(Duration::from_secs(1));
            kubectl.until(BOOT, &["get", "--raw", "/readyz"], |t| t == "ok")?;
            let now = self::born(&kubectl)?;
            ensure!(now != born, "PID 1 is still the process of {born}");
            Ok(())
        })?;
        step("exec still works", || {
            kubectl.until(SOON, &["exec", "waiter", "--", "echo", "here"], |t| t == "here\n").map(drop)
        })?;
        step("the same containers run", || {
            let after = identities(&kubectl)?;
            ensure!(before == after, "before: {before}\nafter: {after}");
            Ok(())
        })?;
        step("no line of log was lost", || ticks(&kubectl))?;
        step("an exit is still seen", || {
            kubectl.run(&["exec", "waiter", "--", "touch", "/tmp/go"])?;
            let code = "jsonpath={.status.phase} {.status.containerStatuses[0].state.terminated.exitCode}";
            kubectl.until(SOON, &["get", "pod", "waiter", "-o", code], |t| t == "Failed 5").map(drop)
        })?;
        kubectl.run(&["delete", "pod", "ticker", "waiter", "--now", "--ignore-not-found"])?;
    }
    Ok(())
}

/// Asks the node's agent for something only the machine can do.
pub fn machine(kubectl: &Kubectl, path: &str) -> Result<()> {
    let node = kubectl.run(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"])?;
    let empty = std::env::temp_dir().join(format!("kedge-empty-{}.json", std::process::id()));
    std::fs::write(&empty, "{}")?;
    let path = format!("/api/v1/nodes/{node}/proxy/{path}");
    let answer = kubectl.run(&["create", "--raw", &path, "-f", &empty.to_string_lossy()]).map(drop);
    std::fs::remove_file(&empty)?;
    answer
}

/// When the process that is PID 1 now began.
fn born(kubectl: &Kubectl) -> Result<String> {
    let node = kubectl.run(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"])?;
    let path = format!("/api/v1/nodes/{node}/proxy/metrics");
    let metrics = kubectl.until(SOON, &["get", "--raw", &path], |text| text.contains(BORN))?;
    Ok(metrics.lines().find(|line| line.starts_with(BORN)).unwrap_or_default().to_owned())
}

const BORN: &str = "kedge_boot_milestone_seconds{milestone=\"init\"}";

/// Container ids and restart counts of both pods.
fn identities(kubectl: &Kubectl) -> Result<String> {
    let path = "jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[0].containerID} \
                {.status.containerStatuses[0].restartCount} {.status.podIP}{\"\\n\"}{end}";
    kubectl.run(&["get", "pods", "-o", path])
}

/// The ticker counts up by one from zero: a gap is a lost line.
fn ticks(kubectl: &Kubectl) -> Result<()> {
    let text = kubectl.run(&["logs", "ticker"])?;
    ensure!(text.lines().count() > 5, "the ticker wrote too little: {text:?}");
    for (n, line) in text.lines().enumerate() {
        ensure!(line == format!("tick {n}"), "line {n} of the ticker's log is {line:?}");
    }
    Ok(())
}
