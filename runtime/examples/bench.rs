//! How long a container takes from nothing to nothing: create, start, exit and removal of `/bin/true`, beside `runc` and `crun` where
//! they are installed, in turns, so that a busy machine is busy for all of them. Needs root and a static busybox.
//!
//! `cargo run --release -p kedge-runtime --example bench [ROUNDS]`

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kedge_runtime::engine::{Config, Containers};
use kedge_runtime::reaper::Reaper;
use kedge_runtime::{ContainerEvent, ContainerSpec, Rootfs, Runtime, cgroup::Cgroups, helper, spec};

fn main() -> ExitCode {
    // Before any thread: this program is also the helper.
    if std::env::args().nth(1).as_deref() == Some(helper::ARGUMENT) {
        return ExitCode::from(helper::main());
    }
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> Result<()> {
    let rounds = std::env::args().nth(1).map_or(Ok(50), |text| text.parse()).context("ROUNDS is no number")?;
    let directory = PathBuf::from(format!("/dev/shm/kedge-bench-{}", std::process::id()));
    let done = measure(&directory, rounds);
    let _ = Cgroups::detect().remove("/kedge-bench");
    let _ = fs::remove_dir_all(&directory);
    done
}

fn measure(directory: &Path, rounds: usize) -> Result<()> {
    let layer = directory.join("layer");
    for name in ["bin", "proc", "sys", "dev"] {
        fs::create_dir_all(layer.join(name))?;
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
    fs::copy(busybox.context("no busybox: install busybox-static")?, layer.join("bin/true"))?;
    let asked = |id: &str| ContainerSpec {
        id: id.to_owned(),
        rootfs: Rootfs { layers: vec![layer.clone()] },
        args: vec!["/bin/true".to_owned()],
        cgroup: format!("/kedge-bench/{id}"),
        readonly_rootfs: true,
        ..ContainerSpec::default()
    };
    let others: Vec<&str> =
        ["runc", "crun"].into_iter().filter(|name| usable(name, directory, &layer, &asked(name))).collect();

    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let config = Config {
        root: directory.join("run"),
        writable: directory.join("state"),
        helper: "/proc/self/exe".into(),
        successor: false,
    };
    let reaper = Reaper::new()?;
    let runtime = tokio.block_on(Containers::open(config, reaper.clone()))?;
    let mut times: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    for round in 0..rounds {
        let id = format!("c{round}");
        let begin = Instant::now();
        tokio.block_on(one(&runtime, asked(&id)))?;
        times.entry("kedge").or_default().push(begin.elapsed());
        for name in &others {
            let begin = Instant::now();
            let process = reaper.spawn(&mut run(name, directory))?;
            let ended = tokio.block_on(process.ended)?;
            ensure!(ended.success(), "{name}: {ended}");
            times.entry(name).or_default().push(begin.elapsed());
        }
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or_default().as_secs_f64() * 1000.0
    };
    let own = times.get_mut("kedge").map(median).unwrap_or_default();
    println!("create + start + exit + delete of /bin/true, {rounds} rounds, median:");
    for (name, times) in &mut times {
        let other = median(times);
        println!("  {name:6} {other:7.1} ms   {:5.2} × kedge", other / own);
    }
    Ok(())
}

async fn one(runtime: &Containers, spec: ContainerSpec) -> Result<()> {
    let id = spec.id.clone();
    let mut events = runtime.subscribe();
    runtime.create(spec).await?;
    runtime.start(&id).await?;
    loop {
        if let ContainerEvent::Exited { exit, .. } = events.recv().await? {
            ensure!(exit.code == 0, "exit code {}", exit.code);
            break;
        }
    }
    Ok(runtime.remove(&id).await?)
}

fn run(name: &str, directory: &Path) -> Command {
    let mut command = Command::new(name);
    command
        .arg("--root")
        .arg(directory.join(name))
        .arg("run")
        .arg("--bundle")
        .arg(directory.join(format!("{name}-bundle")));
    command.arg(format!("bench-{name}")).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// Installed, and able to run this very container here.
fn usable(name: &str, directory: &Path, layer: &Path, asked: &ContainerSpec) -> bool {
    let bundle = directory.join(format!("{name}-bundle"));
    let prepared = || -> Result<()> {
        fs::create_dir_all(&bundle)?;
        let config = spec::config(asked, &layer.to_string_lossy(), &Cgroups::detect().host())?;
        fs::write(bundle.join("config.json"), serde_json::to_vec(&config)?)?;
        let output = run(name, directory).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(())
    };
    prepared().inspect_err(|error| eprintln!("not measured: {name}: {error:#}")).is_ok()
}
