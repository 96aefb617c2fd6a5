//! The end of the machine's day: processes end, what was written is on the medium, then the power goes or the machine starts anew.

use crate::request::Request;
use crate::{boot, console, sys};
use kedge_config::names::{RUN_DIR, STATE_DIR};
use kedge_stage1::transport;
use rustix::mount::{MountFlags, UnmountFlags, mount_remount, unmount};
use rustix::system::{RebootCommand, reboot};
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// Workloads had their own time to end, when the node was told to stop; this is for what is left.
const GRACE: Duration = Duration::from_secs(3);
const LOOK_EACH: Duration = Duration::from_millis(20);

/// Ends everything but this process and does not come back, except where the kernel refuses. Blocks.
pub fn finish(request: Request, save_clock: bool) -> String {
    end_processes();
    if save_clock && let Err(error) = boot::save_clock() {
        tracing::warn!("{error:#}");
    }
    for problem in release_file_systems() {
        tracing::warn!("{problem}");
    }
    rustix::fs::sync();
    let (word, end): (&str, fn() -> io::Error) = match request {
        Request::PowerOff => ("powering off", power_off),
        Request::Reboot | Request::Reexec | Request::Crash => ("rebooting", transport::restart),
    };
    console::say(&format!("\nkedge: file systems synced, {word}\n"));
    format!("the kernel refused to end: {}", end())
}

fn power_off() -> io::Error {
    reboot(RebootCommand::PowerOff).err().map_or_else(|| io::Error::other("it did not"), io::Error::from)
}

fn end_processes() {
    for (signal, grace) in [(nix::libc::SIGTERM, GRACE), (nix::libc::SIGKILL, GRACE)] {
        sys::signal_everyone(signal);
        let start = Instant::now();
        // The reaper's thread takes them; here only the result is looked at.
        while others(Path::new("/proc")) > 0 && start.elapsed() < grace {
            std::thread::sleep(LOOK_EACH);
        }
    }
}

/// Processes with a program besides this one: kernel threads and zombies have none.
fn others(proc: &Path) -> usize {
    let own = std::process::id();
    let entries = fs::read_dir(proc).into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).filter(|pid| *pid != own);
    pids.filter(|pid| fs::read_link(proc.join(pid.to_string()).join("exe")).is_ok()).count()
}

/// Unmounts what lies on STATE and STATE itself, topmost first; what is still held is at least made read-only. Gives what went wrong.
fn release_file_systems() -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut problems = Vec::new();
    for target in ours(&mounts) {
        if unmount(target.as_str(), UnmountFlags::NOFOLLOW).is_ok() {
            continue;
        }
        if let Err(errno) = mount_remount(target.as_str(), MountFlags::RDONLY, "") {
            problems.push(format!("{target} is in use and stays writable: {errno}"));
        }
    }
    problems
}

/// Mount points at and below STATE, and what containers have below /run; the last mounted first.
fn ours(mounts: &str) -> Vec<String> {
    let is_ours = |target: &str| [STATE_DIR, RUN_DIR].iter().any(|root| Path::new(target).starts_with(root));
    mounts
        .lines()
        .rev()
        .filter_map(|line| line.split(' ').nth(1))
        .filter(|target| is_ours(target))
        .map(unescape)
        .collect()
}

/// The kernel writes blanks in paths as octal numbers (proc_pid_mounts(5)).
fn unescape(path: &str) -> String {
    path.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_on_state_go_topmost_first_and_others_stay() {
        let mounts = "/dev/vda2 / squashfs ro 0 0\ntmpfs /run tmpfs rw 0 0\n/dev/vda5 /var/lib/kedge ext4 rw 0 0\n\
                      overlay /var/lib/kedge/a\\040b overlay rw 0 0\ntmpfs /var/lib/kedgex tmpfs rw 0 0\nnsfs /run/kedge/ns/x nsfs rw 0 0\n";
        assert_eq!(ours(mounts), ["/run/kedge/ns/x", "/var/lib/kedge/a b", "/var/lib/kedge"]);
    }

    #[test]
    fn processes_are_told_from_kernel_threads() {
        let proc = tempfile::tempdir().unwrap();
        for (pid, has_program) in [("2", false), ("77", true), ("self", true)] {
            fs::create_dir(proc.path().join(pid)).unwrap();
            if has_program {
                std::os::unix::fs::symlink("/bin/true", proc.path().join(pid).join("exe")).unwrap();
            }
        }
        assert_eq!(others(proc.path()), 1);
    }
}
