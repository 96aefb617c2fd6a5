//! New systems that do not work: in each case the old one is back by itself, says why, and does not try the same again.

use std::path::Path;

use anyhow::{Result, ensure};
use kedge_config::slot::Verdict;
use serde_json::{Value, json};

use super::super::{BOOT, boot};
use super::{UPGRADED, Wisher, broken, bundle_of, record};
use crate::guest::{Guest, Setup, fresh_disk};
use crate::report::step;
use crate::server::Server;

struct Failure {
    name: &'static str,
    /// Of the new system's build, `DIR` standing for the test's folder.
    options: &'static [&'static str],
    gate: fn() -> Value,
    /// Its `kedge` is no init.
    crashes: bool,
    told: &'static str,
}

const FAILURES: &[Failure] = &[
    Failure {
        name: "its API never becomes healthy",
        options: &["--machine", "DIR/no-api.yaml"],
        gate: || json!({"limitSeconds": 60, "soakSeconds": 2}),
        crashes: false,
        told: "not well within 60 s",
    },
    Failure {
        name: "pods that are asked for are never Ready",
        options: &["--machine", "DIR/well.yaml"],
        gate: || json!({"limitSeconds": 60, "soakSeconds": 2, "pods": [{"namespace": "default", "selector": {"matchLabels": {"app": "nobody"}}}]}),
        crashes: false,
        told: "there is no such pod in default",
    },
    Failure {
        name: "its PID 1 crashes",
        options: &[],
        gate: || json!({"limitSeconds": 60, "soakSeconds": 2}),
        crashes: true,
        told: "did not come to the end of its trial",
    },
];

pub fn run(setup: &Setup, dir: &Path) -> Result<()> {
    let disk = fresh_disk(setup, dir)?;
    std::fs::write(dir.join("no-api.yaml"), "cluster: {audit: {policyFile: /nowhere}}\n")?;
    std::fs::write(dir.join("well.yaml"), "node: {labels: {system: well}}\n")?;
    let crashes = broken(setup, dir, "kedge")?;
    let server = Server::start()?;
    let mut guest = Guest::boot(setup, &disk, dir, "")?;
    let kubectl = step("the API answers", || guest.kubectl(BOOT))?;
    step("the node is Ready", || boot::ready(&kubectl))?;
    kubectl.run(&["create", "configmap", "kept", "--from-literal=a=b"])?;
    let machine = Wisher::new(&kubectl)?;
    let running = machine.status()?.version;
    for (n, failure) in FAILURES.iter().enumerate() {
        let folder = dir.to_string_lossy();
        let options: Vec<String> = failure.options.iter().map(|word| word.replace("DIR", &folder)).collect();
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let programs = if failure.crashes { &crashes } else { &setup.programs };
        let bundle = bundle_of(setup, &format!("failure-{n}"), programs, &options)?;
        let source = server.serve(&format!("failure-{n}.kedge"), &bundle);
        step(failure.name, || {
            let starts = guest.starts();
            machine.wish(&json!({"source": source, "gate": (failure.gate)()}))?;
            let status = machine.until(&guest, &source, "Failed", UPGRADED)?;
            ensure!(status.message.contains(failure.told), "{status:?}");
            ensure!(guest.starts() >= starts + 2, "it was never tried; {}", guest.tail());
            let record = record(&disk)?;
            ensure!(record.a.verdict == Verdict::Good && record.b.verdict == Verdict::Bad, "{record:?}");
            Ok(())
        })?;
        step("the old system is well, with all that was there", || {
            boot::ready(&kubectl)?;
            ensure!(machine.status()?.version == running, "{:?}", machine.status()?);
            kubectl.run(&["get", "configmap", "kept"]).map(drop)
        })?;
        step("the same is not tried again, wherever it comes from", || {
            let starts = guest.starts();
            let again = server.serve(&format!("failure-{n}-again.kedge"), &bundle);
            machine.wish(&json!({"source": again}))?;
            let status = machine.until(&guest, &again, "Failed", UPGRADED)?;
            let known = status.message.contains("it failed here before");
            ensure!(known && guest.starts() == starts, "{status:?}");
            Ok(())
        })?;
    }
    Ok(())
}
