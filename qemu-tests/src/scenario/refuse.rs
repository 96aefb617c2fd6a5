//! Bad input: each is refused with an error that names the thing, on the host before flashing where it can be, else on the console.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::BOOT;
use crate::guest::{Guest, Setup, fresh_disk};
use crate::report::step;

/// A file that the image tool must refuse, and what its message must hold.
struct BadFile {
    name: &'static str,
    text: &'static str,
    says: &'static [&'static str],
}

const BAD_FILES: &[BadFile] = &[
    BadFile {
        name: "unknown-field.yaml",
        text: "hostname: a\nhostnam: b\n",
        says: &["unknown-field.yaml:2:1", "hostnam"],
    },
    BadFile { name: "wrong-type.yaml", text: "hostname: a\nrole: [server]\n", says: &["wrong-type.yaml:2:7", "role"] },
    BadFile { name: "not-yaml.yaml", text: "hostname: 'a\n", says: &["not-yaml.yaml:"] },
];

pub fn run(setup: &Setup, dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    let tool = setup.bin.join("kedge-image");
    for bad in BAD_FILES {
        step(bad.name, || {
            let file = dir.join(bad.name);
            std::fs::write(&file, bad.text)?;
            refuses(Command::new(&tool).arg("validate").arg(&file), bad.says)
        })?;
    }
    step("a truncated image", || {
        let (whole, cut) = (setup.out.join(format!("{}.img", setup.board)), dir.join("truncated.img"));
        let mut bytes = std::io::Read::take(std::fs::File::open(&whole)?, 3 << 20);
        std::io::copy(&mut bytes, &mut std::fs::File::create(&cut)?)?;
        refuses(Command::new(&tool).arg("inspect").arg(&cut), &["truncated.img"])
    })?;
    step("a kernel package that does not exist", || {
        let board = std::fs::read_to_string(format!("board-configs/{}.yaml", setup.board))?;
        let file = dir.join(format!("{}.yaml", setup.board));
        let there = kedge_image::plan::find_board(&setup.board)?.config.kernel.package;
        std::fs::write(&file, board.replace(&there, "linux-image-missing"))?;
        let mut build = Command::new(&tool);
        build.arg("build").arg("--board").arg(&file).arg("--out").arg(dir.join("missing"));
        refuses(&mut build, &["linux-image-missing"])
    })?;
    step("an image whose manifest cannot be read", || {
        let layout = dir.join("layout");
        std::fs::create_dir_all(layout.join("blobs/sha256"))?;
        std::fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        std::fs::write(layout.join("index.json"), "{\"manifests\": [")?;
        let mut build = Command::new(&tool);
        build.args(["build", "--board", &setup.board, "--image"]).arg(&layout).arg("--out").arg(dir.join("unreadable"));
        refuses(&mut build, &["index.json"])
    })?;
    step("a machine config with an unknown field", || {
        let disk = fresh_disk(setup, &dir.join("machine"))?;
        let mut guest = Guest::boot(setup, &disk, &dir.join("machine"), "kedge.config.hostnam=edge-7")?;
        guest.wait_console("unknown field \"hostnam\"", BOOT)
    })?;
    step("a corrupt system slot", || corrupt_slot(setup, &dir.join("corrupt")))
}

fn refuses(command: &mut Command, says: &[&str]) -> Result<()> {
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success(), "{command:?} took it");
    for part in says {
        ensure!(said.contains(part), "\"{part}\" is not in: {said}");
    }
    Ok(())
}

/// Overwrites the start of SYSTEM-A: stage 1 names the slot and the reason, and does not hang.
fn corrupt_slot(setup: &Setup, dir: &Path) -> Result<()> {
    let disk = fresh_disk(setup, dir)?;
    let output = Command::new(setup.bin.join("kedge-image")).arg("inspect").arg(&disk).args(["-o", "json"]).output()?;
    let layout: Value = serde_json::from_slice(&output.stdout).context("kedge-image inspect -o json")?;
    let partitions = layout.get("partitions").and_then(Value::as_array).context("no partitions")?;
    let slot =
        partitions.iter().find(|p| p.get("name").and_then(Value::as_str) == Some("SYSTEM-A")).context("no SYSTEM-A")?;
    let start = slot.get("start").and_then(Value::as_u64).context("SYSTEM-A has no start")?;
    let mut file = std::fs::OpenOptions::new().write(true).open(&disk)?;
    file.seek(SeekFrom::Start(start))?;
    file.write_all(&[0xa5; 65536])?;
    drop(file);
    let mut guest = Guest::boot(setup, &disk, dir, "")?;
    guest.wait_console("SYSTEM-A", BOOT)?;
    guest.wait_console("recovery", BOOT)
}
