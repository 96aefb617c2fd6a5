//! A machine that is started by its firmware: a new system brings its own initramfs, which is started in the old one's place; one whose stage 1
//! ends at once is left by the boot loader.

use std::path::Path;

use anyhow::{Result, ensure};
use kedge_config::slot::Verdict;
use serde_json::json;

use super::super::{BOOT, SOON, boot};
use super::{UPGRADED, Wisher, broken, bundle, bundle_of, record};
use crate::guest::{Guest, Setup, fresh_disk};
use crate::report::step;
use crate::server::Server;

pub fn run(setup: &Setup, dir: &Path) -> Result<()> {
    let disk = fresh_disk(setup, dir)?;
    let further = dir.join("further.key");
    if further.exists() {
        std::fs::remove_file(&further)?;
    }
    kedge_image::signing::SigningKey::create(&further)?;
    // A further key that is trusted is another initramfs.
    let public = kedge_image::signing::public_path(&further);
    let well = bundle(setup, "four", &["--trust", &public.to_string_lossy()])?;
    let dead = bundle_of(setup, "five", &broken(setup, dir, "kedge-stage1")?, &[])?;
    let server = Server::start()?;
    let mut guest = Guest::boot_through_firmware(setup, &disk, dir)?;
    let kubectl = step("the API answers", || guest.kubectl(BOOT))?;
    step("the node is Ready", || boot::ready(&kubectl))?;
    kubectl.run(&["create", "configmap", "kept", "--from-literal=a=b"])?;
    let machine = Wisher::new(&kubectl)?;
    step("the cluster's Upgrade: another initramfs is fetched, started in the old one's place, and kept", || {
        let size = std::fs::metadata(&well)?.len();
        let source = server.serve("four.kedge", &well);
        let wish = json!({"apiVersion": "kedge.dev/v1alpha1", "kind": "Upgrade", "metadata": {"name": "fleet"},
            "spec": {"source": source, "gate": {"soakSeconds": 5}}});
        boot::apply(&kubectl, dir, &wish.to_string())?;
        machine.until(&guest, &source, "Committed", UPGRADED)?;
        let path = "jsonpath={.status.phase}";
        kubectl.until(SOON, &["get", "upgrade", "fleet", "-o", path], |phase| phase == "Completed")?;
        let record = record(&disk)?;
        ensure!(record.b.verdict == Verdict::Good && guest.starts() == 2, "{record:?}; {}", guest.tail());
        eprint!("({} of {size} bytes fetched) ", server.given());
        ensure!(machine.status()?.version == "four", "{:?}", machine.status()?);
        Ok(())
    })?;
    step("one whose stage 1 ends at once is left, and told", || {
        let source = server.serve("five.kedge", &dead);
        machine.wish(&json!({"source": source, "gate": {"soakSeconds": 5}}))?;
        let status = machine.until(&guest, &source, "Failed", UPGRADED)?;
        ensure!(status.version == "five" && status.message.contains("did not come"), "{status:?}");
        let record = record(&disk)?;
        ensure!(record.a.verdict == Verdict::Bad && record.b.verdict == Verdict::Good, "{record:?}");
        Ok(())
    })?;
    step("the system before it is well, with all that was there", || {
        boot::ready(&kubectl)?;
        ensure!(machine.status()?.version == "four", "{:?}", machine.status()?);
        println!("{}", kubectl.run(&["get", "upgrades,machines"])?);
        kubectl.run(&["get", "configmap", "kept"]).map(drop)
    })
}
