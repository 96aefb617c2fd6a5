//! Cgroups: the parents that containers' own cgroups go into, and what the kernel counted.
//!
//! The unified hierarchy (v2) is what a device has. On a host with v1 or a mixture the same calls go to each hierarchy that is
//! mounted below `/sys/fs/cgroup`; what only v2 can do (ending a whole group at once) is done by hand there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use cgroups_rs::fs::cpu::CpuController;
use cgroups_rs::fs::memory::MemController;
use cgroups_rs::fs::pid::PidController;
use cgroups_rs::fs::{Cgroup, MaxValue, hierarchies};
use rustix::process::{Pid, Signal, kill_process};

use crate::Resources;
use crate::spec::Host;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("create cgroup {path}: {source}")]
    Create { path: String, source: Box<cgroups_rs::fs::error::Error> },
    #[error("cgroup {path}: set {what} to {value}: {source}")]
    Limit { path: String, what: &'static str, value: String, source: Box<cgroups_rs::fs::error::Error> },
    #[error("cgroup {path}: the kernel has no {what} controller here, so the limit {value} cannot be kept")]
    Controller { path: String, what: &'static str, value: String },
    #[error("remove cgroup {path}: {source}")]
    Remove { path: String, source: io::Error },
    #[error("cgroup path {path:?} is not absolute or leads outside")]
    Path { path: String },
}

/// What a cgroup uses and used. `None`: the kernel does not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub memory_bytes: Option<u64>,
    /// Without file pages that could be dropped at once.
    pub memory_working_set_bytes: Option<u64>,
    pub cpu_nanoseconds: Option<u64>,
    pub processes: Option<u64>,
}

/// The cgroup file systems of this machine.
#[derive(Debug, Clone)]
pub struct Cgroups {
    /// The root of v2, or of each v1 hierarchy.
    roots: Vec<PathBuf>,
    v2: bool,
}

const ROOT: &str = "/sys/fs/cgroup";
/// A killed process needs a moment to go.
const TRIES: u32 = 9;

impl Cgroups {
    /// Looks at what is mounted.
    pub fn detect() -> Self {
        let v2 = Path::new(ROOT).join("cgroup.controllers").exists();
        let below = || {
            let entries = fs::read_dir(ROOT).into_iter().flatten().flatten();
            let hierarchies = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            hierarchies.map(|entry| entry.path()).filter(|path| path.join("cgroup.procs").exists()).collect()
        };
        let roots = if v2 { vec![PathBuf::from(ROOT)] } else { below() };
        Self { roots, v2 }
    }

    pub fn host(&self) -> Host {
        let memory = if self.v2 {
            fs::read_to_string(Path::new(ROOT).join("cgroup.controllers"))
                .is_ok_and(|controllers| controllers.split_whitespace().any(|name| name == "memory"))
        } else {
            Path::new(ROOT).join("memory/cgroup.procs").exists()
        };
        Host { cgroup_v2: self.v2, memory }
    }

    /// Makes the cgroup and its parents, with their controllers passed on, and sets its limits. May be called again to change them.
    pub fn create(&self, path: &str, limits: &Resources) -> Result<(), Error> {
        let relative = check(path)?;
        let cgroup = Cgroup::new(hierarchies::auto(), relative)
            .map_err(|source| Error::Create { path: path.to_owned(), source: Box::new(source) })?;
        let set = |what, value: String, done: Option<Result<(), cgroups_rs::fs::error::Error>>| match done {
            Some(Ok(())) => Ok(()),
            Some(Err(source)) => Err(Error::Limit { path: path.to_owned(), what, value, source: Box::new(source) }),
            None => Err(Error::Controller { path: path.to_owned(), what, value }),
        };
        let cpu = cgroup.controller_of::<CpuController>();
        if let Some(shares) = limits.cpu_shares {
            set("cpu shares", shares.to_string(), cpu.map(|cpu| cpu.set_shares(self.weight(shares))))?;
        }
        if let Some(quota) = limits.cpu_quota {
            let period = limits.cpu_period.unwrap_or(100_000);
            let value = format!("{quota}/{period}");
            set("cpu quota", value, cpu.map(|cpu| cpu.set_cfs_quota_and_period(Some(quota), Some(period))))?;
        }
        if let Some(memory) = limits.memory {
            let controller = cgroup.controller_of::<MemController>();
            set("memory", memory.to_string(), controller.map(|controller| controller.set_limit(memory)))?;
        }
        if let Some(pids) = limits.pids {
            let controller = cgroup.controller_of::<PidController>();
            set("pids", pids.to_string(), controller.map(|controller| controller.set_pid_max(MaxValue::Value(pids))))?;
        }
        Ok(())
    }

    fn weight(&self, shares: u64) -> u64 {
        if self.v2 { weight(shares) } else { shares }
    }

    /// Ends every process in it and below.
    pub fn kill(&self, path: &str) {
        let Ok(relative) = check(path) else { return };
        for root in &self.roots {
            let directory = root.join(relative);
            if fs::write(directory.join("cgroup.kill"), "1").is_err() {
                kill_below(&directory);
            }
        }
    }

    /// Ends what is in it, then removes it and what is below. Blocks until the processes are gone, two seconds at most.
    /// A cgroup that does not exist is not an error.
    pub fn remove(&self, path: &str) -> Result<(), Error> {
        let relative = check(path)?;
        let mut pause = Duration::from_millis(1);
        for attempt in 1..=TRIES {
            let mut failed = None;
            for root in &self.roots {
                if let Err(error) = remove_below(&root.join(relative)) {
                    failed = Some(error);
                }
            }
            match failed {
                None => break,
                Some(source) if attempt == TRIES => return Err(Error::Remove { path: path.to_owned(), source }),
                Some(_) => self.kill(path),
            }
            thread::sleep(pause);
            pause *= 2;
        }
        Ok(())
    }

    /// How often the kernel killed something in it for lack of memory.
    pub fn oom_kills(&self, path: &str) -> u64 {
        let Ok(relative) = check(path) else { return 0 };
        let file = if self.v2 { "memory.events" } else { "memory.oom_control" };
        let count = |root: &PathBuf| value_of(&fs::read_to_string(root.join(relative).join(file)).ok()?, "oom_kill");
        self.roots.iter().find_map(count).unwrap_or(0)
    }

    pub fn usage(&self, path: &str) -> Usage {
        let Ok(relative) = check(path) else { return Usage::default() };
        let read =
            |file: &str| self.roots.iter().find_map(|root| fs::read_to_string(root.join(relative).join(file)).ok());
        let number = |file: &str| read(file)?.trim().parse::<u64>().ok();
        let stat = read("memory.stat").unwrap_or_default();
        let (memory, inactive, cpu) = if self.v2 {
            let cpu = read("cpu.stat").and_then(|stat| value_of(&stat, "usage_usec"));
            (number("memory.current"), value_of(&stat, "inactive_file"), cpu.map(|usec| usec.saturating_mul(1000)))
        } else {
            (number("memory.usage_in_bytes"), value_of(&stat, "total_inactive_file"), number("cpuacct.usage"))
        };
        Usage {
            memory_bytes: memory,
            memory_working_set_bytes: memory.map(|bytes| bytes.saturating_sub(inactive.unwrap_or(0))),
            cpu_nanoseconds: cpu,
            processes: number("pids.current"),
        }
    }
}

/// The path below the root.
fn check(path: &str) -> Result<&str, Error> {
    match path.strip_prefix('/') {
        Some(relative) if !relative.is_empty() && !relative.split('/').any(|part| part == "..") => Ok(relative),
        _ => Err(Error::Path { path: path.to_owned() }),
    }
}

/// Shares 2…262144 as weight 1…10000: the line that runc, crun and the kubelet agreed on first.
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

/// `name 5` in a file of such lines.
fn value_of(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

fn children(directory: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path())
}

fn kill_below(directory: &Path) {
    for child in children(directory) {
        kill_below(&child);
    }
    let procs = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    for pid in procs.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

fn remove_below(directory: &Path) -> io::Result<()> {
    for child in children(directory) {
        remove_below(&child)?;
    }
    match fs::remove_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_weights() {
        for (shares, must_be) in [(0, 1), (2, 1), (102, 4), (1024, 39), (262_144, 10_000), (u64::MAX, 10_000)] {
            assert_eq!(weight(shares), must_be, "{shares}");
        }
    }

    #[test]
    fn values_are_found_by_whole_names() {
        let text = "low 0\noom 3\noom_kill 2\noom_group_kill 1\n";
        assert_eq!(value_of(text, "oom_kill"), Some(2));
        assert_eq!(value_of(text, "oom"), Some(3));
        assert_eq!(value_of(text, "max"), None);
    }

    #[test]
    fn paths_stay_inside() {
        for path in ["", "/", "a", "/../a", "/a/../../b"] {
            assert!(check(path).is_err(), "{path}");
        }
        assert_eq!(check("/kedge/a").unwrap(), "kedge/a");
    }
}
