//! What stage 1 tells init: which slot, which disk, and how long each step took.

use kedge_config::names;
use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

/// The fact that tells the rollback index of the system that was booted.
pub const ROLLBACK_INDEX: &str = "rollback-index";

/// The fact that tells what the system that was booted is called.
pub const VERSION: &str = "version";

/// Lines `name value`, in the order in which they happened.
#[derive(Debug, Default)]
pub struct Report {
    text: String,
}

/// Time since the kernel started (CLOCK_MONOTONIC; nothing has suspended the machine yet).
pub fn now() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(now.tv_sec.try_into().unwrap_or(0), now.tv_nsec.try_into().unwrap_or(0))
}

impl Report {
    /// The step `name` is done.
    pub fn stamp(&mut self, name: &str) {
        self.fact(&format!("time.{name}"), &now().as_nanos().to_string());
    }

    /// `value` may have spaces, but is kept to one line.
    pub fn fact(&mut self, name: &str, value: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{name} {}", value.replace('\n', " "));
    }

    /// Writes it where init looks for it.
    pub fn write(&self) -> io::Result<()> {
        let path = Path::new(names::STAGE1_REPORT);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, &self.text)
    }
}

/// The facts of a report's text, in order.
pub fn parse(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| line.split_once(' '))
}

/// The steps of a report's text with their times.
pub fn times(text: &str) -> impl Iterator<Item = (&str, Duration)> {
    parse(text)
        .filter_map(|(name, value)| Some((name.strip_prefix("time.")?, Duration::from_nanos(value.parse().ok()?))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stage_1_writes_init_reads() {
        let mut report = Report::default();
        report.stamp("start");
        report.fact("slot", "a");
        report.fact("fallback", "slot b: it is\nbroken");
        report.stamp("end");
        let facts: Vec<_> = parse(&report.text).filter(|(name, _)| !name.starts_with("time.")).collect();
        assert_eq!(facts, [("slot", "a"), ("fallback", "slot b: it is broken")]);
        let times: Vec<_> = times(&report.text).collect();
        assert_eq!(times.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["start", "end"]);
        assert!(times[0].1 > Duration::ZERO && times[0].1 <= times[1].1);
    }
}
