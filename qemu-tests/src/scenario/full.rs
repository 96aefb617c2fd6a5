//! STATE is filled to its last block: writes are refused and say why, reads go on, nothing is lost, and room made is room used.

use std::path::Path;

use anyhow::{Result, bail, ensure};

use super::{BOOT, SOON, boot};
use crate::guest::{Guest, Setup, fresh_disk};
use crate::kubectl::Kubectl;
use crate::report::step;

/// A pod that can write to STATE past every limit.
pub const FILLER: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: filler}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: c
      image: busybox:debian
      command: [sleep, infinity]
      volumeMounts: [{name: state, mountPath: /state}]
  volumes: [{name: state, hostPath: {path: /var/lib/kedge, type: Directory}}]
"#;

/// So many writes of [`LARGE`] bytes must meet the end of the disk: SQLite keeps room in its log that was already allocated.
const TRIES: usize = 60;
const LARGE: usize = 200_000;

pub fn run(setup: &Setup, dir: &Path) -> Result<()> {
    let disk = fresh_disk(setup, dir)?;
    let mut guest = Guest::boot(setup, &disk, dir, "")?;
    let kubectl = step("the API answers", || guest.kubectl(BOOT))?;
    step("the node is Ready", || boot::ready(&kubectl))?;
    boot::apply(&kubectl, dir, FILLER)?;
    kubectl.run(&["wait", "--for=condition=Ready", "pod/filler", &format!("--timeout={}s", SOON.as_secs())])?;
    let mut kept = Vec::new();
    step("a pod fills STATE", || {
        let fill = "dd if=/dev/zero of=/state/fill bs=1M 2>&1; dd if=/dev/zero of=/state/fill2 bs=4k 2>&1; df -k /state | tail -1";
        let said = kubectl.run(&["exec", "filler", "--", "sh", "-c", fill])?;
        ensure!(said.contains("No space left"), "it was not filled: {said}");
        Ok(())
    })?;
    step("a write that finds no room says so", || {
        let file = dir.join("large");
        std::fs::write(&file, "x".repeat(LARGE))?;
        let from = format!("--from-file=text={}", file.display());
        for n in 0..TRIES {
            let name = format!("large-{n}");
            let answer = kubectl.output(&["create", "configmap", &name, &from])?;
            if answer.status.success() {
                kept.push(name);
                continue;
            }
            let said = String::from_utf8_lossy(&answer.stderr);
            ensure!(said.contains("full"), "the error does not say that the disk is full: {said}");
            return Ok(());
        }
        bail!("{TRIES} writes of {LARGE} bytes went onto a full disk")
    })?;
    step("reads go on, and what was acknowledged is there", || there(&kubectl, &kept))?;
    step("room made is room used", || {
        kubectl.run(&["exec", "filler", "--", "rm", "/state/fill", "/state/fill2"])?;
        kubectl.until(SOON, &["create", "configmap", "after", "--from-literal=a=b"], |_| true)?;
        there(&kubectl, &kept)
    })?;
    step("and after a power cut it is still there", || {
        guest.kill()?;
        guest = Guest::boot(setup, &disk, dir, "")?;
        let kubectl = guest.kubectl(BOOT)?;
        kubectl.run(&["get", "configmap", "after"])?;
        there(&kubectl, &kept)
    })
}

fn there(kubectl: &Kubectl, kept: &[String]) -> Result<()> {
    let names = kubectl.run(&["get", "configmaps", "-o", "jsonpath={.items[*].metadata.name}"])?;
    for name in kept {
        ensure!(names.split(' ').any(|n| n == name), "{name} was acknowledged and is gone; there are: {names}");
    }
    Ok(())
}
