//! Whether KVM works: `/dev/kvm` may be there and a guest still not boot (nested or stripped-down hosts). So the question is put to
//! a guest: a kernel without a root file system must get as far as saying so. The answer is remembered for the host's kernel.

use super::command::Accelerator;
use kedge_config::board::Qemu;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A kernel with KVM gets there in about a second.
const BOUND: Duration = Duration::from_secs(20);
/// What the kernel says when it is up and finds nothing to run.
const SIGN: &str = "Unable to mount root fs";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Verdict {
    /// What it was found for; another host or kernel asks again.
    host: String,
    works: bool,
}

/// What to use, and whether a guest had to be asked.
pub fn accelerator(qemu: &Qemu, kernel: &Path, cache: &Path, note: &dyn Fn(&str)) -> Accelerator {
    let allowed = std::fs::File::options().read(true).write(true).open("/dev/kvm").is_ok();
    if !allowed || !qemu.binary.ends_with(std::env::consts::ARCH) {
        return Accelerator::Tcg;
    }
    let host = host(&qemu.binary);
    let path = cache.join("kvm.json");
    let known = std::fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Verdict>(&text).ok());
    let verdict = known.filter(|verdict| verdict.host == host).unwrap_or_else(|| {
        note("asking a guest whether KVM works (once, at most 20 s)");
        let works = probe(qemu, kernel);
        note(if works { "KVM works" } else { "a guest does not boot with KVM: emulating" });
        let verdict = Verdict { host, works };
        remember(&path, &verdict);
        verdict
    });
    if verdict.works { Accelerator::Kvm } else { Accelerator::Tcg }
}

/// A verdict that cannot be kept is found anew next time.
fn remember(path: &PathBuf, verdict: &Verdict) {
    let text = serde_json::to_vec(verdict).unwrap_or_default();
    let made = path.parent().map(std::fs::create_dir_all).transpose().and_then(|_| std::fs::write(path, text));
    drop(made);
}

fn host(binary: &str) -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let version = Command::new(binary).arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    let version = String::from_utf8_lossy(&version).lines().next().unwrap_or_default().to_owned();
    let machine = read("/sys/class/dmi/id/product_name");
    format!("{} {machine} {version}", read("/proc/sys/kernel/osrelease"))
}

fn probe(qemu: &Qemu, kernel: &Path) -> bool {
    let Ok(log) = tempfile::NamedTempFile::new() else { return false };
    let serial = format!("file:{}", log.path().display());
    let mut command = Command::new(&qemu.binary);
    command.args([
        "-machine",
        &qemu.machine,
        "-accel",
        "kvm",
        "-cpu",
        &qemu.cpu,
        "-m",
        "128M",
        "-nodefaults",
        "-no-user-config",
    ]);
    command.args([
        "-display",
        "none",
        "-serial",
        &serial,
        "-no-reboot",
        "-append",
        "console=ttyS0 panic=-1",
        "-kernel",
    ]);
    command.arg(kernel).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut guest) = command.spawn() else { return false };
    let arrived = wait(&mut guest);
    // Already gone is as good.
    drop(guest.kill());
    drop(guest.wait());
    arrived && std::fs::read(log.path()).is_ok_and(|text| String::from_utf8_lossy(&text).contains(SIGN))
}

fn wait(guest: &mut Child) -> bool {
    let started = Instant::now();
    while started.elapsed() < BOUND {
        match guest.try_wait() {
            Ok(Some(_)) => return true,
            Ok(None) => std::thread::sleep(Duration::from_millis(50)),
            Err(_) => return false,
        }
    }
    false
}
