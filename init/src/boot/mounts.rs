//! The kernel's file systems and the places in memory that programs expect.

use super::Boot;
use anyhow::Context;
use kedge_stage1::mounts::{ApiMount, EARLY};
use rustix::mount::MountFlags;
use std::fs;

const QUIET: MountFlags = MountFlags::NOSUID.union(MountFlags::NOEXEC).union(MountFlags::NODEV);

/// What stage 1 has not mounted already. In order.
const LATE: [ApiMount; 6] = [
    ApiMount {
        fstype: "devpts",
        target: "/dev/pts",
        flags: MountFlags::NOSUID.union(MountFlags::NOEXEC),
        options: c"mode=0620,gid=5,ptmxmode=0666",
    },
    ApiMount {
        fstype: "tmpfs",
        target: "/dev/shm",
        flags: MountFlags::NOSUID.union(MountFlags::NODEV),
        options: c"mode=1777",
    },
    ApiMount { fstype: "mqueue", target: "/dev/mqueue", flags: QUIET, options: c"" },
    // Memory that a cgroup's processes had mapped is charged to it alone (Documentation/admin-guide/cgroup-v2.rst).
    ApiMount { fstype: "cgroup2", target: "/sys/fs/cgroup", flags: QUIET, options: c"nsdelegate,memory_recursiveprot" },
    ApiMount {
        fstype: "tmpfs",
        target: "/tmp",
        flags: MountFlags::NOSUID.union(MountFlags::NODEV),
        options: c"mode=1777,size=25%",
    },
    ApiMount { fstype: "bpf", target: "/sys/fs/bpf", flags: QUIET, options: c"mode=0700" },
];

/// Not every kernel has these; nothing that we start needs them.
const OPTIONAL: [&str; 2] = ["/dev/mqueue", "/sys/fs/bpf"];

pub fn all(_: &Boot) -> anyhow::Result<()> {
    for early in EARLY {
        if !is_mounted(early.target) {
            early.mount()?;
        }
    }
    for late in LATE {
        match late.mount() {
            Err(error) if OPTIONAL.contains(&late.target) => tracing::debug!("{error}"),
            done => done?,
        }
    }
    fs::create_dir_all(kedge_config::names::RUN_DIR).context("create /run/kedge")
}

/// Before `/proc` is there nothing is mounted.
fn is_mounted(target: &str) -> bool {
    fs::read_to_string("/proc/self/mounts")
        .is_ok_and(|mounts| mounts.lines().any(|line| line.split(' ').nth(1) == Some(target)))
}
