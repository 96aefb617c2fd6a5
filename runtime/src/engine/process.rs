//! What `/proc` tells of a process.

use std::fs;

/// The two numbers of `/proc/PID/stat` that identify a process for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    pub parent: u32,
    /// Start time in ticks since boot.
    pub ticks: u64,
}

impl Stat {
    /// Also of a zombie. `None` when there is no such process.
    pub fn of(pid: u32) -> Option<Self> {
        parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }
}

/// proc_pid_stat(5): the name, in parentheses, may hold anything; after it come state, parent, and as the 22nd field the start.
fn parse(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let parent = fields.nth(1)?.parse().ok()?;
    let ticks = fields.nth(17)?.parse().ok()?;
    Some(Stat { parent, ticks })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_look_like_fields() {
        let text = "7 (a) R 9 (x) S 41 7 7 0 -1 4 1 2 3 4 5 6 7 8 20 0 1 0 123456 9 9";
        assert_eq!(parse(text), Some(Stat { parent: 41, ticks: 123_456 }));
        assert_eq!(parse(""), None);
        let own = Stat::of(std::process::id()).unwrap();
        assert_eq!(Some(own.parent), rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs()));
        assert!(own.ticks > 0);
    }
}
