//! The machine behind the node's API: its end on request, and what it costs.

use crate::boot::reset::{self, Identity};
use crate::machine::Machine;
use crate::request::{Refused, Request};
use kedge_cluster::Host;
use kedge_cluster::metrics::{Kind, Text};
use kedge_config::names;
use kedge_stage1::report;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const ACTIONS: [(&str, Action); 6] = [
    ("poweroff", Action::End(Request::PowerOff)),
    ("reboot", Action::End(Request::Reboot)),
    ("reexec", Action::End(Request::Reexec)),
    ("reset", Action::Reset(Identity::Kept)),
    ("reset-all", Action::Reset(Identity::Forgotten)),
    ("crash", Action::End(Request::Crash)),
];

#[derive(Clone, Copy)]
enum Action {
    End(Request),
    /// STATE is emptied on the way.
    Reset(Identity),
}

/// `/sys/class/block/NAME/stat` counts sectors of this size (Documentation/block/stat.rst).
const SECTOR: u64 = 512;

pub struct MachineHost {
    machine: Arc<Machine>,
    /// Since the kernel started. Guards one insertion or one report.
    reached: Mutex<BTreeMap<&'static str, Duration>>,
}

impl MachineHost {
    pub fn new(machine: Arc<Machine>) -> Self {
        Self { machine, reached: Mutex::default() }
    }

    /// Notes the time of `milestone`, the first time.
    pub fn reached(&self, milestone: &'static str) {
        let now = report::now();
        tracing::info!(milestone, seconds = now.as_secs_f32(), "reached");
        self.reached.lock().unwrap_or_else(PoisonError::into_inner).entry(milestone).or_insert(now);
    }

    fn milestones(&self) -> Vec<(&'static str, Duration)> {
        let stage1 = fs::read_to_string(names::STAGE1_REPORT).unwrap_or_default();
        let mut all: Vec<_> = report::times(&stage1).next().map(|(_, time)| ("stage1", time)).into_iter().collect();
        all.push(("init", self.machine.started));
        all.extend(
            self.reached.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(name, time)| (*name, *time)),
        );
        all
    }

    fn state_written(&self) -> Option<u64> {
        let device = self.machine.disk.as_ref()?.device(names::STATE.name)?;
        let stat = fs::read_to_string(Path::new("/sys/class/block").join(device.file_name()?).join("stat")).ok()?;
        stat.split_whitespace().nth(6)?.parse::<u64>().ok()?.checked_mul(SECTOR)
    }
}

impl Host for MachineHost {
    fn ask(&self, action: &str) -> Result<(), String> {
        let known = ACTIONS.iter().find(|(name, _)| *name == action);
        let (_, action) = known.ok_or_else(|| {
            let names: Vec<&str> = ACTIONS.iter().map(|(name, _)| *name).collect();
            format!("the machine knows no action {action:?}, but {}", names.join(", "))
        })?;
        let request = match action {
            Action::End(request) => *request,
            Action::Reset(_) if self.machine.hosted => return Err(Refused::Hosted.to_string()),
            Action::Reset(identity) => {
                reset::ask(&self.machine.state, *identity).map_err(|error| format!("{error:#}"))?;
                Request::Reboot
            }
        };
        self.machine.requests.ask(request).map_err(|refused| refused.to_string())
    }

    fn tell(&self, text: &mut Text) {
        text.head("kedge_boot_milestone_seconds", Kind::Gauge, "Time from the kernel's start to a milestone.");
        for (name, time) in self.milestones() {
            text.value(&[("milestone", name)], time.as_secs_f64());
        }
        let rollup = fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
        if let Some(pss) = kilobytes(&rollup, "Pss:") {
            text.head("kedge_process_pss_bytes", Kind::Gauge, "Proportional memory of this process.");
            text.value(&[], pss as f64);
        }
        if let Some(written) = self.state_written() {
            text.head("kedge_state_written_bytes_total", Kind::Counter, "Written to the STATE partition since boot.");
            text.value(&[], written as f64);
        }
    }
}

/// The bytes of a line `NAME  123 kB`.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kilobytes_of_a_rollup() {
        let text = "00400000-7fff rollup\nRss:   100 kB\nPss:   42 kB\nPss_Dirty: 7 kB\n";
        assert_eq!(kilobytes(text, "Pss:"), Some(42 << 10));
        assert_eq!(kilobytes(text, "Swap:"), None);
    }
}
