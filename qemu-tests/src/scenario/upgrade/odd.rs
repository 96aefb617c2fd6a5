//! An upgrade on a machine that has no clock and no room: it waits for room, and comes to its end.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use super::super::{BOOT, SOON, boot, full};
use super::{UPGRADED, Wisher, bundle};
use crate::guest::{Guest, Setup, fresh_disk};
use crate::report::step;
use crate::server::Server;

pub fn run(setup: &Setup, dir: &Path) -> Result<()> {
    let disk = fresh_disk(setup, dir)?;
    let config = dir.join("six.yaml");
    std::fs::write(&config, "node: {labels: {system: six}}\n")?;
    let bundle = bundle(setup, "six", &["--machine", &config.to_string_lossy()])?;
    let server = Server::start()?;
    let source = server.serve("six.kedge", &bundle);
    let guest = &mut Guest::boot_in_1970(setup, &disk, dir)?;
    let kubectl = step("the API answers in 1970", || guest.kubectl(BOOT))?;
    step("the node is Ready", || boot::ready(&kubectl))?;
    boot::apply(&kubectl, dir, full::FILLER)?;
    kubectl.run(&["wait", "--for=condition=Ready", "pod/filler", &format!("--timeout={}s", SOON.as_secs())])?;
    let machine = Wisher::new(&kubectl)?;
    step("the system is fetched", || {
        machine.wish(&json!({"source": source, "activate": false, "gate": {"soakSeconds": 5}}))?;
        machine.until(guest, &source, "Installed", UPGRADED).map(drop)
    })?;
    let activate =
        ["patch", "machine", &machine.node, "--type=merge", "-p", r#"{"spec":{"upgrade":{"activate":true}}}"#];
    step("with no room left it is not started", || {
        let fill = "dd if=/dev/zero of=/state/fill bs=1M 2>&1; dd if=/dev/zero of=/state/fill2 bs=1k 2>&1; true";
        let said = kubectl.run(&["exec", "filler", "--", "sh", "-c", fill])?;
        ensure!(said.contains("No space left"), "it was not filled: {said}");
        // The wish may find room in the database's log, or be refused for want of it.
        kubectl.output(&activate)?;
        std::thread::sleep(Duration::from_secs(15));
        ensure!(guest.starts() == 1, "it was started; {}", guest.tail());
        kubectl.run(&["get", "--raw", "/readyz"]).map(drop)
    })?;
    step("with room again it comes to its end", || {
        kubectl.run(&["exec", "filler", "--", "rm", "/state/fill", "/state/fill2"])?;
        kubectl.until(SOON, &activate, |_| true)?;
        machine.until(guest, &source, "Committed", UPGRADED)?;
        ensure!(machine.status()?.version == "six", "{:?}", machine.status()?);
        boot::ready(&kubectl)
    })
}
