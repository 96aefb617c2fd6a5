//! What the process itself uses, as Prometheus' own libraries tell of every process (proc(5)).

use std::fs;

use kedge_api::metrics::{Kind, Text};

/// `/proc` counts time in hundredths of a second on every architecture that there is (`USER_HZ`).
const TICKS: f64 = 100.0;

pub fn tell(text: &mut Text) {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let (stat, status, limits) = (read("/proc/self/stat"), read("/proc/self/status"), read("/proc/self/limits"));
    let own = Stat::parse(&stat);
    let boot = read("/proc/stat").lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<f64>().ok());
    // The folder itself is open while it is read.
    let open = fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count().saturating_sub(1) as f64);
    let net = Net::parse(&read("/proc/self/net/dev"));
    let rows: [(&str, Kind, &str, Option<f64>); 9] = [
        (
            "process_cpu_seconds_total",
            Kind::Counter,
            "Time of CPU in user and system mode.",
            own.map(|s| s.ticks / TICKS),
        ),
        ("process_max_fds", Kind::Gauge, "Files that may be open.", limit(&limits, "Max open files")),
        (
            "process_network_receive_bytes_total",
            Kind::Counter,
            "Bytes received by the process's network.",
            net.map(|n| n.received),
        ),
        (
            "process_network_transmit_bytes_total",
            Kind::Counter,
            "Bytes sent by the process's network.",
            net.map(|n| n.sent),
        ),
        ("process_open_fds", Kind::Gauge, "Files that are open.", open),
        ("process_resident_memory_bytes", Kind::Gauge, "Memory in use.", resident(&status)),
        (
            "process_start_time_seconds",
            Kind::Gauge,
            "When the process started, in seconds since 1970.",
            own.and_then(|s| Some(boot? + s.started / TICKS)),
        ),
        ("process_virtual_memory_bytes", Kind::Gauge, "Memory that is mapped.", own.map(|s| s.mapped)),
        (
            "process_virtual_memory_max_bytes",
            Kind::Gauge,
            "Memory that may be mapped.",
            limit(&limits, "Max address space"),
        ),
    ];
    for (name, kind, help, value) in rows {
        if let Some(value) = value {
            text.head(name, kind, help);
            text.value(&[], value);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Stat {
    ticks: f64,
    started: f64,
    mapped: f64,
}

impl Stat {
    fn parse(stat: &str) -> Option<Self> {
        // The name in parentheses may hold spaces; the third field follows it.
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number.checked_sub(3)?)?.parse::<f64>().ok();
        Some(Self { ticks: field(14)? + field(15)?, started: field(22)?, mapped: field(23)? })
    }
}

fn resident(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()? * 1024.0)
}

/// A soft limit; one that there is not is as Go's library tells it.
fn limit(limits: &str, name: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX as f64),
        number => number.parse().ok(),
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Net {
    received: f64,
    sent: f64,
}

impl Net {
    /// Of all interfaces together.
    fn parse(dev: &str) -> Option<Self> {
        let mut sum = Self { received: 0.0, sent: 0.0 };
        for line in dev.lines().skip(2) {
            let numbers: Vec<f64> =
                line.split_once(':')?.1.split_whitespace().filter_map(|number| number.parse().ok()).collect();
            sum.received += numbers.first()?;
            sum.sent += numbers.get(8)?;
        }
        Some(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_behind_a_name_with_spaces() {
        let stat =
            "7 (a b) c) S 1 7 7 0 -1 4194560 9 0 0 0 150 50 0 0 20 0 1 0 4242 8192000 300 18446744073709551615 1";
        let want = Stat { ticks: 200.0, started: 4242.0, mapped: 8_192_000.0 };
        assert_eq!(Stat::parse(stat), Some(want));
        assert_eq!(Stat::parse(""), None);
        assert_eq!(resident("VmHWM:\t 9 kB\nVmRSS:\t    3 kB\n"), Some(3072.0));
    }

    #[test]
    fn limits_may_be_none() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max open files            1024                 4096                 files\n\
                      Max address space         unlimited            unlimited            bytes\n";
        assert_eq!(limit(limits, "Max open files"), Some(1024.0));
        assert_eq!(limit(limits, "Max address space"), Some(u64::MAX as f64));
        assert_eq!(limit(limits, "Max nothing"), None);
    }

    #[test]
    fn interfaces_are_added_up() {
        let dev = "Inter-|   Receive  |  Transmit\n face |bytes packets\n    lo: 10 1 0 0 0 0 0 0 20 1 0 0 0 0 0 0\n  eth0: 5 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0\n";
        assert_eq!(Net::parse(dev), Some(Net { received: 15.0, sent: 27.0 }));
    }
}
