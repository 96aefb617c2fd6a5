//! What is told to the kernel: modules, settings, its log.

use super::Boot;
use anyhow::Context;
use kedge_config::MachineConfig;
use kedge_config::names::{MODULES_DIR, SYSTEM_MODULES};
use kedge_stage1::modules;
use std::fs;
use std::path::{Path, PathBuf};

/// By default the kernel drops what a program says at length, and our log is what it is for.
pub fn open_log(_: &Boot) -> anyhow::Result<()> {
    fs::write("/proc/sys/kernel/printk_devkmsg", "on\n").context("unlimit /dev/kmsg")
}

/// Loads what the image tool listed; gives what went wrong. The disk, STATE and the ESP have theirs from stage 1, so that nothing in the
/// boot sequence waits for these.
pub fn modules() -> Result<usize, String> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let folder = Path::new(MODULES_DIR).join(release);
    let list = folder.join(SYSTEM_MODULES);
    let outcome = modules::load_list(&list, &folder)
        .map_err(|error| format!("{}: {error} (does the image's kernel belong to its modules?)", list.display()))?;
    let failed: Vec<String> = outcome.failed.iter().map(ToString::to_string).collect();
    if failed.is_empty() {
        return Ok(outcome.loaded);
    }
    Err(format!("{} of {} modules: {}", failed.len(), failed.len() + outcome.loaded, failed.join("; ")))
}

/// What a node needs, whatever its config says.
const SYSCTLS: &[(&str, &str)] = &[
    // The memory killer must leave PID 1 the memory to act (PID 1 itself is never chosen), and overlays and watches are many.
    ("vm.overcommit_memory", "1"),
    ("vm.panic_on_oom", "0"),
    ("fs.inotify.max_user_instances", "8192"),
    ("fs.inotify.max_user_watches", "524288"),
    // A kernel that is broken reboots; the slot record counts it.
    ("kernel.panic", "5"),
    ("kernel.panic_on_oops", "1"),
    ("net.ipv4.ip_forward", "1"),
    // A crashed program's core would go to the file system of PID 1.
    ("kernel.core_pattern", "|/bin/false"),
];

pub fn sysctls(_: &Boot) -> anyhow::Result<()> {
    write(SYSCTLS.iter().copied())
}

/// What the machine config asks for. After the modules: some of the settings are theirs.
pub fn configured_sysctls(config: &MachineConfig) -> anyhow::Result<()> {
    write(config.sysctls.iter().map(|(name, value)| (name.as_str(), value.as_str())))
}

fn write<'s>(settings: impl Iterator<Item = (&'s str, &'s str)>) -> anyhow::Result<()> {
    let failed: Vec<String> = settings
        .filter_map(|(name, value)| fs::write(path(name), value).err().map(|error| format!("{name}={value}: {error}")))
        .collect();
    anyhow::ensure!(failed.is_empty(), "sysctls: {}", failed.join("; "));
    Ok(())
}

/// `net.ipv4.ip_forward` is `/proc/sys/net/ipv4/ip_forward`; a `/` in a name stands for a dot, as in sysctl(8).
fn path(name: &str) -> PathBuf {
    let swapped: String = name
        .chars()
        .map(|character| match character {
            '.' => '/',
            '/' => '.',
            other => other,
        })
        .collect();
    Path::new("/proc/sys").join(swapped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_paths() {
        assert_eq!(path("net.ipv4.ip_forward"), Path::new("/proc/sys/net/ipv4/ip_forward"));
        assert_eq!(path("net.ipv4.conf.eth0/5.rp_filter"), Path::new("/proc/sys/net/ipv4/conf/eth0.5/rp_filter"));
    }

    #[test]
    fn our_own_settings_exist_in_the_kernel() {
        for (name, _) in SYSCTLS {
            assert!(path(name).exists(), "{name}");
        }
    }
}
