//! What the machine is, as the Node object tells it: read once from /proc and /sys.

use std::path::Path;

/// Facts that do not change while the machine runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    pub cpus: u32,
    /// Bytes.
    pub memory: u64,
    pub machine_id: String,
    pub system_uuid: String,
    pub boot_id: String,
    pub kernel: String,
    /// e.g. `Kedge 0.1.0`
    pub os_image: String,
    /// As Go names it: `amd64`, `arm64`, `arm`.
    pub architecture: String,
}

impl Machine {
    /// `machine_id` is the device's own, lasting identity.
    pub fn read(os_image: &str, machine_id: &str) -> Self {
        let text = |path: &str| std::fs::read_to_string(path).map(|t| t.trim().to_owned()).unwrap_or_default();
        let system_uuid = text("/sys/class/dmi/id/product_uuid");
        Self {
            cpus: std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1)),
            memory: meminfo(&text("/proc/meminfo"), "MemTotal").unwrap_or(0),
            machine_id: machine_id.to_owned(),
            system_uuid: if system_uuid.is_empty() { machine_id.to_owned() } else { system_uuid },
            boot_id: text("/proc/sys/kernel/random/boot_id"),
            kernel: text("/proc/sys/kernel/osrelease"),
            os_image: os_image.to_owned(),
            architecture: match std::env::consts::ARCH {
                "x86_64" => "amd64",
                "aarch64" => "arm64",
                other => other,
            }
            .to_owned(),
        }
    }
}

/// What changes: looked at with each heartbeat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Bytes of memory that programs could still get.
    pub memory: u64,
    /// Bytes of the state file system, and how many of them are free.
    pub disk: u64,
    pub disk_free: u64,
}

impl Room {
    pub fn read(state: &Path) -> Self {
        let memory = std::fs::read_to_string("/proc/meminfo").ok().and_then(|t| meminfo(&t, "MemAvailable"));
        let disk = rustix::fs::statvfs(state).ok();
        Self {
            memory: memory.unwrap_or(0),
            disk: disk.as_ref().map_or(0, |d| d.f_blocks.saturating_mul(d.f_frsize)),
            disk_free: disk.as_ref().map_or(0, |d| d.f_bavail.saturating_mul(d.f_frsize)),
        }
    }
}

/// Bytes of one line of /proc/meminfo.
fn meminfo(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_meminfo() {
        let text = "MemTotal:         240512 kB\nMemFree:    1 kB\nMemAvailable:   2048 kB\n";
        assert_eq!(meminfo(text, "MemTotal"), Some(240_512 << 10));
        assert_eq!(meminfo(text, "MemAvailable"), Some(2 << 20));
        assert_eq!(meminfo(text, "Mem"), None);
        assert_eq!(meminfo("MemTotal: x kB", "MemTotal"), None);
    }
}
