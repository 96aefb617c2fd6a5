//! A new system with another program and another container image: little is fetched, it shows itself well twice, and it stays.

use std::path::Path;

use anyhow::{Result, ensure};
use kedge_config::slot::Verdict;
use serde_json::json;

use super::super::{BOOT, SOON, boot};
use super::{UPGRADED, Wisher, bundle, layout, record};
use crate::guest::{Guest, Setup, fresh_disk};
use crate::registry::Registry;
use crate::report::step;
use crate::server::Server;

pub fn run(setup: &Setup, dir: &Path) -> Result<()> {
    let disk = fresh_disk(setup, dir)?;
    let config = dir.join("two.yaml");
    std::fs::write(&config, "node: {labels: {system: two}}\n")?;
    let bundle =
        step("the bundle of a second system", || bundle(setup, "two", &["--machine", &config.to_string_lossy()]))?;
    let size = std::fs::metadata(&bundle)?.len();
    let server = Server::start()?;
    let source = server.serve("two.kedge", &bundle);
    let mut guest = Guest::boot(setup, &disk, dir, "")?;
    let kubectl = step("the API answers", || guest.kubectl(BOOT))?;
    step("the node is Ready", || boot::ready(&kubectl))?;
    boot::apply(&kubectl, dir, boot::SAMPLE)?;
    step("the sample runs", || boot::sample_runs(&kubectl))?;
    kubectl.run(&["create", "configmap", "kept", "--from-literal=a=b"])?;
    let machine = Wisher::new(&kubectl)?;
    let gate = json!({
        "pods": [{"namespace": "default", "selector": {"matchLabels": {"app": "web"}}}],
        "probe": {"httpGet": {"host": "10.0.2.15", "port": 30080}}, "soakSeconds": 5, "limitSeconds": 300, "coldBoot": true,
    });
    step("it is fetched and lies ready until it is to be started", || {
        machine.wish(&json!({"source": source, "activate": false, "gate": gate}))?;
        let status = machine.until(&guest, &source, "Installed", UPGRADED)?;
        ensure!(status.version == "two" && status.fetched_bytes == status.total_bytes, "{status:?}");
        ensure!(machine.status()?.version != "two" && record(&disk)?.b.verdict == Verdict::Empty, "{status:?}");
        Ok(())
    })?;
    let given = server.given();
    eprintln!("  fetched {given} bytes of {size}: {:.1} %", given as f64 * 100.0 / size as f64);
    ensure!(given * 100 <= size * 15, "{given} bytes of {size} were fetched");
    step("it is started, shows itself well twice, and is kept", || {
        let patch = r#"{"spec":{"upgrade":{"activate":true}}}"#;
        kubectl.run(&["patch", "machine", &machine.node, "--type=merge", "-p", patch])?;
        machine.until(&guest, &source, "Committed", UPGRADED)?;
        let record = record(&disk)?;
        ensure!(record.b.verdict == Verdict::Good && record.b.priority > record.a.priority, "{record:?}");
        ensure!(guest.starts() == 3, "{} starts instead of 3; {}", guest.starts(), guest.tail());
        Ok(())
    })?;
    step("the new system runs with all that was there", || {
        ensure!(machine.status()?.version == "two", "{:?}", machine.status()?);
        boot::ready(&kubectl)?;
        boot::sample_runs(&kubectl)?;
        kubectl.until(SOON, &["get", "configmap", "kept", "-o", "jsonpath={.data.a}"], |text| text == "b").map(drop)
    })?;
    println!("{}", kubectl.run(&["get", "machines"])?);
    step("what runs already is not fetched again, from a registry this time", || {
        let registry = Registry::start(dir)?;
        let again = registry.push(&layout(&bundle), "two", "fleet/kedge")?;
        machine.wish(&json!({"source": again}))?;
        let status = machine.until(&guest, &again, "Committed", SOON)?;
        ensure!(status.message == "it is what runs", "{status:?}");
        Ok(())
    })?;
    step("a power cut later it is the new one still", || {
        guest.kill()?;
        guest = Guest::boot(setup, &disk, dir, "")?;
        let kubectl = guest.kubectl(BOOT)?;
        boot::ready(&kubectl)?;
        let status = Wisher::new(&kubectl)?.status()?;
        ensure!(status.version == "two", "{status:?}");
        Ok(())
    })
}
