//! A clock that never goes back behind what is known: the image's build, and the last time this device saw.
//!
//! A board without a battery starts in 1970, where no certificate is valid. It is good enough to start near the truth and to be
//! set right later.

use super::Boot;
use anyhow::Context;
use kedge_config::names::{BUILD_EPOCH_FILE, STATE_DIR};
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

fn file() -> PathBuf {
    Path::new(STATE_DIR).join("clock")
}

pub fn floor(_: &Boot) -> anyhow::Result<()> {
    let build = read(Path::new(BUILD_EPOCH_FILE));
    let seen = read(&file());
    let now = clock_gettime(ClockId::Realtime).tv_sec;
    let Some(floor) = floor_of(now, build, seen) else { return Ok(()) };
    tracing::warn!(now, floor, "the clock is behind, it is set to the last time known");
    clock_settime(ClockId::Realtime, Timespec { tv_sec: floor, tv_nsec: 0 }).context("set the clock")
}

/// Where the clock must be set to, if it must.
fn floor_of(now: i64, build: Option<i64>, seen: Option<i64>) -> Option<i64> {
    build.max(seen).filter(|floor| now < *floor)
}

/// A file that is not there, or that says something else than seconds, says nothing.
fn read(path: &Path) -> Option<i64> {
    fs::read_to_string(path).ok()?.trim().parse().ok().filter(|seconds| *seconds >= 0)
}

/// Remembers the time on STATE. Over a rename, so that a power cut leaves the old or the new one.
pub fn save() -> anyhow::Result<()> {
    let now = clock_gettime(ClockId::Realtime).tv_sec;
    let new = file().with_extension("new");
    let mut written = fs::File::create(&new).with_context(|| format!("create {}", new.display()))?;
    writeln!(written, "{now}").and_then(|()| written.sync_all()).with_context(|| format!("write {}", new.display()))?;
    fs::rename(&new, file()).with_context(|| format!("rename {}", new.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_only_goes_forward() {
        assert_eq!(floor_of(0, Some(1_700), Some(1_800)), Some(1_800));
        assert_eq!(floor_of(0, Some(1_700), None), Some(1_700));
        assert_eq!(floor_of(1_750, Some(1_700), None), None);
        assert_eq!(floor_of(1_750, Some(1_700), Some(1_800)), Some(1_800));
        assert_eq!(floor_of(0, None, None), None);
    }

    #[test]
    fn a_file_of_nonsense_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clock");
        for (text, expected) in
            [("1700\n", Some(1700)), ("", None), ("-5", None), ("soon", None), ("99999999999999999999", None)]
        {
            fs::write(&path, text).unwrap();
            assert_eq!(read(&path), expected, "{text}");
        }
        assert_eq!(read(&folder.path().join("missing")), None);
    }
}
