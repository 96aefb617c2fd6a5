//! `make demo`: a cluster from one command, shown with a real kubectl, and what it costs.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{BOOT, SOON, boot};
use crate::guest::{Guest, Setup, fresh_disk};
use crate::kubectl::Kubectl;
use crate::report::{step, table};

/// What starting has left to write is written after so long: the file system's own delay is 30 s.
const TAIL: Duration = Duration::from_secs(60);

/// `at_rest`: how long the resting machine is watched for what it writes to STATE; a node tells its whole status every 300 s.
pub fn run(setup: &Setup, at_rest: Duration) -> Result<()> {
    let dir = setup.out.join("demo");
    println!("Kedge demo: board {}, {} of memory, everything below {}\n", setup.board, setup.memory, dir.display());
    let disk = step("a fresh disk from the image", || fresh_disk(setup, &dir))?;
    let mut guest = Guest::boot(setup, &disk, &dir, "")?;
    println!("  booting under QEMU ({}); its console: tail -f {}", guest.accelerator(), guest.console_path().display());
    let kubectl = step("the API answers and hands out the administrator's kubeconfig", || guest.kubectl(BOOT))?;
    step("the node is Ready", || boot::ready(&kubectl))?;
    let idle = step("memory without pods", || {
        // Starting takes more memory than being there.
        std::thread::sleep(Duration::from_secs(5));
        metrics(&kubectl)?.get(PSS)
    })?;
    step("apply the sample: Deployment, Service, Job, ConfigMap-fed pod", || {
        boot::apply(&kubectl, &dir, boot::SAMPLE)
    })?;
    step("every part of it runs", || boot::sample_runs(&kubectl))?;
    for show in [
        &["get", "nodes,pods,svc", "-A", "-o", "wide"][..],
        &["logs", "client"],
        &["exec", "client", "--", "uname", "-a"],
        &["exec", "client", "--", "nslookup", "web.default.svc.cluster.local"],
        &["exec", "client", "--", "wget", "-q", "-O", "-", "http://web/"],
    ] {
        println!("\n$ kubectl {}", show.join(" "));
        print!("{}", kubectl.run(show)?);
    }
    println!();
    kubectl.run(&["scale", "deployment/web", "--replicas=9"])?;
    step("scale to ten pods", || {
        kubectl
            .until(SOON, &["get", "deployment", "web", "-o", "jsonpath={.status.readyReplicas}"], |t| t == "9")
            .map(drop)
    })?;
    let busy = metrics(&kubectl)?;
    let what = format!("at rest with ten pods, for {} s: writes to STATE", (TAIL + at_rest).as_secs());
    let written = step(&what, || written_an_hour(&kubectl, at_rest))?;
    println!("\nWhat was measured (QEMU {}, {} of memory)", guest.accelerator(), setup.memory);
    table(&measured(setup, idle, &busy, written)?);
    let kubeconfig = kubectl.kubeconfig().canonicalize().context("the kubeconfig's path")?;
    let manual = [
        format!("export KUBECONFIG={}", kubeconfig.display()),
        format!("{} get pods -A", kubectl.program().display()),
        format!("curl http://127.0.0.1:{}/        # the Service's node port", guest.node_port),
    ];
    if std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        println!("\nGo on in another terminal:\n  {}\n", manual.join("\n  "));
        println!("Enter stops the machine.");
        let mut line = String::new();
        std::io::stdin().read_line(&mut line)?;
    } else {
        println!(
            "\nStarted from a terminal, the machine would now stay until Enter. To have one that stays: make run\n"
        );
    }
    step("the power button: a clean shutdown", || {
        guest.press_power_button()?;
        guest.wait_exit(SOON).map(drop)
    })
}

/// The API's metrics, as name (labels included) and value.
struct Metrics(Vec<(String, f64)>);

impl Metrics {
    fn get(&self, name: &str) -> Result<f64> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| *v).with_context(|| format!("no metric {name}"))
    }
}

fn metrics(kubectl: &Kubectl) -> Result<Metrics> {
    let node = kubectl.run(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"])?;
    let text = kubectl.run(&["get", "--raw", &format!("/api/v1/nodes/{node}/proxy/metrics")])?;
    let line = |l: &str| l.rsplit_once(' ').and_then(|(name, value)| Some((name.to_owned(), value.parse().ok()?)));
    Ok(Metrics(text.lines().filter(|l| !l.starts_with('#')).filter_map(line).collect()))
}

const PSS: &str = "kedge_process_pss_bytes";
const WRITTEN: &str = "kedge_state_written_bytes_total";

fn written_an_hour(kubectl: &Kubectl, at_rest: Duration) -> Result<f64> {
    std::thread::sleep(TAIL);
    let (before, start) = (metrics(kubectl)?, Instant::now());
    std::thread::sleep(at_rest);
    let (after, seconds) = (metrics(kubectl)?, start.elapsed().as_secs_f64());
    Ok((after.get(WRITTEN)? - before.get(WRITTEN)?) * 3600.0 / seconds)
}

fn measured(setup: &Setup, idle: f64, busy: &Metrics, written: f64) -> Result<Vec<Vec<String>>> {
    let mib = |bytes: f64| format!("{:.1} MiB", bytes / 1_048_576.0);
    let size = |path: std::path::PathBuf| -> Result<String> {
        let file = std::fs::metadata(&path).with_context(|| path.display().to_string())?;
        Ok(mib(file.len() as f64))
    };
    let since = |milestone: &str| -> Result<String> {
        Ok(format!("{:.1} s", busy.get(&format!("kedge_boot_milestone_seconds{{milestone=\"{milestone}\"}}"))?))
    };
    let disk = setup.out.join(format!("{}.img", setup.board));
    let rows = [
        ("kernel start → stage 1", since("stage1")?, ""),
        ("kernel start → PID 1 from the squashfs", since("init")?, ""),
        ("kernel start → API answers", since("api")?, ""),
        ("kernel start → node Ready", since("ready")?, "8 s after stage 1"),
        ("kernel start → first pod Running", since("pod")?, ""),
        ("memory of PID 1 (PSS), no pods", mib(idle), "48 MB"),
        ("memory of PID 1 (PSS), ten pods", mib(busy.get(PSS)?), ""),
        ("written to STATE an hour, at rest", mib(written), "1 MB"),
        ("kedge", size(setup.programs.join("kedge"))?, "24 MB"),
        ("kernel", size(setup.out.join("kernel"))?, "20 MB with the initramfs"),
        ("initramfs", size(setup.out.join("initramfs"))?, ""),
        ("squashfs", size(setup.out.join("system.squashfs"))?, "32 MB"),
        ("disk image", size(disk)?, ""),
    ];
    let head = ["  what", "measured", "at most"].map(str::to_owned).to_vec();
    let row = |(what, value, bar): (&str, String, &str)| vec![format!("  {what}"), value, bar.to_owned()];
    Ok(std::iter::once(head).chain(rows.into_iter().map(row)).collect())
}
