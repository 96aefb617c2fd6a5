//! The boot sequence: an ordered table of phases. Each has a time limit and says what its failure means.
//!
//! ```text
//! PHASES ─▶ run (each in a thread, with its limit) ─▶ Boot { config, disk, … } + Report ─▶ supervisor
//!                              └─ failed ─▶ Continue (told) │ Rescue (no cluster; console, network and power button only)
//! ```
//! A successor of PID 1 (see `reexec`) finds the machine set up and runs the phases that are marked [`When::Always`].

mod cgroup;
mod clock;
mod config;
mod entropy;
mod hostname;
mod kernel;
mod mounts;
mod state;

pub use clock::save as save_clock;
pub use config::command_line;

use kedge_config::{BoardConfig, MachineConfig};
use kedge_stage1::disk::Disk;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// What the phases find out; each is set by one of them.
#[derive(Default)]
pub struct Boot {
    pub board: OnceLock<Arc<BoardConfig>>,
    pub machine: OnceLock<Arc<MachineConfig>>,
    pub disk: OnceLock<Disk>,
    pub hostname: OnceLock<String>,
    /// Whether STATE is mounted: without it nothing may be written that must last.
    pub state: OnceLock<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// By a successor as well: it finds things out, or does no harm twice.
    Always,
    /// Only by the first init after the kernel started.
    ColdStart,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// Told, and the machine goes on without.
    Continue,
    /// The cluster is not started: it could harm what is on STATE, or be something other than what was asked for.
    Rescue,
}

pub struct Phase {
    pub name: &'static str,
    when: When,
    limit: Duration,
    on_failure: OnFailure,
    run: fn(&Boot) -> anyhow::Result<()>,
}

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

use OnFailure::{Continue, Rescue};
use When::{Always, ColdStart};

/// Laws, tested below: names are unique; whoever reads a field of [`Boot`] stands after who sets it.
pub const PHASES: &[Phase] = &[
    Phase { name: "api-mounts", when: ColdStart, limit: seconds(5), on_failure: Rescue, run: mounts::all },
    Phase { name: "kernel-log", when: ColdStart, limit: seconds(5), on_failure: Continue, run: kernel::open_log },
    Phase { name: "cgroups", when: ColdStart, limit: seconds(5), on_failure: Rescue, run: cgroup::enable },
    Phase { name: "board", when: Always, limit: seconds(5), on_failure: Continue, run: config::board },
    Phase { name: "modules", when: ColdStart, limit: seconds(90), on_failure: Continue, run: kernel::modules },
    Phase { name: "entropy", when: ColdStart, limit: seconds(60), on_failure: Continue, run: entropy::wait },
    Phase { name: "disk", when: Always, limit: seconds(30), on_failure: Rescue, run: state::find },
    Phase {
        name: "grow-partition",
        when: ColdStart,
        limit: seconds(30),
        on_failure: Continue,
        run: state::grow_partition,
    },
    Phase { name: "state", when: ColdStart, limit: seconds(120), on_failure: Rescue, run: state::mount },
    Phase { name: "grow-state", when: ColdStart, limit: seconds(120), on_failure: Continue, run: state::grow },
    Phase { name: "state-usable", when: Always, limit: seconds(10), on_failure: Rescue, run: state::usable },
    Phase { name: "clock", when: ColdStart, limit: seconds(5), on_failure: Continue, run: clock::floor },
    Phase { name: "machine", when: Always, limit: seconds(15), on_failure: Rescue, run: config::machine },
    Phase { name: "hostname", when: Always, limit: seconds(5), on_failure: Continue, run: hostname::set },
    Phase { name: "sysctls", when: ColdStart, limit: seconds(5), on_failure: Continue, run: kernel::sysctls },
];

/// What became of a phase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub phase: &'static str,
    pub took: Duration,
    /// With what it means.
    pub failure: Option<String>,
}

/// What became of the whole sequence.
#[derive(Debug, Default, Clone)]
pub struct Report {
    pub outcomes: Vec<Outcome>,
    /// Why the cluster is not started.
    pub rescue: Option<String>,
}

/// Runs the table. `cold` is whether this is the first init since the kernel started.
pub fn run(phases: &[Phase], boot: &Arc<Boot>, cold: bool) -> Report {
    let mut report = Report::default();
    for phase in phases.iter().filter(|phase| cold || phase.when == When::Always) {
        // After a failure that means rescue, what follows may still help a person: it is run, but its failures are of no news.
        let start = Instant::now();
        let failure = run_one(phase, boot).err();
        let outcome = Outcome { phase: phase.name, took: start.elapsed(), failure };
        match (&outcome.failure, phase.on_failure) {
            (None, _) => tracing::debug!(phase = phase.name, took = ?outcome.took, "boot phase done"),
            (Some(why), OnFailure::Continue) => tracing::warn!(phase = phase.name, "boot phase failed: {why}"),
            (Some(why), OnFailure::Rescue) => {
                tracing::error!(phase = phase.name, "boot phase failed, the cluster is not started: {why}");
                report.rescue.get_or_insert_with(|| format!("{}: {why}", phase.name));
            }
        }
        report.outcomes.push(outcome);
    }
    report
}

/// In a thread of its own, so that a device that never answers costs its time limit and not the machine. A phase that is given up
/// goes on in its thread; its findings are taken if they come before someone looks.
fn run_one(phase: &Phase, boot: &Arc<Boot>) -> Result<(), String> {
    let (done, outcome) = sync_channel(1);
    let (run, own) = (phase.run, Arc::clone(boot));
    let thread = std::thread::Builder::new().name(phase.name.into()).stack_size(512 << 10);
    let spawned = thread.spawn(move || {
        // Nobody listens any more when the time limit has passed.
        let _ = done.send(run(&own));
    });
    spawned.map_err(|error| format!("cannot start a thread: {error}"))?;
    match outcome.recv_timeout(phase.limit) {
        Ok(result) => result.map_err(|error| format!("{error:#}")),
        Err(RecvTimeoutError::Timeout) => Err(format!("not done within {} s", phase.limit.as_secs())),
        Err(RecvTimeoutError::Disconnected) => Err("panicked (see the log)".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase(name: &'static str, on_failure: OnFailure, run: fn(&Boot) -> anyhow::Result<()>) -> Phase {
        Phase { name, when: When::ColdStart, limit: Duration::from_millis(300), on_failure, run }
    }

    #[test]
    fn names_are_unique_and_readers_stand_after_writers() {
        let at = |name: &str| PHASES.iter().position(|phase| phase.name == name).unwrap();
        for (index, phase) in PHASES.iter().enumerate() {
            assert_eq!(at(phase.name), index);
        }
        for (before, after) in [
            ("api-mounts", "cgroups"),
            ("modules", "disk"),
            ("disk", "grow-partition"),
            ("grow-partition", "grow-state"),
            ("state", "grow-state"),
            ("state", "clock"),
            ("state-usable", "machine"),
            ("modules", "machine"),
            ("machine", "hostname"),
            ("machine", "sysctls"),
        ] {
            assert!(at(before) < at(after), "{before} {after}");
        }
    }

    #[test]
    fn failures_panics_and_hangs_are_told_and_do_not_stop_the_rest() {
        let mut table = [
            phase("good", OnFailure::Rescue, |boot| Ok(boot.hostname.set("a".into()).unwrap())),
            phase("bad", OnFailure::Continue, |_| anyhow::bail!("no such thing")),
            phase("panics", OnFailure::Continue, |_| panic!("on purpose")),
            phase("hangs", OnFailure::Rescue, |_| {
                loop {
                    std::thread::park()
                }
            }),
            phase("last", OnFailure::Rescue, |_| anyhow::bail!("second reason")),
        ];
        // Writing a backtrace takes its time.
        table[2].limit = Duration::from_secs(30);
        let boot = Arc::new(Boot::default());
        let report = run(&table, &boot, true);
        let told: Vec<_> = report.outcomes.iter().map(|outcome| outcome.failure.as_deref()).collect();
        let expected = [
            None,
            Some("no such thing"),
            Some("panicked (see the log)"),
            Some("not done within 0 s"),
            Some("second reason"),
        ];
        assert_eq!(told, expected);
        assert_eq!(report.rescue.as_deref(), Some("hangs: not done within 0 s"));
        assert_eq!(boot.hostname.get().map(String::as_str), Some("a"));
    }

    #[test]
    fn a_successor_skips_what_the_first_did() {
        let mut table = [phase("first", OnFailure::Rescue, |_| Ok(())), phase("each", OnFailure::Rescue, |_| Ok(()))];
        table[1].when = When::Always;
        let report = run(&table, &Arc::new(Boot::default()), false);
        assert_eq!(report.outcomes.iter().map(|outcome| outcome.phase).collect::<Vec<_>>(), ["each"]);
    }
}
