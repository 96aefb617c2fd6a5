//! What is no upgrade for this machine: each is told with its reason, nothing is started, and the system goes on.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use super::super::{BOOT, SOON, boot};
use super::{UPGRADED, Wisher, bundle};
use crate::guest::{Guest, Setup, fresh_disk};
use crate::report::step;
use crate::server::{Given, Server};

pub fn run(setup: &Setup, dir: &Path) -> Result<()> {
    let disk = fresh_disk(setup, dir)?;
    let config = dir.join("three.yaml");
    std::fs::write(&config, "node: {labels: {system: three}}\n")?;
    let config = config.to_string_lossy();
    let good = bundle(setup, "three", &["--machine", &config])?;
    let stranger = dir.join("stranger.key");
    if stranger.exists() {
        std::fs::remove_file(&stranger)?;
    }
    kedge_image::signing::SigningKey::create(&stranger)?;
    let strange = bundle(setup, "strange", &["--machine", &config, "--sign-key", &stranger.to_string_lossy()])?;
    let size = std::fs::metadata(&good)?.len();
    let server = Server::start()?;
    let whole = |path: &Path| Given { path: path.to_owned(), most: None, bytes_per_second: None };
    // The last byte: of a piece that this machine needs, for the end of the system is another in each.
    let flipped = dir.join("flipped.kedge");
    let mut bytes = std::fs::read(&good)?;
    bytes.last_mut().into_iter().for_each(|byte| *byte ^= 1);
    std::fs::write(&flipped, bytes)?;

    let mut guest = Guest::boot(setup, &disk, dir, "")?;
    let kubectl = step("the API answers", || guest.kubectl(BOOT))?;
    step("the node is Ready", || boot::ready(&kubectl))?;
    let machine = Wisher::new(&kubectl)?;
    let starts = guest.starts();
    for (name, given, digest, told) in [
        ("signed by a stranger", whole(&strange), None, "which is not trusted here"),
        ("cut off in its index", Given { most: Some(2000), ..whole(&good) }, None, "cut off"),
        ("cut off in its pieces", Given { most: Some(size * 9 / 10), ..whole(&good) }, None, "cut off"),
        ("with a byte that is wrong", whole(&flipped), None, "damaged"),
        ("no bundle", whole(&setup.out.join(format!("{}.img", setup.board))), None, "no upgrade bundle"),
        ("another than is meant", whole(&good), Some("0".repeat(64)), "is asked for"),
    ] {
        step(name, || {
            let source = server.serve_so(&name.replace(' ', "-"), given);
            machine.wish(&json!({"source": source, "digest": digest}))?;
            let status = machine.until(&guest, &source, "Failed", UPGRADED)?;
            ensure!(status.message.contains(told), "{status:?}");
            Ok(())
        })?;
    }
    step("an object that cannot be meant is refused at once", || {
        let patch = json!({"spec": {"upgrade": {"source": "ftp://a/b"}}}).to_string();
        let output = kubectl.output(&["patch", "machine", &machine.node, "--type=merge", "-p", &patch])?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(!output.status.success() && said.contains("no address of a file"), "{said}");
        Ok(())
    })?;
    step("a server that is not there is waited for", || {
        let source = "http://10.0.2.2:9/x.kedge";
        machine.wish(&json!({"source": source}))?;
        let status = machine.until(&guest, source, "Waiting", SOON)?;
        ensure!(status.message.contains("10.0.2.2:9"), "{status:?}");
        Ok(())
    })?;
    step("slowly, as was asked for, and given up when it is not wanted any more", || {
        let source = server.serve("slow.kedge", &good);
        let before = server.given();
        machine.wish(&json!({"source": source, "bytesPerSecond": 10_000}))?;
        machine.until(&guest, &source, "Fetching", SOON)?;
        std::thread::sleep(Duration::from_secs(8));
        let given = server.given() - before;
        ensure!(given < 100_000, "{given} bytes came in 8 s, at 10000 a second");
        let patch = json!({"spec": {"upgrade": null}}).to_string();
        kubectl.run(&["patch", "machine", &machine.node, "--type=merge", "-p", &patch])?;
        let path = "jsonpath={.status.upgrade}";
        kubectl.until(SOON, &["get", "machine", &machine.node, "-o", path], str::is_empty).map(drop)
    })?;
    step("a closed window is waited for", || {
        let source = server.serve("window.kedge", &good);
        let hour = |ahead: u64| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs());
            format!("{:02}:00", (now / 3600 + ahead) % 24)
        };
        machine.wish(&json!({"source": source, "window": {"start": hour(3), "end": hour(4)}}))?;
        let status = machine.until(&guest, &source, "Waiting", SOON)?;
        ensure!(status.message.contains("its window opens at"), "{status:?}");
        Ok(())
    })?;
    ensure!(guest.starts() == starts, "the machine was started again; {}", guest.tail());
    step("and the system goes on", || boot::ready(&kubectl))
}
