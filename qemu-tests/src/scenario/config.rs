//! The machine's own object: what is wrong is refused, what is well is kept, what is not well goes back by itself.

use std::path::Path;

use anyhow::{Result, ensure};

use super::{BOOT, SOON, boot};
use crate::guest::{Guest, Setup, fresh_disk};
use crate::kubectl::Kubectl;
use crate::report::step;

const PHASE: &str = "jsonpath={.status.phase} {.status.observedGeneration} {.metadata.generation} {.status.message}";

pub fn run(setup: &Setup, dir: &Path) -> Result<()> {
    let disk = fresh_disk(setup, dir)?;
    let mut guest = Guest::boot(setup, &disk, dir, "")?;
    let kubectl = step("the API answers", || guest.kubectl(BOOT))?;
    step("the node is Ready", || boot::ready(&kubectl))?;
    let node = kubectl.run(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"])?;
    step("the machine is an object", || phase(&kubectl, &node, "Kept").map(drop))?;
    step("a config with a mistake is refused", || {
        for (patch, told) in [
            (r#"{"cluster":{"apiPort":0}}"#, "port 0, expected 1 to 65535"),
            (r#"{"hostname":"other"}"#, "hostname: cannot be changed here"),
            (r#"{"network":{"dhpc":false}}"#, "unknown field"),
        ] {
            let output = kubectl.output(&edit(&node, patch, 300).each())?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(!output.status.success() && said.contains(told), "{patch}: {said}");
        }
        Ok(())
    })?;
    boot::apply(&kubectl, dir, boot::SAMPLE)?;
    step("the sample runs", || boot::sample_runs(&kubectl))?;
    let pods = pods(&kubectl)?;
    step("what is well is kept", || {
        kubectl
            .run(&edit(&node, r#"{"node":{"labels":{"shelf":"7"}},"sysctls":{"vm.swappiness":"11"}}"#, 300).each())?;
        phase(&kubectl, &node, "Kept")?;
        let label = ["get", "node", &node, "-o", "jsonpath={.metadata.labels.shelf}"];
        kubectl.until(SOON, &label, |text| text == "7").map(drop)
    })?;
    step("and no container was started again for it", || {
        let now = self::pods(&kubectl)?;
        ensure!(now == pods, "before: {pods}\nafter: {now}");
        Ok(())
    })?;
    step("what is not well goes back by itself", || {
        kubectl.run(&edit(&node, r#"{"cluster":{"audit":{"policyFile":"/nowhere"}}}"#, 30).each())?;
        guest.wait_console("the new machine config is refused", BOOT)?;
        let told = phase(&kubectl, &node, "Refused")?;
        ensure!(told.contains("/nowhere"), "{told}");
        boot::ready(&kubectl)
    })?;
    step("a power cut on trial goes back as well", || {
        let before = guest.console().len();
        kubectl.run(&edit(&node, r#"{"cluster":{"audit":null},"network":{"dhcp":false}}"#, 3600).each())?;
        let start = std::time::Instant::now();
        let on_trial = |console: &str| {
            let (_, booted) = console.get(before..)?.split_once("stage 1")?;
            booted.contains("is on trial").then_some(())
        };
        while on_trial(&guest.console()).is_none() {
            ensure!(start.elapsed() < BOOT, "the machine did not start with the new config; {}", guest.tail());
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        guest.kill()?;
        guest = Guest::boot(setup, &disk, dir, "")?;
        let kubectl = guest.kubectl(BOOT)?;
        let told = phase(&kubectl, &node, "Refused")?;
        ensure!(told.contains("started again"), "{told}");
        let config = kubectl.run(&["get", "node", &node, "-o", "jsonpath={.metadata.labels.shelf}"])?;
        ensure!(config == "7", "what was kept is gone: shelf={config:?}");
        boot::ready(&kubectl)
    })
}

struct Words(Vec<String>);

impl Words {
    fn each(&self) -> Vec<&str> {
        self.0.iter().map(String::as_str).collect()
    }
}

/// A merge of `config` into the machine's.
fn edit(node: &str, config: &str, limit: u32) -> Words {
    let patch = format!(r#"{{"spec":{{"config":{config},"healthLimitSeconds":{limit}}}}}"#);
    Words(["patch", "machine", node, "--type=merge", "-p", &patch].map(str::to_owned).into())
}

/// Waits until the last edit is in this phase.
fn phase(kubectl: &Kubectl, node: &str, phase: &str) -> Result<String> {
    kubectl.until(BOOT, &["get", "machine", node, "-o", PHASE], |text| {
        let words: Vec<&str> = text.split(' ').collect();
        words.first() == Some(&phase) && words.get(1) == words.get(2)
    })
}

fn pods(kubectl: &Kubectl) -> Result<String> {
    let path = "jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[0].containerID}{\"\\n\"}{end}";
    kubectl.run(&["get", "pods", "-o", path])
}
