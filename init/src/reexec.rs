//! Replacing PID 1 by itself: on request, and when it crashed. The pid, the children and the mounts stay; all else begins anew.
//!
//! ```text
//! request ─▶ services stop (containers run on) ─▶ successor(Planned) ─▶ execve /proc/self/exe ─▶ main ─▶ Origin::of_this_process
//! SIGSEGV … ─▶ sys::crashed ───────────────────────────────────────────▶ execve ───────────────────▲
//! ```
//! Crashes are counted from one successor to the next. After [`MOST_CRASHES`] in a row, none of which ran for [`HEALTHY`], the machine
//! reboots: then the slot record decides.

use crate::sys;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

/// `planned`, or `crash:SIGNAL:COUNT:SECOND` with the count of crashes and the second (CLOCK_BOOTTIME) at which the one that crashed began.
const VARIABLE: &str = "KEDGE_REEXEC";
const MOST_CRASHES: u32 = 5;
/// A process that ran for so long did not crash for the reason the one before did.
const HEALTHY: Duration = Duration::from_secs(600);

/// Why this process was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// By the kernel, or by a person.
    Fresh,
    /// By its predecessor, on request.
    Planned,
    /// By its predecessor's last breath.
    Crash { signal: i32, count: u32 },
}

impl Origin {
    pub fn of_this_process() -> Self {
        std::env::var(VARIABLE).map_or(Self::Fresh, |text| Self::parse(&text, uptime()))
    }

    fn parse(text: &str, now: Duration) -> Self {
        let mut words = text.split(':');
        let kind = words.next();
        let mut number = || words.next().and_then(|word| word.parse::<u32>().ok());
        match (kind, number(), number(), number()) {
            (Some("planned"), None, None, None) => Self::Planned,
            (Some("crash"), Some(signal), Some(count), Some(began)) => {
                let ran = now.saturating_sub(Duration::from_secs(began.into()));
                let count = if ran >= HEALTHY { 1 } else { count };
                Self::Crash { signal: i32::try_from(signal).unwrap_or(0), count }
            }
            _ => Self::Fresh,
        }
    }

    pub fn is_successor(self) -> bool {
        self != Self::Fresh
    }

    fn crashes(self) -> u32 {
        match self {
            Self::Crash { count, .. } => count,
            Self::Fresh | Self::Planned => 0,
        }
    }

    /// What the one after a crash of this process will be told; `None` when it should not come to that.
    fn after_crash(self, signal: i32, began: Duration) -> Option<String> {
        let count = self.crashes() + 1;
        (count <= MOST_CRASHES).then(|| format!("crash:{signal}:{count}:{}", began.as_secs()))
    }
}

fn uptime() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::from_secs(now.tv_sec.try_into().unwrap_or(0))
}

/// From now on a fatal signal makes a successor.
pub fn on_crash(origin: Origin) -> io::Result<()> {
    let arguments: Vec<CString> =
        std::env::args_os().filter_map(|argument| CString::new(argument.as_bytes()).ok()).collect();
    let began = uptime();
    sys::replace_on_crash(&arguments, |signal| origin.after_crash(signal, began).map(|value| environment(&value)))
}

fn environment(value: &str) -> Vec<CString> {
    let pair = |name: &OsStr, value: &OsStr| {
        let mut whole = name.to_owned();
        whole.push("=");
        whole.push(value);
        CString::new(whole.as_bytes()).ok()
    };
    let others = std::env::vars_os().filter(|(name, _)| name != VARIABLE);
    let ours = (OsString::from(VARIABLE), OsString::from(value));
    others.chain([ours]).filter_map(|(name, value)| pair(&name, &value)).collect()
}

/// Becomes the successor. Returns only if that failed.
pub fn now() -> io::Error {
    Command::new("/proc/self/exe").args(std::env::args_os().skip(1)).env(VARIABLE, "planned").exec()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn crashes_in_a_row_are_counted_and_end() {
        let (mut origin, mut successors) = (Origin::Fresh, 0);
        while let Some(told) = origin.after_crash(11, at(100)) {
            origin = Origin::parse(&told, at(130));
            successors += 1;
            assert_eq!(origin, Origin::Crash { signal: 11, count: successors });
        }
        assert_eq!(successors, MOST_CRASHES);
    }

    #[test]
    fn a_long_life_is_forgiven() {
        let told = Origin::Crash { signal: 11, count: 4 }.after_crash(6, at(1000)).unwrap();
        assert_eq!(Origin::parse(&told, at(1599)), Origin::Crash { signal: 6, count: 5 });
        assert_eq!(Origin::parse(&told, at(1600)), Origin::Crash { signal: 6, count: 1 });
    }

    #[test]
    fn nonsense_is_a_fresh_start() {
        for text in ["", "planned:1", "crash", "crash:11", "crash:x:1:1", "crash:1:99999999999:1", "other"] {
            assert_eq!(Origin::parse(text, at(1)), Origin::Fresh, "{text}");
        }
        assert_eq!(Origin::parse("planned", at(1)), Origin::Planned);
    }
}
