//! Bakes the image that demo and tests boot: the board's, with one busybox container image in it.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::guest::Setup;

/// The name that the samples give the image.
const REFERENCE: &str = "busybox:debian";

pub fn bake(setup: &Setup) -> Result<()> {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().map(Path::new).find(|p| p.exists());
    let busybox = busybox.context("no static busybox: install Debian's busybox-static (make setup)")?;
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
    std::fs::copy(busybox, bin.join("busybox"))?;
    let applets = Command::new(busybox).arg("--list").output().context("busybox --list")?;
    for applet in String::from_utf8_lossy(&applets.stdout).lines().filter(|a| *a != "busybox") {
        std::os::unix::fs::symlink("busybox", bin.join(applet))?;
    }
    let archive = setup.out.join("busybox.tar");
    let tool = setup.bin.join("kedge-image");
    let mut from_dir = Command::new(&tool);
    from_dir.arg("image-from-dir").arg(&root).args(["--name", REFERENCE, "--cmd", "/bin/sh", "--out"]).arg(&archive);
    run(from_dir)?;
    let mut build = Command::new(&tool);
    build.args(["build", "--allow-newer", "--board", &setup.board]).arg("--kedge").arg(setup.bin.join("kedge"));
    build.arg("--stage1").arg(setup.bin.join("kedge-stage1")).arg("--image").arg(&archive).arg("--out").arg(&setup.out);
    run(build)
}

fn run(mut command: Command) -> Result<()> {
    let status = command.status().with_context(|| format!("running {command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}
