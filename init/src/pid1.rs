//! The life of a device: from the kernel's `execve` to the power going.

use crate::boot::{self, Boot};
use crate::logs::{self, Logs, Ring};
use crate::machine::{Machine, Network};
use crate::reexec::{self, Origin};
use crate::request::{Allowed, Request, Requests};
use crate::{console, life, power, shutdown, slot, supervisor, sys};
use anyhow::Context;
use kedge_config::names::{RUN_DIR, STATE_DIR};
use kedge_runtime::reaper::Reaper;
use kedge_stage1::report;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::watch;

/// Time to read why, before a machine that cannot live tries again.
const DESPAIR: Duration = Duration::from_secs(30);

/// Lines of the log that go with it.
const SHOWN: usize = 20;

/// Does not return while the kernel is of any use: the end of PID 1 is a kernel panic.
pub fn run() -> ExitCode {
    let started = report::now();
    sys::small_heap();
    let origin = Origin::of_this_process();
    let mut last_words = None;
    let ended = catch_unwind(AssertUnwindSafe(|| live(started, origin, &mut last_words)));
    let why = match ended {
        Ok(Ok(why)) => why,
        Ok(Err(error)) => format!("{error:#}"),
        Err(panic) => format!("panicked: {}", supervisor::panic_text(&*panic)),
    };
    tracing::error!("init failed: {why}");
    let log = last_words.map(|ring| ring.text()).unwrap_or_default();
    let tail = log.lines().count().saturating_sub(SHOWN);
    log.lines().skip(tail).for_each(|line| console::say(&format!("{line}\n")));
    console::say(&format!("\nkedge: init failed: {why}\nkedge: rebooting in {} seconds\n", DESPAIR.as_secs()));
    std::thread::sleep(DESPAIR);
    // The panic of the kernel that follows (panic=5) reboots as well.
    drop(shutdown::finish(Request::Reboot, false));
    ExitCode::FAILURE
}

/// Returns why it could not go on.
fn live(started: Duration, origin: Origin, last_words: &mut Option<Arc<Ring>>) -> anyhow::Result<String> {
    let boot = Arc::new(Boot::default());
    let logs = logs::machine().context("start the log")?;
    *last_words = Some(Arc::clone(&logs.ring));
    log_panics();
    let report = boot::run(boot::PHASES, &boot, !origin.is_successor());
    reexec::on_crash(origin).context("catch fatal signals")?;
    tell(origin);
    // From now on the keyboard's three keys are a signal to us and not a reset.
    if let Err(errno) = rustix::system::reboot(rustix::system::RebootCommand::CadOff) {
        tracing::warn!("Ctrl-Alt-Del resets at once: {errno}");
    }
    let faults = boot::command_line().split_whitespace().any(|word| word == "kedge.faults=1");
    let (requests, asked) = Requests::new(Allowed { machine: true, faults });
    let machine = Arc::new(machine(started, origin, &boot, report, logs, requests.clone())?);
    machine.logs.set_level(machine.config.logs.level);
    let runtime = life::runtime().context("start the async runtime")?;
    let has_state = boot.state.get().is_some();
    let request = runtime.block_on(async {
        let signals = power::signals(requests).context("catch signals")?;
        life::run(machine, asked, signals, Request::Reboot).await
    })?;
    // Threads that wait in the kernel must not hold up the end.
    runtime.shutdown_timeout(Duration::from_millis(500));
    match request {
        Request::Reexec => Err(reexec::now()).context("replace this process by itself"),
        Request::Crash => Ok(shutdown::finish(request, has_state)),
        Request::PowerOff | Request::Reboot => {
            if let Err(error) = slot::excuse(boot.disk.get()) {
                tracing::warn!("slot record: {error:#}");
            }
            Ok(shutdown::finish(request, has_state))
        }
    }
}

fn machine(
    started: Duration,
    origin: Origin,
    boot: &Boot,
    report: boot::Report,
    logs: Logs,
    requests: Requests,
) -> anyhow::Result<Machine> {
    Ok(Machine {
        hosted: false,
        hostname: boot.hostname.get().cloned().unwrap_or_else(|| "kedge".into()),
        config: boot.machine.get().cloned().unwrap_or_default(),
        trial: watch::Sender::new(boot.trial.get().cloned()),
        node_ready: watch::Sender::new(false),
        upgrade: watch::Sender::new(0),
        informer: OnceLock::new(),
        board: boot.board.get().cloned(),
        disk: boot.disk.get().cloned(),
        agent: true,
        controllers: true,
        state: STATE_DIR.into(),
        run: RUN_DIR.into(),
        started,
        boot: report,
        origin,
        reaper: Reaper::new().context("start the reaper")?,
        requests,
        network: watch::Sender::new(Network::default()),
        logs,
        ending: OnceLock::new(),
    })
}

fn tell(origin: Origin) {
    match origin {
        Origin::Fresh => tracing::info!(version = kedge_config::VERSION, "started"),
        Origin::Planned => tracing::info!(version = kedge_config::VERSION, "started as its own successor"),
        Origin::Crash { signal, count } => tracing::error!(signal, count, "the process before this one crashed"),
    }
}

/// The hook's default writes to standard error, which nobody reads.
fn log_panics() {
    std::panic::set_hook(Box::new(|info| tracing::error!("{info}")));
}
