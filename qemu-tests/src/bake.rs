//! Bakes the image that demo and tests boot: the board's, with one busybox container image in it.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::guest::Setup;

/// The name that the samples give the image.
const REFERENCE: &str = "busybox:debian";

/// This machine's own.
pub const HOST_BUSYBOX: &str = "/bin/busybox";

pub fn bake(setup: &Setup) -> Result<()> {
    bake_with(setup, &[])
}

/// With further options of `kedge-image build`.
pub fn bake_with(setup: &Setup, options: &[&str]) -> Result<()> {
    for busybox in [Path::new(HOST_BUSYBOX), &setup.busybox] {
        ensure!(busybox.exists(), "{} is not there: install busybox-static (make setup)", busybox.display());
    }
    let board = kedge_image::plan::find_board(&setup.board)?;
    let root = setup.out.join("busybox");
    let bin = root.join("bin");
    if root.exists() {
        std::fs::remove_dir_all(&root)?;
    }
    std::fs::create_dir_all(&bin).with_context(|| format!("creating {}", bin.display()))?;
    for dir in ["etc", "tmp", "var", "root"] {
        std::fs::create_dir(root.join(dir))?;
    }
    std::fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    )?;
    std::fs::copy(&setup.busybox, bin.join("busybox"))?;
    // The device's may not run here; both are of the same Debian release and have the same applets.
    let applets = Command::new(HOST_BUSYBOX).arg("--list").output().context("busybox --list")?;
    for applet in String::from_utf8_lossy(&applets.stdout).lines().filter(|a| *a != "busybox") {
        std::os::unix::fs::symlink("busybox", bin.join(applet))?;
    }
    let archive = setup.out.join("busybox.tar");
    let tool = setup.bin.join("kedge-image");
    let mut from_dir = Command::new(&tool);
    from_dir.arg("image-from-dir").arg(&root).args(["--name", REFERENCE, "--cmd", "/bin/sh"]);
    from_dir.args(["--arch", board.config.architecture.oci(), "--out"]).arg(&archive);
    run(from_dir)?;
    let mut build = Command::new(&tool);
    build.args(["build", "--allow-newer", "--board", &setup.board]).arg("--kedge").arg(setup.programs.join("kedge"));
    build
        .arg("--stage1")
        .arg(setup.programs.join("kedge-stage1"))
        .arg("--image")
        .arg(&archive)
        .arg("--out")
        .arg(&setup.out)
        .args(options);
    run(build)
}

fn run(mut command: Command) -> Result<()> {
    let status = command.status().with_context(|| format!("running {command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}
