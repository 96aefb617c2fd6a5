//! The boot sequence: a table of phases. Each says what it stands after, its time limit and what its failure means.
//!
//! ```text
//! PHASES ─▶ run: each in a thread, as soon as those it stands after are done ─▶ Boot { config, disk, … } + Report ─▶ supervisor
//!                    └─ failed ─▶ Continue (told) │ Rescue (no cluster; console, network and power button only)
//! ```
//! A successor of PID 1 (see `reexec`) finds the machine set up and runs the phases that are marked [`When::Always`].

mod cgroup;
mod clock;
mod config;
mod entropy;
mod hostname;
mod identity;
mod kernel;
mod mounts;
pub mod reset;
mod state;

pub use clock::save as save_clock;
pub use config::command_line;
pub use kernel::{configured_sysctls, modules as load_modules};

use crate::supervisor::panic_text;
use crate::trial::Trial;
use kedge_config::{BoardConfig, MachineConfig};
use kedge_stage1::disk::Disk;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// What the phases find out; each is set by one of them.
#[derive(Default)]
pub struct Boot {
    pub board: OnceLock<Arc<BoardConfig>>,
    pub machine: OnceLock<Arc<MachineConfig>>,
    /// Where that is on trial.
    pub trial: OnceLock<Trial>,
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
    /// Phases that must be over before, well or not.
    after: &'static [&'static str],
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

/// Law, tested below: names are unique, and what a phase stands after comes before it, so that there is no circle. A field of [`Boot`] is
/// read only by phases that stand, over others or not, after the one that sets it.
pub const PHASES: &[Phase] = &[
    Phase { name: "api-mounts", after: &[], when: ColdStart, limit: seconds(5), on_failure: Rescue, run: mounts::all },
    Phase {
        name: "kernel-log",
        after: &["api-mounts"],
        when: ColdStart,
        limit: seconds(5),
        on_failure: Continue,
        run: kernel::open_log,
    },
    Phase { name: "board", after: &[], when: Always, limit: seconds(5), on_failure: Continue, run: config::board },
    Phase {
        name: "cgroups",
        after: &["api-mounts"],
        when: ColdStart,
        limit: seconds(5),
        on_failure: Rescue,
        run: cgroup::enable,
    },
    Phase {
        name: "entropy",
        after: &["api-mounts"],
        when: ColdStart,
        limit: seconds(60),
        on_failure: Continue,
        run: entropy::wait,
    },
    Phase {
        name: "disk",
        after: &["api-mounts"],
        when: Always,
        limit: seconds(30),
        on_failure: Rescue,
        run: state::find,
    },
    Phase {
        name: "grow-partition",
        after: &["disk"],
        when: ColdStart,
        limit: seconds(30),
        on_failure: Continue,
        run: state::grow_partition,
    },
    Phase {
        name: "state",
        after: &["grow-partition"],
        when: ColdStart,
        limit: seconds(120),
        on_failure: Rescue,
        run: state::mount,
    },
    Phase {
        name: "reset",
        after: &["state"],
        when: ColdStart,
        limit: seconds(120),
        on_failure: Rescue,
        run: reset::run,
    },
    Phase {
        name: "grow-state",
        after: &["state"],
        when: ColdStart,
        limit: seconds(120),
        on_failure: Continue,
        run: state::grow,
    },
    Phase {
        name: "state-usable",
        after: &["disk", "reset"],
        when: Always,
        limit: seconds(10),
        on_failure: Rescue,
        run: state::usable,
    },
    Phase {
        name: "clock",
        after: &["reset"],
        when: ColdStart,
        limit: seconds(5),
        on_failure: Continue,
        run: clock::floor,
    },
    Phase {
        name: "machine",
        after: &["disk", "state-usable"],
        when: Always,
        limit: seconds(15),
        on_failure: Rescue,
        run: config::machine,
    },
    // After the config was read, so that a card that hangs when it is written to keeps nobody waiting.
    Phase {
        name: "identity",
        after: &["machine"],
        when: ColdStart,
        limit: seconds(15),
        on_failure: Continue,
        run: identity::claim,
    },
    Phase {
        name: "hostname",
        after: &["machine"],
        when: Always,
        limit: seconds(5),
        on_failure: Continue,
        run: hostname::set,
    },
    Phase {
        name: "sysctls",
        after: &["api-mounts"],
        when: ColdStart,
        limit: seconds(5),
        on_failure: Continue,
        run: kernel::sysctls,
    },
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

/// A phase in its thread.
struct Running<'p> {
    phase: &'p Phase,
    start: Instant,
}

/// Runs the table. `cold` is whether this is the first init since the kernel started.
pub fn run(phases: &[Phase], boot: &Arc<Boot>, cold: bool) -> Report {
    let mut report = Report::default();
    let (mut pending, skipped): (Vec<&Phase>, Vec<&Phase>) =
        phases.iter().partition(|phase| cold || phase.when == When::Always);
    let mut over: Vec<&str> = skipped.into_iter().map(|phase| phase.name).collect();
    let mut running: Vec<Running<'_>> = Vec::new();
    let (tell, told) = channel();
    loop {
        for phase in pending.extract_if(.., |phase| phase.after.iter().all(|name| over.contains(name))) {
            running.push(Running { phase, start: Instant::now() });
            if let Err(error) = start(phase, boot, &tell) {
                // Told like any other failure.
                let _ = tell.send((phase.name, Err(format!("cannot start a thread: {error}"))));
            }
        }
        let Some(first) = running.iter().map(|one| one.start + one.phase.limit).min() else { return report };
        let (name, result) = match told.recv_timeout(first.saturating_duration_since(Instant::now())) {
            Ok(ended) => ended,
            Err(_) => match running.iter().find(|one| one.start.elapsed() >= one.phase.limit) {
                Some(late) => (late.phase.name, Err(format!("not done within {} s", late.phase.limit.as_secs()))),
                None => continue,
            },
        };
        // One that was given up may tell its end later.
        let Some(at) = running.iter().position(|one| one.phase.name == name) else { continue };
        let ended = running.swap_remove(at);
        over.push(name);
        report.add(ended.phase, ended.start.elapsed(), result.err());
    }
}

impl Report {
    fn add(&mut self, phase: &Phase, took: Duration, failure: Option<String>) {
        match (&failure, phase.on_failure) {
            (None, _) => tracing::debug!(phase = phase.name, ?took, "boot phase done"),
            (Some(why), OnFailure::Continue) => tracing::warn!(phase = phase.name, "boot phase failed: {why}"),
            (Some(why), OnFailure::Rescue) => {
                tracing::error!(phase = phase.name, "boot phase failed, the cluster is not started: {why}");
                self.rescue.get_or_insert_with(|| format!("{}: {why}", phase.name));
            }
        }
        self.outcomes.push(Outcome { phase: phase.name, took, failure });
    }
}

type Ended = (&'static str, Result<(), String>);

/// In a thread of its own, so that a device that never answers costs its time limit and not the machine. A phase that is given up goes
/// on in its thread; its findings are taken if they come before someone looks.
fn start(phase: &Phase, boot: &Arc<Boot>, tell: &Sender<Ended>) -> std::io::Result<()> {
    let (name, run, boot, tell) = (phase.name, phase.run, Arc::clone(boot), tell.clone());
    let body = move || {
        let result = match catch_unwind(AssertUnwindSafe(|| run(&boot))) {
            Ok(result) => result.map_err(|error| format!("{error:#}")),
            Err(panic) => Err(format!("panicked: {}", panic_text(&*panic))),
        };
        // Nobody listens any more when all others are over and this one was given up.
        let _ = tell.send((name, result));
    };
    std::thread::Builder::new().name(name.into()).stack_size(512 << 10).spawn(body).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase(
        name: &'static str,
        after: &'static [&'static str],
        on_failure: OnFailure,
        run: fn(&Boot) -> anyhow::Result<()>,
    ) -> Phase {
        Phase { name, after, when: When::ColdStart, limit: Duration::from_secs(30), on_failure, run }
    }

    /// Whether `after` stands behind `before`, over others or not.
    fn stands_after(after: &str, before: &str) -> bool {
        let phase = PHASES.iter().find(|phase| phase.name == after).unwrap();
        phase.after.iter().any(|name| *name == before || stands_after(name, before))
    }

    #[test]
    fn names_are_unique_and_readers_stand_after_writers() {
        for (index, phase) in PHASES.iter().enumerate() {
            assert!(PHASES[..index].iter().all(|other| other.name != phase.name), "{}", phase.name);
            for name in phase.after {
                assert!(PHASES[..index].iter().any(|other| other.name == *name), "{} after {name}", phase.name);
            }
        }
        for (before, after) in [
            ("api-mounts", "cgroups"),
            ("disk", "grow-partition"),
            ("grow-partition", "grow-state"),
            ("state", "grow-state"),
            ("state", "reset"),
            ("reset", "clock"),
            ("reset", "machine"),
            ("disk", "machine"),
            ("state-usable", "machine"),
            ("machine", "identity"),
            ("state-usable", "hostname"),
            ("machine", "hostname"),
        ] {
            assert!(stands_after(after, before), "{before} {after}");
        }
    }

    #[test]
    fn failures_panics_and_hangs_are_told_and_do_not_stop_the_rest() {
        let mut table = [
            phase("good", &[], Rescue, |boot| {
                boot.hostname.set("a".into()).unwrap();
                Ok(())
            }),
            phase("bad", &["good"], Continue, |_| anyhow::bail!("no such thing")),
            phase("panics", &["bad"], Continue, |_| panic!("on purpose")),
            phase("hangs", &["panics"], Rescue, |_| {
                loop {
                    std::thread::park()
                }
            }),
            phase("last", &["hangs"], Rescue, |_| anyhow::bail!("second reason")),
        ];
        table[3].limit = Duration::from_millis(50);
        let boot = Arc::new(Boot::default());
        let report = run(&table, &boot, true);
        let told: Vec<_> = report.outcomes.iter().map(|outcome| (outcome.phase, outcome.failure.as_deref())).collect();
        let expected = [
            ("good", None),
            ("bad", Some("no such thing")),
            ("panics", Some("panicked: on purpose")),
            ("hangs", Some("not done within 0 s")),
            ("last", Some("second reason")),
        ];
        assert_eq!(told, expected);
        assert_eq!(report.rescue.as_deref(), Some("hangs: not done within 0 s"));
        assert_eq!(boot.hostname.get().map(String::as_str), Some("a"));
    }

    /// Two phases that wait for each other end only if they run at the same time.
    #[test]
    fn phases_that_do_not_need_each_other_run_together() {
        static MEETING: std::sync::Barrier = std::sync::Barrier::new(2);
        let meet: fn(&Boot) -> anyhow::Result<()> = |_| {
            MEETING.wait();
            Ok(())
        };
        let report = run(&[phase("one", &[], Rescue, meet), phase("other", &[], Rescue, meet)], &Arc::default(), true);
        assert_eq!((report.outcomes.len(), report.rescue), (2, None));
    }

    #[test]
    fn a_successor_skips_what_the_first_did() {
        let mut table = [phase("first", &[], Rescue, |_| Ok(())), phase("each", &["first"], Rescue, |_| Ok(()))];
        table[1].when = Always;
        let report = run(&table, &Arc::new(Boot::default()), false);
        assert_eq!(report.outcomes.iter().map(|outcome| outcome.phase).collect::<Vec<_>>(), ["each"]);
    }
}
